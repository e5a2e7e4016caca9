//! Columns against a plain list of values, through all their forms.

use std::mem::discriminant;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

const TEXTS: [&str; 5] = ["", "a", "b", "bb", "grüße"];

fn cell() -> impl Strategy<Value = Cell<'static>> {
    prop_oneof![
        3 => Just(Cell::Absent),
        1 => select(vec![Cell::Null, Cell::Array, Cell::Object, Cell::Long, Cell::Bool(true), Cell::Bool(false)]),
        3 => (-3..9).prop_map(|number| Cell::Number(f64::from(number) / 2.0)),
        1 => select(vec![Cell::Number(0.0), Cell::Number(-0.0), Cell::Number(1e300)]),
        3 => select(TEXTS.to_vec()).prop_map(Cell::Text),
    ]
}

fn number_cell() -> impl Strategy<Value = Cell<'static>> {
    prop_oneof![9 => (-20..20).prop_map(|number| Cell::Number(f64::from(number))), 1 => cell()]
}

/// Cells that are told apart although they are equal.
fn same(left: Cell<'_>, right: Cell<'_>) -> bool {
    left.order(right).is_eq()
}

fn check(column: &Column, model: &[Cell<'_>]) {
    for (position, cell) in model.iter().enumerate() {
        assert!(same(column.get(position), *cell), "{position}: {:?} is not {cell:?}", column.get(position));
    }
    assert_eq!(column.present(), model.iter().filter(|cell| **cell != Cell::Absent).count());
    let numbers = column.numbers_of(&Rows::Whole(model.len()));
    for (number, cell) in numbers.iter().zip(model) {
        assert_eq!(number.is_nan(), !matches!(cell, Cell::Number(_)));
        assert!(number.is_nan() || same(Cell::Number(*number), *cell));
    }
    let backwards: Vec<u16> = (0..model.len() as u16).rev().collect();
    let turned = column.numbers_of(&Rows::Some(Cow::Owned(backwards)));
    assert!(numbers.iter().rev().zip(turned.iter()).all(|(left, right)| left.to_bits() == right.to_bits()));
    if let Some((least, most)) = column.bounds(model.len()) {
        let is_within =
            |cell: &Cell<'_>| matches!(cell, Cell::Number(number) if (least..=most).contains(number));
        assert!(model.iter().all(is_within), "{least} to {most}: {model:?}");
    }
    let of_cell = |cell: Cell<'_>| match cell {
        Cell::Number(number) if number > 1.0 => IN,
        Cell::Text("a") => IN,
        Cell::Long => OPEN,
        Cell::Absent => IN,
        _ => OUT,
    };
    let question = Question { of_cell: &of_cell, of_absent: IN, numbers: None, text: None };
    check_mask(column, model, &question);
    for comparison in [
        Comparison::Equal,
        Comparison::NotEqual,
        Comparison::Less,
        Comparison::LessOrEqual,
        Comparison::Greater,
        Comparison::GreaterOrEqual,
    ] {
        for constant in [-2.0, 0.0, 3.0, 1e9] {
            let of_cell = |cell: Cell<'_>| match (cell, comparison) {
                (Cell::Number(number), Comparison::Equal) if number == constant => IN,
                (Cell::Number(number), Comparison::NotEqual) if number != constant => IN,
                (Cell::Number(number), Comparison::Less) if number < constant => IN,
                (Cell::Number(number), Comparison::LessOrEqual) if number <= constant => IN,
                (Cell::Number(number), Comparison::Greater) if number > constant => IN,
                (Cell::Number(number), Comparison::GreaterOrEqual) if number >= constant => IN,
                (Cell::Null, _) => IN,
                _ => OUT,
            };
            let numbers = Some((comparison, constant));
            check_mask(column, model, &Question { of_cell: &of_cell, of_absent: OUT, numbers, text: None });
        }
    }
    for text in TEXTS {
        let of_cell = |cell: Cell<'_>| match cell {
            Cell::Long => OPEN,
            cell if cell == Cell::Text(text) => IN,
            _ => OUT,
        };
        let question = Question { of_cell: &of_cell, of_absent: OUT, numbers: None, text: Some(text) };
        check_mask(column, model, &question);
    }
}

fn check_mask(column: &Column, model: &[Cell<'_>], question: &Question<'_>) {
    // Two rows in three are in from the beginning, or all.
    let some = (0..model.len()).map(|at| if at % 3 == 0 { OUT } else { IN }).collect();
    let restricted = column.restrict(model.len(), question, Mask::Each(some));
    let mask = column.restrict(model.len(), question, Mask::All(IN));
    for (position, cell) in model.iter().enumerate() {
        let said = (question.of_cell)(*cell);
        assert_eq!(mask.at(position as u16), said, "{position}: {cell:?}");
        let expected = if position % 3 == 0 { OUT } else { said };
        assert_eq!(restricted.at(position as u16), expected, "{position}: {cell:?}");
    }
    assert_eq!(mask.has_open(), (0..model.len()).any(|at| mask.at(at as u16) == OPEN));
    assert_eq!(mask.is_empty(), (0..model.len()).all(|at| mask.at(at as u16) == OUT));
    if let Some(count) = mask.count() {
        assert_eq!(count, (0..model.len()).filter(|at| mask.at(*at as u16) == IN).count());
    }
}

proptest! {
    #[test]
    fn forms_make_no_difference(
        writes in vec((0usize..12, prop_oneof![cell(), number_cell()]), 0..80),
        numeric in vec((0usize..12, number_cell()), 0..40),
        sparse_cells_max in 0usize..4,
        narrow_codes_max in 1usize..6,
        order in Just((0u16..12).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let limits = Limits { sparse_cells_max, narrow_codes_max, ..Limits::default() };
        let (mut column, mut model) = (Column::default(), vec![Cell::Absent; 12]);
        for (position, cell) in numeric.into_iter().chain(writes) {
            column.set(position, cell, &limits);
            model[position] = cell;
            check(&column, &model);
        }
        let picked: Vec<_> = order[..7].iter().map(|position| model[usize::from(*position)]).collect();
        check(&column.pick(&order[..7], &limits), &picked);
    }

    #[test]
    fn a_fresh_column_becomes_what_writing_makes(
        cells in vec(prop_oneof![cell(), number_cell()], 0..40),
        // No chunk is without rows.
        numeric in vec(number_cell(), 1..40),
        writes in vec((0usize..80, cell()), 0..20),
        sparse_cells_max in 0usize..4,
        narrow_codes_max in 4usize..8,
    ) {
        let limits = Limits { sparse_cells_max, narrow_codes_max, ..Limits::default() };
        let (mut fresh, mut column) = (FreshColumn::default(), Column::default());
        let mut model: Vec<Cell<'_>> = numeric.into_iter().chain(cells).collect();
        for (position, cell) in model.iter().enumerate().filter(|(_, cell)| **cell != Cell::Absent) {
            fresh.push(position, *cell, &limits);
            column.set(position, *cell, &limits);
        }
        let mut fresh = fresh.finish(&limits);
        check(&fresh, &model);
        prop_assert_eq!(discriminant(&fresh), discriminant(&column));
        model.resize(80, Cell::Absent);
        for (position, cell) in writes {
            fresh.set(position, cell, &limits);
            model[position] = cell;
            check(&fresh, &model);
        }
    }
}

#[test]
fn a_path_that_always_changes_takes_no_more_memory() {
    let limits = Limits { sparse_cells_max: 2, ..Limits::default() };
    let mut column = Column::default();
    let mut bytes = Vec::new();
    for round in 0..2000 {
        for position in 0..50 {
            column.set(position, Cell::Text(&format!("value {round} of {position}")), &limits);
        }
        bytes.push(column.bytes());
    }
    assert!(bytes[1999] <= 2 * bytes[20], "{} bytes became {}", bytes[20], bytes[1999]);
}

#[test]
fn rare_cells_cost_little() {
    let mut column = Column::default();
    column.set(4000, Cell::Number(1.0), &Limits::default());
    assert!(column.bytes() < 400, "{}", column.bytes());
}
