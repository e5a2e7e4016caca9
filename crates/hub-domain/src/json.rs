//! JSON values as twins use them: merge patch (RFC 7396), and the rules that every value must keep (S 4.3).

use std::fmt;

use serde_json::{Map, Value};

use crate::limits::{
    TWIN_DEPTH_MAX, TWIN_INTEGER_MAX, TWIN_INTEGER_MIN, TWIN_KEY_BYTES_MAX, TWIN_STRING_BYTES_MAX,
};

/// A JSON object.
pub type Object = Map<String, Value>;

/// Which rule a document breaks, and at which path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    /// Where, as `a.b.c`; empty for the root.
    pub path: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.problem),
            path => write!(f, "at '{path}': {}", self.problem),
        }
    }
}

impl std::error::Error for RuleError {}

/// Checks keys, values and depth of a patch or document. `null` is allowed as a property's value
/// (it deletes), never inside an array.
pub fn check_rules(object: &Object) -> Result<(), RuleError> {
    let mut path = Vec::new();
    check_object(object, &mut path, false)
}

fn check_object<'a>(object: &'a Object, path: &mut Vec<&'a str>, in_array: bool) -> Result<(), RuleError> {
    for (key, value) in object {
        check_key(key).map_err(|problem| error(path, problem))?;
        path.push(key);
        check_value(value, path, in_array)?;
        path.pop();
    }
    Ok(())
}

fn check_key(key: &str) -> Result<(), String> {
    if key.is_empty() {
        return Err("a property name is empty".into());
    }
    if key.len() > TWIN_KEY_BYTES_MAX {
        return Err(format!(
            "a property name has {} bytes, at most {TWIN_KEY_BYTES_MAX} are allowed",
            key.len()
        ));
    }
    match key.chars().find(|c| matches!(c, '.' | '$' | ' ') || c.is_control()) {
        Some(c) => Err(format!(
            "property name {key:?} contains {c:?}; control characters, '.', '$' and space are not allowed"
        )),
        None => Ok(()),
    }
}

fn check_value<'a>(value: &'a Value, path: &mut Vec<&'a str>, in_array: bool) -> Result<(), RuleError> {
    match value {
        Value::Null if in_array => Err(error(path, "arrays cannot contain null".into())),
        Value::Null | Value::Bool(_) => Ok(()),
        Value::Number(number) => check_number(number).map_err(|problem| error(path, problem)),
        Value::String(text) if text.len() > TWIN_STRING_BYTES_MAX => Err(error(
            path,
            format!("the string has {} bytes, at most {TWIN_STRING_BYTES_MAX} are allowed", text.len()),
        )),
        Value::String(_) => Ok(()),
        Value::Array(_) | Value::Object(_) if path.len() > TWIN_DEPTH_MAX => {
            Err(error(path, format!("nested deeper than {TWIN_DEPTH_MAX} levels")))
        }
        Value::Object(object) => check_object(object, path, in_array),
        Value::Array(items) => {
            path.push("[]");
            items.iter().try_for_each(|item| check_value(item, path, true))?;
            path.pop();
            Ok(())
        }
    }
}

fn check_number(number: &serde_json::Number) -> Result<(), String> {
    let inside = match (number.as_i64(), number.is_f64()) {
        (Some(integer), _) => (TWIN_INTEGER_MIN..=TWIN_INTEGER_MAX).contains(&integer),
        (None, is_float) => is_float,
    };
    if inside {
        return Ok(());
    }
    Err(format!("integer {number} is outside of {TWIN_INTEGER_MIN} to {TWIN_INTEGER_MAX}"))
}

fn error(path: &[&str], problem: String) -> RuleError {
    RuleError { path: path.join("."), problem }
}

/// The size of a section as the limits count it: UTF-8 bytes of keys and strings (without control
/// characters), 8 for a number, 4 for a boolean, sums for objects and arrays.
pub fn size_bytes(object: &Object) -> usize {
    object.iter().map(|(key, value)| key.len() + value_bytes(value)).sum()
}

fn value_bytes(value: &Value) -> usize {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 4,
        Value::Number(_) => 8,
        Value::String(text) => text.chars().filter(|c| !c.is_control()).map(char::len_utf8).sum(),
        Value::Array(items) => items.iter().map(value_bytes).sum(),
        Value::Object(object) => size_bytes(object),
    }
}

/// Takes every `null` property out of an object, at every level: what a merge of it into nothing gives.
pub fn without_nulls(object: &Object) -> Object {
    let mut object = object.clone();
    take_nulls(&mut object);
    object
}

fn take_nulls(object: &mut Object) {
    object.retain(|_, value| !value.is_null());
    object.values_mut().filter_map(Value::as_object_mut).for_each(take_nulls);
}

/// The merge patch that turns `before` into `after`, whole values for what stays: `after` with a
/// `null` for every key of `before` that is gone. It is what a device is told after a replacement.
pub fn replacement_patch(before: &Object, after: &Object) -> Object {
    let mut patch = after.clone();
    for (key, old) in before {
        match (old, patch.get_mut(key)) {
            (_, None) => {
                patch.insert(key.clone(), Value::Null);
            }
            (Value::Object(old), Some(Value::Object(new))) => *new = replacement_patch(old, new),
            _ => {}
        }
    }
    patch
}

/// The smallest merge patch that turns `before` into `after`, neither of which has a `null`: empty if they are equal.
pub fn difference_patch(before: &Object, after: &Object) -> Object {
    let gone = before.keys().filter(|key| !after.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    let mut patch: Object = gone.collect();
    for (key, new) in after {
        match (before.get(key), new) {
            (Some(old), new) if old == new => {}
            (Some(Value::Object(old)), Value::Object(new)) => {
                patch.insert(key.clone(), Value::Object(difference_patch(old, new)));
            }
            (_, new) => {
                patch.insert(key.clone(), new.clone());
            }
        }
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Object {
        value.as_object().expect("an object").clone()
    }

    #[test]
    fn rules() {
        let nested = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!({ "a": inner }));
        let good = [
            json!({}),
            json!({"a": null, "b": [1, {"c": "x"}], "d": 1.5e300}),
            json!({"i": TWIN_INTEGER_MAX, "j": TWIN_INTEGER_MIN}),
            json!({"s": "x".repeat(TWIN_STRING_BYTES_MAX)}),
            json!({"k".repeat(TWIN_KEY_BYTES_MAX): 1}),
            nested(TWIN_DEPTH_MAX + 1),
        ];
        for value in good {
            assert_eq!(check_rules(&object(value.clone())), Ok(()), "{value}");
        }
        let bad = [
            (json!({"a.b": 1}), "'.'"),
            (json!({"a": {"$b": 1}}), "at 'a'"),
            (json!({"a b": 1}), "' '"),
            (json!({"a\u{0}": 1}), "control"),
            (json!({"a\u{85}": 1}), "control"),
            (json!({"": 1}), "empty"),
            (json!({"a": [1, null]}), "null"),
            (json!({"a": [{"b": null}]}), "null"),
            (json!({"i": TWIN_INTEGER_MAX + 1}), "outside"),
            (json!({"i": TWIN_INTEGER_MIN - 1}), "outside"),
            (json!({"i": u64::MAX}), "outside"),
            (json!({"s": "x".repeat(TWIN_STRING_BYTES_MAX + 1)}), "4096"),
            (json!({"k".repeat(TWIN_KEY_BYTES_MAX + 1): 1}), "1024"),
            (nested(TWIN_DEPTH_MAX + 2), "nested"),
        ];
        for (value, part) in bad {
            let text = check_rules(&object(value.clone())).expect_err("must be refused").to_string();
            assert!(text.contains(part), "{value}: {text}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(
            size_bytes(&object(json!({"ab": "ü\n", "c": 1, "d": true, "e": {"f": [1, 2]}}))),
            2 + 2 + 1 + 8 + 1 + 4 + 1 + 1 + 16
        );
    }

    #[test]
    fn a_difference_is_what_differs() {
        let check = |before: Value, after: Value, patch: Value| {
            assert_eq!(Value::Object(difference_patch(&object(before), &object(after))), patch);
        };
        check(json!({"a": 1, "b": {"c": 1}}), json!({"b": {"c": 1}, "a": 1}), json!({}));
        check(
            json!({"a": 1, "b": {"c": 1, "d": 2}, "e": 0}),
            json!({"a": {}, "b": {"c": 1}, "f": 1, "e": 0}),
            json!({"a": {}, "b": {"d": null}, "f": 1}),
        );
        check(json!({"a": {"b": 1}}), json!({"a": 5}), json!({"a": 5}));
        check(json!({"a": {"b": 1}}), json!({"a": {}}), json!({"a": {"b": null}}));
    }

    #[test]
    fn replacement_names_what_is_gone() {
        let patch = replacement_patch(
            &object(json!({"a": {"b": 1, "c": 2}, "d": 1})),
            &object(json!({"a": {"b": 1}, "e": 2})),
        );
        assert_eq!(Value::Object(patch), json!({"a": {"b": 1, "c": null}, "d": null, "e": 2}));
    }
}
