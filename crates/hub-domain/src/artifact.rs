//! Firmware images and other files that devices fetch: known by the SHA-256 of their content.

use std::fmt;

use crate::time::Timestamp;

/// SHA-256 of a file's content, as 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(String);

impl Digest {
    /// From its 32 bytes.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Checks 64 hexadecimal digits; case does not matter.
    pub fn parse(text: &str) -> Option<Self> {
        let good = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        good.then(|| Self(text.to_ascii_lowercase()))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is known of a stored file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Of its content.
    pub digest: Digest,
    /// In the operator's words; 1 to 256 characters.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was added.
    pub added: Timestamp,
}
