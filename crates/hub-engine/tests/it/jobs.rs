//! Jobs: who becomes a target, what is done to each, and that counts, records and restarts agree.

use std::time::Duration;

use hub_domain::actor::Actor;
use hub_domain::id::JobId;
use hub_domain::job::{JobAction, JobCounts, JobStatus, Management, NewJob};
use hub_domain::link::Downlink;
use hub_domain::method::{MethodCall, MethodResult};
use hub_domain::session::Family;
use hub_domain::time::Timestamp;
use hub_domain::twin::WriteMode;
use hub_domain::version::Precondition;
use hub_engine::config::{JOB_PRUNE_INTERVAL, SESSION_QUEUE_MAX};
use hub_engine::configurations::explain::Setter;
use hub_engine::jobs::{Job, JobFilter};
use hub_engine::{Attachment, Credential, Error};
use hub_testkit::{START_SECONDS, TestHub};
use serde_json::{Value, json};

use crate::{desired, id, tags};

pub(crate) fn name(text: &str) -> JobId {
    JobId::parse(text).expect("a valid id")
}

pub(crate) fn patching(job: &str, condition: &str, value: Value) -> NewJob {
    NewJob {
        id: name(job),
        action: JobAction::PatchTwin(desired(value)),
        condition: condition.into(),
        listed: None,
        start: None,
        execution_max: None,
        device_timeout: None,
        rollout: None,
        gates: None,
        roll_back: None,
    }
}

pub(crate) fn calling(job: &str, connect: u64, wait_for_devices: bool) -> NewJob {
    let call = MethodCall::new("reboot", None, Some(5), Some(connect)).expect("a valid call");
    let action = JobAction::CallMethod { call, wait_for_devices };
    NewJob { action, ..patching(job, "*", json!({})) }
}

pub(crate) async fn fleet(test: &TestHub, count: usize) {
    for n in 0..count {
        test.register(&format!("d{n:03}")).await;
    }
}

pub(crate) async fn until(test: &TestHub, job: &str, done: impl Fn(&Job) -> bool) -> Job {
    for _ in 0..10_000 {
        let job = test.hub.job_get(&test.owner(), &name(job)).await.expect("a job");
        if done(&job) {
            return job;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("job {job} did not come there: {:?}", test.hub.job_get(&test.owner(), &name(job)).await);
}

pub(crate) async fn ended(test: &TestHub, job: &str) -> Job {
    until(test, job, |job| job.state.is_over()).await
}

pub(crate) async fn rows(test: &TestHub, query: &str) -> Vec<Value> {
    test.hub.query(&test.owner(), query, None, None).await.expect("an answer").values()
}

pub(crate) fn counts(pending: u64, running: u64, succeeded: u64, failed: u64, cancelled: u64) -> JobCounts {
    JobCounts { pending, running, succeeded, failed, cancelled }
}

/// A device that answers every call with this status until it is dropped.
pub(crate) async fn answering(test: &TestHub, device: &str, status: i32) -> tokio::task::JoinHandle<()> {
    answering_in_turn(test, device, &[(status, "{\"ok\":1}")]).await
}

/// A device that gives these answers one after the other, and then the last for ever.
async fn answering_in_turn(
    test: &TestHub,
    device: &str,
    answers: &[(i32, &'static str)],
) -> tokio::task::JoinHandle<()> {
    let (attachment, mut queue) = attached(test, device).await;
    let (hub, mut answers) = (test.hub.clone(), std::collections::VecDeque::from(answers.to_vec()));
    tokio::spawn(async move {
        while let Some(downlink) = queue.next().await {
            if let Downlink::Call { call, .. } = downlink {
                let next = if answers.len() > 1 { answers.pop_front() } else { answers.front().copied() };
                let (status, payload) = next.expect("an answer");
                hub.method_complete(&attachment, call, MethodResult { status, payload: payload.into() });
            }
        }
    })
}

pub(crate) async fn attached(test: &TestHub, device: &str) -> (Attachment, hub_engine::Downlinks) {
    let token = test.device_token(&id(device), Timestamp::from_seconds(START_SECONDS + 864_000));
    let who = test.hub.authenticate_device(&id(device), Credential::Token(&token)).expect("its own token");
    let (sender, queue) = hub_engine::downlinks(SESSION_QUEUE_MAX);
    let attachment = test.hub.attach(&who, &id(device), false, sender).await.expect("attached");
    test.hub.subscribe(&attachment, Family::Methods, false).await.expect("subscribed");
    (attachment, queue)
}

#[tokio::test(start_paused = true)]
async fn a_twin_job_patches_exactly_its_targets() {
    let test = TestHub::start().await;
    fleet(&test, 150).await;
    let who = test.owner();
    for n in 0..100 {
        let update = tags(json!({"site": "a"}));
        let target = id(&format!("d{n:03}"));
        let written = test.hub.twin_update(&who, &target, &update, WriteMode::Patch, &Precondition::None);
        written.await.expect("written");
    }
    let created =
        test.hub.job_create(&test.owner(), patching("roll", "tags.site = 'a'", json!({"rate": 9}))).await;
    assert_eq!(created.expect("created").state.status, JobStatus::Queued);
    let job = ended(&test, "roll").await;
    assert_eq!((job.state.status, job.state.counts), (JobStatus::Completed, counts(0, 0, 100, 0, 0)));
    let patched = rows(&test, "SELECT COUNT() AS n FROM devices WHERE properties.desired.rate = 9 AND properties.desired.$version = 2").await;
    assert_eq!(patched, [json!({"n": 100})]);
    let explained = test.hub.explain(&test.owner(), &id("d000")).await.expect("explained");
    let by = Some(Setter::BackEnd(Some(Actor::Job(name("roll")))));
    assert_eq!(explained.properties.iter().map(|one| &one.set_by).collect::<Vec<_>>(), [&by]);
    let done =
        rows(&test, "SELECT COUNT() AS n FROM devices.jobs WHERE jobId = 'roll' AND status = 'Completed'")
            .await;
    assert_eq!(done, [json!({"n": 100})]);
    let one = rows(&test, "SELECT * FROM devices.jobs WHERE deviceId = 'd007'").await;
    assert_eq!(
        (one.len(), &one[0]["outcome"], &one[0]["jobType"]),
        (1, &json!({"deviceMethodResponse": null}), &json!("scheduleUpdateTwin"))
    );
}

#[tokio::test(start_paused = true)]
async fn pages_over_job_records_give_each_once() {
    let test = TestHub::start().await;
    fleet(&test, 7).await;
    test.register("d000/m").await;
    for job in ["a", "b", "c"] {
        test.hub.job_create(&test.owner(), patching(job, "*", json!({"x": job}))).await.expect("created");
        ended(&test, job).await;
    }
    for (condition, expected) in [
        ("", 21),
        (" WHERE jobId = 'b'", 7),
        (" WHERE deviceId IN ['d001', 'd002', 'none']", 6),
        (" WHERE jobId IN ['c', 'a'] AND deviceId = 'd003'", 2),
        (" WHERE jobId = 'none'", 0),
    ] {
        let query = format!("SELECT * FROM devices.jobs{condition}");
        let (mut seen, mut token) = (std::collections::BTreeSet::new(), None::<String>);
        loop {
            let page =
                test.hub.query(&test.owner(), &query, Some(2), token.as_deref()).await.expect("a page");
            for row in &page.values() {
                assert!(seen.insert(format!("{} {}", row["jobId"], row["deviceId"])), "{query}: {row} twice");
            }
            assert!(!page.rows.is_empty() || expected == 0, "{query}: an empty page");
            token = page.continuation;
            if token.is_none() {
                break;
            }
        }
        assert_eq!(seen.len(), expected, "{query}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_waits_for_its_time_and_fails_if_that_was_missed() {
    let test = TestHub::start().await;
    fleet(&test, 3).await;
    let later = |seconds| Some(Timestamp::from_seconds(START_SECONDS + seconds));
    let job = NewJob { start: later(3600), ..patching("night", "*", json!({"x": 1})) };
    assert_eq!(
        test.hub.job_create(&test.owner(), job).await.expect("created").state.status,
        JobStatus::Scheduled
    );
    tokio::time::sleep(Duration::from_secs(10)).await;
    let waiting = test.hub.job_get(&test.owner(), &name("night")).await.expect("a job");
    assert_eq!((waiting.state.status, waiting.state.counts.targets()), (JobStatus::Scheduled, 0));
    // The set is fixed at the start: this one joins before, and is a target.
    test.register("late").await;
    test.advance(Duration::from_secs(3600));
    assert_eq!(ended(&test, "night").await.state.counts, counts(0, 0, 4, 0, 0));

    let day = Some(Duration::from_secs(60));
    let job = NewJob { start: later(7200), execution_max: day, ..patching("missed", "*", json!({"x": 2})) };
    test.hub.job_create(&test.owner(), job).await.expect("created");
    test.advance(Duration::from_secs(3600 + 61));
    let missed = ended(&test, "missed").await;
    assert_eq!((missed.state.status, missed.state.counts.targets()), (JobStatus::Failed, 0));
    assert!(missed.state.failure.expect("a reason").contains("did not run"));
}

#[tokio::test(start_paused = true)]
async fn names_are_taken_once_and_cancelling_has_its_time() {
    let test = TestHub::start().await;
    fleet(&test, 2).await;
    let start = Some(Timestamp::from_seconds(START_SECONDS + 3600));
    let job = NewJob { start, ..patching("a", "*", json!({"x": 1})) };
    test.hub.job_create(&test.owner(), job.clone()).await.expect("created");
    assert_eq!(
        test.hub.job_create(&test.owner(), job).await.expect_err("twice"),
        Error::JobExists(name("a"))
    );
    let cancelled = test.hub.job_cancel(&test.owner(), &name("a")).await.expect("cancelled");
    assert_eq!(cancelled.state.status, JobStatus::Cancelled);
    let over = test.hub.job_cancel(&test.owner(), &name("a")).await.expect_err("twice");
    assert_eq!(over, Error::JobOver { id: name("a"), status: JobStatus::Cancelled });
    assert_eq!(
        test.hub.job_cancel(&test.owner(), &name("b")).await.expect_err("unknown"),
        Error::JobNotFound(name("b"))
    );
    test.advance(Duration::from_secs(7200));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(
        rows(&test, "SELECT deviceId FROM devices WHERE is_defined(properties.desired.x)").await,
        [] as [Value; 0]
    );

    for who in ["registryRead", "registryReadWrite", "device"] {
        let refused = test.hub.job_create(&test.service(who), patching("c", "*", json!({}))).await;
        assert!(matches!(refused, Err(Error::Forbidden(_))), "{who}: {refused:?}");
    }
    let bad = test.hub.job_create(&test.owner(), patching("c", "SELECT * FROM devices", json!({}))).await;
    assert!(matches!(&bad, Err(Error::Invalid(text)) if text.contains("queryCondition")), "{bad:?}");
    test.hub
        .job_create(&test.owner(), patching("nobody", "tags.site = 'z'", json!({"x": 1})))
        .await
        .expect("created");
    let nobody = ended(&test, "nobody").await;
    assert_eq!((nobody.state.status, nobody.state.counts.targets()), (JobStatus::Completed, 0));
}

#[tokio::test(start_paused = true)]
async fn a_device_whose_twin_is_too_full_fails_alone() {
    let test = TestHub::start().await;
    fleet(&test, 10).await;
    let full = desired(Value::Object((0..8).map(|n| (format!("k{n}"), json!("x".repeat(4000)))).collect()));
    test.hub
        .twin_update(&test.owner(), &id("d004"), &full, WriteMode::Patch, &Precondition::None)
        .await
        .expect("just fits");
    test.hub
        .job_create(&test.owner(), patching("roll", "*", json!({"more": "y".repeat(2000)})))
        .await
        .expect("created");
    assert_eq!(ended(&test, "roll").await.state.counts, counts(0, 0, 9, 1, 0));
    let failed = rows(&test, "SELECT * FROM devices.jobs WHERE status = 'failed'").await;
    assert_eq!(
        (failed[0]["deviceId"].as_str(), failed[0]["error"]["code"].as_str()),
        (Some("d004"), Some("400004"))
    );
    assert!(failed[0]["error"]["description"].as_str().expect("text").contains("at most 32768"));
}

#[tokio::test(start_paused = true)]
async fn a_method_job_calls_who_is_there_and_says_who_was_not() {
    let test = TestHub::start().await;
    fleet(&test, 5).await;
    let _devices = [answering(&test, "d000", 200).await, answering(&test, "d001", 500).await];
    test.hub.job_create(&test.owner(), calling("call", 0, false)).await.expect("created");
    let job = ended(&test, "call").await;
    assert_eq!((job.state.status, job.state.counts), (JobStatus::Completed, counts(0, 0, 2, 3, 0)));
    let answers = rows(&test, "SELECT deviceId, outcome.deviceMethodResponse.status AS answer FROM devices.jobs WHERE status = 'completed'").await;
    assert_eq!(
        answers,
        [json!({"deviceId": "d000", "answer": 200}), json!({"deviceId": "d001", "answer": 500})]
    );
    let offline = rows(&test, "SELECT COUNT() AS n FROM devices.jobs WHERE error.code = '404103'").await;
    assert_eq!(offline, [json!({"n": 3})]);
}

#[tokio::test(start_paused = true)]
async fn a_method_job_waits_for_devices_as_long_as_it_was_told() {
    let test = TestHub::start().await;
    fleet(&test, 3).await;
    test.hub.job_create(&test.owner(), calling("call", 0, true)).await.expect("created");
    test.hub.job_create(&test.owner(), calling("short", 60, false)).await.expect("created");
    for job in ["call", "short"] {
        until(&test, job, |job| job.state.counts.pending == 3).await;
    }
    let _one = answering(&test, "d001", 200).await;
    for job in ["call", "short"] {
        let state = until(&test, job, |job| job.state.counts.succeeded == 1).await.state;
        assert_eq!(state.counts, counts(2, 0, 1, 0, 0));
    }
    test.advance(Duration::from_secs(61));
    assert_eq!(ended(&test, "short").await.state.counts, counts(0, 0, 1, 2, 0));
    let _two = answering(&test, "d002", 200).await;
    until(&test, "call", |job| job.state.counts.succeeded == 2).await;
    test.advance(Duration::from_secs(3600));
    assert_eq!(ended(&test, "call").await.state.counts, counts(0, 0, 2, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn cancelling_a_running_job_sends_nothing_more() {
    let test = TestHub::start().await;
    fleet(&test, 4).await;
    let (attachment, mut queue) = attached(&test, "d000").await;
    test.hub.job_create(&test.owner(), calling("call", 0, true)).await.expect("created");
    let Some(Downlink::Call { call, .. }) = queue.next().await else { panic!("the call comes") };
    let cancelled = test.hub.job_cancel(&test.owner(), &name("call")).await.expect("in time");
    assert_eq!(cancelled.state.status, JobStatus::Cancelled);
    let (_late, mut nothing) = attached(&test, "d001").await;
    until(&test, "call", |job| job.state.counts == counts(0, 1, 0, 0, 3)).await;
    test.hub.method_complete(&attachment, call, MethodResult { status: 200, payload: "null".into() });
    let job = ended(&test, "call").await;
    assert_eq!((job.state.status, job.state.counts), (JobStatus::Cancelled, counts(0, 0, 1, 0, 3)));
    assert!(nothing.try_next().is_none(), "a device was called after the job was cancelled");
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_and_tells_what_was_in_flight_from_what_was_not_sent() {
    let test = TestHub::start().await;
    fleet(&test, 3).await;
    let (_attachment, mut queue) = attached(&test, "d000").await;
    test.hub.job_create(&test.owner(), calling("call", 0, true)).await.expect("created");
    assert!(matches!(queue.next().await, Some(Downlink::Call { .. })));
    until(&test, "call", |job| job.state.counts == counts(2, 1, 0, 0, 0)).await;
    let start = Some(Timestamp::from_seconds(START_SECONDS + 600));
    let later = NewJob { start, ..patching("later", "*", json!({"x": 1})) };
    test.hub.job_create(&test.owner(), later).await.expect("created");

    let again = test.killed().await;
    let job = until(&again, "call", |job| job.state.counts.running == 0).await;
    assert_eq!(job.state.counts, counts(2, 0, 0, 1, 0));
    let unknown = rows(&again, "SELECT deviceId FROM devices.jobs WHERE error.code = 'OutcomeUnknown'").await;
    assert_eq!(unknown, [json!({"deviceId": "d000"})]);
    let (_attachment, mut queue) = attached(&again, "d000").await;
    let _others = [answering(&again, "d001", 200).await, answering(&again, "d002", 200).await];
    assert_eq!(ended(&again, "call").await.state.counts, counts(0, 0, 2, 1, 0));
    assert!(queue.try_next().is_none(), "a device was called twice");
    again.advance(Duration::from_secs(600));
    assert_eq!(ended(&again, "later").await.state.counts, counts(0, 0, 3, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn jobs_are_listed_by_kind_and_status_page_by_page_and_removed_in_time() {
    let test = TestHub::start().await;
    fleet(&test, 1).await;
    for job in ["a", "b", "c"] {
        test.hub.job_create(&test.owner(), patching(job, "*", json!({"x": 1}))).await.expect("created");
        ended(&test, job).await;
    }
    test.hub.job_create(&test.owner(), calling("d", 0, true)).await.expect("created");
    let list = async |kind, status, token: Option<String>| {
        let filter = JobFilter { kind, status };
        let page = test.hub.job_list(&test.owner(), filter, Some(2), token.as_deref()).await.expect("a page");
        let names: Vec<_> = page.jobs.iter().map(|job| job.spec.id.to_string()).collect();
        (names.join(" "), page.continuation)
    };
    let (first, token) = list(None, None, None).await;
    assert_eq!((first.as_str(), token.is_some()), ("a b", true));
    let (second, end) = list(None, None, token.clone()).await;
    assert_eq!((second.as_str(), end), ("c d", None));
    assert_eq!(list(Some("SCHEDULEDEVICEMETHOD"), None, None).await, ("d".into(), None));
    assert_eq!(list(None, Some(JobStatus::Failed), None).await, (String::new(), None));
    let other = JobFilter { kind: Some("scheduleUpdateTwin"), status: None };
    let wrong = test.hub.job_list(&test.owner(), other, None, token.as_deref()).await;
    assert_eq!(wrong.expect_err("of another list"), Error::InvalidContinuation);

    test.hub.job_cancel(&test.owner(), &name("d")).await.expect("cancelled");
    ended(&test, "d").await;
    test.advance(Duration::from_secs(30 * 24 * 3600 + 1));
    tokio::time::sleep(JOB_PRUNE_INTERVAL * 2).await;
    assert_eq!(list(None, None, None).await, (String::new(), None));
    assert_eq!(rows(&test, "SELECT * FROM devices.jobs").await, [] as [Value; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_says_not_now_is_asked_again_by_a_job_that_waits_for_devices() {
    let test = TestHub::start().await;
    fleet(&test, 3).await;
    let later = (503, r#"{"deferred":{"afterSeconds":600,"reason":"in use"}}"#);
    let mut devices = Vec::new();
    for (device, answers) in [("d000", vec![later]), ("d001", vec![(200, "1")]), ("d002", vec![later])] {
        devices.push(answering_in_turn(&test, device, &answers).await);
    }
    let create = async |test: &TestHub, job| test.hub.job_create(&test.owner(), job).await.map(drop);
    // As clients of the service know it: what the device answers is the outcome.
    create(&test, calling("plain", 0, false)).await.expect("created");
    assert_eq!(ended(&test, "plain").await.state.counts, counts(0, 0, 3, 0, 0));
    create(&test, calling("patient", 0, true)).await.expect("created");
    until(&test, "patient", |job| job.state.counts == counts(2, 0, 1, 0, 0)).await;
    let row = rows(&test, "SELECT * FROM devices.jobs WHERE jobId = 'patient' AND deviceId = 'd000'").await;
    assert_eq!(
        row[0]["lastError"],
        json!({"code": "DeviceDeferred", "description": "the device said not now: in use"})
    );
    assert_eq!(row[0]["notBeforeTimeUtc"], json!(Timestamp::from_seconds(START_SECONDS + 600).to_string()));
    // Nobody is asked again before, neither by time nor because the hub was started again.
    devices.drain(..).for_each(|device| device.abort());
    let again = test.killed().await;
    for (device, answers) in [("d000", vec![(200, "1")]), ("d002", vec![later])] {
        devices.push(answering_in_turn(&again, device, &answers).await);
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    until(&again, "patient", |job| job.state.counts == counts(2, 0, 1, 0, 0)).await;
    again.advance(Duration::from_secs(601));
    until(&again, "patient", |job| job.state.counts == counts(1, 0, 2, 0, 0)).await;
    // It is asked until the job is over, and its own words are kept then.
    again.advance(Duration::from_secs(3600));
    assert_eq!(ended(&again, "patient").await.state.counts, counts(0, 0, 2, 1, 0));
    let row = rows(&again, "SELECT * FROM devices.jobs WHERE jobId = 'patient' AND deviceId = 'd002'").await;
    assert_eq!(row[0]["error"]["code"], "DeviceDeferred");
}

#[tokio::test(start_paused = true)]
async fn a_device_that_said_not_now_and_left_is_waited_for() {
    let test = TestHub::start().await;
    fleet(&test, 2).await;
    let later = (429, r#"{"deferred":{"afterSeconds":30}}"#);
    let device = answering_in_turn(&test, "d000", &[later]).await;
    let management = Management::parse("rebootDevice", &json!({})).and_then(Result::ok).expect("a reboot");
    let action = JobAction::Manage { management, wait_for_devices: false };
    let job = NewJob { action, ..patching("reboot", "*", json!({})) };
    test.hub.job_create(&test.owner(), job).await.expect("created");
    // Whoever never was there is not waited for.
    until(&test, "reboot", |job| job.state.counts == counts(1, 0, 0, 1, 0)).await;
    device.abort();
    let _ = device.await;
    test.advance(Duration::from_secs(60));
    tokio::time::sleep(Duration::from_secs(5)).await;
    until(&test, "reboot", |job| job.state.counts == counts(1, 0, 0, 1, 0)).await;
    let _back = answering(&test, "d000", 202).await;
    until(&test, "reboot", |job| job.state.counts == counts(0, 1, 0, 1, 0)).await;
}
