//! Decides about rows by the values of two columns: each pair of values is looked at once, however many rows have it.
//! Must never look at more pairs than there may be rows in a chunk; with more, it leaves the rows open.

use crate::cell::Cell;
use crate::column::{Dictionary, Mask, OPEN, OUT};
use crate::limits::CHUNK_ROWS_MAX;
use crate::rows::Rows;

/// Pairs of values of two columns.
const PAIRS_MAX: usize = CHUNK_ROWS_MAX;
/// That nobody asked for a pair yet; no mask says so.
const UNTOLD: u8 = u8::MAX;

/// The rows of `within`, out of the first `rows`, that are in by what `say` says of their cells in both columns, where
/// `None` is a column that no row has.
pub fn restrict(
    rows: usize,
    columns: [Option<&Dictionary>; 2],
    say: impl Fn(Cell<'_>, Cell<'_>) -> u8,
    within: Mask,
) -> Mask {
    let [left_end, right_end] = columns.map(|column| column.map_or(1, Dictionary::codes_end));
    // Codes take 16 bits each, so their pairs can be counted.
    let pairs = left_end * right_end;
    if pairs > PAIRS_MAX {
        return within.and(Mask::All(OPEN));
    }
    let mut told = vec![UNTOLD; pairs];
    let cell =
        |column: usize, code: usize| columns[column].map_or(Cell::Absent, |column| column.value(code as u16));
    let mut say_of = |pair: usize| {
        if told[pair] == UNTOLD {
            told[pair] = say(cell(0, pair / right_end), cell(1, pair % right_end));
        }
        told[pair]
    };
    let codes = |column: usize, times: usize| {
        let of_rows = |column: &Dictionary| {
            column.of_codes(&Rows::Whole(rows), |code| (usize::from(code) * times) as u32, 0)
        };
        columns[column].map_or_else(|| vec![0; rows], of_rows)
    };
    let (left, right) = (codes(0, right_end), codes(1, 1));
    within.each(rows, |mask| {
        let pairs = left.iter().zip(&right).map(|(left, right)| (left + right) as usize);
        for (row, pair) in mask.iter_mut().zip(pairs).filter(|(row, _)| **row != OUT) {
            *row &= say_of(pair);
        }
    })
}
