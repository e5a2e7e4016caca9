//! Configurations that come into force wave by wave: who has which values meanwhile, what stops them, people, restarts.

use std::time::Duration;

use hub_domain::configuration::ConfigurationSpec;
use hub_domain::rollout::Phase;
use hub_domain::version::Precondition;
use hub_engine::Error;
use hub_engine::configurations::ConfigurationView;
use hub_engine::configurations::preview::PreviewRequest;
use hub_engine::rollouts::Decision;
use hub_testkit::TestHub;
use serde_json::{Value, json};

use crate::configurations::{create, device_content, name, spec, write};
use crate::jobs::{fleet, rows};
use crate::retirement::report;
use crate::{id, tags};

fn staged(id: &str, priority: u32, rate: u32, rollout: Value) -> Result<ConfigurationSpec, String> {
    let body = json!({
        "content": device_content(json!({"properties.desired.rate": rate})),
        "targetCondition": "tags.site = 'a'", "priority": priority, "rollout": rollout,
    });
    ConfigurationSpec::parse(name(id), &body).map_err(|error| error.to_string())
}

async fn site(count: usize) -> TestHub {
    let test = TestHub::start().await;
    fleet(&test, count).await;
    for n in 0..count {
        write(&test, &format!("d{n:03}"), tags(json!({"site": "a"}))).await;
    }
    let base = spec("base", "*", 1, device_content(json!({"properties.desired.rate": 1})));
    create(&test, base).await;
    test
}

async fn with_rate(test: &TestHub, rate: u32) -> u64 {
    let query = format!("SELECT COUNT() AS n FROM devices WHERE properties.desired.rate = {rate}");
    rows(test, &query).await.first().and_then(|row| row["n"].as_u64()).unwrap_or(0)
}

async fn view(test: &TestHub, id: &str) -> ConfigurationView {
    test.hub.configuration_get(&test.owner(), &name(id)).await.expect("a configuration")
}

/// Waits for this phase, and for so many waves to be open.
pub(crate) async fn until(test: &TestHub, of: &str, phase: &str, open: usize) -> ConfigurationView {
    for _ in 0..2000 {
        let view = view(test, of).await;
        let state = view.configuration.stages().expect("waves").state();
        if state.phase.as_str() == phase && state.opened().len() == open && test.hub.configurations_settled()
        {
            return view;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not {phase} with {open} waves: {}", view(test, of).await.configuration.to_json());
}

async fn decide(test: &TestHub, policy: &str, of: &str, decision: Decision) -> Result<(), Error> {
    test.hub.configuration_decide(&test.service(policy), &name(of), &decision).await.map(drop)
}

/// What each wave counts: waiting, underway, succeeded, failed, timed out.
fn waves(view: &ConfigurationView) -> Vec<[u64; 5]> {
    let waves = &view.configuration.stages().expect("waves").state().waves;
    let counts = |wave: &hub_domain::rollout::WaveState| {
        [wave.pending, wave.in_flight, wave.ended.succeeded, wave.ended.failed, wave.ended.timed_out]
    };
    waves.iter().map(counts).collect()
}

#[tokio::test(start_paused = true)]
async fn devices_get_their_values_with_their_wave_and_keep_the_former_ones_until_then() {
    let test = site(40).await;
    let policy = json!({
        "waves": [{"devices": 4}, {"percent": 25}, {"rest": true}], "advance": {"approval": "secondPerson"},
        "success": {"condition": "properties.reported.rate = 2"},
    });
    let new = staged("fast", 5, 2, policy).expect("a configuration");
    let asked = PreviewRequest { put: vec![new.clone()], shown_max: 0, ..PreviewRequest::default() };
    let preview = test.hub.configurations_preview(&test.owner(), asked).await.expect("thought through");
    assert_eq!(preview.configurations[&name("fast")].waves, [4, 10, 26]);
    create(&test, new).await;
    let first = until(&test, "fast", "running", 1).await;
    assert_eq!(waves(&first), [[0, 4, 0, 0, 0], [10, 0, 0, 0, 0], [26, 0, 0, 0, 0]]);
    assert_eq!((with_rate(&test, 1).await, with_rate(&test, 2).await), (36, 4));

    let late = rows(&test, "SELECT deviceId FROM devices WHERE properties.desired.rate = 1").await;
    let late = late[0]["deviceId"].as_str().expect("an id").to_owned();
    let explained = test.hub.explain(&test.owner(), &id(&late)).await.expect("explained");
    let fast = explained.configurations.iter().find(|one| one.configuration.spec().id == name("fast"));
    let reason = &fast.expect("it is near").reason;
    assert!(reason.contains("its wave, number") && reason.contains("is not open"), "{reason}");

    let canaries = rows(&test, "SELECT deviceId FROM devices WHERE properties.desired.rate = 2").await;
    for row in &canaries {
        report(&test, row["deviceId"].as_str().expect("an id"), json!({"rate": 2})).await;
    }
    until(&test, "fast", "awaitingApproval", 1).await;
    let refused = decide(&test, "iothubowner", "fast", Decision::Approve).await.expect_err("who asked");
    assert!(refused.to_string().contains("second person"), "{refused}");
    let refused = decide(&test, "service", "fast", Decision::Approve).await.expect_err("no right");
    assert!(matches!(refused, Error::Forbidden(_)), "{refused:?}");
    decide(&test, "registryReadWrite", "fast", Decision::Approve).await.expect("approved");
    let second = until(&test, "fast", "running", 2).await;
    assert_eq!(waves(&second), [[0, 0, 4, 0, 0], [0, 10, 0, 0, 0], [26, 0, 0, 0, 0]]);
    assert_eq!(with_rate(&test, 2).await, 14);

    // What comes to match joins the wave that its number is in; what leaves the target leaves the waves.
    for n in 40..60 {
        test.register(&format!("d{n:03}")).await;
        write(&test, &format!("d{n:03}"), tags(json!({"site": "a"}))).await;
    }
    write(&test, &late, tags(json!({"site": "b"}))).await;
    let grown = view(&test, "fast").await;
    let open: u64 = waves(&grown)[..2].iter().flatten().sum();
    assert_eq!(waves(&grown).iter().flatten().sum::<u64>(), 59);
    assert_eq!(with_rate(&test, 2).await, open);

    // A restart changes nothing; who is in which wave is drawn again and is the same.
    let again = test.killed().await;
    assert_eq!(waves(&view(&again, "fast").await), waves(&grown));
    decide(&again, "iothubowner", "fast", Decision::RollBack("too fast".into())).await.expect("rolled back");
    until(&again, "fast", "rollingBack", 2).await;
    assert_eq!((with_rate(&again, 1).await, with_rate(&again, 2).await), (60, 0));
    let over = decide(&again, "iothubowner", "fast", Decision::Resume).await.expect_err("it is over");
    assert!(matches!(over, Error::Conflict(_)), "{over}");
    // Not the one that left the target.
    let targeted = if late == "d001" { "d002" } else { "d001" };
    let explained = again.hub.explain(&again.owner(), &id(targeted)).await.expect("explained");
    assert!(explained.configurations.iter().any(|one| one.reason.contains("rolled back: too fast")));
    assert_eq!(again.hub.prove_configurations().await.expect("compared"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stop_rule_says_why_and_silence_is_counted() {
    let test = site(20).await;
    let policy = json!({
        "waves": [{"devices": 5}, {"rest": true}], "deviceTimeoutInSeconds": 60,
        "success": {"condition": "properties.reported.rate = 2"},
        "failure": {"condition": "properties.reported.error = true"}, "stop": {"failures": {"count": 2}},
    });
    create(&test, staged("fast", 5, 2, policy).expect("a configuration")).await;
    until(&test, "fast", "running", 1).await;
    let canaries = rows(&test, "SELECT deviceId FROM devices WHERE properties.desired.rate = 2").await;
    let canary = |n: usize| canaries[n]["deviceId"].as_str().expect("an id");
    report(&test, canary(0), json!({"error": true})).await;
    test.advance(Duration::from_secs(61));
    report(&test, canary(1), json!({"error": true})).await;
    let stopped = until(&test, "fast", "stopped", 1).await;
    assert_eq!(waves(&stopped), [[0, 0, 0, 2, 3], [15, 0, 0, 0, 0]]);
    let Phase::Stopped(cause) = &stopped.configuration.stages().expect("waves").state().phase else {
        panic!("{:?}", stopped.configuration);
    };
    assert!(cause.to_string().contains('2'), "{cause}");
    assert_eq!((with_rate(&test, 1).await, with_rate(&test, 2).await), (15, 5), "what is in force stays");
    // Whoever resumes it takes the responsibility; the devices of the wave are settled, so the next one opens.
    decide(&test, "iothubowner", "fast", Decision::Resume).await.expect("resumed");
    until(&test, "fast", "running", 2).await;
    for n in 0..20 {
        report(&test, &format!("d{n:03}"), json!({"rate": 2, "error": null})).await;
    }
    let done = until(&test, "fast", "done", 2).await;
    assert_eq!(waves(&done), [[0, 0, 5, 0, 0], [0, 0, 15, 0, 0]]);
    assert_eq!(with_rate(&test, 2).await, 20);
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_the_clock_neither_skips_an_observation_twice_nor_loses_a_wave() {
    let test = site(12).await;
    let policy = json!({"waves": [{"devices": 2}, {"devices": 4}, {"rest": true}], "advance": {"minObservationInSeconds": 600}});
    create(&test, staged("fast", 5, 2, policy).expect("a configuration")).await;
    until(&test, "fast", "observing", 1).await;
    // Back: it waits longer, never shorter.
    test.clock.set(hub_domain::time::Timestamp::from_seconds(test.hub.now().seconds() - 3600));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(with_rate(&test, 2).await, 2);
    test.advance(Duration::from_secs(2 * 3600));
    until(&test, "fast", "observing", 2).await;
    assert_eq!(with_rate(&test, 2).await, 6, "one jump ends one observation");
    test.advance(Duration::from_secs(3600));
    until(&test, "fast", "done", 3).await;
    assert_eq!(with_rate(&test, 2).await, 12);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_rollout_of_a_configuration_is_refused() {
    let test = site(3).await;
    for (rollout, part) in [
        (json!({"stratifyBy": "tags.site"}), "for jobs only"),
        (json!({"limits": {"inFlight": 5}}), "for jobs only"),
        (json!({"jitterInSeconds": 5}), "for jobs only"),
        (json!({"waves": [{"percent": 90}]}), "rollout.waves"),
        (json!({"stop": {"failures": {"count": 0}}}), "rollout.stop.failures.count is 0"),
        (json!({"failure": "always"}), "rollout.failure must be"),
        (json!({"failure": {"condition": "tags.site ="}}), "rollout.failure.condition"),
        (json!({"success": {"condition": "tags.site ="}}), "rollout.success"),
        (json!({"wave": []}), "wave"),
    ] {
        let text = staged("bad", 5, 2, rollout.clone()).expect_err(part);
        assert!(text.contains(part), "{rollout}: {text}");
    }

    let refused = async |spec: ConfigurationSpec, part: &str| {
        let error = test.hub.configuration_create(&test.owner(), spec).await.expect_err(part).to_string();
        assert!(error.contains(part), "{error}");
    };
    let four = json!({"waves": [{"devices": 4}, {"rest": true}]});
    refused(staged("bad", 5, 2, four).expect("valid"), "ask for 4 devices, but there are 3").await;
    let nobody = ConfigurationSpec {
        target: spec("x", "tags.site = 'z'", 1, device_content(json!({"properties.desired.a": 1}))).target,
        ..staged("bad", 5, 2, json!({})).expect("valid")
    };
    refused(nobody, "no twin to begin with").await;
    let none =
        decide(&test, "iothubowner", "base", Decision::Pause(String::new())).await.expect_err("no rollout");
    assert!(none.to_string().contains("has no rollout"), "{none}");
    let missing = decide(&test, "iothubowner", "nope", Decision::Resume).await.expect_err("missing");
    assert_eq!(missing, Error::ConfigurationNotFound(name("nope")));

    let paused = json!({"waves": [{"devices": 1}, {"rest": true}], "advance": {"approval": "anyone"}});
    create(&test, staged("fast", 5, 2, paused.clone()).expect("valid")).await;
    let update = async |spec: ConfigurationSpec| {
        test.hub.configuration_update(&test.owner(), spec, &Precondition::Exists).await
    };
    let other = json!({"waves": [{"devices": 2}, {"rest": true}]});
    let error =
        update(staged("fast", 5, 2, other).expect("valid")).await.expect_err("other waves").to_string();
    assert!(error.contains("cannot be changed once it has begun"), "{error}");
    let into_force = ConfigurationSpec { id: name("base"), ..staged("fast", 1, 1, paused).expect("valid") };
    let error = update(into_force).await.expect_err("in force").to_string();
    assert!(error.contains("in force already"), "{error}");
    // Whoever knows nothing of rollouts changes something else and lets nobody in.
    let mut plain = staged("fast", 7, 2, json!({})).expect("valid");
    plain.rollout = None;
    update(plain).await.expect("updated");
    until(&test, "fast", "awaitingApproval", 1).await;
    assert_eq!(with_rate(&test, 2).await, 1);
}
