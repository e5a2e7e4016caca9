//! Why a condition is true for a row or not: its tree of terms, each with its result and with what it read.
//! Must never disagree with `eval`, which decides: every result here is `eval`'s own.

use std::collections::BTreeSet;

use serde_json::Value;

use super::ast::{Condition, Expr, Scope};
use super::datum::{Datum, Row};
use super::eval::value;
use super::plan::collect_paths;

/// Longest value of a path that is shown as it is, in bytes of JSON.
pub const EXPLAINED_VALUE_BYTES_MAX: usize = 1024;

/// A condition, or a term of it, for one row.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The term in canonical form, without the source; `*` for all rows, empty for none.
    pub text: String,
    /// What it came to; `None` if that is undefined: something that it needs is absent, or of another type.
    pub result: Option<bool>,
    /// What it read, if it has no terms of its own: each path once.
    pub reads: Vec<Read>,
    /// The operands of AND, OR or NOT.
    pub terms: Vec<Explanation>,
}

/// A path that a term read.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// The path in canonical form.
    pub path: String,
    /// What the row has there; `None` if nothing. Only told by its size if it is longer than
    /// [`EXPLAINED_VALUE_BYTES_MAX`].
    pub value: Option<Value>,
}

impl Condition {
    /// Why the condition is true for `row` or not. The root's result is `Some(true)` exactly if it matches.
    pub fn explain(&self, row: &dyn Row) -> Explanation {
        let whole = |text: &str, result| Explanation {
            text: text.into(),
            result: Some(result),
            reads: Vec::new(),
            terms: Vec::new(),
        };
        match &self.scope {
            Scope::Everything => whole("*", true),
            Scope::Nothing => whole("", false),
            Scope::Where(expr) => explain(expr, row),
        }
    }

    /// How many terms would at least have to come out otherwise for `row` to match; 0 if it does.
    pub fn terms_missed(&self, row: &dyn Row) -> usize {
        match &self.scope {
            Scope::Everything => 0,
            Scope::Nothing => usize::MAX,
            Scope::Where(expr) => missed(expr, row, true),
        }
    }
}

fn explain(expr: &Expr, row: &dyn Row) -> Explanation {
    let terms = match expr {
        Expr::All(operands) | Expr::Any(operands) => operands.as_slice(),
        Expr::Not(operand) => std::slice::from_ref(&**operand),
        _ => &[],
    };
    let mut paths = BTreeSet::new();
    if terms.is_empty() {
        collect_paths(expr, &mut paths);
    }
    Explanation {
        text: expr.to_string(),
        result: result(expr, row),
        reads: paths
            .into_iter()
            .map(|path| Read { path: path.to_string(), value: row.get(path).into_value().map(shown) })
            .collect(),
        terms: terms.iter().map(|term| explain(term, row)).collect(),
    }
}

fn result(expr: &Expr, row: &dyn Row) -> Option<bool> {
    match value(expr, row) {
        Datum::Bool(flag) => Some(flag),
        _ => None,
    }
}

fn shown(value: Value) -> Value {
    let bytes = value.to_string().len();
    if bytes > EXPLAINED_VALUE_BYTES_MAX { format!("({bytes} bytes)").into() } else { value }
}

fn missed(expr: &Expr, row: &dyn Row, wanted: bool) -> usize {
    let each = |operands: &[Expr]| operands.iter().map(|term| missed(term, row, wanted)).collect::<Vec<_>>();
    match (expr, wanted) {
        (Expr::Not(operand), _) => missed(operand, row, !wanted),
        (Expr::All(operands), true) | (Expr::Any(operands), false) => each(operands).into_iter().sum(),
        (Expr::All(operands), false) | (Expr::Any(operands), true) => {
            each(operands).into_iter().min().unwrap_or(0)
        }
        (term, wanted) => usize::from(result(term, row) != Some(wanted)),
    }
}
