//! Counts and groups rows of a chunk by the codes of their values; a value itself is looked at once for each code.
//! Must add numbers in the order of the rows: sums of doubles depend on it.

use std::collections::HashMap;

use hub_domain::query::{Aggregation, Group, Path, TooManyGroups};

use crate::cell::Cell;
use crate::chunk::Chunk;
use crate::column::Column;
use crate::paths::Place;
use crate::row::{AsWritten, ColumnRow, Places};

/// Most codes for which there is a place each; more are numbered again.
const CODES_MAX: usize = 1 << 14;
/// The code of a row whose value is not known from columns.
const UNKNOWN: u32 = u32::MAX;
/// The place of a code that no row had yet.
const NO_PLACE: u16 = u16::MAX;

/// Adds the rows at `positions`, which are in the order of ids.
pub fn add<'q>(
    aggregation: &mut Aggregation<'q>,
    chunk: &Chunk,
    positions: &[u16],
    places: &Places<'q>,
) -> Result<(), TooManyGroups> {
    let (keys, measures) = (aggregation.keys(), aggregation.measures());
    let is_in_twins = |path: &Path| places.of(path) == Place::Twin;
    let is_none_known = keys.iter().any(is_in_twins) || measures.iter().any(|(_, path)| is_in_twins(path));
    let codes =
        if is_none_known { Codes::unknown(positions) } else { Codes::of(keys, chunk, positions, places) };
    let measures: Vec<_> = measures
        .into_iter()
        .filter_map(|(index, path)| Some((index, column(path, chunk, places)?)))
        .collect();
    let mut begin = 0;
    for run in codes.by_row.chunk_by(|left, right| (*left == UNKNOWN) == (*right == UNKNOWN)) {
        let positions = &positions[begin..begin + run.len()];
        begin += run.len();
        if run[0] == UNKNOWN {
            positions.iter().try_for_each(|position| aggregation.add(&chunk.entry(*position).document()))?;
        } else {
            add_known(aggregation, chunk, (positions, run, codes.end), &measures, places)?;
        }
    }
    Ok(())
}

/// Rows with their codes, all of which are known, and what is above all codes.
type Known<'r> = (&'r [u16], &'r [u32], usize);

fn add_known(
    aggregation: &mut Aggregation<'_>,
    chunk: &Chunk,
    (positions, codes, codes_end): Known<'_>,
    measures: &[(usize, &Column)],
    places: &Places<'_>,
) -> Result<(), TooManyGroups> {
    let mut place_of = vec![NO_PLACE; codes_end];
    let (mut groups, mut counts): (Vec<Group>, Vec<u64>) = (Vec::new(), Vec::new());
    let mut by_row = Vec::with_capacity(if measures.is_empty() { 0 } else { positions.len() });
    for (position, code) in positions.iter().zip(codes) {
        let place = &mut place_of[*code as usize];
        if *place == NO_PLACE {
            *place = groups.len() as u16;
            let row = ColumnRow::new(chunk, *position, places);
            groups.push(match aggregation.known_group(&row) {
                Some(group) => group,
                None => aggregation.group(&AsWritten(&row))?,
            });
            counts.push(0);
        }
        counts[usize::from(*place)] += 1;
        if !measures.is_empty() {
            by_row.push(*place);
        }
    }
    for (index, column) in measures {
        let numbers = column.numbers_at(positions);
        aggregation.add_numbers(*index, &groups, by_row.iter().copied().zip(numbers));
    }
    for (group, rows) in groups.into_iter().zip(counts) {
        aggregation.add_rows(group, rows);
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
}

impl Codes {
    fn unknown(positions: &[u16]) -> Self {
        Self { by_row: vec![UNKNOWN; positions.len()], end: 0 }
    }

    fn of(keys: &[Path], chunk: &Chunk, positions: &[u16], places: &Places<'_>) -> Self {
        let mut codes = Codes { by_row: vec![0; positions.len()], end: 1 };
        for column in keys.iter().filter_map(|key| column(key, chunk, places)) {
            codes.combine(column, positions);
        }
        if !chunk.marked().is_empty() {
            let rows = codes.by_row.iter_mut().zip(positions);
            rows.filter(|(_, position)| chunk.is_marked(**position)).for_each(|(code, _)| *code = UNKNOWN);
        }
        codes
    }

    /// Tells rows apart by a column, too.
    fn combine(&mut self, column: &Column, positions: &[u16]) {
        let end = match column.dictionary() {
            Some(dictionary) => {
                let codes = 0..dictionary.codes_end() as u16;
                let zeros = [0.0, -0.0].map(|zero| dictionary.code_of(Cell::Number(zero)));
                let own = codes.map(|code| match dictionary.value(code) {
                    Cell::Array | Cell::Object | Cell::Long => UNKNOWN,
                    // The two zeros are one group.
                    _ if Some(code) == zeros[1] => u32::from(zeros[0].unwrap_or(code)),
                    _ => u32::from(code),
                });
                let own: Vec<u32> = own.collect();
                self.add(
                    own.len(),
                    positions.iter().map(|at| own[usize::from(dictionary.code(usize::from(*at)))]),
                );
                own.len()
            }
            None => {
                let mut known = HashMap::new();
                let own = positions.iter().map(|at| match column.get(usize::from(*at)) {
                    Cell::Array | Cell::Object | Cell::Long => UNKNOWN,
                    Cell::Absent => 0,
                    cell => {
                        let fresh = known.len() as u32 + 1;
                        *known.entry(key_of(cell)).or_insert(fresh)
                    }
                });
                let own: Vec<u32> = own.collect();
                self.add(known.len() + 1, own.into_iter());
                known.len() + 1
            }
        };
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
