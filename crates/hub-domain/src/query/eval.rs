//! Expressions over one row, in three-valued logic: what touches an absent property is undefined, and only exactly
//! `true` matches. Must never fail or panic, whatever the row holds.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::Value;

use super::ast::{Arithmetic, Comparison, Condition, Expr, Query, Scope};
use super::datum::{Datum, Row};
use super::path::Root;

impl Query {
    /// Whether `row` belongs in the answer: whether the WHERE condition is exactly true for it.
    pub fn matches(&self, row: &dyn Row) -> bool {
        self.condition.matches(row)
    }
}

impl Condition {
    /// Whether the condition is exactly true for `row`.
    pub fn matches(&self, row: &dyn Row) -> bool {
        match &self.scope {
            Scope::Everything => true,
            Scope::Nothing => false,
            Scope::Where(expr) => value(expr, row) == Datum::Bool(true),
        }
    }
}

/// The value of `expr` for `row`, with scalars unpacked.
pub(super) fn value<'a>(expr: &'a Expr, row: &'a dyn Row) -> Datum<'a> {
    match expr {
        Expr::Undefined => Datum::Undefined,
        Expr::Constant(constant) => Datum::from(constant).unpacked(),
        Expr::Path(path) => row.get(path).unpacked(),
        Expr::Call { function, arguments } => {
            let arguments: Vec<Datum<'a>> = arguments.iter().map(|argument| value(argument, row)).collect();
            function.call(&arguments)
        }
        Expr::Not(operand) => match value(operand, row) {
            Datum::Bool(flag) => Datum::Bool(!flag),
            _ => Datum::Undefined,
        },
        Expr::Negate(operand) => match value(operand, row) {
            Datum::Number(number) => Datum::Number(-number),
            _ => Datum::Undefined,
        },
        Expr::All(operands) => junction(operands, row, false),
        Expr::Any(operands) => junction(operands, row, true),
        Expr::Chain { first, rest } => {
            let first = value(first, row);
            rest.iter().fold(first, |left, (operator, right)| arithmetic(*operator, left, value(right, row)))
        }
        Expr::Compare { operator, left, right } => {
            let ignore_case = ignores_case(left) || ignores_case(right);
            let (left, right) = (value(left, row), value(right, row));
            match ignore_case {
                true => compare(*operator, &lower_case(left), &lower_case(right)),
                false => compare(*operator, &left, &right),
            }
        }
        Expr::In { left, list, negated } => {
            let ignore_case = ignores_case(left);
            let left = value(left, row);
            let left = if ignore_case { lower_case(left) } else { left };
            match (is_in(&left, list, ignore_case), negated) {
                (Datum::Bool(found), true) => Datum::Bool(!found),
                (found, _) => found,
            }
        }
    }
}

/// OR when `decisive` is true, AND when it is false: one decisive operand decides, else an operand that is no boolean
/// makes the whole undefined.
fn junction<'a>(operands: &'a [Expr], row: &'a dyn Row, decisive: bool) -> Datum<'a> {
    let mut whole = Datum::Bool(!decisive);
    for operand in operands {
        match value(operand, row) {
            Datum::Bool(flag) if flag == decisive => return Datum::Bool(decisive),
            Datum::Bool(_) => {}
            _ => whole = Datum::Undefined,
        }
    }
    whole
}

fn arithmetic<'a>(operator: Arithmetic, left: Datum<'a>, right: Datum<'a>) -> Datum<'a> {
    let (Datum::Number(left), Datum::Number(right)) = (left, right) else { return Datum::Undefined };
    // Division by zero and overflow are not finite, hence undefined.
    Datum::number(match operator {
        Arithmetic::Add => left + right,
        Arithmetic::Subtract => left - right,
        Arithmetic::Multiply => left * right,
        Arithmetic::Divide => left / right,
        Arithmetic::Remainder => left % right,
    })
}

/// The status of a job record is compared without regard to case, since clients spell it in several ways.
fn ignores_case(expr: &Expr) -> bool {
    matches!(expr, Expr::Path(path) if path.root() == Root::JobStatus)
}

fn lower_case(datum: Datum<'_>) -> Datum<'_> {
    match datum {
        Datum::Str(text) => Datum::from(text.to_lowercase()),
        other => other,
    }
}

/// Only primitives of one type compare; except that a primitive which is not null is known to differ from null.
pub(super) fn compare<'a>(operator: Comparison, left: &Datum<'_>, right: &Datum<'_>) -> Datum<'a> {
    let Some(order) = order(left, right) else {
        return match (operator, is_null_and_other(left, right) || is_null_and_other(right, left)) {
            (Comparison::Equal, true) => Datum::Bool(false),
            (Comparison::NotEqual, true) => Datum::Bool(true),
            _ => Datum::Undefined,
        };
    };
    Datum::Bool(match operator {
        Comparison::Equal => order == Ordering::Equal,
        Comparison::NotEqual => order != Ordering::Equal,
        Comparison::Less => order == Ordering::Less,
        Comparison::LessOrEqual => order != Ordering::Greater,
        Comparison::Greater => order == Ordering::Greater,
        Comparison::GreaterOrEqual => order != Ordering::Less,
    })
}

/// The order of two primitives of one type. Bytes of UTF-8 sort as code points do.
fn order(left: &Datum<'_>, right: &Datum<'_>) -> Option<Ordering> {
    match (left, right) {
        (Datum::Null, Datum::Null) => Some(Ordering::Equal),
        (Datum::Bool(left), Datum::Bool(right)) => Some(left.cmp(right)),
        (Datum::Number(left), Datum::Number(right)) => left.partial_cmp(right),
        (Datum::Str(left), Datum::Str(right)) => Some(left.as_bytes().cmp(right.as_bytes())),
        _ => None,
    }
}

fn is_null_and_other(null: &Datum<'_>, other: &Datum<'_>) -> bool {
    *null == Datum::Null && matches!(other, Datum::Bool(_) | Datum::Number(_) | Datum::Str(_))
}

/// `left = a OR left = b OR …` over `list`.
pub(super) fn is_in<'a>(left: &Datum<'_>, list: &[Value], ignore_case: bool) -> Datum<'a> {
    let mut whole = if *left == Datum::Undefined { Datum::Undefined } else { Datum::Bool(false) };
    for element in list {
        let element = Datum::from(element).unpacked();
        let element = if ignore_case { lower_case(element) } else { element };
        match compare(Comparison::Equal, left, &element) {
            Datum::Bool(true) => return Datum::Bool(true),
            Datum::Bool(false) => {}
            _ => whole = Datum::Undefined,
        }
    }
    whole
}

/// Whether two values are the same JSON value, arrays and objects member by member.
pub(super) fn same_value(left: &Datum<'_>, right: &Datum<'_>) -> bool {
    let (Datum::Json(left), Datum::Json(right)) = (left, right) else {
        return order(left, right) == Some(Ordering::Equal);
    };
    let same = |left, right| same_value(&Datum::from(left).unpacked(), &Datum::from(right).unpacked());
    match (Cow::as_ref(left), Cow::as_ref(right)) {
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(key, value)| right.get(key).is_some_and(|other| same(value, other)))
        }
        _ => false,
    }
}
