//! What a condition reads, and which devices it can match at all: for indexes, and to answer a query about a handful of
//! named devices without looking at the rest. Must never leave out a row that matches.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use super::aggregate::Aggregation;
use super::ast::{Comparison, Condition, Expr, Query, Scope, Source};
use super::datum::{Datum, Row};
use super::eval;
use super::function::Function;
use super::path::{Path, Root};

/// A condition taken apart into terms, for an index that knows the values of many rows at once.
#[derive(Clone, Debug)]
pub enum Plan<'q> {
    /// Every row.
    Everything,
    /// No row.
    Nothing,
    /// Exactly true where all operands are, exactly false where any is.
    All(Vec<Plan<'q>>),
    /// Exactly true where any operand is, exactly false where all are.
    Any(Vec<Plan<'q>>),
    /// True where the operand is exactly false, and the other way round.
    Not(Box<Plan<'q>>),
    /// Anything else.
    Term(Term<'q>),
}

/// A part of a condition that is not AND, OR or NOT.
#[derive(Clone, Debug)]
pub struct Term<'q> {
    expr: &'q Expr,
    paths: Vec<&'q Path>,
}

impl<'q> Plan<'q> {
    fn new(expr: &'q Expr) -> Self {
        match expr {
            Expr::All(operands) => Plan::All(Self::cheapest_first(operands)),
            Expr::Any(operands) => Plan::Any(Self::cheapest_first(operands)),
            Expr::Not(operand) => Plan::Not(Box::new(Plan::new(operand))),
            expr => {
                let mut paths = BTreeSet::new();
                collect_paths(expr, &mut paths);
                Plan::Term(Term { expr, paths: paths.into_iter().collect() })
            }
        }
    }

    /// What the first ones decide, the others need not look at; it makes no difference to what comes out.
    fn cheapest_first(operands: &'q [Expr]) -> Vec<Self> {
        let mut plans: Vec<_> = operands.iter().map(Plan::new).collect();
        plans.sort_by_key(Plan::price);
        plans
    }

    fn price(&self) -> u8 {
        match self {
            Plan::Everything | Plan::Nothing => 0,
            Plan::Term(term) if term.text_wanted().is_some() => 1,
            Plan::Term(term) if term.number_test().is_some() => 2,
            Plan::Term(term) if term.paths.len() < 2 => 3,
            Plan::Not(operand) => operand.price().max(3),
            Plan::All(_) | Plan::Any(_) => 4,
            Plan::Term(_) => 5,
        }
    }
}

impl<'q> Term<'q> {
    /// What it reads, each path once.
    pub fn paths(&self) -> &[&'q Path] {
        &self.paths
    }

    /// What it comes to for `row`; `None` if that is undefined or no boolean.
    pub fn value(&self, row: &dyn Row) -> Option<bool> {
        truth(eval::value(self.expr, row))
    }

    /// What the term comes to where its one path has `value`, if that takes no row to say: it compares the path with a
    /// constant, or looks it up in a list.
    pub fn test(&self, value: &Datum<'_>) -> Option<Option<bool>> {
        let constant = |constant| Datum::from(constant).unpacked();
        match self.expr {
            Expr::Compare { operator, left, right } => match (left.as_ref(), right.as_ref()) {
                (Expr::Path(_), Expr::Constant(right)) => {
                    Some(truth(eval::compare(*operator, value, &constant(right))))
                }
                (Expr::Constant(left), Expr::Path(_)) => {
                    Some(truth(eval::compare(*operator, &constant(left), value)))
                }
                _ => None,
            },
            Expr::In { left, list, negated } => matches!(left.as_ref(), Expr::Path(_))
                .then(|| truth(eval::is_in(value, list, false)).map(|found| found != *negated)),
            _ => None,
        }
    }

    /// Whether only the kind of an array or object that it reads matters, and not what is in it.
    pub fn is_shallow(&self) -> bool {
        let is_path = |expr: &Expr| matches!(expr, Expr::Path(_));
        match self.expr {
            Expr::Compare { left, right, .. } => {
                let is_plain = |expr: &Expr| matches!(expr, Expr::Path(_) | Expr::Constant(_));
                is_plain(left) && is_plain(right)
            }
            Expr::In { left, .. } => is_path(left),
            Expr::Call { function, arguments } => {
                let asks_for_kind = matches!(
                    function,
                    Function::IsDefined
                        | Function::IsNull
                        | Function::IsBool
                        | Function::IsNumber
                        | Function::IsString
                        | Function::IsArray
                        | Function::IsObject
                        | Function::IsPrimitive
                );
                asks_for_kind && arguments.iter().all(is_path)
            }
            Expr::Path(_) => true,
            _ => false,
        }
    }

    /// The number that the one path of the term is compared with, and how, path first: `5 > a` is `a < 5`.
    pub fn number_test(&self) -> Option<(Comparison, f64)> {
        let Expr::Compare { operator, left, right } = self.expr else { return None };
        let (operator, constant) = match (left.as_ref(), right.as_ref()) {
            (Expr::Path(_), Expr::Constant(constant)) => (*operator, constant),
            (Expr::Constant(constant), Expr::Path(_)) => (operator.flipped(), constant),
            _ => return None,
        };
        constant.as_f64().map(|number| (operator, number))
    }

    /// The text that the one path of the term must equal for the term to be true.
    pub fn text_wanted(&self) -> Option<&'q str> {
        let Expr::Compare { operator: Comparison::Equal, left, right } = self.expr else { return None };
        match (left.as_ref(), right.as_ref()) {
            (Expr::Path(_), Expr::Constant(constant)) | (Expr::Constant(constant), Expr::Path(_)) => {
                constant.as_str()
            }
            _ => None,
        }
    }
}

impl fmt::Display for Term<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expr.fmt(f)
    }
}

fn truth(datum: Datum<'_>) -> Option<bool> {
    match datum {
        Datum::Bool(flag) => Some(flag),
        _ => None,
    }
}

impl Query {
    /// The ids of the only devices that the query can be about, see [`Condition::device_ids`].
    pub fn device_ids(&self) -> Option<BTreeSet<&str>> {
        self.condition.device_ids()
    }

    /// The paths that are read of every row that matches, besides those of the condition: to group, to add up, to order.
    pub fn read_paths(&self) -> Vec<&Path> {
        let aggregation = Aggregation::new(self);
        let measures = aggregation.measures().into_iter().map(|(_, path)| path);
        aggregation.keys().iter().chain(measures).chain(self.sort_paths()).collect()
    }

    /// The names of the only jobs that the query can be about, if it names them; `None` if any might match.
    pub fn job_ids(&self) -> Option<BTreeSet<&str>> {
        self.condition.named(Root::JobId)
    }
}

impl Condition {
    /// What the condition ranges over.
    pub fn source(&self) -> Source {
        self.source
    }

    /// Whether every row matches: the text was `*`, or the query has no WHERE.
    pub fn is_everything(&self) -> bool {
        self.scope == Scope::Everything
    }

    /// Whether no row matches, since the text was empty.
    pub fn is_nothing(&self) -> bool {
        self.scope == Scope::Nothing
    }

    /// The condition as terms.
    pub fn plan(&self) -> Plan<'_> {
        match &self.scope {
            Scope::Everything => Plan::Everything,
            Scope::Nothing => Plan::Nothing,
            Scope::Where(expr) => Plan::new(expr),
        }
    }

    /// The paths that the condition reads, each once, in order.
    pub fn paths(&self) -> BTreeSet<&Path> {
        let mut paths = BTreeSet::new();
        if let Scope::Where(expr) = &self.scope {
            collect_paths(expr, &mut paths);
        }
        paths
    }

    /// The ids of the only devices that can match, if the condition names them (`deviceId = 'a'`, `deviceId IN […]`,
    /// alone or joined with AND and OR); `None` if any device might. The condition is still to be evaluated on them.
    pub fn device_ids(&self) -> Option<BTreeSet<&str>> {
        self.named(Root::DeviceId)
    }

    fn named(&self, root: Root) -> Option<BTreeSet<&str>> {
        match &self.scope {
            Scope::Everything => None,
            Scope::Nothing => Some(BTreeSet::new()),
            Scope::Where(expr) => names(expr, root),
        }
    }
}

/// Whether a part of a condition reads the path.
pub(super) fn reads(expr: &Expr, path: &Path) -> bool {
    let mut paths = BTreeSet::new();
    collect_paths(expr, &mut paths);
    paths.contains(path)
}

pub(super) fn collect_paths<'e>(expr: &'e Expr, paths: &mut BTreeSet<&'e Path>) {
    match expr {
        Expr::Undefined | Expr::Constant(_) => {}
        Expr::Path(path) => {
            paths.insert(path);
        }
        Expr::Not(operand) | Expr::Negate(operand) | Expr::In { left: operand, .. } => {
            collect_paths(operand, paths)
        }
        Expr::Call { arguments: operands, .. } | Expr::All(operands) | Expr::Any(operands) => {
            operands.iter().for_each(|operand| collect_paths(operand, paths));
        }
        Expr::Chain { first, rest } => {
            collect_paths(first, paths);
            rest.iter().for_each(|(_, operand)| collect_paths(operand, paths));
        }
        Expr::Compare { left, right, .. } => {
            collect_paths(left, paths);
            collect_paths(right, paths);
        }
    }
}

fn names(expr: &Expr, root: Root) -> Option<BTreeSet<&str>> {
    match expr {
        Expr::Compare { operator: Comparison::Equal, left, right } => match (left.as_ref(), right.as_ref()) {
            (path, Expr::Constant(Value::String(id))) | (Expr::Constant(Value::String(id)), path) => {
                is_path(path, root).then(|| BTreeSet::from([id.as_str()]))
            }
            _ => None,
        },
        Expr::In { left, list, negated: false } => {
            is_path(left, root).then(|| list.iter().filter_map(Value::as_str).collect())
        }
        // Each operand narrows the choice, if it says anything.
        Expr::All(operands) => operands
            .iter()
            .filter_map(|operand| names(operand, root))
            .reduce(|left, right| left.intersection(&right).copied().collect()),
        // Each operand widens the choice, and all must say something.
        Expr::Any(operands) => {
            operands.iter().map(|operand| names(operand, root)).try_fold(BTreeSet::new(), |mut all, ids| {
                all.extend(ids?);
                Some(all)
            })
        }
        _ => None,
    }
}

fn is_path(expr: &Expr, root: Root) -> bool {
    matches!(expr, Expr::Path(path) if path.root() == root)
}
