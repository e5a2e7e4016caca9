//! Why a twin is as it is: `GET /api/devices/{id}/explain` and `GET /api/devices/{id}/modules/{mid}/explain`. Ours.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::rollout::WaitingFor;

/// Who set each desired property over whom, and why each configuration applies or does not.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TwinExplanation {
    /// The device.
    pub device_id: String,
    /// The module, if it is a module's twin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module_id: Option<String>,
    /// `$version` of its desired properties.
    pub desired_version: u64,
    /// Whether the twin is as its configurations want it. If there is no `error`, it will be in a moment.
    pub settled: bool,
    /// Why it cannot be so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Desired properties, and places where there is or should be none, in the order of their paths.
    pub properties: Vec<ExplainedProperty>,
    /// The configurations that target the twin in the order in which they win; then those that do not, first those of
    /// which the fewest terms would have to come out otherwise.
    pub configurations: Vec<ExplainedConfiguration>,
    /// How many more configurations do not target it.
    pub left_out: usize,
    /// Jobs with a rollout or gates that have not come to it yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<WaitingFor>,
}

/// A desired property, or the place of one.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedProperty {
    /// Such as `properties.desired.rate`.
    pub path: String,
    /// What is there; missing if nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub value: Option<Value>,
    /// Who saw to that; missing if nothing is there and nobody wants it so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_by: Option<Setter>,
    /// When it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_at: Option<String>,
    /// `$version` of the desired properties since then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// What should be there, if that is something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wanted: Option<WantedValue>,
    /// The settings that lost here, the strongest first.
    pub overridden: Vec<OverriddenSetting>,
}

/// Who set a property.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Setter {
    /// `policy` for a person or service with a key, `job`, `configuration`; or `backEnd`, when it was too long ago to be
    /// known who of the first two.
    pub kind: String,
    /// Which of its kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What a configuration wants and did not get.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct WantedValue {
    /// Which configuration.
    pub configuration: String,
    /// The value; `null` if nothing should be there.
    #[schema(value_type = Object)]
    pub value: Value,
}

/// A setting that lost against another configuration's.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct OverriddenSetting {
    /// Whose it is.
    pub configuration: String,
    /// What it sets: the property itself, or what is above or below it.
    pub path: String,
    /// What it would have been; `null` if nothing.
    #[schema(value_type = Object)]
    pub value: Value,
    /// Why it lost.
    pub reason: String,
}

/// A configuration, as far as the twin is concerned.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedConfiguration {
    /// Its name.
    pub id: String,
    /// The higher one wins.
    pub priority: u32,
    /// What it writes: `deviceContent`, `moduleContent` or `modulesContent`.
    pub content: String,
    /// Whether it targets the twin; `modulesContent`: the device of the module.
    pub targets: bool,
    /// `Applied` or `Targeted`, as the twin has it. Of `modulesContent` only the twin of the edge agent does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// What comes of that, and why.
    pub reason: String,
    /// The gates at which it waits: `reasons` with the values that decided, `nextOpen` and `nextChange`, as in docs/context.md.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub waits_for: Option<Value>,
    /// Its target condition.
    pub condition: Term,
}

/// A condition or a part of it.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Term {
    /// As text; `*` matches everything, nothing at all matches nothing.
    pub text: String,
    /// What it comes to; `null` is undefined: something that it needs is absent, or of another type.
    pub result: Option<bool>,
    /// What it read, if it has no terms.
    pub reads: Vec<TermRead>,
    /// The operands of AND, OR or NOT.
    #[schema(no_recursion)]
    pub terms: Vec<Term>,
}

/// What a term read.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct TermRead {
    /// Such as `tags.site`.
    pub path: String,
    /// What is there; missing if nothing is. Told by its size if it is long.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub value: Option<Value>,
}

/// What is there is there, even if it is `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}
