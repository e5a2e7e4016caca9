//! The rows of import and export jobs: the job itself, and one note for each commit of an import.

use hub_domain::actor::Actor;
use hub_domain::id::JobId;
use hub_domain::job::JobStatus;
use hub_domain::transfer::{
    LineSet, Refusal, TransferCounts, TransferKind, TransferNote, TransferSpec, TransferState,
};
use serde::{Deserialize, Serialize};

use super::{encode as encode_record, field, format_of, name, parse, time, unknown_format};
use crate::keys::RowKey;
use crate::{Bytes, Key, StoreError};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct V1 {
    kind: String,
    created: i64,
    actor: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    input: Option<String>,
    input_blob: String,
    output: String,
    output_blob: String,
    exclude_keys: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    configurations: Option<String>,
    status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    started: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    input_version: Option<String>,
    /// Done, failed.
    counts: [u64; 2],
}

/// The row of `transfer`.
pub fn encode(spec: &TransferSpec, state: &TransferState) -> Bytes {
    let record = V1 {
        kind: spec.kind.as_str().to_owned(),
        created: spec.created.ticks(),
        actor: spec.actor.to_string(),
        input: spec.input.clone(),
        input_blob: spec.input_blob.clone(),
        output: spec.output.clone(),
        output_blob: spec.output_blob.clone(),
        exclude_keys: spec.exclude_keys,
        configurations: spec.configurations.clone(),
        status: state.status.as_str().to_owned(),
        failure: state.failure.clone(),
        started: state.started.map(|at| at.ticks()),
        ended: state.ended.map(|at| at.ticks()),
        input_version: state.input_version.clone(),
        counts: [state.counts.done, state.counts.failed],
    };
    encode_record(1, &record)
}

/// The job at `key`.
pub fn decode(key: &Key, row: &[u8]) -> Result<(TransferSpec, TransferState), StoreError> {
    let id = name(key, |key| match key {
        RowKey::Transfer(id) => Some(id),
        _ => None,
    })?;
    let record: V1 = match format_of(key, row)? {
        (1, json) => parse(key, json)?,
        (other, _) => return Err(unknown_format(key, other, 1)),
    };
    let spec = TransferSpec {
        id,
        kind: field(key, "kind", TransferKind::parse(&record.kind))?,
        created: time(record.created),
        actor: field(key, "actor", Actor::parse(&record.actor))?,
        input: record.input,
        input_blob: record.input_blob,
        output: record.output,
        output_blob: record.output_blob,
        exclude_keys: record.exclude_keys,
        configurations: record.configurations,
    };
    let [done, failed] = record.counts;
    let state = TransferState {
        status: field(key, "status", JobStatus::parse(&record.status))?,
        failure: record.failure,
        started: record.started.map(time),
        ended: record.ended.map(time),
        input_version: record.input_version,
        counts: TransferCounts { done, failed },
    };
    Ok((spec, state))
}

#[derive(Serialize, Deserialize)]
struct NoteV1 {
    lines: Vec<(u64, u64)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    refused: Vec<RefusalV1>,
}

#[derive(Serialize, Deserialize)]
struct RefusalV1 {
    line: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    subject: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    module: String,
    code: u32,
    text: String,
}

/// The row of `transfer-note`.
pub fn encode_note(note: &TransferNote) -> Bytes {
    let refused = note.refused.iter().cloned();
    let refused = refused.map(|Refusal { line, subject, module, code, text }| RefusalV1 {
        line,
        subject,
        module,
        code,
        text,
    });
    encode_record(1, &NoteV1 { lines: note.lines.ranges().to_vec(), refused: refused.collect() })
}

/// The note at `key`, and of which job.
pub fn decode_note(key: &Key, row: &[u8]) -> Result<(JobId, TransferNote), StoreError> {
    let (id, _) = name(key, |key| match key {
        RowKey::TransferNote(id, line) => Some((id, line)),
        _ => None,
    })?;
    let record: NoteV1 = match format_of(key, row)? {
        (1, json) => parse(key, json)?,
        (other, _) => return Err(unknown_format(key, other, 1)),
    };
    let refused = record.refused.into_iter();
    let refused = refused.map(|RefusalV1 { line, subject, module, code, text }| Refusal {
        line,
        subject,
        module,
        code,
        text,
    });
    let lines = field(key, "lines", LineSet::from_ranges(record.lines))?;
    Ok((id, TransferNote { lines, refused: refused.collect() }))
}
