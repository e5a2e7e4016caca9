//! The key grammar, in one place.
//! It must never appear anywhere else: who needs a key asks here, and who reads one parses it here.

use crate::{Commit, Key};

const LOG: &[u8] = b"log/";

/// The row of the event log that the `index`th append of `commit` gets.
pub fn log(commit: Commit, index: u32) -> Key {
    let mut key = Vec::with_capacity(LOG.len() + 13);
    key.extend_from_slice(LOG);
    key.extend_from_slice(&commit.0.to_be_bytes());
    key.push(b'/');
    key.extend_from_slice(&index.to_be_bytes());
    Key::new(key)
}
