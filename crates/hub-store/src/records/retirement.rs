//! The rows of retired devices: the record that stays, and who stood in whose place. Archived identities and twins are in
//! rows of the same formats as those in use.

use hub_domain::actor::Actor;
use hub_domain::artifact::Digest;
use hub_domain::id::DeviceId;
use hub_domain::retirement::{Erasure, Predecessor, Receipt, Removed, Retirement};
use serde::{Deserialize, Serialize};

use super::{encode as encode_record, field, format_of, name, parse, time, unknown_format};
use crate::keys::RowKey;
use crate::{Bytes, Key, StoreError};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct V1 {
    generation: String,
    at: i64,
    by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    restorable_until: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replaced_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    receipt: Option<ReceiptV1>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unproven: Option<String>,
    last_activity: i64,
    modules: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    erasure: Option<ErasureV1>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    released: Option<i64>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReceiptV1 {
    erased_at: String,
    nonce: String,
    signature: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ErasureV1 {
    begun: i64,
    by: String,
    identities: u64,
    twins: u64,
    events: u64,
    job_records: u64,
    /// When it ended, and the digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended: Option<(i64, String)>,
}

/// The row of `retirement`.
pub fn encode(retirement: &Retirement) -> Bytes {
    let receipt = retirement.receipt.clone().map(|receipt| {
        let Receipt { erased_at, nonce, signature } = receipt;
        ReceiptV1 { erased_at, nonce, signature }
    });
    let erasure = retirement.erasure.as_ref().map(|erasure| {
        let Removed { identities, twins, events, job_records } = erasure.removed;
        let ended = erasure.ended.as_ref().map(|(at, digest)| (at.ticks(), digest.to_string()));
        let (begun, by) = (erasure.begun.ticks(), erasure.by.to_string());
        ErasureV1 { begun, by, identities, twins, events, job_records, ended }
    });
    let record = V1 {
        generation: retirement.generation.clone(),
        at: retirement.at.ticks(),
        by: retirement.by.to_string(),
        reason: retirement.reason.clone(),
        restorable_until: retirement.restorable_until.ticks(),
        replaced_by: retirement.replaced_by.as_ref().map(ToString::to_string),
        receipt,
        unproven: retirement.unproven.clone(),
        last_activity: retirement.last_activity.ticks(),
        modules: retirement.modules,
        erasure,
        released: retirement.released.map(|at| at.ticks()),
    };
    encode_record(1, &record)
}

/// The record at `key`.
pub fn decode(key: &Key, row: &[u8]) -> Result<Retirement, StoreError> {
    let device = name(key, |key| match key {
        RowKey::Retired(device) => Some(device),
        _ => None,
    })?;
    let record: V1 = match format_of(key, row)? {
        (1, json) => parse(key, json)?,
        (other, _) => return Err(unknown_format(key, other, 1)),
    };
    let successor = |id: String| field(key, "replacedBy", DeviceId::parse(&id).ok());
    let receipt = record.receipt.map(|receipt| {
        let ReceiptV1 { erased_at, nonce, signature } = receipt;
        Receipt { erased_at, nonce, signature }
    });
    Ok(Retirement {
        device,
        generation: record.generation,
        at: time(record.at),
        by: field(key, "by", Actor::parse(&record.by))?,
        reason: record.reason,
        restorable_until: time(record.restorable_until),
        replaced_by: record.replaced_by.map(successor).transpose()?,
        receipt,
        unproven: record.unproven,
        last_activity: time(record.last_activity),
        modules: record.modules,
        erasure: record.erasure.map(|erasure| read_erasure(key, erasure)).transpose()?,
        released: record.released.map(time),
    })
}

fn read_erasure(key: &Key, erasure: ErasureV1) -> Result<Erasure, StoreError> {
    let ErasureV1 { begun, by, identities, twins, events, job_records, ended } = erasure;
    let ended = ended.map(|(at, digest)| Ok((time(at), field(key, "ended", Digest::parse(&digest))?)));
    Ok(Erasure {
        begun: time(begun),
        by: field(key, "by", Actor::parse(&by))?,
        removed: Removed { identities, twins, events, job_records },
        ended: ended.transpose()?,
    })
}

#[derive(Serialize, Deserialize)]
struct PredecessorV1 {
    device: String,
    generation: String,
    at: i64,
    by: String,
}

/// The row of the predecessors of a device.
pub fn encode_predecessors(predecessors: &[Predecessor]) -> Bytes {
    let each = predecessors.iter().map(|one| PredecessorV1 {
        device: one.device.to_string(),
        generation: one.generation.clone(),
        at: one.at.ticks(),
        by: one.by.to_string(),
    });
    encode_record(1, &each.collect::<Vec<_>>())
}

/// The predecessors at `key`.
pub fn decode_predecessors(key: &Key, row: &[u8]) -> Result<Vec<Predecessor>, StoreError> {
    name(key, |key| matches!(key, RowKey::Predecessors(_)).then_some(()))?;
    let records: Vec<PredecessorV1> = match format_of(key, row)? {
        (1, json) => parse(key, json)?,
        (other, _) => return Err(unknown_format(key, other, 1)),
    };
    let each = records.into_iter().map(|one| {
        Ok(Predecessor {
            device: field(key, "device", DeviceId::parse(&one.device).ok())?,
            generation: one.generation,
            at: time(one.at),
            by: field(key, "by", Actor::parse(&one.by))?,
        })
    });
    each.collect()
}
