//! The reasons of a twin to their body: pure, one direction.

use hub_api::explain as api;
use hub_domain::context::Verdict;
use hub_domain::query::Explanation;
use hub_engine::configurations::explain::{
    Explained, ExplainedConfiguration, ExplainedLoss, ExplainedProperty, Setter,
};

/// All of them.
pub fn explained(explained: Explained) -> api::TwinExplanation {
    api::TwinExplanation {
        device_id: explained.id.device.to_string(),
        module_id: explained.id.module.as_ref().map(ToString::to_string),
        desired_version: explained.desired_version,
        settled: explained.settled,
        error: explained.error,
        properties: explained.properties.into_iter().map(property).collect(),
        configurations: explained.configurations.into_iter().map(configuration).collect(),
        left_out: explained.left_out,
        waiting: explained.waiting.into_iter().map(super::rollout::waiting_for).collect(),
    }
}

fn path(below: &str) -> String {
    format!("properties.desired.{below}")
}

fn property(property: ExplainedProperty) -> api::ExplainedProperty {
    let setter = |setter: Setter| match setter {
        Setter::Configuration(id) => api::Setter { kind: "configuration".into(), name: Some(id.to_string()) },
        Setter::BackEnd(Some(actor)) => api::Setter { kind: actor.kind().into(), name: actor.name() },
        Setter::BackEnd(None) => api::Setter { kind: "backEnd".into(), name: None },
    };
    let lost = |lost: ExplainedLoss| api::OverriddenSetting {
        configuration: lost.configuration.to_string(),
        path: path(&lost.path),
        value: lost.value,
        reason: lost.reason,
    };
    api::ExplainedProperty {
        path: path(&property.path),
        value: property.value,
        set_by: property.set_by.map(setter),
        set_at: property.set_at.map(|at| at.to_string()),
        version: property.version,
        wanted: property.wanted.map(|(id, value)| api::WantedValue { configuration: id.to_string(), value }),
        overridden: property.overridden.into_iter().map(lost).collect(),
    }
}

fn configuration(explained: ExplainedConfiguration) -> api::ExplainedConfiguration {
    let spec = explained.configuration.spec();
    api::ExplainedConfiguration {
        id: spec.id.to_string(),
        priority: spec.priority,
        content: spec.content.kind().field().into(),
        targets: explained.targets,
        status: explained.status.map(|status| status.as_str().into()),
        reason: explained.reason,
        waits_for: explained.waits_for.as_ref().map(Verdict::to_json),
        condition: term(explained.condition),
    }
}

fn term(explanation: Explanation) -> api::Term {
    let reads = explanation.reads.into_iter();
    api::Term {
        text: explanation.text,
        result: explanation.result,
        reads: reads.map(|read| api::TermRead { path: read.path, value: read.value }).collect(),
        terms: explanation.terms.into_iter().map(term).collect(),
    }
}
