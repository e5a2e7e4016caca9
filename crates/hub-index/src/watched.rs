//! Standing queries: a change finds those that it concerns, and tells each whether a row enters, changes or leaves.
//! Runs while the index is changed, so it must be short: whoever is told only takes note of it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use hub_domain::query::{Query, Root, Source, Standing};
use hub_domain::twin::{Connection, TwinDocument};

use crate::entry::Entry;

/// A point between two changes of the index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    moves: u64,
    /// The commit that was the last then.
    pub version: u64,
}

/// What a row does in the answer of a standing query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It matches now.
    Enter,
    /// It matches still, and what is shown of it differs.
    Change,
    /// It matches no more, or is gone.
    Leave,
}

/// One step of a row.
#[derive(Clone, Debug)]
pub struct Told {
    /// The point just behind the change.
    pub moment: Moment,
    /// What it does.
    pub step: Step,
    /// The row as it is; the last there was if it is gone.
    pub entry: Arc<Entry>,
    /// Whether it is attached, at that moment.
    pub connection: Connection,
}

impl Told {
    /// The row as it is.
    pub fn document(&self) -> TwinDocument<'_> {
        TwinDocument { connection: self.connection, ..self.entry.document() }
    }
}

/// Who is told. Called while the index is locked: must not call the index, nor wait.
pub trait Sink: Send + Sync {
    /// Takes note of a step.
    fn tell(&self, told: Told);
}

/// A row before or after a change.
#[derive(Clone)]
pub(crate) struct Side {
    entry: Arc<Entry>,
    connection: Connection,
}

impl Side {
    /// As of now.
    pub(crate) fn of(entry: &Arc<Entry>) -> Self {
        Self { entry: entry.clone(), connection: entry.live.connection() }
    }

    fn document(&self) -> TwinDocument<'_> {
        TwinDocument { connection: self.connection, ..self.entry.document() }
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Watched {
    devices: Standing,
    modules: Standing,
    watches: HashMap<usize, Watch>,
    next: usize,
    moves: u64,
}

struct Watch {
    query: Arc<Query>,
    sink: Arc<dyn Sink>,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("watches", &self.watches.len()).finish_non_exhaustive()
    }
}

impl Watched {
    pub(crate) fn is_empty(&self) -> bool {
        self.watches.is_empty()
    }

    /// Now, if `version` is the last commit.
    pub(crate) fn moment(&self, version: u64) -> Moment {
        Moment { moves: self.moves, version }
    }

    fn standing(&mut self, is_module: bool) -> &mut Standing {
        if is_module { &mut self.modules } else { &mut self.devices }
    }

    /// Puts in a query; returns the number by which it is taken out.
    pub(crate) fn insert(&mut self, query: Arc<Query>, sink: Arc<dyn Sink>) -> usize {
        let number = self.next;
        self.next += 1;
        let is_module = query.source() == Source::DeviceModules;
        self.standing(is_module).insert(number, query.condition(), &query.shown());
        self.watches.insert(number, Watch { query, sink });
        number
    }

    /// Takes out a query.
    pub(crate) fn remove(&mut self, number: usize) {
        if let Some(Watch { query, .. }) = self.watches.remove(&number) {
            let is_module = query.source() == Source::DeviceModules;
            self.standing(is_module).remove(number, query.condition(), &query.shown());
        }
    }

    /// Tells whom the change of a row concerns that the commit `version` made, or that a session made after it.
    pub(crate) fn tell(&mut self, version: u64, before: Option<&Side>, after: Option<&Side>) {
        let Some(shown) = after.or(before) else { return };
        let standing = self.standing(shown.entry.id().is_module());
        let found = match (before, after) {
            (Some(before), Some(after)) => concerned(standing, before, after),
            _ => standing.all_for(&shown.document()),
        };
        self.moves += 1;
        let moment = self.moment(version);
        for watch in found.iter().filter_map(|number| self.watches.get(number)) {
            if let Some(step) = step_of(&watch.query, before, after) {
                let Side { entry, connection } = shown.clone();
                watch.sink.tell(Told { moment, step, entry, connection });
            }
        }
    }
}

fn concerned(standing: &Standing, before: &Side, after: &Side) -> Vec<usize> {
    let is_moved = before.connection.connected != after.connection.connected;
    let is_same_identity = Arc::ptr_eq(&before.entry.identity, &after.entry.identity);
    let is_same_twin = Arc::ptr_eq(&before.entry.twin, &after.entry.twin);
    if !is_moved && is_same_identity && is_same_twin {
        return Vec::new();
    }
    let (old, new) = (before.document(), after.document());
    let mut look = standing.look(Some(&old), &new);
    if is_moved {
        look = look.root(Root::ConnectionState);
    }
    if !is_same_twin || !is_same_identity {
        look = look.system();
    }
    if !is_same_twin {
        let (old, new) = (&before.entry.twin, &after.entry.twin);
        look = look.section(Root::Tags, &old.tags, &new.tags);
        look = look.section(Root::Desired, &old.desired.values, &new.desired.values);
        look = look.section(Root::Reported, &old.reported.values, &new.reported.values);
    }
    look.finish()
}

/// What a change of a row is in the answer of a query.
fn step_of(query: &Query, before: Option<&Side>, after: Option<&Side>) -> Option<Step> {
    let matches = |side: Option<&Side>| side.is_some_and(|side| query.matches(&side.document()));
    match (matches(before), matches(after)) {
        (false, true) => Some(Step::Enter),
        (true, false) => Some(Step::Leave),
        (true, true) => {
            let (before, after) = (before?.document(), after?.document());
            query.shows_difference(&before, &after).then_some(Step::Change)
        }
        (false, false) => None,
    }
}
