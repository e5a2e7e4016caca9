//! A tag whose values divide the fleet, such as `tags.site`, and how many devices of each value are in flight.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::ROLLOUT_TAG_NAMES_MAX;
use crate::json::Object;
use crate::limits::TWIN_KEY_BYTES_MAX;

/// Where in a twin's tags a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagPath(Vec<String>);

impl TagPath {
    /// From `tags.a.b`; `None` if it is not the path of a tag.
    pub fn parse(text: &str) -> Option<Self> {
        let names: Vec<&str> = text.strip_prefix("tags.")?.split('.').collect();
        let bad = |name: &&str| {
            let odd = |c: char| matches!(c, '$' | ' ') || c.is_control();
            name.is_empty() || name.len() > TWIN_KEY_BYTES_MAX || name.chars().any(odd)
        };
        let fits = names.len() <= ROLLOUT_TAG_NAMES_MAX && !names.iter().any(bad);
        fits.then(|| Self(names.into_iter().map(str::to_owned).collect()))
    }

    /// The value at this path as text; nothing if there is none, so that devices without the tag are a group, too.
    pub fn value<'a>(&self, tags: &'a Object) -> Cow<'a, str> {
        let Some((first, rest)) = self.0.split_first() else { return Cow::Borrowed("") };
        let found = rest.iter().try_fold(tags.get(first), |value, name| Some(value?.get(name)));
        match found.flatten() {
            None | Some(Value::Null) => Cow::Borrowed(""),
            Some(Value::String(text)) => Cow::Borrowed(text),
            Some(other) => Cow::Owned(other.to_string()),
        }
    }
}

impl fmt::Display for TagPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tags.{}", self.0.join("."))
    }
}

/// How many devices of each value of a tag are in flight. Not stored: whoever dispatches makes it from the devices that
/// are in flight, which are few, and keeps it up to date.
#[derive(Clone, Debug)]
pub struct TagCaps {
    max: u64,
    in_flight: BTreeMap<String, u64>,
}

impl TagCaps {
    /// With at most `max` of each value, and the values of all that are in flight now.
    pub fn new<'a>(max: u64, in_flight: impl IntoIterator<Item = &'a str>) -> Self {
        let mut caps = Self { max, in_flight: BTreeMap::new() };
        for value in in_flight {
            caps.add(value);
        }
        caps
    }

    fn add(&mut self, value: &str) {
        match self.in_flight.get_mut(value) {
            Some(count) => *count += 1,
            None => {
                self.in_flight.insert(value.to_owned(), 1);
            }
        }
    }

    /// Whether one more of this value may be in flight; if so, it is.
    pub fn claim(&mut self, value: &str) -> bool {
        let free = self.in_flight.get(value).is_none_or(|count| *count < self.max);
        if free {
            self.add(value);
        }
        free
    }

    /// One of this value is no longer in flight.
    pub fn release(&mut self, value: &str) {
        if let Some(count) = self.in_flight.get_mut(value) {
            *count -= 1;
            if *count == 0 {
                self.in_flight.remove(value);
            }
        }
    }
}
