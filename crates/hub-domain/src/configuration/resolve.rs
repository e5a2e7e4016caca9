//! Who wins: from the configurations that match a twin to what that twin must have, path by path (S 8.3).
//! Depends on the configurations alone, never on what the twin holds now, but for those that wait at a gate: these keep what
//! they have there. The order in which they are given means nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::content::{EDGE_AGENT, LeafPath, Section, overlapping};
use super::gated::{Contender, Kept};
use super::{Configuration, Content, ContentKind};
use crate::id::{ConfigurationId, ModuleId};
use crate::twin::{ConfigurationStatus, WrittenBy};

/// The value that a path must have, and whose it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// `null` if nothing may be there.
    pub value: Arc<Value>,
    /// The configuration that won.
    pub by: WrittenBy,
}

/// Why a configuration does not have its way at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// A configuration of higher rank sets the same path, or one above or below it.
    Outranked {
        /// That configuration.
        by: ConfigurationId,
        /// What it sets.
        at: LeafPath,
    },
    /// An edge deployment of higher rank says what there is as a whole.
    Replaced {
        /// That deployment.
        by: ConfigurationId,
    },
    /// A layer without a standard deployment below it.
    NoDeploymentBelow,
}

/// A setting that lost.
#[derive(Clone, Debug, PartialEq)]
pub struct Overridden {
    /// Where.
    pub path: LeafPath,
    /// What it would have been; `null` if nothing.
    pub value: Arc<Value>,
    /// Whose it is.
    pub configuration: ConfigurationId,
    /// Why it lost.
    pub loss: Loss,
}

/// What a twin must have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resolution {
    /// Each path's winner. No two paths overlap.
    pub settings: BTreeMap<LeafPath, Setting>,
    /// What the twin is to remember of those that have gates, see [`Twin::let_in`](crate::twin::Twin::let_in).
    pub let_in: BTreeMap<ConfigurationId, u64>,
    /// How each configuration fares.
    pub statuses: BTreeMap<ConfigurationId, ConfigurationStatus>,
    /// The settings that lost, highest rank first.
    pub overridden: Vec<Overridden>,
    /// Whether nothing else may be in the section: an edge deployment says what it is as a whole.
    pub replaces: bool,
    /// Whether what edge deployments wrote stays although none of them is in force: the device goes on with it (S 8.3).
    pub keeps_deployed: bool,
}

/// What the twin of `module`, or of the device if that is `None`, must have when exactly `matching` target it.
///
/// For a module these are the configurations with `moduleContent` that target the module's twin and the edge deployments
/// that target its device. How a deployment fares is said in the edge agent's resolution only (S 8.3).
pub fn resolve<'c, C: Into<Contender<'c>> + Clone>(module: Option<&ModuleId>, matching: &[C]) -> Resolution {
    let mut contenders: Vec<Contender<'c>> = matching.iter().cloned().map(Into::into).collect();
    contenders.sort_by(|a, b| a.configuration.rank(b.configuration));
    // A deployment that waits has nothing to keep: it is as if it were not there, but for its status.
    let in_force = |one: &&Contender<'c>| {
        one.kept.is_none() || one.configuration.spec.content.kind() != ContentKind::Edge
    };
    let ranked: Vec<&Configuration> =
        contenders.iter().filter(in_force).map(|one| one.configuration).collect();
    let deployment = Deployment::of(&ranked);
    let mut contest = Contest::default();
    for Contender { configuration, kept, .. } in &contenders {
        match (kept, configuration.spec.content.section(module)) {
            (Some(kept), _) => contest.keep(kept),
            (None, Some(section)) => {
                contest.enter(configuration, section, deployment.refusal(configuration));
            }
            (None, None) => {}
        }
    }
    let is_agent = module.is_some_and(|module| module.as_str() == EDGE_AGENT);
    let deployed = if is_agent { deployment.winners(&ranked) } else { BTreeSet::new() };
    let statuses = contenders.iter().filter_map(|Contender { configuration, kept, .. }| {
        let id = &configuration.spec.id;
        let has_effect = match (configuration.spec.content.kind(), module) {
            (ContentKind::Device, None) | (ContentKind::Module, Some(_)) => contest.winners.contains(id),
            (ContentKind::Edge, Some(_)) if is_agent => deployed.contains(id),
            _ => return None,
        };
        let status = if has_effect && kept.is_none() {
            ConfigurationStatus::Applied
        } else {
            ConfigurationStatus::Targeted
        };
        Some((id.clone(), status))
    });
    let let_in = contenders.iter().filter_map(|one| Some((one.configuration.spec.id.clone(), one.let_in?)));
    Resolution {
        let_in: let_in.collect(),
        statuses: statuses.collect(),
        settings: contest.settings,
        overridden: contest.overridden,
        replaces: contest.replaced_by.is_some(),
        keeps_deployed: deployment.base.is_none(),
    }
}

/// The edge deployments of a device: one that stands alone, and the layers above it.
struct Deployment<'c> {
    base: Option<&'c Configuration>,
}

impl<'c> Deployment<'c> {
    fn of(ranked: &[&'c Configuration]) -> Self {
        Self { base: ranked.iter().find(|one| one.spec.content.is_standard_deployment()).copied() }
    }

    /// Why nothing of `configuration` is in force; `None` if it may be.
    fn refusal(&self, configuration: &Configuration) -> Option<Loss> {
        if configuration.spec.content.kind() != ContentKind::Edge {
            return None;
        }
        let Some(base) = self.base else { return Some(Loss::NoDeploymentBelow) };
        let is_base = base.spec.id == configuration.spec.id;
        let is_above = configuration.spec.priority > base.spec.priority;
        (!is_base && !is_above).then(|| Loss::Replaced { by: base.spec.id.clone() })
    }

    /// The deployments of which something is in force in any module of the device.
    fn winners(&self, ranked: &[&Configuration]) -> BTreeSet<ConfigurationId> {
        let mut contests: BTreeMap<&ModuleId, Contest> = BTreeMap::new();
        for configuration in ranked.iter().filter(|configuration| self.refusal(configuration).is_none()) {
            let Content::Edge(sections) = &configuration.spec.content else { continue };
            for (module, section) in sections {
                contests.entry(module).or_default().enter(configuration, section, None);
            }
        }
        contests.into_values().flat_map(|contest| contest.winners).collect()
    }
}

/// The contest for one section, entered by configurations in the order of their rank.
#[derive(Default)]
struct Contest {
    settings: BTreeMap<LeafPath, Setting>,
    overridden: Vec<Overridden>,
    winners: BTreeSet<ConfigurationId>,
    replaced_by: Option<ConfigurationId>,
}

impl Contest {
    /// One that waits at a gate defends what it has.
    fn keep(&mut self, kept: &[Kept]) {
        let refusal = self.replaced_by.clone().map(|by| Loss::Replaced { by });
        for (path, value, by) in kept {
            self.claim(path, Setting { value: value.clone(), by: by.clone() }, refusal.clone());
        }
    }

    fn claim(&mut self, path: &LeafPath, setting: Setting, refusal: Option<Loss>) {
        let configuration = setting.by.configuration().clone();
        let outranked = || {
            let (at, winner) = overlapping(&self.settings, path)?;
            Some(Loss::Outranked { by: winner.by.configuration().clone(), at: at.clone() })
        };
        match refusal.or_else(outranked) {
            Some(loss) => {
                self.overridden.push(Overridden {
                    path: path.clone(),
                    value: setting.value,
                    configuration,
                    loss,
                });
            }
            None => {
                self.winners.insert(configuration);
                self.settings.insert(path.clone(), setting);
            }
        }
    }

    fn enter(&mut self, configuration: &Configuration, section: &Section, refusal: Option<Loss>) {
        let id = &configuration.spec.id;
        let refusal = refusal.or_else(|| self.replaced_by.clone().map(|by| Loss::Replaced { by }));
        for (path, value) in section.leaves() {
            self.claim(path, Setting { value: value.clone(), by: configuration.by.clone() }, refusal.clone());
        }
        if refusal.is_none() && configuration.spec.content.kind() == ContentKind::Edge && section.replaces() {
            self.winners.insert(id.clone());
            self.replaced_by = Some(id.clone());
        }
    }
}
