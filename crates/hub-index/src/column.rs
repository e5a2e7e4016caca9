//! One path over the rows of one chunk. A column begins as a short list of cells, becomes codes into a dictionary when
//! more rows have the path, and plain numbers when there are too many different ones.
//! Must never answer otherwise after it changed its form.

mod dictionary;
mod fresh;
mod list;
mod numbers;

use std::borrow::Cow;

use hub_domain::query::Comparison;

use crate::cell::Cell;
use crate::limits::Limits;
use crate::rows::Rows;
pub use dictionary::Dictionary;
pub use fresh::FreshColumn;
use list::List;
use numbers::Numbers;

/// Says of a row that it is not in the selection.
pub const OUT: u8 = 0b00;
/// Says of a row that it may be in the selection: the twin must be asked.
pub const OPEN: u8 = 0b10;
/// Says of a row that it is in the selection. `&` and `|` of these three are AND and OR.
pub const IN: u8 = 0b11;

/// See the module.
#[derive(Clone, Debug)]
pub enum Column {
    List(List),
    Dictionary(Dictionary),
    Numbers(Numbers),
}

impl Default for Column {
    fn default() -> Self {
        Column::List(List::default())
    }
}

/// What a column is asked: which of its rows are in a selection.
pub struct Question<'t> {
    /// What to say of a cell.
    pub of_cell: &'t dyn Fn(Cell<'_>) -> u8,
    /// That of an absent one.
    pub of_absent: u8,
    /// How numbers are in, if that is all there is to say of them; then no absent cell is.
    pub numbers: Option<(Comparison, f64)>,
    /// The only text that is in, if no other cell is, unless it is too long to be told.
    pub text: Option<&'t str>,
}

impl Question<'_> {
    /// What to say of a cell that is there.
    pub fn say(&self, cell: Cell<'_>) -> u8 {
        match (self.numbers, cell) {
            (Some((comparison, constant)), Cell::Number(number)) => {
                if comparison.holds(number, constant) {
                    IN
                } else {
                    OUT
                }
            }
            _ => (self.of_cell)(cell),
        }
    }
}

/// The rows of a chunk that are in a selection.
#[derive(Clone, Debug, PartialEq)]
pub enum Mask {
    /// All rows alike.
    All(u8),
    /// A byte for each position.
    Each(Vec<u8>),
}

impl Column {
    /// What the row at `position` has.
    pub fn get(&self, position: usize) -> Cell<'_> {
        match self {
            Column::List(list) => list.get(position),
            Column::Dictionary(dictionary) => dictionary.get(position),
            Column::Numbers(numbers) => numbers.get(position),
        }
    }

    /// Writes a cell.
    pub fn set(&mut self, position: usize, cell: Cell<'_>, limits: &Limits) {
        match self {
            Column::List(list) => {
                list.set(position, cell);
                if list.cells().len() > limits.sparse_cells_max {
                    let mut dictionary = Dictionary::default();
                    let narrow_max = limits.narrow_codes_max;
                    list.for_each(|position, cell| dictionary.set(position, cell, narrow_max));
                    *self = Column::Dictionary(dictionary);
                }
            }
            Column::Dictionary(dictionary) => {
                if dictionary.outgrows(cell, limits.narrow_codes_max) && dictionary.is_mostly_numbers() {
                    let mut numbers = Numbers::of(dictionary);
                    numbers.set(position, cell);
                    *self = Column::Numbers(numbers);
                } else {
                    dictionary.set(position, cell, limits.narrow_codes_max);
                }
            }
            Column::Numbers(numbers) => {
                numbers.set(position, cell);
                if numbers.others() > limits.sparse_cells_max.max(numbers.len() / 4) {
                    let mut dictionary = Dictionary::wide();
                    let narrow_max = limits.narrow_codes_max;
                    (0..numbers.len()).for_each(|row| dictionary.set(row, numbers.get(row), narrow_max));
                    *self = Column::Dictionary(dictionary);
                }
            }
        }
    }

    /// How many rows have the path.
    pub fn present(&self) -> usize {
        match self {
            Column::List(list) => list.cells().len(),
            Column::Dictionary(dictionary) => dictionary.present(),
            Column::Numbers(numbers) => numbers.present(),
        }
    }

    /// Bytes taken.
    pub fn bytes(&self) -> usize {
        size_of::<Column>()
            + match self {
                Column::List(list) => list.bytes(),
                Column::Dictionary(dictionary) => dictionary.bytes(),
                Column::Numbers(numbers) => numbers.bytes(),
            }
    }

    /// A column in which the rows at `positions` come one after the other.
    pub fn pick(&self, positions: &[u16], limits: &Limits) -> Column {
        if let Column::Dictionary(dictionary) = self {
            return Column::Dictionary(dictionary.pick(positions));
        }
        let mut picked = Column::default();
        for (to, from) in positions.iter().enumerate() {
            match self.get(usize::from(*from)) {
                Cell::Absent => {}
                cell => picked.set(to, cell, limits),
            }
        }
        picked
    }

    /// The rows of `within`, out of the first `rows`, that are in by this column, too.
    pub fn restrict(&self, rows: usize, question: &Question<'_>, within: Mask) -> Mask {
        match self {
            Column::List(list) => list.restrict(rows, question, within),
            Column::Dictionary(dictionary) => dictionary.restrict(rows, question, within),
            Column::Numbers(numbers) => numbers.restrict(rows, question, within),
        }
    }

    /// The number of each of the rows, NaN where there is none.
    pub fn numbers_of(&self, rows: &Rows<'_>) -> Cow<'_, [f64]> {
        match self {
            Column::List(list) => {
                let number = |place| number(list.get(usize::from(rows.position(place))));
                (0..rows.len()).map(number).collect()
            }
            Column::Dictionary(dictionary) => Cow::Owned(dictionary.numbers_of(rows)),
            Column::Numbers(numbers) => numbers.numbers_of(rows),
        }
    }

    /// A least and a most number, which no number is beyond; `None` unless all of the first `rows` have a number.
    pub fn bounds(&self, rows: usize) -> Option<(f64, f64)> {
        match self {
            Column::List(_) => None,
            Column::Dictionary(dictionary) => dictionary.bounds(rows),
            Column::Numbers(numbers) => numbers.bounds(rows),
        }
    }

    /// The dictionary, if the column has that form.
    pub fn dictionary(&self) -> Option<&Dictionary> {
        match self {
            Column::Dictionary(dictionary) => Some(dictionary),
            _ => None,
        }
    }
}

/// One of two bytes, without a branch: so that a loop over rows becomes a few instructions for many of them.
fn choose(is_first: bool, first: u8, second: u8) -> u8 {
    second ^ ((first ^ second) & u8::from(is_first).wrapping_neg())
}

fn number(cell: Cell<'_>) -> f64 {
    match cell {
        Cell::Number(number) => number,
        _ => f64::NAN,
    }
}

impl Mask {
    /// Rows that are in both.
    pub fn and(self, other: Mask) -> Mask {
        self.join(other, |left, right| left & right)
    }

    /// What becomes of a byte for each of so many positions.
    pub fn each(self, positions: usize, change: impl FnOnce(&mut [u8])) -> Mask {
        let mut each = match self {
            Mask::All(OUT) => return self,
            Mask::All(one) => vec![one; positions],
            Mask::Each(each) => each,
        };
        change(&mut each);
        Mask::Each(each)
    }

    /// Rows that are in any.
    pub fn or(self, other: Mask) -> Mask {
        self.join(other, |left, right| left | right)
    }

    fn join(self, other: Mask, join: impl Fn(u8, u8) -> u8) -> Mask {
        match (self, other) {
            (Mask::All(left), Mask::All(right)) => Mask::All(join(left, right)),
            (Mask::All(one), Mask::Each(mut each)) | (Mask::Each(mut each), Mask::All(one)) => {
                each.iter_mut().for_each(|row| *row = join(*row, one));
                Mask::Each(each)
            }
            (Mask::Each(mut left), Mask::Each(right)) => {
                left.iter_mut().zip(right).for_each(|(left, right)| *left = join(*left, right));
                Mask::Each(left)
            }
        }
    }

    /// What it says of a position.
    pub fn at(&self, position: u16) -> u8 {
        match self {
            Mask::All(one) => *one,
            Mask::Each(each) => each[usize::from(position)],
        }
    }

    /// Leaves a position open.
    pub fn open(&mut self, position: u16, positions: usize) {
        self.put(position, positions, OPEN);
    }

    /// Decides about a position.
    pub fn decide(&mut self, position: u16, positions: usize, is_in: bool) {
        self.put(position, positions, if is_in { IN } else { OUT });
    }

    fn put(&mut self, position: u16, positions: usize, said: u8) {
        if let Mask::All(one) = self {
            *self = Mask::Each(vec![*one; positions]);
        }
        if let Mask::Each(each) = self {
            each[usize::from(position)] = said;
        }
    }

    /// Whether it leaves a row open.
    pub fn has_open(&self) -> bool {
        match self {
            Mask::All(one) => *one == OPEN,
            // Of the three, only that one has the upper bit alone.
            Mask::Each(each) => each.iter().fold(OUT, |all, row| all | (row & !(row << 1))) & 0b10 != 0,
        }
    }

    /// How many positions are in; `None` if it says the same of all.
    pub fn count(&self) -> Option<usize> {
        match self {
            Mask::All(_) => None,
            // Its lowest bit tells `IN` from the others; a byte holds the sum of 128 of them.
            Mask::Each(each) => {
                let sum = |some: &[u8]| usize::from(some.iter().map(|row| row & 1).sum::<u8>());
                Some(each.chunks(128).map(sum).sum())
            }
        }
    }

    /// Whether no row is in, nor may be.
    pub fn is_empty(&self) -> bool {
        match self {
            Mask::All(one) => *one == OUT,
            // Without an early end, it is a few instructions for many rows.
            Mask::Each(each) => each.iter().fold(OUT, |all, row| all | row) == OUT,
        }
    }
}

#[cfg(test)]
mod tests;
