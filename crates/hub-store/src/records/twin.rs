//! The rows of twins, packed as in memory, so that a start has nothing to parse (`docs/decisions/0017`). The first format was
//! JSON: three sections with their versions, two of them with a tree of stamps. It is still read.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::num::NonZeroU64;

use hub_domain::actor::Actor;
use hub_domain::id::{ConfigurationId, TwinId};
use hub_domain::json::Object;
use hub_domain::twin::{
    Authors, ConfigurationStatus, Malformed, Metadata, PackedTwin, Properties, Stamp, Twin, WrittenBy,
};
use serde::Deserialize;

use super::{field, format_of, name, parse, time, unknown_format};
use crate::keys::RowKey;
use crate::{Bytes, Key, StoreError};

/// One configuration and the paths that it wrote, each with a dot between its names: no name has one (S 4.3).
#[derive(Deserialize)]
struct Owned {
    by: String,
    digest: u64,
    #[serde(default)]
    deployment: bool,
    paths: Vec<String>,
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
pub fn encode(twin: &PackedTwin) -> Bytes {
    [&[2], twin.as_bytes()].concat().into()
}

/// The twin at `key`, and whose it is.
pub fn decode(key: &Key, row: &[u8]) -> Result<(TwinId, Twin), StoreError> {
    let twin = match format_of(key, row)? {
        (1, json) => first_format(key, parse(key, json)?)?,
        (2, bytes) => sound(key, PackedTwin::open_bytes(bytes))?,
        (other, _) => return Err(unknown_format(key, other, 2)),
    };
    Ok((id(key)?, twin))
}

/// Likewise as the bytes of a packed twin, for [`PackedTwin::take`] to look at.
pub fn decode_packed<'r>(key: &Key, row: &'r [u8]) -> Result<(TwinId, Cow<'r, [u8]>), StoreError> {
    match format_of(key, row)? {
        (2, bytes) => Ok((id(key)?, bytes.into())),
        _ => decode(key, row).map(|(id, twin)| (id, PackedTwin::new(&twin).as_bytes().to_vec().into())),
    }
}

fn id(key: &Key) -> Result<TwinId, StoreError> {
    name(key, |key| match key {
        RowKey::Twin(id) | RowKey::RetiredTwin(id) => Some(id),
        _ => None,
    })
}

pub(super) fn sound<T>(key: &Key, read: Result<T, Malformed>) -> Result<T, StoreError> {
    read.map_err(|Malformed| StoreError::corrupt(key, "its content is not a packed twin"))
}

fn first_format(key: &Key, record: V1In) -> Result<Twin, StoreError> {
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
    Ok(Twin {
        etag_counter: record.etag,
        tags: record.tags,
        desired: record.desired.properties(key)?,
        reported: record.reported.properties(key)?,
        model_id: record.model_id,
        configurations,
        let_in: BTreeMap::new(),
        authors,
    })
}
