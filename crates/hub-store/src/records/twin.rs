//! The rows of twins: three sections with their versions, two of them with a tree of stamps.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use hub_domain::actor::Actor;
use hub_domain::id::{ConfigurationId, TwinId};
use hub_domain::json::Object;
use hub_domain::twin::{Authors, ConfigurationStatus, Metadata, Properties, Stamp, Twin, WrittenBy};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Serialize, Serializer};

use super::{encode as encode_record, field, format_of, name, parse, time, unknown_format};
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
    /// How each configuration fares.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    configurations: BTreeMap<&'a str, &'a str>,
    /// Who made which version of the desired section.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    authors: Vec<(u64, String)>,
}

#[derive(Serialize)]
struct PropertiesOut<'a> {
    version: u64,
    values: &'a Object,
    stamps: StampsOut<'a>,
    /// What configurations wrote: apart from the stamps, since few twins have any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    owned: Vec<Owned>,
}

/// One configuration and the paths that it wrote, each with a dot between its names: no name has one (S 4.3).
#[derive(Serialize, Deserialize)]
struct Owned {
    by: String,
    digest: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    deployment: bool,
    paths: Vec<String>,
}

/// The owners in `metadata`, each with what is its own.
fn owned(metadata: &Metadata) -> Vec<Owned> {
    fn collect<'a>(
        node: &'a Metadata,
        path: &mut Vec<&'a str>,
        owners: &mut Vec<(&'a WrittenBy, Vec<String>)>,
    ) {
        if let Some(by) = &node.stamp.by {
            match owners.iter_mut().find(|(owner, _)| *owner == by) {
                Some((_, paths)) => paths.push(path.join(".")),
                None => owners.push((by, vec![path.join(".")])),
            }
        }
        for (name, child) in &node.children {
            path.push(name);
            collect(child, path, owners);
            path.pop();
        }
    }
    let mut owners = Vec::new();
    collect(metadata, &mut Vec::new(), &mut owners);
    let entry = |(by, paths): (&WrittenBy, Vec<String>)| Owned {
        by: by.configuration().to_string(),
        digest: by.digest(),
        deployment: by.is_deployment(),
        paths,
    };
    owners.into_iter().map(entry).collect()
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
    #[serde(default)]
    configurations: BTreeMap<String, String>,
    #[serde(default)]
    authors: Vec<(u64, String)>,
}

#[derive(Deserialize)]
struct PropertiesIn {
    version: u64,
    values: Object,
    stamps: StampsIn,
    #[serde(default)]
    owned: Vec<Owned>,
}

#[derive(Deserialize)]
struct StampsIn(i64, Option<NonZeroU64>, #[serde(default)] BTreeMap<String, StampsIn>);

impl StampsIn {
    fn metadata(self) -> Metadata {
        let StampsIn(ticks, version, children) = self;
        let stamp = Stamp { at: time(ticks), version, by: None };
        Metadata {
            stamp,
            children: children.into_iter().map(|(name, child)| (name, child.metadata())).collect(),
        }
    }
}

impl PropertiesIn {
    fn properties(self, key: &Key) -> Result<Properties, StoreError> {
        let mut metadata = self.stamps.metadata();
        for Owned { by, digest, deployment, paths } in self.owned {
            let by = WrittenBy::new(configuration_id(key, &by)?, digest, deployment);
            for path in paths {
                let node = path.split('.').try_fold(&mut metadata, |node, name| node.children.get_mut(name));
                field(key, "owned", node)?.stamp.by = Some(by.clone());
            }
        }
        Ok(Properties { values: self.values, metadata, version: self.version })
    }
}

fn configuration_id(key: &Key, text: &str) -> Result<ConfigurationId, StoreError> {
    field(key, "configuration", ConfigurationId::parse(text).ok())
}

/// The row of `twin`.
pub fn encode(twin: &Twin) -> Bytes {
    fn section(properties: &Properties) -> PropertiesOut<'_> {
        let Properties { values, metadata, version } = properties;
        PropertiesOut { version: *version, values, stamps: StampsOut(metadata), owned: owned(metadata) }
    }
    let record = V1Out {
        etag: twin.etag_counter,
        tags: &twin.tags,
        desired: section(&twin.desired),
        reported: section(&twin.reported),
        model_id: twin.model_id.as_deref(),
        configurations: twin
            .configurations
            .iter()
            .map(|(id, status)| (id.as_str(), status.as_str()))
            .collect(),
        authors: twin
            .authors
            .entries()
            .iter()
            .map(|(version, actor)| (*version, actor.to_string()))
            .collect(),
    };
    encode_record(1, &record)
}

/// The twin at `key`, and whose it is.
pub fn decode(key: &Key, row: &[u8]) -> Result<(TwinId, Twin), StoreError> {
    let id = name(key, |key| match key {
        RowKey::Twin(id) | RowKey::RetiredTwin(id) => Some(id),
        _ => None,
    })?;
    let record: V1In = match format_of(key, row)? {
        (1, json) => parse(key, json)?,
        (other, _) => return Err(unknown_format(key, other, 1)),
    };
    let configurations = record.configurations.iter().map(|(id, status)| {
        let status = field(key, "configurations", ConfigurationStatus::parse(status))?;
        Ok((configuration_id(key, id)?, status))
    });
    let configurations = configurations.collect::<Result<_, StoreError>>()?;
    let authors = record.authors.iter().map(|(version, actor)| {
        let actor = field(key, "authors", Actor::parse(actor))?;
        Ok((*version, actor))
    });
    let authors = Authors::new(authors.collect::<Result<_, StoreError>>()?);
    let twin = Twin {
        etag_counter: record.etag,
        tags: record.tags,
        desired: record.desired.properties(key)?,
        reported: record.reported.properties(key)?,
        model_id: record.model_id,
        configurations,
        authors,
    };
    Ok((id, twin))
}
