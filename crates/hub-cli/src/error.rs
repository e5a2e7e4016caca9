//! How a command ends badly: an exit code that scripts can tell apart, and a text that says what to do.
//! No text may hold a key.

use std::fmt;

/// Exit codes other than 0; the table is in docs/cli.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The hub refused, or something unforeseen happened.
    Failed = 1,
    /// The command was given wrongly.
    Usage = 2,
    /// There is no such thing.
    NotFound = 3,
    /// It exists already, or is not at the version that was demanded.
    Conflict = 4,
    /// Not allowed, or not proven who is asking.
    Unauthorized = 5,
    /// The hub or the device is not there, or did not answer in time.
    Offline = 6,
    /// Some of many were done, some not.
    Partial = 7,
    /// What is there is not what was asked about; nothing was changed.
    Differs = 8,
}

/// A failed command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// For scripts.
    pub exit: Exit,
    /// For people.
    pub message: String,
}

/// The result of every command.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with this code and text.
    pub fn new(exit: Exit, message: impl Into<String>) -> Error {
        Error { exit, message: message.into() }
    }

    /// The command was given wrongly.
    pub fn usage(message: impl Into<String>) -> Error {
        Error::new(Exit::Usage, message)
    }

    /// Anything that has no code of its own.
    pub fn failed(message: impl Into<String>) -> Error {
        Error::new(Exit::Failed, message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
