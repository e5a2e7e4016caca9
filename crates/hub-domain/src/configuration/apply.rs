//! Brings a twin to what its configurations want: the transition that is made again and again until it does nothing.
//! Takes away only what a configuration wrote, and writes only what differs; what people set elsewhere stays.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;

use super::content::split;
use super::{LeafPath, Resolution, Setting};
use crate::json::{Object, difference_patch};
use crate::limits::TWIN_SECTION_BYTES_MAX;
use crate::time::Timestamp;
use crate::twin::{
    Metadata, Properties, Stamp, Twin, TwinChange, TwinError, WriteMode, WrittenBy, check_size,
};

impl Twin {
    /// This twin as `resolution` wants it; `None` if it is so already.
    ///
    /// What configurations wrote and none wants now goes, with the objects that this empties; each setting is written
    /// unless its value is there, and noted as its configuration's. The etag changes with anything at all, the desired
    /// version only with a value; `TwinChange::desired` then has just what differs.
    ///
    /// # Errors
    /// `TwinError::TooLarge` if the desired properties would be larger than they may; the twin then stays as it is.
    pub fn apply(
        &self,
        resolution: &Resolution,
        now: Timestamp,
    ) -> Result<Option<(Twin, TwinChange)>, TwinError> {
        let stamp = Stamp::desired(now, self.desired.version + 1);
        let mut desired = Cow::Borrowed(&self.desired);
        for path in stale(&self.desired, resolution) {
            retract(desired.to_mut(), &path, &stamp);
        }
        for (path, setting) in &resolution.settings {
            if let Some(step) = step(&desired, path, setting) {
                step.take(desired.to_mut(), path.as_str(), setting, &stamp);
            }
        }
        let mut change = TwinChange { mode: WriteMode::Patch, tags: None, desired: None, reported: None };
        let mut desired = match desired {
            Cow::Borrowed(_)
                if self.configurations == resolution.statuses && self.let_in == resolution.let_in =>
            {
                return Ok(None);
            }
            desired => desired.into_owned(),
        };
        if desired.values != self.desired.values {
            check_size("desired", &desired.values, TWIN_SECTION_BYTES_MAX)?;
            desired.version += 1;
            change.desired = Some(Arc::new(difference_patch(&self.desired.values, &desired.values)));
        }
        let twin = Twin {
            etag_counter: self.etag_counter + 1,
            tags: self.tags.clone(),
            desired,
            reported: self.reported.clone(),
            model_id: self.model_id.clone(),
            configurations: resolution.statuses.clone(),
            let_in: resolution.let_in.clone(),
            authors: self.authors.clone(),
        };
        Ok(Some((twin, change)))
    }
}

/// The paths of what must go: leaves that a configuration wrote and none wants, or, if the section is replaced, all that
/// none wants.
fn stale(properties: &Properties, resolution: &Resolution) -> Vec<String> {
    let mut paths = Vec::new();
    walk(&properties.values, &properties.metadata, &mut Vec::new(), &mut |path, _, by| {
        let goes = match by {
            Some(by) => !(resolution.keeps_deployed && by.is_deployment()),
            None => resolution.replaces,
        };
        if goes {
            let path = path.join(".");
            if resolution.settings.get(path.as_str()).is_none_or(|setting| setting.value.is_null()) {
                paths.push(path);
            }
        }
    });
    paths
}

/// Visits everything that is not an object with properties.
pub(super) fn walk<'a>(
    values: &'a Object,
    metadata: &'a Metadata,
    path: &mut Vec<&'a str>,
    visit: &mut impl FnMut(&[&str], &Value, Option<&WrittenBy>),
) {
    for (name, value) in values {
        let Some(node) = metadata.children.get(name) else { continue };
        path.push(name);
        match value {
            Value::Object(inner) if !inner.is_empty() => walk(inner, node, path, visit),
            _ => visit(path, value, node.stamp.by.as_ref()),
        }
        path.pop();
    }
}

/// Removes what is at `path`, and the objects above it that have nothing left.
fn retract(properties: &mut Properties, path: &str, stamp: &Stamp) {
    remove(properties, path, stamp);
    let mut path = path;
    while let Some((parent, _)) = path.rsplit_once('.') {
        if !value_at(&properties.values, parent).is_some_and(is_empty_object) {
            break;
        }
        remove(properties, parent, stamp);
        path = parent;
    }
}

fn remove(properties: &mut Properties, path: &str, stamp: &Stamp) {
    let (parents, name) = split(path);
    let (mut values, mut metadata) = (&mut properties.values, &mut properties.metadata);
    metadata.stamp = stamp.clone();
    for parent in parents {
        let (Some(Value::Object(inner)), Some(node)) =
            (values.get_mut(parent), metadata.children.get_mut(parent))
        else {
            return;
        };
        (values, metadata) = (inner, node);
        metadata.stamp = stamp.clone();
    }
    values.remove(name);
    metadata.children.remove(name);
}

/// Writes a leaf, and objects above it where there are none.
fn set(properties: &mut Properties, path: &str, setting: &Setting, stamp: &Stamp) {
    let (parents, name) = split(path);
    let (mut values, mut metadata) = (&mut properties.values, &mut properties.metadata);
    metadata.stamp = stamp.clone();
    for parent in parents {
        let slot = values.entry(parent).or_insert(Value::Null);
        if !slot.is_object() {
            *slot = Value::Object(Object::new());
        }
        values = slot.as_object_mut().expect("it was made one");
        metadata =
            metadata.children.entry(parent.to_owned()).or_insert_with(|| Metadata::leaf(stamp.clone()));
        metadata.stamp = stamp.clone();
    }
    values.insert(name.to_owned(), Value::clone(&setting.value));
    let stamp = Stamp { by: Some(setting.by.clone()), ..stamp.clone() };
    metadata.children.insert(name.to_owned(), Metadata::leaf(stamp));
}

/// What a setting asks of a twin that does not have it.
enum Step {
    Write,
    Remove,
    /// The value is there, but somebody else wrote it.
    Own,
}

impl Step {
    fn take(self, properties: &mut Properties, path: &str, setting: &Setting, stamp: &Stamp) {
        match self {
            Step::Write => set(properties, path, setting, stamp),
            Step::Remove => remove(properties, path, stamp),
            Step::Own => {
                let node = path
                    .split('.')
                    .try_fold(&mut properties.metadata, |node, name| node.children.get_mut(name));
                if let Some(node) = node {
                    node.stamp.by = Some(setting.by.clone());
                }
            }
        }
    }
}

fn step(properties: &Properties, path: &LeafPath, setting: &Setting) -> Option<Step> {
    let present = value_at(&properties.values, path.as_str());
    let is_there = match (&*setting.value, present) {
        (Value::Null, present) => return present.map(|_| Step::Remove),
        // An object is wanted, no matter what is in it; only an empty one can be owned.
        (Value::Object(_), Some(Value::Object(present))) if !present.is_empty() => return None,
        (wanted, present) => present == Some(wanted),
    };
    let node = path.as_str().split('.').try_fold(&properties.metadata, |node, name| node.children.get(name));
    let is_owned = node.is_some_and(|node| node.stamp.by.as_ref() == Some(&setting.by));
    match (is_there, is_owned) {
        (false, _) => Some(Step::Write),
        (true, false) => Some(Step::Own),
        (true, true) => None,
    }
}

fn value_at<'a>(values: &'a Object, path: &str) -> Option<&'a Value> {
    let (parents, name) = split(path);
    let object = parents.into_iter().try_fold(values, |object, parent| object.get(parent)?.as_object())?;
    object.get(name)
}

fn is_empty_object(value: &Value) -> bool {
    value.as_object().is_some_and(Object::is_empty)
}
