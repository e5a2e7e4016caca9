//! What the hub knows for all gates: where devices report facts, named windows and places, black-out dates.
//! One document, kept once per hub. Must never be needed to parse gates: a name that it lacks is unknown, not an error.

use std::collections::BTreeMap;

use serde_json::Value;

use super::blackout::Blackouts;
use super::facts::FactPaths;
use super::members::Members;
use super::shape::Shape;
use super::window::Window;
use super::{ContextError, PLACES_MAX, WINDOWS_MAX};
use crate::json::Object;

/// The hub's context document.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HubContext {
    facts: FactPaths,
    windows: BTreeMap<String, Window>,
    blackouts: Blackouts,
    places: BTreeMap<String, Shape>,
}

impl HubContext {
    /// From `{"facts": {…}, "windows": {NAME: {…}}, "blackouts": […], "places": {NAME: {…}}}`, each optional.
    ///
    /// # Errors
    /// Says what is wrong, where, and what would be right.
    pub fn parse(value: &Value) -> Result<Self, ContextError> {
        let members = Members::of("context", value, &["facts", "windows", "blackouts", "places"])?;
        let facts = members.get("facts").map(|facts| FactPaths::parse(&members.place("facts"), facts));
        let mut found = Self { facts: facts.transpose()?.unwrap_or_default(), ..Self::default() };
        for member in members.named("windows", WINDOWS_MAX)? {
            let (name, at, value) = member?;
            found.windows.insert(name.to_owned(), Window::parse(&at, value)?);
        }
        for member in members.named("places", PLACES_MAX)? {
            let (name, at, value) = member?;
            found.places.insert(name.to_owned(), Shape::parse(&at, value)?);
        }
        found.blackouts = Blackouts::parse(&members)?;
        Ok(found)
    }

    /// The document, with all facts.
    pub fn to_json(&self) -> Value {
        let mut object = Object::new();
        object.insert("facts".into(), self.facts.to_json());
        let windows = self.windows.iter().map(|(name, window)| (name.clone(), window.to_json().into()));
        object.insert("windows".into(), Value::Object(windows.collect()));
        object.extend(self.blackouts.member());
        let places = self.places.iter().map(|(name, shape)| (name.clone(), shape.to_json().into()));
        object.insert("places".into(), Value::Object(places.collect()));
        Value::Object(object)
    }

    /// Where devices report facts.
    pub fn facts(&self) -> &FactPaths {
        &self.facts
    }

    pub(super) fn window(&self, name: &str) -> Option<&Window> {
        self.windows.get(name)
    }

    pub(super) fn place(&self, name: &str) -> Option<&Shape> {
        self.places.get(name)
    }

    pub(super) fn blackouts(&self) -> &Blackouts {
        &self.blackouts
    }
}
