//! The rows of twins: three sections with their versions, two of them with a tree of stamps.

use std::collections::BTreeMap;

use hub_domain::id::TwinId;
use hub_domain::json::Object;
use hub_domain::twin::{Metadata, Properties, Stamp, Twin};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Serialize, Serializer};

use super::{encode as encode_record, format_of, name, parse, time, unknown_format};
use crate::keys::RowKey;
use crate::{Bytes, Key, StoreError};

/// Written from references: a twin is the largest row there is, and the most often written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct V1Out<'a> {
    etag: u64,
    tags: &'a Object,
    desired: PropertiesOut<'a>,
    reported: PropertiesOut<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_id: Option<&'a str>,
}

#[derive(Serialize)]
struct PropertiesOut<'a> {
    version: u64,
    values: &'a Object,
    stamps: StampsOut<'a>,
}

/// `[ticks, version or null, {child: stamps}]`; the children are left out where there are none.
struct StampsOut<'a>(&'a Metadata);

impl Serialize for StampsOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let StampsOut(Metadata { stamp, children }) = self;
        let mut node = serializer.serialize_tuple(if children.is_empty() { 2 } else { 3 })?;
        node.serialize_element(&stamp.at.ticks())?;
        node.serialize_element(&stamp.version)?;
        if !children.is_empty() {
            node.serialize_element(&ChildrenOut(children))?;
        }
        node.end()
    }
}

struct ChildrenOut<'a>(&'a BTreeMap<String, Metadata>);

impl Serialize for ChildrenOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, child)| (name, StampsOut(child))))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct V1In {
    etag: u64,
    tags: Object,
    desired: PropertiesIn,
    reported: PropertiesIn,
    #[serde(default)]
    model_id: Option<String>,
}

#[derive(Deserialize)]
struct PropertiesIn {
    version: u64,
    values: Object,
    stamps: StampsIn,
}

#[derive(Deserialize)]
struct StampsIn(i64, Option<u64>, #[serde(default)] BTreeMap<String, StampsIn>);

impl StampsIn {
    fn metadata(self) -> Metadata {
        let StampsIn(ticks, version, children) = self;
        let stamp = Stamp { at: time(ticks), version };
        Metadata {
            stamp,
            children: children.into_iter().map(|(name, child)| (name, child.metadata())).collect(),
        }
    }
}

impl PropertiesIn {
    fn properties(self) -> Properties {
        Properties { values: self.values, metadata: self.stamps.metadata(), version: self.version }
    }
}

/// The row of `twin`.
pub fn encode(twin: &Twin) -> Bytes {
    fn section(properties: &Properties) -> PropertiesOut<'_> {
        let Properties { values, metadata, version } = properties;
        PropertiesOut { version: *version, values, stamps: StampsOut(metadata) }
    }
    let record = V1Out {
        etag: twin.etag_counter,
        tags: &twin.tags,
        desired: section(&twin.desired),
        reported: section(&twin.reported),
        model_id: twin.model_id.as_deref(),
    };
    encode_record(1, &record)
}

/// The twin at `key`, and whose it is.
pub fn decode(key: &Key, row: &[u8]) -> Result<(TwinId, Twin), StoreError> {
    let id = name(key, |key| match key {
        RowKey::Twin(id) => Some(id),
        _ => None,
    })?;
    let record: V1In = match format_of(key, row)? {
        (1, json) => parse(key, json)?,
        (other, _) => return Err(unknown_format(key, other, 1)),
    };
    let twin = Twin {
        etag_counter: record.etag,
        tags: record.tags,
        desired: record.desired.properties(),
        reported: record.reported.properties(),
        model_id: record.model_id,
    };
    Ok((id, twin))
}
