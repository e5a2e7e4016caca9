//! Configurations with gates: who waits for what, and people who override them. When a gate opens, whatever opened it brings
//! the twin up to its configurations: a write of the twin in its own commit (`settle`), time and the hub's context by
//! `reconcile::gated`.

use std::collections::BTreeMap;
use std::sync::Arc;

use hub_domain::configuration::{Admission, Configuration};
use hub_domain::context::{GatesOverride, Verdict};
use hub_domain::id::{ConfigurationId, TwinId};
use hub_domain::rights::Rights;
use hub_domain::time::Timestamp;
use hub_index::Entry;

use super::{ConfigurationView, contended};
use crate::Hub;
use crate::access::Principal;
use crate::error::{Error, Result};
use crate::rollouts::WaitingCount;

/// The twins that wait at the gates of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatesWaiting {
    /// How many.
    pub twins: u64,
    /// By gate and code; one with several closed gates is counted with each.
    pub reasons: BTreeMap<String, WaitingCount>,
}

impl GatesWaiting {
    pub(super) fn count(&mut self, id: &TwinId, verdict: &Verdict) {
        self.twins += 1;
        for reason in &verdict.reasons {
            WaitingCount::add(&mut self.reasons, reason.key(), id, reason.next);
        }
    }
}

impl Hub {
    /// Counts who waits at the gates of a configuration; `None` if it has none.
    pub(super) async fn gates_waiting(&self, configuration: &Configuration) -> Option<GatesWaiting> {
        configuration.gating()?;
        let (context, now) = (self.context.current(), self.now());
        let mut waiting = GatesWaiting::default();
        self.each_match(configuration, |entry| {
            let document = entry.document();
            if configuration.targets(&document)
                && let Admission::Held(verdict) = configuration.admission(&document, &context, now)
            {
                waiting.count(entry.id(), &verdict);
            }
        })
        .await;
        Some(waiting)
    }

    /// Whether a twin waits at a gate of any configuration, and when time alone could change that.
    pub(crate) fn gates_next(&self, entry: &Entry, now: Timestamp) -> Option<Option<Timestamp>> {
        let set = self.configurations.current();
        let document = entry.document();
        let listed = entry.twin.let_in.keys().filter_map(|id| set.get(id));
        let mut held = listed.filter(|one| one.must_be_let_in(&document)).peekable();
        held.peek()?;
        let context = self.context.current();
        let next = held.filter_map(|one| match one.admission(&document, &context, now) {
            Admission::Held(verdict) => verdict.next_change,
            // It opened: now is the time.
            _ => Some(now),
        });
        Some(next.min())
    }

    /// Lets every twin of a configuration go whatever its gates say, and records who said so and why.
    pub async fn configuration_override_gates(
        &self,
        who: &Principal,
        id: &ConfigurationId,
        reason: &str,
    ) -> Result<ConfigurationView> {
        who.must(Rights::REGISTRY_WRITE)?;
        for mut txn in self.attempts() {
            let set = txn.configurations();
            let former = set.get(id).ok_or_else(|| Error::ConfigurationNotFound(id.clone()))?;
            let by = GatesOverride::new(who.actor(), reason, txn.now());
            let by = by.map_err(|error| Error::Invalid(error.to_string()))?;
            let overridden = Arc::new(former.override_gates(by).map_err(Error::Conflict)?);
            txn.put_configuration(id, Some(overridden.clone()));
            if txn.commit().await? {
                return self.configuration_view(overridden).await;
            }
        }
        Err(contended(id))
    }
}
