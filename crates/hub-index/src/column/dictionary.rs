//! A code for each row, and each different value once: what most paths have few of.
//! A value nobody has any more must leave, so that a path which always changes takes no more memory than its rows.

use std::ops::Range;

use hub_domain::query::Comparison;

use super::{IN, Mask, OUT, Question, choose, number};
use crate::cell::{Arena, Cell, Stored};
use crate::rows::Rows;

/// See the module. Code 0 says that the path is absent; code `n` stands for the value at `n - 1`.
#[derive(Clone, Debug, Default)]
pub struct Dictionary {
    codes: Codes,
    values: Vec<Stored>,
    /// Rows with each value; 0 for a code that is free.
    counts: Vec<u16>,
    /// Codes in use, in the order of their values.
    sorted: Vec<u16>,
    free: Vec<u16>,
    arena: Arena,
    present: usize,
}

/// Codes by position; rows behind the end are absent.
#[derive(Clone, Debug)]
pub enum Codes {
    Narrow(Vec<u8>),
    Wide(Vec<u16>),
}

impl Default for Codes {
    fn default() -> Self {
        Codes::Narrow(Vec::new())
    }
}

impl Codes {
    fn get(&self, position: usize) -> u16 {
        match self {
            Codes::Narrow(codes) => codes.get(position).copied().map_or(0, u16::from),
            Codes::Wide(codes) => codes.get(position).copied().unwrap_or(0),
        }
    }

    fn set(&mut self, position: usize, code: u16) {
        if position >= self.len() {
            if code == 0 {
                return;
            }
            match self {
                Codes::Narrow(codes) => codes.resize(position + 1, 0),
                Codes::Wide(codes) => codes.resize(position + 1, 0),
            }
        }
        match self {
            Codes::Narrow(codes) => codes[position] = code as u8,
            Codes::Wide(codes) => codes[position] = code,
        }
    }

    fn len(&self) -> usize {
        match self {
            Codes::Narrow(codes) => codes.len(),
            Codes::Wide(codes) => codes.len(),
        }
    }
}

impl Dictionary {
    /// With codes for any number of values.
    pub fn wide() -> Self {
        Self { codes: Codes::Wide(Vec::new()), ..Self::default() }
    }

    /// What the row at `position` has.
    pub fn get(&self, position: usize) -> Cell<'_> {
        self.value(self.code(position))
    }

    /// The code of the row at `position`.
    pub fn code(&self, position: usize) -> u16 {
        self.codes.get(position)
    }

    /// What a code stands for.
    pub fn value(&self, code: u16) -> Cell<'_> {
        match code.checked_sub(1) {
            Some(index) => self.arena.view(self.values[usize::from(index)]),
            None => Cell::Absent,
        }
    }

    /// Codes are below this.
    pub fn codes_end(&self) -> usize {
        self.values.len() + 1
    }

    /// Positions that have a code.
    pub fn len(&self) -> usize {
        self.codes.len()
    }

    /// The code of a value, if any row has it.
    pub fn code_of(&self, cell: Cell<'_>) -> Option<u16> {
        self.find(cell).ok().map(|place| self.sorted[place])
    }

    fn find(&self, cell: Cell<'_>) -> Result<usize, usize> {
        self.sorted.binary_search_by(|code| self.value(*code).order(cell))
    }

    /// Whether one value more is too many for narrow codes.
    pub fn is_full(&self, narrow_max: usize) -> bool {
        matches!(self.codes, Codes::Narrow(_)) && self.sorted.len() >= narrow_max
    }

    /// Whether `cell` is one value too many for narrow codes.
    pub fn outgrows(&self, cell: Cell<'_>, narrow_max: usize) -> bool {
        self.is_full(narrow_max) && cell != Cell::Absent && self.find(cell).is_err()
    }

    /// Whether most values are numbers.
    pub fn is_mostly_numbers(&self) -> bool {
        let numbers = self.sorted.iter().filter(|code| matches!(self.value(**code), Cell::Number(_)));
        numbers.count() * 8 > self.sorted.len() * 7
    }

    /// Writes a cell.
    pub fn set(&mut self, position: usize, cell: Cell<'_>, narrow_max: usize) {
        let former = self.code(position);
        let code = if cell == Cell::Absent { 0 } else { self.code_or_new(cell, narrow_max) };
        if code != 0 {
            self.counts[usize::from(code - 1)] += 1;
            self.present += 1;
        }
        self.codes.set(position, code);
        if former != 0 {
            self.present -= 1;
            let count = &mut self.counts[usize::from(former - 1)];
            *count -= 1;
            if *count == 0 {
                self.forget(former);
            }
        }
    }

    /// The code of a value that is there, made if need be.
    fn code_or_new(&mut self, cell: Cell<'_>, narrow_max: usize) -> u16 {
        match self.find(cell) {
            Ok(place) => self.sorted[place],
            Err(place) => self.new_code(place, cell, narrow_max),
        }
    }

    /// A code for a value that no row has, whose place in the order is `place`.
    fn new_code(&mut self, place: usize, cell: Cell<'_>, narrow_max: usize) -> u16 {
        if self.is_full(narrow_max)
            && let Codes::Narrow(codes) = &self.codes
        {
            self.codes = Codes::Wide(codes.iter().copied().map(u16::from).collect());
        }
        let Some(stored) = self.arena.store(cell) else { return 0 };
        let code = match self.free.pop() {
            Some(code) => {
                self.values[usize::from(code - 1)] = stored;
                code
            }
            None => {
                self.values.push(stored);
                self.counts.push(0);
                self.values.len() as u16
            }
        };
        self.sorted.insert(place, code);
        code
    }

    /// A code for a value that no row has, which is put into the order by [`Dictionary::sort`] alone.
    pub fn push_value(&mut self, cell: Cell<'_>, narrow_max: usize) -> u16 {
        self.new_code(self.sorted.len(), cell, narrow_max)
    }

    /// Gives a row behind all that have one its code.
    pub fn push(&mut self, position: usize, code: u16) {
        self.counts[usize::from(code - 1)] += 1;
        self.present += 1;
        self.codes.set(position, code);
    }

    /// Brings the codes in use into the order of their values.
    pub fn sort(&mut self) {
        let mut sorted = std::mem::take(&mut self.sorted);
        sorted.sort_unstable_by(|left, right| self.value(*left).order(self.value(*right)));
        self.sorted = sorted;
    }

    /// Frees the code of a value that no row has any more.
    fn forget(&mut self, code: u16) {
        if let Ok(place) = self.find(self.value(code)) {
            self.sorted.remove(place);
        }
        let stored = &mut self.values[usize::from(code - 1)];
        self.arena.release(std::mem::replace(stored, Stored::Null));
        self.free.push(code);
        self.arena.tidy(self.values.iter_mut());
    }

    /// How many rows have the path.
    pub fn present(&self) -> usize {
        self.present
    }

    /// Bytes taken, without the struct.
    pub fn bytes(&self) -> usize {
        let codes = match &self.codes {
            Codes::Narrow(codes) => codes.capacity(),
            Codes::Wide(codes) => codes.capacity() * 2,
        };
        codes
            + self.values.capacity() * size_of::<Stored>()
            + (self.counts.capacity() + self.sorted.capacity() + self.free.capacity()) * 2
            + self.arena.bytes()
    }

    /// See [`super::Column::pick`].
    pub fn pick(&self, positions: &[u16]) -> Self {
        let mut picked = self.clone();
        picked.counts.fill(0);
        picked.present = 0;
        let narrow = matches!(self.codes, Codes::Narrow(_));
        picked.codes = if narrow { Codes::default() } else { Codes::Wide(Vec::new()) };
        for (to, from) in positions.iter().enumerate() {
            let code = self.code(usize::from(*from));
            if code != 0 {
                picked.codes.set(to, code);
                picked.counts[usize::from(code - 1)] += 1;
                picked.present += 1;
            }
        }
        let is_used: Vec<bool> = picked.counts.iter().map(|count| *count > 0).collect();
        for code in std::mem::take(&mut picked.sorted) {
            let index = usize::from(code - 1);
            if is_used[index] {
                picked.sorted.push(code);
            } else {
                picked.arena.release(std::mem::replace(&mut picked.values[index], Stored::Null));
                picked.free.push(code);
            }
        }
        picked.arena.tidy(picked.values.iter_mut());
        picked
    }

    /// See [`super::Column::restrict`].
    pub fn restrict(&self, rows: usize, question: &Question<'_>, within: Mask) -> Mask {
        match self.verdict(rows, question) {
            Verdict::Alike(said) => within.and(Mask::All(said)),
            Verdict::Apart { code, said, others } => within.each(rows, |mask| match &self.codes {
                Codes::Narrow(codes) => restrict_apart(mask, codes, (code as u8, said), others),
                Codes::Wide(codes) => restrict_apart(mask, codes, (code, said), others),
            }),
            Verdict::Table(mut table) => within.each(rows, |mask| match &self.codes {
                Codes::Narrow(codes) => {
                    // Any byte is a place in it, which spares a look whether it is.
                    table.resize(usize::from(u8::MAX) + 1, OUT);
                    restrict_some(mask, codes, table[0], |code| table[usize::from(code)]);
                }
                Codes::Wide(codes) => {
                    restrict_some(mask, codes, table[0], |code| table[usize::from(code)]);
                }
            }),
        }
    }

    fn verdict(&self, rows: usize, question: &Question<'_>) -> Verdict {
        if let Some((comparison, constant)) = question.numbers {
            return self.verdict_of_numbers(rows, comparison, constant, question);
        }
        let absent = (self.present < rows).then_some((0, question.of_absent));
        if let Some(text) = question.text {
            // All other values are out, as what is absent.
            let told = [Cell::Text(text), Cell::Long]
                .map(|cell| Some((self.code_of(cell)?, (question.of_cell)(cell))));
            return match told {
                [None, None] => Verdict::Alike(question.of_absent),
                [Some((code, said)), None] | [None, Some((code, said))] => {
                    Verdict::Apart { code, said, others: question.of_absent }
                }
                [Some(text), Some(long)] => self.table(question.of_absent, [text, long].into_iter()),
            };
        }
        // In the order in which values and their texts lie in memory.
        let codes = (1..).zip(&self.counts).filter(|(_, count)| **count > 0).map(|(code, _)| code);
        let told: Vec<(u16, u8)> = codes.map(|code| (code, (question.of_cell)(self.value(code)))).collect();
        let all = || absent.into_iter().chain(told.iter().copied());
        let Some((_, first)) = all().next() else { return Verdict::Alike(question.of_absent) };
        let mut others = all().filter(|(_, said)| *said != first);
        let Some((code, said)) = others.next() else { return Verdict::Alike(first) };
        if others.next().is_none() {
            return Verdict::Apart { code, said, others: first };
        }
        let mut like_first = all().filter(|(_, other)| *other != said);
        match (like_first.next(), like_first.next()) {
            (Some((code, first)), None) => Verdict::Apart { code, said: first, others: said },
            _ => self.table(question.of_absent, told.into_iter()),
        }
    }

    /// Numbers stand next to one another in the order of values, so that few of them need be looked at.
    fn verdict_of_numbers(
        &self,
        rows: usize,
        comparison: Comparison,
        constant: f64,
        question: &Question<'_>,
    ) -> Verdict {
        let numbers = self.numbers();
        let sorted = &self.sorted[numbers.clone()];
        let end_of = |is_before: &dyn Fn(f64) -> bool| {
            sorted.partition_point(|code| is_before(number(self.value(*code))))
        };
        let (least, most) = (end_of(&|number| number < constant), end_of(&|number| number <= constant));
        let parts = match comparison {
            Comparison::Less => [0..least, 0..0],
            Comparison::LessOrEqual => [0..most, 0..0],
            Comparison::Equal => [least..most, 0..0],
            Comparison::NotEqual => [0..least, most..sorted.len()],
            Comparison::Greater => [most..sorted.len(), 0..0],
            Comparison::GreaterOrEqual => [least..sorted.len(), 0..0],
        };
        let others = self.sorted[..numbers.start].iter().chain(&self.sorted[numbers.end..]);
        let of_others = others.map(|code| (*code, (question.of_cell)(self.value(*code))));
        match parts.each_ref().map(Range::len).iter().sum() {
            0 if sorted.len() == self.sorted.len() => Verdict::Alike(OUT),
            told if told == self.sorted.len() && self.present == rows => Verdict::Alike(IN),
            _ => {
                let codes_in = parts.into_iter().flat_map(|part| &sorted[part]).map(|code| (*code, IN));
                self.table(OUT, of_others.chain(codes_in))
            }
        }
    }

    /// Where the numbers stand among the sorted codes.
    fn numbers(&self) -> Range<usize> {
        let is_number =
            |code: Option<&u16>| code.is_some_and(|code| matches!(self.value(*code), Cell::Number(_)));
        // Most often there is nothing else.
        if is_number(self.sorted.first()) && is_number(self.sorted.last()) {
            return 0..self.sorted.len();
        }
        let start = self.sorted.partition_point(|code| self.value(*code).is_below_numbers());
        let numbers = self.sorted[start..].partition_point(|code| is_number(Some(code)));
        start..start + numbers
    }

    /// See [`super::Column::bounds`].
    pub fn bounds(&self, rows: usize) -> Option<(f64, f64)> {
        let is_all = self.present == rows && self.numbers() == (0..self.sorted.len());
        let [least, most] = [self.sorted.first()?, self.sorted.last()?].map(|code| number(self.value(*code)));
        is_all.then_some((least, most))
    }

    fn table(&self, of_others: u8, told: impl Iterator<Item = (u16, u8)>) -> Verdict {
        let mut table = vec![of_others; self.codes_end()];
        told.for_each(|(code, said)| table[usize::from(code)] = said);
        Verdict::Table(table)
    }

    /// See [`super::Column::numbers_of`].
    pub fn numbers_of(&self, rows: &Rows<'_>) -> Vec<f64> {
        self.of_codes(rows, |code| number(self.value(code)), f64::NAN)
    }

    /// For each row what is made of its code, once for each code; `unused` stands for any.
    pub fn of_codes<T: Copy>(&self, rows: &Rows<'_>, make: impl Fn(u16) -> T, unused: T) -> Vec<T> {
        let mut table: Vec<T> = (0..self.codes_end() as u16).map(make).collect();
        match &self.codes {
            Codes::Narrow(codes) => {
                // Any byte is a place in it, which spares a look whether it is.
                table.resize(usize::from(u8::MAX) + 1, unused);
                let table: &[T; 256] = table.first_chunk().expect("of that length");
                rows.map(codes, table[0], |code| table[usize::from(code)])
            }
            Codes::Wide(codes) => rows.map(codes, table[0], |code| table[usize::from(code)]),
        }
    }
}

/// What is said of the rows by their codes.
enum Verdict {
    /// Of all the same.
    Alike(u8),
    /// One code is told apart from all others: that takes one comparison a row.
    Apart { code: u16, said: u8, others: u8 },
    /// By code.
    Table(Vec<u8>),
}

/// Restricts rows with one code by what is said of it, all others by `others`, and rows behind the end of codes as those
/// with code 0. A few instructions for many rows.
fn restrict_apart<C: Copy + Default + PartialEq>(mask: &mut [u8], codes: &[C], one: (C, u8), others: u8) {
    let say = |code: C| choose(code == one.0, one.1, others);
    let (known, rest) = mask.split_at_mut(codes.len().min(mask.len()));
    known.iter_mut().zip(codes).for_each(|(row, code)| *row &= say(*code));
    rest.iter_mut().for_each(|row| *row &= say(C::default()));
}

/// Restricts each row by its code, rows behind the end of codes by `behind`. That takes a look for each row: passes over rows that are out already.
fn restrict_some<C: Copy>(mask: &mut [u8], codes: &[C], behind: u8, say: impl Fn(C) -> u8) {
    const ROWS_AT_ONCE: usize = 8;
    let (known, rest) = mask.split_at_mut(codes.len().min(mask.len()));
    for (rows, codes) in known.chunks_mut(ROWS_AT_ONCE).zip(codes.chunks(ROWS_AT_ONCE)) {
        if rows.iter().fold(OUT, |all, row| all | row) != OUT {
            rows.iter_mut().zip(codes).for_each(|(row, code)| *row &= say(*code));
        }
    }
    rest.iter_mut().for_each(|row| *row &= behind);
}
