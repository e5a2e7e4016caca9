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
    Total(Total),
}

/// The numbers of many rows, joined as the column's item says.
#[derive(Clone, Copy, Debug)]
struct Total {
    number: f64,
    /// How many they are.
    count: u64,
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
        let group = self.group(row)?;
        self.add_rows(group, 1);
        for (index, path) in self.measures() {
            if let Datum::Number(number) = row.get(path).unpacked() {
                self.add_numbers(index, &[group], std::iter::once((0, number)));
            }
        }
        Ok(())
    }

    /// The paths that rows are grouped by.
    pub fn keys(&self) -> &'q [Path] {
        &self.query.group_by
    }

    /// The columns that take numbers, and what they read.
    pub fn measures(&self) -> Vec<(usize, &'q Path)> {
        self.items
            .iter()
            .enumerate()
            .filter_map(|(index, item)| Some((index, measured(&item.value)?)))
            .collect()
    }

    /// The group that `row` belongs to, if a row began it.
    pub fn known_group(&self, row: &dyn Row) -> Option<Group> {
        self.groups.get(&self.key(row)).copied().map(Group)
    }

    fn key(&self, row: &dyn Row) -> Vec<SortValue> {
        self.query.group_by.iter().map(|path| SortValue::from(row.get(path))).collect()
    }

    /// The group that `row` belongs to. It begins the group if it is the first row of it; it is not added.
    ///
    /// # Errors
    /// When that would be a group too many.
    pub fn group(&mut self, row: &dyn Row) -> Result<Group, TooManyGroups> {
        let key = self.key(row);
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

    /// Adds to the column `index` of [`Aggregation::measures`] the numbers of rows, in the order of the rows. Each comes
    /// with the place of its group in `groups`; NaN is no number.
    pub fn add_numbers(&mut self, index: usize, groups: &[Group], numbers: impl Iterator<Item = (u16, f64)>) {
        let item = &self.items[index].value;
        let total = |Group(group): &Group| match &self.columns[*group][index] {
            Column::Total(total) => *total,
            Column::Value(_) | Column::Count(_) => Total::nothing(item),
        };
        let mut totals: Vec<Total> = groups.iter().map(total).collect();
        // One loop for each, for it runs over all twins of a hub.
        match item {
            ItemValue::Path(_) | ItemValue::Count => return,
            ItemValue::Average(_) | ItemValue::Sum(_) => add_all(&mut totals, numbers, |sum, one| sum + one),
            ItemValue::Minimum(_) => add_all(&mut totals, numbers, f64::min),
            ItemValue::Maximum(_) => add_all(&mut totals, numbers, f64::max),
        }
        for (Group(group), total) in groups.iter().zip(totals) {
            self.columns[*group][index] = Column::Total(total);
        }
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
        let finished = in_order.map(|columns| {
            items.iter().zip(columns).map(|(item, column)| column.finish(&item.value)).collect()
        });
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

/// The path whose numbers an item takes.
fn measured(item: &ItemValue) -> Option<&Path> {
    match item {
        ItemValue::Path(_) | ItemValue::Count => None,
        ItemValue::Average(path)
        | ItemValue::Sum(path)
        | ItemValue::Minimum(path)
        | ItemValue::Maximum(path) => Some(path),
    }
}

fn add_all(totals: &mut [Total], numbers: impl Iterator<Item = (u16, f64)>, join: impl Fn(f64, f64) -> f64) {
    for (at, number) in numbers.filter(|(_, number)| !number.is_nan()) {
        let total = &mut totals[usize::from(at)];
        total.number = join(total.number, number);
        total.count += 1;
    }
}

impl Total {
    /// What joined with any number gives that number.
    fn nothing(item: &ItemValue) -> Self {
        let number = match item {
            ItemValue::Minimum(_) => f64::INFINITY,
            ItemValue::Maximum(_) => f64::NEG_INFINITY,
            _ => 0.0,
        };
        Self { number, count: 0 }
    }
}

impl Column {
    /// The column before any row.
    fn empty(item: &ItemValue) -> Self {
        match item {
            ItemValue::Path(_) => Column::Value(None),
            ItemValue::Count => Column::Count(0),
            item => Column::Total(Total::nothing(item)),
        }
    }

    /// The column of the group that `row` begins, before the row is added.
    fn first(item: &ItemValue, row: &dyn Row) -> Self {
        match item {
            ItemValue::Path(path) => Column::Value(row.get(path).into_value()),
            aggregate => Column::empty(aggregate),
        }
    }

    /// The value; absent where no row had a number, or where the numbers overflowed.
    fn finish(self, item: &ItemValue) -> Option<Value> {
        let number = |number: f64| Datum::number(number).into_value();
        match self {
            Column::Value(value) => value,
            Column::Count(count) => Some(Value::from(count)),
            Column::Total(total) => match item {
                ItemValue::Average(_) => number(total.number / total.count as f64),
                // The sum of nothing is 0; the least of nothing is infinite, hence absent.
                _ => number(total.number),
            },
        }
    }
}
