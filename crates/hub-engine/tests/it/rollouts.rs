//! Rollouts and gates: waves, stop rules, people, retries, undoing, devices that wait and why, and restarts in between.

use std::time::Duration;

use hub_domain::actor::Actor;
use hub_domain::context::{Gates, HubContext};
use hub_domain::event::{EventKind, EventSource, GatesOf};
use hub_domain::job::{ItemStatus, JobAction, JobStatus, NewJob};
use hub_domain::rollout::{Phase, Rollout};
use hub_domain::time::Timestamp;
use hub_domain::twin::{TwinUpdate, WriteMode};
use hub_domain::version::Precondition;
use hub_engine::Error;
use hub_engine::events::EventFilter;
use hub_engine::rollouts::{Decision, DryRunGuess};
use hub_testkit::TestHub;
use serde_json::{Value, json};

use crate::jobs::{answering, calling, counts, ended, fleet, name, patching, rows, until};
use crate::management::report;
use crate::{desired, id, tags};

fn rolling(job: NewJob, rollout: Value) -> NewJob {
    NewJob { rollout: Some(Rollout::parse(&rollout).expect("a policy")), ..job }
}

fn gated(job: NewJob, gates: Value) -> NewJob {
    NewJob { gates: Some(Gates::parse(&gates).expect("gates")), ..job }
}

async fn create(test: &TestHub, job: NewJob) {
    test.hub.job_create(&test.owner(), job).await.expect("created");
}

async fn decide(test: &TestHub, policy: &str, job: &str, decision: Decision) -> Result<(), Error> {
    test.hub.job_decide(&test.service(policy), &name(job), &decision).await.map(drop)
}

fn phase(job: &hub_engine::jobs::Job) -> Option<&Phase> {
    job.state.rollout.as_ref().map(|rollout| &rollout.phase)
}

async fn reasons(test: &TestHub, job: &str) -> Value {
    let waiting = test.hub.job_waiting(&test.owner(), &name(job)).await.expect("counted");
    waiting
        .reasons
        .iter()
        .map(|(code, count)| (code.clone(), json!(count.devices)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

async fn write(test: &TestHub, device: &str, update: TwinUpdate) {
    let (owner, device) = (test.owner(), id(device));
    let written = test.hub.twin_update(&owner, &device, &update, WriteMode::Patch, &Precondition::None);
    written.await.expect("written");
}

async fn write_tags(test: &TestHub, device: &str, value: Value) {
    write(test, device, tags(value)).await;
}

async fn patched(test: &TestHub, path: &str, value: u32) -> u64 {
    let query = format!("SELECT COUNT() AS n FROM devices WHERE properties.desired.{path} = {value}");
    rows(test, &query).await.first().and_then(|row| row["n"].as_u64()).unwrap_or(0)
}

#[tokio::test(start_paused = true)]
async fn waves_open_one_after_the_other_and_people_are_asked() {
    let test = TestHub::start().await;
    fleet(&test, 100).await;
    let policy = json!({
        "waves": [{"devices": 5}, {"percent": 20}, {"rest": true}], "advance": {"approval": "secondPerson"},
    });
    create(&test, rolling(patching("roll", "*", json!({"rate": 1})), policy)).await;
    let waits = |job: &hub_engine::jobs::Job| matches!(phase(job), Some(Phase::AwaitingApproval { .. }));
    let job = until(&test, "roll", waits).await;
    assert_eq!(job.state.counts, counts(95, 0, 5, 0, 0));
    assert_eq!(patched(&test, "rate", 1).await, 5);
    assert_eq!(reasons(&test, "roll").await, json!({"waveNotOpen": 95}));
    let refused = decide(&test, "iothubowner", "roll", Decision::Approve).await.expect_err("who asked");
    assert!(matches!(&refused, Error::Conflict(text) if text.contains("second person")), "{refused}");
    decide(&test, "service", "roll", Decision::Approve).await.expect("approved");
    until(&test, "roll", |job| job.state.counts == counts(75, 0, 25, 0, 0) && waits(job)).await;
    decide(&test, "service", "roll", Decision::Pause("lunch".into())).await.expect("paused");
    decide(&test, "service", "roll", Decision::Approve).await.expect_err("paused");
    decide(&test, "iothubowner", "roll", Decision::Resume).await.expect("resumed");
    until(&test, "roll", waits).await;
    decide(&test, "service", "roll", Decision::Approve).await.expect("approved");
    let job = ended(&test, "roll").await;
    assert_eq!((job.state.status, job.state.counts), (JobStatus::Completed, counts(0, 0, 100, 0, 0)));
    let waves = rows(&test, "SELECT wave, COUNT() AS n FROM devices.jobs GROUP BY wave").await;
    let mut sizes: Vec<_> = waves.iter().map(|row| (row["wave"].as_u64(), row["n"].as_u64())).collect();
    sizes.sort();
    assert_eq!(sizes, [(Some(0), Some(5)), (Some(1), Some(20)), (Some(2), Some(75))]);
    let once = "SELECT COUNT() AS n FROM devices WHERE properties.desired.$version = 2";
    assert_eq!(rows(&test, once).await, [json!({"n": 100})], "nobody was patched twice");
}

#[tokio::test(start_paused = true)]
async fn a_bad_canary_stops_the_rollout_and_is_rolled_back() {
    let test = TestHub::start().await;
    fleet(&test, 60).await;
    for n in 0..60 {
        write(&test, &format!("d{n:03}"), desired(json!({"rate": 1}))).await;
    }
    let policy = json!({
        "waves": [{"devices": 6}, {"rest": true}], "onStop": "rollBack",
        "success": {"condition": "properties.reported.rate = 2"}, "deviceTimeoutInSeconds": 60,
        "retry": {"timedOut": {"maxRetries": 0}}, "stop": {"timeouts": {"count": 3}},
    });
    create(&test, rolling(patching("bad", "*", json!({"rate": 2})), policy)).await;
    until(&test, "bad", |job| job.state.counts == counts(54, 6, 0, 0, 0)).await;
    let canaries = rows(&test, "SELECT deviceId FROM devices.jobs WHERE wave = 0").await;
    let canary = |n: usize| canaries[n]["deviceId"].as_str().expect("an id").to_owned();
    for n in 0..2 {
        report(&test, &canary(n), json!({"rate": 2})).await;
    }
    until(&test, "bad", |job| job.state.counts == counts(54, 4, 2, 0, 0)).await;
    test.advance(Duration::from_secs(61));
    let job = ended(&test, "bad").await;
    assert_eq!((job.state.status, job.state.counts), (JobStatus::Failed, counts(0, 0, 2, 4, 54)));
    assert!(job.state.failure.as_deref().is_some_and(|text| text.contains('4')), "{:?}", job.state.failure);
    let undo = ended(&test, "bad-rollback").await;
    assert_eq!((undo.state.status, undo.state.counts), (JobStatus::Completed, counts(0, 0, 6, 0, 0)));
    assert_eq!((patched(&test, "rate", 1).await, patched(&test, "rate", 2).await), (60, 0));
    let again = decide(&test, "service", "bad", Decision::RollBack(String::new())).await.expect_err("done");
    assert_eq!(again, Error::JobExists(name("bad-rollback")));
}

#[tokio::test(start_paused = true)]
async fn gates_hold_devices_back_and_their_opening_lets_them_go() {
    let test = TestHub::start().await;
    fleet(&test, 4).await;
    let power = |percent: u32| json!({"context": {"power": {"batteryPercent": percent}}});
    report(&test, "d000", power(80)).await;
    report(&test, "d001", power(10)).await;
    report(&test, "d002", json!({"context": {"power": {"batteryPercent": "full"}}})).await;
    let job =
        gated(patching("gated", "*", json!({"rate": 1})), json!({"power": {"minimumBatteryPercent": 50}}));
    create(&test, job).await;
    until(&test, "gated", |job| job.state.counts == counts(3, 0, 1, 0, 0)).await;
    let expected = json!({"power.batteryLow": 1, "power.unusable": 1, "power.missing": 1});
    assert_eq!(reasons(&test, "gated").await, expected);
    let explained = test.hub.explain(&test.owner(), &id("d001")).await.expect("explained");
    let [waiting] = &explained.waiting[..] else { panic!("{:?}", explained.waiting) };
    let [reason] = &waiting.obstacles[..] else { panic!("{waiting:?}") };
    assert_eq!((waiting.job.as_str(), reason.code().as_str()), ("gated", "power.batteryLow"));
    assert_eq!(reason.to_json()["detail"]["facts"][0]["value"], 10, "{}", reason.to_json());
    // An unrelated report changes nothing; the battery does, at once.
    report(&test, "d001", json!({"temperature": 5})).await;
    report(&test, "d001", power(60)).await;
    until(&test, "gated", |job| job.state.counts == counts(2, 0, 2, 0, 0)).await;
    assert_eq!(patched(&test, "rate", 1).await, 2);
    // What the hub knows changes where facts are.
    let context = HubContext::parse(&json!({"facts": {"batteryPercent": "tags.charge"}})).expect("a context");
    write_tags(&test, "d003", json!({"charge": 90})).await;
    test.hub.context_replace(&test.owner(), context).await.expect("replaced");
    until(&test, "gated", |job| job.state.counts == counts(1, 0, 3, 0, 0)).await;
    test.advance(Duration::from_secs(3600));
    let job = ended(&test, "gated").await;
    assert_eq!(job.state.counts.targets(), 4);
    assert_eq!((job.state.status, job.state.counts.succeeded), (JobStatus::Cancelled, 3));
    assert_eq!(job.state.failure.as_deref(), Some("the time of the job was over"));
}

#[tokio::test(start_paused = true)]
async fn a_window_opens_by_time_alone() {
    let test = TestHub::start().await;
    fleet(&test, 3).await;
    // The test clock's start, and from there an hour later, as a daily window in UTC.
    let seconds = hub_testkit::START_SECONDS.rem_euclid(86_400);
    let hour = (seconds / 3600 + 2) % 24;
    let window = json!({"window": {"rrule": format!("FREQ=DAILY;BYHOUR={hour};BYMINUTE=0;BYSECOND=0"), "durationInSeconds": 1800}});
    for n in 0..3 {
        write_tags(&test, &format!("d{n:03}"), json!({"timeZone": "Etc/UTC"})).await;
    }
    let job = NewJob {
        execution_max: Some(Duration::from_secs(86_400)),
        ..patching("night", "*", json!({"rate": 1}))
    };
    create(&test, gated(job, window)).await;
    until(&test, "night", |job| job.state.rollout.is_some()).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(reasons(&test, "night").await, json!({"window.outsideWindow": 3}));
    let waiting = test.hub.job_waiting(&test.owner(), &name("night")).await.expect("counted");
    let next = waiting.reasons["window.outsideWindow"].next.expect("it opens");
    let wait = next.since(test.hub.now());
    assert!(wait > Duration::from_secs(3600) && wait <= Duration::from_secs(7200), "{wait:?}");
    test.advance(wait.saturating_sub(Duration::from_secs(60)));
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(patched(&test, "rate", 1).await, 0);
    test.advance(Duration::from_secs(61));
    assert_eq!(ended(&test, "night").await.state.counts, counts(0, 0, 3, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn devices_that_defer_are_asked_again_and_restarts_change_nothing() {
    let test = TestHub::start().await;
    fleet(&test, 2).await;
    let later = answering(&test, "d000", 503).await;
    let _good = answering(&test, "d001", 200).await;
    create(&test, rolling(calling("call", 0, false), json!({"limits": {"inFlight": 1}}))).await;
    until(&test, "call", |job| job.state.counts == counts(1, 0, 1, 0, 0)).await;
    until(&test, "call", |job| job.state.rollout.as_ref().is_some_and(|r| r.waves[0].retrying == 1)).await;
    assert_eq!(reasons(&test, "call").await, json!({"again.DeviceDeferred": 1}));
    let row = rows(&test, "SELECT * FROM devices.jobs WHERE deviceId = 'd000'").await.remove(0);
    assert_eq!(
        (row["status"].as_str(), row["lastError"]["code"].as_str()),
        (Some("pending"), Some("DeviceDeferred"))
    );
    drop(later);
    let again = test.killed().await;
    until(&again, "call", |job| job.state.counts == counts(1, 0, 1, 0, 0)).await;
    let _now = answering(&again, "d000", 200).await;
    again.advance(Duration::from_secs(301));
    let job = ended(&again, "call").await;
    assert_eq!((job.state.status, job.state.counts), (JobStatus::Completed, counts(0, 0, 2, 0, 0)));
    let waves = &job.state.rollout.as_ref().expect("planned").waves;
    assert_eq!((waves[0].ended.succeeded, waves[0].open()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn caps_hold_per_value_of_a_tag_and_two_rollouts_share_no_device() {
    let test = TestHub::start().await;
    fleet(&test, 6).await;
    for n in 0..6 {
        write_tags(&test, &format!("d{n:03}"), json!({"site": if n < 4 { "a" } else { "b" }})).await;
    }
    let policy = json!({
        "limits": {"perTag": {"path": "tags.site", "inFlight": 1}},
        "success": {"condition": "properties.reported.done = true"},
    });
    create(&test, rolling(patching("first", "*", json!({"rate": 1})), policy)).await;
    // One of each site, and no more until they end.
    until(&test, "first", |job| job.state.counts == counts(4, 2, 0, 0, 0)).await;
    let policy = json!({"whenBusy": "refuse"});
    create(&test, rolling(patching("second", "*", json!({"other": 1})), policy)).await;
    let second = ended(&test, "second").await;
    assert_eq!(second.state.counts, counts(0, 0, 4, 2, 0));
    let refused = rows(
        &test,
        "SELECT error.code AS code FROM devices.jobs WHERE jobId = 'second' AND status = 'failed'",
    )
    .await;
    assert_eq!(refused, [json!({"code": "DeviceBusy"}), json!({"code": "DeviceBusy"})]);
    for _ in 0..6 {
        let busy =
            rows(&test, "SELECT deviceId FROM devices.jobs WHERE jobId = 'first' AND status = 'running'")
                .await;
        for row in busy {
            report(&test, row["deviceId"].as_str().expect("an id"), json!({"done": true})).await;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    assert_eq!(ended(&test, "first").await.state.counts, counts(0, 0, 6, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_by_an_hour_opens_nothing_early_and_acts_on_nobody_twice() {
    let test = TestHub::start().await;
    fleet(&test, 12).await;
    let policy = json!({
        "waves": [{"devices": 2}, {"devices": 4}, {"rest": true}], "advance": {"minObservationInSeconds": 600},
        "success": {"condition": "properties.reported.rate = 1"}, "deviceTimeoutInSeconds": 7200,
    });
    let hours = Some(Duration::from_secs(86_400));
    let job = NewJob { execution_max: hours, ..patching("roll", "*", json!({"rate": 1})) };
    create(&test, rolling(job, policy)).await;
    until(&test, "roll", |job| job.state.counts == counts(10, 2, 0, 0, 0)).await;
    let all_report = async || {
        let running = "SELECT deviceId FROM devices.jobs WHERE status = 'running'";
        for row in rows(&test, running).await {
            report(&test, row["deviceId"].as_str().expect("an id"), json!({"rate": 1})).await;
        }
    };
    let back = async || {
        test.clock.set(hub_domain::time::Timestamp::from_seconds(test.hub.now().seconds() - 3600));
        tokio::time::sleep(Duration::from_secs(3)).await;
    };
    back().await;
    all_report().await;
    until(&test, "roll", |job| matches!(phase(job), Some(Phase::Observing { .. }))).await;
    back().await;
    assert_eq!(patched(&test, "rate", 1).await, 2, "back: it waits longer");
    // On, past where it was: one observation is over, and the next begins.
    test.advance(Duration::from_secs(2 * 3600));
    until(&test, "roll", |job| job.state.counts == counts(6, 4, 2, 0, 0)).await;
    all_report().await;
    until(&test, "roll", |job| matches!(phase(job), Some(Phase::Observing { .. }))).await;
    assert_eq!(patched(&test, "rate", 1).await, 6);
    test.advance(Duration::from_secs(3600));
    until(&test, "roll", |job| job.state.counts == counts(0, 6, 6, 0, 0)).await;
    back().await;
    all_report().await;
    assert_eq!(ended(&test, "roll").await.state.counts, counts(0, 0, 12, 0, 0));
    let once = "SELECT COUNT() AS n FROM devices WHERE properties.desired.$version = 2";
    assert_eq!(rows(&test, once).await, [json!({"n": 12})], "nobody was patched twice");
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_says_who_would_wait_and_changes_nothing() {
    let test = TestHub::start().await;
    fleet(&test, 10).await;
    let policy =
        json!({"waves": [{"devices": 2}, {"rest": true}], "advance": {"minObservationInSeconds": 600}});
    let job = rolling(calling("dry", 0, true), policy);
    let guess = DryRunGuess { per_device: Duration::from_secs(10), bytes_per_device: 100 };
    let found = test.hub.job_dry_run(&test.owner(), job.clone(), guess).await.expect("thought through");
    assert_eq!((found.targets, found.reasons["offline"].devices), (10, 10));
    let forecast = found.forecast.expect("a forecast");
    assert_eq!(forecast.waves.iter().map(|wave| wave.targets).collect::<Vec<_>>(), [2, 8]);
    let missing = test.hub.job_get(&test.owner(), &name("dry")).await.expect_err("not created");
    assert_eq!(missing, Error::JobNotFound(name("dry")));
    let too_many = rolling(calling("dry", 0, true), json!({"waves": [{"devices": 11}, {"rest": true}]}));
    test.hub.job_dry_run(&test.owner(), too_many.clone(), guess).await.expect_err("more than there are");
    create(&test, too_many).await;
    let job = ended(&test, "dry").await;
    assert_eq!((job.state.status, job.state.counts.failed), (JobStatus::Failed, 10));
    assert!(job.state.failure.is_some());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_decided_is_refused() {
    let test = TestHub::start().await;
    fleet(&test, 1).await;
    create(&test, patching("plain", "*", json!({"rate": 1}))).await;
    ended(&test, "plain").await;
    for decision in [Decision::Resume, Decision::Approve, Decision::RollBack(String::new())] {
        let refused = decide(&test, "service", "plain", decision).await.expect_err("no rollout");
        assert!(matches!(refused, Error::Conflict(_)), "{refused}");
    }
    let action = JobAction::CallMethod {
        call: hub_domain::method::MethodCall::new("go", None, None, None).expect("a call"),
        wait_for_devices: true,
    };
    let stuck = NewJob { action, ..patching("stuck", "*", json!({})) };
    create(&test, rolling(stuck, json!({}))).await;
    until(&test, "stuck", |job| job.state.rollout.is_some()).await;
    let refused =
        decide(&test, "service", "stuck", Decision::RollBack("oops".into())).await.expect_err("how?");
    assert!(refused.to_string().contains("rollBack"), "{refused}");
    let missing = decide(&test, "service", "nope", Decision::Resume).await.expect_err("no job");
    assert_eq!(missing, Error::JobNotFound(name("nope")));
    decide(&test, "device", "stuck", Decision::Resume).await.expect_err("no right");
    decide(&test, "service", "stuck", Decision::Abort("never mind".into())).await.expect("aborted");
    let job = ended(&test, "stuck").await;
    assert_eq!((job.state.status, job.state.counts), (JobStatus::Cancelled, counts(0, 0, 0, 0, 1)));
    assert_eq!(job.state.failure.as_deref(), Some("never mind"));
}

#[tokio::test(start_paused = true)]
async fn a_rollout_says_how_wrong_its_forecast_was() {
    let test = TestHub::start().await;
    fleet(&test, 6).await;
    let policy =
        json!({"waves": [{"devices": 2}, {"rest": true}], "advance": {"minObservationInSeconds": 100}});
    create(&test, rolling(patching("told", "*", json!({"rate": 1})), policy)).await;
    let begun = until(&test, "told", |job| job.state.counts.succeeded == 2).await;
    let rollout = begun.state.rollout.expect("a rollout");
    let expected = rollout.expected.expect("a forecast");
    let took = expected.end.expect("an end").since(expected.start);
    // A second for each wave, and the time between them.
    assert_eq!((took, rollout.forecast_error()), (Duration::from_secs(102), None));
    test.advance(Duration::from_secs(200));
    let rollout = ended(&test, "told").await.state.rollout.expect("a rollout");
    let error = rollout.forecast_error().expect("an error");
    assert!((0.4..0.6).contains(&error), "{error}");
    assert!(rollout.to_json()["forecast"]["error"].is_f64());
}

#[tokio::test(start_paused = true)]
async fn a_forecast_counts_the_time_until_windows_open() {
    let test = TestHub::start().await;
    fleet(&test, 5).await;
    // An hour is open in two hours, and another one two hours later, six time zones west of it.
    let hour = (hub_testkit::START_SECONDS / 3600 + 2) % 24;
    let rule = |hour: i64| format!("FREQ=DAILY;BYHOUR={hour}");
    let windows = json!({"windows": {
        "first": {"rrule": rule(hour), "durationInSeconds": 3600},
        "second": {"rrule": rule((hour + 2 + 24 - 6) % 24), "durationInSeconds": 3600},
    }});
    let context = HubContext::parse(&windows).expect("a context");
    test.hub.context_replace(&test.owner(), context).await.expect("replaced");
    for n in 0..4 {
        let (zone, window) = if n < 2 { ("Etc/UTC", "first") } else { ("Etc/GMT+6", "second") };
        write_tags(&test, &format!("d{n:03}"), json!({"timeZone": zone, "window": window})).await;
    }
    let gates = json!({"window": {"fromTag": "tags.window"}, "unknown": "open"});
    let job = || {
        let job = patching("night", "*", json!({"rate": 1}));
        gated(NewJob { execution_max: Some(Duration::from_secs(86_400)), ..job }, gates.clone())
    };
    let begun = test.hub.now();
    let guess = DryRunGuess { per_device: Duration::from_secs(1), bytes_per_device: 0 };
    let dry = test.hub.job_dry_run(&test.owner(), job(), guess).await.expect("thought through");
    let opening = begun.seconds() - begun.seconds().rem_euclid(3600) + 4 * 3600;
    let expected = Timestamp::from_seconds(opening + 1);
    assert_eq!(dry.forecast.expect("a forecast").ends, Some(expected));
    let waiting = |codes: &std::collections::BTreeMap<String, hub_engine::rollouts::WaitingCount>| {
        codes.iter().map(|(code, count)| (code.clone(), count.devices)).collect::<Vec<_>>()
    };
    assert_eq!(waiting(&dry.reasons), [("go".to_owned(), 1), ("window.outsideWindow".to_owned(), 4)]);
    create(&test, job()).await;
    until(&test, "night", |job| job.state.counts == counts(4, 0, 1, 0, 0)).await;
    test.advance(Duration::from_secs(2 * 3600));
    until(&test, "night", |job| job.state.counts == counts(2, 0, 3, 0, 0)).await;
    let left = Timestamp::from_seconds(opening).since(test.hub.now());
    test.advance(left);
    let rollout = ended(&test, "night").await.state.rollout.expect("a rollout");
    assert_eq!(rollout.expected.and_then(|forecast| forecast.end), Some(expected));
    let error = rollout.forecast_error().expect("an error");
    assert!(error.abs() < 0.001, "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_override_is_recorded_with_who_and_why() {
    let test = TestHub::start().await;
    fleet(&test, 2).await;
    report(&test, "d000", json!({"context": {"power": {"batteryPercent": 5}}})).await;
    report(&test, "d001", json!({"context": {"power": {"batteryPercent": 95}}})).await;
    let gates = json!({"power": {"minimumBatteryPercent": 50}, "override": {"reason": "CVE-2026-1"}});
    let job = gated(patching("emergency", "*", json!({"rate": 1})), gates);
    test.hub.job_create(&test.service("service"), job).await.expect("created");
    let job = ended(&test, "emergency").await;
    assert_eq!(job.state.counts, counts(0, 0, 2, 0, 0));
    let filter = EventFilter { sources: vec![EventSource::Job], device: None };
    let page = test.hub.events_read(&test.owner(), &filter, None, 10).await.expect("events");
    let [(_, event)] = &page.events[..] else { panic!("{:?}", page.events) };
    let told = EventKind::Override {
        gates_of: GatesOf::Job(name("emergency")),
        reason: "CVE-2026-1".into(),
        closed: vec!["power.batteryLow".into()],
        actor: job.spec.asked_by.clone(),
    };
    assert_eq!((&event.id, &event.kind), (&id("d000"), &told));
    assert_eq!(job.spec.asked_by, Actor::Policy("service".into()));
}

#[tokio::test(start_paused = true)]
async fn gates_of_a_running_job_are_overridden_once_and_for_good() {
    let test = TestHub::start().await;
    fleet(&test, 3).await;
    report(&test, "d000", json!({"context": {"power": {"batteryPercent": 5}}})).await;
    report(&test, "d001", json!({"context": {"power": {"batteryPercent": 95}}})).await;
    let gates = || json!({"power": {"minimumBatteryPercent": 50}});
    let overriding = async |test: &TestHub, job: &str, reason: &str| {
        let who = test.service("service");
        test.hub.job_override_gates(&who, &name(job), reason).await.map(|job| job.state.gates_override)
    };
    create(&test, patching("plain", "*", json!({"other": 1}))).await;
    create(&test, gated(patching("held", "*", json!({"rate": 1})), gates())).await;
    until(&test, "held", |job| job.state.counts == counts(2, 0, 1, 0, 0)).await;
    let conflict = |refused: Error, part: &str| {
        assert!(matches!(&refused, Error::Conflict(text) if text.contains(part)), "{part}: {refused}");
    };
    let refused = overriding(&test, "held", " ").await.expect_err("no reason");
    assert!(matches!(&refused, Error::Invalid(text) if text.contains("overrideGates.reason")), "{refused}");
    let refused = overriding(&test, "nobody", "x").await.expect_err("no job");
    assert_eq!(refused, Error::JobNotFound(name("nobody")));
    conflict(overriding(&test, "plain", "x").await.expect_err("no gates"), "has no gates");
    decide(&test, "service", "held", Decision::Pause("lunch".into())).await.expect("paused");
    let said = overriding(&test, "held", "CVE-2026-1").await.expect("overridden").expect("recorded");
    assert_eq!((said.by, said.reason.as_str()), (Actor::Policy("service".into()), "CVE-2026-1"));
    conflict(
        overriding(&test, "held", "again").await.expect_err("twice"),
        "overridden already, by policy:service",
    );
    // A pause goes on to count, and a restart forgets nothing.
    tokio::time::sleep(Duration::from_secs(5)).await;
    until(&test, "held", |job| job.state.counts == counts(2, 0, 1, 0, 0)).await;
    let again = test.killed().await;
    assert_eq!(reasons(&again, "held").await, json!({"go": 2}));
    decide(&again, "service", "held", Decision::Resume).await.expect("resumed");
    assert_eq!(ended(&again, "held").await.state.counts, counts(0, 0, 3, 0, 0));
    let filter = EventFilter { sources: vec![EventSource::Job], device: None };
    let page = again.hub.events_read(&again.owner(), &filter, None, 10).await.expect("events");
    let told: Vec<_> = page.events.iter().map(|(_, event)| (event.id.to_string(), &event.kind)).collect();
    let closed = |code: &str| EventKind::Override {
        gates_of: GatesOf::Job(name("held")),
        reason: "CVE-2026-1".into(),
        closed: vec![code.into()],
        actor: Actor::Policy("service".into()),
    };
    let (low, missing) = (closed("power.batteryLow"), closed("power.missing"));
    assert_eq!(told, [("d000".to_owned(), &low), ("d002".to_owned(), &missing)]);
    conflict(overriding(&again, "held", "x").await.expect_err("over"), "is over");

    // At once, without anything else happening.
    create(&again, gated(patching("soon", "*", json!({"rate": 2})), gates())).await;
    until(&again, "soon", |job| job.state.counts == counts(2, 0, 1, 0, 0)).await;
    overriding(&again, "soon", "now").await.expect("overridden");
    assert_eq!(ended(&again, "soon").await.state.counts, counts(0, 0, 3, 0, 0));
    create(&again, gated(patching("ends", "*", json!({"rate": 3})), gates())).await;
    until(&again, "ends", |job| job.state.counts == counts(2, 0, 1, 0, 0)).await;
    again.hub.job_cancel(&again.owner(), &name("ends")).await.expect("cancelled");
    conflict(overriding(&again, "ends", "x").await.expect_err("cancelled"), "job 'ends' is");
}

#[tokio::test(start_paused = true)]
async fn a_job_lists_its_targets_and_a_target_its_job() {
    let test = TestHub::start().await;
    fleet(&test, 5).await;
    create(&test, patching("parent", "deviceId < 'd003'", json!({"rate": 1}))).await;
    create(&test, patching("other", "*", json!({"rate": 2}))).await;
    ended(&test, "parent").await;
    let list = async |status, token: Option<String>| {
        let (owner, job) = (test.owner(), name("parent"));
        test.hub.job_targets(&owner, &job, status, Some(2), token.as_deref()).await.expect("targets")
    };
    let first = list(None, None).await;
    let second = list(None, first.continuation.clone()).await;
    let ids = |rows: &[Value]| -> Vec<_> { rows.iter().map(|row| row["deviceId"].clone()).collect() };
    assert_eq!(
        (ids(&first.values()), ids(&second.values())),
        (vec![json!("d000"), json!("d001")], vec![json!("d002")])
    );
    assert_eq!((&second.continuation, second.values()[0]["jobId"].as_str()), (&None, Some("parent")));
    assert_eq!(ids(&list(Some(ItemStatus::Failed), None).await.values()), Vec::<Value>::new());
    let (row, parent) = test.hub.job_target(&test.owner(), &name("parent"), &id("d002")).await.expect("it");
    assert_eq!((row, parent.spec.id), (second.values()[0].clone(), name("parent")));

    let none = test.hub.job_target(&test.owner(), &name("parent"), &id("d004")).await.expect_err("no target");
    assert_eq!(none, Error::JobTargetNotFound { job: name("parent"), id: id("d004") });
    let none =
        test.hub.job_targets(&test.owner(), &name("none"), None, None, None).await.expect_err("no job");
    assert_eq!(none, Error::JobNotFound(name("none")));
}
