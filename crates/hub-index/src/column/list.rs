//! The few cells of a rare path, one by one in the order of their positions.
//! It must cost next to nothing when a chunk has thousands of such paths.

use super::{Mask, Question};
use crate::cell::{Arena, Cell, Stored};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct List {
    cells: Vec<(u16, Stored)>,
    arena: Arena,
}

impl List {
    /// The cells there are, with their positions.
    pub fn cells(&self) -> &[(u16, Stored)] {
        &self.cells
    }

    /// What the row at `position` has.
    pub fn get(&self, position: usize) -> Cell<'_> {
        match self.find(position) {
            Ok(index) => self.arena.view(self.cells[index].1),
            Err(_) => Cell::Absent,
        }
    }

    fn find(&self, position: usize) -> Result<usize, usize> {
        self.cells.binary_search_by_key(&position, |(position, _)| usize::from(*position))
    }

    /// Writes a cell.
    pub fn set(&mut self, position: usize, cell: Cell<'_>) {
        let found = self.find(position);
        if let Ok(index) = found {
            self.arena.release(self.cells[index].1);
        }
        match (found, self.arena.store(cell)) {
            (Ok(index), Some(stored)) => self.cells[index].1 = stored,
            (Ok(index), None) => drop(self.cells.remove(index)),
            (Err(index), Some(stored)) => self.cells.insert(index, (position as u16, stored)),
            (Err(_), None) => {}
        }
        self.arena.tidy(self.cells.iter_mut().map(|(_, stored)| stored));
    }

    /// See [`super::Column::restrict`].
    pub fn restrict(&self, rows: usize, question: &Question<'_>, within: Mask) -> Mask {
        let said = |cell: &(u16, Stored)| question.say(self.arena.view(cell.1));
        if self.cells.iter().all(|cell| said(cell) == question.of_absent) {
            return within.and(Mask::All(question.of_absent));
        }
        within.each(rows, |mask| {
            let kept: Vec<u8> =
                self.cells.iter().map(|cell| mask[usize::from(cell.0)] & said(cell)).collect();
            mask.iter_mut().for_each(|row| *row &= question.of_absent);
            self.cells.iter().zip(kept).for_each(|(cell, said)| mask[usize::from(cell.0)] = said);
        })
    }

    /// Every cell there is.
    pub fn for_each(&self, mut use_cell: impl FnMut(usize, Cell<'_>)) {
        for (position, stored) in &self.cells {
            use_cell(usize::from(*position), self.arena.view(*stored));
        }
    }

    /// Bytes taken, without the struct.
    pub fn bytes(&self) -> usize {
        self.cells.capacity() * size_of::<(u16, Stored)>() + self.arena.bytes()
    }
}
