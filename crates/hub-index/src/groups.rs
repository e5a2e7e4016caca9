//! Counts and groups rows of a chunk by the codes of their values; a value itself is looked at once for each code.
//! Must add numbers in the order of the rows: sums of doubles depend on it.

use std::collections::HashMap;

use hub_domain::query::{Aggregation, Group, Path, TooManyGroups};

use crate::cell::Cell;
use crate::chunk::Chunk;
use crate::column::Column;
use crate::paths::Place;
use crate::row::{AsWritten, ColumnRow, Places};
use crate::rows::Rows;

/// Most codes for which there is a place each; more are numbered again.
const CODES_MAX: usize = 1 << 14;
/// The code of a row whose value is not known from columns.
const UNKNOWN: u32 = u32::MAX;

/// Adds the rows.
pub fn add<'q>(
    aggregation: &mut Aggregation<'q>,
    chunk: &Chunk,
    rows: &Rows<'_>,
    places: &Places<'q>,
) -> Result<(), TooManyGroups> {
    let (keys, measures) = (aggregation.keys(), aggregation.measures());
    let is_in_twins = |path: &Path| places.of(path) == Place::Twin;
    let is_none_known = keys.iter().any(is_in_twins) || measures.iter().any(|(_, path)| is_in_twins(path));
    let codes = if is_none_known { Codes::unknown(rows) } else { Codes::of(keys, chunk, rows, places) };
    let measures: Vec<_> = measures
        .into_iter()
        .filter_map(|(index, path)| Some((index, column(path, chunk, places)?)))
        .collect();
    if codes.are_all_known {
        return add_known(aggregation, chunk, (rows, &codes.by_row, codes.end), &measures, places);
    }
    let mut begin = 0;
    for run in codes.by_row.chunk_by(|left, right| (*left == UNKNOWN) == (*right == UNKNOWN)) {
        let rows = rows.part(begin..begin + run.len());
        begin += run.len();
        if run[0] == UNKNOWN {
            let mut positions = (0..rows.len()).map(|place| rows.position(place));
            positions.try_for_each(|position| aggregation.add(&chunk.entry(position).document()))?;
        } else {
            add_known(aggregation, chunk, (&rows, run, codes.end), &measures, places)?;
        }
    }
    Ok(())
}

/// Rows with their codes, all of which are known, and what is above all codes.
type Known<'r> = (&'r Rows<'r>, &'r [u32], usize);

fn add_known(
    aggregation: &mut Aggregation<'_>,
    chunk: &Chunk,
    (rows, codes, codes_end): Known<'_>,
    measures: &[(usize, &Column)],
    places: &Places<'_>,
) -> Result<(), TooManyGroups> {
    // How many rows have each code, and the first of them.
    let mut seen = vec![(0u32, 0u32); codes_end];
    for (place, code) in codes.iter().enumerate().rev() {
        let (count, first) = &mut seen[*code as usize];
        *count += 1;
        *first = place as u32;
    }
    let (mut groups, mut group_of): (Vec<Group>, Vec<u16>) = (Vec::new(), vec![0; codes_end]);
    for (code, (count, first)) in seen.into_iter().enumerate().filter(|(_, (count, _))| *count > 0) {
        let row = ColumnRow::new(chunk, rows.position(first as usize), places);
        let group = match aggregation.known_group(&row) {
            Some(group) => group,
            None => aggregation.group(&AsWritten(&row))?,
        };
        aggregation.add_rows(group, count.into());
        group_of[code] = groups.len() as u16;
        groups.push(group);
    }
    for (index, column) in measures {
        let numbers = column.numbers_of(rows);
        let group_of_row = codes.iter().map(|code| group_of[*code as usize]);
        aggregation.add_numbers(*index, &groups, group_of_row.zip(numbers.iter().copied()));
    }
    Ok(())
}

fn column<'c>(path: &Path, chunk: &'c Chunk, places: &Places<'_>) -> Option<&'c Column> {
    match places.of(path) {
        Place::Column(id) => chunk.column(id),
        Place::Nowhere | Place::Twin => None,
    }
}

/// A number for each row that is the same exactly for rows of one group.
struct Codes {
    by_row: Vec<u32>,
    /// All that are known are below this.
    end: usize,
    /// Whether no row is [`UNKNOWN`].
    are_all_known: bool,
}

impl Codes {
    fn unknown(rows: &Rows<'_>) -> Self {
        Self { by_row: vec![UNKNOWN; rows.len()], end: 0, are_all_known: false }
    }

    fn of(keys: &[Path], chunk: &Chunk, rows: &Rows<'_>, places: &Places<'_>) -> Self {
        let mut codes = Codes { by_row: Vec::new(), end: 1, are_all_known: true };
        for column in keys.iter().filter_map(|key| column(key, chunk, places)) {
            codes.combine(column, rows);
        }
        codes.by_row.resize(rows.len(), 0);
        if !chunk.marked().is_empty() {
            codes.are_all_known = false;
            let marked = |place: &usize| chunk.is_marked(rows.position(*place));
            (0..rows.len()).filter(marked).for_each(|place| codes.by_row[place] = UNKNOWN);
        }
        codes
    }

    /// Tells rows apart by a column, too.
    fn combine(&mut self, column: &Column, rows: &Rows<'_>) {
        let mut is_known = |cell: Cell<'_>| {
            let is_known = !matches!(cell, Cell::Array | Cell::Object | Cell::Long);
            self.are_all_known &= is_known;
            is_known
        };
        let (own, end): (Vec<u32>, usize) = match column.dictionary() {
            Some(dictionary) => {
                let zeros = [0.0, -0.0].map(|zero| dictionary.code_of(Cell::Number(zero)));
                let mut codes = vec![0; dictionary.codes_end()];
                for (code, own) in (0u16..).zip(&mut codes) {
                    *own = match dictionary.value(code) {
                        cell if !is_known(cell) => UNKNOWN,
                        // The two zeros are one group.
                        _ if Some(code) == zeros[1] => u32::from(zeros[0].unwrap_or(code)),
                        _ => u32::from(code),
                    };
                }
                (dictionary.of_codes(rows, |code| codes[usize::from(code)], 0), codes.len())
            }
            None => {
                let mut known = HashMap::new();
                let own = |place| match column.get(usize::from(rows.position(place))) {
                    cell if !is_known(cell) => UNKNOWN,
                    Cell::Absent => 0,
                    cell => {
                        let fresh = known.len() as u32 + 1;
                        *known.entry(key_of(cell)).or_insert(fresh)
                    }
                };
                ((0..rows.len()).map(own).collect(), known.len() + 1)
            }
        };
        if self.by_row.is_empty() {
            self.by_row = own;
        } else {
            self.add(end, own.into_iter());
        }
        self.end *= end;
        if self.end > CODES_MAX {
            self.number_again();
        }
    }

    fn add(&mut self, end: usize, own: impl Iterator<Item = u32>) {
        for (code, own) in self.by_row.iter_mut().zip(own) {
            *code = match *code {
                UNKNOWN => UNKNOWN,
                _ if own == UNKNOWN => UNKNOWN,
                // Both ends are at most some ten thousand, see `CODES_MAX`.
                code => code * end as u32 + own,
            };
        }
    }

    /// There are never more codes than rows of a chunk.
    fn number_again(&mut self) {
        let mut known = HashMap::new();
        for code in self.by_row.iter_mut().filter(|code| **code != UNKNOWN) {
            let fresh = known.len() as u32;
            *code = *known.entry(*code).or_insert(fresh);
        }
        self.end = known.len().max(1);
    }
}

/// What tells values of different groups apart: the two zeros are one group.
fn key_of(cell: Cell<'_>) -> (u8, u64, &str) {
    match cell {
        Cell::Null => (1, 0, ""),
        Cell::Bool(flag) => (2, u64::from(flag), ""),
        Cell::Number(number) => (3, (number + 0.0).to_bits(), ""),
        Cell::Text(text) => (4, 0, text),
        Cell::Absent | Cell::Array | Cell::Object | Cell::Long => (0, 0, ""),
    }
}
