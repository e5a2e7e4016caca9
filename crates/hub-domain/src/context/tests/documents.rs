//! The documents: what is refused, with which words, and that printing is the inverse of parsing.

use serde_json::{Value, json};

use super::super::{Gates, HubContext};
use super::{gates, hub};
use crate::query::Path;

fn square(from: f64, to: f64) -> Value {
    json!([[[from, from], [to, from], [to, to], [from, to], [from, from]]])
}

#[test]
fn gates_come_back_as_they_are_printed() {
    for document in [
        json!({}),
        json!({ "window": { "named": "night" }, "unknown": "open", "factMaxAgeInSeconds": 60 }),
        json!({ "window": { "fromTag": "tags.[[my-window]]", "unknown": "closed" } }),
        json!({ "window": {
            "rrule": "FREQ=WEEKLY;INTERVAL=2;BYDAY=SA", "start": "2026-01-03T02:00:00", "durationInSeconds": 3600,
            "blackouts": ["2026-12-24", { "from": "2026-12-30", "to": "2027-01-02" }], "factMaxAgeInSeconds": 86400,
        } }),
        json!({ "power": { "minimumBatteryPercent": 40.5, "chargingAccepted": true, "mainsRequired": true } }),
        json!({ "network": { "kinds": ["wifi", "ethernet"], "notMetered": true, "minimumSignal": -85.0 } }),
        json!({ "notInUse": {} }),
        json!({ "place": {
            "inside": [{ "named": "depot" }, { "polygon": square(0.0, 10.0) }],
            "outside": [{ "circle": { "center": [13.4, 52.5], "radiusInMeters": 500.0 } }],
        } }),
        json!({ "condition": { "where": "tags.site = 'a'", "factMaxAgeInSeconds": 60, "unknown": "open" } }),
        json!({ "notInUse": {}, "override": { "reason": "water in the cellar" } }),
    ] {
        let parsed = gates(document.clone());
        assert_eq!(parsed.to_json(), document);
        assert_eq!(gates(parsed.to_json()), parsed);
        assert_eq!(parsed.is_empty(), document == json!({}));
        assert_eq!(parsed.override_reason().is_some(), document.get("override").is_some());
    }
}

#[test]
fn the_hubs_context_comes_back_as_it_is_printed() {
    let mut document = HubContext::default().to_json();
    assert_eq!(hub(document.clone()), HubContext::default());
    assert_eq!(
        document["facts"]["timeZone"],
        json!(["properties.reported.context.timeZone", "tags.timeZone"])
    );
    document["facts"]["batteryPercent"] = json!(["properties.reported.soc", "tags.soc"]);
    document["windows"]["night"] = json!({ "rrule": "FREQ=DAILY;BYHOUR=2", "durationInSeconds": 7200 });
    document["blackouts"] = json!(["2026-12-24"]);
    document["places"]["depot"] = json!({ "circle": { "center": [-180.0, 90.0], "radiusInMeters": 1.0 } });
    document["places"]["yard"] = json!({ "polygon": square(-1.0, 1.0) });
    let parsed = hub(document.clone());
    assert_eq!(parsed.to_json(), document);
    // One path needs no list; dates are put in order, and those that touch become one range.
    let same = hub(json!({ "facts": { "charging": "tags.c" }, "blackouts": [
        "2026-12-26", { "from": "2026-12-24", "to": "2026-12-25" }, "2026-12-25",
    ] }));
    assert_eq!(same.to_json()["facts"]["charging"], json!(["tags.c"]));
    assert_eq!(same.to_json()["blackouts"], json!([{ "from": "2026-12-24", "to": "2026-12-26" }]));
}

#[test]
fn what_the_verdict_depends_on() {
    let hub = hub(json!({ "facts": { "charging": ["tags.charging", "properties.reported.charging"] } }));
    let check = |document: Value, expected: &[&str]| {
        let expected: Vec<Path> = expected.iter().map(|path| Path::parse(path).expect(path)).collect();
        let mut found: Vec<Path> = gates(document).paths(&hub).into_iter().collect();
        found.retain(|path| !path.to_string().contains("reported.context"));
        assert_eq!(found, expected);
    };
    check(json!({}), &[]);
    check(json!({ "window": { "fromTag": "tags.w" } }), &["tags.timeZone", "tags.w"]);
    check(
        json!({ "power": { "mainsRequired": true }, "condition": { "where": "tags.a = 1 AND status = 'enabled'" } }),
        &["status", "tags.a", "tags.charging", "properties.reported.charging"],
    );
    let all = json!({ "notInUse": {}, "network": { "notMetered": true }, "place": { "inside": [{ "named": "a" }] } });
    assert_eq!(gates(all).paths(&hub).len(), 8);
}

fn check_refused(document: Value, path: &str, problem: &str) {
    let error = Gates::parse(&document).expect_err(&document.to_string());
    assert_eq!(error.path, path, "{document}: {error}");
    assert!(error.problem.contains(problem), "{document}: {error}");
}

#[test]
fn gates_that_are_refused() {
    check_refused(json!([]), "gates", "expected an object");
    check_refused(json!({ "windows": {} }), "gates.windows", "expected window, power");
    check_refused(json!({ "unknown": "maybe" }), "gates.unknown", "expected closed or open");
    check_refused(json!({ "factMaxAgeInSeconds": 0 }), "gates.factMaxAgeInSeconds", "whole number from 1");
    check_refused(json!({ "factMaxAgeInSeconds": 1.5 }), "gates.factMaxAgeInSeconds", "is 1.5");
    check_refused(json!({ "override": {} }), "gates.override.reason", "why the gates are overridden");
    check_refused(json!({ "override": { "reason": " " } }), "gates.override.reason", "1 to 512 characters");
    check_refused(json!({ "power": {} }), "gates.power", "asks for nothing");
    check_refused(
        json!({ "power": { "chargingAccepted": true } }),
        "gates.power.chargingAccepted",
        "needs minimum",
    );
    check_refused(
        json!({ "power": { "minimumBatteryPercent": "full" } }),
        "gates.power.minimumBatteryPercent",
        "is \"full\"; expected a number from 0 to 100",
    );
    check_refused(
        json!({ "power": { "minimumBatteryPercent": 101 } }),
        "gates.power.minimumBatteryPercent",
        "is 101",
    );
    check_refused(json!({ "power": { "mainsRequired": 1 } }), "gates.power.mainsRequired", "true or false");
    check_refused(json!({ "network": {} }), "gates.network", "asks for nothing");
    check_refused(json!({ "network": { "kinds": [] } }), "gates.network.kinds", "has 0 elements");
    check_refused(json!({ "network": { "kinds": ["wifi", 5] } }), "gates.network.kinds[1]", "is 5");
    check_refused(json!({ "notInUse": true }), "gates.notInUse", "expected an object");
    check_refused(json!({ "condition": { "where": "tags.a =" } }), "gates.condition.where", "Line 1:");
    check_refused(json!({ "condition": {} }), "gates.condition.where", "is missing");
    let jobs = "FROM devices.jobs WHERE status = 'failed'";
    check_refused(json!({ "condition": { "where": jobs } }), "gates.condition.where", "devices.jobs");
}

#[test]
fn windows_that_are_refused() {
    let check = |window: Value, path: &str, problem: &str| {
        check_refused(json!({ "window": window }), &format!("gates.window{path}"), problem);
    };
    check(json!({}), "", "exactly one of named, fromTag");
    check(json!({ "named": "a", "fromTag": "tags.b" }), "", "exactly one");
    check(json!({ "named": "a", "rrule": "FREQ=DAILY" }), "", "exactly one");
    check(json!({ "named": 5 }), ".named", "is 5");
    check(json!({ "fromTag": "deviceId" }), ".fromTag", "tags.NAME");
    check(json!({ "fromTag": "tags" }), ".fromTag", "tags.NAME");
    check(json!({ "fromTag": "tags.my-window" }), ".fromTag", "double brackets");
    check(json!({ "rrule": "FREQ=DAILY" }), ".durationInSeconds", "is missing");
    check(json!({ "rrule": "FREQ=DAILY", "durationInSeconds": 59 }), ".durationInSeconds", "60 to 2678400");
    let rule = |rrule: &str, problem: &str| {
        check(json!({ "rrule": rrule, "durationInSeconds": 60 }), ".rrule", problem)
    };
    rule("every night", "NAME=VALUE");
    rule("FREQ=FORTNIGHTLY", "is not a rule");
    rule("BYHOUR=2", "is not a rule");
    rule("FREQ=DAILY;BYHOUR=25", "is not a rule");
    rule("FREQ=DAILY;BYHOUR=2;BYHOUR=3", "is not a rule");
    rule("FREQ=DAILY;COLOUR=2", "is not a rule");
    rule("DTSTART:20260101T000000Z", "NAME=VALUE");
    rule("FREQ=DAILY\nEXRULE:FREQ=DAILY", "has '\\n' in it");
    rule("FREQ=MINUTELY", "more than hourly");
    rule("FREQ=SECONDLY;BYSECOND=1", "more than hourly");
    rule("FREQ=HOURLY;BYMINUTE=0,30", "48 occurrences on a day");
    rule("FREQ=DAILY;BYHOUR=1,2,3,4,5;BYMINUTE=0,10,20,30,40", "25 occurrences on a day");
    rule("FREQ=DAILY;INTERVAL=2", "expected a member 'start' too");
    rule("FREQ=DAILY;COUNT=2", "expected a member 'start' too");
    rule("FREQ=DAILY;INTERVAL=0", "expected 1 to 1000");
    rule("FREQ=DAILY;INTERVAL=1001", "expected 1 to 1000");
    rule("FREQ=DAILY;INTERVAL=70000", "is not a rule");
    rule("FREQ=DAILY;COUNT=1001", "expected 1 to 1000");
    rule("FREQ=DAILY;UNTIL=tomorrow", "UNTIL=tomorrow");
    rule("FREQ=DAILY;UNTIL=20260101;UNTIL=20260102", "UNTIL twice");
    rule(&format!("FREQ=DAILY;BYHOUR={}", "1,".repeat(300)), "1 to 512 characters");
    // They never open: there is no such date, no such moment within the bounds, or it is over before it starts.
    for never in [
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=MONTHLY;BYMONTH=4;BYMONTHDAY=31",
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=HOURLY;BYMONTH=2;BYMONTHDAY=31",
        "FREQ=WEEKLY;BYDAY=MO;BYMONTH=2;BYSETPOS=2",
        "FREQ=DAILY;UNTIL=19721231",
    ] {
        rule(never, "never opens");
    }
    let start = |start: Value| {
        let window = json!({ "rrule": "FREQ=DAILY", "durationInSeconds": 60, "start": start });
        check(window, ".start", "a local time without a zone");
    };
    start(json!(5));
    start(json!("soon"));
    start(json!("2026-01-01T00:00:00Z"));
    start(json!("2101-01-01T00:00:00"));
    start(json!("1969-12-31T00:00:00"));
    let blackouts = |dates: Value, path: &str, problem: &str| {
        let window = json!({ "rrule": "FREQ=DAILY", "durationInSeconds": 60, "blackouts": dates });
        check(window, &format!(".blackouts{path}"), problem);
    };
    blackouts(json!("2026-12-24"), "", "expected a list");
    blackouts(json!(["24.12.2026"]), "[0]", "expected a date");
    blackouts(json!(["2026-02-30"]), "[0]", "expected a date");
    blackouts(json!([{ "from": "2026-12-26", "to": "2026-12-24" }]), "[0]", "swap them");
    blackouts(json!([{ "from": "2026-12-26" }]), "[0].to", "is missing");
}

#[test]
fn places_that_are_refused() {
    let check = |area: Value, path: &str, problem: &str| {
        let document = json!({ "place": { "inside": [area] } });
        check_refused(document, &format!("gates.place.inside[0]{path}"), problem);
    };
    let ring = |ring: Value, path: &str, problem: &str| check(json!({ "polygon": [ring] }), path, problem);
    check_refused(json!({ "place": {} }), "gates.place", "asks for nothing");
    check(json!({}), "", "exactly one");
    check(json!({ "named": "a", "polygon": square(0.0, 1.0) }), "", "exactly one");
    check(json!({ "polygon": square(0.0, 1.0), "circle": {} }), "", "exactly one shape");
    ring(json!([[0, 0], [1, 0], [1, 1]]), ".polygon[0]", "4 or more");
    ring(json!([[0, 0], [1, 0], [1, 1], [0, 1]]), ".polygon[0]", "repeat the first point");
    ring(json!([[0, 0], [1, 0], [1, 95], [0, 0]]), ".polygon[0][2]", "latitude from -90 to 90");
    ring(json!([[0, 0], [1, 0], ["x", 1], [0, 0]]), ".polygon[0][2]", "[longitude, latitude]");
    ring(json!([[0, 0], [1, 0, 0], [1, 1], [0, 0]]), ".polygon[0][1]", "[longitude, latitude]");
    // It crosses itself, has no area, or touches itself.
    ring(json!([[0, 0], [2, 2], [2, 0], [0, 2], [0, 0]]), ".polygon", "self-intersection");
    ring(json!([[0, 0], [1, 1], [0, 0], [0, 0]]), ".polygon", "no simple area");
    ring(json!([[0, 0], [0, 0], [0, 0], [0, 0]]), ".polygon", "no simple area");
    // It crosses the date line: as a jump, and as a longitude of more than 180.
    ring(
        json!([[170, 0], [-170, 0], [-170, 10], [170, 10], [170, 0]]),
        ".polygon[0]",
        "crosses the date line",
    );
    ring(
        json!([[170, 0], [190, 0], [190, 10], [170, 10], [170, 0]]),
        ".polygon[0][1]",
        "longitude from -180 to 180",
    );
    let hole = json!([[[0, 0], [4, 0], [4, 4], [0, 4], [0, 0]], [[3, 3], [5, 3], [5, 5], [3, 5], [3, 3]]]);
    check(json!({ "polygon": hole }), ".polygon", "not contained");
    let many: Vec<Value> = (0..1001).map(|index| json!([0.0, f64::from(index) / 100.0])).collect();
    ring(json!(many), ".polygon", "more than 1000 points");
    let circle = |circle: Value, path: &str, problem: &str| {
        check(json!({ "circle": circle }), &format!(".circle{path}"), problem);
    };
    circle(json!({ "radiusInMeters": 5 }), ".center", "is missing");
    circle(json!({ "center": [0, 0] }), ".radiusInMeters", "is missing");
    circle(json!({ "center": [0, 91], "radiusInMeters": 5 }), ".center", "latitude from -90 to 90");
    circle(json!({ "center": [0, 0], "radiusInMeters": 0 }), ".radiusInMeters", "from 1 to 10000000");
    circle(json!({ "center": [0, 0], "radius": 5 }), ".radius", "expected center, radiusInMeters");
}

#[test]
fn contexts_that_are_refused() {
    let check = |document: Value, path: &str, problem: &str| {
        let error = HubContext::parse(&document).expect_err(&document.to_string());
        assert_eq!(error.path, path, "{error}");
        assert!(error.problem.contains(problem), "{error}");
    };
    check(json!(1), "context", "expected an object");
    check(json!({ "window": {} }), "context.window", "expected facts, windows");
    check(
        json!({ "facts": { "battery": "tags.a" } }),
        "context.facts.battery",
        "expected timeZone, batteryPercent",
    );
    check(json!({ "facts": { "inUse": "version" } }), "context.facts.inUse", "tags.NAME");
    check(json!({ "facts": { "inUse": "properties.desired.a" } }), "context.facts.inUse", "tags.NAME");
    let metadata = "properties.reported.$metadata.a";
    check(json!({ "facts": { "inUse": metadata } }), "context.facts.inUse", "properties.reported.NAME");
    check(json!({ "facts": { "inUse": ["tags.a", "tags."] } }), "context.facts.inUse[1]", "is no path");
    check(json!({ "facts": { "inUse": [] } }), "context.facts.inUse", "has 0 elements");
    check(json!({ "windows": [] }), "context.windows", "expected an object");
    check(json!({ "windows": { " ": {} } }), "context.windows", "1 to 128 characters");
    check(json!({ "windows": { "a": { "named": "b" } } }), "context.windows.a.named", "expected rrule");
    check(json!({ "places": { "a": { "named": "b" } } }), "context.places.a.named", "expected polygon");
}
