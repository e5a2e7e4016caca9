//! Who wins: from the configurations that match a twin to what that twin must have, path by path (S 8.3).
//! Depends on the configurations alone, never on what the twin holds now, so twins that match the same configurations can
//! share one resolution. The order in which they are given means nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::content::{EDGE_AGENT, LeafPath, Section, overlapping};
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
pub fn resolve(module: Option<&ModuleId>, matching: &[&Configuration]) -> Resolution {
    let mut ranked = matching.to_vec();
    ranked.sort_by(|a, b| a.rank(b));
    let deployment = Deployment::of(&ranked);
    let mut contest = Contest::default();
    for configuration in ranked.iter().copied() {
        if let Some(section) = configuration.spec.content.section(module) {
            contest.enter(configuration, section, deployment.refusal(configuration));
        }
    }
    let is_agent = module.is_some_and(|module| module.as_str() == EDGE_AGENT);
    let deployed = if is_agent { deployment.winners(&ranked) } else { BTreeSet::new() };
    let statuses = ranked.iter().filter_map(|configuration| {
        let id = &configuration.spec.id;
        let has_effect = match (configuration.spec.content.kind(), module) {
            (ContentKind::Device, None) | (ContentKind::Module, Some(_)) => contest.winners.contains(id),
            (ContentKind::Edge, Some(_)) if is_agent => deployed.contains(id),
            _ => return None,
        };
        let status = if has_effect { ConfigurationStatus::Applied } else { ConfigurationStatus::Targeted };
        Some((id.clone(), status))
    });
    Resolution {
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
    fn enter(&mut self, configuration: &Configuration, section: &Section, refusal: Option<Loss>) {
        let id = &configuration.spec.id;
        let refusal = refusal.or_else(|| self.replaced_by.clone().map(|by| Loss::Replaced { by }));
        for (path, value) in section.leaves() {
            let outranked = || {
                let (at, winner) = overlapping(&self.settings, path)?;
                Some(Loss::Outranked { by: winner.by.configuration().clone(), at: at.clone() })
            };
            match refusal.clone().or_else(outranked) {
                Some(loss) => self.overridden.push(Overridden {
                    path: path.clone(),
                    value: value.clone(),
                    configuration: id.clone(),
                    loss,
                }),
                None => {
                    self.winners.insert(id.clone());
                    let setting = Setting { value: value.clone(), by: configuration.by.clone() };
                    self.settings.insert(path.clone(), setting);
                }
            }
        }
        if refusal.is_none() && configuration.spec.content.kind() == ContentKind::Edge && section.replaces() {
            self.winners.insert(id.clone());
            self.replaced_by = Some(id.clone());
        }
    }
}
