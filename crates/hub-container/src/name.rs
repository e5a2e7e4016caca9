//! Names of blobs: checked once, then safe in a path of any kind of container.

use std::fmt;

use crate::error::{ContainerError, Result};

/// Longest name, as in Azure blob storage.
pub const BLOB_NAME_BYTES_MAX: usize = 1024;

/// A name of a blob: segments between slashes, none of them empty, `.` or `..`, without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobName(String);

impl BlobName {
    /// Checks a name.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |what: &str| Err(ContainerError::Refused(format!("blob name '{text}' {what}")));
        if text.len() > BLOB_NAME_BYTES_MAX {
            let text =
                format!("a blob name of {} bytes is too long: {BLOB_NAME_BYTES_MAX} are allowed", text.len());
            return Err(ContainerError::Refused(text));
        }
        if text.chars().any(|sign| sign.is_control() || sign == '\\') {
            return wrong("has control characters or backslashes");
        }
        if text.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            return wrong("has an empty segment, '.' or '..'");
        }
        Ok(Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its folders and its last segment.
    pub(crate) fn split(&self) -> (impl Iterator<Item = &str>, &str) {
        let (folders, last) = self.0.rsplit_once('/').unwrap_or(("", &self.0));
        (folders.split('/').filter(|folder| !folder.is_empty()), last)
    }
}

impl fmt::Display for BlobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_within_their_container() {
        for good in ["devices.txt", "a/b/c.txt", "...", "a b", "ü?%2e"] {
            assert_eq!(BlobName::parse(good).expect("good").as_str(), good);
        }
        let long = "x".repeat(BLOB_NAME_BYTES_MAX + 1);
        for bad in ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "../a", "a\0b", "a\nb", "a\\b", &long] {
            let error = BlobName::parse(bad).expect_err(bad);
            assert!(matches!(error, ContainerError::Refused(_)), "{error}");
        }
    }
}
