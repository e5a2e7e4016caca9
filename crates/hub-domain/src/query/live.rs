//! Queries that stand: whose answer is kept up to date row by row. Must never take one for which a single changed row does
//! not say how the answer changes.

use super::ast::{ItemValue, Query, Select, Source};
use super::datum::Row;
use super::path::{Path, Root};
use super::standing::Shown;

impl Query {
    /// Whether the query can stand; the error says what would be right.
    pub fn check_live(&self) -> Result<(), String> {
        let source = match self.source() {
            Source::Devices | Source::DeviceModules => None,
            Source::DeviceJobs => Some("follow a job with its own watch, or ask again from time to time"),
            Source::RetiredDevices => {
                Some("read the events of retired devices, or ask again from time to time")
            }
        };
        if let Some(instead) = source {
            return Err(format!(
                "A query FROM {} cannot be watched, only one FROM devices or devices.modules: {instead}",
                self.source()
            ));
        }
        if self.is_aggregate() {
            return Err(
                "A query with GROUP BY or an aggregate such as COUNT() cannot be watched, since one twin \
                        changes many rows of it: watch the twins, or ask again from time to time"
                    .into(),
            );
        }
        if self.is_ordered() || self.top().is_some() {
            return Err(
                "A query with ORDER BY or TOP cannot be watched, since its rows come as they change: leave \
                        both out"
                    .into(),
            );
        }
        if self.condition().paths().iter().any(|path| path.root() == Root::LastActivityTime) {
            return Err(
                "A query cannot be watched that tests lastActivityTime, which every message moves without \
                        a change of the twin: test connectionState, or a property that the device reports"
                    .into(),
            );
        }
        Ok(())
    }

    /// What of a row is shown.
    pub fn shown(&self) -> Shown<'_> {
        match &self.select {
            Select::All => Shown::Everything,
            Select::Items(_) => Shown::Paths(self.shown_paths().collect()),
        }
    }

    /// Whether what is shown of a row differs, if anything of the row does.
    pub fn shows_difference(&self, before: &dyn Row, after: &dyn Row) -> bool {
        self.select == Select::All || self.shown_paths().any(|path| before.get(path) != after.get(path))
    }

    fn shown_paths(&self) -> impl Iterator<Item = &Path> {
        let items = match &self.select {
            Select::All => [].as_slice(),
            Select::Items(items) => items,
        };
        items.iter().filter_map(|item| match &item.value {
            ItemValue::Path(path) => Some(path),
            _ => None,
        })
    }
}
