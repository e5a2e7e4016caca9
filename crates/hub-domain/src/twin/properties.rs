//! One section of a twin, desired or reported: values, metadata and version, changed together.

use std::num::NonZeroU64;

use serde_json::Value;

use super::{Metadata, WrittenBy};
use crate::json::{Object, without_nulls};
use crate::time::Timestamp;

/// When a property was written; desired properties also note the section's version then, and which configuration did it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The time of the write.
    pub at: Timestamp,
    /// The section's version after the write; `None` for reported.
    pub version: Option<NonZeroU64>,
    /// The configuration that wrote it; `None` if anybody else did, for reported, and for objects with properties.
    pub by: Option<WrittenBy>,
}

impl Stamp {
    /// Of a desired property, which gets into the section at `version`.
    pub fn desired(at: Timestamp, version: u64) -> Self {
        Self { at, version: NonZeroU64::new(version), by: None }
    }

    /// Of a reported property.
    pub fn reported(at: Timestamp) -> Self {
        Self { at, version: None, by: None }
    }
}

/// A versioned JSON section with a stamp for each field.
#[derive(Clone, Debug, PartialEq)]
pub struct Properties {
    /// The values, without `$version` and `$metadata`.
    pub values: Object,
    /// Mirrors the values.
    pub metadata: Metadata,
    /// Grows by one at each write; starts at 1.
    pub version: u64,
}

impl Properties {
    /// An empty section at version 1.
    pub fn new(stamp: Stamp) -> Self {
        Self { values: Object::new(), metadata: Metadata::leaf(stamp), version: 1 }
    }

    /// Merges a checked patch (RFC 7396): objects merge, `null` deletes, everything else replaces.
    pub fn merge(&mut self, patch: &Object, stamp: &Stamp) {
        merge(&mut self.values, &mut self.metadata, patch, stamp);
        self.version += 1;
    }

    /// Puts `values`, less its nulls, in place of what is there.
    pub fn replace(&mut self, values: &Object, stamp: &Stamp) {
        self.values = without_nulls(values);
        self.metadata = Metadata::of(&self.values, stamp);
        self.version += 1;
    }

    /// As a device sees it: the values and `$version`.
    pub fn to_device_json(&self) -> Object {
        let mut object = self.values.clone();
        object.insert("$version".into(), Value::from(self.version));
        object
    }

    /// As a back end sees it: the values, `$metadata` and `$version`.
    pub fn to_service_json(&self) -> Object {
        let mut object = self.values.clone();
        object.insert("$metadata".into(), Value::Object(self.metadata.to_json()));
        object.insert("$version".into(), Value::from(self.version));
        object
    }
}

fn merge(values: &mut Object, metadata: &mut Metadata, patch: &Object, stamp: &Stamp) {
    metadata.stamp = stamp.clone();
    for (key, value) in patch {
        match value {
            Value::Null => {
                values.remove(key);
                metadata.children.remove(key);
            }
            Value::Object(inner) => {
                let slot = values.entry(key.as_str()).or_insert(Value::Null);
                let child =
                    metadata.children.entry(key.clone()).or_insert_with(|| Metadata::leaf(stamp.clone()));
                if !slot.is_object() {
                    *slot = Value::Object(Object::new());
                    *child = Metadata::leaf(stamp.clone());
                }
                if let Value::Object(existing) = slot {
                    merge(existing, child, inner, stamp);
                }
            }
            other => {
                values.insert(key.clone(), other.clone());
                metadata.children.insert(key.clone(), Metadata::leaf(stamp.clone()));
            }
        }
    }
}
