//! The rows of single values of the hub itself: a text each.

use super::{encode as encode_record, format_of, parse, unknown_format};
use crate::{Bytes, Key, StoreError};

/// The row of `value`.
pub fn encode(value: &str) -> Bytes {
    encode_record(1, &value)
}

/// The value at `key`.
pub fn decode(key: &Key, row: &[u8]) -> Result<String, StoreError> {
    match format_of(key, row)? {
        (1, json) => parse(key, json),
        (other, _) => Err(unknown_format(key, other, 1)),
    }
}
