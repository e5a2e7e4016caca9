//! The members of a JSON object, read one by one: each error says which member, what is wrong and what would be right.
//! Must never let an unknown member pass: a gate that is misspelt would be a gate that is always open.

use std::time::Duration;

use serde_json::Value;

use super::{CONTEXT_NAME_CHARS_MAX, ContextError};
use crate::json::Object;

type Result<T> = std::result::Result<T, ContextError>;

/// An object whose members are all known. A member that is `null` counts as absent.
pub(super) struct Members<'v> {
    at: String,
    object: &'v Object,
}

impl<'v> Members<'v> {
    /// The object `value`, which stands at `at`.
    pub(super) fn of(at: impl Into<String>, value: &'v Value, known: &[&str]) -> Result<Self> {
        let (at, object) = object(at, value)?;
        if let Some(other) = object.keys().find(|name| !known.contains(&name.as_str())) {
            let problem = format!("is not a member here; expected {}", known.join(", "));
            return Err(ContextError::new(format!("{at}.{other}"), problem));
        }
        Ok(Self { at, object })
    }

    /// Where a member stands.
    pub(super) fn place(&self, name: &str) -> String {
        format!("{}.{name}", self.at)
    }

    /// A member.
    pub(super) fn get(&self, name: &str) -> Option<&'v Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// An error about the object itself.
    pub(super) fn error(&self, problem: impl Into<String>) -> ContextError {
        ContextError::new(self.at.as_str(), problem)
    }

    /// An error about a member.
    pub(super) fn wrong(&self, name: &str, problem: impl Into<String>) -> ContextError {
        ContextError::new(self.place(name), problem)
    }

    /// A member that is not what was expected.
    fn expected(&self, name: &str, value: &Value, expected: &str) -> ContextError {
        self.wrong(name, format!("is {}; expected {expected}", shown(value)))
    }

    /// A member that must be there.
    pub(super) fn required<T>(&self, name: &str, value: Option<T>, expected: &str) -> Result<T> {
        value.ok_or_else(|| self.wrong(name, format!("is missing; expected {expected}")))
    }

    /// A text that is not empty.
    pub(super) fn text(&self, name: &str, chars_max: usize) -> Result<Option<&'v str>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let fits = |text: &&str| !text.trim().is_empty() && text.chars().count() <= chars_max;
        let expected = || self.expected(name, value, &format!("a text of 1 to {chars_max} characters"));
        value.as_str().filter(fits).map(Some).ok_or_else(expected)
    }

    /// `true` or `false`; absent is `false`.
    pub(super) fn flag(&self, name: &str) -> Result<bool> {
        let Some(value) = self.get(name) else { return Ok(false) };
        value.as_bool().ok_or_else(|| self.expected(name, value, "true or false"))
    }

    /// A number within bounds.
    pub(super) fn number(&self, name: &str, min: f64, max: f64) -> Result<Option<f64>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = value.as_f64().filter(|number| (min..=max).contains(number));
        number.map(Some).ok_or_else(|| self.expected(name, value, &format!("a number from {min} to {max}")))
    }

    /// A whole number of seconds within bounds.
    pub(super) fn seconds(&self, name: &str, min: Duration, max: Duration) -> Result<Option<Duration>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let seconds = value.as_u64().map(Duration::from_secs).filter(|found| (min..=max).contains(found));
        let bounds = format!("a whole number from {} to {}", min.as_secs(), max.as_secs());
        seconds.map(Some).ok_or_else(|| self.expected(name, value, &bounds))
    }

    /// A list with 1 to `max` elements, each with its place.
    pub(super) fn list(
        &self,
        name: &str,
        max: usize,
    ) -> Result<Option<impl Iterator<Item = (String, &'v Value)>>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let Some(list) = value.as_array() else { return Err(self.expected(name, value, "a list")) };
        if list.is_empty() || list.len() > max {
            return Err(self.wrong(name, format!("has {} elements; expected 1 to {max}", list.len())));
        }
        let at = self.place(name);
        Ok(Some(list.iter().enumerate().map(move |(index, value)| (format!("{at}[{index}]"), value))))
    }

    /// An object whose members are named by users, each with its place; nothing if it is absent.
    pub(super) fn named(
        &self,
        name: &str,
        max: usize,
    ) -> Result<impl Iterator<Item = Result<(&'v str, String, &'v Value)>>> {
        let found = self.get(name).map(|value| object(self.place(name), value)).transpose()?;
        if let Some((at, members)) = found.as_ref().filter(|(_, members)| members.len() > max) {
            let problem = format!("has {} members, at most {max} are allowed", members.len());
            return Err(ContextError::new(at.as_str(), problem));
        }
        Ok(found.into_iter().flat_map(|(at, members)| {
            members.iter().map(move |(key, value)| {
                if key.trim().is_empty() || key.chars().count() > CONTEXT_NAME_CHARS_MAX {
                    let problem = format!("a name needs 1 to {CONTEXT_NAME_CHARS_MAX} characters");
                    return Err(ContextError::new(at.as_str(), problem));
                }
                Ok((key.as_str(), format!("{at}.{key}"), value))
            })
        }))
    }
}

fn object(at: impl Into<String>, value: &Value) -> Result<(String, &Object)> {
    let at = at.into();
    match value.as_object() {
        Some(object) => Ok((at, object)),
        None => Err(ContextError::new(at, format!("is {}; expected an object", shown(value)))),
    }
}

/// A value for an error's text, cut short.
pub(super) fn shown(value: &Value) -> String {
    const CHARS_MAX: usize = 64;
    let text = value.to_string();
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
