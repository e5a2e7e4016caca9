//! COUNT, AVG, SUM, MIN, MAX and GROUP BY over the rows of a query, one row at a time.
//! Must never hold a row, and never more groups than `QUERY_GROUPS_MAX`.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use super::QUERY_GROUPS_MAX;
use super::ast::{Item, ItemValue, OrderBy, Query, Select};
use super::datum::{Datum, Row};
use super::path::Path;
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
    /// Where the columns of the group with these values are.
    groups: BTreeMap<Vec<SortValue>, usize>,
    columns: Vec<Vec<Column>>,
}

/// A group of an [`Aggregation`], see [`Aggregation::group`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group(usize);

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
        Self { query, items, groups: BTreeMap::new(), columns: Vec::new() }
    }

    /// Takes in one more row, which must match the query.
    ///
    /// # Errors
    /// When the row would begin a group too many; it is then not taken in.
    pub fn add(&mut self, row: &dyn Row) -> Result<(), TooManyGroups> {
        let Group(group) = self.group(row)?;
        for (item, column) in self.items.iter().zip(&mut self.columns[group]) {
            column.add(&item.value, row);
        }
        Ok(())
    }

    /// The paths that rows are grouped by.
    pub fn keys(&self) -> &'q [Path] {
        &self.query.group_by
    }

    /// The columns that take numbers, and what they read.
    pub fn measures(&self) -> Vec<(usize, &'q Path)> {
        let number = |item: &'q Item| match &item.value {
            ItemValue::Path(_) | ItemValue::Count => None,
            ItemValue::Average(path)
            | ItemValue::Sum(path)
            | ItemValue::Minimum(path)
            | ItemValue::Maximum(path) => Some(path),
        };
        self.items.iter().enumerate().filter_map(|(index, item)| Some((index, number(item)?))).collect()
    }

    /// The group that `row` belongs to. It begins the group if it is the first row of it; it is not added.
    ///
    /// # Errors
    /// When that would be a group too many.
    pub fn group(&mut self, row: &dyn Row) -> Result<Group, TooManyGroups> {
        let key: Vec<SortValue> =
            self.query.group_by.iter().map(|path| SortValue::from(row.get(path))).collect();
        if let Some(group) = self.groups.get(&key) {
            return Ok(Group(*group));
        }
        if self.groups.len() == QUERY_GROUPS_MAX {
            return Err(TooManyGroups);
        }
        let group = self.columns.len();
        self.columns.push(self.items.iter().map(|item| Column::first(&item.value, row)).collect());
        self.groups.insert(key, group);
        Ok(Group(group))
    }

    /// Counts `rows` more rows of the group, whose numbers are added by [`Aggregation::add_numbers`].
    pub fn add_rows(&mut self, Group(group): Group, rows: u64) {
        for column in &mut self.columns[group] {
            if let Column::Count(count) = column {
                *count += rows;
            }
        }
    }

    /// Adds numbers of rows of the group, in the order of the rows, to the column `index` of [`Aggregation::measures`].
    pub fn add_numbers(&mut self, Group(group): Group, index: usize, numbers: impl Iterator<Item = f64>) {
        let column = &mut self.columns[group][index];
        numbers.for_each(|number| column.add_number(number));
    }

    /// The answer: one row for each group, in the order that the query asks for, otherwise in the order of the values
    /// grouped by; at most TOP of them. Without GROUP BY there is always exactly one group.
    pub fn finish(self) -> Vec<Value> {
        let Self { query, items, mut groups, mut columns } = self;
        if query.group_by.is_empty() && groups.is_empty() {
            groups.insert(Vec::new(), columns.len());
            columns.push(items.iter().map(|item| Column::empty(&item.value)).collect());
        }
        let in_order = groups.into_values().map(|group| std::mem::take(&mut columns[group]));
        let finished = in_order.map(|columns| columns.into_iter().map(Column::finish).collect());
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
        match item {
            ItemValue::Path(_) => {}
            ItemValue::Count => {
                if let Column::Count(count) = self {
                    *count += 1;
                }
            }
            ItemValue::Average(path)
            | ItemValue::Sum(path)
            | ItemValue::Minimum(path)
            | ItemValue::Maximum(path) => {
                if let Datum::Number(number) = row.get(path).unpacked() {
                    self.add_number(number);
                }
            }
        }
    }

    fn add_number(&mut self, number: f64) {
        match self {
            Column::Value(_) | Column::Count(_) => {}
            Column::Average { sum, count } => {
                *sum += number;
                *count += 1;
            }
            Column::Sum(sum) => *sum += number,
            Column::Minimum(least) => *least = Some(least.map_or(number, |least| least.min(number))),
            Column::Maximum(most) => *most = Some(most.map_or(number, |most| most.max(number))),
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
