//! Why a twin is as it is: who set each desired property and over whom, and why each configuration applies or does not.
//! It decides nothing: targets, winners and what fits are asked of the same code that writes twins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hub_domain::actor::Actor;
use hub_domain::configuration::{
    Admission, Configuration, Contender, ContentKind, Loss, Overridden, Resolution, Setting, resolve,
};
use hub_domain::context::Verdict;
use hub_domain::id::{ConfigurationId, TwinId};
use hub_domain::json::Object;
use hub_domain::query::Explanation;
use hub_domain::rollout::Phase;
use hub_domain::time::Timestamp;
use hub_domain::twin::{ConfigurationStatus, Metadata, Twin, TwinDocument};
use serde_json::Value;

use super::Matching;
use crate::Hub;
use crate::access::Principal;
use crate::config::{EXPLAIN_CONFIGURATIONS_MAX, QUERY_CHUNK_ENTRIES};
use crate::error::Result;
use crate::rollouts::WaitingFor;
use crate::twins::TwinView;

/// The reasons of a twin.
#[derive(Clone, Debug, PartialEq)]
pub struct Explained {
    /// Whose.
    pub id: TwinId,
    /// The version of its desired section.
    pub desired_version: u64,
    /// Whether it is as the configurations want it. If there is no `error`, it will be in a moment.
    pub settled: bool,
    /// Why it cannot be so.
    pub error: Option<String>,
    /// What is or should be in its desired section, in the order of the paths.
    pub properties: Vec<ExplainedProperty>,
    /// The configurations that target it in the order of their rank, then those that do not, the nearest first.
    pub configurations: Vec<ExplainedConfiguration>,
    /// How many more do not target it.
    pub left_out: usize,
    /// The jobs that have not come to it yet.
    pub waiting: Vec<WaitingFor>,
}

/// A desired property, or the place of one.
#[derive(Clone, Debug, PartialEq)]
pub struct ExplainedProperty {
    /// The names below the desired section, with dots between them.
    pub path: String,
    /// What is there.
    pub value: Option<Value>,
    /// Who saw to that; `None` if nothing is there and nobody wants it so.
    pub set_by: Option<Setter>,
    /// When it was written.
    pub set_at: Option<Timestamp>,
    /// At which version of the section.
    pub version: Option<u64>,
    /// What should be there, if that is something else: a configuration and its value.
    pub wanted: Option<(ConfigurationId, Value)>,
    /// The settings that lost here, highest rank first.
    pub overridden: Vec<ExplainedLoss>,
}

/// Who set a property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setter {
    /// A configuration.
    Configuration(ConfigurationId),
    /// A back end, by the policy that its key is of, or a job; `None` if that was before as many other writes as a twin
    /// remembers.
    BackEnd(Option<Actor>),
}

/// A setting that is not in force.
#[derive(Clone, Debug, PartialEq)]
pub struct ExplainedLoss {
    /// Whose it is.
    pub configuration: ConfigurationId,
    /// The path that it sets; one above or below the property's, perhaps.
    pub path: String,
    /// What it would have been; `null` if nothing.
    pub value: Value,
    /// Why it lost.
    pub reason: String,
}

/// A configuration, as far as this twin is concerned.
#[derive(Clone, Debug, PartialEq)]
pub struct ExplainedConfiguration {
    /// Which.
    pub configuration: Arc<Configuration>,
    /// Whether it targets this twin, or for an edge deployment and a module, its device.
    pub targets: bool,
    /// What the twin says of it. Of an edge deployment only the edge agent's twin does.
    pub status: Option<ConfigurationStatus>,
    /// What comes of that, and why.
    pub reason: String,
    /// The gates that are closed, if it waits for them.
    pub waits_for: Option<Verdict>,
    /// Its target condition, term by term.
    pub condition: Explanation,
}

impl Hub {
    /// Says of each desired property who set it and over whom, and of each configuration why it applies or does not.
    pub async fn explain(&self, who: &Principal, id: &TwinId) -> Result<Explained> {
        let own = self.twin_get(who, id)?;
        let device = id.is_module().then(|| self.twin_get(who, &TwinId::device(id.device.clone())));
        let asked = Asked { own, device: device.transpose()? };
        let set = self.configurations.current();
        let (mut matching, mut others) = (Matching::new(), Vec::new());
        for (index, configuration) in asked.kinds().iter().flat_map(|kind| set.of_kind(*kind)).enumerate() {
            if index % QUERY_CHUNK_ENTRIES == QUERY_CHUNK_ENTRIES - 1 {
                tokio::task::yield_now().await;
            }
            if configuration.targets(&asked.document(configuration)) {
                matching.insert(configuration.spec().id.clone(), configuration.clone());
            } else {
                others.push((asked.terms_missed(configuration), configuration));
            }
        }
        others.sort_by(|(a, left), (b, right)| a.cmp(b).then_with(|| left.rank(right)));
        let left_out = others.len().saturating_sub(EXPLAIN_CONFIGURATIONS_MAX);
        others.truncate(EXPLAIN_CONFIGURATIONS_MAX);

        let (own, device) = (asked.own.document(), asked.device.as_ref().map(TwinView::document));
        let admissions = self.admissions(&own, device.as_ref(), &matching, self.now());
        let contenders: Vec<Contender<'_>> =
            admissions.iter().map(|(one, admission)| one.contender(&own, admission)).collect();
        let resolution = resolve(id.module.as_ref(), &contenders);
        let held = admissions.into_iter().filter_map(|(one, admission)| match admission {
            Admission::Held(verdict) => Some((one.spec().id.clone(), verdict)),
            _ => None,
        });
        let applied = asked.own.twin.apply(&resolution, self.now());
        let settled = matches!(applied, Ok(None));
        let verdict = Fares {
            resolution: &resolution,
            settled,
            error: applied.err().map(|e| e.to_string()),
            held: held.collect(),
        };
        let mut ranked: Vec<_> = matching.values().collect();
        ranked.sort_by(|a, b| a.rank(b));
        let targeting = ranked.into_iter().map(|one| asked.explain(one, Some(&verdict)));
        let others = others.into_iter().map(|(_, one)| asked.explain(one, None));
        Ok(Explained {
            id: id.clone(),
            desired_version: asked.own.twin.desired.version,
            properties: properties(&asked.own.twin, &resolution, &matching),
            configurations: targeting.chain(others).collect(),
            left_out,
            waiting: self.waiting_for(id).await?,
            settled,
            error: verdict.error.clone(),
        })
    }
}

/// What the configurations that target a twin come to there.
struct Fares<'r> {
    resolution: &'r Resolution,
    /// Those that wait at a gate.
    held: BTreeMap<ConfigurationId, Verdict>,
    settled: bool,
    error: Option<String>,
}

impl Fares<'_> {
    fn reason(&self, id: &ConfigurationId) -> String {
        if let Some(verdict) = self.held.get(id) {
            let reasons: Vec<_> = verdict.reasons.iter().map(ToString::to_string).collect();
            return format!("it waits at a closed gate: {}", reasons.join("; "));
        }
        let won =
            self.resolution.settings.values().filter(|setting| setting.by.configuration() == id).count();
        let lost = self.resolution.overridden.iter().filter(|lost| lost.configuration == *id).count();
        match (&self.error, won, lost) {
            (_, 0, 0) => "has no settings for this twin".into(),
            (Some(error), 1.., _) => format!("the twin cannot take its settings: {error}"),
            (None, 1.., _) if !self.settled => "the twin is about to get its settings".into(),
            (_, won, lost) => format!("{won} of {} settings in force", won + lost),
        }
    }
}

/// The twin that is asked about, with that of its device if it is a module's.
struct Asked {
    own: TwinView,
    device: Option<TwinView>,
}

impl Asked {
    fn kinds(&self) -> &'static [ContentKind] {
        match self.device {
            None if self.own.identity.edge => &[ContentKind::Device, ContentKind::Edge],
            None => &[ContentKind::Device],
            Some(_) => &[ContentKind::Module, ContentKind::Edge],
        }
    }

    /// What a configuration's condition looks at.
    fn document(&self, configuration: &Configuration) -> TwinDocument<'_> {
        match (&self.device, configuration.spec().content.kind()) {
            (Some(device), ContentKind::Edge) => device.document(),
            _ => self.own.document(),
        }
    }

    fn is_edge_missing(&self, configuration: &Configuration) -> bool {
        let is_deployment = configuration.spec().content.kind() == ContentKind::Edge;
        is_deployment && !self.document(configuration).identity.edge
    }

    fn terms_missed(&self, configuration: &Configuration) -> usize {
        let missed = configuration.spec().target.condition().terms_missed(&self.document(configuration));
        missed.saturating_add(usize::from(self.is_edge_missing(configuration)))
    }

    /// `verdict` if it targets the twin.
    fn explain(
        &self,
        configuration: &Arc<Configuration>,
        verdict: Option<&Fares<'_>>,
    ) -> ExplainedConfiguration {
        let spec = configuration.spec();
        let condition = spec.target.condition().explain(&self.document(configuration));
        let is_for_modules = spec.content.kind() == ContentKind::Edge && self.device.is_none();
        let reason = match (verdict, condition.result) {
            (Some(verdict), _) if is_for_modules && !verdict.held.contains_key(&spec.id) => {
                "its settings are for the modules of this device".into()
            }
            (Some(verdict), _) => verdict.reason(&spec.id),
            (None, _) if self.is_edge_missing(configuration) => "the device is no edge device".into(),
            (None, _) if spec.target.condition().is_nothing() => {
                "its target condition is empty, which matches nothing".into()
            }
            (None, None) => {
                "its target condition is undefined here: something that it reads is absent or of another type"
                    .into()
            }
            (None, Some(true)) => not_admitted(configuration, &self.document(configuration).identity.id),
            (None, Some(false)) => "its target condition is false here".into(),
        };
        ExplainedConfiguration {
            configuration: configuration.clone(),
            targets: verdict.is_some(),
            status: self.own.twin.configurations.get(&spec.id).copied(),
            reason,
            waits_for: verdict.and_then(|fares| fares.held.get(&spec.id).cloned()),
            condition,
        }
    }
}

fn not_admitted(configuration: &Configuration, id: &TwinId) -> String {
    let phase = configuration.stages().map(|stages| &stages.state().phase);
    match (phase, configuration.wave_of(id)) {
        (Some(Phase::RollingBack { reason, .. }), _) => format!("its rollout was rolled back: {reason}"),
        (Some(phase), Some((wave, _))) => {
            format!("its wave, number {}, is not open; the rollout is {}", wave + 1, phase.as_str())
        }
        _ => "its target condition is about something else".into(),
    }
}

fn properties(twin: &Twin, resolution: &Resolution, matching: &Matching) -> Vec<ExplainedProperty> {
    let desired = &twin.desired;
    let mut paths = BTreeSet::new();
    leaves(&desired.values, &mut Vec::new(), &mut paths);
    paths.extend(resolution.settings.keys().map(|path| path.as_str().to_owned()));
    let mut losses: BTreeMap<String, Vec<ExplainedLoss>> = BTreeMap::new();
    for lost in &resolution.overridden {
        let at = match &lost.loss {
            Loss::Outranked { at, .. } => at,
            Loss::Replaced { .. } | Loss::NoDeploymentBelow => &lost.path,
        };
        let loss = ExplainedLoss {
            configuration: lost.configuration.clone(),
            path: lost.path.as_str().to_owned(),
            value: Value::clone(&lost.value),
            reason: why_lost(lost, matching),
        };
        losses.entry(at.as_str().to_owned()).or_default().push(loss);
    }
    paths.extend(losses.keys().cloned());
    let explained = paths.into_iter().map(|path| {
        let overridden = losses.remove(&path).unwrap_or_default();
        let setting = resolution.settings.get(path.as_str());
        property(twin, path, setting, overridden)
    });
    explained.collect()
}

fn property(
    twin: &Twin,
    path: String,
    setting: Option<&Setting>,
    overridden: Vec<ExplainedLoss>,
) -> ExplainedProperty {
    let desired = &twin.desired;
    let mut names = path.split('.');
    let first = names.next().and_then(|name| desired.values.get(name));
    let value = names.try_fold(first, |value, name| Some(value?.get(name))).flatten();
    let node: Option<&Metadata> =
        path.split('.').try_fold(&desired.metadata, |node, name| node.children.get(name));
    let stamp = node.filter(|_| value.is_some()).map(|node| &node.stamp);
    let is_leaf = value.is_some_and(|value| value.as_object().is_none_or(Object::is_empty));
    let is_met = setting.is_none_or(|setting| match (&*setting.value, value) {
        (Value::Null, present) => present.is_none(),
        // An object is wanted, no matter what is in it.
        (Value::Object(_), Some(Value::Object(_))) => true,
        (wanted, present) => present == Some(wanted),
    });
    let wanting = |setting: &Setting| setting.by.configuration().clone();
    let set_by = match stamp.filter(|_| is_leaf) {
        Some(stamp) => Some(match &stamp.by {
            Some(by) => Setter::Configuration(by.configuration().clone()),
            None => {
                Setter::BackEnd(stamp.version.and_then(|version| twin.authors.of(version.get())).cloned())
            }
        }),
        None => setting.filter(|_| is_met).map(|setting| Setter::Configuration(wanting(setting))),
    };
    ExplainedProperty {
        set_by,
        set_at: stamp.map(|stamp| stamp.at),
        version: stamp.and_then(|stamp| stamp.version).map(|version| version.get()),
        wanted: setting.filter(|_| !is_met).map(|setting| (wanting(setting), Value::clone(&setting.value))),
        value: value.cloned(),
        path,
        overridden,
    }
}

/// Collects the paths of everything that is not an object with properties.
fn leaves<'v>(values: &'v Object, path: &mut Vec<&'v str>, into: &mut BTreeSet<String>) {
    for (name, value) in values {
        path.push(name);
        match value {
            Value::Object(inner) if !inner.is_empty() => leaves(inner, path, into),
            _ => {
                into.insert(path.join("."));
            }
        }
        path.pop();
    }
}

fn why_lost(lost: &Overridden, matching: &Matching) -> String {
    match &lost.loss {
        Loss::Outranked { by, at } => {
            let spec = |id| matching.get(id).map(|one| (one.spec().priority, one.revision().created));
            let winner = spec(by);
            let edge = match (winner, spec(&lost.configuration)) {
                (Some((high, _)), Some((low, _))) if high > low => {
                    format!("has priority {high} and this one {low}")
                }
                (Some((same, newer)), Some((_, older))) if newer > older => {
                    format!("has the same priority {same} and is newer")
                }
                _ => "has the same priority and age, and the smaller id".into(),
            };
            format!("configuration '{by}' sets {at}; it {edge}")
        }
        Loss::Replaced { by } => format!("deployment '{by}' says what is there as a whole"),
        Loss::NoDeploymentBelow => {
            "it is a layer, and no standard deployment with a lower priority targets the device".into()
        }
    }
}
