//! The rows of a snapshot for which a condition is true: decided from columns where they suffice, else by asking the row.
//! Must agree with the plain evaluator, whatever the rows hold: what columns leave open, the evaluator decides.

use std::borrow::Cow;
use std::sync::Arc;

use hub_domain::id::TwinId;
use hub_domain::query::{Aggregation, Condition, Datum, Path, Plan, Query, Term, TooManyGroups, TopRows};

use crate::cell::Cell;
use crate::chunk::Chunk;
use crate::column::{IN, Mask, OPEN, OUT, Question};
use crate::entry::Slot;
use crate::groups;
use crate::pairs;
use crate::paths::{Paths, Place};
use crate::row::{ColumnRow, OneValue, Places, TwoValues};
use crate::rows::Rows;

/// What is done before others get a turn, counted in looks at single values: less than a millisecond.
const EFFORT_AT_ONCE: u64 = 8192;
/// What it takes to look at the columns of a chunk.
const CHUNK_EFFORT: u64 = 64;
/// What it takes to evaluate a row on columns.
const ROW_EFFORT: u64 = 2;
/// What it takes to read a twin.
const TWIN_EFFORT: u64 = 256;
/// How many rows are grouped, and their numbers added up, or told by their codes in two columns, in the time of one look.
const GROUPED_ROWS_AT_ONCE: u64 = 16;

/// See the module.
pub struct Selection<'q> {
    condition: &'q Condition,
    plan: Plan<'q>,
    places: Places<'q>,
    after: Option<TwinId>,
    chunks: std::vec::IntoIter<Arc<Chunk>>,
    current: Option<Current>,
    /// Since others had their turn.
    effort: u64,
    work: Work,
}

/// A chunk that is being walked through.
struct Current {
    chunk: Arc<Chunk>,
    mask: Mask,
    /// The next place in the order.
    next: usize,
    begin: usize,
    /// Whether the columns left any row open.
    is_open: bool,
}

/// What [`Selection::next`] came to.
#[derive(Debug)]
pub enum Next {
    /// A row that matches.
    Found(Slot),
    /// Nothing yet: others should get a turn before the next call.
    Pause,
    /// There are no more.
    End,
}

/// How much a selection looked at so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Chunks of rows.
    pub chunks: u64,
    /// Those of which the columns said at once that no row matches.
    pub chunks_skipped: u64,
    /// Rows in all chunks.
    pub rows: u64,
    /// Rows that the columns of their chunk left open, so that each was evaluated by itself.
    pub rows_evaluated: u64,
    /// Those for which the twin itself was read.
    pub rows_from_twins: u64,
}

/// What [`Selection::settled`] came to.
enum Settled {
    /// A chunk, all rows of which are decided.
    Chunk(Current),
    Pause,
    End,
}

impl<'q> Selection<'q> {
    pub(crate) fn new(
        condition: &'q Condition,
        others: impl IntoIterator<Item = &'q Path>,
        after: Option<TwinId>,
        chunks: Vec<Arc<Chunk>>,
        paths: &Paths,
    ) -> Self {
        let read = condition.paths().into_iter().chain(others);
        let places = Places::new(read.map(|path| (path, paths.resolve(path))).collect());
        let (chunks, plan) = (chunks.into_iter(), condition.plan());
        Self { condition, plan, places, after, chunks, current: None, effort: 0, work: Work::default() }
    }

    /// How much it looked at so far.
    pub fn work(&self) -> Work {
        self.work
    }

    /// Where each path is looked up that the condition or the caller reads: `true` for columns.
    pub fn lookups(&self) -> impl Iterator<Item = (&'q Path, bool)> {
        self.places.all().iter().map(|(path, place)| (*path, *place != Place::Twin))
    }

    /// The next row that matches, in the order of ids.
    #[allow(clippy::should_implement_trait, reason = "it pauses")]
    pub fn next(&mut self) -> Next {
        loop {
            if self.is_tired() {
                return Next::Pause;
            }
            let Some(current) = &mut self.current else {
                if self.open_chunk() {
                    continue;
                }
                return Next::End;
            };
            let Some(position) = current.chunk.order().get(current.next).copied() else {
                self.current = None;
                continue;
            };
            current.next += 1;
            let is_in = match current.mask.at(position) {
                OUT => false,
                IN => true,
                _ => {
                    let (is_in, effort) =
                        evaluate(self.condition, &current.chunk, position, &self.places, &mut self.work);
                    self.effort += effort;
                    is_in
                }
            };
            if is_in {
                self.effort += TWIN_EFFORT;
                return Next::Found(current.chunk.slot(position).clone());
            }
        }
    }

    /// Counts on; `None` when all is counted. Others should get a turn before the next call.
    pub fn count_some(&mut self) -> Option<u64> {
        let mut count = 0;
        loop {
            match self.settled() {
                Settled::Chunk(current) => count += current.count() as u64,
                Settled::Pause => return Some(count),
                Settled::End => return (count > 0).then_some(count),
            }
        }
    }

    /// Adds some rows to `aggregation`; `false` when all are in it. Others should get a turn before the next call.
    ///
    /// # Errors
    /// When there would be too many groups.
    pub fn aggregate_some(&mut self, aggregation: &mut Aggregation<'q>) -> Result<bool, TooManyGroups> {
        let is_count = aggregation.keys().is_empty() && aggregation.measures().is_empty();
        loop {
            let current = match self.settled() {
                Settled::Chunk(current) => current,
                Settled::Pause => return Ok(true),
                Settled::End => return Ok(false),
            };
            if is_count {
                let group = aggregation.group(&OneValue(Datum::Undefined))?;
                aggregation.add_rows(group, current.count() as u64);
            } else {
                let rows = current.selected();
                groups::add(aggregation, &current.chunk, &rows, &self.places)?;
                self.effort += rows.len() as u64 / GROUPED_ROWS_AT_ONCE;
            }
        }
    }

    /// Shows some rows to `top`; `false` when it has seen all. Others should get a turn before the next call.
    pub fn order_some(&mut self, query: &Query, top: &mut TopRows<Slot>) -> bool {
        loop {
            let current = match self.settled() {
                Settled::Chunk(current) => current,
                Settled::Pause => return true,
                Settled::End => return false,
            };
            let first = query.sort_paths().next().map(|path| self.places.of(path));
            let column = match first {
                // The cells of a row that is marked say too little.
                Some(Place::Column(id)) if current.chunk.marked().is_empty() => current.chunk.column(id),
                _ => None,
            };
            let bounds = column.and_then(|column| column.bounds(current.chunk.len()));
            if bounds.is_some_and(|(least, most)| !top.could_take(least) && !top.could_take(most)) {
                continue;
            }
            let rows = current.selected();
            self.effort += rows.len() as u64 / GROUPED_ROWS_AT_ONCE;
            let numbers = column.map(|column| column.numbers_of(&rows));
            for place in 0..rows.len() {
                let number = numbers.as_ref().map_or(f64::NAN, |numbers| numbers[place]);
                if !number.is_nan() && !top.could_take(number) {
                    continue;
                }
                self.effort += ROW_EFFORT;
                let position = rows.position(place);
                let row = ColumnRow::new(&current.chunk, position, &self.places);
                top.offer(query.sort_key(&row), || current.chunk.slot(position).clone());
            }
        }
    }

    /// Whether it is the turn of others; then the next turn begins.
    fn is_tired(&mut self) -> bool {
        let is_tired = self.effort >= EFFORT_AT_ONCE;
        if is_tired {
            self.effort = 0;
        }
        is_tired
    }

    /// Decides about all rows of a chunk.
    fn settled(&mut self) -> Settled {
        loop {
            if self.is_tired() {
                return Settled::Pause;
            }
            let Some(mut current) = self.current.take() else {
                if self.open_chunk() {
                    continue;
                }
                return Settled::End;
            };
            if current.is_open && !self.decide_some(&mut current) {
                self.current = Some(current);
                return Settled::Pause;
            }
            return Settled::Chunk(current);
        }
    }

    /// Asks the rows that are open, some at once; `true` when none is left.
    fn decide_some(&mut self, current: &mut Current) -> bool {
        let Current { chunk, mask, next, .. } = current;
        while let Some(position) = chunk.order().get(*next).copied() {
            if mask.at(position) == OPEN {
                if self.is_tired() {
                    return false;
                }
                let (is_in, effort) = evaluate(self.condition, chunk, position, &self.places, &mut self.work);
                self.effort += effort;
                mask.decide(position, chunk.positions(), is_in);
            }
            *next += 1;
        }
        true
    }

    /// Takes the next chunk; `false` if there is none. There is no current one if the chunk has no match.
    fn open_chunk(&mut self) -> bool {
        let Some(chunk) = self.chunks.next() else { return false };
        let begin = chunk.begin(self.after.as_ref());
        self.work.chunks += 1;
        self.work.rows += (chunk.len() - begin) as u64;
        let judge = Judge { chunk: &chunk, places: &self.places, cells: std::cell::Cell::new(0) };
        let mut mask = judge.restrict(&self.plan, true, chunk.live());
        self.effort += CHUNK_EFFORT + judge.cells.get();
        for position in chunk.marked() {
            mask.open(*position, chunk.positions());
        }
        if mask.is_empty() {
            self.work.chunks_skipped += 1;
        } else {
            let is_open = mask.has_open();
            self.current = Some(Current { chunk, mask, next: begin, begin, is_open });
        }
        true
    }
}

impl Current {
    /// How many rows are in.
    fn count(&self) -> usize {
        match self.mask.count() {
            Some(count) if self.begin == 0 => count,
            _ => self.selected().len(),
        }
    }

    /// The rows that are in.
    fn selected(&self) -> Rows<'_> {
        let order = &self.chunk.order()[self.begin..];
        match &self.mask {
            Mask::All(IN) => Rows::new(Cow::Borrowed(order), order.len() == self.chunk.positions()),
            Mask::All(_) => Rows::Some(Cow::Borrowed(&[])),
            Mask::Each(each) => Rows::Some(Cow::Owned(only_in(order, each))),
        }
    }
}

/// Those of the positions that are in, found without a branch for each.
fn only_in(order: &[u16], mask: &[u8]) -> Vec<u16> {
    let (mut found, mut count) = (vec![0; order.len()], 0);
    for position in order {
        found[count] = *position;
        count += usize::from(mask[usize::from(*position)] == IN);
    }
    found.truncate(count);
    found
}

/// Whether the row at a position that columns left open is in, and what it took to say.
fn evaluate(
    condition: &Condition,
    chunk: &Chunk,
    position: u16,
    places: &Places<'_>,
    work: &mut Work,
) -> (bool, u64) {
    let row = ColumnRow::new(chunk, position, places);
    let is_in = condition.matches(&row);
    work.rows_evaluated += 1;
    work.rows_from_twins += u64::from(row.has_read_twin());
    (is_in, if row.has_read_twin() { TWIN_EFFORT } else { ROW_EFFORT })
}

/// Decides about the rows of one chunk by its columns.
struct Judge<'j> {
    chunk: &'j Chunk,
    places: &'j Places<'j>,
    /// Cells that were looked at.
    cells: std::cell::Cell<u64>,
}

impl Judge<'_> {
    /// The rows of `within` for which the plan comes to exactly `wanted`.
    fn restrict(&self, plan: &Plan<'_>, wanted: bool, within: Mask) -> Mask {
        let said = |is_in| Mask::All(if is_in { IN } else { OUT });
        match plan {
            Plan::Everything => within.and(said(wanted)),
            Plan::Nothing => within.and(said(!wanted)),
            Plan::Not(operand) => self.restrict(operand, !wanted, within),
            // All must be true for the whole to be true; one that is false makes it false.
            Plan::All(operands) if wanted => self.all(operands, true, within),
            Plan::All(operands) => self.any(operands, false, within),
            Plan::Any(operands) if wanted => self.any(operands, true, within),
            Plan::Any(operands) => self.all(operands, false, within),
            Plan::Term(term) => self.term(term, wanted, within),
        }
    }

    fn all(&self, operands: &[Plan<'_>], wanted: bool, within: Mask) -> Mask {
        let mut whole = within;
        for operand in operands {
            if whole.is_empty() {
                break;
            }
            whole = self.restrict(operand, wanted, whole);
        }
        whole
    }

    fn any(&self, operands: &[Plan<'_>], wanted: bool, within: Mask) -> Mask {
        let mut whole = Mask::All(OUT);
        for operand in operands {
            whole = whole.or(self.restrict(operand, wanted, within.clone()));
            if whole == within {
                break;
            }
        }
        whole
    }

    fn term(&self, term: &Term<'_>, wanted: bool, within: Mask) -> Mask {
        let path = match term.paths() {
            [] => None,
            [path] => Some(*path),
            [left, right] => return self.pair(term, [left, right], wanted, within),
            _ => return within.and(Mask::All(OPEN)),
        };
        let is_shallow = term.is_shallow();
        let say = |cell: Cell<'_>| {
            self.cells.set(self.cells.get() + 1);
            let Some(datum) = (if is_shallow { cell.shallow_datum() } else { cell.datum() }) else {
                return OPEN;
            };
            let value = match path {
                None => term.value(&OneValue(datum)),
                Some(_) => match term.test(&datum) {
                    Some(value) => value,
                    None => term.value(&OneValue(datum)),
                },
            };
            if value == Some(wanted) { IN } else { OUT }
        };
        let place = path.map_or(Place::Nowhere, |path| self.places.of(path));
        let column = match place {
            Place::Column(id) => self.chunk.column(id),
            Place::Nowhere => None,
            Place::Twin => return within.and(Mask::All(OPEN)),
        };
        let of_absent = say(Cell::Absent);
        let Some(column) = column else { return within.and(Mask::All(of_absent)) };
        let numbers = term.number_test().map(|(comparison, constant)| {
            (if wanted { comparison } else { comparison.complement() }, constant)
        });
        let text = if wanted { term.text_wanted() } else { None };
        let question = Question { of_cell: &say, of_absent, numbers, text };
        column.restrict(self.chunk.positions(), &question, within)
    }

    /// Decides by a term that reads two paths, if columns know both and have not too many pairs of values.
    fn pair(&self, term: &Term<'_>, paths: [&Path; 2], wanted: bool, within: Mask) -> Mask {
        let say = |left: Cell<'_>, right: Cell<'_>| {
            self.cells.set(self.cells.get() + 1);
            let (Some(left), Some(right)) = (left.datum(), right.datum()) else { return OPEN };
            let row = TwoValues([(paths[0], left), (paths[1], right)]);
            if term.value(&row) == Some(wanted) { IN } else { OUT }
        };
        let columns = paths.map(|path| match self.places.of(path) {
            Place::Column(id) => {
                self.chunk.column(id).map_or(Some(None), |column| column.dictionary().map(Some))
            }
            Place::Nowhere => Some(None),
            Place::Twin => None,
        });
        let [Some(left), Some(right)] = columns else { return within.and(Mask::All(OPEN)) };
        let rows = self.chunk.positions();
        self.cells.set(self.cells.get() + rows as u64 / GROUPED_ROWS_AT_ONCE);
        pairs::restrict(rows, [left, right], say, within)
    }
}
