//! What of a row is shown, and in which order rows come. Must never depend on any other row: `aggregate` does that.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use serde_json::{Map, Value};

use super::ast::{Comparison, Condition, Expr, ItemType, ItemValue, OrderBy, Query, Scope, Select, Source};
use super::datum::{Datum, Row};
use super::path::{Path, Root};
use crate::id::JobId;
use crate::job::ItemStatus;

impl Query {
    /// The whole records of a job's targets, or of those that stand at `status`.
    pub fn of_job(job: &JobId, status: Option<ItemStatus>) -> Self {
        let term = |root, value: &str| Expr::Compare {
            operator: Comparison::Equal,
            left: Box::new(Expr::Path(Path::of_root(root))),
            right: Box::new(Expr::Constant(value.into())),
        };
        let of_job = term(Root::JobId, job.as_str());
        let scope = Scope::Where(match status {
            Some(status) => Expr::All(vec![of_job, term(Root::JobStatus, status.as_str())]),
            None => of_job,
        });
        let condition = Condition { source: Source::DeviceJobs, scope };
        Self { top: None, select: Select::All, condition, group_by: Vec::new(), order_by: Vec::new() }
    }

    /// What the query ranges over.
    pub fn source(&self) -> Source {
        self.condition.source
    }

    /// Which rows it is about.
    pub fn condition(&self) -> &Condition {
        &self.condition
    }

    /// The kind of rows that it answers with.
    pub fn item_type(&self) -> ItemType {
        match (&self.select, self.source()) {
            // Rows of retired devices are no twins that a client could go on working with.
            (Select::Items(_), _) | (Select::All, Source::RetiredDevices) => ItemType::Raw,
            (Select::All, Source::DeviceJobs) => ItemType::DeviceJob,
            (Select::All, Source::Devices | Source::DeviceModules) => ItemType::Twin,
        }
    }

    /// The most rows of the whole answer, over all pages.
    pub fn top(&self) -> Option<u64> {
        self.top
    }

    /// Whether rows are counted or grouped, so that the answer comes from an [`Aggregation`](super::Aggregation).
    pub fn is_aggregate(&self) -> bool {
        let Select::Items(items) = &self.select else { return false };
        !self.group_by.is_empty() || items.iter().any(|item| !matches!(item.value, ItemValue::Path(_)))
    }

    /// Whether there is an ORDER BY.
    pub fn is_ordered(&self) -> bool {
        !self.order_by.is_empty()
    }

    /// The paths in rows that the answer is ordered by.
    pub fn sort_paths(&self) -> impl Iterator<Item = &Path> {
        self.order_by.iter().filter_map(|key| match &key.by {
            OrderBy::Path(path) => Some(path),
            OrderBy::Column(_) => None,
        })
    }

    /// Whether the answer shows rows whole.
    pub fn shows_all(&self) -> bool {
        self.select == Select::All
    }

    /// What the answer shows of `row`: all of it, or an object of the selected columns, where what the row does not
    /// have is left out. Aggregates have no value in a single row and are left out too.
    pub fn project(&self, row: &dyn Row) -> Value {
        let Select::Items(items) = &self.select else { return row.document() };
        let mut columns = Map::new();
        for item in items {
            if let ItemValue::Path(path) = &item.value
                && let Some(value) = row.get(path).into_value()
            {
                columns.insert(item.output_key().to_owned(), value);
            }
        }
        Value::Object(columns)
    }

    /// Where `row` stands in the ORDER BY of this query; equal for all rows when there is none. Callers break ties by
    /// id, so that pages are stable.
    pub fn sort_key(&self, row: &dyn Row) -> SortKey {
        SortKey::new(self, |by| match by {
            OrderBy::Path(path) => SortValue::from(row.get(path).unpacked()),
            OrderBy::Column(_) => SortValue::Undefined,
        })
    }
}

/// The place of a row in an ORDER BY. Only keys of one query are comparable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SortKey(Vec<Directed>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Directed {
    Ascending(SortValue),
    Descending(Reverse<SortValue>),
}

impl SortKey {
    /// The key made of the `value` of everything that `query` orders by.
    pub(super) fn new(query: &Query, value: impl Fn(&OrderBy) -> SortValue) -> Self {
        let parts = query.order_by.iter().map(|key| match key.descending {
            true => Directed::Descending(Reverse(value(&key.by))),
            false => Directed::Ascending(value(&key.by)),
        });
        Self(parts.collect())
    }
}

/// The first rows of an ORDER BY, out of many that are shown in the order of their ids; never holds more of them.
#[derive(Debug)]
pub struct TopRows<T> {
    rows_max: usize,
    /// The last of them on top.
    rows: BinaryHeap<TopRow<T>>,
    /// Rows seen so far: what breaks ties.
    seen: u64,
}

#[derive(Debug)]
struct TopRow<T> {
    key: (SortKey, u64),
    row: T,
}

impl<T> TopRows<T> {
    /// At most `rows_max` rows.
    pub fn new(rows_max: usize) -> Self {
        Self { rows_max, rows: BinaryHeap::new(), seen: 0 }
    }

    /// Whether a row could be among the first whose first key is `number`; for all others it need not be shown.
    pub fn could_take(&self, number: f64) -> bool {
        let last = self.rows.peek().filter(|_| self.rows.len() == self.rows_max);
        match last.and_then(|last| last.key.0.0.first()) {
            Some(Directed::Ascending(SortValue::Number(last))) => SortNumber(number) <= *last,
            Some(Directed::Descending(Reverse(SortValue::Number(last)))) => SortNumber(number) >= *last,
            _ => true,
        }
    }

    /// Shows one more row, which is only made if it is among the first.
    pub fn offer(&mut self, key: SortKey, row: impl FnOnce() -> T) {
        let key = (key, self.seen);
        self.seen += 1;
        if self.rows.len() == self.rows_max {
            if self.rows.peek().is_none_or(|last| last.key <= key) {
                return;
            }
            self.rows.pop();
        }
        self.rows.push(TopRow { key, row: row() });
    }

    /// The rows in order.
    pub fn finish(self) -> Vec<T> {
        self.rows.into_sorted_vec().into_iter().map(|top| top.row).collect()
    }
}

impl<T> Ord for TopRow<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

impl<T> PartialOrd for TopRow<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for TopRow<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<T> Eq for TopRow<T> {}

/// A value with a total order: absent, null, booleans, numbers, strings, and last arrays and objects by their text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SortValue {
    Undefined,
    Null,
    Bool(bool),
    Number(SortNumber),
    Text(String),
    Json(String),
}

impl SortValue {
    /// `None` for arrays and objects, whose text is long.
    pub(super) fn primitive(datum: Datum<'_>) -> Option<Self> {
        Some(match datum.unpacked() {
            Datum::Undefined => SortValue::Undefined,
            Datum::Null => SortValue::Null,
            Datum::Bool(flag) => SortValue::Bool(flag),
            Datum::Number(number) => SortValue::Number(SortNumber(number)),
            Datum::Str(text) => SortValue::Text(text.into_owned()),
            Datum::Json(_) => return None,
        })
    }
}

impl From<Datum<'_>> for SortValue {
    fn from(datum: Datum<'_>) -> Self {
        match datum.unpacked() {
            Datum::Json(value) => SortValue::Json(value.to_string()),
            other => SortValue::primitive(other).unwrap_or(SortValue::Undefined),
        }
    }
}

/// A finite number, in numeric order.
#[derive(Clone, Copy, Debug)]
pub(super) struct SortNumber(f64);

impl SortNumber {
    /// Of any number but NaN.
    pub(super) fn new(number: f64) -> Self {
        Self(number)
    }
}

impl Ord for SortNumber {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // Adding zero turns the negative zero into the positive one, to which it is equal.
        (self.0 + 0.0).total_cmp(&(other.0 + 0.0))
    }
}

impl PartialOrd for SortNumber {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for SortNumber {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for SortNumber {}
