//! The configurations in force, and which of them a change can concern. Immutable: a write makes a new set.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hub_domain::configuration::{Configuration, ContentKind};
use hub_domain::id::ConfigurationId;
use hub_domain::query::{Root, Row, Shown, Standing};
use hub_domain::twin::TwinChange;

/// What changes when a device comes or goes.
const CONNECTION_ROOTS: [Root; 2] = [Root::ConnectionState, Root::LastActivityTime];

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
#[derive(Debug, Default)]
pub(crate) struct ConfigurationSet {
    /// Of the row that counts writes of configurations: who decides by this set expects it unchanged.
    pub(crate) epoch: u64,
    all: BTreeMap<ConfigurationId, Arc<Configuration>>,
    device: Interest,
    module: Interest,
    edge: Interest,
}

/// The configurations of one kind, and who of them is concerned by what.
#[derive(Debug, Default)]
struct Interest {
    all: Vec<Arc<Configuration>>,
    /// Their conditions by their places in `all`.
    standing: Standing,
}

impl Interest {
    fn add(&mut self, configuration: &Arc<Configuration>) {
        let condition = configuration.spec().target.condition();
        self.standing.insert(self.all.len(), condition, &Shown::Paths(Vec::new()));
        self.all.push(configuration.clone());
    }
}

impl ConfigurationSet {
    /// These configurations, as of the epoch with this number.
    pub(crate) fn new(epoch: u64, all: BTreeMap<ConfigurationId, Arc<Configuration>>) -> Self {
        let mut set = Self { epoch, all, ..Self::default() };
        for configuration in set.all.values() {
            let interest = match configuration.spec().content.kind() {
                ContentKind::Device => &mut set.device,
                ContentKind::Module => &mut set.module,
                ContentKind::Edge => &mut set.edge,
            };
            interest.add(configuration);
        }
        set
    }

    /// This set with one configuration written, or removed if there is none.
    pub(crate) fn with(
        &self,
        epoch: u64,
        id: &ConfigurationId,
        configuration: Option<Arc<Configuration>>,
    ) -> Self {
        let mut all = self.all.clone();
        match configuration {
            Some(configuration) => all.insert(id.clone(), configuration),
            None => all.remove(id),
        };
        Self::new(epoch, all)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn get(&self, id: &ConfigurationId) -> Option<&Arc<Configuration>> {
        self.all.get(id)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Configuration>> {
        self.all.values()
    }

    fn interest(&self, kind: ContentKind) -> &Interest {
        match kind {
            ContentKind::Device => &self.device,
            ContentKind::Module => &self.module,
            ContentKind::Edge => &self.edge,
        }
    }

    /// Whether any has gates.
    pub(crate) fn any_gated(&self) -> bool {
        self.all.values().any(|configuration| configuration.gating().is_some())
    }

    /// All of one kind.
    pub(crate) fn of_kind(&self, kind: ContentKind) -> &[Arc<Configuration>] {
        &self.interest(kind).all
    }

    /// Whether any condition of this kind may read what changed.
    pub(crate) fn reads(&self, kind: ContentKind, touched: Touched<'_>) -> bool {
        let Interest { all, standing } = self.interest(kind);
        match touched {
            Touched::Connection => CONNECTION_ROOTS.iter().any(|root| standing.reads(*root)),
            Touched::Identity => standing.reads_system(),
            Touched::Gates => false,
            Touched::Sections(_) | Touched::All | Touched::Configurations(_) | Touched::Unknown => {
                !all.is_empty()
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
        let Interest { all, standing } = self.interest(kind);
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
        found.into_iter().map(|place| &all[place]).collect()
    }
}
