//! Dry run: what would change if configurations were written or removed, twin by twin, before anything is.
//! It writes nothing, and decides by the same resolution as the real thing. A new configuration with a rollout is shown as it
//! is when all of its waves are open.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hub_domain::configuration::{
    Admission, Configuration, ConfigurationSpec, ContentKind, Loss, Overridden, Resolution, resolve,
};
use hub_domain::context::Verdict;
use hub_domain::id::{ConfigurationId, TwinId};
use hub_domain::json::Object;
use hub_index::Entry;
use serde_json::Value;

use super::gated::GatesWaiting;
use super::set::ConfigurationSet;
use super::{Matching, may_read};
use crate::Hub;
use crate::access::Principal;
use crate::error::{Error, Result};
use crate::reconcile::Chunks;

/// What is asked about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PreviewRequest {
    /// Configurations to write.
    pub put: Vec<ConfigurationSpec>,
    /// Configurations to remove.
    pub remove: Vec<ConfigurationId>,
    /// How many twins are shown at most; all are counted.
    pub shown_max: usize,
}

/// What would change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Preview {
    /// Twins that were looked at.
    pub looked_at: u64,
    /// Twins of which anything would change.
    pub touched: u64,
    /// Twins whose desired properties would change.
    pub changed: u64,
    /// Twins that could not take it.
    pub misfit: u64,
    /// How each configuration of the request would fare.
    pub configurations: BTreeMap<ConfigurationId, PreviewFares>,
    /// The first of the twins that would change.
    pub twins: Vec<TwinPreview>,
}

/// How a configuration would fare, in twins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PreviewFares {
    /// That it would target and does not now.
    pub enter: u64,
    /// That it targets now and would not.
    pub leave: u64,
    /// That it would target.
    pub targeted: u64,
    /// Where another configuration would win one of its paths.
    pub conflicts: u64,
    /// How many in which wave, if it is new and has a rollout.
    pub waves: Vec<u64>,
    /// How many would wait at a gate now, if it has gates.
    pub waiting: GatesWaiting,
}

impl PreviewFares {
    fn wait_for(&mut self, id: &TwinId, verdict: &Verdict) {
        self.waiting.count(id, verdict);
    }
}

/// What would change of one twin.
#[derive(Clone, Debug, PartialEq)]
pub struct TwinPreview {
    /// Which.
    pub id: TwinId,
    /// Configurations that would come to it.
    pub enters: Vec<ConfigurationId>,
    /// Configurations that would leave it.
    pub leaves: Vec<ConfigurationId>,
    /// Desired properties that would change.
    pub changes: Vec<PathPreview>,
    /// Settings that would lose.
    pub conflicts: Vec<Overridden>,
    /// Why it could not take it.
    pub error: Option<String>,
}

/// What would become of a path.
#[derive(Clone, Debug, PartialEq)]
pub struct PathPreview {
    /// The names below the desired section, with dots between them.
    pub path: String,
    /// What is there now.
    pub from: Option<Value>,
    /// What would be.
    pub to: Option<Value>,
    /// Which configuration would own it.
    pub by: Option<ConfigurationId>,
}

impl Hub {
    /// Says what writing and removing these configurations would do, and does nothing.
    pub async fn configurations_preview(&self, who: &Principal, request: PreviewRequest) -> Result<Preview> {
        may_read(who)?;
        let now = self.configurations.current();
        let (then, changed) = self.hypothetical(&now, &request)?;
        let mut preview = Preview::default();
        preview.configurations.extend(changed.iter().map(|id| (id.clone(), PreviewFares::default())));
        let mut chunks = Chunks::default();
        while let Some(entries) = chunks.next(self).await {
            for entry in entries {
                preview.looked_at += 1;
                let (before, after) =
                    (self.known(&now, &entry), self.would_match(&now, &then, &changed, &entry));
                let concerned = before.keys().chain(after.keys()).any(|id| changed.contains(id));
                if concerned {
                    self.preview_twin(&mut preview, &entry, &before, &after, &changed, request.shown_max);
                }
            }
        }
        for spec in request.put.iter().filter(|spec| now.get(&spec.id).is_none()) {
            let (Some(staging), Some(fares)) = (&spec.rollout, preview.configurations.get_mut(&spec.id))
            else {
                continue;
            };
            let mut count = 0;
            if let Some(new) = then.get(&spec.id) {
                self.each_match(new, |_| count += 1).await;
            }
            let sizes = staging.policy.waves.sizes(count);
            fares.waves = sizes.map_err(|error| Error::Invalid(error.to_string()))?;
        }
        Ok(preview)
    }

    fn hypothetical(
        &self,
        now: &ConfigurationSet,
        request: &PreviewRequest,
    ) -> Result<(ConfigurationSet, BTreeSet<ConfigurationId>)> {
        let mut then = now.clone();
        let mut changed = BTreeSet::new();
        for spec in &request.put {
            let time = self.clock.now();
            let configuration = match now.get(&spec.id) {
                Some(former) => former.update(spec.clone(), true, time)?,
                None => Configuration::create(spec.clone(), time),
            };
            changed.insert(spec.id.clone());
            then.put(now.epoch, &spec.id, Some(Arc::new(configuration)));
        }
        for id in &request.remove {
            if then.get(id).is_none() {
                return Err(Error::ConfigurationNotFound(id.clone()));
            }
            then.put(now.epoch, id, None);
            changed.insert(id.clone());
        }
        Ok((then, changed))
    }

    /// The configurations that target a twin now, as it notes them, and the deployments of its device.
    fn known(&self, set: &ConfigurationSet, entry: &Entry) -> Matching {
        let kind = kind_of(entry);
        let noted = entry.twin.configurations.keys().filter_map(|id| set.get(id));
        let own = noted.filter(|configuration| configuration.spec().content.kind() == kind);
        own.map(named).chain(self.deployments_of(set, entry)).collect()
    }

    fn would_match(
        &self,
        now: &ConfigurationSet,
        then: &ConfigurationSet,
        changed: &BTreeSet<ConfigurationId>,
        entry: &Entry,
    ) -> Matching {
        let mut matching = self.known(now, entry);
        matching.retain(|id, one| !changed.contains(id) && one.spec().content.kind() != ContentKind::Edge);
        let document = entry.document();
        let new = then.changed(kind_of(entry), changed);
        matching.extend(new.filter(|one| one.targets(&document)).map(named));
        matching.extend(self.deployments_of(then, entry));
        matching
    }

    fn deployments_of(&self, set: &ConfigurationSet, entry: &Entry) -> Matching {
        if !entry.id().is_module() || !set.has_kind(ContentKind::Edge) {
            return Matching::new();
        }
        let device = self.index.get(&TwinId::device(entry.id().device.clone()));
        device.map(|device| set.deployments(&device.document())).unwrap_or_default()
    }

    fn preview_twin(
        &self,
        preview: &mut Preview,
        entry: &Entry,
        before: &Matching,
        after: &Matching,
        changed: &BTreeSet<ConfigurationId>,
        shown_max: usize,
    ) {
        let device_id = TwinId::device(entry.id().device.clone());
        let device = entry.id().is_module().then(|| self.index.get(&device_id)).flatten();
        let device = device.as_ref().map(|device| device.document());
        let document = entry.document();
        let admissions = self.admissions(&document, device.as_ref(), after, self.now());
        let contenders = admissions.iter().map(|(one, admission)| {
            let id = &one.spec().id;
            if !changed.contains(id) || *admission == Admission::Free {
                return one.contender(&document, admission);
            }
            if let Admission::Held(verdict) = admission {
                let waits = if one.is_let_in_by(&document) { entry.id() } else { &device_id };
                // Of a device's modules one is counted.
                if one.shown_by(waits) == *entry.id() {
                    preview.configurations.entry(id.clone()).or_default().wait_for(waits, verdict);
                }
            }
            // Shown as it is when its gates are open.
            one.contender(&document, &Admission::LetIn)
        });
        let resolution = resolve(entry.id().module.as_ref(), &contenders.collect::<Vec<_>>());
        let only = |these: &Matching, those: &Matching| -> Vec<ConfigurationId> {
            these.keys().filter(|id| !those.contains_key(*id)).cloned().collect()
        };
        let mut twin = TwinPreview {
            id: entry.id().clone(),
            enters: only(after, before),
            leaves: only(before, after),
            changes: Vec::new(),
            conflicts: outranked(&resolution, changed),
            error: None,
        };
        match entry.twin.apply(&resolution, self.clock.now()) {
            Ok(Some((new, _))) => {
                let (from, to) = (&entry.twin.desired.values, &new.desired.values);
                differences(from, to, &mut Vec::new(), &mut |path, from, to| {
                    let by = resolution.settings.get(path.as_str()).map(|one| one.by.configuration().clone());
                    twin.changes.push(PathPreview { path, from, to, by });
                });
            }
            Ok(None) => {}
            Err(error) => twin.error = Some(error.to_string()),
        }
        count(preview, &twin, after, changed);
        let differs = !(twin.enters.is_empty() && twin.leaves.is_empty() && twin.changes.is_empty());
        if differs || twin.error.is_some() {
            preview.touched += 1;
            if preview.twins.len() < shown_max {
                preview.twins.push(twin);
            }
        }
    }
}

fn kind_of(entry: &Entry) -> ContentKind {
    if entry.id().is_module() { ContentKind::Module } else { ContentKind::Device }
}

fn named(configuration: &Arc<Configuration>) -> (ConfigurationId, Arc<Configuration>) {
    (configuration.spec().id.clone(), configuration.clone())
}

/// The settings that lose because of the request: one of the two is of a configuration that it changes.
fn outranked(resolution: &Resolution, changed: &BTreeSet<ConfigurationId>) -> Vec<Overridden> {
    let concerns = |one: &&Overridden| {
        let winner = match &one.loss {
            Loss::Outranked { by, .. } | Loss::Replaced { by } => changed.contains(by),
            Loss::NoDeploymentBelow => false,
        };
        winner || changed.contains(&one.configuration)
    };
    resolution.overridden.iter().filter(concerns).cloned().collect()
}

fn count(preview: &mut Preview, twin: &TwinPreview, after: &Matching, changed: &BTreeSet<ConfigurationId>) {
    preview.changed += u64::from(!twin.changes.is_empty());
    preview.misfit += u64::from(twin.error.is_some());
    for id in changed {
        let fares = preview.configurations.entry(id.clone()).or_default();
        fares.enter += u64::from(twin.enters.contains(id));
        fares.leave += u64::from(twin.leaves.contains(id));
        fares.targeted += u64::from(after.contains_key(id));
        fares.conflicts += u64::from(twin.conflicts.iter().any(|one| one.configuration == *id));
    }
}

/// Tells each leaf that is not the same in both.
fn differences(
    from: &Object,
    to: &Object,
    path: &mut Vec<String>,
    tell: &mut impl FnMut(String, Option<Value>, Option<Value>),
) {
    let names: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    for name in names {
        path.push(name.clone());
        match (from.get(name), to.get(name)) {
            (Some(Value::Object(from)), Some(Value::Object(to))) => differences(from, to, path, tell),
            (from, to) if from != to => tell(path.join("."), from.cloned(), to.cloned()),
            _ => {}
        }
        path.pop();
    }
}
