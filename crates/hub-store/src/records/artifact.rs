//! The rows of artifacts: what is known of a stored file. The file itself is in `blobs`.

use hub_domain::artifact::Artifact;
use serde::{Deserialize, Serialize};

use super::{encode as encode_record, format_of, name, parse, time, unknown_format};
use crate::keys::RowKey;
use crate::{Bytes, Key, StoreError};

#[derive(Serialize, Deserialize)]
struct V1 {
    name: String,
    bytes: u64,
    added: i64,
}

/// The row of `artifact`.
pub fn encode(artifact: &Artifact) -> Bytes {
    encode_record(
        1,
        &V1 { name: artifact.name.clone(), bytes: artifact.bytes, added: artifact.added.ticks() },
    )
}

/// The artifact at `key`.
pub fn decode(key: &Key, row: &[u8]) -> Result<Artifact, StoreError> {
    let digest = name(key, |key| match key {
        RowKey::Artifact(digest) => Some(digest),
        _ => None,
    })?;
    let record: V1 = match format_of(key, row)? {
        (1, json) => parse(key, json)?,
        (other, _) => return Err(unknown_format(key, other, 1)),
    };
    Ok(Artifact { digest, name: record.name, bytes: record.bytes, added: time(record.added) })
}
