//! Settings and bounds of the HTTPS front end.

use std::time::Duration;

/// How many connections there may be.
#[derive(Clone, Debug)]
pub struct Config {
    /// Connections at once; more wait in the kernel's queue. 1 and up.
    pub connections_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { connections_max: 10_000 }
    }
}

/// Longest TLS handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest wait for a request's headers.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for a request's body, except an artifact's.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest JSON body.
pub const JSON_BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest pause within the upload of an artifact.
pub const UPLOAD_SILENCE_MAX: Duration = Duration::from_secs(60);
/// How often a quiet event stream shows that it is there.
pub const EVENT_KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Events that are read at once for one subscriber.
pub const EVENT_PAGE_MAX: usize = 256;
/// How long a link to an artifact is good if nobody says.
pub const GRANT_LIFETIME_DEFAULT: Duration = Duration::from_secs(3600);
