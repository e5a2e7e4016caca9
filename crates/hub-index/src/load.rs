//! Filling the index at start: rows become chunks with their columns apart from it, by all processors at once, and are then
//! hung in. Must come to the same columns as writing the rows one by one.

use std::collections::HashMap;
use std::sync::Arc;

use hub_domain::id::ConfigurationId;
use hub_domain::identity::Identity;
use hub_domain::session::StoredSession;
use hub_domain::twin::{PackedTwin, Shown, VisitedSection, Visitor};

use crate::cell::Cell;
use crate::chunk::Chunk;
use crate::entry::{Live, PackedEntry, Slot};
use crate::limits::Limits;
use crate::paths::{self, PathId, Paths};
use crate::shred::Shredder;
use crate::{Counts, Fares, Source, count_fares, count_identity};

/// An identity and its twin, with the versions of their rows, and its session, if there is one.
#[derive(Debug)]
pub struct StoredRow {
    /// From the registry.
    pub identity: (Identity, u64),
    /// As its row has it.
    pub twin: (PackedTwin, u64),
    /// The last one.
    pub session: Option<StoredSession>,
}

/// Rows in chunks, ready to be [hung in](crate::Index::load).
#[derive(Debug)]
pub struct Loaded {
    pub(crate) source: Source,
    pub(crate) chunks: Vec<Chunk>,
    /// What the numbers of columns in these chunks mean.
    pub(crate) paths: Paths,
    pub(crate) counts: Counts,
    pub(crate) fares: HashMap<ConfigurationId, Fares>,
}

impl Loaded {
    /// Takes rows of one source, in the order of their ids, as many as there shall be in a chunk or two.
    pub(crate) fn new(source: Source, rows: Vec<StoredRow>, limits: &Limits) -> Self {
        let mut loaded = Self {
            source,
            chunks: Vec::new(),
            paths: Paths::default(),
            counts: Counts::default(),
            fares: HashMap::new(),
        };
        for StoredRow { identity: (identity, identity_version), twin: (twin, twin_version), session } in rows
        {
            if loaded.chunks.last().is_none_or(|chunk| chunk.len() >= limits.chunk_rows_max) {
                loaded.chunks.push(Chunk::default());
            }
            let live = Arc::new(Live::new(session.as_ref()));
            let row =
                PackedEntry { identity: Arc::new(identity), identity_version, twin, twin_version, live };
            loaded.put(Arc::new(row), limits);
        }
        loaded
    }

    fn put(&mut self, row: Arc<PackedEntry>, limits: &Limits) {
        let Some(chunk) = self.chunks.last_mut() else { return };
        let position = chunk.insert(chunk.len(), Slot::Packed(row.clone()));
        let shredder = Shredder { paths: &mut self.paths, chunk, position, limits };
        let mut filling = Filling { shredder, parents: Vec::new(), arrays: 0 };
        filling.shredder.new_identity(&row.identity, &row.live);
        let summary = row.twin.walk(&mut filling);
        let model = summary.model_id.unwrap_or_default();
        filling.put(paths::MODEL_ID, Cell::text(model, limits.text_bytes_max));
        filling.shredder.configurations(&Default::default(), &summary.configurations);
        count_fares(&mut self.fares, &summary.configurations, 1);
        count_identity(&mut self.counts, &row.identity, 1);
    }
}

/// Writes the cells of a row while its twin is walked over.
struct Filling<'s> {
    shredder: Shredder<'s>,
    /// The objects that are walked through; `None` for one without a path, for there are too many.
    parents: Vec<Option<PathId>>,
    /// How many arrays, and objects in arrays, are walked through.
    arrays: usize,
}

impl Filling<'_> {
    fn put(&mut self, id: PathId, cell: Cell<'_>) {
        self.shredder.put(id, cell);
    }
}

impl<'p> Visitor<'p> for Filling<'_> {
    fn section(&mut self, section: VisitedSection) {
        let (values, version) = match section {
            VisitedSection::Tags => (paths::TAGS, None),
            VisitedSection::Desired(version) => (paths::DESIRED, Some((paths::DESIRED_VERSION, version))),
            VisitedSection::Reported(version) => (paths::REPORTED, Some((paths::REPORTED_VERSION, version))),
        };
        self.parents.push(Some(values));
        if let Some((id, version)) = version {
            self.put(id, Cell::Number(version as f64));
        }
    }

    fn value(&mut self, name: Option<&'p str>, value: Shown<'p>) {
        if self.arrays > 0 {
            self.arrays += usize::from(matches!(value, Shown::Array | Shown::Object));
            return;
        }
        let parent = self.parents.last().copied().flatten();
        let child = parent.zip(name).and_then(|(parent, name)| self.shredder.child_or_mark(parent, name));
        match value {
            Shown::Object => self.parents.push(child),
            Shown::Array => self.arrays = 1,
            _ => {}
        }
        if let Some(child) = child {
            self.put(child, cell(value, self.shredder.limits.text_bytes_max));
        }
    }

    fn leave(&mut self) {
        match self.arrays {
            0 => drop(self.parents.pop()),
            _ => self.arrays -= 1,
        }
    }
}

/// As [`Cell::of`] has it.
fn cell(value: Shown<'_>, text_bytes_max: usize) -> Cell<'_> {
    match value {
        Shown::Null => Cell::Null,
        Shown::Bool(flag) => Cell::Bool(flag),
        Shown::Positive(number) => Cell::Number(number as f64),
        Shown::Negative(number) => Cell::Number(number as f64),
        Shown::Float(number) => Cell::Number(number),
        Shown::Text(text) => Cell::text(text, text_bytes_max),
        Shown::Array => Cell::Array,
        Shown::Object => Cell::Object,
    }
}
