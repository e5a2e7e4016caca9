//! Shapes on the Earth: polygons and circles, checked when they are parsed.
//!
//! Polygons are drawn with straight lines between longitudes and latitudes, as GeoJSON has it (RFC 7946); circles are
//! great-circle distances, over poles and the date line too. Must never hold a polygon whose inside is in doubt.

use geo::{
    BoundingRect, Coord, Distance, Haversine, Intersects, LineString, Point, Polygon, Rect, Validation,
};
use serde_json::{Value, json};

use super::members::{Members, shown};
use super::{CIRCLE_RADIUS_METRES_MAX, ContextError, POLYGON_POINTS_MAX};
use crate::json::Object;

/// A longer step between two longitudes could go either way around the Earth.
const STEP_DEGREES_MAX: f64 = 180.0;

/// An area.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    /// The outer ring and holes.
    Polygon(Box<(Polygon, Rect)>),
    /// All points within a distance in metres.
    Circle(Point, f64),
}

impl Shape {
    pub(super) const MEMBERS: [&str; 2] = ["polygon", "circle"];

    /// From `{"polygon": [ring, hole, …]}` or `{"circle": {"center": [longitude, latitude], "radiusInMeters": …}}`.
    pub(super) fn parse(at: &str, value: &Value) -> Result<Self, ContextError> {
        Self::of(&Members::of(at, value, &Self::MEMBERS)?)
    }

    pub(super) fn of(members: &Members<'_>) -> Result<Self, ContextError> {
        match (members.get("polygon"), members.get("circle")) {
            (Some(_), None) => polygon(members),
            (None, Some(circle)) => {
                let members = Members::of(members.place("circle"), circle, &["center", "radiusInMeters"])?;
                let center = members.required("center", members.get("center"), "[longitude, latitude]")?;
                let radius = members.number("radiusInMeters", 1.0, CIRCLE_RADIUS_METRES_MAX)?;
                let radius = members.required("radiusInMeters", radius, "a number of meters")?;
                Ok(Self::Circle(position(&members.place("center"), center)?.into(), radius))
            }
            _ => Err(members.error("needs exactly one shape; expected polygon or circle")),
        }
    }

    pub(super) fn to_json(&self) -> Object {
        let pair = |coord: &Coord| json!([coord.x, coord.y]);
        let ring = |ring: &LineString| ring.0.iter().map(pair).collect::<Value>();
        let (name, value) = match self {
            Self::Polygon(polygon) => {
                let rings = std::iter::once(polygon.0.exterior()).chain(polygon.0.interiors());
                ("polygon", rings.map(ring).collect())
            }
            Self::Circle(center, radius) => {
                ("circle", json!({ "center": pair(&center.0), "radiusInMeters": radius }))
            }
        };
        Object::from_iter([(name.to_owned(), value)])
    }

    /// Whether a point is inside or on the edge.
    pub(super) fn covers(&self, point: Point) -> bool {
        match self {
            Self::Polygon(polygon) => polygon.1.intersects(&point) && polygon.0.intersects(&point),
            Self::Circle(center, radius) => Haversine.distance(*center, point) <= *radius,
        }
    }
}

fn polygon(members: &Members<'_>) -> Result<Shape, ContextError> {
    let mut rings = Vec::new();
    let mut points = 0;
    for (at, ring) in members.list("polygon", POLYGON_POINTS_MAX)?.into_iter().flatten() {
        let Some(positions) = ring.as_array().filter(|ring| ring.len() >= 4) else {
            let expected =
                "a ring: a list of 4 or more [longitude, latitude], the last the same as the first";
            return Err(ContextError::new(at, format!("is {}; expected {expected}", shown(ring))));
        };
        points += positions.len();
        if points > POLYGON_POINTS_MAX {
            let problem = format!("has more than {POLYGON_POINTS_MAX} points; simplify it");
            return Err(members.wrong("polygon", problem));
        }
        let each = positions.iter().enumerate();
        let coords = each.map(|(index, value)| position(&format!("{at}[{index}]"), value));
        let coords = coords.collect::<Result<Vec<Coord>, _>>()?;
        if coords.first() != coords.last() {
            return Err(ContextError::new(
                at,
                "does not end where it begins; repeat the first point at the end",
            ));
        }
        if let Some(step) = coords.windows(2).find(|step| (step[0].x - step[1].x).abs() > STEP_DEGREES_MAX) {
            let problem = format!(
                "goes from longitude {} to {}, which crosses the date line or more than half of the Earth; split it \
                 into one polygon on each side of 180 degrees, or put points in between",
                step[0].x, step[1].x
            );
            return Err(ContextError::new(at, problem));
        }
        rings.push(LineString::new(coords));
    }
    let mut rings = rings.into_iter();
    let exterior = rings.next().unwrap_or_else(|| LineString::new(Vec::new()));
    let polygon = Polygon::new(exterior, rings.collect());
    if let Err(problem) = polygon.check_validation() {
        let problem =
            format!("is no simple area: {problem}; expected rings that neither cross nor touch themselves");
        return Err(members.wrong("polygon", problem));
    }
    let around = polygon.bounding_rect();
    let around = around.ok_or_else(|| members.wrong("polygon", "has no area; expected at least one ring"))?;
    Ok(Shape::Polygon(Box::new((polygon, around))))
}

/// A longitude and a latitude, in this order as in GeoJSON.
fn position(at: &str, value: &Value) -> Result<Coord, ContextError> {
    let number = |index: usize, max: f64| {
        value[index]
            .as_f64()
            .filter(|number| number.abs() <= max && value.as_array().is_some_and(|p| p.len() == 2))
    };
    let coord = number(0, 180.0).zip(number(1, 90.0)).map(|(x, y)| Coord { x, y });
    coord.ok_or_else(|| {
        let expected =
            "[longitude, latitude] with a longitude from -180 to 180 and a latitude from -90 to 90";
        ContextError::new(at, format!("is {}; expected {expected}", shown(value)))
    })
}
