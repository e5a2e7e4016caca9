//! All twins in memory, with what the registry and the sessions know of them: what queries look at.
//!
//! A data structure: it applies changes and answers selections. It never knows the store, a clock or a task.
//! Twins stand in chunks in the order of their ids, and beside them their leaves in columns by path. Its one lock is held
//! for short changes and for taking a snapshot, never while a query is evaluated: a change copies what a snapshot holds.
//! Only the twins that were changed last are kept as they are, all others packed: a fleet of millions must fit into memory.

mod cell;
mod chunk;
mod column;
mod entry;
mod follow;
mod groups;
mod keys;
mod limits;
mod load;
mod memory;
mod pairs;
mod paths;
mod row;
mod rows;
mod selection;
mod shred;
mod table;
mod watched;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hub_domain::id::{ConfigurationId, DeviceId, TwinId};
use hub_domain::identity::{Identity, Status};
use hub_domain::query::{Condition, Path, Query};
use hub_domain::time::Timestamp;
use hub_domain::twin::{ConfigurationStatus, PackedTwin, Twin};

pub use entry::{Entry, Live, Slot};
pub use follow::Follow;
pub use limits::{CHUNK_ROWS_MAX, Limits};
pub use load::{Loaded, Loading, StoredRow};
pub use memory::Memory;
pub use paths::PathMemory;
pub use selection::{Next, Selection, Work};
pub use watched::{Moment, Sink, Step, Told};

use paths::Paths;
use table::{Shared, Table};
use watched::{Side, Watched};

/// One step of the index, made by one commit.
#[derive(Clone, Debug)]
pub enum Change {
    /// An identity was created or changed; a created one comes with its twin in the same commit.
    Identity(Arc<Identity>),
    /// A twin was created or changed: as it is, and the same packed.
    Twin(TwinId, Arc<Twin>, PackedTwin),
    /// An identity is gone, and its twin with it.
    Deleted(TwinId),
}

/// How many identities there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Devices.
    pub devices: u64,
    /// Devices that are enabled.
    pub enabled: u64,
    /// Modules.
    pub modules: u64,
}

/// Which rows a scan goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `devices`.
    Devices,
    /// `devices.modules`.
    Modules,
}

/// The index. Shared by reference; every method is short.
#[derive(Debug, Default)]
pub struct Index {
    limits: Limits,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    devices: Table,
    modules: Table,
    paths: Paths,
    counts: Counts,
    /// The entries that were changed last, which are not packed; those that were written again since are in it twice.
    open: VecDeque<Arc<Entry>>,
    /// How the configurations fare that any twin lists.
    fares: HashMap<ConfigurationId, Fares>,
    watched: Watched,
    /// The commit that was applied last.
    version: u64,
}

/// The rows that a commit changes, as they were and as they are; only noted if somebody watches.
#[derive(Default)]
struct Moved(Option<BTreeMap<TwinId, BeforeAfter>>);

type BeforeAfter = (Option<Side>, Option<Side>);

impl Moved {
    fn note(&mut self, id: &TwinId, before: Option<&Arc<Entry>>, after: Option<&Arc<Entry>>) {
        if let Some(rows) = &mut self.0 {
            let row = rows.entry(id.clone()).or_insert_with(|| (before.map(Side::of), None));
            row.1 = after.map(Side::of);
        }
    }
}

/// Twins by how a configuration fares there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fares {
    /// All of its settings lost.
    pub targeted: u64,
    /// Some of its settings are in force.
    pub applied: u64,
}

impl State {
    fn get(&self, id: &TwinId) -> Option<&Slot> {
        if id.is_module() { self.modules.get(id) } else { self.devices.get(id) }
    }

    /// The table that an id belongs in, and what it takes to change it.
    fn table<'s>(&'s mut self, id: &TwinId, limits: &'s Limits) -> (&'s mut Table, Shared<'s>) {
        let table = if id.is_module() { &mut self.modules } else { &mut self.devices };
        (table, Shared { paths: &mut self.paths, limits })
    }

    fn source(&self, source: Source) -> &Table {
        match source {
            Source::Devices => &self.devices,
            Source::Modules => &self.modules,
        }
    }

    fn count(&mut self, entry: &Entry, by: i64) {
        count_fares(&mut self.fares, &entry.twin.configurations, by);
        count_identity(&mut self.counts, &entry.identity, by);
    }

    fn insert(&mut self, entry: Entry, former: Option<&Arc<Entry>>, moved: &mut Moved, limits: &Limits) {
        let entry = Arc::new(entry);
        moved.note(entry.id(), former, Some(&entry));
        self.count(&entry, 1);
        if let Some(former) = former {
            self.count(former, -1);
        }
        // What is created in masses is not written again at once, and must not push out what is.
        let is_new = former.is_none();
        let row = if is_new { Slot::packed(&entry) } else { Slot::Open(entry.clone()) };
        let (table, shared) = self.table(entry.id(), limits);
        table.insert(row, &entry, former.map(AsRef::as_ref), shared);
        if is_new {
            return;
        }
        self.open.push_back(entry);
        while self.open.len() > limits.open_twins_max
            && let Some(entry) = self.open.pop_front()
        {
            self.table(entry.id(), limits).0.pack(&entry);
        }
    }

    /// Gives up paths until the rest is not too large.
    fn shrink(&mut self, limits: &Limits) {
        while let Some(id) = self.paths.too_large(limits) {
            self.paths.give_up(id);
            self.devices.drop_column(id);
            self.modules.drop_column(id);
        }
    }
}

/// Counts the twins of configurations.
fn count_fares(
    fares: &mut HashMap<ConfigurationId, Fares>,
    configurations: &BTreeMap<ConfigurationId, ConfigurationStatus>,
    by: i64,
) {
    for (id, status) in configurations {
        let one = match status {
            ConfigurationStatus::Targeted => Fares { targeted: 1, applied: 0 },
            ConfigurationStatus::Applied => Fares { targeted: 0, applied: 1 },
        };
        add_fares(fares, id.clone(), one, by);
    }
}

fn add_fares(fares: &mut HashMap<ConfigurationId, Fares>, id: ConfigurationId, more: Fares, by: i64) {
    let sum = fares.entry(id.clone()).or_default();
    sum.targeted = sum.targeted.wrapping_add_signed(by * more.targeted as i64);
    sum.applied = sum.applied.wrapping_add_signed(by * more.applied as i64);
    if *sum == Fares::default() {
        fares.remove(&id);
    }
}

fn count_identity(counts: &mut Counts, identity: &Identity, by: i64) {
    let add = |counter: &mut u64| *counter = counter.wrapping_add_signed(by);
    if identity.id.is_module() {
        return add(&mut counts.modules);
    }
    add(&mut counts.devices);
    if identity.status == Status::Enabled {
        add(&mut counts.enabled);
    }
}

impl Index {
    /// An empty index with other bounds than the usual ones.
    pub fn with_limits(limits: Limits) -> Self {
        Self { limits, state: RwLock::default() }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes ready what the store held at start, some thousand rows of one source in the order of their ids. Takes no lock.
    pub fn prepare(&self, source: Source) -> Loading {
        Loading::new(source, self.limits)
    }

    /// Hangs in what was made ready: in order, no row is in the index yet, and all that are come before them.
    pub fn load(&self, loaded: Loaded) {
        let Loaded { source, chunks, paths, counts, fares } = loaded;
        let mut state = self.write();
        let state = &mut *state;
        let numbers = state.paths.adopt(&paths, &self.limits);
        let table = match source {
            Source::Devices => &mut state.devices,
            Source::Modules => &mut state.modules,
        };
        for mut chunk in chunks {
            chunk.number_columns(&numbers, &mut state.paths);
            table.append(chunk);
        }
        state.counts.devices += counts.devices;
        state.counts.enabled += counts.enabled;
        state.counts.modules += counts.modules;
        fares.into_iter().for_each(|(id, more)| add_fares(&mut state.fares, id, more, 1));
        state.shrink(&self.limits);
    }

    /// Applies the changes of one commit, whose number is `version`. The caller keeps the order of commits.
    pub fn apply(&self, version: u64, changes: &[Change]) {
        let mut state = self.write();
        let mut created: Option<Arc<Identity>> = None;
        let mut moved = Moved((!state.watched.is_empty()).then(BTreeMap::new));
        for change in changes {
            match change {
                Change::Identity(identity) => match state.get(&identity.id).map(Slot::open) {
                    Some(former) => {
                        let identity = identity.clone();
                        let entry = Entry { identity, identity_version: version, ..Entry::clone(&former) };
                        state.insert(entry, Some(&former), &mut moved, &self.limits);
                    }
                    None => created = Some(identity.clone()),
                },
                Change::Twin(id, twin, packed) => {
                    let former = state.get(id).map(Slot::open);
                    let entry = match (&former, created.take()) {
                        (Some(former), _) => {
                            let (twin, packed) = (twin.clone(), packed.clone());
                            Entry { twin, packed, twin_version: version, ..Entry::clone(former) }
                        }
                        (None, Some(identity)) => Entry {
                            identity,
                            identity_version: version,
                            twin: twin.clone(),
                            packed: packed.clone(),
                            twin_version: version,
                            live: Arc::new(Live::new(None)),
                        },
                        (None, None) => continue,
                    };
                    state.insert(entry, former.as_ref(), &mut moved, &self.limits);
                }
                Change::Deleted(id) => {
                    let (table, shared) = state.table(id, &self.limits);
                    if let Some(former) = table.remove(id, shared) {
                        moved.note(id, Some(&former), None);
                        state.count(&former, -1);
                    }
                }
            }
        }
        state.shrink(&self.limits);
        state.version = version;
        for (before, after) in moved.0.into_iter().flat_map(BTreeMap::into_values) {
            state.watched.tell(version, before.as_ref(), after.as_ref());
        }
    }

    /// Notes that a device attached or went, if its entry still has this live side.
    pub fn set_connected(&self, id: &TwinId, live: &Arc<Live>, connected: bool, now: Timestamp) {
        let mut state = self.write();
        let row = state.get(id).filter(|row| Arc::ptr_eq(row.live(), live));
        let watched = row.filter(|_| !state.watched.is_empty()).map(Slot::open);
        let is_row = row.is_some();
        let before = watched.as_ref().map(Side::of);
        live.set_connected(connected, now);
        if is_row {
            let (table, shared) = state.table(id, &self.limits);
            table.set_connected(id, live.connection().state(), shared);
        }
        let (version, after) = (state.version, watched.as_ref().map(Side::of));
        state.watched.tell(version, before.as_ref(), after.as_ref());
    }

    /// The entry of `id`.
    pub fn get(&self, id: &TwinId) -> Option<Arc<Entry>> {
        // Opened when the lock is free again.
        let row = self.read().get(id).cloned();
        row.as_ref().map(Slot::open)
    }

    /// Up to `limit` entries in the order of their ids, after `after`.
    pub fn scan(&self, source: Source, after: Option<&TwinId>, limit: usize) -> Vec<Arc<Entry>> {
        let rows: Vec<Slot> = self.read().source(source).slots_after(after).take(limit).cloned().collect();
        rows.iter().map(Slot::open).collect()
    }

    /// The rows behind `after` for which `condition` is true, as of now. `paths` are others that the caller will read.
    pub fn select<'q>(
        &self,
        source: Source,
        condition: &'q Condition,
        paths: impl IntoIterator<Item = &'q Path>,
        after: Option<&TwinId>,
    ) -> Selection<'q> {
        self.select_now(source, condition, paths, after).1
    }

    /// The same, and which moment it is: every later change comes after it.
    pub fn select_now<'q>(
        &self,
        source: Source,
        condition: &'q Condition,
        paths: impl IntoIterator<Item = &'q Path>,
        after: Option<&TwinId>,
    ) -> (Moment, Selection<'q>) {
        let state = self.read();
        let chunks = state.source(source).chunks_after(after).to_vec();
        let selection = Selection::new(condition, paths, after.cloned(), chunks, &state.paths);
        (state.watched.moment(state.version), selection)
    }

    /// Lets a query stand: from now on `sink` is told what every change does to its rows. The query can stand, see
    /// [`Query::check_live`]. Returns the number for [`Index::unwatch`].
    pub fn watch(&self, query: Arc<Query>, sink: Arc<dyn Sink>) -> usize {
        self.write().watched.insert(query, sink)
    }

    /// Ends what [`Index::watch`] began.
    pub fn unwatch(&self, number: usize) {
        self.write().watched.remove(number);
    }

    /// The modules of a device, in the order of their ids.
    pub fn modules_of(&self, device: &DeviceId) -> Vec<Arc<Entry>> {
        let state = self.read();
        let device = TwinId::device(device.clone());
        // The device's own id comes before those of its modules.
        let behind = state.modules.slots_after(Some(&device));
        behind.take_while(|row| row.id().device == device.device).map(Slot::open).collect()
    }

    /// What the columns take, with at most `paths_max` of the paths.
    pub fn memory(&self, paths_max: usize) -> Memory {
        let state = self.read();
        let chunks = || state.devices.chunks().iter().chain(state.modules.chunks());
        let overhead: usize = chunks().map(|chunk| chunk.overhead_bytes()).sum();
        let marked: usize = chunks().map(|chunk| chunk.marked().len()).sum();
        let packed: usize = chunks().map(|chunk| chunk.packed_bytes()).sum();
        Memory {
            bytes: (state.paths.bytes() + overhead) as u64,
            twins_bytes: packed as u64,
            twins_marked: marked as u64,
            ..Memory::new(state.paths.memory(), paths_max)
        }
    }

    /// How a configuration fares, over all twins.
    pub fn configuration_counts(&self, id: &ConfigurationId) -> Fares {
        self.read().fares.get(id).copied().unwrap_or_default()
    }

    /// How many identities there are.
    pub fn counts(&self) -> Counts {
        self.read().counts
    }
}

#[cfg(test)]
mod differential;
#[cfg(test)]
mod tests;
