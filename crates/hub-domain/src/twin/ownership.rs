//! What configurations leave in a twin: who wrote a desired property, and how each configuration fares here (S 4.1, 8.3).
//! It must cost a twin without configurations next to nothing: there may be a million of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::id::ConfigurationId;
use crate::json::Object;

/// Which revision of which configuration wrote a desired property. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenBy(Arc<Writer>);

#[derive(Debug, PartialEq, Eq)]
struct Writer {
    configuration: ConfigurationId,
    digest: u64,
    deployment: bool,
}

impl WrittenBy {
    /// `digest` tells the revisions of a configuration's content apart. What a `deployment` (an edge one) wrote stays
    /// when no other deployment takes over (S 8.3); everything else goes with its configuration.
    pub fn new(configuration: ConfigurationId, digest: u64, deployment: bool) -> Self {
        Self(Arc::new(Writer { configuration, digest, deployment }))
    }

    /// The configuration: `$lastUpdatedBy`.
    pub fn configuration(&self) -> &ConfigurationId {
        &self.0.configuration
    }

    /// The revision of its content: `$lastUpdatedByDigest`, printed in decimal.
    pub fn digest(&self) -> u64 {
        self.0.digest
    }

    /// Whether that is an edge deployment.
    pub fn is_deployment(&self) -> bool {
        self.0.deployment
    }
}

/// How a configuration that matches a twin fares there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigurationStatus {
    /// All of its settings lost against other configurations.
    Targeted,
    /// At least one of its settings is in force.
    Applied,
}

impl ConfigurationStatus {
    /// As the service spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Targeted => "Targeted",
            Self::Applied => "Applied",
        }
    }

    /// From the service's spelling.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Targeted, Self::Applied].into_iter().find(|status| status.as_str() == text)
    }

    /// `{"status": …}`.
    pub fn to_json(self) -> Value {
        json!({ "status": self.as_str() })
    }
}

impl super::Twin {
    /// The desired properties that no configuration wrote.
    pub fn desired_of_back_ends(&self) -> Object {
        not_configured(&self.desired.values, &self.desired.metadata)
    }
}

fn not_configured(values: &Object, metadata: &super::Metadata) -> Object {
    let kept = values.iter().filter_map(|(name, value)| {
        let node = metadata.children.get(name)?;
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                let kept = not_configured(inner, node);
                (!kept.is_empty()).then(|| (name.clone(), Value::Object(kept)))
            }
            value => node.stamp.by.is_none().then(|| (name.clone(), value.clone())),
        }
    });
    kept.collect()
}

/// The twin's `configurations` by id; `None` when there are none.
pub(super) fn configurations(all: &BTreeMap<ConfigurationId, ConfigurationStatus>) -> Option<Value> {
    let entries = all.iter().map(|(id, status)| (id.to_string(), status.to_json()));
    (!all.is_empty()).then(|| Value::Object(entries.collect::<Object>()))
}
