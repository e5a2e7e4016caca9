//! Counts and groups rows of a chunk by the codes of their values; a value itself is looked at once for each code.
//! Must add numbers in the order of the rows: sums of doubles depend on it.

use std::collections::HashMap;

use hub_domain::query::{Aggregation, Group, Path, TooManyGroups};

use crate::cell::Cell;
use crate::chunk::Chunk;
use crate::column::Column;
use crate::paths::Place;
use crate::row::Places;

/// Most combinations of codes for which a group is kept in a plain list.
const DENSE_CODES_MAX: u64 = 1 << 16;
/// The code of a row whose value is not known from columns.
const UNKNOWN: u64 = u64::MAX;

/// Adds the rows at `positions`, which are in the order of ids.
pub fn add<'q>(
    aggregation: &mut Aggregation<'q>,
    chunk: &Chunk,
    positions: impl Iterator<Item = u16>,
    places: &Places<'q>,
) -> Result<(), TooManyGroups> {
    let (keys, measures) = (aggregation.keys(), aggregation.measures());
    let is_in_twins = |path: &Path| places.of(path) == Place::Twin;
    let codes = if keys.iter().any(is_in_twins) || measures.iter().any(|(_, path)| is_in_twins(path)) {
        None
    } else {
        Codes::of(keys, chunk, places)
    };
    let Some(codes) = codes else {
        for position in positions {
            aggregation.add(&chunk.entry(position).document())?;
        }
        return Ok(());
    };
    let numbers: Vec<(usize, Vec<f64>)> = measures
        .iter()
        .filter_map(|(index, path)| Some((*index, column(path, chunk, places)?.numbers(chunk.positions()))))
        .collect();
    let mut groups = Groups::new(codes.end);
    for position in positions {
        let code = codes.at(position);
        if code == UNKNOWN || chunk.is_marked(position) {
            aggregation.add(&chunk.entry(position).document())?;
            continue;
        }
        let (group, rows) = match groups.slot(code) {
            Some(known) => known,
            slot => slot.insert((aggregation.group(&chunk.entry(position).document())?, 0)),
        };
        *rows += 1;
        for (index, numbers) in &numbers {
            let number = numbers[usize::from(position)];
            if !number.is_nan() {
                aggregation.add_numbers(*group, *index, std::iter::once(number));
            }
        }
    }
    for (group, rows) in groups.into_all() {
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

/// A number for each position that is the same exactly for rows of one group.
struct Codes {
    by_position: Vec<u64>,
    end: u64,
}

impl Codes {
    /// `None` if there are too many combinations.
    fn of(keys: &[Path], chunk: &Chunk, places: &Places<'_>) -> Option<Self> {
        let mut codes = Codes { by_position: vec![0; chunk.positions()], end: 1 };
        if keys.is_empty() {
            codes.by_position.clear();
        }
        for key in keys {
            if let Some(column) = column(key, chunk, places) {
                codes.combine(column)?;
            }
        }
        Some(codes)
    }

    fn combine<'c>(&mut self, column: &'c Column) -> Option<()> {
        let chunk_rows = self.by_position.len();
        let mut known = HashMap::new();
        let mut of_cell = |cell: Cell<'c>, fresh: u64| match cell {
            Cell::Array | Cell::Object | Cell::Long => UNKNOWN,
            Cell::Absent => 0,
            cell => *known.entry(key_of(cell)).or_insert(fresh + 1),
        };
        let (table, end): (Vec<u64>, u64) = match column.dictionary() {
            Some(dictionary) => {
                let codes = 0..dictionary.codes_end() as u16;
                let table = codes.map(|code| of_cell(dictionary.value(code), u64::from(code))).collect();
                (table, dictionary.codes_end() as u64 + 1)
            }
            None => (Vec::new(), self.by_position.len() as u64 + 2),
        };
        let all = self.end.checked_mul(end).filter(|end| *end < UNKNOWN)?;
        if self.end > 1 {
            let known = self.by_position.iter_mut().filter(|code| **code != UNKNOWN);
            known.for_each(|code| *code *= end);
        }
        let mut add = |position: usize, own: u64| {
            let code = &mut self.by_position[position];
            *code = if *code == UNKNOWN || own == UNKNOWN { UNKNOWN } else { *code + own };
        };
        match column.dictionary() {
            Some(dictionary) => dictionary.for_each_code(|row, code| add(row, table[usize::from(code)])),
            None => (0..chunk_rows).for_each(|row| add(row, of_cell(column.get(row), row as u64))),
        }
        self.end = all;
        Some(())
    }

    fn at(&self, position: u16) -> u64 {
        self.by_position.get(usize::from(position)).copied().unwrap_or(0)
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

/// The groups by code, with rows counted.
enum Groups {
    Dense(Vec<Option<(Group, u64)>>),
    Sparse(HashMap<u64, Option<(Group, u64)>>),
}

impl Groups {
    fn new(codes_end: u64) -> Self {
        match codes_end {
            end if end <= DENSE_CODES_MAX => Groups::Dense(vec![None; end as usize]),
            _ => Groups::Sparse(HashMap::new()),
        }
    }

    fn slot(&mut self, code: u64) -> &mut Option<(Group, u64)> {
        match self {
            Groups::Dense(groups) => &mut groups[code as usize],
            Groups::Sparse(groups) => groups.entry(code).or_default(),
        }
    }

    fn into_all(self) -> Vec<(Group, u64)> {
        match self {
            Groups::Dense(groups) => groups.into_iter().flatten().collect(),
            Groups::Sparse(groups) => groups.into_values().flatten().collect(),
        }
    }
}
