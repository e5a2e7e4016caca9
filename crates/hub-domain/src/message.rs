//! A device-to-cloud message: telemetry, with its properties (D 2).

use std::fmt;

use crate::limits::MESSAGE_BYTES_MAX;

/// Telemetry as a device sent it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Opaque bytes.
    pub body: Vec<u8>,
    /// System properties by their routing name (`message-id`, `content-type`, `dt-subject`, …), in order of arrival.
    pub system: Vec<(String, String)>,
    /// Application properties, in order of arrival; the last of equal names wins.
    pub properties: Vec<(String, String)>,
}

/// A message is too large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageTooLarge {
    /// As D 2.4 counts: body, system values, names and values of properties.
    pub bytes: usize,
}

impl fmt::Display for MessageTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the message has {} bytes, at most {MESSAGE_BYTES_MAX} are allowed", self.bytes)
    }
}

impl std::error::Error for MessageTooLarge {}

impl Message {
    /// Checks the size as D 2.4 counts it.
    pub fn check_size(&self) -> Result<(), MessageTooLarge> {
        let system: usize = self.system.iter().map(|(_, value)| value.len()).sum();
        let properties: usize = self.properties.iter().map(|(name, value)| name.len() + value.len()).sum();
        let bytes = self.body.len() + system + properties;
        if bytes > MESSAGE_BYTES_MAX { Err(MessageTooLarge { bytes }) } else { Ok(()) }
    }

    /// The system property with this routing name.
    pub fn system_property(&self, name: &str) -> Option<&str> {
        self.system.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}
