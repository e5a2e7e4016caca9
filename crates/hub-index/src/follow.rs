//! The rows of a standing query page by page, joined with the steps that it is told meanwhile: nothing twice, nothing left
//! out. A page is of the moment at which it is begun, and none is held while its reader takes his time, for a snapshot
//! that is held for long keeps a copy of all that changes.

use hub_domain::id::TwinId;
use hub_domain::query::{self, Query};

use crate::selection::Selection;
use crate::watched::{Moment, Told};
use crate::{Index, Source};

/// See the module. The order is: [`Follow::page`], then the steps up to its moment that are [wanted](Follow::wants), then
/// the rows of the page, [`Follow::reached`], and so on until [`Follow::is_whole`]; from then on every step is wanted.
#[derive(Debug, Default)]
pub struct Follow {
    reached: Reached,
}

#[derive(Debug, Default)]
enum Reached {
    #[default]
    Nothing,
    /// All rows up to this one were given.
    Row(TwinId),
    All,
}

impl Follow {
    /// Whether all rows were given.
    pub fn is_whole(&self) -> bool {
        matches!(self.reached, Reached::All)
    }

    /// The next rows of the query, which [stands](Index::watch) already, as of the moment that is returned.
    pub fn page<'q>(&self, index: &Index, query: &'q Query) -> (Moment, Selection<'q>) {
        let source = match query.source() {
            query::Source::DeviceModules => Source::Modules,
            _ => Source::Devices,
        };
        let after = match &self.reached {
            Reached::Row(id) => Some(id),
            Reached::Nothing | Reached::All => None,
        };
        index.select_now(source, query.condition(), [], after)
    }

    /// Whether a step is news to the reader: of a row that no page has reached, a later one tells as it is by then.
    pub fn wants(&self, told: &Told) -> bool {
        match &self.reached {
            Reached::Nothing => false,
            Reached::Row(id) => told.entry.id() <= id,
            Reached::All => true,
        }
    }

    /// Notes the last row that was taken of a page; `None` if there are no more.
    pub fn reached(&mut self, last: Option<TwinId>) {
        self.reached = last.map_or(Reached::All, Reached::Row);
    }
}
