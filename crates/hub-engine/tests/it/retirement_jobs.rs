//! Retiring as a rollout: in waves, with receipts, undone, and cut off in the middle.

use std::time::Duration;

use hub_domain::context::Gates;
use hub_domain::job::{JobAction, JobStatus, NewJob};
use hub_domain::link::Downlink;
use hub_domain::method::{MethodCall, MethodResult};
use hub_domain::retirement::RetireRequest;
use hub_domain::rollout::{Phase, Rollout};
use hub_engine::Error;
use hub_engine::rollouts::{Decision, DryRunGuess};
use hub_testkit::TestHub;
use serde_json::{Value, json};

use crate::id;
use crate::jobs::{counts, ended, fleet, name, patching, rows, until};
use crate::retirement::{attached, device, lifecycle, report, signed_by};

fn retiring(job: &str, request: RetireRequest) -> NewJob {
    let action = JobAction::Retire { request, wait_for_devices: false };
    NewJob { action, ..patching(job, "*", json!({})) }
}

fn rolling(job: NewJob, rollout: Value) -> NewJob {
    NewJob { rollout: Some(Rollout::parse(&rollout).expect("a policy")), ..job }
}

fn erasing(force: bool) -> RetireRequest {
    let call = MethodCall::new("wipe", None, Some(5), None).expect("a call");
    RetireRequest { erase: Some(call), force, ..RetireRequest::default() }
}

async fn create(test: &TestHub, job: NewJob) {
    test.hub.job_create(&test.owner(), job).await.expect("created");
}

async fn count(test: &TestHub, query: &str) -> u64 {
    let rows = rows(test, &format!("SELECT COUNT() AS n FROM {query}")).await;
    rows.first().and_then(|row| row["n"].as_u64()).unwrap_or(0)
}

/// A device that answers each call of its erase method with the next of these statuses, the last for ever, and with a
/// receipt if it is 200.
async fn erases(test: &TestHub, name: &str, statuses: &'static [i32]) {
    let (attachment, mut queue) = attached(test, name).await;
    let view = test.hub.identity_get(&test.owner(), &id(name)).expect("registered");
    let key = view.identity.authentication.keys().expect("keys").primary.clone();
    let (hub, of) = (test.hub.clone(), device(name));
    tokio::spawn(async move {
        let mut statuses = statuses.iter();
        let mut status = 200;
        while let Some(link) = queue.next().await {
            let Downlink::Call { call, payload, .. } = link else { continue };
            status = statuses.next().copied().unwrap_or(status);
            let given: Value = serde_json::from_str(&payload).expect("an object");
            let payload = match status {
                200 => signed_by(&key, &of, &given["nonce"]),
                _ => Value::Null,
            };
            hub.method_complete(&attachment, call, MethodResult { status, payload: payload.to_string() });
        }
    });
}

#[tokio::test(start_paused = true)]
async fn devices_are_retired_wave_by_wave_and_brought_back() {
    let test = TestHub::start().await;
    fleet(&test, 20).await;
    let request = RetireRequest { reason: Some("end of lease".into()), ..RetireRequest::default() };
    let policy = json!({
        "waves": [{"devices": 3}, {"rest": true}], "advance": {"approval": "secondPerson"},
        "stratifyBy": "tags.site", "limits": {"perTag": {"path": "tags.site", "inFlight": 1}},
    });
    let job = rolling(retiring("leave", request), policy);
    let guess = DryRunGuess { per_device: Duration::from_secs(1), bytes_per_device: 0 };
    let found = test.hub.job_dry_run(&test.owner(), job.clone(), guess).await.expect("thought through");
    assert_eq!((found.targets, found.reasons["go"].devices), (20, 20));
    for refused in [
        test.hub.job_create(&test.service("service"), job.clone()).await.map(drop),
        test.hub.job_create(&test.service("registryReadWrite"), job.clone()).await.map(drop),
        test.hub.job_dry_run(&test.service("service"), job.clone(), guess).await.map(drop),
    ] {
        assert!(matches!(refused, Err(Error::Forbidden(_))), "{refused:?}");
    }
    create(&test, job).await;
    let waits = |job: &hub_engine::jobs::Job| {
        job.state.rollout.as_ref().is_some_and(|it| matches!(it.phase, Phase::AwaitingApproval { .. }))
    };
    let job = until(&test, "leave", waits).await;
    assert_eq!(job.state.counts, counts(17, 0, 3, 0, 0));
    assert_eq!((count(&test, "devices").await, count(&test, "devices.retired").await), (17, 3));
    let record = rows(&test, "SELECT deviceId, status FROM devices.jobs WHERE status = 'completed'").await;
    let first = record[0]["deviceId"].as_str().expect("an id").to_owned();
    let view = test.hub.retired_get(&test.owner(), &device(&first)).await.expect("retired");
    assert_eq!(view.retirement.by.to_string(), "job:leave");
    assert_eq!(view.retirement.reason.as_deref(), Some("end of lease"));
    let decide = async |policy: &str, decision: Decision| {
        test.hub.job_decide(&test.service(policy), &name("leave"), &decision).await.map(drop)
    };
    for decision in [Decision::Approve, Decision::Resume, Decision::RollBack(String::new())] {
        let refused = decide("service", decision).await.expect_err("it may not retire");
        assert!(matches!(refused, Error::Forbidden(_)), "{refused:?}");
    }
    let refused = decide("iothubowner", Decision::Approve).await.expect_err("who asked");
    assert!(refused.to_string().contains("second person"), "{refused}");
    // Somebody else restores one of them in between: it stays.
    test.hub.retired_restore(&test.owner(), &device(&first), false).await.expect("restored");
    decide("service", Decision::Pause("wrong site".into()))
        .await
        .expect("whoever has to do with jobs may stop one");
    decide("iothubowner", Decision::RollBack("wrong site".into())).await.expect("rolled back");
    let job = ended(&test, "leave").await;
    assert_eq!((job.state.status, job.state.counts), (JobStatus::Cancelled, counts(0, 0, 3, 0, 17)));
    let undo = ended(&test, "leave-rollback").await;
    assert_eq!((undo.state.status, undo.state.counts), (JobStatus::Completed, counts(0, 0, 3, 0, 0)));
    assert_eq!((count(&test, "devices").await, count(&test, "devices.retired").await), (20, 0));
    let steps = lifecycle(&test, &first).await;
    assert_eq!(steps.iter().filter(|step| step.starts_with("restore")).count(), 1, "{steps:?}");
}

#[tokio::test(start_paused = true)]
async fn receipts_are_asked_for_and_deferred_and_missing_ones_told() {
    let test = TestHub::start().await;
    fleet(&test, 5).await;
    erases(&test, "d000", &[200]).await;
    erases(&test, "d001", &[503, 200]).await;
    erases(&test, "d002", &[500]).await;
    erases(&test, "d003", &[201]).await;
    let job = NewJob { execution_max: Some(Duration::from_secs(1800)), ..retiring("wipe", erasing(false)) };
    create(&test, rolling(job, json!({}))).await;
    until(&test, "wipe", |job| job.state.counts == counts(2, 0, 1, 2, 0)).await;
    test.advance(Duration::from_secs(400));
    until(&test, "wipe", |job| job.state.counts == counts(1, 0, 2, 2, 0)).await;
    test.advance(Duration::from_secs(1500));
    let job = ended(&test, "wipe").await;
    assert_eq!(job.state.counts, counts(0, 0, 2, 2, 1), "the last was never there");
    for name in ["d000", "d001"] {
        let view = test.hub.retired_get(&test.owner(), &device(name)).await.expect("retired");
        assert!(view.retirement.receipt.is_some() && view.retirement.unproven.is_none());
    }
    let errors =
        rows(&test, "SELECT deviceId, error.code AS code FROM devices.jobs WHERE status = 'failed'").await;
    let expected = [("d002", "DeviceFailed"), ("d003", "NoReceipt")];
    assert_eq!(errors, expected.map(|(id, code)| json!({"deviceId": id, "code": code})));
    assert_eq!(count(&test, "devices").await, 3, "without proof nobody is retired");

    // With force whoever cannot prove it is retired all the same; who says not now is asked again.
    erases(&test, "d003", &[503]).await;
    create(&test, rolling(retiring("forced", erasing(true)), json!({}))).await;
    until(&test, "forced", |job| job.state.counts == counts(1, 0, 2, 0, 0)).await;
    test.hub.job_cancel(&test.owner(), &name("forced")).await.expect("cancelled");
    ended(&test, "forced").await;
    for (name, why) in [("d002", "500"), ("d004", "Timed out waiting for device to connect")] {
        let view = test.hub.retired_get(&test.owner(), &device(name)).await.expect("retired");
        let unproven = view.retirement.unproven.expect("it says so");
        assert!(unproven.contains(why), "{name}: {unproven}");
    }
    // Without a rollout, too, up to the end of the job.
    create(&test, retiring("plain", erasing(false))).await;
    until(&test, "plain", |job| job.state.counts == counts(1, 0, 0, 0, 0)).await;
    test.advance(Duration::from_secs(3600));
    let plain = ended(&test, "plain").await;
    assert_eq!(plain.state.counts, counts(0, 0, 0, 1, 0));
    assert_eq!(count(&test, "devices").await, 1);
}

#[tokio::test(start_paused = true)]
async fn listed_devices_gates_and_devices_of_other_rollouts() {
    let test = TestHub::start().await;
    fleet(&test, 5).await;
    let held = json!({"success": {"condition": "properties.reported.done = true"}});
    create(&test, rolling(patching("first", "deviceId = 'd000'", json!({"rate": 1})), held)).await;
    until(&test, "first", |job| job.state.counts.running == 1).await;
    test.hub.device_retire(&test.owner(), &device("d003"), &RetireRequest::default()).await.expect("retired");
    report(&test, "d001", json!({"context": {"power": {"batteryPercent": 5}}})).await;
    report(&test, "d002", json!({"context": {"power": {"batteryPercent": 95}}})).await;
    let listed = ["nobody", "d003", "d002", "d001", "d000", "d001"].map(device);
    let gates = Gates::parse(&json!({"power": {"minimumBatteryPercent": 50, "unknown": "open"}}));
    let job = NewJob {
        listed: Some(listed.into()),
        gates: Some(gates.expect("gates")),
        ..retiring("some", RetireRequest::default())
    };
    create(&test, rolling(job, json!({"whenBusy": "refuse"}))).await;
    let job = until(&test, "some", |job| job.state.counts == counts(1, 0, 1, 3, 0)).await;
    assert_eq!(job.state.counts.targets(), 5, "each once");
    let rows_of =
        "SELECT deviceId, error.code AS code FROM devices.jobs WHERE jobId = 'some' AND status = 'failed'";
    let expected = [("d000", "DeviceBusy"), ("d003", "DeviceRetired"), ("nobody", "404001")];
    assert_eq!(rows(&test, rows_of).await, expected.map(|(id, code)| json!({"deviceId": id, "code": code})));
    report(&test, "d001", json!({"context": {"power": {"batteryPercent": 60}}})).await;
    assert_eq!(ended(&test, "some").await.state.counts, counts(0, 0, 2, 3, 0));
    // Retired by hand while a rollout has it: that fails there at once, and is not held against the rollout.
    test.hub.device_retire(&test.owner(), &device("d000"), &RetireRequest::default()).await.expect("retired");
    let first = ended(&test, "first").await;
    assert_eq!((first.state.status, first.state.counts), (JobStatus::Completed, counts(0, 0, 0, 1, 0)));
    assert_eq!(count(&test, "devices").await, 1, "d004 was not listed");
}
