//! A twin's document as a query sees it: each path is looked up where its value lives, without making the document.

use std::borrow::Cow;

use serde_json::Value;

use super::document::thumbprints;
use super::ownership::configurations;
use super::{Metadata, Properties, Twin, TwinDocument};
use crate::json::Object;
use crate::query::{Datum, Path, Root, Row};

impl<'t> TwinDocument<'t> {
    /// The value at `path`, as [`Row::get`] has it, for as long as the twin itself is there.
    pub fn value(&self, path: &Path) -> Datum<'t> {
        let segments = path.segments();
        let (identity, twin) = (self.identity, self.twin);
        let scalar = |datum: Datum<'t>| if segments.is_empty() { datum } else { Datum::Undefined };
        match path.root() {
            Root::DeviceId => scalar(text(identity.id.device.as_str())),
            Root::ModuleId => {
                scalar(identity.id.module.as_ref().map_or(Datum::Undefined, |m| text(m.as_str())))
            }
            Root::Etag => scalar(owned(twin.etag().to_string())),
            Root::DeviceEtag => scalar(owned(identity.etag().to_string())),
            Root::Status => scalar(text(identity.status.as_str())),
            Root::StatusReason => scalar(identity.status_reason.as_deref().map_or(Datum::Undefined, text)),
            Root::StatusUpdateTime => scalar(owned(identity.status_updated.to_string())),
            Root::ConnectionState => scalar(text(self.connection.state())),
            Root::LastActivityTime => scalar(owned(self.connection.last_activity.to_string())),
            Root::CloudToDeviceMessageCount => scalar(Datum::Number(0.0)),
            Root::AuthenticationType => scalar(text(identity.authentication.kind())),
            Root::X509Thumbprint => within(thumbprints(&identity.authentication), segments),
            Root::ModelId => scalar(text(twin.model_id.as_deref().unwrap_or_default())),
            Root::Version => scalar(Datum::Number(twin.version() as f64)),
            Root::Tags => tags(&twin.tags, segments),
            Root::Properties => within(self.to_json()["properties"].take(), segments),
            Root::Desired => section(&twin.desired, segments),
            Root::Reported => section(&twin.reported, segments),
            Root::Capabilities if identity.id.is_module() => Datum::Undefined,
            Root::Capabilities => match segments {
                [only] if only == "iotEdge" => Datum::Bool(identity.edge),
                segments => within(serde_json::json!({ "iotEdge": identity.edge }), segments),
            },
            Root::DeviceScope => scalar(identity.device_scope.as_deref().map_or(Datum::Undefined, text)),
            Root::ParentScopes => scalar(Datum::Json(Cow::Owned(identity.parent_scopes.clone().into()))),
            Root::Configurations => configured(twin, segments),
            // Of job records, and names that nobody knows.
            Root::JobId
            | Root::JobType
            | Root::JobStatus
            | Root::StartTimeUtc
            | Root::EndTimeUtc
            | Root::CreatedDateTimeUtc
            | Root::LastUpdatedDateTimeUtc
            | Root::Outcome
            | Root::Error
            | Root::Retirement
            | Root::LastError
            | Root::Progress
            | Root::Wave
            | Root::NotBeforeTimeUtc
            | Root::Unknown => Datum::Undefined,
        }
    }
}

impl Row for TwinDocument<'_> {
    fn get<'a>(&'a self, path: &Path) -> Datum<'a> {
        self.value(path)
    }

    fn document(&self) -> Value {
        self.to_json()
    }
}

fn text(text: &str) -> Datum<'_> {
    Datum::Str(Cow::Borrowed(text))
}

fn owned<'a>(text: String) -> Datum<'a> {
    Datum::Str(Cow::Owned(text))
}

/// The member of a value that was made for this look.
fn within<'a>(mut value: Value, segments: &[String]) -> Datum<'a> {
    for segment in segments {
        match value.get_mut(segment) {
            Some(member) => value = member.take(),
            None => return Datum::Undefined,
        }
    }
    Datum::Json(Cow::Owned(value))
}

fn tags<'a>(tags: &'a Object, segments: &[String]) -> Datum<'a> {
    match segments.split_first() {
        None if tags.is_empty() => Datum::Undefined,
        None => Datum::Json(Cow::Owned(Value::Object(tags.clone()))),
        Some((first, rest)) => tags.get(first).map_or(Datum::Undefined, |value| Datum::at(value, rest)),
    }
}

fn configured<'a>(twin: &'a Twin, segments: &[String]) -> Datum<'a> {
    let Some((id, rest)) = segments.split_first() else {
        return configurations(&twin.configurations).map_or(Datum::Undefined, Datum::from);
    };
    // Ids have no upper case, so a linear look by text finds what a parsed id would.
    match (twin.configurations.iter().find(|(known, _)| known.as_str() == id), rest) {
        (Some((_, status)), [only]) if only == "status" => text(status.as_str()),
        (Some((_, status)), rest) => within(status.to_json(), rest),
        (None, _) => Datum::Undefined,
    }
}

fn section<'a>(properties: &'a Properties, segments: &[String]) -> Datum<'a> {
    match segments.split_first() {
        None => Datum::Json(Cow::Owned(Value::Object(properties.to_service_json()))),
        Some((first, [])) if first == "$version" => Datum::Number(properties.version as f64),
        Some((first, rest)) if first == "$metadata" => metadata(&properties.metadata, rest),
        Some((first, rest)) => {
            properties.values.get(first).map_or(Datum::Undefined, |value| Datum::at(value, rest))
        }
    }
}

fn metadata<'a>(node: &'a Metadata, segments: &[String]) -> Datum<'a> {
    match segments.split_first() {
        None => Datum::Json(Cow::Owned(Value::Object(node.to_json()))),
        Some((last, [])) if last == "$lastUpdated" => owned(node.stamp.at.to_string()),
        Some((last, [])) if last == "$lastUpdatedVersion" => {
            node.stamp.version.map_or(Datum::Undefined, |version| Datum::Number(version.get() as f64))
        }
        Some((last, [])) if last == "$lastUpdatedBy" => {
            node.stamp.by.as_ref().map_or(Datum::Undefined, |by| text(by.configuration().as_str()))
        }
        Some((last, [])) if last == "$lastUpdatedByDigest" => {
            node.stamp.by.as_ref().map_or(Datum::Undefined, |by| owned(by.digest().to_string()))
        }
        Some((first, rest)) => {
            node.children.get(first).map_or(Datum::Undefined, |child| metadata(child, rest))
        }
    }
}
