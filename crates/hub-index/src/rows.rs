//! Some rows of one chunk in the order of their ids, which is what sums, groups and orders go over.
//! Most often they are all rows, one position after the other: then whoever reads a column may take it as it is.

use std::borrow::Cow;

/// See the module.
#[derive(Clone, Debug)]
pub enum Rows<'r> {
    /// The positions from 0 to below this one.
    Whole(usize),
    /// The rows at these positions.
    Some(Cow<'r, [u16]>),
}

impl<'r> Rows<'r> {
    /// The rows at `positions`, which are all that are in use if `is_all`.
    pub fn new(positions: Cow<'r, [u16]>, is_all: bool) -> Self {
        // Compared without an early end, it is a few instructions for many rows.
        let places = positions.iter().zip(0u16..);
        if is_all && places.fold(true, |whole, (position, place)| whole & (*position == place)) {
            Rows::Whole(positions.len())
        } else {
            Rows::Some(positions)
        }
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        match self {
            Rows::Whole(rows) => *rows,
            Rows::Some(positions) => positions.len(),
        }
    }

    /// The position of the row at a place among them.
    pub fn position(&self, place: usize) -> u16 {
        match self {
            Rows::Whole(_) => place as u16,
            Rows::Some(positions) => positions[place],
        }
    }

    /// Those at some of the places.
    pub fn part(&self, places: std::ops::Range<usize>) -> Rows<'_> {
        match self {
            Rows::Whole(rows) if places == (0..*rows) => Rows::Whole(*rows),
            Rows::Whole(_) => Rows::Some(places.map(|place| place as u16).collect()),
            Rows::Some(positions) => Rows::Some(Cow::Borrowed(&positions[places])),
        }
    }

    /// What is made of each value of a column; of rows behind the end of `values`, that of `behind`.
    pub fn map<C: Copy, T: Copy>(&self, values: &[C], behind: T, make: impl Fn(C) -> T) -> Vec<T> {
        match self {
            Rows::Whole(rows) => {
                let known = &values[..values.len().min(*rows)];
                let mut made = Vec::with_capacity(*rows);
                made.extend(known.iter().map(|value| make(*value)));
                made.resize(*rows, behind);
                made
            }
            Rows::Some(positions) => {
                let one =
                    |position: &u16| values.get(usize::from(*position)).map_or(behind, |value| make(*value));
                positions.iter().map(one).collect()
            }
        }
    }
}
