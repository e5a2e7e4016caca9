//! COUNT, AVG, SUM, MIN, MAX and GROUP BY over the rows of a query, one row at a time.
//! Must never hold a row, and never more groups than `QUERY_GROUPS_MAX`.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use super::QUERY_GROUPS_MAX;
use super::ast::{Item, ItemValue, OrderBy, Query, Select};
use super::datum::{Datum, Row};
use super::select::{SortKey, SortValue};

/// The query makes more than [`QUERY_GROUPS_MAX`] groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyGroups;

impl fmt::Display for TooManyGroups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "The query makes more than {QUERY_GROUPS_MAX} groups: group by a property with fewer values, or narrow \
             the query with WHERE"
        )
    }
}

impl std::error::Error for TooManyGroups {}

/// The running totals of an aggregate query.
#[derive(Clone, Debug)]
pub struct Aggregation<'q> {
    query: &'q Query,
    items: &'q [Item],
    groups: BTreeMap<Vec<SortValue>, Vec<Column>>,
}

/// One column of one group so far.
#[derive(Clone, Debug)]
enum Column {
    /// The same in every row of the group, numbers that are written differently aside: the first row's.
    Value(Option<Value>),
    Count(u64),
    Average {
        sum: f64,
        count: u64,
    },
    Sum(f64),
    Minimum(Option<f64>),
    Maximum(Option<f64>),
}

impl<'q> Aggregation<'q> {
    /// Nothing counted yet. `query` is one for which [`Query::is_aggregate`] holds.
    pub fn new(query: &'q Query) -> Self {
        let items: &[Item] = match &query.select {
            Select::All => &[],
            Select::Items(items) => items,
        };
        Self { query, items, groups: BTreeMap::new() }
    }

    /// Takes in one more row, which must match the query.
    ///
    /// # Errors
    /// When the row would begin a group too many; it is then not taken in.
    pub fn add(&mut self, row: &dyn Row) -> Result<(), TooManyGroups> {
        let key: Vec<SortValue> =
            self.query.group_by.iter().map(|path| SortValue::from(row.get(path))).collect();
        if !self.groups.contains_key(&key) && self.groups.len() == QUERY_GROUPS_MAX {
            return Err(TooManyGroups);
        }
        let items = self.items;
        let columns = self
            .groups
            .entry(key)
            .or_insert_with(|| items.iter().map(|item| Column::first(&item.value, row)).collect());
        for (item, column) in items.iter().zip(columns) {
            column.add(&item.value, row);
        }
        Ok(())
    }

    /// The answer: one row for each group, in the order that the query asks for, otherwise in the order of the values
    /// grouped by; at most TOP of them. Without GROUP BY there is always exactly one group.
    pub fn finish(self) -> Vec<Value> {
        let Self { query, items, mut groups } = self;
        if query.group_by.is_empty() && groups.is_empty() {
            groups.insert(Vec::new(), items.iter().map(|item| Column::empty(&item.value)).collect());
        }
        let finished = groups.into_values().map(|columns| columns.into_iter().map(Column::finish).collect());
        let mut rows: Vec<Vec<Option<Value>>> = finished.collect();
        rows.sort_by_cached_key(|columns| {
            SortKey::new(query, |by| match by {
                OrderBy::Column(index) => match columns.get(*index) {
                    Some(Some(value)) => SortValue::from(Datum::from(value)),
                    _ => SortValue::Undefined,
                },
                OrderBy::Path(_) => SortValue::Undefined,
            })
        });
        let top = query.top.and_then(|top| usize::try_from(top).ok()).unwrap_or(usize::MAX);
        rows.into_iter().take(top).map(|columns| row(items, columns)).collect()
    }
}

/// The columns under their names, absent ones left out.
fn row(items: &[Item], columns: Vec<Option<Value>>) -> Value {
    let named = items.iter().zip(columns);
    let present = named.filter_map(|(item, value)| Some((item.output_key().to_owned(), value?)));
    Value::Object(present.collect::<Map<_, _>>())
}

impl Column {
    /// The column before any row.
    fn empty(item: &ItemValue) -> Self {
        match item {
            ItemValue::Path(_) => Column::Value(None),
            ItemValue::Count => Column::Count(0),
            ItemValue::Average(_) => Column::Average { sum: 0.0, count: 0 },
            ItemValue::Sum(_) => Column::Sum(0.0),
            ItemValue::Minimum(_) => Column::Minimum(None),
            ItemValue::Maximum(_) => Column::Maximum(None),
        }
    }

    /// The column of the group that `row` begins, before the row is added.
    fn first(item: &ItemValue, row: &dyn Row) -> Self {
        match item {
            ItemValue::Path(path) => Column::Value(row.get(path).into_value()),
            aggregate => Column::empty(aggregate),
        }
    }

    fn add(&mut self, item: &ItemValue, row: &dyn Row) {
        let number = match item {
            ItemValue::Path(_) | ItemValue::Count => None,
            ItemValue::Average(path)
            | ItemValue::Sum(path)
            | ItemValue::Minimum(path)
            | ItemValue::Maximum(path) => match row.get(path).unpacked() {
                Datum::Number(number) => Some(number),
                _ => None,
            },
        };
        match (self, number) {
            (Column::Count(count), _) => *count += 1,
            (Column::Average { sum, count }, Some(number)) => {
                *sum += number;
                *count += 1;
            }
            (Column::Sum(sum), Some(number)) => *sum += number,
            (Column::Minimum(least), Some(number)) => {
                *least = Some(least.map_or(number, |least| least.min(number)))
            }
            (Column::Maximum(most), Some(number)) => {
                *most = Some(most.map_or(number, |most| most.max(number)))
            }
            _ => {}
        }
    }

    /// The value; absent where no row had a number, or where the numbers overflowed.
    fn finish(self) -> Option<Value> {
        let number = |number: f64| Datum::number(number).into_value();
        match self {
            Column::Value(value) => value,
            Column::Count(count) => Some(Value::from(count)),
            Column::Average { sum, count } => number(sum / count as f64),
            Column::Sum(sum) => number(sum),
            Column::Minimum(extreme) | Column::Maximum(extreme) => extreme.and_then(number),
        }
    }
}
