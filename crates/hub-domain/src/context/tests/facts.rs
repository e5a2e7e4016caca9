//! Power, network, use and conditions: what is known, what is unknown, and what time makes of both.

use serde_json::{Value, json};

use super::super::FACT_AGE_MAX;
use super::*;
use crate::identity::{Authentication, Identity, Status};
use crate::twin::{Connection, Twin, TwinDocument, TwinPatch};

const REPORTED: &str = "2026-01-10T00:00:00Z";

fn judge(document: Value, context: Value, now: &str) -> Verdict {
    verdict(&gates(document), &twin(context, REPORTED), &HubContext::default(), time(now))
}

/// The reasons a minute after the report.
fn check(document: Value, context: Value, expected: &[&str]) {
    let found = judge(document.clone(), context.clone(), "2026-01-10T00:01:00Z");
    assert_eq!(keys(&found), expected, "{document} {context}");
}

#[test]
fn power() {
    let battery = |percent: Value| json!({ "power": { "batteryPercent": percent } });
    let least = json!({ "power": { "minimumBatteryPercent": 40 } });
    check(least.clone(), battery(json!(40)), &[]);
    check(least.clone(), battery(json!(39.9)), &["power.batteryLow"]);
    check(least.clone(), json!({}), &["power.missing"]);
    for odd in [json!("full"), json!(-1), json!(101), json!(true), json!([90]), json!({ "level": 90 })] {
        check(least.clone(), battery(odd), &["power.unusable"]);
    }
    let or_charging = json!({ "power": { "minimumBatteryPercent": 40, "chargingAccepted": true } });
    let state = |percent: Value, charging: Value, mains: Value| json!({ "power": { "batteryPercent": percent, "charging": charging, "onMains": mains } });
    check(or_charging.clone(), state(json!(5), json!(true), json!(null)), &[]);
    check(or_charging.clone(), state(json!(null), json!(false), json!(true)), &[]);
    check(or_charging.clone(), state(json!(5), json!(false), json!(false)), &["power.batteryLow"]);
    check(or_charging.clone(), state(json!(5), json!("yes"), json!(null)), &["power.batteryLow"]);
    check(or_charging, state(json!(90), json!(null), json!(null)), &[]);
    check(least.clone(), state(json!(5), json!(true), json!(true)), &["power.batteryLow"]);
    let mains = json!({ "power": { "mainsRequired": true } });
    check(mains.clone(), state(json!(5), json!(null), json!(true)), &[]);
    check(mains.clone(), state(json!(90), json!(true), json!(false)), &["power.notOnMains"]);
    check(mains, state(json!(90), json!(true), json!("yes")), &["power.unusable"]);
    let both = json!({ "power": { "mainsRequired": true, "minimumBatteryPercent": 40 } });
    check(both, state(json!(5), json!(null), json!(null)), &["power.missing", "power.batteryLow"]);
}

#[test]
fn network() {
    let state = json!({ "network": { "kind": "WiFi", "metered": true, "signal": -70 } });
    let network = |gate: Value| json!({ "network": gate });
    check(network(json!({ "kinds": ["ethernet", "wifi"] })), state.clone(), &[]);
    check(network(json!({ "kinds": ["ethernet"] })), state.clone(), &["network.networkKind"]);
    check(network(json!({ "notMetered": true })), state.clone(), &["network.metered"]);
    check(network(json!({ "minimumSignal": -70 })), state.clone(), &[]);
    check(network(json!({ "minimumSignal": -60 })), state, &["network.signalLow"]);
    let odd = json!({ "network": { "kind": 5, "metered": "no", "signal": "strong" } });
    let all = network(json!({ "kinds": ["wifi"], "notMetered": true, "minimumSignal": 1 }));
    check(all.clone(), odd, &["network.unusable"; 3]);
    check(all, json!({}), &["network.missing"; 3]);
}

#[test]
fn facts_get_old() {
    let gate = json!({ "power": { "minimumBatteryPercent": 40 }, "factMaxAgeInSeconds": 600 });
    let battery = |percent: i64| json!({ "power": { "batteryPercent": percent } });
    let check = |gate: &Value, percent: i64, now: &str, expected: &[&str], change: Option<&str>| {
        let found = judge(gate.clone(), battery(percent), now);
        assert_eq!(
            (keys(&found), found.next_change),
            (expected.iter().map(|key| key.to_string()).collect(), change.map(time)),
            "{now}"
        );
        found
    };
    let old = "2026-01-10T00:10:00Z";
    check(&gate, 90, "2026-01-10T00:09:59Z", &[], Some(old));
    check(&gate, 90, old, &["power.tooOld"], None);
    let low = check(&gate, 10, "2026-01-10T00:09:59Z", &["power.batteryLow"], Some(old));
    assert_eq!(low.reasons[0].next, None);
    // Where unknown means open, a fact that gets too old opens the gate.
    let mut open = gate.clone();
    open["power"]["unknown"] = json!("open");
    let low = check(&open, 10, "2026-01-10T00:09:59Z", &["power.batteryLow"], Some(old));
    assert_eq!((low.reasons[0].next, low.next_open()), (Some(time(old)), Some(time(old))));
    check(&open, 10, old, &[], None);
    // The gate's own age goes before that of all.
    let mut own = gate;
    own["power"]["factMaxAgeInSeconds"] = json!(FACT_AGE_MAX.as_secs());
    check(&own, 90, old, &[], Some("2027-01-11T00:00:00Z"));
    // Tags do not age.
    let hub = hub(json!({ "facts": { "batteryPercent": "tags.battery" } }));
    let mut twin = twin(json!({}), REPORTED);
    twin["tags"]["battery"] = json!(50);
    let gates = gates(json!({ "power": { "minimumBatteryPercent": 40 }, "factMaxAgeInSeconds": 1 }));
    assert!(verdict(&gates, &twin, &hub, time("2036-01-01T00:00:00Z")).is_open());
}

#[test]
fn in_use() {
    let not_in_use = json!({ "notInUse": {}, "factMaxAgeInSeconds": 600 });
    let check = |context: Value, now: &str, expected: &[&str], change: Option<&str>| {
        let found = judge(not_in_use.clone(), context.clone(), now);
        let expected: Vec<String> = expected.iter().map(|key| key.to_string()).collect();
        assert_eq!((keys(&found), found.next_change), (expected, change.map(time)), "{context} {now}");
        found
    };
    let (soon, old) = ("2026-01-10T00:01:00Z", "2026-01-10T00:10:00Z");
    check(json!({}), soon, &["inUse.missing"], None);
    check(json!({ "inUse": false }), soon, &[], Some(old));
    check(json!({ "inUse": false }), old, &["inUse.tooOld"], None);
    check(json!({ "inUse": true }), soon, &["inUse.inUse"], Some(old));
    check(json!({ "inUse": "no" }), soon, &["inUse.unusable"], Some(old));
    // A lease: in seconds from the report on, or until a moment; with or without the flag.
    let end = "2026-01-10T01:00:00Z";
    for lease in [
        json!({ "inUseSeconds": 3600 }),
        json!({ "inUseUntil": end }),
        json!({ "inUseUntil": 1_768_006_800 }),
        json!({ "inUseUntil": "2026-01-10T02:00:00+01:00", "inUse": true }),
        json!({ "inUseUntil": "nonsense", "inUseSeconds": 3600.0 }),
    ] {
        let found = check(lease.clone(), soon, &["inUse.inUse"], Some(end));
        assert_eq!(found.next_open(), Some(time(end)));
        check(lease.clone(), "2026-01-10T00:59:59Z", &["inUse.inUse"], Some(end));
        check(lease, end, &[], None);
    }
    check(json!({ "inUse": false, "inUseUntil": end }), soon, &[], Some(old));
    check(json!({ "inUse": false, "inUseUntil": end }), old, &["inUse.inUse"], Some(end));
    // A flag that was raised after the lease was over counts.
    check(json!({ "inUse": true, "inUseUntil": "2026-01-09T23:00:00Z" }), soon, &["inUse.inUse"], Some(old));
    // A device whose clock is a year off says nothing with a moment, and is right with seconds.
    check(json!({ "inUseUntil": "2027-01-10T00:30:00Z" }), soon, &["inUse.unusable"], None);
    check(json!({ "inUseUntil": "2025-01-10T00:30:00Z" }), soon, &["inUse.unusable"], None);
    check(json!({ "inUseSeconds": 1e12 }), soon, &["inUse.unusable"], None);
    check(json!({ "inUseSeconds": -1 }), soon, &["inUse.unusable"], None);
    check(json!({ "inUseUntil": true }), soon, &["inUse.unusable"], None);
}

#[test]
fn conditions() {
    let condition = |text: &str| json!({ "condition": { "where": text } });
    let context = json!({ "mode": "idle", "load": 0.5 });
    check(condition("tags.site = 'x'"), context.clone(), &[]);
    check(condition("*"), context.clone(), &[]);
    check(condition("tags.site = 'y'"), context.clone(), &["condition.notMet"]);
    check(condition("properties.reported.context.mode = 'busy'"), context.clone(), &["condition.notMet"]);
    check(condition("properties.reported.context.none = 'busy'"), context.clone(), &["condition.missing"]);
    check(condition("properties.reported.context.none = 1 OR tags.site = 'x'"), context.clone(), &[]);
    let text = "properties.reported.context.mode = 'idle' AND tags.site = 'x'";
    let aged = json!({ "condition": { "where": text, "factMaxAgeInSeconds": 60 }, "factMaxAgeInSeconds": 5 });
    let fresh = judge(aged.clone(), context.clone(), "2026-01-10T00:00:59Z");
    assert_eq!((fresh.is_open(), fresh.next_change), (true, Some(time("2026-01-10T00:01:00Z"))));
    check(aged, context, &["condition.tooOld"]);
}

#[test]
fn an_override_opens_and_still_says_what_it_overrides() {
    let document = json!({ "power": { "mainsRequired": true }, "override": { "reason": "flood" } });
    let found = judge(document, json!({ "power": { "onMains": false } }), REPORTED);
    assert!(found.is_open() && found.overridden);
    assert_eq!((keys(&found), found.next_change), (vec!["power.notOnMains".to_owned()], None));
    assert!(found.to_string().starts_with("open by override, in spite of\n  power: not on mains"));
}

#[test]
fn reasons_say_what_decided() {
    let document = json!({
        "window": { "rrule": "FREQ=DAILY;BYHOUR=2", "durationInSeconds": 3600 },
        "power": { "minimumBatteryPercent": 40 },
    });
    let context = json!({ "timeZone": "Europe/Berlin", "power": { "batteryPercent": 12 } });
    let found = judge(document, context, "2026-01-10T00:03:00Z");
    assert_eq!(
        found.to_json(),
        json!({
            "open": false,
            "overridden": false,
            "reasons": [
                {
                    "gate": "window", "code": "outsideWindow", "unknown": false,
                    "facts": [{
                        "path": "properties.reported.context.timeZone", "value": "Europe/Berlin", "ageInSeconds": 180,
                    }],
                    "wanted": { "rrule": "FREQ=DAILY;BYHOUR=2", "durationInSeconds": 3600 },
                    "next": "2026-01-10T01:00:00.0000000Z",
                    "text": "window: outside of the maintenance window (properties.reported.context.timeZone is \
                        \"Europe/Berlin\", 3 min old); wanted {\"durationInSeconds\":3600,\"rrule\":\"FREQ=DAILY;BYHOUR=2\"}; \
                        not before 2026-01-10T01:00:00.0000000Z",
                },
                {
                    "gate": "power", "code": "batteryLow", "unknown": false,
                    "facts": [{
                        "path": "properties.reported.context.power.batteryPercent", "value": 12, "ageInSeconds": 180,
                    }],
                    "wanted": { "minimumBatteryPercent": 40.0 },
                    "next": null,
                    "text": "power: the battery is low (properties.reported.context.power.batteryPercent is 12, 3 min old); \
                        wanted {\"minimumBatteryPercent\":40.0}",
                },
            ],
            "nextOpen": null,
            "nextChange": "2026-01-10T01:00:00.0000000Z",
        })
    );
    let long = json!({ "power": { "batteryPercent": "x".repeat(3000) } });
    let found = judge(json!({ "power": { "minimumBatteryPercent": 40 } }), long, REPORTED);
    assert_eq!(found.reasons[0].facts[0].value, Some(json!("(3002 bytes)")));
}

#[test]
fn a_twin_as_the_hub_holds_it_is_judged_as_its_document_is() {
    let report = |twin: &Twin, percent: Value, at: &str| {
        let patch = json!({ "context": { "power": { "batteryPercent": percent } } });
        let patch = TwinPatch::from_value(patch).expect("a patch");
        twin.patch_reported(&patch, None, time(at)).expect("it fits").0
    };
    let identity = Identity {
        id: crate::id::TwinId::parse("d", None).expect("an id"),
        generation: "1".into(),
        etag_counter: 1,
        status: Status::Enabled,
        status_reason: None,
        status_updated: Timestamp::NEVER,
        authentication: Authentication::None,
        managed_by: None,
        edge: false,
        device_scope: None,
        parent_scopes: Vec::new(),
    };
    let gates = gates(json!({ "power": { "minimumBatteryPercent": 40 }, "factMaxAgeInSeconds": 600 }));
    let first = report(&Twin::new(time(REPORTED)), json!(90), REPORTED);
    // The same value again makes the fact fresh.
    let again = report(&first, json!(90), "2026-01-10T00:09:00Z");
    for (twin, expected) in [(first, &["power.tooOld"][..]), (again, &[])] {
        let row = TwinDocument { identity: &identity, twin: &twin, connection: Connection::NEVER };
        let now = time("2026-01-10T00:10:00Z");
        let found = gates.evaluate(&row, &HubContext::default(), now);
        assert_eq!(keys(&found), expected);
        assert_eq!(found, verdict(&gates, &row.to_json(), &HubContext::default(), now));
    }
}
