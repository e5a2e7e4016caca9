//! Single values of columns, and the texts that a column keeps for them.
//! Must never lose a difference that a query can see: what is not kept whole says so.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::hash::BuildHasher;

use hub_domain::query::Datum;
use serde_json::{Map, Value};

/// Texts that are no longer in use and yet kept, in bytes, before a column thinks of tidying up.
const DEAD_TEXT_BYTES_MIN: usize = 1024;

/// What one row has at one path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell<'a> {
    /// Nothing.
    Absent,
    /// An explicit null.
    Null,
    /// A boolean.
    Bool(bool),
    /// A number, as queries see it.
    Number(f64),
    /// A text.
    Text(&'a str),
    /// An array; what is in it, only the twin knows.
    Array,
    /// An object; its members have columns of their own.
    Object,
    /// Something that is too large for a column.
    Long,
}

impl<'a> Cell<'a> {
    /// Of a JSON value.
    pub fn of(value: &'a Value, text_bytes_max: usize) -> Self {
        match value {
            Value::Null => Cell::Null,
            Value::Bool(flag) => Cell::Bool(*flag),
            Value::Number(number) => match number.as_f64() {
                Some(number) if number.is_finite() => Cell::Number(number),
                _ => Cell::Long,
            },
            Value::String(text) => Cell::text(text, text_bytes_max),
            Value::Array(_) => Cell::Array,
            Value::Object(_) => Cell::Object,
        }
    }

    /// Of a text, if it is short enough.
    pub fn text(text: &'a str, text_bytes_max: usize) -> Self {
        if text.len() > text_bytes_max { Cell::Long } else { Cell::Text(text) }
    }

    /// The value, if the cell knows all of it.
    pub fn datum(self) -> Option<Datum<'a>> {
        match self {
            Cell::Absent => Some(Datum::Undefined),
            Cell::Null => Some(Datum::Null),
            Cell::Bool(flag) => Some(Datum::Bool(flag)),
            Cell::Number(number) => Some(Datum::Number(number)),
            Cell::Text(text) => Some(Datum::Str(Cow::Borrowed(text))),
            Cell::Array | Cell::Object | Cell::Long => None,
        }
    }

    /// A value of the same kind, if the kind of an array or object is all that matters.
    pub fn shallow_datum(self) -> Option<Datum<'a>> {
        match self {
            Cell::Array => Some(Datum::from(Value::Array(Vec::new()))),
            Cell::Object => Some(Datum::from(Value::Object(Map::new()))),
            other => other.datum(),
        }
    }

    fn rank(self) -> u8 {
        match self {
            Cell::Absent => 0,
            Cell::Null => 1,
            Cell::Bool(_) => 2,
            Cell::Number(_) => 3,
            Cell::Text(_) => 4,
            Cell::Array => 5,
            Cell::Object => 6,
            Cell::Long => 7,
        }
    }

    /// Whether it comes before all numbers in the order of cells.
    pub fn is_below_numbers(self) -> bool {
        self.rank() < Cell::Number(0.0).rank()
    }

    /// A total order that tells any two cells apart that differ, the two zeros included.
    pub fn order(self, other: Cell<'_>) -> Ordering {
        match (self, other) {
            (Cell::Bool(left), Cell::Bool(right)) => left.cmp(&right),
            (Cell::Number(left), Cell::Number(right)) => left.total_cmp(&right),
            (Cell::Text(left), Cell::Text(right)) => left.cmp(right),
            _ => self.rank().cmp(&other.rank()),
        }
    }

    /// The same for cells that [`Cell::order`] does not tell apart.
    pub fn hash(self, hasher: &impl BuildHasher) -> u64 {
        match self {
            Cell::Bool(flag) => hasher.hash_one(flag),
            Cell::Number(number) => hasher.hash_one(number.to_bits()),
            Cell::Text(text) => hasher.hash_one(text),
            other => hasher.hash_one(other.rank()),
        }
    }
}

/// A cell that is not absent, with its text in an [`Arena`].
#[derive(Clone, Copy, Debug)]
pub enum Stored {
    Null,
    Bool(bool),
    Number(f64),
    Text { start: u32, bytes: u32 },
    Array,
    Object,
    Long,
}

/// The texts of one column, end to end: one allocation, and copied in one go.
#[derive(Clone, Debug, Default)]
pub struct Arena {
    text: String,
    dead_bytes: usize,
}

impl Arena {
    /// Takes in a cell; `None` for an absent one.
    pub fn store(&mut self, cell: Cell<'_>) -> Option<Stored> {
        Some(match cell {
            Cell::Absent => return None,
            Cell::Null => Stored::Null,
            Cell::Bool(flag) => Stored::Bool(flag),
            Cell::Number(number) => Stored::Number(number),
            Cell::Text(text) => {
                // A chunk has at most 4096 rows with 256 bytes each, so 32 bits hold any place in it.
                let start = self.text.len() as u32;
                self.text.push_str(text);
                Stored::Text { start, bytes: text.len() as u32 }
            }
            Cell::Array => Stored::Array,
            Cell::Object => Stored::Object,
            Cell::Long => Stored::Long,
        })
    }

    /// The cell again.
    pub fn view(&self, stored: Stored) -> Cell<'_> {
        match stored {
            Stored::Null => Cell::Null,
            Stored::Bool(flag) => Cell::Bool(flag),
            Stored::Number(number) => Cell::Number(number),
            Stored::Text { start, bytes } => Cell::Text(&self.text[start as usize..(start + bytes) as usize]),
            Stored::Array => Cell::Array,
            Stored::Object => Cell::Object,
            Stored::Long => Cell::Long,
        }
    }

    /// Notes that a stored cell is out of use.
    pub fn release(&mut self, stored: Stored) {
        if let Stored::Text { bytes, .. } = stored {
            self.dead_bytes += bytes as usize;
        }
    }

    /// Moves the texts in use together, if much of the arena is out of use.
    pub fn tidy<'s>(&mut self, in_use: impl Iterator<Item = &'s mut Stored>) {
        if self.dead_bytes < DEAD_TEXT_BYTES_MIN || self.dead_bytes * 2 < self.text.len() {
            return;
        }
        let former = std::mem::take(self);
        for stored in in_use {
            if let Some(moved) = self.store(former.view(*stored)) {
                *stored = moved;
            }
        }
    }

    /// Bytes taken.
    pub fn bytes(&self) -> usize {
        self.text.capacity()
    }
}
