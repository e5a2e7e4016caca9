//! The gate over where a device is: in one of these places, in none of those.
//! Must never guess: without both coordinates, both of them fresh, the place is unknown.

use geo::Point;
use serde_json::Value;

use super::facts::{Fact, Findings, Scene, earlier, number};
use super::gates::Policy;
use super::hub::HubContext;
use super::members::Members;
use super::shape::Shape;
use super::verdict::{Code, Gate, Reason};
use super::{CONTEXT_NAME_CHARS_MAX, ContextError, PLACE_SHAPES_MAX};
use crate::json::Object;

#[derive(Clone, Debug, PartialEq)]
enum Area {
    Named(String),
    Inline(Shape),
}

/// The gate.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PlaceGate {
    inside: Vec<Area>,
    outside: Vec<Area>,
    policy: Policy,
}

impl Area {
    fn parse(at: &str, value: &Value) -> Result<Self, ContextError> {
        let known: Vec<&str> = ["named"].into_iter().chain(Shape::MEMBERS).collect();
        let members = Members::of(at, value, &known)?;
        let inline = Shape::MEMBERS.iter().any(|name| members.get(name).is_some());
        match (members.text("named", CONTEXT_NAME_CHARS_MAX)?, inline) {
            (Some(name), false) => Ok(Self::Named(name.to_owned())),
            (None, true) => Shape::of(&members).map(Self::Inline),
            _ => Err(members.error("needs exactly one of named, polygon and circle")),
        }
    }

    fn to_json(&self) -> Value {
        Value::Object(match self {
            Self::Named(name) => Object::from_iter([("named".to_owned(), name.as_str().into())]),
            Self::Inline(shape) => shape.to_json(),
        })
    }

    /// Whether the point is in it; `None` if the hub has no such place.
    fn covers(&self, point: Point, hub: &HubContext) -> Option<bool> {
        match self {
            Self::Named(name) => hub.place(name).map(|shape| shape.covers(point)),
            Self::Inline(shape) => Some(shape.covers(point)),
        }
    }
}

impl PlaceGate {
    pub(super) const FACTS: [Fact; 2] = [Fact::Longitude, Fact::Latitude];

    pub(super) fn parse(at: &str, value: &Value) -> Result<Self, ContextError> {
        let known: Vec<&str> = ["inside", "outside"].into_iter().chain(Policy::MEMBERS).collect();
        let members = Members::of(at, value, &known)?;
        let areas = |name: &str| {
            let list = members.list(name, PLACE_SHAPES_MAX)?.into_iter().flatten();
            list.map(|(at, value)| Area::parse(&at, value)).collect::<Result<Vec<_>, ContextError>>()
        };
        let found =
            Self { inside: areas("inside")?, outside: areas("outside")?, policy: Policy::parse(&members)? };
        if found.inside.is_empty() && found.outside.is_empty() {
            return Err(members.error("asks for nothing; expected a list inside or outside"));
        }
        Ok(found)
    }

    pub(super) fn to_json(&self) -> Object {
        let mut object = self.lists(true, true);
        self.policy.print(&mut object);
        object
    }

    fn lists(&self, inside: bool, outside: bool) -> Object {
        let lists = [("inside", &self.inside, inside), ("outside", &self.outside, outside)];
        let shown = lists.into_iter().filter(|(_, areas, shown)| *shown && !areas.is_empty());
        shown.map(|(name, areas, _)| (name.to_owned(), areas.iter().map(Area::to_json).collect())).collect()
    }

    pub(super) fn policy(&self) -> Policy {
        self.policy
    }

    pub(super) fn judge(&self, scene: &Scene<'_>, hub: &HubContext) -> Findings {
        let mut findings = Findings::default();
        let longitude = scene.find(Fact::Longitude, number(-180.0, 180.0));
        let latitude = scene.find(Fact::Latitude, number(-90.0, 90.0));
        let expires = earlier(longitude.expires, latitude.expires);
        findings.changes(expires);
        let mut push = |code, wanted| {
            let facts = vec![scene.seen(&longitude), scene.seen(&latitude)];
            let wanted = Value::Object(wanted);
            findings.push(Reason { gate: Gate::Place, code, facts, wanted, next: None }, expires);
        };
        let point = match (&longitude.value, &latitude.value) {
            (Ok(longitude), Ok(latitude)) => Point::new(*longitude, *latitude),
            (Err(code), _) | (_, Err(code)) => {
                push(*code, self.lists(true, true));
                return findings;
            }
        };
        let covered = |areas: &[Area]| {
            let found: Vec<Option<bool>> = areas.iter().map(|area| area.covers(point, hub)).collect();
            if found.contains(&Some(true)) { Some(true) } else { (!found.contains(&None)).then_some(false) }
        };
        match covered(&self.inside) {
            _ if self.inside.is_empty() => {}
            Some(true) => {}
            Some(false) => push(Code::NotInside, self.lists(true, false)),
            None => push(Code::NotDefined, self.lists(true, false)),
        }
        match covered(&self.outside) {
            Some(false) => {}
            Some(true) => push(Code::NotOutside, self.lists(false, true)),
            None => push(Code::NotDefined, self.lists(false, true)),
        }
        findings
    }
}
