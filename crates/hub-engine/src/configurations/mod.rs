//! Automatic configurations: create, read, change and delete them, and count how they fare (S 8).
//!
//! [`staged`] is about those that come into force wave by wave, [`gated`] about those that wait for the context of twins. [`settle`] keeps twins as their configurations want them whenever a twin changes; `reconcile::configurations` goes over
//! the twins when a configuration changes. Which configuration wins is `hub_domain::configuration`'s to say.

mod apply;
pub mod explain;
pub mod gated;
mod import;
pub mod preview;
mod set;
mod settle;
mod staged;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hub_domain::configuration::{Configuration, ConfigurationSpec, Metric, TargetCondition};
use hub_domain::id::ConfigurationId;
use hub_domain::limits::CONFIGURATIONS_MAX;
use hub_domain::rights::Rights;
use hub_domain::version::Precondition;
use hub_store::{PageLen, Store, keys, tables};
use tokio::sync::Notify;

pub(crate) use set::{ConfigurationSet, Touched};

use crate::Hub;
use crate::access::Principal;
use crate::error::{Error, Result};
use gated::GatesWaiting;

/// The row that every write of a configuration writes too, so that who decided by the former ones notices.
pub(crate) const CONFIGURATIONS_EPOCH: &str = "configurations-epoch";
/// The epoch up to which all twins were brought up to their configurations.
pub(crate) const CONFIGURATIONS_SWEPT: &str = "configurations-swept";

/// Configurations that target a twin, by id.
type Matching = BTreeMap<ConfigurationId, Arc<Configuration>>;

/// What this process knows of configurations.
#[derive(Debug)]
pub(crate) struct Configurations {
    state: Mutex<State>,
    /// Wakes the one that goes over the twins.
    pub(crate) poke: Notify,
}

#[derive(Debug)]
struct State {
    set: Arc<ConfigurationSet>,
    /// Those that twins were not brought up to yet, each with the commit that wrote it last.
    unswept: BTreeMap<ConfigurationId, u64>,
    swept: u64,
}

/// What twins must be brought up to.
pub(crate) struct Unswept {
    pub(crate) set: Arc<ConfigurationSet>,
    pub(crate) changed: BTreeSet<ConfigurationId>,
}

impl Configurations {
    /// From the store, as the last commit left it.
    pub(crate) async fn load(store: &dyn Store) -> Result<Self> {
        let epoch = tables::meta::version(store, CONFIGURATIONS_EPOCH).await?.map_or(0, |commit| commit.0);
        let swept = tables::meta::get(store, CONFIGURATIONS_SWEPT).await?;
        let swept = swept.and_then(|text| text.parse().ok()).unwrap_or(0);
        let (mut set, mut unswept) = (ConfigurationSet::default(), BTreeMap::new());
        let mut rest = Some(keys::configurations());
        while let Some(range) = rest {
            let page = tables::configurations::page(store, range, PageLen::MAX).await?;
            for (configuration, version) in page.entries {
                let id = configuration.spec().id.clone();
                set.put(epoch, &id, Some(Arc::new(configuration)));
                if version.0 > swept {
                    unswept.insert(id, version.0);
                }
            }
            rest = page.rest;
        }
        set.epoch = epoch;
        let state = State { set: Arc::new(set), unswept, swept };
        Ok(Self { state: Mutex::new(state), poke: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As the newest visible commit left them.
    pub(crate) fn current(&self) -> Arc<ConfigurationSet> {
        self.state().set.clone()
    }

    /// Commit `number` wrote a configuration, or removed it.
    pub(crate) fn show(&self, number: u64, id: &ConfigurationId, configuration: Option<Arc<Configuration>>) {
        let mut state = self.state();
        let mut set = ConfigurationSet::clone(&state.set);
        set.put(number, id, configuration);
        state.set = Arc::new(set);
        state.unswept.insert(id.clone(), number);
        self.poke.notify_one();
    }

    /// What is to be done, if anything is.
    pub(crate) fn unswept(&self) -> Option<Unswept> {
        let state = self.state();
        let behind = state.swept < state.set.epoch;
        behind.then(|| Unswept { set: state.set.clone(), changed: state.unswept.keys().cloned().collect() })
    }

    /// All twins are as `done` wants them.
    pub(crate) fn note_swept(&self, done: &Unswept) {
        let mut state = self.state();
        state.swept = done.set.epoch;
        state.unswept.retain(|_, number| *number > done.set.epoch);
    }
}

/// A configuration with how it fares.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigurationView {
    /// The configuration.
    pub configuration: Arc<Configuration>,
    /// What the hub counts, by name.
    pub system: BTreeMap<String, u64>,
    /// Rows of its own metrics, by name.
    pub custom: BTreeMap<String, u64>,
    /// The twins that wait at its gates, if it has gates.
    pub waiting: Option<GatesWaiting>,
}

/// What a test of queries found wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryFindings {
    /// With the target condition.
    pub target_condition: Option<String>,
    /// With metrics, by name.
    pub metrics: BTreeMap<String, String>,
}

fn may_read(who: &Principal) -> Result<()> {
    who.must(Rights::SERVICE_CONNECT).or_else(|_| who.must(Rights::REGISTRY_READ))
}

impl Hub {
    /// Creates a configuration. Twins that it targets are brought up to it at once, after this returns.
    pub async fn configuration_create(
        &self,
        who: &Principal,
        spec: ConfigurationSpec,
    ) -> Result<ConfigurationView> {
        who.must(Rights::REGISTRY_WRITE)?;
        for mut txn in self.attempts() {
            let set = txn.configurations();
            if set.get(&spec.id).is_some() {
                return Err(Error::ConfigurationExists(spec.id));
            }
            if set.len() >= CONFIGURATIONS_MAX {
                return Err(Error::TooManyConfigurations);
            }
            let new = self.new_configuration(&who.actor(), spec.clone(), txn.now()).await?;
            let configuration = Arc::new(new);
            txn.put_configuration(&spec.id, Some(configuration.clone()));
            if txn.commit().await? {
                return self.configuration_view(configuration).await;
            }
        }
        Err(contended(&spec.id))
    }

    /// Changes a configuration that exists and is at the version that the caller demands.
    pub async fn configuration_update(
        &self,
        who: &Principal,
        spec: ConfigurationSpec,
        precondition: &Precondition,
    ) -> Result<ConfigurationView> {
        who.must(Rights::REGISTRY_WRITE)?;
        for mut txn in self.attempts() {
            let set = txn.configurations();
            let former = set.get(&spec.id).ok_or_else(|| Error::ConfigurationNotFound(spec.id.clone()))?;
            if !precondition.holds(&former.etag()) {
                return Err(Error::PreconditionFailed);
            }
            let editable = self.config.configuration_content_editable;
            let updated = former.update(spec.clone(), editable, txn.now())?;
            let configuration = Arc::new(updated.signed(&who.actor()));
            txn.put_configuration(&spec.id, Some(configuration.clone()));
            if txn.commit().await? {
                return self.configuration_view(configuration).await;
            }
        }
        Err(contended(&spec.id))
    }

    /// Deletes a configuration; what it wrote is taken away, and what it kept others from writing comes.
    pub async fn configuration_delete(
        &self,
        who: &Principal,
        id: &ConfigurationId,
        precondition: &Precondition,
    ) -> Result<()> {
        who.must(Rights::REGISTRY_WRITE)?;
        for mut txn in self.attempts() {
            let set = txn.configurations();
            let former = set.get(id).ok_or_else(|| Error::ConfigurationNotFound(id.clone()))?;
            if !precondition.holds(&former.etag()) {
                return Err(Error::PreconditionFailed);
            }
            txn.put_configuration(id, None);
            if txn.commit().await? {
                return Ok(());
            }
        }
        Err(contended(id))
    }

    /// Reads a configuration, with all its metrics as they are now.
    pub async fn configuration_get(
        &self,
        who: &Principal,
        id: &ConfigurationId,
    ) -> Result<ConfigurationView> {
        may_read(who)?;
        let set = self.configurations.current();
        let configuration = set.get(id).ok_or_else(|| Error::ConfigurationNotFound(id.clone()))?;
        self.configuration_view(configuration.clone()).await
    }

    /// All configurations in the order of their ids, at most `limit`.
    pub async fn configuration_list(&self, who: &Principal, limit: usize) -> Result<Vec<ConfigurationView>> {
        may_read(who)?;
        let set = self.configurations.current();
        let mut views = Vec::new();
        for configuration in set.all().take(limit) {
            views.push(self.configuration_view(configuration.clone()).await?);
        }
        Ok(views)
    }

    /// Says what is wrong with a condition and with queries of metrics, without writing anything.
    pub fn configuration_test_queries(
        &self,
        who: &Principal,
        target_condition: Option<&str>,
        metrics: &BTreeMap<String, String>,
    ) -> Result<QueryFindings> {
        may_read(who)?;
        let target_condition = target_condition.and_then(|text| TargetCondition::parse(text, None).err());
        let metrics = metrics.iter().filter_map(|(name, text)| {
            Metric::parse(name, text).err().map(|error| (name.clone(), error.to_string()))
        });
        Ok(QueryFindings {
            target_condition: target_condition.map(|error| error.to_string()),
            metrics: metrics.collect(),
        })
    }

    /// Whether all twins were brought up to the configurations as they are now.
    pub fn configurations_settled(&self) -> bool {
        self.configurations.unswept().is_none()
    }

    async fn configuration_view(&self, configuration: Arc<Configuration>) -> Result<ConfigurationView> {
        let configuration = self.counted(configuration).await;
        let fares = self.index.configuration_counts(&configuration.spec().id);
        let mut system = BTreeMap::new();
        for (name, query) in configuration.system_metrics() {
            // Counted as twins change; the others are few and of edge devices only.
            let count = match name {
                "targetedCount" => fares.targeted + fares.applied,
                "appliedCount" => fares.applied,
                _ => self.count_rows(&query).await?,
            };
            system.insert(name.to_owned(), count);
        }
        let mut custom = BTreeMap::new();
        for (name, metric) in &configuration.spec().metrics {
            custom.insert(name.clone(), self.count_rows(metric.text()).await?);
        }
        let waiting = self.gates_waiting(&configuration).await;
        Ok(ConfigurationView { configuration, system, custom, waiting })
    }
}

fn contended(id: &ConfigurationId) -> Error {
    Error::Throttled(format!("configuration '{id}' is being changed by many at once; try again"))
}

#[cfg(test)]
mod tests {
    use hub_domain::configuration::ContentKind;
    use hub_store::memory::MemoryStore;
    use serde_json::{Value, json};

    use super::*;

    fn configuration(id: &str, kind: &str, gates: Value) -> Arc<Configuration> {
        let target =
            if kind == "moduleContent" { "FROM devices.modules WHERE moduleId = 'm'" } else { "tags.a = 1" };
        let body = json!({"content": {kind: {}}, "targetCondition": target, "gates": gates});
        let spec = ConfigurationSpec::parse(ConfigurationId::parse(id).expect("an id"), &body);
        Arc::new(Configuration::create(spec.expect("a configuration"), hub_domain::time::Timestamp::NEVER))
    }

    fn ids<'s>(all: impl Iterator<Item = &'s Arc<Configuration>>) -> Vec<&'s str> {
        all.map(|one| one.spec().id.as_str()).collect()
    }

    #[tokio::test]
    async fn a_write_changes_no_former_set_and_is_to_be_swept_until_it_was() {
        let known = Configurations::load(&MemoryStore::new()).await.expect("an empty store");
        let show = |number, id: &str, configuration| {
            known.show(number, &ConfigurationId::parse(id).expect("an id"), configuration);
        };
        let power = json!({"power": {"minimumBatteryPercent": 50}});
        show(3, "b", Some(configuration("b", "deviceContent", Value::Null)));
        show(4, "a", Some(configuration("a", "moduleContent", power)));
        let (former, first) = (known.current(), known.unswept().expect("two writes"));
        assert!(first.changed.len() == 2);
        // Another kind, no gates; and one that goes.
        show(7, "a", Some(configuration("a", "deviceContent", Value::Null)));
        show(8, "b", None);
        let now = known.current();
        assert_eq!((former.epoch, former.any_gated(), ids(former.all())), (4, true, vec!["a", "b"]));
        assert_eq!(ids(former.of_kind(ContentKind::Module)), ["a"]);
        assert_eq!((now.epoch, now.any_gated(), now.len(), ids(now.all())), (8, false, 1, vec!["a"]));
        assert!(!now.has_kind(ContentKind::Module) && ids(now.of_kind(ContentKind::Device)) == ["a"]);

        known.note_swept(&first);
        let second = known.unswept().expect("two more");
        assert!(second.changed.len() == 2);
        show(9, "c", Some(configuration("c", "deviceContent", Value::Null)));
        known.note_swept(&second);
        let third = known.unswept().expect("one more");
        assert!(third.changed.iter().map(ConfigurationId::as_str).eq(["c"]));
        known.note_swept(&third);
        assert!(known.unswept().is_none());
    }
}
