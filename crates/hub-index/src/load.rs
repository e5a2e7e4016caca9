//! Filling the index at start: rows become chunks with their columns apart from it, by all processors at once, and are then
//! hung in. Must come to the same columns as writing the rows one by one.

use std::collections::HashMap;
use std::sync::Arc;

use hub_domain::id::ConfigurationId;
use hub_domain::identity::Identity;
use hub_domain::session::StoredSession;
use hub_domain::twin::{Malformed, PackedTwin, Shown, VisitedSection, Visitor};

use crate::cell::Cell;
use crate::chunk::Chunk;
use crate::column::FreshColumn;
use crate::entry::{Live, PackedEntry, Slot};
use crate::limits::Limits;
use crate::paths::{self, PathId, Paths};
use crate::shred::{Cells, Shredder};
use crate::{Counts, Fares, Source, count_fares, count_identity};

/// An identity and its twin, with the versions of their rows, and its session, if there is one.
#[derive(Debug)]
pub struct StoredRow<'r> {
    /// From the registry.
    pub identity: (Identity, u64),
    /// Packed, as its row has it. Nobody need have looked at the bytes.
    pub twin: (&'r [u8], u64),
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

/// Takes rows of one source, as many as there shall be in a chunk or two.
#[derive(Debug)]
pub struct Loading {
    loaded: Loaded,
    fresh: FreshChunk,
    limits: Limits,
}

/// A chunk on its way.
#[derive(Debug, Default)]
struct FreshChunk {
    /// Without its columns.
    chunk: Chunk,
    /// By the numbers of their paths.
    columns: Vec<FreshColumn>,
}

impl Cells for FreshChunk {
    fn set(&mut self, id: PathId, position: u16, cell: Cell<'_>, paths: &mut Paths, limits: &Limits) {
        let index = id as usize;
        if index >= self.columns.len() {
            self.columns.resize_with(index + 1, FreshColumn::default);
        }
        self.columns[index].push(position.into(), cell, limits);
        // All accounts are settled when the chunk is hung in; but a path that has nothing would be forgotten.
        paths.account(id, 1, 0);
    }

    fn mark(&mut self, position: u16) {
        self.chunk.mark(position);
    }
}

impl FreshChunk {
    fn finish(mut self, limits: &Limits) -> Chunk {
        let columns = self.columns.into_iter().map(|column| column.finish(limits));
        let columns = (0..).zip(columns).filter(|(_, column)| column.present() > 0);
        self.chunk.take_columns(columns);
        self.chunk
    }
}

impl Loading {
    pub(crate) fn new(source: Source, limits: Limits) -> Self {
        let loaded = Loaded {
            source,
            chunks: Vec::new(),
            paths: Paths::default(),
            counts: Counts::default(),
            fares: HashMap::new(),
        };
        Self { loaded, fresh: FreshChunk::default(), limits }
    }

    /// Takes the row behind all others in the order of ids. If its twin is malformed, what was loaded is of no use.
    pub fn push(&mut self, row: StoredRow<'_>) -> Result<(), Malformed> {
        if self.fresh.chunk.len() >= self.limits.chunk_rows_max {
            self.end_chunk();
        }
        let StoredRow { identity: (identity, identity_version), twin: (twin, twin_version), session } = row;
        let (loaded, live) = (&mut self.loaded, Arc::new(Live::new(session.as_ref())));
        let shredder = Shredder {
            paths: &mut loaded.paths,
            position: self.fresh.chunk.len() as u16,
            cells: &mut self.fresh,
            limits: &self.limits,
        };
        let mut filling = Filling { shredder, last: paths::TAGS, parents: Vec::new(), arrays: 0 };
        filling.shredder.new_identity(&identity, &live);
        let (twin, summary) = PackedTwin::take(twin, &mut filling)?;
        let model = summary.model_id.unwrap_or_default();
        filling.put(paths::MODEL_ID, Cell::text(model, self.limits.text_bytes_max));
        filling.shredder.configurations(&Default::default(), &summary.configurations);
        count_fares(&mut loaded.fares, &summary.configurations, 1);
        count_identity(&mut loaded.counts, &identity, 1);
        let identity = Arc::new(identity);
        let row = PackedEntry { identity, identity_version, twin, twin_version, live };
        let chunk = &mut self.fresh.chunk;
        chunk.insert(chunk.len(), Slot::Packed(Arc::new(row)));
        Ok(())
    }

    /// The rows in chunks.
    pub fn finish(mut self) -> Loaded {
        self.end_chunk();
        self.loaded
    }

    fn end_chunk(&mut self) {
        let fresh = std::mem::take(&mut self.fresh);
        if fresh.chunk.len() > 0 {
            self.loaded.chunks.push(fresh.finish(&self.limits));
        }
    }
}

/// Writes the cells of a row while its twin is walked over.
struct Filling<'s> {
    shredder: Shredder<'s, FreshChunk>,
    /// The path that was seen last.
    last: PathId,
    /// The objects that are walked through; `None` for one without a path, for there are too many.
    parents: Vec<Option<PathId>>,
    /// How many arrays, and objects in arrays, are walked through.
    arrays: usize,
}

impl Filling<'_> {
    fn child(&mut self, parent: PathId, name: &str) -> Option<PathId> {
        let Shredder { paths, cells, position, limits } = &mut self.shredder;
        let child = paths.child_behind(self.last, parent, name, limits);
        match child {
            Some(child) => self.last = child,
            None => cells.mark(*position),
        }
        child
    }

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
        let child = parent.zip(name).and_then(|(parent, name)| self.child(parent, name));
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
