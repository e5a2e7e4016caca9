//! `Batch`: what one commit expects, writes, deletes and appends to the log.
//! It is plain data; it must never decide whether an expectation holds, which only a backend can.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{Commit, Key};

/// Most bytes (keys and values, both written and expected) that one batch may carry.
pub const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What a batch expects to find at a key at the moment it is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The row is there and was written by this commit.
    Version(Commit),
    /// There is no row.
    Absent,
}

impl Expected {
    /// Whether `found`, the version of the row that is there, is what was expected.
    pub fn holds(self, found: Option<Commit>) -> bool {
        match self {
            Expected::Version(version) => found == Some(version),
            Expected::Absent => found.is_none(),
        }
    }
}

/// Expectations and changes that are applied together or not at all. One entry per key: the last word counts.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    expectations: BTreeMap<Key, Expected>,
    writes: BTreeMap<Key, Option<Bytes>>,
    appends: Vec<Bytes>,
}

impl Batch {
    /// A batch that expects and changes nothing.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Makes the batch fail with `CommitError::Conflict` unless `key` is as `expected`.
    pub fn expect(&mut self, key: Key, expected: Expected) {
        self.expectations.insert(key, expected);
    }

    /// Writes `value` at `key`, whatever was there.
    pub fn put(&mut self, key: Key, value: impl Into<Bytes>) {
        self.writes.insert(key, Some(value.into()));
    }

    /// Removes the row at `key`; it may be absent already.
    pub fn delete(&mut self, key: Key) {
        self.writes.insert(key, None);
    }

    /// Adds `value` to the event log. The store makes its key, `keys::log(commit number, index in this batch)`,
    /// so that the order of the log is the order of commits.
    pub fn append(&mut self, value: impl Into<Bytes>) {
        self.appends.push(value.into());
    }

    /// Keys and what is expected of them, in key order.
    pub fn expectations(&self) -> impl Iterator<Item = (&Key, Expected)> {
        self.expectations.iter().map(|(key, expected)| (key, *expected))
    }

    /// Keys and their new values, `None` for a deletion, in key order.
    pub fn writes(&self) -> impl Iterator<Item = (&Key, Option<&Bytes>)> {
        self.writes.iter().map(|(key, value)| (key, value.as_ref()))
    }

    /// Values for the event log, in the order in which they were appended.
    pub fn appends(&self) -> &[Bytes] {
        &self.appends
    }

    /// True when the batch changes nothing (it may still expect something).
    pub fn is_unchanging(&self) -> bool {
        self.writes.is_empty() && self.appends.is_empty()
    }

    /// The size that is held against `BATCH_BYTES_MAX`.
    pub fn size_bytes(&self) -> usize {
        let expected: usize = self.expectations.keys().map(|key| key.as_bytes().len()).sum();
        let written: usize = self
            .writes
            .iter()
            .map(|(key, value)| key.as_bytes().len() + value.as_ref().map_or(0, Bytes::len))
            .sum();
        let appended: usize = self.appends.iter().map(Bytes::len).sum();
        expected + written + appended
    }

    /// Refuses a batch that no backend has to take.
    pub(crate) fn check_size(&self) -> Result<(), crate::CommitError> {
        match self.size_bytes() {
            bytes if bytes > BATCH_BYTES_MAX => {
                Err(crate::CommitError::TooLarge { bytes, limit: BATCH_BYTES_MAX })
            }
            _ => Ok(()),
        }
    }
}
