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
/// How much of a body that is too large is read and dropped before the connection ends, in bytes.
pub const BODY_DROPPED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Longest pause within the upload of an artifact.
pub const UPLOAD_SILENCE_MAX: Duration = Duration::from_secs(60);
/// The URL of a container with its access signature.
pub const CONTAINER_URL_BYTES_MAX: usize = 4096;
/// Lines that an import's answer names as not carried out; all are counted.
pub const IMPORT_ERRORS_SHOWN_MAX: usize = 1000;
/// How often a quiet event stream shows that it is there.
pub const EVENT_KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Events that are read at once for one subscriber.
pub const EVENT_PAGE_MAX: usize = 256;
/// How long a link to an artifact is good if nobody says.
pub const GRANT_LIFETIME_DEFAULT: Duration = Duration::from_secs(3600);
/// Longest time in which a client may take nothing of what is written to it.
pub const WRITE_STALL_MAX: Duration = Duration::from_secs(60);
/// How long requests under way may go on after the hub was told to stop.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);
/// Connections to the monitoring port at once.
pub const MONITORING_CONNECTIONS_MAX: usize = 64;
/// Twins that a dry run of configurations shows if the caller names no number.
pub const PREVIEW_TWINS_DEFAULT: usize = 100;
/// Twins that a dry run of configurations shows at most.
pub const PREVIEW_TWINS_MAX: usize = 1000;
