//! Reads the members of a JSON object and says exactly where something is wrong: unknown members are refused, so that a
//! misspelt limit is not a missing one. A member that is null is as if it were not there.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::Value;

use super::share::{Factor, Share};
use super::tag::TagPath;
use super::{ROLLOUT_DEVICES_MAX, ROLLOUT_TIME_MAX, RolloutError};
use crate::json::Object;

/// An object and where it is.
pub(super) struct Reader<'v> {
    path: String,
    object: &'v Object,
}

impl<'v> Reader<'v> {
    /// The object at `path`, which has no members but `known`.
    pub fn new(path: impl Into<String>, value: &'v Value, known: &[&str]) -> Result<Self, RolloutError> {
        let path = path.into();
        let Some(object) = value.as_object() else {
            return Err(RolloutError::new(path, format!("is {value}; expected an object")));
        };
        if let Some(unknown) = object.keys().find(|name| !known.contains(&name.as_str())) {
            let path = format!("{path}.{unknown}");
            return Err(RolloutError::new(path, format!("is unknown; expected {}", known.join(", "))));
        }
        Ok(Self { path, object })
    }

    /// The path of a member.
    pub fn at(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }

    /// An error about a member.
    pub fn error(&self, name: &str, problem: impl Into<String>) -> RolloutError {
        RolloutError::new(self.at(name), problem)
    }

    /// An error about the object.
    pub fn error_here(&self, problem: impl Into<String>) -> RolloutError {
        RolloutError::new(self.path.clone(), problem)
    }

    /// A member, if it is there.
    pub fn get(&self, name: &str) -> Option<&'v Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// Reads a member, if it is there.
    pub fn with<T>(
        &self,
        name: &str,
        read: impl FnOnce(&'v Value) -> Option<T>,
        expected: impl FnOnce() -> String,
    ) -> Result<Option<T>, RolloutError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match read(value) {
            Some(read) => Ok(Some(read)),
            None => Err(self.error(name, format!("is {value}; expected {}", expected()))),
        }
    }

    /// An object within this one.
    pub fn object(&self, name: &str, known: &[&str]) -> Result<Option<Reader<'v>>, RolloutError> {
        self.get(name).map(|value| Reader::new(self.at(name), value, known)).transpose()
    }

    /// A whole number.
    pub fn whole(&self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, RolloutError> {
        let read = |value: &Value| value.as_u64().filter(|number| range.contains(number));
        self.with(name, read, || format!("a whole number from {} to {}", range.start(), range.end()))
    }

    /// A number of devices, at least one.
    pub fn devices(&self, name: &str) -> Result<Option<u64>, RolloutError> {
        self.whole(name, 1..=ROLLOUT_DEVICES_MAX)
    }

    /// A time in whole seconds.
    pub fn seconds(&self, name: &str, min: u64) -> Result<Option<Duration>, RolloutError> {
        Ok(self.whole(name, min..=ROLLOUT_TIME_MAX.as_secs())?.map(Duration::from_secs))
    }

    /// Above 0, up to 100.
    pub fn percent(&self, name: &str) -> Result<Option<Share>, RolloutError> {
        let read = |value: &Value| Share::parse(value.as_f64()?, 100.0);
        self.with(name, read, || "a number above 0, up to 100, with at most four decimals".into())
    }

    /// Between 0 and 1, neither of them.
    pub fn fraction(&self, name: &str) -> Result<Option<Share>, RolloutError> {
        let read = |value: &Value| Share::parse(value.as_f64()?, 1.0).filter(|share| *share != Share::ALL);
        let expected = "a number between 0 and 1, such as 0.02 for 2 %, with at most six decimals";
        self.with(name, read, || expected.into())
    }

    /// A factor from 1 on.
    pub fn factor(&self, name: &str) -> Result<Option<Factor>, RolloutError> {
        let read = |value: &Value| Factor::parse(value.as_f64()?);
        self.with(name, read, || format!("a number from 1 to {}, with at most three decimals", Factor::MAX))
    }

    /// The path of a tag.
    pub fn tag(&self, name: &str) -> Result<Option<TagPath>, RolloutError> {
        let read = |value: &Value| TagPath::parse(value.as_str()?);
        self.with(name, read, || "the path of a tag, such as tags.site".into())
    }

    /// One of some words.
    pub fn word<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<Option<T>, RolloutError> {
        let read = |value: &Value| {
            let text = value.as_str()?;
            words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning)
        };
        let known = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        self.with(name, read, || format!("one of {}", known()))
    }

    /// A member that must be there.
    pub fn needed<T>(&self, name: &str, found: Option<T>, what: &str) -> Result<T, RolloutError> {
        found.ok_or_else(|| self.error(name, format!("is missing; expected {what}")))
    }
}
