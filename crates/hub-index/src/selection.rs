//! The rows of a snapshot for which a condition is true: decided from columns where they suffice, else by asking the row.
//! Must agree with the plain evaluator, whatever the rows hold: what columns leave open, the evaluator decides.

use std::sync::Arc;

use hub_domain::id::TwinId;
use hub_domain::query::{
    Aggregation, Comparison, Condition, Path, Plan, Query, Term, TooManyGroups, TopRows,
};

use crate::cell::Cell;
use crate::chunk::Chunk;
use crate::column::{IN, Mask, OPEN, OUT, Question};
use crate::entry::Entry;
use crate::groups;
use crate::paths::{Paths, Place};
use crate::row::{ColumnRow, Places};

/// Rows that are asked one by one before others get a turn.
const OPEN_ROWS_AT_ONCE: usize = 256;

/// See the module.
pub struct Selection<'q> {
    condition: &'q Condition,
    plan: Plan<'q>,
    places: Places<'q>,
    after: Option<TwinId>,
    chunks: std::vec::IntoIter<Arc<Chunk>>,
    current: Option<Current>,
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
    Found(Arc<Entry>),
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

/// Where a chunk stands once [`Selection::settle`] has returned.
enum Settled {
    Not,
    Yes,
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
        Self { condition, plan, places, after, chunks, current: None, work: Work::default() }
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
        if self.current.is_none() && !self.open_chunk() {
            return Next::End;
        }
        let Some(current) = &mut self.current else { return Next::Pause };
        let mut asked = 0;
        while let Some(position) = current.chunk.order().get(current.next).copied() {
            if asked == OPEN_ROWS_AT_ONCE {
                return Next::Pause;
            }
            current.next += 1;
            let is_in = match current.mask.at(position) {
                OUT => false,
                IN => true,
                _ => {
                    asked += 1;
                    evaluate(self.condition, &current.chunk, position, &self.places, &mut self.work)
                }
            };
            if is_in {
                return Next::Found(current.chunk.entry(position));
            }
        }
        self.current = None;
        Next::Pause
    }

    /// Counts on; `None` when all is counted. Others should get a turn before the next call.
    pub fn count_some(&mut self) -> Option<u64> {
        match self.settle() {
            Settled::Not => Some(0),
            Settled::End => None,
            Settled::Yes => Some(self.current.take().map_or(0, |current| current.count() as u64)),
        }
    }

    /// Adds some rows to `aggregation`; `false` when all are in it. Others should get a turn before the next call.
    ///
    /// # Errors
    /// When there would be too many groups.
    pub fn aggregate_some(&mut self, aggregation: &mut Aggregation<'q>) -> Result<bool, TooManyGroups> {
        match self.settle() {
            Settled::Not => Ok(true),
            Settled::End => Ok(false),
            Settled::Yes => {
                if let Some(current) = self.current.take() {
                    let (chunk, rows) = (&current.chunk, current.selected());
                    groups::add(aggregation, chunk, rows, &self.places)?;
                }
                Ok(true)
            }
        }
    }

    /// Shows some rows to `top`; `false` when it has seen all. Others should get a turn before the next call.
    pub fn order_some(&mut self, query: &Query, top: &mut TopRows<Arc<Entry>>) -> bool {
        match self.settle() {
            Settled::Not => true,
            Settled::End => false,
            Settled::Yes => {
                if let Some(current) = self.current.take() {
                    for position in current.selected() {
                        let row = ColumnRow::new(&current.chunk, position, &self.places);
                        top.offer(query.sort_key(&row), || current.chunk.entry(position));
                    }
                }
                true
            }
        }
    }

    /// Decides about all rows of the current chunk, some at once.
    fn settle(&mut self) -> Settled {
        if self.current.is_none() && !self.open_chunk() {
            return Settled::End;
        }
        let Some(current) = &mut self.current else { return Settled::Not };
        let mut asked = 0;
        if !current.is_open {
            return Settled::Yes;
        }
        while let Some(position) = current.chunk.order().get(current.next).copied() {
            if current.mask.at(position) == OPEN {
                if asked == OPEN_ROWS_AT_ONCE {
                    return Settled::Not;
                }
                asked += 1;
                let is_in = evaluate(self.condition, &current.chunk, position, &self.places, &mut self.work);
                current.mask.decide(position, current.chunk.positions(), is_in);
            }
            current.next += 1;
        }
        Settled::Yes
    }

    /// Takes the next chunk; `false` if there is none. There is no current one if the chunk has no match.
    fn open_chunk(&mut self) -> bool {
        let Some(chunk) = self.chunks.next() else { return false };
        let begin = chunk.begin(self.after.as_ref());
        self.work.chunks += 1;
        self.work.rows += (chunk.len() - begin) as u64;
        let mut mask = mask(&self.plan, true, &chunk, &self.places).and(chunk.live());
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
            _ => self.selected().count(),
        }
    }

    /// Positions of the rows that are in, in the order of ids.
    fn selected(&self) -> impl Iterator<Item = u16> {
        let order = self.chunk.order()[self.begin..].iter().copied();
        order.filter(|position| self.mask.at(*position) == IN)
    }
}

fn evaluate(
    condition: &Condition,
    chunk: &Chunk,
    position: u16,
    places: &Places<'_>,
    work: &mut Work,
) -> bool {
    let row = ColumnRow::new(chunk, position, places);
    let is_in = condition.matches(&row);
    work.rows_evaluated += 1;
    work.rows_from_twins += u64::from(row.has_read_twin());
    is_in
}

/// The rows for which the plan comes to exactly `wanted`.
fn mask(plan: &Plan<'_>, wanted: bool, chunk: &Chunk, places: &Places<'_>) -> Mask {
    let said = |is_in| Mask::All(if is_in { IN } else { OUT });
    match plan {
        Plan::Everything => said(wanted),
        Plan::Nothing => said(!wanted),
        Plan::Not(operand) => mask(operand, !wanted, chunk, places),
        // All must be true for the whole to be true; one that is false makes it false.
        Plan::All(operands) if wanted => all(operands, true, chunk, places),
        Plan::All(operands) => any(operands, false, chunk, places),
        Plan::Any(operands) if wanted => any(operands, true, chunk, places),
        Plan::Any(operands) => all(operands, false, chunk, places),
        Plan::Term(term) => term_mask(term, wanted, chunk, places),
    }
}

fn all(operands: &[Plan<'_>], wanted: bool, chunk: &Chunk, places: &Places<'_>) -> Mask {
    let mut whole = Mask::All(IN);
    for operand in operands {
        whole = whole.and(mask(operand, wanted, chunk, places));
        if whole.is_empty() {
            break;
        }
    }
    whole
}

fn any(operands: &[Plan<'_>], wanted: bool, chunk: &Chunk, places: &Places<'_>) -> Mask {
    let mut whole = Mask::All(OUT);
    for operand in operands {
        whole = whole.or(mask(operand, wanted, chunk, places));
        if whole == Mask::All(IN) {
            break;
        }
    }
    whole
}

fn term_mask(term: &Term<'_>, wanted: bool, chunk: &Chunk, places: &Places<'_>) -> Mask {
    let path = match term.paths() {
        [] => None,
        [path] => Some(*path),
        _ => return Mask::All(OPEN),
    };
    let is_shallow = term.is_shallow();
    let say = |cell: Cell<'_>| {
        let Some(datum) = (if is_shallow { cell.shallow_datum() } else { cell.datum() }) else {
            return OPEN;
        };
        let value = match path {
            None => term.value(&crate::row::OneValue(datum)),
            Some(_) => match term.test(&datum) {
                Some(value) => value,
                None => term.value(&crate::row::OneValue(datum)),
            },
        };
        if value == Some(wanted) { IN } else { OUT }
    };
    let place = path.map_or(Place::Nowhere, |path| places.of(path));
    let column = match place {
        Place::Column(id) => chunk.column(id),
        Place::Nowhere => None,
        Place::Twin => return Mask::All(OPEN),
    };
    let of_absent = say(Cell::Absent);
    let Some(column) = column else { return Mask::All(of_absent) };
    let numbers = term
        .number_test()
        .map(|(comparison, constant)| (if wanted { comparison } else { complement(comparison) }, constant));
    let text = if wanted { term.text_wanted() } else { None };
    column.mask(chunk.positions(), &Question { of_cell: &say, of_absent, numbers, text })
}

/// What holds of two numbers exactly if `comparison` does not.
fn complement(comparison: Comparison) -> Comparison {
    match comparison {
        Comparison::Equal => Comparison::NotEqual,
        Comparison::NotEqual => Comparison::Equal,
        Comparison::Less => Comparison::GreaterOrEqual,
        Comparison::LessOrEqual => Comparison::Greater,
        Comparison::Greater => Comparison::LessOrEqual,
        Comparison::GreaterOrEqual => Comparison::Less,
    }
}
