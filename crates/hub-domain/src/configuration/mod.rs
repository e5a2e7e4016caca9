//! Automatic configurations (S 8): desired properties that the hub keeps in every twin that a condition matches.
//! Pure: [`resolve`] says what a twin must have, [`Twin::apply`](crate::twin::Twin::apply) makes it so. When that happens,
//! and to which twins, is not decided here.
//!
//! Read in this order: `content` what is written, `spec` what an operator says, here what becomes of it, `resolve` who
//! wins, `apply` the twin's transition; `staged` in waves, `gated` when a twin can bear it.

mod apply;
mod content;
mod gated;
mod resolve;
mod spec;
mod staged;
#[cfg(test)]
mod tests;

use std::cmp::{Ordering, Reverse};
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

pub use content::{Content, ContentKind, EDGE_AGENT, LeafPath, Section, edge_agent};
pub use gated::{Admission, Contender, Gating};
pub use resolve::{Loss, Overridden, Resolution, Setting, resolve};
pub use spec::{ConfigurationSpec, Metric, TargetCondition};
pub use staged::{Stages, Staging, Standing};

use crate::context::GatesOverride;
use crate::json::Object;
use crate::query::Source;
use crate::time::Timestamp;
use crate::twin::{TwinDocument, WrittenBy};
use crate::version::Etag;

/// The shortest time that timestamps tell.
const TICK: Duration = Duration::from_nanos(100);

/// Which part of a configuration is wrong; each has an error code of its own (S 1.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A plain field.
    Field,
    /// `content`.
    Content,
    /// `content` is fine, but may not be changed.
    ImmutableContent,
    /// `targetCondition`.
    TargetCondition,
    /// A query of `metrics`.
    MetricQuery,
}

/// Why something is not a configuration: what is wrong, where, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigurationError {
    /// Which part.
    pub problem: Problem,
    text: String,
}

impl ConfigurationError {
    /// Something is wrong with this part, in these words.
    pub fn new(problem: Problem, text: impl Into<String>) -> Self {
        Self { problem, text: text.into() }
    }
}

impl fmt::Display for ConfigurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for ConfigurationError {}

/// How often a configuration was written, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revision {
    /// Starts at 1 and grows by one with each write; the etag shows it.
    pub counter: u64,
    /// When it was created.
    pub created: Timestamp,
    /// When it was written last.
    pub updated: Timestamp,
    /// When its content was written last; twins show it as the digest of what it wrote.
    pub content_updated: Timestamp,
}

/// A configuration as the hub keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    spec: ConfigurationSpec,
    revision: Revision,
    by: WrittenBy,
    stages: Option<Stages>,
    gating: Option<Gating>,
}

impl Configuration {
    /// One that was written before, as the store has it.
    pub fn new(spec: ConfigurationSpec, revision: Revision) -> Self {
        // .NET ticks, which count from year 1: what the service has there, too (S 4.1).
        let digest = revision.content_updated.ticks().saturating_sub(Timestamp::NEVER.ticks());
        let deployment = spec.content.kind() == ContentKind::Edge;
        let by = WrittenBy::new(spec.id.clone(), u64::try_from(digest).unwrap_or(0), deployment);
        Self { spec, revision, by, stages: None, gating: None }
    }

    /// The same, come this far with its rollout. Without that it is in force everywhere.
    #[must_use]
    pub fn staged(self, stages: Option<Stages>) -> Self {
        let stages = stages.filter(|_| self.spec.rollout.is_some());
        Self { stages, ..self }
    }

    /// How far its rollout came, if it has one.
    pub fn stages(&self) -> Option<&Stages> {
        self.stages.as_ref()
    }

    /// A new one.
    pub fn create(mut spec: ConfigurationSpec, now: Timestamp) -> Self {
        spec.gates = spec.gates.filter(|gates| !gates.is_empty());
        Self::new(spec, Revision { counter: 1, created: now, updated: now, content_updated: now })
            .gated(Some(Gating { since: now, overridden: None }))
    }

    /// This one as `spec` wants it. The service never lets content change (S 8.1); with `content_may_change` it may, but
    /// never its kind.
    pub fn update(
        &self,
        mut spec: ConfigurationSpec,
        content_may_change: bool,
        now: Timestamp,
    ) -> Result<Self, ConfigurationError> {
        spec.rollout = staged::updated(self.spec.rollout.as_ref(), spec.rollout)?;
        // As with the rollout, clients of the service do not know them.
        spec.gates = spec.gates.or_else(|| self.spec.gates.clone()).filter(|gates| !gates.is_empty());
        if let Some(refusal) = gated::refusal_of_deployment(&self.spec, &spec) {
            return Err(refusal);
        }
        let changed = spec.content != self.spec.content;
        let (old, new) = (self.spec.content.kind(), spec.content.kind());
        let refusal = if changed && !content_may_change {
            Some(
                "the content of a configuration cannot be changed; create another one, and delete this"
                    .into(),
            )
        } else if old != new {
            Some(format!("content is {} and cannot become {}", old.field(), new.field()))
        } else {
            None
        };
        if let Some(text) = refusal {
            return Err(ConfigurationError::new(Problem::ImmutableContent, text));
        }
        // Revisions are told apart by their time, also if the clock stands still or is set back.
        let after = |former: Timestamp| now.max(former.plus(TICK));
        let former = self.revision.content_updated;
        let content_updated = if changed { after(former) } else { former };
        let counter = self.revision.counter + 1;
        let revision = Revision { counter, updated: now, content_updated, ..self.revision };
        let overridden = self.gating.as_ref().and_then(|gating| gating.overridden.clone());
        let gating = Gating {
            since: match &self.gating {
                Some(gating) => gating.since,
                None if changed => content_updated,
                None => after(content_updated),
            },
            overridden: overridden.filter(|_| !changed && spec.gates == self.spec.gates),
        };
        Ok(Self::new(spec, revision).staged(self.stages.clone()).gated(Some(gating)))
    }

    /// What the operator said.
    pub fn spec(&self) -> &ConfigurationSpec {
        &self.spec
    }

    /// When, and how often.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// How twins name it as the writer of a property.
    pub fn by(&self) -> &WrittenBy {
        &self.by
    }

    /// The version tag: base64 of a decimal number (S 8.1).
    pub fn etag(&self) -> Etag {
        Etag::of_identity(self.revision.counter)
    }

    /// Whether it targets this twin: a device's for `deviceContent`, an edge device's for `modulesContent` (which is then
    /// for that device's modules), a module's for `moduleContent`. Not before its wave is open, if there are waves.
    pub fn targets(&self, twin: &TwinDocument<'_>) -> bool {
        self.matches(twin) && self.admits(&twin.identity.id)
    }

    /// Likewise, whatever its wave.
    pub fn matches(&self, twin: &TwinDocument<'_>) -> bool {
        let fits = match self.spec.content.kind() {
            ContentKind::Device => !twin.identity.id.is_module(),
            ContentKind::Edge => !twin.identity.id.is_module() && twin.identity.edge,
            ContentKind::Module => twin.identity.id.is_module(),
        };
        fits && self.spec.target.condition().matches(twin)
    }

    /// Who wins: higher priority first, among equals the newer, among those the smaller id.
    pub fn rank(&self, other: &Self) -> Ordering {
        let key = |configuration: &Self| {
            (Reverse(configuration.spec.priority), Reverse(configuration.revision.created))
        };
        key(self).cmp(&key(other)).then_with(|| self.spec.id.cmp(&other.spec.id))
    }

    /// The queries that the hub itself counts, by name, in the words of the service (S 8.1).
    pub fn system_metrics(&self) -> Vec<(&'static str, String)> {
        let id = &self.spec.id;
        let target = |columns, source, and| self.spec.target.to_query(columns, source, and);
        let applied = |columns, source| {
            format!("select {columns} from {source} where configurations.[[{id}]].status = 'Applied'")
        };
        match self.spec.content.kind() {
            ContentKind::Device => vec![
                ("targetedCount", target("deviceId", Source::Devices, None)),
                ("appliedCount", applied("deviceId", Source::Devices)),
            ],
            ContentKind::Module => vec![
                ("targetedCount", target("deviceId, moduleId", Source::DeviceModules, None)),
                ("appliedCount", applied("deviceId, moduleId", Source::DeviceModules)),
            ],
            ContentKind::Edge => {
                let applied = format!(
                    "select deviceId from devices.modules where moduleId = '{EDGE_AGENT}' and \
                     configurations.[[{id}]].status = 'Applied'"
                );
                let reported = format!(
                    "{applied} and properties.desired.$version = properties.reported.lastDesiredVersion and \
                     properties.reported.lastDesiredStatus.code"
                );
                vec![
                    (
                        "targetedCount",
                        target("deviceId", Source::Devices, Some("capabilities.iotEdge = true")),
                    ),
                    ("reportedSuccessfulCount", format!("{reported} = 200")),
                    ("reportedFailedCount", format!("{reported} != 200")),
                    ("appliedCount", applied),
                ]
            }
        }
    }

    /// The whole document in the order and shape of S 8.1, with empty `results` in both kinds of metrics.
    pub fn to_json(&self) -> Value {
        let ConfigurationSpec {
            id,
            schema_version,
            content_type,
            labels,
            content,
            target,
            priority,
            metrics,
            rollout,
            gates,
        } = &self.spec;
        let queries = |entries: &mut dyn Iterator<Item = (&str, &str)>| {
            let queries: Object = entries.map(|(name, text)| (name.to_owned(), text.into())).collect();
            json!({ "results": {}, "queries": queries })
        };
        let system = self.system_metrics();
        let mut document = json!({
            "id": id.as_str(),
            "schemaVersion": schema_version,
            "contentType": content_type,
            "labels": labels,
            "content": content.to_json(),
            "targetCondition": target.text(),
            "createdTimeUtc": self.revision.created.to_string(),
            "lastUpdatedTimeUtc": self.revision.updated.to_string(),
            "priority": priority,
            "systemMetrics": queries(&mut system.iter().map(|(name, text)| (*name, text.as_str()))),
            "metrics": queries(&mut metrics.iter().map(|(name, metric)| (name.as_str(), metric.text()))),
            "etag": self.etag().as_str(),
        });
        if let Some(staging) = rollout {
            document["rollout"] = staging.to_json();
        }
        if let Some(stages) = &self.stages {
            document["rolloutState"] = stages.state().to_json();
        }
        if let Some(gates) = gates {
            document["gates"] = gates.to_json();
        }
        if let Some(GatesOverride { by, reason, at }) =
            self.gating.as_ref().and_then(|gating| gating.overridden.as_ref())
        {
            let (by, at) = (by.to_string(), at.to_string());
            document["gatesOverride"] = json!({ "by": by, "reason": reason, "time": at });
        }
        document
    }
}
