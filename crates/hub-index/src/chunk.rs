//! Some thousand rows whose ids follow one another: their entries, and the columns of their paths.
//! A row keeps its position as long as its chunk lives; the order of ids is kept aside. Queries hold a chunk as it was, so
//! a change copies what it touches, and must touch little.

use std::ops::Range;
use std::sync::Arc;

use hub_domain::id::TwinId;

use crate::cell::Cell;
use crate::column::{Column, IN, Mask, OUT};
use crate::entry::{Entry, Slot};
use crate::keys::Keys;
use crate::limits::Limits;
use crate::paths::{PathId, Paths};
use crate::shred::Cells;

/// Entries that are copied together.
const BLOCK_ENTRIES: usize = 64;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Chunk {
    /// By position, in blocks.
    blocks: Vec<Arc<Vec<Option<Slot>>>>,
    /// Positions in the order of ids.
    order: Vec<u16>,
    /// In the same order what tells ids apart, so that a search touches no rows but the one that it finds.
    keys: Keys,
    free: Vec<u16>,
    /// `IN` for each position that has a row.
    live: Vec<u8>,
    /// Positions, in order, of rows that have paths which are not known: their cells say too little.
    marked: Vec<u16>,
    /// Bytes of the packed twins.
    packed_bytes: usize,
    /// By number.
    columns: Vec<(PathId, Arc<Column>)>,
}

impl Chunk {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Positions in use are below this.
    pub fn positions(&self) -> usize {
        self.live.len()
    }

    /// `IN` for each position that has a row.
    pub fn live(&self) -> Mask {
        if self.free.is_empty() { Mask::All(IN) } else { Mask::Each(self.live.clone()) }
    }

    /// Positions in the order of ids.
    pub fn order(&self) -> &[u16] {
        &self.order
    }

    /// Whether the cells of a row say too little.
    pub fn is_marked(&self, position: u16) -> bool {
        self.marked.binary_search(&position).is_ok()
    }

    /// Positions of rows whose cells say too little, in order.
    pub fn marked(&self) -> &[u16] {
        &self.marked
    }

    /// The row at a position that is in use.
    pub fn entry(&self, position: u16) -> Arc<Entry> {
        self.slot(position).open()
    }

    /// Likewise, as it is kept.
    pub fn slot(&self, position: u16) -> &Slot {
        let (block, at) = (usize::from(position) / BLOCK_ENTRIES, usize::from(position) % BLOCK_ENTRIES);
        self.blocks[block][at].as_ref().expect("positions in the order are in use")
    }

    /// The id of the first row.
    pub fn first(&self) -> Option<&TwinId> {
        self.order.first().map(|position| self.slot(*position).id())
    }

    /// Where the id is in the order, or would be.
    pub fn find(&self, id: &TwinId) -> Result<usize, usize> {
        let Range { start, end } = self.keys.find(id);
        let found = self.order[start..end].binary_search_by(|position| self.slot(*position).id().cmp(id));
        found.map(|place| start + place).map_err(|place| start + place)
    }

    /// The rows behind `after` in the order of ids.
    pub fn slots_after(&self, after: Option<&TwinId>) -> impl Iterator<Item = &Slot> {
        self.order[self.begin(after)..].iter().map(|position| self.slot(*position))
    }

    /// The place in the order behind `after`.
    pub fn begin(&self, after: Option<&TwinId>) -> usize {
        after.map_or(0, |id| self.find(id).map_or_else(|place| place, |place| place + 1))
    }

    /// The column of a path; `None` if no row of the chunk has the path.
    pub fn column(&self, id: PathId) -> Option<&Column> {
        let index = self.columns.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(&self.columns[index].1)
    }

    /// The columns with the numbers of their paths.
    #[cfg(test)]
    pub fn columns(&self) -> &[(PathId, Arc<Column>)] {
        &self.columns
    }

    /// Makes a place for a row at `place` in the order, which [`Chunk::find`] told.
    pub fn insert(&mut self, place: usize, row: Slot) -> u16 {
        let position = self.free.pop().unwrap_or(self.live.len() as u16);
        if usize::from(position) == self.live.len() {
            self.live.push(OUT);
        }
        self.live[usize::from(position)] = IN;
        if !self.keys.fits(row.id()) {
            let ids: Vec<&TwinId> = self.order.iter().map(|position| self.slot(*position).id()).collect();
            self.keys = Keys::new(&ids, row.id());
        }
        self.keys.insert(place, row.id());
        self.order.insert(place, position);
        self.put(position, Some(row));
        position
    }

    /// Puts another row of the same id at a position.
    pub fn replace(&mut self, position: u16, row: Slot) {
        self.put(position, Some(row));
    }

    /// Takes out the row at `place` in the order. Its cells must be gone.
    pub fn remove(&mut self, place: usize) {
        self.keys.remove(place);
        let position = self.order.remove(place);
        self.live[usize::from(position)] = OUT;
        self.free.push(position);
        self.marked.retain(|marked| *marked != position);
        self.put(position, None);
    }

    fn put(&mut self, position: u16, row: Option<Slot>) {
        let (block, at) = (usize::from(position) / BLOCK_ENTRIES, usize::from(position) % BLOCK_ENTRIES);
        if block == self.blocks.len() {
            self.blocks.push(Arc::default());
        }
        let block = Arc::make_mut(&mut self.blocks[block]);
        let bytes = |row: &Option<Slot>| row.as_ref().map_or(0, Slot::packed_bytes);
        self.packed_bytes += bytes(&row);
        if at == block.len() {
            block.push(row);
        } else {
            self.packed_bytes -= bytes(&block[at]);
            block[at] = row;
        }
    }

    /// Takes columns, in the order of their paths' numbers, in place of those there are.
    pub fn take_columns(&mut self, columns: impl Iterator<Item = (PathId, Column)>) {
        self.columns = columns.map(|(id, column)| (id, Arc::new(column))).collect();
    }

    /// Gives the columns other numbers, and accounts for them. Rows of a path without one are marked.
    pub fn number_columns(&mut self, numbers: &[Option<PathId>], paths: &mut Paths) {
        let mut columns = Vec::with_capacity(self.columns.len());
        for (id, column) in std::mem::take(&mut self.columns) {
            match numbers[id as usize] {
                Some(id) if paths.is_indexed(id) => {
                    paths.account(id, column.present() as isize, column.bytes() as isize);
                    columns.push((id, column));
                }
                // The path was given up: it is looked up in the twins.
                Some(_) => {}
                None => {
                    let rows = (0..self.positions() as u16)
                        .filter(|at| column.get(usize::from(*at)) != Cell::Absent);
                    rows.collect::<Vec<_>>().into_iter().for_each(|position| self.mark(position));
                }
            }
        }
        columns.sort_unstable_by_key(|(id, _)| *id);
        self.columns = columns;
    }

    /// Drops a path.
    pub fn drop_column(&mut self, id: PathId) {
        self.columns.retain(|(known, _)| *known != id);
    }

    /// The first half of the rows and the second, in chunks of their own.
    pub fn split(&self, paths: &mut Paths, limits: &Limits) -> (Chunk, Chunk) {
        let (first, second) = self.order.split_at(self.order.len() / 2);
        let halves = (self.pick(first, paths, limits), self.pick(second, paths, limits));
        for (id, column) in &self.columns {
            paths.account(*id, -(column.present() as isize), -(column.bytes() as isize));
        }
        halves
    }

    fn pick(&self, positions: &[u16], paths: &mut Paths, limits: &Limits) -> Chunk {
        let mut chunk = Chunk::default();
        for (place, position) in positions.iter().enumerate() {
            let new = chunk.insert(place, self.slot(*position).clone());
            if self.is_marked(*position) {
                chunk.mark(new);
            }
        }
        for (id, column) in &self.columns {
            let picked = column.pick(positions, limits);
            if picked.present() > 0 {
                paths.account(*id, picked.present() as isize, picked.bytes() as isize);
                chunk.columns.push((*id, Arc::new(picked)));
            }
        }
        chunk
    }

    /// Bytes of the packed twins.
    pub fn packed_bytes(&self) -> usize {
        self.packed_bytes
    }

    /// Bytes besides the columns' own.
    pub fn overhead_bytes(&self) -> usize {
        let columns = self.columns.capacity() * size_of::<(PathId, Arc<Column>)>();
        self.blocks.len() * (BLOCK_ENTRIES * size_of::<Option<Slot>>() + size_of::<Vec<u8>>())
            + (self.order.capacity() + self.free.capacity() + self.marked.capacity()) * 2
            + self.live.capacity()
            + self.keys.bytes()
            + columns
    }
}

impl Cells for Chunk {
    fn set(&mut self, id: PathId, position: u16, cell: Cell<'_>, paths: &mut Paths, limits: &Limits) {
        let place = self.columns.binary_search_by_key(&id, |(id, _)| *id);
        let (place, is_new) = match place {
            Ok(place) => (place, false),
            Err(_) if cell == Cell::Absent => return,
            Err(place) => {
                self.columns.insert(place, (id, Arc::default()));
                (place, true)
            }
        };
        // A copy may take less than what was accounted.
        let column = &mut self.columns[place].1;
        let before = if is_new { (0, 0) } else { (column.present(), column.bytes()) };
        let column = Arc::make_mut(column);
        column.set(usize::from(position), cell, limits);
        let mut after = (column.present(), column.bytes());
        if after.0 == 0 {
            self.columns.remove(place);
            after.1 = 0;
        }
        paths.account(id, after.0 as isize - before.0 as isize, after.1 as isize - before.1 as isize);
    }

    fn mark(&mut self, position: u16) {
        if let Err(place) = self.marked.binary_search(&position) {
            self.marked.insert(place, position);
        }
    }
}
