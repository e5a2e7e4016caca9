//! Configurations that come into force wave by wave: planned when they are created, counted when somebody looks, decided
//! about by people. What follows from the counts is `hub_domain`'s to say, and a wave that opens is a write of the
//! configuration like any other: `reconcile::configurations` brings the twins of the wave up to it.

use std::sync::Arc;

use hub_domain::actor::Actor;
use hub_domain::configuration::{Configuration, ConfigurationSpec, ContentKind, Stages};
use hub_domain::id::ConfigurationId;
use hub_domain::rights::Rights;
use hub_domain::time::Timestamp;
use hub_index::{Entry, Next, Source};

use super::{ConfigurationView, contended};
use crate::Hub;
use crate::access::Principal;
use crate::clock::random_bytes;
use crate::error::{Error, Result};
use crate::rollouts::Decision;

impl Hub {
    /// A new configuration. Of one with a rollout nothing is in force yet.
    pub(super) async fn new_configuration(
        &self,
        actor: &Actor,
        mut spec: ConfigurationSpec,
        now: Timestamp,
    ) -> Result<Configuration> {
        let Some(staging) = &mut spec.rollout else {
            return Ok(Configuration::create(spec, now).signed(actor));
        };
        staging.policy = staging.policy.clone().with_seed(u64::from_le_bytes(random_bytes()));
        let staging = staging.clone();
        let configuration = Configuration::create(spec, now).signed(actor);
        let mut numbers = Vec::new();
        self.each_match(&configuration, |entry| numbers.push(staging.number(entry.id()))).await;
        let stages = Stages::plan(&staging, &actor.to_string(), numbers)?;
        Ok(configuration.staged(Some(stages)))
    }

    /// Looks at every twin that the target condition may match.
    pub(super) async fn each_match(&self, configuration: &Configuration, mut see: impl FnMut(&Entry)) {
        let source = match configuration.spec().content.kind() {
            ContentKind::Module => Source::Modules,
            ContentKind::Device | ContentKind::Edge => Source::Devices,
        };
        let condition = configuration.spec().target.condition();
        let mut selection = self.index.select(source, condition, [], None);
        loop {
            match selection.next() {
                Next::Found(row) => see(&row.open()),
                Next::Pause => tokio::task::yield_now().await,
                Next::End => return,
            }
        }
    }

    /// How the twins of each wave fare now; `None` without waves.
    async fn stages_now(&self, configuration: &Configuration) -> Option<Stages> {
        let mut stages = configuration.stages()?.uncounted();
        let now = self.now();
        self.each_match(configuration, |entry| {
            let document = entry.document();
            let shown_by = configuration.shown_by(entry.id());
            let other = (shown_by != *entry.id()).then(|| self.index.get(&shown_by)).flatten();
            let shown_by = other.as_ref().map_or(document, |other| other.document());
            if let Some((wave, standing)) = configuration.standing(&document, &shown_by, now) {
                stages.count(wave, standing);
            }
        })
        .await;
        Some(stages)
    }

    /// The configuration with fresh counts of its waves.
    pub(super) async fn counted(&self, configuration: Arc<Configuration>) -> Arc<Configuration> {
        match self.stages_now(&configuration).await {
            Some(stages) => Arc::new(Configuration::clone(&configuration).staged(Some(stages))),
            None => configuration,
        }
    }

    /// Opens the next wave, stops, or ends, if it is time for that. `false`: nothing was to be done, or somebody wrote a
    /// configuration meanwhile, and it is to be looked at again.
    pub(crate) async fn configuration_advance(&self, id: &ConfigurationId) -> Result<bool> {
        let set = self.configurations.current();
        let Some(configuration) = set.get(id) else { return Ok(false) };
        let Some(staging) = &configuration.spec().rollout else { return Ok(false) };
        let Some(mut stages) = self.stages_now(configuration).await else { return Ok(false) };
        if !stages.advance(&staging.policy, self.now()) {
            return Ok(false);
        }
        let Some(mut txn) = self.attempts().next() else { return Ok(false) };
        if txn.configurations().epoch != set.epoch {
            return Ok(false);
        }
        let advanced = Configuration::clone(configuration).staged(Some(stages));
        txn.put_configuration(id, Some(Arc::new(advanced)));
        txn.commit().await
    }

    /// Decides about the rollout of a configuration, as whoever asks.
    pub async fn configuration_decide(
        &self,
        who: &Principal,
        id: &ConfigurationId,
        decision: &Decision,
    ) -> Result<ConfigurationView> {
        who.must(Rights::REGISTRY_WRITE)?;
        let by = who.actor().to_string();
        for mut txn in self.attempts() {
            let set = txn.configurations();
            let former = set.get(id).ok_or_else(|| Error::ConfigurationNotFound(id.clone()))?;
            let (Some(staging), Some(mut stages)) = (&former.spec().rollout, former.stages().cloned()) else {
                return Err(Error::Conflict(format!(
                    "configuration '{id}' has no rollout: it is in force everywhere"
                )));
            };
            decision.apply(&staging.policy, stages.state_mut(), &by, txn.now())?;
            let decided = Arc::new(Configuration::clone(former).staged(Some(stages)));
            txn.put_configuration(id, Some(decided.clone()));
            if txn.commit().await? {
                return self.configuration_view(decided).await;
            }
        }
        Err(contended(id))
    }
}
