//! Places: polygons with holes and edges, circles over the pole and the date line, and what is unknown of them.

use serde_json::{Value, json};

use super::*;

fn check(place: Value, position: (f64, f64), expected: &[&str]) {
    let context = json!({ "place": { "longitude": position.0, "latitude": position.1 } });
    let hub = hub(
        json!({ "places": { "depot": { "circle": { "center": [13.4, 52.5], "radiusInMeters": 1000 } } } }),
    );
    let twin = twin(context, "2026-01-10T00:00:00Z");
    let found = verdict(&gates(json!({ "place": place })), &twin, &hub, time("2026-01-10T00:00:00Z"));
    assert_eq!(keys(&found), expected, "{place} {position:?}");
}

#[test]
fn polygons() {
    let with_hole = json!({ "polygon": [
        [[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]],
        [[4, 4], [6, 4], [6, 6], [4, 6], [4, 4]],
    ] });
    let inside = json!({ "inside": [with_hole] });
    let outside = json!({ "outside": [with_hole] });
    for (position, is_in) in [
        ((1.0, 1.0), true),
        ((5.0, 5.0), false),
        ((0.0, 5.0), true),
        ((10.0, 10.0), true),
        ((4.0, 5.0), true),
        ((10.001, 5.0), false),
        ((-5.0, 5.0), false),
        ((179.9, 5.0), false),
    ] {
        check(inside.clone(), position, if is_in { &[] } else { &["place.notInside"] });
        check(outside.clone(), position, if is_in { &["place.notOutside"] } else { &[] });
    }
    // Two halves at the date line are one place.
    let fiji = json!({ "inside": [
        { "polygon": [[[177, -20], [180, -20], [180, -15], [177, -15], [177, -20]]] },
        { "polygon": [[[-180, -20], [-178, -20], [-178, -15], [-180, -15], [-180, -20]]] },
    ] });
    for (longitude, expected) in
        [(179.0, &[][..]), (-179.0, &[]), (180.0, &[]), (-180.0, &[]), (-177.0, &["place.notInside"])]
    {
        check(fiji.clone(), (longitude, -17.0), expected);
    }
}

#[test]
fn circles() {
    let circle = |longitude: f64, latitude: f64, radius: f64| json!({ "inside": [{ "circle": { "center": [longitude, latitude], "radiusInMeters": radius } }] });
    // A degree of latitude is 111.2 km.
    check(circle(0.0, 0.0, 112_000.0), (0.0, 1.0), &[]);
    check(circle(0.0, 0.0, 111_000.0), (0.0, 1.0), &["place.notInside"]);
    check(circle(0.0, 60.0, 56_000.0), (1.0, 60.0), &[]);
    // Over the date line, over the pole, at the pole.
    check(circle(179.9, 0.0, 30_000.0), (-179.9, 0.0), &[]);
    check(circle(179.9, 0.0, 20_000.0), (-179.9, 0.0), &["place.notInside"]);
    check(circle(0.0, 89.0, 230_000.0), (180.0, 89.0), &[]);
    check(circle(0.0, 89.0, 220_000.0), (180.0, 89.0), &["place.notInside"]);
    check(circle(77.0, 90.0, 1.0), (-120.0, 90.0), &[]);
    check(circle(0.0, 0.0, 10_000_000.0), (180.0, 0.0), &["place.notInside"]);
}

#[test]
fn names_and_both_lists() {
    let (depot, home) = ((13.4, 52.5), (8.0, 50.0));
    check(json!({ "inside": [{ "named": "depot" }] }), depot, &[]);
    check(json!({ "inside": [{ "named": "depot" }] }), home, &["place.notInside"]);
    check(json!({ "outside": [{ "named": "depot" }] }), depot, &["place.notOutside"]);
    check(json!({ "inside": [{ "named": "none" }] }), depot, &["place.notDefined"]);
    check(json!({ "inside": [{ "named": "none" }, { "named": "depot" }] }), depot, &[]);
    check(json!({ "inside": [{ "named": "none" }, { "named": "depot" }] }), home, &["place.notDefined"]);
    check(json!({ "outside": [{ "named": "none" }, { "named": "depot" }] }), depot, &["place.notOutside"]);
    check(json!({ "outside": [{ "named": "none" }], "unknown": "open" }), depot, &[]);
    let germany = json!({ "circle": { "center": [10.0, 51.0], "radiusInMeters": 500_000 } });
    check(json!({ "inside": [germany], "outside": [{ "named": "depot" }] }), home, &[]);
    check(json!({ "inside": [germany], "outside": [{ "named": "depot" }] }), depot, &["place.notOutside"]);
}

#[test]
fn positions_that_are_unknown() {
    let gate =
        gates(json!({ "place": { "outside": [{ "circle": { "center": [0, 0], "radiusInMeters": 1 } }] },
        "factMaxAgeInSeconds": 60 }));
    let check = |place: Value, now: &str, expected: &[&str]| {
        let twin = twin(json!({ "place": place }), "2026-01-10T00:00:00Z");
        assert_eq!(keys(&verdict(&gate, &twin, &HubContext::default(), time(now))), expected, "{place}");
    };
    let now = "2026-01-10T00:00:30Z";
    check(json!({ "longitude": 5, "latitude": 5 }), now, &[]);
    check(json!({ "longitude": 5 }), now, &["place.missing"]);
    check(json!({ "latitude": 5 }), now, &["place.missing"]);
    check(json!({ "longitude": 190, "latitude": 5 }), now, &["place.unusable"]);
    check(json!({ "longitude": 5, "latitude": "north" }), now, &["place.unusable"]);
    check(json!({ "longitude": 5, "latitude": 5 }), "2026-01-10T00:01:00Z", &["place.tooOld"]);
}
