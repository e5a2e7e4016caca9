//! Numbers by position, for a path with too many different ones for a dictionary; the odd other cell is kept aside.
//! Where there is no number stands a NaN, which JSON has not.

use std::borrow::Cow;

use hub_domain::query::Comparison;

use super::dictionary::Dictionary;
use super::list::List;
use super::{IN, Mask, OUT, Question, choose};
use crate::cell::Cell;
use crate::rows::Rows;

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
    /// The cells of a dictionary.
    pub fn of(dictionary: &Dictionary) -> Self {
        let mut numbers = Self::default();
        (0..dictionary.len()).for_each(|row| numbers.set(row, dictionary.get(row)));
        numbers
    }

    /// What the row at `position` has.
    pub fn get(&self, position: usize) -> Cell<'_> {
        match self.values.get(position) {
            Some(number) if !number.is_nan() => Cell::Number(*number),
            _ => self.others.get(position),
        }
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

    /// See [`super::Column::numbers_of`].
    pub fn numbers_of(&self, rows: &Rows<'_>) -> Cow<'_, [f64]> {
        match rows {
            Rows::Whole(rows) if *rows == self.values.len() => Cow::Borrowed(&self.values),
            rows => Cow::Owned(rows.map(&self.values, f64::NAN, |number| number)),
        }
    }

    /// See [`super::Column::bounds`].
    pub fn bounds(&self, rows: usize) -> Option<(f64, f64)> {
        (self.present == rows && self.others() == 0).then_some((self.least, self.most))
    }

    /// How many rows have the path.
    pub fn present(&self) -> usize {
        self.present
    }

    /// Bytes taken, without the struct.
    pub fn bytes(&self) -> usize {
        self.values.capacity() * size_of::<f64>() + self.others.bytes()
    }

    /// See [`super::Column::restrict`].
    pub fn restrict(&self, rows: usize, question: &Question<'_>, within: Mask) -> Mask {
        if let Some((comparison, constant)) = question.numbers
            && self.others() == 0
        {
            if self.none_is(comparison, constant) {
                return Mask::All(OUT);
            }
            if self.present == rows && self.none_is(comparison.complement(), constant) {
                return within;
            }
        }
        within.each(rows, |mask| {
            let others: Vec<(usize, u8)> = {
                let mut others = Vec::new();
                self.others.for_each(|at, cell| others.push((at, mask[at] & (question.of_cell)(cell))));
                others
            };
            let (known, behind) = mask.split_at_mut(self.values.len().min(rows));
            match question.numbers {
                Some((comparison, constant)) => compare_all(known, &self.values, comparison, constant),
                None => known.iter_mut().zip(&self.values).filter(|(row, _)| **row != OUT).for_each(
                    |(row, number)| {
                        *row &= if number.is_nan() {
                            question.of_absent
                        } else {
                            (question.of_cell)(Cell::Number(*number))
                        };
                    },
                ),
            }
            behind.iter_mut().for_each(|row| *row &= question.of_absent);
            others.into_iter().for_each(|(at, said)| mask[at] = said);
        })
    }

    /// Whether the bounds say that no number compares so.
    fn none_is(&self, comparison: Comparison, constant: f64) -> bool {
        let (least, most) = (self.least, self.most);
        match comparison {
            Comparison::Equal => constant < least || constant > most,
            Comparison::NotEqual => least == constant && most == constant,
            Comparison::Less => least >= constant,
            Comparison::LessOrEqual => least > constant,
            Comparison::Greater => most <= constant,
            Comparison::GreaterOrEqual => most < constant,
        }
    }
}

/// One loop for each comparison, so that each is a few instructions for many numbers. None holds for a NaN.
fn compare_all(mask: &mut [u8], values: &[f64], comparison: Comparison, constant: f64) {
    fn each(mask: &mut [u8], values: &[f64], is_in: impl Fn(f64) -> bool) {
        let rows = mask.iter_mut().zip(values);
        rows.for_each(|(row, number)| *row &= choose(is_in(*number), IN, OUT));
    }
    match comparison {
        Comparison::Equal => each(mask, values, |number| number == constant),
        Comparison::NotEqual => each(mask, values, |number| !number.is_nan() && number != constant),
        Comparison::Less => each(mask, values, |number| number < constant),
        Comparison::LessOrEqual => each(mask, values, |number| number <= constant),
        Comparison::Greater => each(mask, values, |number| number > constant),
        Comparison::GreaterOrEqual => each(mask, values, |number| number >= constant),
    }
}
