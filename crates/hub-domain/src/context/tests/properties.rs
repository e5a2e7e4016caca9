//! Random gates over random twins: the verdict does not change before it says so, printing is the inverse of parsing,
//! and nothing panics, whatever a rule, a document or a twin holds.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{Gates, HubContext};
use super::{time, twin, verdict};
use crate::time::Timestamp;

const ZONES: &[&str] = &[
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "America/Santiago",
    "Africa/Cairo",
    "Pacific/Apia",
    "Antarctica/Troll",
    "Africa/Casablanca",
    "Nowhere/At_All",
];

fn number_list(range: std::ops::Range<i32>) -> impl Strategy<Value = String> {
    proptest::collection::vec(range, 1..4)
        .prop_map(|numbers| numbers.iter().map(i32::to_string).collect::<Vec<_>>().join(","))
}

fn part() -> impl Strategy<Value = String> {
    prop_oneof![
        number_list(0..24).prop_map(|list| format!("BYHOUR={list}")),
        number_list(0..60).prop_map(|list| format!("BYMINUTE={list}")),
        number_list(-31..32).prop_map(|list| format!("BYMONTHDAY={list}")),
        number_list(-366..367).prop_map(|list| format!("BYYEARDAY={list}")),
        number_list(-53..54).prop_map(|list| format!("BYWEEKNO={list}")),
        number_list(1..13).prop_map(|list| format!("BYMONTH={list}")),
        number_list(-5..6).prop_map(|list| format!("BYSETPOS={list}")),
        "BYDAY=(-?[1-5])?(MO|TU|SA),(-?[1-5])?(SU|FR|WE)",
        (1..40).prop_map(|interval| format!("INTERVAL={interval}")),
        (1..50).prop_map(|count| format!("COUNT={count}")),
        Just("WKST=SU".to_owned()),
        Just("UNTIL=20270101".to_owned()),
        Just("UNTIL=20270101T120000Z".to_owned()),
        "[A-Z]{1,8}=[A-Z0-9,+-]{0,6}",
    ]
}

fn window() -> impl Strategy<Value = Value> {
    let frequency =
        prop_oneof![Just("HOURLY"), Just("DAILY"), Just("WEEKLY"), Just("MONTHLY"), Just("YEARLY")];
    let parts = proptest::collection::vec(part(), 0..4);
    (frequency, parts, 60_u64..200_000, 1..28_u32, any::<bool>()).prop_map(|(frequency, parts, duration, day, dark)| {
        let rule = std::iter::once(format!("FREQ={frequency}")).chain(parts).collect::<Vec<_>>().join(";");
        let mut window =
            json!({ "rrule": rule, "durationInSeconds": duration, "start": format!("2026-01-{day:02}T01:30:00") });
        if dark {
            window["blackouts"] = json!(["2026-03-29", { "from": "2026-10-20", "to": "2026-11-03" }]);
        }
        window
    })
}

/// Gates that mostly parse.
fn document() -> impl Strategy<Value = Value> {
    let optional = |value: Value| proptest::option::of(Just(value));
    let unknown = prop_oneof![Just(json!("open")), Just(json!("closed")), Just(Value::Null)];
    (
        proptest::option::of(window()),
        optional(json!({ "minimumBatteryPercent": 40, "chargingAccepted": true })),
        optional(json!({ "kinds": ["wifi"], "notMetered": true })),
        optional(json!({})),
        optional(json!({ "inside": [{ "circle": { "center": [0, 0], "radiusInMeters": 100_000 } }] })),
        optional(
            json!({ "where": "properties.reported.context.mode = 'idle'", "factMaxAgeInSeconds": 5000 }),
        ),
        unknown,
        proptest::option::of(60_u64..1_000_000),
    )
        .prop_map(|(window, power, network, in_use, place, condition, unknown, age)| {
            json!({
                "window": window, "power": power, "network": network, "notInUse": in_use, "place": place,
                "condition": condition, "unknown": unknown, "factMaxAgeInSeconds": age,
            })
        })
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(true)),
        Just(json!(false)),
        (-200.0..200.0).prop_map(|number: f64| json!(number)),
        (0..100).prop_map(|number: i32| json!(number)),
        Just(json!("wifi")),
        Just(json!("full")),
        Just(json!("2026-06-01T00:00:00Z")),
        Just(json!({ "a": [1] })),
    ]
}

fn context() -> impl Strategy<Value = Value> {
    let maybe = || proptest::option::of(scalar());
    let power = (maybe(), maybe(), maybe());
    let network = (maybe(), maybe());
    let used = (proptest::option::of(any::<bool>()), maybe(), proptest::option::of(0..400_000_i64));
    let place = (-2.0..2.0, -2.0..2.0);
    (0..ZONES.len(), power, network, used, place, maybe()).prop_map(
        |(zone, power, network, used, place, mode)| {
            json!({
                "timeZone": ZONES[zone],
                "power": { "batteryPercent": power.0, "onMains": power.1, "charging": power.2 },
                "network": { "kind": network.0, "metered": network.1 },
                "inUse": used.0, "inUseUntil": used.1, "inUseSeconds": used.2,
                "place": { "longitude": place.0, "latitude": place.1 },
                "mode": mode,
            })
        },
    )
}

/// The verdict without its ages, which change all the time.
fn essence(gates: &Gates, twin: &Value, now: Timestamp) -> (bool, Vec<String>) {
    let found = verdict(gates, twin, &HubContext::default(), now);
    (found.is_open(), super::keys(&found))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_changes_before_it_is_said(
        document in document(),
        context in context(),
        offset in 0..400 * 86_400_u64,
        samples in proptest::collection::vec(0.0..1.0_f64, 8),
    ) {
        let Ok(gates) = Gates::parse(&document) else { return Ok(()) };
        let again = Gates::parse(&gates.to_json());
        prop_assert_eq!(again.as_ref(), Ok(&gates));
        let reported = "2026-01-01T00:00:00Z";
        let twin = twin(context, reported);
        let mut now = time(reported).plus(Duration::from_secs(offset));
        for _ in 0..6 {
            let found = verdict(&gates, &twin, &HubContext::default(), now);
            let here = essence(&gates, &twin, now);
            prop_assert_eq!(found.next_open().is_some_and(|next| next <= now), false);
            let change = found.next_change.unwrap_or(now.plus(Duration::from_secs(1000 * 86_400)));
            prop_assert!(change > now);
            let apart = change.since(now);
            for part in samples.iter().map(|part| apart.mul_f64(*part)).chain([apart - Duration::from_nanos(100)]) {
                let then = now.plus(part);
                prop_assert_eq!(&essence(&gates, &twin, then), &here, "{} then {} of {}", now, then, change);
            }
            if found.next_change.is_none() {
                break;
            }
            now = change;
        }
    }

    #[test]
    fn no_text_is_too_odd(rule in "(FREQ=(DAILY|YEARLY);)?[A-Z0-9=;,:+-]{0,40}", start in "[0-9T:-]{0,19}", ticks in any::<i64>()) {
        let window = json!({ "rrule": rule, "start": start, "durationInSeconds": 60 });
        for window in [window, json!({ "rrule": rule, "durationInSeconds": 60 })] {
            if let Ok(gates) = Gates::parse(&json!({ "window": window })) {
                let twin = twin(json!({ "timeZone": "Europe/Berlin" }), "2026-01-01T00:00:00Z");
                verdict(&gates, &twin, &HubContext::default(), Timestamp::from_ticks(ticks)).to_json();
            }
        }
    }

    #[test]
    fn any_time_will_do(document in document(), context in context(), ticks in any::<i64>()) {
        let Ok(gates) = Gates::parse(&document) else { return Ok(()) };
        let now = Timestamp::from_ticks(ticks);
        let found = verdict(&gates, &twin(context, "2026-01-01T00:00:00Z"), &HubContext::default(), now);
        prop_assert!(found.next_change.is_none_or(|change| change > now));
        prop_assert!(!found.to_string().is_empty());
    }
}
