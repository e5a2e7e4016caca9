//! A code for each row, and each different value once: what most paths have few of.
//! A value nobody has any more must leave, so that a path which always changes takes no more memory than its rows.

use super::{Mask, Question, number};
use crate::cell::{Arena, Cell, Stored};

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

    /// Every position that has a code, and the code.
    pub fn for_each_code(&self, mut use_code: impl FnMut(usize, u16)) {
        match &self.codes {
            Codes::Narrow(codes) => {
                codes.iter().enumerate().for_each(|(row, code)| use_code(row, u16::from(*code)));
            }
            Codes::Wide(codes) => codes.iter().enumerate().for_each(|(row, code)| use_code(row, *code)),
        }
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

    fn find(&self, cell: Cell<'_>) -> Result<usize, usize> {
        self.sorted.binary_search_by(|code| self.value(*code).order(cell))
    }

    /// Whether `cell` is one value too many for narrow codes.
    pub fn outgrows(&self, cell: Cell<'_>, narrow_max: usize) -> bool {
        matches!(self.codes, Codes::Narrow(_))
            && self.sorted.len() >= narrow_max
            && cell != Cell::Absent
            && self.find(cell).is_err()
    }

    /// Whether most values are numbers.
    pub fn is_mostly_numbers(&self) -> bool {
        let numbers = self.sorted.iter().filter(|code| matches!(self.value(**code), Cell::Number(_)));
        numbers.count() * 8 > self.sorted.len() * 7
    }

    /// Writes a cell.
    pub fn set(&mut self, position: usize, cell: Cell<'_>, narrow_max: usize) {
        let former = self.code(position);
        let code = if cell == Cell::Absent { 0 } else { self.code_of(cell, narrow_max) };
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
    fn code_of(&mut self, cell: Cell<'_>, narrow_max: usize) -> u16 {
        let place = match self.find(cell) {
            Ok(place) => return self.sorted[place],
            Err(place) => place,
        };
        if self.outgrows(cell, narrow_max)
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

    /// See [`super::Column::mask`].
    pub fn mask(&self, rows: usize, question: &Question<'_>) -> Mask {
        let mut table = vec![question.of_absent; self.codes_end()];
        match question.text {
            Some(text) => {
                for cell in [Cell::Text(text), Cell::Long] {
                    if let Ok(place) = self.find(cell) {
                        table[usize::from(self.sorted[place])] = (question.of_cell)(cell);
                    }
                }
            }
            None => {
                for code in &self.sorted {
                    table[usize::from(*code)] = (question.of_cell)(self.value(*code));
                }
            }
        }
        let has_absent = self.present < rows;
        let mut in_use = self.sorted.iter().map(|code| table[usize::from(*code)]);
        let first = if has_absent { question.of_absent } else { in_use.next().unwrap_or_default() };
        if in_use.all(|said| said == first) {
            return Mask::All(first);
        }
        // One value that is told apart from all others is looked for with one comparison a row.
        let apart: Vec<u16> = {
            let codes = std::iter::once(0).chain(self.sorted.iter().copied());
            codes.filter(|code| table[usize::from(*code)] != question.of_absent).take(2).collect()
        };
        let mut mask = Vec::with_capacity(rows);
        match (&self.codes, apart.as_slice()) {
            (Codes::Narrow(codes), [one]) => {
                let (one, said) = (*one as u8, table[usize::from(*one)] ^ question.of_absent);
                mask.extend(codes.iter().map(|code| {
                    let is_it = if *code == one { said } else { 0 };
                    is_it ^ question.of_absent
                }));
            }
            (Codes::Narrow(codes), _) => {
                table.resize(usize::from(u8::MAX) + 1, 0);
                mask.extend(codes.iter().map(|code| table[usize::from(*code)]));
            }
            (Codes::Wide(codes), _) => mask.extend(codes.iter().map(|code| table[usize::from(*code)])),
        }
        mask.resize(rows, question.of_absent);
        Mask::Each(mask)
    }

    /// Appends the number of each row that has a code, NaN where there is none.
    pub fn put_numbers(&self, all: &mut Vec<f64>) {
        let table: Vec<f64> = (0..self.codes_end()).map(|code| number(self.value(code as u16))).collect();
        match &self.codes {
            Codes::Narrow(codes) => all.extend(codes.iter().map(|code| table[usize::from(*code)])),
            Codes::Wide(codes) => all.extend(codes.iter().map(|code| table[usize::from(*code)])),
        }
    }
}
