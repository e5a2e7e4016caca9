//! What an operator says of a configuration, checked: the fields of S 8.1 that are not the hub's own.
//! Errors say what is wrong, where, and what would be right; nothing unchecked gets past here.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{ConfigurationError, Content, ContentKind, Problem, Staging, gated};
use crate::context::Gates;
use crate::id::ConfigurationId;
use crate::json::Object;
use crate::limits::{
    CONFIGURATION_LABELS_BYTES_MAX, CONFIGURATION_METRICS_MAX, CONFIGURATION_NAME_CHARS_MAX,
    CONFIGURATION_PRIORITY_MAX,
};
use crate::query::{Condition, Path, Query, Root, Source};

/// What configurations write themselves, or what changes when they do: a condition over these could make a twin enter
/// and leave a target for ever.
const FORBIDDEN_ROOTS: &[Root] =
    &[Root::Desired, Root::Properties, Root::Configurations, Root::Etag, Root::Version];

/// A configuration as it is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigurationSpec {
    /// Its name.
    pub id: ConfigurationId,
    /// Echoed.
    pub schema_version: Option<String>,
    /// Echoed.
    pub content_type: Option<String>,
    /// In the operator's words.
    pub labels: BTreeMap<String, String>,
    /// What it writes.
    pub content: Content,
    /// To which twins.
    pub target: TargetCondition,
    /// Which of several configurations wins a property: the one with the higher number.
    pub priority: u32,
    /// Custom queries by name, whose rows are counted.
    pub metrics: BTreeMap<String, Metric>,
    /// How it comes into force wave by wave; at once if there is none.
    pub rollout: Option<Staging>,
    /// What a twin must bear to be written to; those that ask for nothing take former ones away.
    pub gates: Option<Gates>,
}

/// Which twins a configuration is for.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetCondition {
    text: String,
    condition: Condition,
}

/// A custom metric's query.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    text: String,
    query: Query,
}

impl ConfigurationSpec {
    /// From the JSON of S 8.1 for the configuration with this id. Members that are the hub's own are ignored.
    pub fn parse(id: ConfigurationId, value: &Value) -> Result<Self, ConfigurationError> {
        let object = value.as_object().ok_or_else(|| field("a configuration must be a JSON object"))?;
        let given = |name: &str| object.get(name).filter(|value| !value.is_null());
        if let Some(other) = given("id").filter(|other| *other != id.as_str()) {
            return Err(field(format!("id is {other} here, but '{id}' in the path; they must be the same")));
        }
        let missing = "content is missing; it says what the configuration writes";
        let content = given("content").ok_or_else(|| ConfigurationError::new(Problem::Content, missing))?;
        let content = Content::parse(content)?;
        let target = text("targetCondition", given("targetCondition"))?.unwrap_or_default();
        let target = TargetCondition::parse(target, Some(content.kind()))?;
        let rollout = given("rollout").map(Staging::parse).transpose()?;
        let gates = given("gates").map(gated::parse).transpose()?;
        Ok(Self {
            rollout,
            gates,
            id,
            schema_version: name("schemaVersion", given("schemaVersion"))?,
            content_type: name("contentType", given("contentType"))?,
            labels: labels(given("labels"))?,
            content,
            target,
            priority: priority(given("priority"))?,
            metrics: metrics(given("metrics"))?,
        })
    }
}

impl TargetCondition {
    /// Parses a condition as S 7.7 has it: `*` for all devices, nothing at all for none, `FROM devices.modules WHERE …`
    /// for modules. Without a `kind` of content any will do.
    pub fn parse(text: &str, kind: Option<ContentKind>) -> Result<Self, ConfigurationError> {
        let invalid = |problem: String| {
            ConfigurationError::new(Problem::TargetCondition, format!("targetCondition: {problem}"))
        };
        let condition = Condition::parse(text).map_err(|error| invalid(error.to_string()))?;
        let wanted = match (kind, condition.source()) {
            (_, Source::DeviceJobs | Source::RetiredDevices) => {
                Some("a condition over devices or devices.modules")
            }
            (Some(ContentKind::Module), Source::Devices) if !condition.is_nothing() => {
                Some("FROM devices.modules WHERE …, since moduleContent is for modules")
            }
            (Some(ContentKind::Device | ContentKind::Edge), Source::DeviceModules) => {
                Some("a condition over devices, such as tags.site = 'a'")
            }
            _ => None,
        };
        if let Some(wanted) = wanted {
            return Err(invalid(format!("'{condition}' is not usable here; expected {wanted}")));
        }
        let forbidden = |path: &&&Path| FORBIDDEN_ROOTS.contains(&path.root());
        if let Some(path) = condition.paths().iter().find(forbidden) {
            let problem = format!(
                "{path} changes when configurations are applied; expected tags, reported properties or fields of the \
                 registry"
            );
            return Err(invalid(problem));
        }
        Ok(Self { text: text.to_owned(), condition })
    }

    /// As it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// As it was understood. Over edge devices only, if the content is an edge deployment.
    pub fn condition(&self) -> &Condition {
        &self.condition
    }

    /// The query over `source` for `columns` of what it matches; `and` is a further condition.
    pub(super) fn to_query(&self, columns: &str, source: Source, and: Option<&str>) -> String {
        let printed = self.condition.to_string();
        let bare = printed.strip_prefix(&format!("FROM {source} WHERE ")).unwrap_or(&printed);
        let filter = match (and, self.condition.is_nothing(), self.condition.is_everything()) {
            (_, true, _) => " where false".to_owned(),
            (None, _, true) => String::new(),
            (None, _, false) => format!(" where {bare}"),
            (Some(and), _, true) => format!(" where {and}"),
            (Some(and), _, false) => format!(" where {and} and ({bare})"),
        };
        format!("select {columns} from {source}{filter}")
    }
}

impl Metric {
    /// Parses the query of the metric with this name.
    pub fn parse(name: &str, text: &str) -> Result<Self, ConfigurationError> {
        let invalid = |problem: String| {
            ConfigurationError::new(Problem::MetricQuery, format!("metrics.queries.{name}: {problem}"))
        };
        let query = Query::parse(text).map_err(|error| invalid(error.to_string()))?;
        Ok(Self { text: text.to_owned(), query })
    }

    /// As it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// As it was understood.
    pub fn query(&self) -> &Query {
        &self.query
    }
}

fn field(text: impl Into<String>) -> ConfigurationError {
    ConfigurationError::new(Problem::Field, text)
}

fn text<'v>(name: &str, value: Option<&'v Value>) -> Result<Option<&'v str>, ConfigurationError> {
    let text = |value: &'v Value| value.as_str().ok_or_else(|| field(format!("{name} must be a string")));
    value.map(text).transpose()
}

/// A short text.
fn name(name: &str, value: Option<&Value>) -> Result<Option<String>, ConfigurationError> {
    let text = text(name, value)?;
    let chars = text.map_or(0, |text| text.chars().count());
    if chars > CONFIGURATION_NAME_CHARS_MAX {
        let problem = format!("has {chars} characters, at most {CONFIGURATION_NAME_CHARS_MAX} are allowed");
        return Err(field(format!("{name} {problem}")));
    }
    Ok(text.map(str::to_owned))
}

/// The members of an object of texts.
fn texts<'v>(
    place: &'v str,
    value: Option<&'v Value>,
) -> Result<impl Iterator<Item = Result<(&'v str, &'v str), ConfigurationError>>, ConfigurationError> {
    let object =
        |value: &'v Value| value.as_object().ok_or_else(|| field(format!("{place} must be an object")));
    let members = value.map(object).transpose()?.into_iter().flat_map(Object::iter);
    Ok(members.map(move |(name, value)| {
        let text = value.as_str().ok_or_else(|| field(format!("{place}.{name} must be a string")))?;
        Ok((name.as_str(), text))
    }))
}

fn labels(value: Option<&Value>) -> Result<BTreeMap<String, String>, ConfigurationError> {
    let owned = |label: Result<(&str, &str), _>| label.map(|(name, text)| (name.to_owned(), text.to_owned()));
    let labels = texts("labels", value)?.map(owned).collect::<Result<BTreeMap<_, _>, _>>()?;
    let bytes: usize = labels.iter().map(|(name, text)| name.len() + text.len()).sum();
    if bytes > CONFIGURATION_LABELS_BYTES_MAX {
        let problem = format!("have {bytes} bytes, at most {CONFIGURATION_LABELS_BYTES_MAX} are allowed");
        return Err(field(format!("labels {problem}")));
    }
    Ok(labels)
}

fn priority(value: Option<&Value>) -> Result<u32, ConfigurationError> {
    let Some(value) = value else { return Ok(0) };
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    number.filter(|number| *number <= CONFIGURATION_PRIORITY_MAX).ok_or_else(|| {
        field(format!("priority is {value}; expected a whole number from 0 to {CONFIGURATION_PRIORITY_MAX}"))
    })
}

fn metrics(value: Option<&Value>) -> Result<BTreeMap<String, Metric>, ConfigurationError> {
    let Some(value) = value else { return Ok(BTreeMap::new()) };
    let object = value.as_object().ok_or_else(|| field("metrics must be an object"))?;
    let queries = object.get("queries").filter(|queries| !queries.is_null());
    let mut metrics = BTreeMap::new();
    for query in texts("metrics.queries", queries)? {
        let (metric, text) = query?;
        let chars = metric.chars().count();
        if !(1..=CONFIGURATION_NAME_CHARS_MAX).contains(&chars) {
            let problem = format!("has {chars} characters; expected 1 to {CONFIGURATION_NAME_CHARS_MAX}");
            return Err(field(format!("metrics.queries: a metric's name {problem}")));
        }
        metrics.insert(metric.to_owned(), Metric::parse(metric, text)?);
    }
    if metrics.len() > CONFIGURATION_METRICS_MAX {
        let problem =
            format!("has {} queries, at most {CONFIGURATION_METRICS_MAX} are allowed", metrics.len());
        return Err(field(format!("metrics.queries {problem}")));
    }
    Ok(metrics)
}
