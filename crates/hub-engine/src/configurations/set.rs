//! The configurations in force, and which of them a change can concern. Immutable: a write makes a new set.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use hub_domain::configuration::{Configuration, ContentKind};
use hub_domain::id::ConfigurationId;
use hub_domain::query::Root;
use hub_domain::twin::TwinChange;

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
            Touched::All | Touched::Identity | Touched::Connection => false,
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

/// The configurations of one kind by what their conditions read.
#[derive(Debug, Default)]
struct Interest {
    all: Vec<Arc<Configuration>>,
    /// By the first key below tags or reported properties; without a key those that read a section or a system field whole.
    readers: HashMap<(Root, Option<String>), Vec<Arc<Configuration>>>,
}

impl Interest {
    fn add(&mut self, configuration: &Arc<Configuration>) {
        self.all.push(configuration.clone());
        let paths = configuration.spec().target.condition().paths();
        let keys: BTreeSet<_> = paths
            .into_iter()
            .map(|path| match path.root() {
                root @ (Root::Tags | Root::Reported) => (root, path.segments().first().cloned()),
                root => (root, None),
            })
            .collect();
        for key in keys {
            self.readers.entry(key).or_default().push(configuration.clone());
        }
    }

    fn of_keys<'s, 'k>(
        &'s self,
        root: Root,
        keys: impl Iterator<Item = &'k String>,
    ) -> impl Iterator<Item = &'s Arc<Configuration>> {
        let keys = keys.map(|key| Some(key.clone())).chain([None]);
        keys.filter_map(move |key| self.readers.get(&(root, key))).flatten()
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

    /// All of one kind.
    pub(crate) fn of_kind(&self, kind: ContentKind) -> &[Arc<Configuration>] {
        &self.interest(kind).all
    }

    /// Whether any condition of this kind reads whether devices are connected.
    pub(crate) fn reads_connection(&self, kind: ContentKind) -> bool {
        let readers = &self.interest(kind).readers;
        readers.contains_key(&(Root::ConnectionState, None))
            || readers.contains_key(&(Root::LastActivityTime, None))
    }

    /// Those of one kind whose answer to "does it target this twin?" the change can have altered. Some come twice.
    pub(crate) fn concerned(&self, kind: ContentKind, touched: Touched<'_>) -> Vec<&Arc<Configuration>> {
        let interest = self.interest(kind);
        match touched {
            Touched::All | Touched::Unknown => interest.all.iter().collect(),
            Touched::Configurations(ids) => {
                let known = ids.iter().filter_map(|id| self.all.get(id));
                known.filter(|configuration| configuration.spec().content.kind() == kind).collect()
            }
            Touched::Connection => {
                let roots = [Root::ConnectionState, Root::LastActivityTime];
                roots.into_iter().flat_map(|root| interest.of_keys(root, [].iter())).collect()
            }
            Touched::Identity => {
                let system = |root: &Root| !matches!(root, Root::Tags | Root::Reported);
                let readers = interest.readers.iter().filter(|((root, _), _)| system(root));
                readers.flat_map(|(_, readers)| readers).collect()
            }
            Touched::Sections(change) => {
                let tags = change.tags.iter().flat_map(|patch| interest.of_keys(Root::Tags, patch.keys()));
                let reported =
                    change.reported.iter().flat_map(|patch| interest.of_keys(Root::Reported, patch.keys()));
                tags.chain(reported).collect()
            }
        }
    }
}
