//! What an exported twin says beyond what a back end may write: versions, times, and what the device reported (S 3).
//! Only a twin that is being created takes it over; afterwards it would rewrite what devices have seen already.

use std::num::NonZeroU64;

use serde_json::Value;

use super::{Metadata, Properties, Stamp, Twin, TwinError, TwinPatch, check_size};
use crate::json::{Object, without_nulls};
use crate::limits::TWIN_SECTION_BYTES_MAX;
use crate::time::Timestamp;

/// `$version` and `$metadata` of one section, if they are given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SectionRecord {
    version: Option<NonZeroU64>,
    metadata: Option<Object>,
}

impl SectionRecord {
    /// Takes them out of a section. What is not a version or a tree of times is passed over.
    pub fn take(section: &mut Object) -> Self {
        let version = section.remove("$version").as_ref().and_then(Value::as_u64).and_then(NonZeroU64::new);
        let metadata = match section.remove("$metadata") {
            Some(Value::Object(metadata)) => Some(metadata),
            _ => None,
        };
        Self { version, metadata }
    }

    fn put(&self, properties: &mut Properties) {
        if let Some(version) = self.version {
            properties.version = version.get();
        }
        if let Some(metadata) = &self.metadata {
            let stamp = properties.metadata.stamp.clone();
            properties.metadata = metadata_of(&properties.values, metadata, &stamp);
        }
    }
}

/// The record of one twin.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TwinRecord {
    /// Of the desired properties; their values come as a write.
    pub desired: SectionRecord,
    /// Of the reported properties.
    pub reported: SectionRecord,
    /// What the device reported.
    pub reported_values: Option<TwinPatch>,
}

impl Twin {
    /// A new twin as its record has it. Who wrote a property is not taken over: the configurations may not be here.
    pub fn recorded(mut self, record: &TwinRecord) -> Result<Twin, TwinError> {
        if let Some(TwinPatch(values)) = &record.reported_values {
            self.reported.values = without_nulls(values);
            check_size("reported", &self.reported.values, TWIN_SECTION_BYTES_MAX)?;
            self.reported.metadata = Metadata::of(&self.reported.values, &self.reported.metadata.stamp);
        }
        record.desired.put(&mut self.desired);
        record.reported.put(&mut self.reported);
        Ok(self)
    }
}

/// Mirrors `values`; what `given` does not say is `otherwise`.
fn metadata_of(values: &Object, given: &Object, otherwise: &Stamp) -> Metadata {
    let at = given.get("$lastUpdated").and_then(Value::as_str).and_then(Timestamp::parse);
    let version = given.get("$lastUpdatedVersion").and_then(Value::as_u64).and_then(NonZeroU64::new);
    let stamp = Stamp {
        at: at.unwrap_or(otherwise.at),
        // Reported properties have none, whatever is given.
        version: otherwise.version.map(|own| version.unwrap_or(own)),
        by: None,
    };
    let nothing = Object::new();
    let children = values.iter().map(|(key, value)| {
        let given = given.get(key).and_then(Value::as_object).unwrap_or(&nothing);
        let values = value.as_object().unwrap_or(&nothing);
        (key.clone(), metadata_of(values, given, &stamp))
    });
    Metadata { children: children.collect(), stamp }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{TwinUpdate, WriteMode};
    use super::*;
    use crate::version::Precondition;

    fn object(value: Value) -> Object {
        value.as_object().expect("an object").clone()
    }

    #[test]
    fn a_created_twin_is_as_its_record() {
        let (now, then) = (Timestamp::from_seconds(2000), Timestamp::from_seconds(1000));
        let mut desired = object(json!({
            "a": { "b": 1 }, "c": 2, "$version": 7,
            "$metadata": {
                "$lastUpdated": then.to_string(), "$lastUpdatedVersion": 7,
                "a": { "$lastUpdated": then.to_string(), "$lastUpdatedVersion": 3, "b": { "$lastUpdated": "never", "$lastUpdatedVersion": 2 } },
            },
        }));
        let mut reported = object(json!({ "r": [1], "$version": 0, "$metadata": [] }));
        let record = TwinRecord {
            desired: SectionRecord::take(&mut desired),
            reported: SectionRecord::take(&mut reported),
            reported_values: Some(TwinPatch::new(reported).expect("a section")),
        };
        let update = TwinUpdate { tags: None, desired: Some(TwinPatch::new(desired).expect("a section")) };
        let twin = Twin::new(now)
            .update(&update, WriteMode::Replace, &Precondition::None, now)
            .expect("written")
            .0
            .recorded(&record)
            .expect("recorded");
        assert_eq!((twin.desired.version, twin.reported.version), (7, 1));
        let shown = Value::Object(twin.desired.metadata.to_json());
        let stamp =
            |version: u64| json!({ "$lastUpdated": then.to_string(), "$lastUpdatedVersion": version });
        let (mut a, mut whole) = (stamp(3), stamp(7));
        a["b"] = stamp(2);
        whole["a"] = a;
        whole["c"] = stamp(7);
        assert_eq!(shown, whole);
        let at = json!({ "$lastUpdated": now.to_string() });
        assert_eq!(
            Value::Object(twin.reported.to_service_json()),
            json!({ "r": [1], "$version": 1, "$metadata": { "$lastUpdated": now.to_string(), "r": at } })
        );
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let long = "x".repeat(4000);
        let values: Object = (0..10).map(|n| (format!("k{n}"), Value::from(long.clone()))).collect();
        let record = TwinRecord {
            reported_values: Some(TwinPatch::new(values).expect("a section")),
            ..TwinRecord::default()
        };
        let error = Twin::new(Timestamp::NEVER).recorded(&record).expect_err("too large");
        assert!(matches!(error, TwinError::TooLarge { section: "reported", .. }), "{error}");
    }
}
