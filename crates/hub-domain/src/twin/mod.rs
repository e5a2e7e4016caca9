//! The twin of a device or module: tags, desired and reported properties, and their transitions.
//!
//! A transition takes the twin as it is and returns the twin as it will be, with a [`TwinChange`] that
//! says what happened. Nothing here stores, sends or looks at a clock.

mod authors;
mod changes;
mod document;
mod metadata;
mod ownership;
mod packed;
mod properties;
mod record;
mod row;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

pub use authors::Authors;
pub use changes::{PathChange, PathChanges};
pub use document::{Connection, TwinDocument};
pub use metadata::Metadata;
pub use ownership::{ConfigurationStatus, WrittenBy};
pub use packed::{Malformed, PackedTwin, Shown, Summary, VisitedSection, Visitor};
pub use properties::{Properties, Stamp};
pub use record::{SectionRecord, TwinRecord};

use crate::actor::Actor;
use crate::id::ConfigurationId;
use crate::json::{Object, RuleError, check_rules, replacement_patch, size_bytes, without_nulls};
use crate::limits::{TWIN_SECTION_BYTES_MAX, TWIN_TAGS_BYTES_MAX};
use crate::time::Timestamp;
use crate::version::{Etag, Precondition};

/// Tags, desired and reported properties of one device or module.
#[derive(Clone, Debug, PartialEq)]
pub struct Twin {
    /// Counts writes to tags and desired; the etag shows it.
    pub etag_counter: u64,
    /// What the operator notes of the device; the device never sees it.
    pub tags: Object,
    /// What the device shall be.
    pub desired: Properties,
    /// What the device says it is.
    pub reported: Properties,
    /// The DTDL model that the device announced.
    pub model_id: Option<String>,
    /// The configurations that match this twin, and how they fare.
    pub configurations: BTreeMap<ConfigurationId, ConfigurationStatus>,
    /// With which content, by its digest, each of them that has gates was let in; 0: it was not yet.
    pub let_in: BTreeMap<ConfigurationId, u64>,
    /// Who wrote the desired properties that are no configuration's.
    pub authors: Authors,
}

/// A checked merge patch for one section: keys, values and depth are within the limits.
#[derive(Clone, Debug, PartialEq)]
pub struct TwinPatch(Object);

impl TwinPatch {
    /// Checks a patch. The root keys `$version` and `$metadata`, which clients send back as they got
    /// them, are dropped; anything else with a `$` is an error (D 4.3).
    pub fn new(mut object: Object) -> Result<Self, RuleError> {
        object.remove("$version");
        object.remove("$metadata");
        check_rules(&object)?;
        Ok(Self(object))
    }

    /// From a JSON value, which must be an object.
    pub fn from_value(value: Value) -> Result<Self, RuleError> {
        match value {
            Value::Object(object) => Self::new(object),
            other => Err(RuleError {
                path: String::new(),
                problem: format!("expected a JSON object, got {}", json_kind(&other)),
            }),
        }
    }

    /// The patch itself.
    pub fn object(&self) -> &Object {
        &self.0
    }
}

fn json_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// A back end's write: sections that are `None` stay as they are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TwinUpdate {
    /// For the tags.
    pub tags: Option<TwinPatch>,
    /// For the desired properties.
    pub desired: Option<TwinPatch>,
}

/// Whether a write merges into what is there or takes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteMode {
    /// Merge patch: `null` deletes.
    Patch,
    /// The given sections are replaced whole.
    Replace,
}

/// What a transition did, section by section, as merge patches.
#[derive(Clone, Debug, PartialEq)]
pub struct TwinChange {
    /// Merge or replacement.
    pub mode: WriteMode,
    /// What happened to the tags.
    pub tags: Option<Arc<Object>>,
    /// What happened to the desired properties; the device is told this.
    pub desired: Option<Arc<Object>>,
    /// What happened to the reported properties.
    pub reported: Option<Arc<Object>>,
}

/// Why a twin cannot be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TwinError {
    /// A section would be larger than it may.
    TooLarge {
        /// `tags`, `desired` or `reported`.
        section: &'static str,
        /// How large it would be.
        bytes: usize,
        /// How large it may be.
        bytes_max: usize,
    },
    /// It is not at the version that the caller demands.
    Precondition,
}

impl fmt::Display for TwinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TwinError::TooLarge { section, bytes, bytes_max } => {
                write!(f, "{section} would have {bytes} bytes, at most {bytes_max} are allowed")
            }
            TwinError::Precondition => f.write_str("the twin is not at the version that was demanded"),
        }
    }
}

impl std::error::Error for TwinError {}

impl Twin {
    /// The twin of a new identity: empty, everything at version 1.
    pub fn new(now: Timestamp) -> Self {
        Self {
            etag_counter: 1,
            tags: Object::new(),
            desired: Properties::new(Stamp::desired(now, 1)),
            reported: Properties::new(Stamp::reported(now)),
            model_id: None,
            configurations: BTreeMap::new(),
            let_in: BTreeMap::new(),
            authors: Authors::default(),
        }
    }

    /// The version tag; reported updates leave it (S 4.1).
    pub fn etag(&self) -> Etag {
        Etag::of_twin(self.etag_counter)
    }

    /// Grows by one at each write to any section (S 4.1).
    pub fn version(&self) -> u64 {
        self.etag_counter + self.reported.version
    }

    /// A back end's write of tags and desired properties.
    pub fn update(
        &self,
        update: &TwinUpdate,
        mode: WriteMode,
        precondition: &Precondition,
        now: Timestamp,
    ) -> Result<(Twin, TwinChange), TwinError> {
        if !precondition.holds(&self.etag()) {
            return Err(TwinError::Precondition);
        }
        let twin = self.updated(update, mode, now)?;
        let told = |patch: &Option<TwinPatch>, before: &Object, after: &Object| {
            patch.as_ref().map(|TwinPatch(patch)| Arc::new(told(mode, before, patch, after)))
        };
        let tags = told(&update.tags, &self.tags, &twin.tags);
        let desired = told(&update.desired, &self.desired.values, &twin.desired.values);
        Ok((twin, TwinChange { mode, tags, desired, reported: None }))
    }

    /// The same for who demands nothing and need not tell anybody what changed.
    pub fn updated(&self, update: &TwinUpdate, mode: WriteMode, now: Timestamp) -> Result<Twin, TwinError> {
        let mut twin = self.clone();
        twin.etag_counter += 1;
        if let Some(TwinPatch(patch)) = &update.tags {
            match mode {
                WriteMode::Patch => merge(&mut twin.tags, patch),
                WriteMode::Replace => twin.tags = without_nulls(patch),
            }
            check_size("tags", &twin.tags, TWIN_TAGS_BYTES_MAX)?;
        }
        if let Some(TwinPatch(patch)) = &update.desired {
            let stamp = Stamp::desired(now, self.desired.version + 1);
            match mode {
                WriteMode::Patch => twin.desired.merge(patch, &stamp),
                WriteMode::Replace => twin.desired.replace(patch, &stamp),
            }
            check_size("desired", &twin.desired.values, TWIN_SECTION_BYTES_MAX)?;
        }
        Ok(twin)
    }

    /// Notes who made the version that its desired section is at.
    #[must_use]
    pub fn written_by(mut self, actor: Actor) -> Self {
        self.authors.note(self.desired.version, actor, &self.desired.metadata);
        self
    }

    /// A device's write of its reported properties, optionally only at a given `$version`.
    pub fn patch_reported(
        &self,
        TwinPatch(patch): &TwinPatch,
        if_version: Option<u64>,
        now: Timestamp,
    ) -> Result<(Twin, TwinChange), TwinError> {
        if if_version.is_some_and(|wanted| wanted != self.reported.version) {
            return Err(TwinError::Precondition);
        }
        let mut twin = self.clone();
        twin.reported.merge(patch, &Stamp::reported(now));
        check_size("reported", &twin.reported.values, TWIN_SECTION_BYTES_MAX)?;
        let change = TwinChange {
            mode: WriteMode::Patch,
            tags: None,
            desired: None,
            reported: Some(Arc::new(patch.clone())),
        };
        Ok((twin, change))
    }
}

fn told(mode: WriteMode, before: &Object, patch: &Object, after: &Object) -> Object {
    match mode {
        WriteMode::Patch => patch.clone(),
        WriteMode::Replace => replacement_patch(before, after),
    }
}

pub(crate) fn check_size(section: &'static str, values: &Object, bytes_max: usize) -> Result<(), TwinError> {
    let bytes = size_bytes(values);
    if bytes > bytes_max { Err(TwinError::TooLarge { section, bytes, bytes_max }) } else { Ok(()) }
}

/// RFC 7396, without metadata: for tags.
fn merge(target: &mut Object, patch: &Object) {
    for (key, value) in patch {
        match value {
            Value::Null => {
                target.remove(key);
            }
            Value::Object(inner) => match target.get_mut(key) {
                Some(Value::Object(existing)) => merge(existing, inner),
                _ => {
                    target.insert(key.clone(), Value::Object(without_nulls(inner)));
                }
            },
            other => {
                target.insert(key.clone(), other.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests;
