//! All rows of one source, in chunks in the order of their ids.
//! Must never move more than one chunk for one change.

use std::sync::Arc;

use hub_domain::id::TwinId;

use crate::cell::Cell;
use crate::chunk::Chunk;
use crate::entry::{Entry, Slot};
use crate::limits::Limits;
use crate::paths::{CONNECTION_STATE, PathId, Paths};
use crate::shred::{Cells, Shredder};

/// See the module. No chunk is empty.
#[derive(Debug, Default)]
pub struct Table {
    chunks: Vec<Arc<Chunk>>,
}

/// What a table needs of the index to change.
pub struct Shared<'s> {
    pub paths: &'s mut Paths,
    pub limits: &'s Limits,
}

impl Table {
    /// The chunks as they are now.
    pub fn chunks(&self) -> &[Arc<Chunk>] {
        &self.chunks
    }

    /// The number of the chunk that the id is in, or belongs in.
    fn chunk_of(&self, id: &TwinId) -> usize {
        let is_before = |chunk: &Arc<Chunk>| chunk.first().is_some_and(|first| first <= id);
        self.chunks.partition_point(is_before).saturating_sub(1)
    }

    /// The row of `id`.
    pub fn get(&self, id: &TwinId) -> Option<&Slot> {
        let chunk = self.chunks.get(self.chunk_of(id))?;
        let place = chunk.find(id).ok()?;
        Some(chunk.slot(chunk.order()[place]))
    }

    /// The rows behind `after`, or from the beginning, in the order of ids.
    pub fn slots_after<'t>(&'t self, after: Option<&'t TwinId>) -> impl Iterator<Item = &'t Slot> {
        self.chunks_after(after).iter().flat_map(move |chunk| chunk.slots_after(after))
    }

    /// The chunks that hold rows behind `after`.
    pub fn chunks_after(&self, after: Option<&TwinId>) -> &[Arc<Chunk>] {
        &self.chunks[after.map_or(0, |id| self.chunk_of(id)).min(self.chunks.len())..]
    }

    /// Puts a chunk behind all others.
    pub fn append(&mut self, chunk: Chunk) {
        self.chunks.push(Arc::new(chunk));
    }

    /// Puts in the row of an entry in place of `former`, which is what the table has of the same id.
    pub fn insert(&mut self, row: Slot, entry: &Entry, former: Option<&Entry>, shared: Shared<'_>) {
        let mut number = self.chunk_of(entry.id());
        if self.chunks.is_empty() {
            self.chunks.push(Arc::default());
        }
        let place = match self.chunks[number].find(entry.id()) {
            Ok(place) => {
                let chunk = Arc::make_mut(&mut self.chunks[number]);
                let position = chunk.order()[place];
                chunk.replace(position, row);
                return write(chunk, position, former, Some(entry), shared);
            }
            Err(place) => place,
        };
        let mut place = place;
        if self.chunks[number].len() >= shared.limits.chunk_rows_max {
            (number, place) = self.make_room(number, place, shared.paths, shared.limits);
        }
        let chunk = Arc::make_mut(&mut self.chunks[number]);
        let position = chunk.insert(place, row);
        write(chunk, position, None, Some(entry), shared);
    }

    /// Packs the row of `entry`, if that is still what the table has.
    pub fn pack(&mut self, entry: &Arc<Entry>) {
        let number = self.chunk_of(entry.id());
        if let Some(chunk) = self.chunks.get_mut(number)
            && let Ok(place) = chunk.find(entry.id())
            && let position = chunk.order()[place]
            && matches!(chunk.slot(position), Slot::Open(known) if Arc::ptr_eq(known, entry))
        {
            Arc::make_mut(chunk).replace(position, Slot::packed(entry));
        }
    }

    /// Makes room in a full chunk; returns where the row goes that belonged there at `place`.
    fn make_room(
        &mut self,
        number: usize,
        place: usize,
        paths: &mut Paths,
        limits: &Limits,
    ) -> (usize, usize) {
        // Rows that come in the order of their ids fill chunk after chunk.
        if place == self.chunks[number].len() && number + 1 == self.chunks.len() {
            self.chunks.push(Arc::default());
            return (number + 1, 0);
        }
        let (first, second) = self.chunks[number].split(paths, limits);
        let half = first.len();
        self.chunks.splice(number..=number, [Arc::new(first), Arc::new(second)]);
        if place <= half { (number, place) } else { (number + 1, place - half) }
    }

    /// Takes out the entry of an id.
    pub fn remove(&mut self, id: &TwinId, shared: Shared<'_>) -> Option<Arc<Entry>> {
        let number = self.chunk_of(id);
        let place = self.chunks.get(number)?.find(id).ok()?;
        let chunk = Arc::make_mut(&mut self.chunks[number]);
        let position = chunk.order()[place];
        let former = chunk.entry(position);
        write(chunk, position, Some(&former), None, shared);
        chunk.remove(place);
        if chunk.len() == 0 {
            self.chunks.remove(number);
        }
        Some(former)
    }

    /// Writes down whether a device is attached.
    pub fn set_connected(&mut self, id: &TwinId, state: &str, shared: Shared<'_>) {
        let number = self.chunk_of(id);
        if let Some(chunk) = self.chunks.get_mut(number)
            && let Ok(place) = chunk.find(id)
            && shared.paths.is_indexed(CONNECTION_STATE)
        {
            let chunk = Arc::make_mut(chunk);
            let position = chunk.order()[place];
            chunk.set(CONNECTION_STATE, position, Cell::Text(state), shared.paths, shared.limits);
        }
    }

    /// Drops a path everywhere.
    pub fn drop_column(&mut self, id: PathId) {
        for chunk in self.chunks.iter_mut().filter(|chunk| chunk.column(id).is_some()) {
            Arc::make_mut(chunk).drop_column(id);
        }
    }
}

fn write(chunk: &mut Chunk, position: u16, old: Option<&Entry>, new: Option<&Entry>, shared: Shared<'_>) {
    let Shared { paths, limits } = shared;
    Shredder { paths, cells: chunk, position, limits }.write(old, new);
}
