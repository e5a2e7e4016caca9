//! How a row lies in the file: version (8 bytes, big endian), checksum (4 bytes, CRC-32 of key, version and value), value.
//! redb checks its pages only when it repairs, so a page that the disk gave back wrong is found here, not believed.

use bytes::Bytes;

use crate::{Commit, Key, Row, StoreError};

const VERSION_BYTES: usize = 8;
const HEADER_BYTES: usize = VERSION_BYTES + 4;

pub fn encode(key: &Key, version: Commit, value: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(HEADER_BYTES + value.len());
    row.extend_from_slice(&version.0.to_be_bytes());
    row.extend_from_slice(&checksum(key, version, value).to_be_bytes());
    row.extend_from_slice(value);
    row
}

pub fn decode(key: &Key, row: &[u8]) -> Result<Row, StoreError> {
    let version = version(key, row)?;
    let (header, value) = row.split_at(HEADER_BYTES);
    if header[VERSION_BYTES..] != checksum(key, version, value).to_be_bytes() {
        return Err(StoreError::corrupt(key, "its checksum is wrong; check the disk and restore a backup"));
    }
    Ok(Row { bytes: Bytes::copy_from_slice(value), version })
}

/// The version alone, for expectations: the value is not looked at.
pub fn version(key: &Key, row: &[u8]) -> Result<Commit, StoreError> {
    match row.first_chunk() {
        Some(version) if row.len() >= HEADER_BYTES => Ok(Commit(u64::from_be_bytes(*version))),
        _ => Err(StoreError::corrupt(key, format!("{} bytes are no row", row.len()))),
    }
}

fn checksum(key: &Key, version: Commit, value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key.as_bytes());
    hasher.update(&version.0.to_be_bytes());
    hasher.update(value);
    hasher.finalize()
}
