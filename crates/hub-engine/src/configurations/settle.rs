//! The one door through which twins are written: brings each to what the configurations that target it want, in the same
//! commit that changes it. So there is no moment at which a twin has left a target and still has its values.
//!
//! Only the conditions that the change can concern are evaluated: which configurations matched before is in the twin.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hub_domain::configuration::{
    Admission, Configuration, Contender, ContentKind, EDGE_AGENT, Resolution, resolve,
};
use hub_domain::context::{GatesOverride, Reason};
use hub_domain::event::{Event, EventKind, GatesOf};
use hub_domain::id::{ConfigurationId, TwinId};
use hub_domain::identity::Identity;
use hub_domain::time::Timestamp;
use hub_domain::twin::{ConfigurationStatus, Connection, PackedTwin, Twin, TwinDocument};
use hub_index::Change;

use super::Matching;
use super::set::{ConfigurationSet, Touched};
use crate::Hub;
use crate::config::GATES_PROOF_SLACK_SECONDS;
use crate::transact::Txn;
use crate::twins::configured_event;

/// A twin with its owner, within a transaction.
#[derive(Clone)]
pub(super) struct Current {
    pub(super) identity: Arc<Identity>,
    pub(super) twin: Arc<Twin>,
    pub(super) connection: Connection,
}

impl Current {
    pub(super) fn document(&self) -> TwinDocument<'_> {
        TwinDocument { identity: &self.identity, twin: &self.twin, connection: self.connection }
    }
}

impl Txn<'_> {
    /// Writes a twin, with what its configurations want after this change of it.
    pub(crate) fn put_twin(&mut self, id: &TwinId, twin: Twin, touched: Touched<'_>) -> Arc<Twin> {
        let packed = PackedTwin::new(&twin);
        self.put_packed_twin(id, twin, packed, touched)
    }

    /// The same for who has it packed already.
    pub(crate) fn put_packed_twin(
        &mut self,
        id: &TwinId,
        twin: Twin,
        packed: PackedTwin,
        touched: Touched<'_>,
    ) -> Arc<Twin> {
        let set = self.configurations();
        let is_plain = set.is_empty() && twin.configurations.is_empty();
        let twin = self.put_settled_twin(id, twin, packed);
        if is_plain { twin } else { self.settle(&set, id, touched).unwrap_or(twin) }
    }

    /// Brings the configurations of a twin up to a change of its owner, if any condition reads that.
    pub(crate) fn settle_owner(&mut self, id: &TwinId, touched: Touched<'_>, connection: Option<Connection>) {
        let set = self.configurations();
        let kinds =
            [if id.is_module() { ContentKind::Module } else { ContentKind::Device }, ContentKind::Edge];
        let concerned = kinds.into_iter().any(|kind| set.reads(kind, touched));
        if concerned && self.twin_entry(id).is_ok() {
            self.connection = connection.map(|connection| (id.clone(), connection));
            self.settle(&set, id, touched);
        }
    }

    /// Settles a twin, and the modules of an edge device whose deployments changed. `Some` if it was written anew.
    pub(crate) fn settle(
        &mut self,
        set: &ConfigurationSet,
        id: &TwinId,
        touched: Touched<'_>,
    ) -> Option<Arc<Twin>> {
        let current = self.current(id)?;
        let (matching, changed) = self.matching(set, &current, touched);
        let owned_touched = touched.desired() && (!matching.is_empty() || touched.is_forced());
        // Nobody else looks when the context of a twin changes: gates may read anything.
        let waits = matching.values().any(|one| one.must_be_let_in(&current.document()));
        let concerned = changed || owned_touched || waits;
        let written = concerned.then(|| self.apply(&current, &matching, touched)).flatten();
        if !id.is_module() {
            let twin = written.clone().unwrap_or_else(|| current.twin.clone());
            self.settle_edge_modules(set, &Current { twin, ..current }, touched);
        }
        written
    }

    /// The configurations that target a twin after a change, and whether they are others than before.
    fn matching(&self, set: &ConfigurationSet, current: &Current, touched: Touched<'_>) -> (Matching, bool) {
        let id = &current.identity.id;
        let kind = if id.is_module() { ContentKind::Module } else { ContentKind::Device };
        let mut matching = Matching::new();
        let mut changed = false;
        let document = current.document();
        // An edge agent lists deployments, too, which are looked up at the device, below.
        let is_own = |configuration: &Configuration| match configuration.spec().content.kind() {
            ContentKind::Edge => !id.is_module() && configuration.gating().is_some(),
            of => of == kind,
        };
        let Twin { configurations, let_in, .. } = &*current.twin;
        for known in configurations.keys().chain(let_in.keys()) {
            match set.get(known) {
                Some(configuration) if is_own(configuration) && configuration.targets(&document) => {
                    matching.insert(known.clone(), configuration.clone());
                }
                Some(configuration)
                    if id.is_module() && configuration.spec().content.kind() == ContentKind::Edge => {}
                _ => changed = true,
            }
        }
        // Those that target it already were just looked at, so only new ones are looked for.
        let mut new = set.concerned(kind, touched, None, &document);
        if current.identity.edge && !id.is_module() && set.any_gated() {
            // It may have become an edge device just now.
            let touched = if matches!(touched, Touched::Identity) { Touched::All } else { touched };
            new.extend(set.concerned(ContentKind::Edge, touched, None, &document));
        }
        for configuration in new {
            let id = &configuration.spec().id;
            if !matching.contains_key(id) && is_own(configuration) && configuration.targets(&document) {
                matching.insert(id.clone(), configuration.clone());
                changed = true;
            }
        }
        if id.is_module() {
            let deployments = self.deployments(set, id);
            changed |= matches!(touched, Touched::All) && !deployments.is_empty();
            matching.extend(deployments);
        }
        (matching, changed)
    }

    /// The edge deployments that target the device of a module.
    pub(super) fn deployments(&self, set: &ConfigurationSet, module: &TwinId) -> Matching {
        if !set.has_kind(ContentKind::Edge) {
            return Matching::new();
        }
        let device = self.current(&TwinId::device(module.device.clone()));
        device.map(|device| set.deployments(&device.document())).unwrap_or_default()
    }

    fn settle_edge_modules(&mut self, set: &ConfigurationSet, device: &Current, touched: Touched<'_>) {
        let id = &device.identity.id;
        // The modules of a new one come after it.
        let Some(before) = self.hub.index.get(id) else { return };
        let (was_edge, is_edge) = (before.identity.edge, device.identity.edge);
        if !was_edge && !is_edge {
            return;
        }
        let (old, new) = (before.document(), device.document());
        let differs = || {
            let mut concerned = set.concerned(ContentKind::Edge, touched, Some(&old), &new).into_iter();
            concerned.any(|configuration| configuration.targets(&old) != configuration.targets(&new))
        };
        let is_let_in = before.twin.let_in != device.twin.let_in;
        if !touched.is_forced() && was_edge == is_edge && !is_let_in && !differs() {
            return;
        }
        for module in self.hub.index.modules_of(&id.device) {
            if self.twin_entry(module.id()).is_err() {
                continue;
            }
            let Some(current) = self.current(module.id()) else { continue };
            let (matching, _) = self.matching(set, &current, touched);
            self.apply(&current, &matching, touched);
        }
    }

    /// Writes the twin as these configurations want it. `None` if it is so already.
    pub(super) fn apply(
        &mut self,
        current: &Current,
        matching: &Matching,
        touched: Touched<'_>,
    ) -> Option<Arc<Twin>> {
        let id = &current.identity.id;
        let device = id.is_module().then(|| self.current(&TwinId::device(id.device.clone()))).flatten();
        let device = device.as_ref().map(Current::document);
        let document = current.document();
        let as_of = gates_as_of(touched, self.now());
        let admissions = self.hub.admissions(&document, device.as_ref(), matching, as_of);
        let contenders: Vec<Contender<'_>> =
            admissions.iter().map(|(one, admission)| one.contender(&document, admission)).collect();
        let resolution = resolve(id.module.as_ref(), &contenders);
        match current.twin.apply(&resolution, self.now()) {
            Ok(None) => None,
            Ok(Some((twin, change))) => {
                for (configuration, admission) in &admissions {
                    let told = overridden(configuration, admission, &document, self.now());
                    told.iter().for_each(|event| self.event(event));
                }
                if let Some(patch) = &change.desired {
                    self.tell_desired(id, patch.clone(), twin.desired.version);
                    configured_event(self, id, (&current.twin, &twin), &change);
                }
                let packed = PackedTwin::new(&twin);
                let twin = self.put_settled_twin(id, twin, packed);
                if change.desired.is_some()
                    && id.module.as_ref().is_some_and(|module| module.as_str() == EDGE_AGENT)
                {
                    if let Err(error) = self.delete_modules_not_to_run(id, &current.twin, &twin, |_| false) {
                        tracing::warn!(%id, %error, "modules that a deployment dropped cannot be deleted");
                    }
                    self.put_modules_to_run(id, &twin);
                }
                Some(twin)
            }
            Err(error) => {
                tracing::warn!(%id, %error, "the configurations of a twin do not fit into it");
                self.hub.counters.configurations_misfit.fetch_add(1, Ordering::Relaxed);
                let (statuses, let_in) = (misfit(&current.twin, &resolution), resolution.let_in);
                if statuses == current.twin.configurations && let_in == current.twin.let_in {
                    return None;
                }
                let etag_counter = current.twin.etag_counter + 1;
                let twin =
                    Twin { etag_counter, configurations: statuses, let_in, ..Twin::clone(&current.twin) };
                let packed = PackedTwin::new(&twin);
                Some(self.put_settled_twin(id, twin, packed))
            }
        }
    }

    /// A twin as this transaction has it so far, or else as it is; `None` if it is not there, or goes.
    pub(super) fn current(&self, id: &TwinId) -> Option<Current> {
        let concerns = |change: &&Change| match change {
            Change::Identity(changed) => changed.id == *id,
            Change::Twin(changed, ..) | Change::Deleted(changed) => changed == id,
        };
        if matches!(self.changes().iter().rev().find(concerns), Some(Change::Deleted(_))) {
            return None;
        }
        let entry = self.hub.index.get(id);
        let (mut identity, mut twin) = (None, None);
        for change in self.changes().iter().rev() {
            match change {
                Change::Identity(changed) if changed.id == *id => {
                    identity = identity.or_else(|| Some(changed.clone()));
                }
                Change::Twin(changed, of, _) if changed == id => twin = twin.or_else(|| Some(of.clone())),
                _ => {}
            }
        }
        let connection =
            self.connection.as_ref().filter(|(of, _)| of == id).map(|(_, connection)| *connection);
        let known = entry.as_ref();
        Some(Current {
            identity: identity.or_else(|| known.map(|entry| entry.identity.clone()))?,
            twin: twin.or_else(|| known.map(|entry| entry.twin.clone()))?,
            connection: connection
                .or_else(|| known.map(|entry| entry.live.connection()))
                .unwrap_or(Connection::NEVER),
        })
    }
}

impl Hub {
    /// Whether each of these configurations may write to a twin that they target, which is of a module of `device`.
    pub(super) fn admissions<'m>(
        &self,
        twin: &TwinDocument<'_>,
        device: Option<&TwinDocument<'_>>,
        matching: &'m Matching,
        now: Timestamp,
    ) -> Vec<(&'m Arc<Configuration>, Admission)> {
        let context = self.context.current();
        let lets_in =
            |one: &Configuration| if one.is_let_in_by(twin) { twin } else { device.unwrap_or(twin) };
        matching.values().map(|one| (one, one.admission(lets_in(one), &context, now))).collect()
    }
}

/// As of when gates are looked at. Whoever proves that nothing was missed must not take a gate that opened just now for one.
fn gates_as_of(touched: Touched<'_>, now: Timestamp) -> Timestamp {
    match touched {
        Touched::Unknown => Timestamp::from_seconds(now.seconds() - GATES_PROOF_SLACK_SECONDS),
        _ => now,
    }
}

/// What is told of a twin that is written to although gates are closed, because somebody said so.
fn overridden(
    configuration: &Configuration,
    admission: &Admission,
    twin: &TwinDocument<'_>,
    now: Timestamp,
) -> Option<Event> {
    let Admission::Open(closed) = admission else { return None };
    let tells = configuration.is_let_in_by(twin) && !closed.is_empty();
    let GatesOverride { by, reason, .. } = configuration.gating()?.overridden.clone()?;
    let kind = EventKind::Override {
        gates_of: GatesOf::Configuration(configuration.spec().id.clone()),
        reason,
        closed: closed.iter().map(Reason::key).collect(),
        actor: by,
    };
    tells.then(|| Event { time: now, id: twin.identity.id.clone(), kind })
}

/// How configurations fare that together do not fit into a twin: who was applied stays so, the others only target it.
fn misfit(twin: &Twin, resolution: &Resolution) -> BTreeMap<ConfigurationId, ConfigurationStatus> {
    let status =
        |id: &ConfigurationId| twin.configurations.get(id).copied().unwrap_or(ConfigurationStatus::Targeted);
    resolution.statuses.keys().map(|id| (id.clone(), status(id))).collect()
}
