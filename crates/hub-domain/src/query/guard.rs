//! Tests of one path against a constant that a row has to pass if a condition is to match it: what an index of many
//! conditions goes by. Must never leave out a row that matches.

use super::ast::{Comparison, Condition, Expr, Scope};
use super::datum::Datum;
use super::path::Path;
use super::plan::reads;
use super::select::{SortNumber, SortValue};

/// What the value at a path must be. The bounds are inclusive, whatever the condition says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Test {
    Is(SortValue),
    AtLeast(SortNumber),
    AtMost(SortNumber),
}

/// Tests of which a row that matches passes one at least.
#[derive(Clone, Debug, Default)]
pub(super) struct Guard<'c> {
    pub(super) tests: Vec<(&'c Path, Test)>,
}

impl Guard<'_> {
    /// Whether each test asks for one value.
    pub(super) fn is_exact(&self) -> bool {
        self.tests.iter().all(|(_, test)| matches!(test, Test::Is(_)))
    }
}

/// The guards of a condition, all of which hold where it matches.
pub(super) fn guards(condition: &Condition) -> Vec<Guard<'_>> {
    match &condition.scope {
        Scope::Where(expr) => guards_of(expr),
        Scope::Everything | Scope::Nothing => Vec::new(),
    }
}

fn guards_of(expr: &Expr) -> Vec<Guard<'_>> {
    let tests = match expr {
        Expr::All(operands) => return operands.iter().flat_map(guards_of).collect(),
        Expr::Any(operands) => {
            let mut whole = Vec::new();
            for operand in operands {
                let mut guards = guards_of(operand);
                guards.sort_by_key(|guard| (!guard.is_exact(), guard.tests.len()));
                let Some(best) = guards.into_iter().next() else { return Vec::new() };
                whole.extend(best.tests);
            }
            whole
        }
        Expr::In { left, list, negated: false } => {
            let Expr::Path(path) = left.as_ref() else { return Vec::new() };
            // An array or an object in the list is equal to nothing.
            list.iter().filter_map(|value| Some((path, Test::Is(primitive(Datum::from(value))?)))).collect()
        }
        Expr::Compare { .. } => match test_of(expr) {
            Some(test) => vec![test],
            None => return Vec::new(),
        },
        _ => return Vec::new(),
    };
    vec![Guard { tests }]
}

/// The value by which equal primitives are found; `None` for what is equal to nothing.
pub(super) fn primitive(datum: Datum<'_>) -> Option<SortValue> {
    SortValue::primitive(datum).filter(|value| *value != SortValue::Undefined)
}

/// A comparison of a path with a constant that something must pass for it to be true.
fn test_of(expr: &Expr) -> Option<(&Path, Test)> {
    let Expr::Compare { operator, left, right } = expr else { return None };
    let (path, operator, constant) = match (left.as_ref(), right.as_ref()) {
        (Expr::Path(path), Expr::Constant(constant)) => (path, *operator, constant),
        (Expr::Constant(constant), Expr::Path(path)) => (path, operator.flipped(), constant),
        _ => return None,
    };
    let number = || constant.as_f64().map(SortNumber::new);
    let test = match operator {
        Comparison::Equal => Test::Is(primitive(Datum::from(constant))?),
        Comparison::NotEqual => return None,
        Comparison::Less | Comparison::LessOrEqual => Test::AtMost(number()?),
        Comparison::Greater | Comparison::GreaterOrEqual => Test::AtLeast(number()?),
    };
    Some((path, test))
}

/// The numbers that the value at `path` has to get past for the condition to come to something else; `None` if there may
/// be other ways. A value that is no number passes no test.
pub(super) fn crossings(condition: &Condition, path: &Path) -> Option<Vec<Test>> {
    let mut found = Vec::new();
    match &condition.scope {
        Scope::Where(expr) => collect_crossings(expr, path, &mut found).then_some(found),
        Scope::Everything | Scope::Nothing => Some(found),
    }
}

fn collect_crossings(expr: &Expr, path: &Path, found: &mut Vec<Test>) -> bool {
    match expr {
        // Without NOT, only whether each operand is exactly true matters.
        Expr::All(operands) | Expr::Any(operands) => {
            operands.iter().all(|operand| collect_crossings(operand, path, found))
        }
        expr => match test_of(expr) {
            Some((of, _)) if of != path => true,
            Some((_, Test::Is(SortValue::Number(number)))) => {
                found.push(Test::AtLeast(number));
                true
            }
            Some((_, test @ (Test::AtLeast(_) | Test::AtMost(_)))) => {
                found.push(test);
                true
            }
            _ => !reads(expr, path),
        },
    }
}
