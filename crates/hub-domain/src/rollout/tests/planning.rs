//! Sizes that add up, membership that is spread, the same again, and fast enough; and what a forecast says of it.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{at, device, rollout};
use crate::context::{Gates, HubContext};
use crate::json::Object;
use crate::query::Document;
use crate::rollout::*;
use crate::time::Timestamp;

fn sizes(waves: Value, targets: u64) -> Result<Vec<u64>, String> {
    rollout(json!({ "waves": waves })).waves.sizes(targets).map_err(|error| error.to_string())
}

#[test]
fn sizes_are_exact_and_add_up() {
    for (waves, targets, expected) in [
        (json!([{"devices": 10}, {"percent": 5}, {"rest": true}]), 1000, vec![10, 50, 940]),
        (json!([{"devices": 10}, {"percent": 5}, {"rest": true}]), 0, vec![]),
        (json!([{"devices": 10}, {"rest": true}]), 10, vec![10]),
        (json!([{"percent": 1}, {"rest": true}]), 3, vec![1, 2]),
        // What is rounded up takes nothing from a wave with an exact size.
        (json!([{"percent": 1}, {"percent": 1}, {"devices": 4}, {"rest": true}]), 5, vec![1, 4]),
        (json!([{"percent": 50}, {"percent": 50}]), 3, vec![2, 1]),
        (json!([{"percent": 33.3333}, {"percent": 66.6667}]), 1_000_000, vec![333_333, 666_667]),
        (json!({"canary": {"devices": 10}, "growth": {"exponential": 3}}), 1000, vec![10, 30, 90, 270, 600]),
        (json!({"canary": {"devices": 10}, "growth": {"exponential": 3}}), 4, vec![4]),
        (json!({"canary": {"devices": 1}, "growth": {"exponential": 1.001}}), 10, vec![1, 2, 3, 4]),
        (
            json!({"canary": {"percent": 1}, "growth": {"constant": {"percent": 40}}}),
            1000,
            vec![10, 400, 400, 190],
        ),
        (json!({"canary": {"devices": 3}, "growth": {"constant": {"devices": 4}}}), 12, vec![3, 4, 4, 1]),
    ] {
        assert_eq!(sizes(waves.clone(), targets), Ok(expected), "{waves} over {targets}");
    }
    let refused = |waves, targets| sizes(waves, targets).expect_err("too much");
    let text = refused(json!([{"devices": 100}, {"percent": 50}, {"rest": true}]), 50);
    assert_eq!(
        text,
        "rollout.waves ask for 125 devices, but there are 50; make them smaller, or use percent"
    );
    let text = refused(json!({"canary": {"devices": 1}, "growth": {"constant": {"devices": 1}}}), 201);
    assert!(text.contains("more than 200 over 201 devices"), "{text}");
}

#[test]
fn tags_are_read_as_text() {
    let tags: Object =
        serde_json::from_str(r#"{"site":{"name":"north","floor":2},"x":null,"l":[1]}"#).expect("JSON");
    for (path, value) in [
        ("tags.site.name", "north"),
        ("tags.site.floor", "2"),
        ("tags.x", ""),
        ("tags.no.no", ""),
        ("tags.l", "[1]"),
    ] {
        let path = TagPath::parse(path).expect("a path");
        assert_eq!(path.value(&tags), value, "{path}");
    }
}

#[test]
fn caps_per_tag() {
    let mut caps = TagCaps::new(2, ["a", "b", "a"]);
    assert!(!caps.claim("a") && caps.claim("b") && !caps.claim("b") && caps.claim(""));
    caps.release("a");
    caps.release("nobody");
    assert!(caps.claim("a") && !caps.claim("a"));
}

#[test]
fn membership_follows_from_the_seed_and_not_from_the_order() {
    let ids: Vec<_> = (0..1000).map(device).collect();
    let of = |seed, ids: &[crate::id::TwinId]| -> BTreeMap<String, u32> {
        let waves = plan(&[100, 300, 600], seed, ids.iter().map(|id| (id, "")));
        ids.iter().map(ToString::to_string).zip(waves).collect()
    };
    let mut reversed = ids.clone();
    reversed.reverse();
    assert_eq!(of(1, &ids), of(1, &reversed));
    let moved = of(1, &ids).iter().zip(&of(2, &ids)).filter(|(a, b)| a != b).count();
    assert!((400..700).contains(&moved), "another seed, another membership: {moved}");
    // Written down, so that a stored rollout is the same under a later hub.
    assert_eq!(draw(7, &["wave", "device-1", ""]), 7_087_646_160_472_419_364);
}

/// A million devices in a thousand sites. Takes well under a second when nothing else runs; no time is asserted.
#[test]
fn a_million_devices() {
    let policy = rollout(json!({"waves": {"canary": {"devices": 100}, "growth": {"exponential": 3}}}));
    let sizes = policy.waves.sizes(1_000_000).expect("sizes");
    let sites: Vec<String> = (0..1000).map(|site| format!("site-{site}")).collect();
    let waves = plan(&sizes, 1, (0..1_000_000).map(|n| (device(n), &sites[(n % 1000) as usize])));
    let mut counts = vec![0_u64; sizes.len()];
    for wave in &waves {
        counts[*wave as usize] += 1;
    }
    assert_eq!(counts, sizes);
}

proptest! {
    #[test]
    fn every_wave_has_its_share_of_every_stratum(
        seed in any::<u64>(),
        strata in prop::collection::vec(1..200_u64, 1..8),
        canary in 1..30_u64,
        factor in 1001..4000_u32,
    ) {
        let targets: u64 = strata.iter().sum();
        let growth = Growth::Exponential(Factor::from_thousandths(factor).expect("a factor"));
        let sizes = Waves::Rule { canary: Size::Devices(canary), growth }.sizes(targets).expect("sizes");
        prop_assert_eq!(sizes.iter().sum::<u64>(), targets);
        prop_assert!(sizes.iter().all(|size| *size > 0));
        let names: Vec<String> = (0..strata.len()).map(|index| format!("s{index}")).collect();
        let members: Vec<usize> = strata.iter().enumerate().flat_map(|(index, n)| vec![index; *n as usize]).collect();
        let ids = (0..).map(device).zip(members.iter().map(|index| &names[*index]));
        let waves = plan(&sizes, seed, ids);
        let mut counts = vec![vec![0_u64; strata.len()]; sizes.len()];
        for (wave, stratum) in waves.iter().zip(&members) {
            counts[*wave as usize][*stratum] += 1;
        }
        for (wave, of_wave) in counts.iter().enumerate() {
            prop_assert_eq!(of_wave.iter().sum::<u64>(), sizes[wave]);
            for (stratum, found) in of_wave.iter().enumerate() {
                let size = strata[stratum] as f64;
                let even = sizes[wave] as f64 * size / targets as f64;
                // The bound of systematic sampling.
                let slack = 1.0 + size * strata.len() as f64 / targets as f64;
                prop_assert!((*found as f64 - even).abs() <= slack, "{} of {} in wave {}", found, even, wave);
            }
        }
    }
}

#[test]
fn a_forecast_is_arithmetic() {
    let waves = json!([{"devices": 10}, {"percent": 10}, {"rest": true}]);
    let given = Assumptions {
        targets: 1000,
        reachable: 1000,
        per_device: Duration::from_secs(60),
        bytes_per_device: 5,
        windows: Vec::new(),
        start: at(0),
        deadline: at(1_000_000),
    };
    let check = |rest: Value, reachable: u64, ends: &[i64], passes: &[bool]| {
        let mut document =
            json!({ "waves": waves, "limits": {"inFlight": 50}, "deviceTimeoutInSeconds": 5000 });
        document.as_object_mut().expect("an object").extend(rest.as_object().expect("an object").clone());
        let forecast =
            rollout(document).forecast(&Assumptions { reachable, ..given.clone() }).expect("a forecast");
        let found: Vec<_> = forecast.waves.iter().map(|wave| wave.ends).collect();
        assert_eq!(found, ends.iter().map(|end| at(*end)).collect::<Vec<_>>(), "{rest}");
        assert_eq!(forecast.waves.iter().map(|wave| wave.passes).collect::<Vec<_>>(), passes, "{rest}");
        assert_eq!(forecast.waves.iter().map(|wave| wave.reachable).sum::<u64>(), reachable);
        assert_eq!(forecast.ends.is_some(), passes.iter().all(|passes| *passes));
        assert_eq!(forecast.bytes, reachable * 5);
        forecast
    };
    // 10 at once; 2 rounds of 50; 18 rounds.
    let forecast = check(json!({}), 1000, &[60, 180, 180 + 18 * 60], &[true; 3]);
    assert_eq!((forecast.approvals, forecast.decides_after), (0, None));
    assert_eq!(forecast.error(at(2520)), Some(0.5));
    assert_eq!(forecast.error(at(630)), Some(-1.0));
    // It is kept with the rollout, and its error told when that is over.
    let mut state = RolloutState::new("ada", &[10]);
    state.expected = forecast.expected();
    assert_eq!((state.forecast_error(), &state.to_json()["forecast"]["error"]), (None, &Value::Null));
    assert_eq!(RolloutState::from_json(&state.to_json()), Ok(state.clone()));
    state.ended = Some(at(2520));
    assert_eq!(state.forecast_error(), Some(0.5));
    let told = json!({
        "startTime": at(0).to_string(), "expectedEndTime": at(1260).to_string(), "error": 0.5
    });
    assert_eq!(state.to_json()["forecast"], told);
    assert_eq!(RolloutState::from_json(&state.to_json()), Ok(state));
    let observe = json!({"advance": {"minObservationInSeconds": 100, "approval": "anyone"}});
    assert_eq!(check(observe, 1000, &[160, 380, 1460], &[true; 3]).approvals, 2);
    // Who is not there is awaited, unless the wave is good enough without him.
    check(json!({}), 900, &[5000, 10_000, 15_000], &[true; 3]);
    check(json!({"advance": {"successPercent": 80}}), 900, &[60, 180, 5180], &[true; 3]);
    check(json!({"advance": {"successPercent": 95}}), 900, &[5000, 10_000, 15_000], &[false; 3]);
    check(json!({"advance": {"failurePercent": 5}}), 900, &[5000, 10_000, 15_000], &[false; 3]);
    check(json!({"jitterInSeconds": 600}), 1000, &[660, 1320, 1320 + 17 * 60 + 60], &[true; 3]);
    check(json!({"limits": {"perSecond": 1}}), 1000, &[69, 69 + 159, 228 + 949], &[true; 3]);
    let rule = json!({"stop": {"sequential": {"allowedFailureRate": 0.05, "margin": 0.3}}});
    assert!(check(rule, 1000, &[60, 180, 1260], &[true; 3]).decides_after.is_some_and(|n| n < 100));
    let rule = json!({"stop": {"sequential": {"allowedFailureRate": 0.01, "margin": 0.001}}});
    assert_eq!(check(rule, 1000, &[60, 180, 1260], &[true; 3]).decides_after, None);
    let few = Assumptions { targets: 5, ..given };
    assert!(rollout(json!({ "waves": waves })).forecast(&few).is_err());
}

#[test]
fn a_forecast_follows_maintenance_windows() {
    let time = |text: &str| Timestamp::parse(text).expect("a time");
    let hub = HubContext::default();
    let window = json!({"rrule": "FREQ=DAILY;BYHOUR=2", "durationInSeconds": 3600});
    let gates = Gates::parse(&json!({ "window": window })).expect("gates");
    let timetable = |zone: &str| {
        let twin = json!({"deviceId": "d", "tags": {"timeZone": zone}});
        let key = gates.timetable_key(&Document(&twin), &hub, at(0)).expect("a window");
        gates.timetable(&key, &hub).expect("a zone")
    };
    // Open from 01:00 to 02:00, and from 07:00 to 08:00, in UTC.
    let windows = vec![(timetable("Europe/Berlin"), 100), (timetable("America/New_York"), 100)];
    let given = Assumptions {
        targets: 200,
        reachable: 200,
        windows,
        per_device: Duration::from_secs(60),
        bytes_per_device: 0,
        start: time("2026-01-10T00:00:00Z"),
        deadline: time("2026-01-20T00:00:00Z"),
    };
    let two = json!([{"devices": 100}, {"rest": true}]);
    for (policy, ends) in [
        (json!({}), vec!["2026-01-10T07:01:00Z"]),
        // 60 in an hour of either zone, the other 40 in the next night.
        (json!({"limits": {"inFlight": 1}}), vec!["2026-01-11T07:40:00Z"]),
        (json!({"waves": two}), vec!["2026-01-10T07:01:00Z", "2026-01-11T01:01:00Z"]),
        // Half of a wave is enough to go on; its stragglers wait for their window meanwhile.
        (
            json!({"waves": two, "advance": {"successPercent": 50}}),
            vec!["2026-01-10T01:01:00Z", "2026-01-10T07:01:00Z"],
        ),
    ] {
        let forecast = rollout(policy.clone()).forecast(&given).expect("a forecast");
        let found: Vec<_> = forecast.waves.iter().map(|wave| wave.ends).collect();
        assert_eq!(found, ends.into_iter().map(time).collect::<Vec<_>>(), "{policy}");
        assert_eq!(forecast.ends, found.last().copied());
    }
    // Devices without a window do not wait, and no longer than the job may run is expected.
    let some =
        Assumptions { targets: 300, reachable: 300, deadline: time("2026-01-10T03:00:00Z"), ..given.clone() };
    let forecast =
        rollout(json!({"waves": [{"devices": 2}, {"rest": true}]})).forecast(&some).expect("a forecast");
    assert_eq!(forecast.ends, Some(time("2026-01-11T01:01:00Z")));
    assert_eq!(forecast.expected().and_then(|expected| expected.end), Some(some.deadline));
    // A window that opens no more keeps the wave from passing.
    let past = json!({"rrule": "FREQ=DAILY;BYHOUR=2;UNTIL=20200101", "durationInSeconds": 3600});
    let gates = Gates::parse(&json!({ "window": past })).expect("gates");
    let twin = json!({"deviceId": "d", "tags": {"timeZone": "Etc/UTC"}});
    let key = gates.timetable_key(&Document(&twin), &hub, at(0)).expect("a window");
    let never = Assumptions { windows: vec![(gates.timetable(&key, &hub).expect("a zone"), 1)], ..given };
    assert_eq!(rollout(json!({})).forecast(&never).expect("a forecast").ends, None);
}

proptest! {
    #[test]
    fn a_forecast_turns_to_every_device_that_can_be_reached(
        counts in prop::collection::vec(0..50_u64, 3),
        free in 0..50_u64,
        missing in 0..20_u64,
        in_flight in 1..40_u64,
        canary in 1..10_u64,
    ) {
        let zones = ["Asia/Tokyo", "Europe/Berlin", "America/New_York"];
        let gates = Gates::parse(&json!({"window": {"rrule": "FREQ=HOURLY;INTERVAL=5", "start": "2026-01-01T00:00:00", "durationInSeconds": 600}}));
        let (gates, hub) = (gates.expect("gates"), HubContext::default());
        let timetable = |zone: &str| {
            let twin = json!({"deviceId": "d", "tags": {"timeZone": zone}});
            gates.timetable(&gates.timetable_key(&Document(&twin), &hub, at(0)).expect("a window"), &hub).expect("a zone")
        };
        let reachable = counts.iter().sum::<u64>() + free;
        prop_assume!(reachable + missing >= canary);
        let start = Timestamp::parse("2026-02-01T00:00:00Z").expect("a time");
        let given = Assumptions {
            targets: reachable + missing,
            reachable,
            windows: zones.iter().zip(&counts).map(|(zone, count)| (timetable(zone), *count)).collect(),
            per_device: Duration::from_secs(30),
            bytes_per_device: 0,
            start,
            deadline: start.plus(Duration::from_secs(864_000)),
        };
        let waves = json!({"canary": {"devices": canary}, "growth": {"exponential": 2}});
        let forecast = rollout(json!({"waves": waves, "limits": {"inFlight": in_flight}})).forecast(&given).expect("a forecast");
        prop_assert!(forecast.ends.is_some());
        prop_assert_eq!(forecast.waves.iter().map(|wave| wave.reachable).sum::<u64>(), reachable);
        prop_assert!(forecast.waves.windows(2).all(|pair| pair[0].ends == pair[1].opens && pair[0].opens <= pair[0].ends));
    }
}
