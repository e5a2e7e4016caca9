//! Settings of the MQTT front end.

use std::time::Duration;

/// Half of what the connected may wait at most for the answer to a patch while a fleet comes back.
const TURN_LATE_MAX: Duration = Duration::from_millis(500);

/// How many connections there may be.
#[derive(Clone, Debug)]
pub struct Config {
    /// Connections at once; more wait in the kernel's queue. 1 and up.
    pub connections_max: usize,
    /// TLS handshakes at once; more wait. 1 and up.
    pub handshakes_max: usize,
    /// How late a task may get its turn before no further device is taken: who comes then is told to try again later.
    pub turn_late_max: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { connections_max: 200_000, handshakes_max: 4_096, turn_late_max: TURN_LATE_MAX }
    }
}
