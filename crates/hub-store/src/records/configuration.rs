//! The rows of configurations: what the operator said, as he said it, and how often. Conditions and queries are texts, which
//! are parsed again when a row is read.

use std::collections::BTreeMap;

use hub_domain::configuration::{
    Configuration, ConfigurationSpec, Content, Gating, Metric, Revision, Stages, Staging, TargetCondition,
};
use hub_domain::context::{Gates, GatesOverride};
use hub_domain::json::Object;
use hub_domain::rollout::RolloutState;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{encode as encode_record, field, format_of, name, parse, time, unknown_format};
use crate::keys::RowKey;
use crate::{Bytes, Key, StoreError};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct V1 {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    schema_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    content: Object,
    target: String,
    priority: u32,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    metrics: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rollout: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stages: Option<StagesV1>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gates: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gating: Option<GatingV1>,
    counter: u64,
    created: i64,
    updated: i64,
    content_updated: i64,
}

#[derive(Serialize, Deserialize)]
struct StagesV1 {
    bounds: Vec<u64>,
    state: Value,
}

#[derive(Serialize, Deserialize)]
struct GatingV1 {
    since: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    overridden: Option<Value>,
}

/// The row of `configuration`.
pub fn encode(configuration: &Configuration) -> Bytes {
    let ConfigurationSpec {
        id: _,
        schema_version,
        content_type,
        labels,
        content,
        target,
        priority,
        metrics,
        rollout,
        gates,
    } = configuration.spec();
    let Revision { counter, created, updated, content_updated } = configuration.revision();
    let record = V1 {
        schema_version: schema_version.clone(),
        content_type: content_type.clone(),
        labels: labels.clone(),
        content: content.to_json(),
        target: target.text().to_owned(),
        priority: *priority,
        metrics: metrics.iter().map(|(name, metric)| (name.clone(), metric.text().to_owned())).collect(),
        rollout: rollout.as_ref().map(Staging::to_json),
        stages: configuration
            .stages()
            .map(|stages| StagesV1 { bounds: stages.bounds().to_vec(), state: stages.state().to_json() }),
        gates: gates.as_ref().map(Gates::to_json),
        gating: configuration.gating().map(|Gating { since, overridden }| GatingV1 {
            since: since.ticks(),
            overridden: overridden.as_ref().map(GatesOverride::to_json),
        }),
        counter,
        created: created.ticks(),
        updated: updated.ticks(),
        content_updated: content_updated.ticks(),
    };
    encode_record(1, &record)
}

/// The configuration at `key`.
pub fn decode(key: &Key, row: &[u8]) -> Result<Configuration, StoreError> {
    let id = name(key, |key| match key {
        RowKey::Configuration(id) => Some(id),
        _ => None,
    })?;
    let record: V1 = match format_of(key, row)? {
        (1, json) => parse(key, json)?,
        (other, _) => return Err(unknown_format(key, other, 1)),
    };
    let content = field(key, "content", Content::parse(&Value::Object(record.content)).ok())?;
    let target = TargetCondition::parse(&record.target, Some(content.kind()));
    let metrics = record.metrics.into_iter().map(|(name, text)| {
        let metric = field(key, "metrics", Metric::parse(&name, &text).ok())?;
        Ok((name, metric))
    });
    let rollout = record.rollout.map(|value| field(key, "rollout", Staging::parse(&value).ok()));
    let stages = record.stages.map(|StagesV1 { bounds, state }| {
        let state = RolloutState::from_json(&state).ok();
        field(key, "stages", state.and_then(|state| Stages::of_parts(bounds, state)))
    });
    let gates = record.gates.map(|value| field(key, "gates", Gates::parse(&value).ok()));
    let gating = record.gating.map(|GatingV1 { since, overridden }| {
        let overridden =
            overridden.map(|value| field(key, "gatesOverride", GatesOverride::from_json(&value)));
        Ok::<_, StoreError>(Gating { since: time(since), overridden: overridden.transpose()? })
    });
    let spec = ConfigurationSpec {
        id,
        schema_version: record.schema_version,
        content_type: record.content_type,
        labels: record.labels,
        target: field(key, "target", target.ok())?,
        content,
        priority: record.priority,
        metrics: metrics.collect::<Result<_, StoreError>>()?,
        rollout: rollout.transpose()?,
        gates: gates.transpose()?,
    };
    let revision = Revision {
        counter: record.counter,
        created: time(record.created),
        updated: time(record.updated),
        content_updated: time(record.content_updated),
    };
    Ok(Configuration::new(spec, revision).staged(stages.transpose()?).gated(gating.transpose()?))
}
