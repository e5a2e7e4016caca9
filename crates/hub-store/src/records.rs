//! Row formats: domain values to bytes and back. The first byte is the format's number, the rest is JSON,
//! for twins the packed form, and for events that tell of a whole twin both.
//! A format that was ever released stays readable for ever: `fixtures/` holds rows of each, and a test reads them.
//! Ids are not in the rows but in their keys. Errors never show what a row holds, since rows hold keys of devices.

pub mod artifact;
pub mod configuration;
pub mod event;
pub mod identity;
pub mod job;
pub mod meta;
pub mod retirement;
pub mod session;
pub mod transfer;
pub mod twin;

#[cfg(test)]
mod tests;

use hub_domain::time::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::keys::RowKey;
use crate::{Bytes, Key, StoreError};

/// The bytes of `record` in the format with this number.
fn encode(format: u8, record: &impl Serialize) -> Bytes {
    let mut row = vec![format];
    write(&mut row, record);
    row.into()
}

fn write(row: &mut Vec<u8>, record: &impl Serialize) {
    serde_json::to_writer(row, record).expect("records have text keys and go to memory");
}

/// Splits a row into the number of its format and its JSON.
fn format_of<'a>(key: &Key, row: &'a [u8]) -> Result<(u8, &'a [u8]), StoreError> {
    row.split_first()
        .map(|(format, json)| (*format, json))
        .ok_or_else(|| StoreError::corrupt(key, "it is empty"))
}

fn parse<'r, T: Deserialize<'r>>(key: &Key, json: &'r [u8]) -> Result<T, StoreError> {
    serde_json::from_slice(json).map_err(|error| not_as_expected(key, &error))
}

/// The record that the bytes begin with, and what comes behind it.
fn parse_first<'a, T: DeserializeOwned>(key: &Key, bytes: &'a [u8]) -> Result<(T, &'a [u8]), StoreError> {
    let mut records = serde_json::Deserializer::from_slice(bytes).into_iter();
    let record = records.next().ok_or_else(|| StoreError::corrupt(key, "its record is missing"))?;
    let record = record.map_err(|error| not_as_expected(key, &error))?;
    Ok((record, &bytes[records.byte_offset()..]))
}

/// serde_json quotes the offending value in its message, which may be a secret: only the place is told.
fn not_as_expected(key: &Key, error: &serde_json::Error) -> StoreError {
    let problem =
        format!("its content is not as expected at byte {} ({:?})", error.column(), error.classify());
    StoreError::corrupt(key, problem)
}

fn unknown_format(key: &Key, found: u8, known: u8) -> StoreError {
    let problem = format!(
        "it has format {found}, this release knows formats up to {known}; if a newer release wrote it, start that release"
    );
    StoreError::corrupt(key, problem)
}

/// The row's key as its table's `pick` understands it.
fn name<T>(key: &Key, pick: impl FnOnce(RowKey) -> Option<T>) -> Result<T, StoreError> {
    RowKey::parse(key)
        .and_then(pick)
        .ok_or_else(|| StoreError::corrupt(key, "its key does not belong into this table"))
}

/// `None` from `parse` of a field's text is damage.
fn field<T>(key: &Key, field: &str, parsed: Option<T>) -> Result<T, StoreError> {
    parsed.ok_or_else(|| StoreError::corrupt(key, format!("its field {field} is not valid")))
}

fn time(ticks: i64) -> Timestamp {
    Timestamp::from_ticks(ticks)
}
