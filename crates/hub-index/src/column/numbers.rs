//! Numbers by position, for a path with too many different ones for a dictionary; the odd other cell is kept aside.
//! Where there is no number stands a NaN, which JSON has not.

use hub_domain::query::Comparison;

use super::list::List;
use super::{IN, Mask, OUT, Question};
use crate::cell::Cell;

/// See the module.
#[derive(Clone, Debug)]
pub struct Numbers {
    values: Vec<f64>,
    others: List,
    present: usize,
    /// No number is below; it may lie lower than need be.
    least: f64,
    /// No number is above; it may lie higher than need be.
    most: f64,
}

impl Default for Numbers {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            others: List::default(),
            present: 0,
            least: f64::INFINITY,
            most: f64::NEG_INFINITY,
        }
    }
}

impl Numbers {
    /// What the row at `position` has.
    pub fn get(&self, position: usize) -> Cell<'_> {
        match self.values.get(position) {
            Some(number) if !number.is_nan() => Cell::Number(*number),
            _ => self.others.get(position),
        }
    }

    /// The numbers.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Positions with a place for a number.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// How many rows have something else.
    pub fn others(&self) -> usize {
        self.others.cells().len()
    }

    /// Writes a cell.
    pub fn set(&mut self, position: usize, cell: Cell<'_>) {
        let former = self.get(position);
        self.present -= usize::from(former != Cell::Absent);
        self.present += usize::from(cell != Cell::Absent);
        if position >= self.values.len() {
            self.values.resize(position + 1, f64::NAN);
        }
        let (number, other) = match cell {
            Cell::Number(number) => (number, Cell::Absent),
            other => (f64::NAN, other),
        };
        self.values[position] = number;
        self.others.set(position, other);
        self.least = self.least.min(number);
        self.most = self.most.max(number);
    }

    /// How many rows have the path.
    pub fn present(&self) -> usize {
        self.present
    }

    /// Bytes taken, without the struct.
    pub fn bytes(&self) -> usize {
        self.values.capacity() * size_of::<f64>() + self.others.bytes()
    }

    /// See [`super::Column::mask`].
    pub fn mask(&self, rows: usize, question: &Question<'_>) -> Mask {
        let mut mask = match question.numbers {
            Some((comparison, constant)) => {
                let (least, most) = (self.least, self.most);
                let none = match comparison {
                    Comparison::Equal => constant < least || constant > most,
                    Comparison::NotEqual => least == constant && most == constant,
                    Comparison::Less => least >= constant,
                    Comparison::LessOrEqual => least > constant,
                    Comparison::Greater => most <= constant,
                    Comparison::GreaterOrEqual => most < constant,
                };
                if none && self.others() == 0 {
                    return Mask::All(OUT);
                }
                compare_all(&self.values, comparison, constant)
            }
            None => {
                let say = |number: &f64| match number.is_nan() {
                    true => question.of_absent,
                    false => (question.of_cell)(Cell::Number(*number)),
                };
                self.values.iter().map(say).collect()
            }
        };
        mask.resize(rows, question.of_absent);
        self.others.for_each(|position, cell| mask[position] = (question.of_cell)(cell));
        Mask::Each(mask)
    }
}

/// One loop for each comparison, so that each is a few instructions for many numbers.
fn compare_all(values: &[f64], comparison: Comparison, constant: f64) -> Vec<u8> {
    fn each(values: &[f64], is_in: impl Fn(f64) -> bool) -> Vec<u8> {
        values.iter().map(|number| if is_in(*number) { IN } else { OUT }).collect()
    }
    match comparison {
        Comparison::Equal => each(values, |number| number == constant),
        Comparison::NotEqual => each(values, |number| !number.is_nan() && number != constant),
        Comparison::Less => each(values, |number| number < constant),
        Comparison::LessOrEqual => each(values, |number| number <= constant),
        Comparison::Greater => each(values, |number| number > constant),
        Comparison::GreaterOrEqual => each(values, |number| number >= constant),
    }
}
