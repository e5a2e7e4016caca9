//! The values that expressions compute with, and the row that they read them from.
//! Must never copy what it can borrow: a query looks at every twin of the hub.

use std::borrow::Cow;

use serde_json::{Number, Value};

use super::path::{Path, Root};

/// Integers up to this magnitude are exact in a double.
const EXACT_INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

/// One value in an expression. `Undefined` is the absent property: it spreads through operators, and a condition that
/// comes to it does not match.
#[derive(Clone, Debug, PartialEq)]
pub enum Datum<'a> {
    /// No such property, or an operation without a meaning (division by zero, `'a' + 1`).
    Undefined,
    /// An explicit JSON null.
    Null,
    /// A boolean.
    Bool(bool),
    /// A number; all arithmetic is in doubles.
    Number(f64),
    /// A string.
    Str(Cow<'a, str>),
    /// An array or an object. A [`Row`] may also hand out a scalar in this form: it is unpacked on use, and projected
    /// unchanged.
    Json(Cow<'a, Value>),
}

impl<'a> Datum<'a> {
    /// The member that `segments` lead to from `value`, through object keys only; `Undefined` when there is none.
    pub fn at(value: &'a Value, segments: &[String]) -> Self {
        let mut value = value;
        for segment in segments {
            match value.get(segment) {
                Some(member) => value = member,
                None => return Datum::Undefined,
            }
        }
        Datum::from(value)
    }

    /// The value at `path` of a row that is at hand as its finished document.
    pub fn in_document(document: &'a Value, path: &Path) -> Self {
        if path.root() == Root::Unknown {
            return Datum::Undefined;
        }
        let mut value = document;
        for member in path.root().name().split('.') {
            match value.get(member) {
                Some(found) => value = found,
                None => return Datum::Undefined,
            }
        }
        Datum::at(value, path.segments())
    }

    /// This value with scalars out of `Json` and without numbers that JSON cannot hold.
    pub(super) fn unpacked(self) -> Self {
        match self {
            Datum::Json(Cow::Borrowed(value)) => match value {
                Value::Null => Datum::Null,
                Value::Bool(flag) => Datum::Bool(*flag),
                Value::Number(number) => Datum::number(number.as_f64().unwrap_or(f64::NAN)),
                Value::String(text) => Datum::Str(Cow::Borrowed(text)),
                Value::Array(_) | Value::Object(_) => Datum::Json(Cow::Borrowed(value)),
            },
            Datum::Json(Cow::Owned(value)) => match value {
                Value::Null => Datum::Null,
                Value::Bool(flag) => Datum::Bool(flag),
                Value::Number(number) => Datum::number(number.as_f64().unwrap_or(f64::NAN)),
                Value::String(text) => Datum::Str(Cow::Owned(text)),
                value @ (Value::Array(_) | Value::Object(_)) => Datum::Json(Cow::Owned(value)),
            },
            Datum::Number(number) => Datum::number(number),
            other => other,
        }
    }

    /// A number, or `Undefined` when it is not finite.
    pub(super) fn number(number: f64) -> Self {
        if number.is_finite() { Datum::Number(number) } else { Datum::Undefined }
    }

    /// As JSON; `None` for `Undefined`. Whole numbers come out without a fraction.
    pub fn into_value(self) -> Option<Value> {
        match self {
            Datum::Undefined => None,
            Datum::Null => Some(Value::Null),
            Datum::Bool(flag) => Some(Value::Bool(flag)),
            Datum::Number(number) if number.fract() == 0.0 && number.abs() <= EXACT_INTEGER_MAX => {
                Some(Value::from(number as i64))
            }
            Datum::Number(number) => Number::from_f64(number).map(Value::Number),
            Datum::Str(text) => Some(Value::String(text.into_owned())),
            Datum::Json(value) => Some(value.into_owned()),
        }
    }
}

impl<'a> From<&'a Value> for Datum<'a> {
    fn from(value: &'a Value) -> Self {
        Datum::Json(Cow::Borrowed(value))
    }
}

impl From<Value> for Datum<'_> {
    fn from(value: Value) -> Self {
        Datum::Json(Cow::Owned(value))
    }
}

impl<'a> From<&'a str> for Datum<'a> {
    fn from(text: &'a str) -> Self {
        Datum::Str(Cow::Borrowed(text))
    }
}

impl From<String> for Datum<'_> {
    fn from(text: String) -> Self {
        Datum::Str(Cow::Owned(text))
    }
}

impl From<bool> for Datum<'_> {
    fn from(flag: bool) -> Self {
        Datum::Bool(flag)
    }
}

impl From<f64> for Datum<'_> {
    fn from(number: f64) -> Self {
        Datum::Number(number)
    }
}

/// What a query is asked about: a device twin, a module twin, or a job's record for one device.
pub trait Row {
    /// The value at `path`, `Undefined` when the row has none. [`Root`] says which document member a path starts from;
    /// the rest, `$version` and `$metadata` included, is in its segments.
    fn get<'a>(&'a self, path: &Path) -> Datum<'a>;

    /// The whole row as `SELECT *` shows it.
    fn document(&self) -> Value;
}

/// A row that is at hand as its finished JSON document.
#[derive(Clone, Copy, Debug)]
pub struct Document<'d>(pub &'d Value);

impl Row for Document<'_> {
    fn get<'a>(&'a self, path: &Path) -> Datum<'a> {
        Datum::in_document(self.0, path)
    }

    fn document(&self) -> Value {
        self.0.clone()
    }
}
