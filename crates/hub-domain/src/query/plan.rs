//! What a condition reads, and which devices it can match at all: for indexes, and to answer a query about a handful of
//! named devices without looking at the rest. Must never leave out a row that matches.

use std::collections::BTreeSet;

use serde_json::Value;

use super::ast::{Comparison, Condition, Expr, Query, Scope, Source};
use super::path::{Path, Root};

impl Query {
    /// The ids of the only devices that the query can be about, see [`Condition::device_ids`].
    pub fn device_ids(&self) -> Option<BTreeSet<&str>> {
        self.condition.device_ids()
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
