//! Rows as the evaluator sees them: read from columns as long as these know the value, and only then from the twin.
//! Must give what the twin itself would give, but for how a number is written.

use std::cell::OnceCell;
use std::sync::Arc;

use hub_domain::query::{Datum, Path, Row};
use hub_domain::twin::TwinDocument;
use serde_json::Value;

use crate::cell::Cell;
use crate::chunk::Chunk;
use crate::entry::Entry;
use crate::paths::Place;

/// Where the paths of a query are looked up.
pub struct Places<'q>(Vec<(&'q Path, Place)>);

impl<'q> Places<'q> {
    pub fn new(places: Vec<(&'q Path, Place)>) -> Self {
        Self(places)
    }

    pub fn all(&self) -> &[(&'q Path, Place)] {
        &self.0
    }

    /// Of one path.
    pub fn of(&self, path: &Path) -> Place {
        let same = self.0.iter().find(|(known, _)| std::ptr::eq(*known, path));
        let found = same.or_else(|| self.0.iter().find(|(known, _)| *known == path));
        found.map_or(Place::Twin, |(_, place)| *place)
    }
}

/// See the module.
pub struct ColumnRow<'c> {
    chunk: &'c Chunk,
    position: u16,
    places: &'c Places<'c>,
    entry: OnceCell<Arc<Entry>>,
}

impl<'c> ColumnRow<'c> {
    pub fn new(chunk: &'c Chunk, position: u16, places: &'c Places<'c>) -> Self {
        Self { chunk, position, places, entry: OnceCell::new() }
    }

    /// Whether the twin was read.
    pub fn has_read_twin(&self) -> bool {
        self.entry.get().is_some()
    }

    fn twin(&self) -> TwinDocument<'_> {
        self.entry.get_or_init(|| self.chunk.entry(self.position)).document()
    }
}

impl Row for ColumnRow<'_> {
    fn get<'a>(&'a self, path: &Path) -> Datum<'a> {
        let cell = match self.places.of(path) {
            _ if self.chunk.is_marked(self.position) => Cell::Long,
            Place::Twin => Cell::Long,
            Place::Nowhere => Cell::Absent,
            Place::Column(id) => {
                let column = self.chunk.column(id);
                column.map_or(Cell::Absent, |column| column.get(usize::from(self.position)))
            }
        };
        cell.datum().unwrap_or_else(|| self.twin().value(path))
    }

    fn document(&self) -> Value {
        self.twin().document()
    }
}

/// The same with numbers as the twin has them, for an answer that shows them.
pub struct AsWritten<'r>(pub &'r ColumnRow<'r>);

impl Row for AsWritten<'_> {
    fn get<'a>(&'a self, path: &Path) -> Datum<'a> {
        match self.0.get(path) {
            Datum::Number(_) => self.0.twin().value(path),
            other => other,
        }
    }

    fn document(&self) -> Value {
        self.0.document()
    }
}

/// A row that has two values, at these paths.
pub struct TwoValues<'d>(pub [(&'d Path, Datum<'d>); 2]);

impl Row for TwoValues<'_> {
    fn get<'a>(&'a self, path: &Path) -> Datum<'a> {
        let found = self.0.iter().find(|(known, _)| *known == path);
        found.map_or(Datum::Undefined, |(_, value)| value.clone())
    }

    fn document(&self) -> Value {
        Value::Null
    }
}

/// A row that has one value, whatever it is asked for.
pub struct OneValue<'d>(pub Datum<'d>);

impl Row for OneValue<'_> {
    fn get<'a>(&'a self, _: &Path) -> Datum<'a> {
        self.0.clone()
    }

    fn document(&self) -> Value {
        self.0.clone().into_value().unwrap_or_default()
    }
}
