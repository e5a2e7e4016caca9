//! When each property was written, as a tree that mirrors the section's values (S 4.1).

use std::collections::BTreeMap;

use serde_json::Value;

use super::Stamp;
use crate::json::Object;

/// The stamp of one node and of everything below it. Arrays are leaves.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata {
    /// When this node was last written, and at which section version.
    pub stamp: Stamp,
    /// The properties of an object node.
    pub children: BTreeMap<String, Metadata>,
}

impl Metadata {
    /// A node with nothing below.
    pub fn leaf(stamp: Stamp) -> Self {
        Self { stamp, children: BTreeMap::new() }
    }

    /// A tree for `values` in which every node has the same stamp.
    pub fn of(values: &Object, stamp: &Stamp) -> Self {
        let children = values
            .iter()
            .map(|(key, value)| match value {
                Value::Object(inner) => (key.clone(), Metadata::of(inner, stamp)),
                _ => (key.clone(), Metadata::leaf(stamp.clone())),
            })
            .collect();
        Self { stamp: stamp.clone(), children }
    }

    /// As the service prints it: `$lastUpdated`, for desired `$lastUpdatedVersion`, `$lastUpdatedBy` and
    /// `$lastUpdatedByDigest` where a configuration wrote it, and the children by name.
    pub fn to_json(&self) -> Object {
        let mut object = Object::new();
        object.insert("$lastUpdated".into(), Value::from(self.stamp.at.to_string()));
        if let Some(version) = self.stamp.version {
            object.insert("$lastUpdatedVersion".into(), Value::from(version.get()));
        }
        if let Some(by) = &self.stamp.by {
            object.insert("$lastUpdatedBy".into(), Value::from(by.configuration().as_str()));
            object.insert("$lastUpdatedByDigest".into(), Value::from(by.digest().to_string()));
        }
        for (key, child) in &self.children {
            object.insert(key.clone(), Value::Object(child.to_json()));
        }
        object
    }

    /// The part of this tree that mirrors `values`; used to show a change with its stamps.
    pub fn part(&self, values: &Object) -> Metadata {
        let children = values
            .iter()
            .filter_map(|(key, value)| {
                let child = self.children.get(key)?;
                Some((
                    key.clone(),
                    match value {
                        Value::Object(inner) => child.part(inner),
                        _ => child.clone(),
                    },
                ))
            })
            .collect();
        Metadata { stamp: self.stamp.clone(), children }
    }
}
