//! Settings of the MQTT front end.

/// How many connections there may be.
#[derive(Clone, Debug)]
pub struct Config {
    /// Connections at once; more wait in the kernel's queue. 1 and up.
    pub connections_max: usize,
    /// TLS handshakes at once; more wait. 1 and up.
    pub handshakes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { connections_max: 200_000, handshakes_max: 4_096 }
    }
}
