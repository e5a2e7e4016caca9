//! Everything that the hub may say to an attached device, in no protocol's words.
//!
//! Each front end matches [`Downlink`] without a wildcard, so that a new variant cannot be forgotten.

use std::fmt;
use std::sync::Arc;

use crate::json::Object;

/// Names one method call that waits for its answer; unique for the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// Lower-case hexadecimal, as it travels in topics.
impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl CallId {
    /// From the printed form.
    pub fn parse(text: &str) -> Option<Self> {
        u64::from_str_radix(text, 16).ok().map(Self)
    }
}

/// One thing to tell a device.
#[derive(Clone, Debug, PartialEq)]
pub enum Downlink {
    /// The desired properties changed: the merge patch with its nulls, and the version after it.
    DesiredChanged {
        /// Without `$version`; the front end adds it.
        patch: Arc<Object>,
        /// The section's version after the change.
        version: u64,
    },
    /// A direct method to carry out.
    Call {
        /// Comes back with the answer.
        call: CallId,
        /// The method's name.
        name: Arc<str>,
        /// JSON text.
        payload: Arc<str>,
    },
}

/// Why the hub ends a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// A newer connection of the same identity took over.
    TakenOver,
    /// The identity was disabled.
    Disabled,
    /// The identity was deleted.
    Deleted,
    /// It no longer proves who it is: its keys or thumbprints were changed.
    CredentialsChanged,
    /// It does not read what it is sent.
    TooSlow,
    /// The hub is shutting down.
    ShuttingDown,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CloseReason::TakenOver => "a newer connection of the same identity took over",
            CloseReason::Disabled => "the identity was disabled",
            CloseReason::Deleted => "the identity was deleted",
            CloseReason::CredentialsChanged => "the identity's credentials were changed",
            CloseReason::TooSlow => "the device does not read what it is sent",
            CloseReason::ShuttingDown => "the hub is shutting down",
        })
    }
}
