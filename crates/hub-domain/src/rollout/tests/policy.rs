//! The document: what is refused and in which words, and that printing and parsing are inverse.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::rollout;
use crate::query::Condition;
use crate::rollout::*;

#[test]
fn what_is_wrong_is_said_exactly() {
    let waves = |waves: Value| json!({ "waves": waves });
    let constant = |size: Value| json!({"waves": {"canary": {"devices": 1}, "growth": {"constant": size}}});
    let grow =
        |factor: Value| json!({"waves": {"canary": {"devices": 1}, "growth": {"exponential": factor}}});
    let sequential = |rule: Value| json!({"stop": {"sequential": rule}});
    for (document, path, part) in [
        (json!([]), "rollout", "expected an object"),
        (json!({"wave": []}), "rollout.wave", "is unknown; expected waves, seed,"),
        // Waves that are less or more than everything.
        (waves(json!([])), "rollout.waves", "has 0 waves; expected 1 to 200"),
        (waves(Value::from(vec![json!({"percent": 1}); 201])), "rollout.waves", "has 201 waves"),
        (
            waves(json!([{"percent": 5}, {"percent": 90}])),
            "rollout.waves",
            "add up to 95 %; add {\"rest\": true}",
        ),
        (
            waves(json!([{"percent": 50}, {"percent": 60}])),
            "rollout.waves",
            "add up to 110 %; expected 100 at most",
        ),
        (waves(json!([{"devices": 10}, {"devices": 90}])), "rollout.waves", "need not be everything; add"),
        (
            waves(json!([{"percent": 40}, {"percent": 60}, {"rest": true}])),
            "rollout.waves",
            "nothing is left",
        ),
        (waves(json!([{"devices": 1}, {"percent": 100}])), "rollout.waves", "nothing is left"),
        (waves(json!([{"rest": true}, {"devices": 1}])), "rollout.waves[0].rest", "expected it in the last"),
        (waves(json!([{"rest": false}])), "rollout.waves[0].rest", "is false; expected true"),
        (waves(json!([{"rest": true, "devices": 1}])), "rollout.waves[0]", "a size and rest"),
        (waves(json!([{}])), "rollout.waves[0]", "expected devices, percent or rest"),
        (waves(json!([{"devices": 1, "percent": 1}])), "rollout.waves[0]", "expected one of them"),
        (waves(json!([{"devices": 0}])), "rollout.waves[0].devices", "is 0; expected a whole number from 1"),
        (waves(json!([{"devices": 1.5}])), "rollout.waves[0].devices", "is 1.5"),
        (
            waves(json!([{"percent": 0}])),
            "rollout.waves[0].percent",
            "is 0; expected a number above 0, up to 100",
        ),
        (waves(json!([{"percent": 100.5}])), "rollout.waves[0].percent", "is 100.5"),
        (waves(json!([{"percent": -5}])), "rollout.waves[0].percent", "is -5"),
        (waves(json!([{"percent": "5"}])), "rollout.waves[0].percent", "is \"5\""),
        (waves(json!([{"percent": 0.00001}])), "rollout.waves[0].percent", "at most four decimals"),
        (waves(json!([7])), "rollout.waves[0]", "expected an object"),
        (waves(json!("all")), "rollout.waves", "expected an object"),
        (waves(json!({"canary": {"devices": 1}})), "rollout.waves.growth", "is missing"),
        (waves(json!({"growth": {"exponential": 2}})), "rollout.waves.canary", "is missing"),
        (waves(json!({"canary": {}, "growth": {"exponential": 2}})), "rollout.waves.canary", "has no size"),
        (grow(json!(1)), "rollout.waves.growth.exponential", "no wave grows; expected a factor above 1"),
        (grow(json!(0.5)), "rollout.waves.growth.exponential", "a number from 1 to 1000"),
        (grow(json!("2")), "rollout.waves.growth.exponential", "is \"2\""),
        (constant(json!({"percent": 0.4})), "rollout.waves.growth.constant.percent", "more than 200 waves"),
        (constant(json!({"rest": true})), "rollout.waves.growth.constant.rest", "is unknown"),
        (
            waves(json!({"canary": {"devices": 1}, "growth": {}})),
            "rollout.waves.growth",
            "either constant or exponential",
        ),
        (json!({"seed": -1}), "rollout.seed", "is -1"),
        (json!({"seed": 1_u64 << 53}), "rollout.seed", "9007199254740991"),
        (json!({"stratifyBy": "site"}), "rollout.stratifyBy", "such as tags.site"),
        (json!({"stratifyBy": "tags."}), "rollout.stratifyBy", "the path of a tag"),
        (json!({"stratifyBy": "tags.a.$b"}), "rollout.stratifyBy", "the path of a tag"),
        (json!({"jitterInSeconds": 0.5}), "rollout.jitterInSeconds", "whole number"),
        (
            json!({"limits": {"inFlight": 0}}),
            "rollout.limits.inFlight",
            "is 0; expected a whole number from 1",
        ),
        (json!({"limits": {"perSecond": 0}}), "rollout.limits.perSecond", "is 0"),
        (json!({"limits": {"perTag": {"inFlight": 1}}}), "rollout.limits.perTag.path", "is missing"),
        (json!({"limits": {"perTag": {"path": "tags.a"}}}), "rollout.limits.perTag.inFlight", "is missing"),
        (json!({"advance": {"successPercent": 0}}), "rollout.advance.successPercent", "is 0"),
        (json!({"advance": {"successPercent": 101}}), "rollout.advance.successPercent", "is 101"),
        (
            json!({"advance": {"failurePercent": 0}}),
            "rollout.advance.failurePercent",
            "before anything was tried",
        ),
        (
            json!({"advance": {"approval": "me"}}),
            "rollout.advance.approval",
            "one of none, anyone, secondPerson",
        ),
        // A stop threshold of zero.
        (
            json!({"stop": {"failures": {"count": 0}}}),
            "rollout.stop.failures.count",
            "1 to stop at the first",
        ),
        (
            json!({"stop": {"timeouts": {"percent": 0}}}),
            "rollout.stop.timeouts.percent",
            "stop.failures.count 1",
        ),
        (json!({"stop": {"rejections": {}}}), "rollout.stop.rejections", "count, percent or both"),
        (json!({"stop": {"failures": 3}}), "rollout.stop.failures", "is 3; expected an object"),
        (sequential(json!({"margin": 0.02})), "rollout.stop.sequential.allowedFailureRate", "is missing"),
        (
            sequential(json!({"allowedFailureRate": 0, "margin": 0.02})),
            "rollout.stop.sequential.allowedFailureRate",
            "use stop.failures.count 1",
        ),
        (
            sequential(json!({"allowedFailureRate": 5, "margin": 0.02})),
            "rollout.stop.sequential.allowedFailureRate",
            "such as 0.02 for 2 %",
        ),
        (sequential(json!({"allowedFailureRate": 0.1})), "rollout.stop.sequential", "must have either"),
        (
            sequential(json!({"allowedFailureRate": 0.1, "alternativeFailureRate": 0.2, "margin": 0.1})),
            "rollout.stop.sequential",
            "must have either",
        ),
        (
            sequential(json!({"allowedFailureRate": 0.1, "alternativeFailureRate": 0.1})),
            "rollout.stop.sequential.alternativeFailureRate",
            "above allowedFailureRate (0.1)",
        ),
        (
            sequential(json!({"allowedFailureRate": 0.9, "margin": 0.1})),
            "rollout.stop.sequential.margin",
            "below 1",
        ),
        (
            sequential(json!({"allowedFailureRate": 0.1, "margin": 0.1, "confidence": 0.3})),
            "rollout.stop.sequential.confidence",
            "below 0.5",
        ),
        (
            sequential(json!({"allowedFailureRate": 0.1, "margin": 0.1, "confidence": 1})),
            "rollout.stop.sequential.confidence",
            "is 1; expected a number between 0 and 1",
        ),
        (json!({"onStop": "ignore"}), "rollout.onStop", "one of pause, abort, rollBack"),
        (json!({"retry": {"all": {}}}), "rollout.retry.all", "rejected, failed, deferred, offline, timedOut"),
        (json!({"retry": {"offline": {"maxRetries": -1}}}), "rollout.retry.offline.maxRetries", "is -1"),
        (json!({"retry": {"offline": {"factor": 0.5}}}), "rollout.retry.offline.factor", "from 1 to"),
        (
            json!({"retry": {"offline": {"initialInSeconds": 0}}}),
            "rollout.retry.offline.initialInSeconds",
            "is 0",
        ),
        (
            json!({"retry": {"offline": {"initialInSeconds": 60, "maxInSeconds": 30}}}),
            "rollout.retry.offline.maxInSeconds",
            "is 30, less than initialInSeconds (60)",
        ),
        (json!({"deviceTimeoutInSeconds": 0}), "rollout.deviceTimeoutInSeconds", "is 0"),
        (
            json!({"deviceTimeoutInSeconds": 60, "stepTimeoutInSeconds": 61}),
            "rollout.stepTimeoutInSeconds",
            "longer than deviceTimeoutInSeconds (60)",
        ),
        (json!({"success": "reported"}), "rollout.success", "expected \"answer\" or"),
        (json!({"success": {}}), "rollout.success.condition", "is missing"),
        (json!({"success": {"condition": 1}}), "rollout.success.condition", "is 1; expected a condition"),
        (json!({"success": {"condition": "a = "}}), "rollout.success.condition", "is invalid: Line 1:"),
        (json!({"success": {"condition": "*"}}), "rollout.success.condition", "tells no good device"),
        (
            json!({"success": {"condition": "FROM devices.jobs WHERE status = 'a'"}}),
            "rollout.success.condition",
            "tells no good device",
        ),
        (json!({"whenBusy": "both"}), "rollout.whenBusy", "one of wait, refuse"),
    ] {
        let error = Rollout::parse(&document).expect_err(&document.to_string());
        assert_eq!(error.path, path, "{document}: {error}");
        assert!(error.problem.contains(part), "{document}: {error}");
    }
}

#[test]
fn an_empty_document_is_everything_at_once() {
    assert_eq!(rollout(json!({})), Rollout::default());
    assert_eq!(rollout(json!({"limits": null, "advance": {}, "stop": {}, "retry": {}})), Rollout::default());
    assert_eq!(Rollout::default().waves.sizes(5), Ok(vec![5]));
}

#[test]
fn the_example_of_the_documentation_is_valid() {
    let page = include_str!("../../../../../docs/rollouts.md");
    let (_, rest) = page.split_once("```json\n").expect("an example");
    let (example, _) = rest.split_once("```").expect("its end");
    let policy = rollout(serde_json::from_str(example).expect("JSON"));
    let Some(rule) = policy.stop.sequential else { panic!("the example has the sequential rule") };
    assert!(page.contains(&format!("{} devices", rule.decides_after().expect("a number"))), "{rule:?}");
    assert_eq!(rollout(policy.to_json()), policy);
}

#[test]
fn a_seed_is_drawn_once() {
    let policy = rollout(json!({})).with_seed(u64::MAX);
    assert_eq!(policy.seed, Some(ROLLOUT_SEED_MAX));
    assert_eq!(policy.clone().with_seed(3), policy);
    assert_eq!(rollout(policy.to_json()), policy);
}

#[test]
fn deadlines() {
    let policy = rollout(json!({"deviceTimeoutInSeconds": 100, "stepTimeoutInSeconds": 30}));
    let deadline = |first, progress| policy.deadline(super::at(first), super::at(progress));
    assert_eq!(deadline(0, 0), super::at(30));
    assert_eq!(deadline(0, 90), super::at(100));
    assert_eq!(rollout(json!({})).deadline(super::at(0), super::at(5)), super::at(86_400));
}

fn share() -> impl Strategy<Value = Share> {
    (1..=1_000_000_u64).prop_map(|millionths| Share::from_millionths(millionths).expect("a share"))
}

fn size() -> impl Strategy<Value = Size> {
    prop_oneof![(1..=ROLLOUT_DEVICES_MAX).prop_map(Size::Devices), share().prop_map(Size::Percent)]
}

fn waves() -> impl Strategy<Value = Waves> {
    let part = |list: &Vec<Size>| {
        list.iter().map(|s| if let Size::Percent(p) = s { p.millionths() } else { 0 }).sum::<u64>()
    };
    let list = prop::collection::vec(size(), 0..6)
        .prop_filter("less than everything", move |list| part(list) < 1_000_000)
        .prop_map(|sizes| Waves::List { sizes, rest: true });
    let halves = (1..1_000_000_u64).prop_map(|first| {
        let share = |part| Size::Percent(Share::from_millionths(part).expect("a share"));
        Waves::List { sizes: vec![share(first), share(1_000_000 - first)], rest: false }
    });
    let factor =
        (1001..=1_000_000_u32).prop_map(|factor| Factor::from_thousandths(factor).expect("a factor"));
    let constant = prop_oneof![
        (1..=ROLLOUT_DEVICES_MAX).prop_map(Size::Devices),
        (5000..=1_000_000_u64).prop_map(|part| Size::Percent(Share::from_millionths(part).expect("a share"))),
    ];
    let growth = prop_oneof![constant.prop_map(Growth::Constant), factor.prop_map(Growth::Exponential)];
    let rule = (size(), growth).prop_map(|(canary, growth)| Waves::Rule { canary, growth });
    prop_oneof![list, halves, rule]
}

fn seconds(min: u64) -> impl Strategy<Value = Duration> {
    (min..=ROLLOUT_TIME_MAX.as_secs()).prop_map(Duration::from_secs)
}

fn backoff() -> impl Strategy<Value = Backoff> {
    (0..=ROLLOUT_RETRIES_MAX, seconds(1), 1000..=1_000_000_u32, seconds(1)).prop_map(
        |(max_retries, one, factor, other)| Backoff {
            max_retries,
            initial: one.min(other),
            factor: Factor::from_thousandths(factor).expect("a factor"),
            max: one.max(other),
        },
    )
}

fn threshold() -> impl Strategy<Value = Threshold> {
    (prop::option::of(1..=ROLLOUT_DEVICES_MAX), prop::option::of(share()))
        .prop_map(|(count, share)| Threshold { count, share })
}

fn sequential() -> impl Strategy<Value = Sequential> {
    (1..999_998_u64, 1..999_999_u64, 500_000..1_000_000_u64).prop_map(|(allowed, more, confidence)| {
        let share = |millionths| Share::from_millionths(millionths).expect("a share");
        let alternative = (allowed + more).min(999_999);
        Sequential { allowed: share(allowed), alternative: share(alternative), confidence: share(confidence) }
    })
}

fn policy() -> impl Strategy<Value = Rollout> {
    let tag = prop::option::of(
        "tags(\\.[a-zäA-Z0-9_-]{1,8}){1,3}".prop_map(|t| TagPath::parse(&t).expect("a tag")),
    );
    let devices = || prop::option::of(1..=ROLLOUT_DEVICES_MAX);
    let caps =
        (devices(), devices(), tag.clone(), 1..100_u64).prop_map(|(in_flight, per_second, path, cap)| Caps {
            in_flight,
            per_second,
            per_tag: path.map(|path| TagCap { path, in_flight: cap }),
        });
    let approval = prop::sample::select(vec![Approval::None, Approval::Anyone, Approval::SecondPerson]);
    let advance = (prop::option::of(share()), prop::option::of(share()), seconds(0), approval).prop_map(
        |(success, failure, min_observation, approval)| Advance {
            success,
            failure,
            min_observation,
            approval,
        },
    );
    let stop = (threshold(), threshold(), threshold(), prop::option::of(sequential())).prop_map(
        |(failures, timeouts, rejections, sequential)| Stop { failures, timeouts, rejections, sequential },
    );
    let retries = (backoff(), backoff(), backoff(), backoff(), backoff()).prop_map(
        |(rejected, failed, deferred, offline, timed_out)| Retries {
            rejected,
            failed,
            deferred,
            offline,
            timed_out,
        },
    );
    let text = "properties.reported.fw = '2'";
    let reported = Success::Reported { text: text.into(), condition: Condition::parse(text).expect("valid") };
    let words = (
        prop::sample::select(vec![OnStop::Pause, OnStop::Abort, OnStop::RollBack]),
        prop::sample::select(vec![WhenBusy::Wait, WhenBusy::Refuse]),
        prop::sample::select(vec![Success::Answer, reported]),
        prop::option::of(0..=ROLLOUT_SEED_MAX),
    );
    let times = (seconds(0), seconds(1), prop::option::of(seconds(1)));
    (waves(), tag, caps, advance, stop, retries, words, times).prop_map(
        |(waves, stratify_by, limits, advance, stop, retry, (on_stop, when_busy, success, seed), times)| {
            let (jitter, device, step) = times;
            let device_timeout = step.map_or(device, |step| step.max(device));
            Rollout {
                waves,
                seed,
                stratify_by,
                jitter,
                limits,
                advance,
                stop,
                on_stop,
                retry,
                device_timeout,
                step_timeout: step,
                success,
                when_busy,
            }
        },
    )
}

proptest! {
    #[test]
    fn printing_and_parsing_are_inverse(policy in policy()) {
        let text = policy.to_json().to_string();
        let value: Value = serde_json::from_str(&text).expect("JSON");
        let parsed = Rollout::parse(&value).map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
        prop_assert_eq!(parsed, policy);
    }

    #[test]
    fn no_document_makes_it_panic(text in "[\\[\\]{}\",:a-z0-9.\\-]{0,60}", member in prop::sample::select(vec!["waves", "stop", "limits", "retry", "success"])) {
        if let Ok(value) = serde_json::from_str::<Value>(&text) {
            let _ = Rollout::parse(&json!({ member: value.clone() }));
            let _ = RolloutState::from_json(&value);
        }
    }
}
