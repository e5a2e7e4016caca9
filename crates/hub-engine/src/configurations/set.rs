//! The configurations in force, and which of them a change can concern. Whoever decides by a set has it as of one moment: a
//! write makes a new one, which shares with the former all but what the one configuration changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use hub_domain::configuration::{Configuration, ContentKind};
use hub_domain::id::ConfigurationId;
use hub_domain::query::{Root, Row, Shown, Standing};
use hub_domain::twin::{TwinChange, TwinDocument};
use rpds::RedBlackTreeMapSync as Map;

use super::Matching;

/// What changes when a device comes or goes.
const CONNECTION_ROOTS: [Root; 2] = [Root::ConnectionState, Root::LastActivityTime];

/// What of a twin is shown where a condition matches: that it does is all that counts.
const NOTHING_SHOWN: Shown<'_> = Shown::Paths(Vec::new());

/// What changed of a twin or its owner.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Touched<'a> {
    /// It is new.
    All,
    /// Sections of the twin.
    Sections(&'a TwinChange),
    /// The registry's entry.
    Identity,
    /// It attached or went.
    Connection,
    /// These configurations changed, not the twin.
    Configurations(&'a BTreeSet<ConfigurationId>),
    /// Nothing but the time, or what the hub knows for gates: those that wait at a gate are looked at.
    Gates,
    /// Nothing that is known: every condition is evaluated.
    Unknown,
}

impl Touched<'_> {
    /// Whether the twin is to be looked at whatever the conditions say.
    pub(super) fn is_forced(self) -> bool {
        matches!(self, Touched::Configurations(_) | Touched::Unknown)
    }

    /// Whether desired properties were written, so that what configurations own there may have been overwritten.
    pub(super) fn desired(self) -> bool {
        match self {
            Touched::Sections(change) => change.desired.is_some(),
            Touched::Configurations(_) | Touched::Unknown => true,
            Touched::All | Touched::Identity | Touched::Connection | Touched::Gates => false,
        }
    }
}

/// All configurations as of one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConfigurationSet {
    /// Of the row that counts writes of configurations: who decides by this set expects it unchanged.
    pub(crate) epoch: u64,
    all: Map<ConfigurationId, Arc<Configuration>>,
    /// How many have gates.
    gated: usize,
    /// By kind.
    interests: [Interest; 3],
}

/// The configurations of one kind, and who of them is concerned by what.
#[derive(Clone, Debug, Default)]
struct Interest {
    /// In the order in which they came.
    all: Map<usize, Arc<Configuration>>,
    numbers: Map<ConfigurationId, usize>,
    /// Their conditions by their numbers.
    standing: Standing,
}

impl Interest {
    fn insert(&mut self, configuration: Arc<Configuration>) {
        let number = self.all.last().map_or(0, |(last, _)| last + 1);
        let spec = configuration.spec();
        self.standing.insert(number, spec.target.condition(), &NOTHING_SHOWN);
        self.numbers.insert_mut(spec.id.clone(), number);
        self.all.insert_mut(number, configuration);
    }

    fn remove(&mut self, configuration: &Configuration) {
        let spec = configuration.spec();
        if let Some(number) = self.numbers.get(&spec.id).copied() {
            self.standing.remove(number, spec.target.condition(), &NOTHING_SHOWN);
            self.numbers.remove_mut(&spec.id);
            self.all.remove_mut(&number);
        }
    }
}

impl ConfigurationSet {
    /// Writes a configuration, or removes it if there is none, as of the epoch with this number.
    pub(crate) fn put(
        &mut self,
        epoch: u64,
        id: &ConfigurationId,
        configuration: Option<Arc<Configuration>>,
    ) {
        self.epoch = epoch;
        if let Some(former) = self.all.get(id).cloned() {
            self.all.remove_mut(id);
            self.gated -= usize::from(former.gating().is_some());
            self.interests[former.spec().content.kind() as usize].remove(&former);
        }
        if let Some(new) = configuration {
            self.all.insert_mut(id.clone(), new.clone());
            self.gated += usize::from(new.gating().is_some());
            self.interests[new.spec().content.kind() as usize].insert(new);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.all.size()
    }

    pub(crate) fn get(&self, id: &ConfigurationId) -> Option<&Arc<Configuration>> {
        self.all.get(id)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Configuration>> {
        self.all.values()
    }

    fn interest(&self, kind: ContentKind) -> &Interest {
        &self.interests[kind as usize]
    }

    /// Whether any has gates.
    pub(crate) fn any_gated(&self) -> bool {
        self.gated > 0
    }

    /// All of one kind.
    pub(crate) fn of_kind(&self, kind: ContentKind) -> impl Iterator<Item = &Arc<Configuration>> {
        self.interest(kind).all.values()
    }

    /// The edge deployments that target a device.
    pub(super) fn deployments(&self, device: &TwinDocument<'_>) -> Matching {
        let targeting = self.of_kind(ContentKind::Edge).filter(|one| one.targets(device));
        targeting.map(|one| (one.spec().id.clone(), one.clone())).collect()
    }

    /// Whether there are any of one kind.
    pub(crate) fn has_kind(&self, kind: ContentKind) -> bool {
        !self.interest(kind).all.is_empty()
    }

    /// Whether any condition of this kind may read what changed.
    pub(crate) fn reads(&self, kind: ContentKind, touched: Touched<'_>) -> bool {
        let standing = &self.interest(kind).standing;
        match touched {
            Touched::Connection => CONNECTION_ROOTS.iter().any(|root| standing.reads(*root)),
            // Deployments are for edge devices, whatever their conditions read.
            Touched::Identity => {
                standing.reads_system() || (kind == ContentKind::Edge && self.has_kind(kind))
            }
            Touched::Gates => false,
            Touched::Sections(_) | Touched::All | Touched::Configurations(_) | Touched::Unknown => {
                self.has_kind(kind)
            }
        }
    }

    /// Those of one kind among some that changed.
    pub(crate) fn changed(
        &self,
        kind: ContentKind,
        ids: &BTreeSet<ConfigurationId>,
    ) -> impl Iterator<Item = &Arc<Configuration>> {
        let known = ids.iter().filter_map(|id| self.all.get(id));
        known.filter(move |configuration| configuration.spec().content.kind() == kind)
    }

    /// Those of one kind that a change may have made to target a twin, which is now as `after`. If `before` is known, also
    /// those that may target it no more.
    pub(crate) fn concerned(
        &self,
        kind: ContentKind,
        touched: Touched<'_>,
        before: Option<&dyn Row>,
        after: &dyn Row,
    ) -> Vec<&Arc<Configuration>> {
        let Interest { all, standing, .. } = self.interest(kind);
        let found = match touched {
            Touched::Configurations(ids) => return self.changed(kind, ids).collect(),
            Touched::Gates => return Vec::new(),
            Touched::All | Touched::Unknown => standing.all_for(after),
            Touched::Connection => {
                let look = standing.look(before, after);
                CONNECTION_ROOTS.iter().fold(look, |look, root| look.root(*root)).finish()
            }
            Touched::Identity => standing.look(before, after).system().finish(),
            Touched::Sections(TwinChange { tags, reported, .. }) => {
                let mut look = standing.look(before, after);
                for (section, patch) in [(Root::Tags, tags), (Root::Reported, reported)] {
                    if let Some(patch) = patch {
                        look = look.keys(section, patch.keys());
                    }
                }
                look.finish()
            }
        };
        found.iter().filter_map(|number| all.get(number)).collect()
    }
}
