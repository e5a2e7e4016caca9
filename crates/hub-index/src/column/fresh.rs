//! A column on its way, as it is at start: each cell is written once, behind those that were. So a value is found by its hash, and
//! the order of values is made when all are there; to look each one up in that order is most of what loading would take.
//! Must come to the same column as [`Column::set`] with each cell.

use std::hash::RandomState;

use hashbrown::HashTable;

use super::Column;
use super::dictionary::Dictionary;
use super::list::List;
use super::numbers::Numbers;
use crate::cell::Cell;
use crate::limits::Limits;

/// See the module.
#[derive(Debug)]
pub struct FreshColumn {
    column: Column,
    /// The codes of the dictionary by the hashes of their values; `None` when the column is none any more.
    codes: Option<HashTable<u16>>,
    hasher: RandomState,
    /// The code that was written last: many paths say the same in row after row.
    last: u16,
}

impl Default for FreshColumn {
    fn default() -> Self {
        let (column, codes) = (Column::Dictionary(Dictionary::default()), Some(HashTable::new()));
        Self { column, codes, hasher: RandomState::new(), last: 0 }
    }
}

impl FreshColumn {
    /// Writes a cell that is not absent, at a position behind all others.
    pub fn push(&mut self, position: usize, cell: Cell<'_>, limits: &Limits) {
        let (Column::Dictionary(dictionary), Some(codes)) = (&mut self.column, &mut self.codes) else {
            return self.column.set(position, cell, limits);
        };
        let is_of = |code: u16| dictionary.value(code).order(cell).is_eq();
        if !is_of(self.last) {
            let hash = cell.hash(&self.hasher);
            self.last = match codes.find(hash, |code| is_of(*code)).copied() {
                Some(code) => code,
                None if dictionary.is_full(limits.narrow_codes_max) && dictionary.is_mostly_numbers() => {
                    let mut numbers = Numbers::of(dictionary);
                    numbers.set(position, cell);
                    (self.column, self.codes) = (Column::Numbers(numbers), None);
                    return;
                }
                None => {
                    let code = dictionary.push_value(cell, limits.narrow_codes_max);
                    codes.insert_unique(hash, code, |code| dictionary.value(*code).hash(&self.hasher));
                    code
                }
            };
        }
        dictionary.push(position, self.last);
    }

    /// The column.
    pub fn finish(self, limits: &Limits) -> Column {
        match self.column {
            Column::Dictionary(dictionary) if dictionary.present() <= limits.sparse_cells_max => {
                let mut list = List::default();
                (0..dictionary.len()).for_each(|position| list.set(position, dictionary.get(position)));
                Column::List(list)
            }
            Column::Dictionary(mut dictionary) => {
                dictionary.sort();
                Column::Dictionary(dictionary)
            }
            column => column,
        }
    }
}
