//! What can go wrong, by what the device can do about it.

use std::fmt;

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The connection string is wrong; the text says how.
    ConnectionString(String),
    /// Certificates or keys could not be read.
    Tls(String),
    /// The hub refuses this device: wrong key, unknown or disabled. Trying again rarely helps.
    Refused(String),
    /// No answer within the time limit; the connection may be down.
    TimedOut,
    /// The hub answered with an error: its code (status times 1000 and more) and its words.
    Hub {
        /// For example 400004.
        code: u32,
        /// For people.
        message: String,
    },
    /// The client was closed.
    Closed,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::ConnectionString(text) => write!(f, "the connection string is not valid: {text}"),
            Error::Tls(text) => write!(f, "TLS cannot be set up: {text}"),
            Error::Refused(text) => write!(f, "the hub refuses this device: {text}"),
            Error::TimedOut => f.write_str("the hub did not answer in time"),
            Error::Hub { code, message } => write!(f, "the hub answered {code}: {message}"),
            Error::Closed => f.write_str("the client is closed"),
        }
    }
}

impl std::error::Error for Error {}
