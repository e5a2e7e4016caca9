//! Jobs: what is refused, what comes next in every state, and counts that add up whatever happens.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::id::{DeviceId, TwinId};
use crate::limits::JOB_LISTED_DEVICES_MAX;
use crate::method::MethodResult;
use crate::query::Row;
use crate::rollout::{Outcome, Rollout, RolloutState};
use crate::twin::Twin;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(1_700_000_000 + seconds)
}

fn spec(condition: &str, start: Option<i64>, execution: Option<u64>) -> Result<JobSpec, JobError> {
    let action = JobAction::PatchTwin(TwinUpdate::default());
    let id = JobId::parse("roll-1").expect("an id");
    let new = NewJob {
        id,
        action,
        condition: condition.into(),
        listed: None,
        start: start.map(at),
        execution_max: execution.map(Duration::from_secs),
        device_timeout: None,
        rollout: None,
        gates: None,
        roll_back: None,
    };
    JobSpec::new(new, Actor::Hub, 7, at(0))
}

#[test]
fn requests_are_checked() {
    for (condition, start, execution, part) in [
        ("tags.site = ", None, None, "queryCondition is invalid"),
        ("SELECT * FROM devices", None, None, "queryCondition is invalid"),
        ("", None, None, "'*' selects every device"),
        ("FROM devices.jobs WHERE status = 'failed'", None, None, "devices.modules"),
        ("*", None, Some(0), "within [1; 2592000]"),
        ("*", None, Some(2_592_001), "within [1; 2592000]"),
        ("*", Some(400 * 86_400), None, "at most 366 days ahead"),
    ] {
        let text = spec(condition, start, execution).expect_err(condition).to_string();
        assert!(text.contains(part), "{condition}: {text}");
    }
    let past = spec("tags.site = 'a'", Some(-100), None).expect("valid");
    assert_eq!((past.start, past.deadline()), (at(0), at(3600)));
    spec("FROM devices.modules WHERE moduleId = 'm'", None, None).expect("modules can be targets");
}

#[test]
fn what_comes_next() {
    use JobStatus::{Cancelled, Completed, Failed, Queued, Running, Scheduled};
    let spec = spec("*", Some(100), Some(50)).expect("valid");
    for (status, all_found, pending, running, now, expected) in [
        (Scheduled, false, 0, 0, 0, Step::WaitUntil(at(100))),
        (Scheduled, false, 0, 0, 99, Step::WaitUntil(at(100))),
        (Scheduled, false, 0, 0, 100, Step::Begin),
        (Queued, false, 0, 0, 149, Step::Begin),
        (Queued, false, 0, 0, 150, Step::Miss),
        (Running, false, 5, 0, 100, Step::Find),
        (Running, false, 5, 0, 500, Step::Find),
        (Running, true, 5, 3, 149, Step::Run),
        (Running, true, 5, 3, 150, Step::Expire),
        (Running, true, 0, 3, 149, Step::Await),
        (Running, true, 0, 3, 150, Step::Await),
        (Running, true, 0, 0, 149, Step::Finish),
        (Cancelled, false, 5, 0, 149, Step::Cancel),
        (Cancelled, true, 0, 3, 149, Step::Await),
        (Cancelled, true, 0, 0, 149, Step::Finish),
        (Completed, true, 0, 0, 149, Step::Finish),
        (Failed, true, 2, 0, 149, Step::Expire),
    ] {
        let mut state = JobState::new(at(0), at(100));
        state.status = status;
        state.all_found = all_found;
        state.counts = JobCounts { pending, running, ..JobCounts::default() };
        assert_eq!(
            state.next_step(&spec, at(now)),
            expected,
            "{status} {all_found} {pending} {running} {now}"
        );
        state.ended = Some(at(now));
        assert_eq!(state.next_step(&spec, at(now)), Step::Over);
    }
}

#[test]
fn cancelling_before_the_start_ends_it_and_after_the_end_is_too_late() {
    let mut waiting = JobState::new(at(0), at(100));
    assert_eq!(waiting.status, JobStatus::Scheduled);
    assert!(waiting.cancel(at(1)) && waiting.is_over());
    assert!(!waiting.cancel(at(2)), "twice");
    let mut running = JobState::new(at(0), at(0));
    assert_eq!(running.status, JobStatus::Queued);
    running.begin(at(0));
    assert!(running.cancel(at(1)) && !running.is_over(), "targets are still to be settled");
    running.finish(at(2));
    assert_eq!((running.status, running.ended), (JobStatus::Cancelled, Some(at(2))));
}

#[test]
fn rows_look_as_documented() {
    let spec = spec("*", None, None).expect("valid");
    let id = TwinId::parse("d1", None).expect("an id");
    let pending = JobItem::new(id.clone(), at(0));
    assert_eq!(
        JobRow::new(&spec, &pending, None).document(),
        json!({
            "deviceId": "d1", "jobId": "roll-1", "jobType": "scheduleUpdateTwin", "status": "pending",
            "createdDateTimeUtc": at(0).to_string(), "lastUpdatedDateTimeUtc": at(0).to_string(),
        })
    );
    let answer = MethodResult { status: 200, payload: r#"{"ok":true}"#.into() };
    let done = pending.clone().run(at(1)).settle(Ok(Some(answer)), at(2));
    let row = JobRow::new(&spec, &done, None).document();
    assert_eq!(row["outcome"], json!({"deviceMethodResponse": {"status": 200, "payload": {"ok": true}}}));
    assert_eq!(
        (row["startTimeUtc"].clone(), row["endTimeUtc"].clone()),
        (json!(at(1).to_string()), json!(at(2).to_string()))
    );
    let error = ItemError { code: "404103".into(), description: "offline".into() };
    let failed = JobRow::new(&spec, &pending.clone().settle(Err(error), at(2)), None).document();
    assert_eq!((failed["status"].as_str(), failed.get("outcome")), (Some("failed"), None));
    assert_eq!(failed["error"], json!({"code": "404103", "description": "offline"}));
    assert_eq!(JobRow::new(&spec, &pending.cancel(at(3)), None).document()["status"], "canceled");
}

proptest! {
    #[test]
    fn counts_always_add_up_to_the_targets(moves in proptest::collection::vec((0..40_usize, 0..6_u8), 0..200)) {
        let mut state = JobState::new(at(0), at(0));
        state.begin(at(0));
        let id = |n: usize| TwinId::parse(&format!("d{n}"), None).expect("an id");
        let mut items: Vec<_> = (0..40).map(|n| JobItem { wave: Some(u32::from(n >= 10)), ..JobItem::new(id(n), at(0)) }).collect();
        state.found(40, Some(id(39)), true);
        state.rollout = Some(RolloutState::new("a", &[10, 30]));
        let error = || ItemError { code: "504101".into(), description: "silent".into() };
        for (n, what) in moves {
            let from = items[n].clone();
            let to = match (what, from.status) {
                // Dispatched by whoever asks the rollout, which is not asked here.
                (0, ItemStatus::Pending) => from.clone().cancel(at(2)),
                (1, ItemStatus::Pending) => from.clone().settle(Err(error()), at(2)),
                _ => continue,
            };
            state.moved(&from, &to, at(2));
            items[n] = to;
            prop_assert_eq!(state.counts.targets(), 40);
            let waves = &state.rollout.as_ref().expect("planned").waves;
            prop_assert_eq!((waves[0].targets(), waves[1].targets()), (10, 30));
            prop_assert_eq!(waves.iter().map(|wave| wave.pending).sum::<u64>(), state.counts.pending);
            let skipped = items.iter().filter(|item| item.status == ItemStatus::Cancelled).count() as u64;
            prop_assert_eq!(waves.iter().map(|wave| wave.skipped).sum::<u64>(), skipped);
            prop_assert_eq!(state.counts.cancelled, skipped);
        }
    }
}

fn rolled(policy: serde_json::Value, action: JobAction) -> Result<JobSpec, JobError> {
    let new = NewJob {
        id: JobId::parse("roll-1").expect("an id"),
        action,
        condition: "*".into(),
        listed: None,
        start: None,
        execution_max: None,
        device_timeout: None,
        rollout: Some(Rollout::parse(&policy).expect("a policy")),
        gates: None,
        roll_back: None,
    };
    JobSpec::new(new, Actor::Hub, 7, at(0))
}

fn calling() -> JobAction {
    let call = crate::method::MethodCall::new("go", None, None, None).expect("a call");
    JobAction::CallMethod { call, wait_for_devices: false }
}

#[test]
fn answers_decide_whether_and_when_a_device_is_tried_again() {
    let spec = rolled(json!({}), calling()).expect("a job");
    let item = JobItem::new(TwinId::parse("d", None).expect("an id"), at(0)).run(at(1));
    let check = |status: i32, payload: &str, now: i64, expected: (ItemStatus, &str, Option<Outcome>)| {
        let answer = MethodResult { status, payload: payload.into() };
        let after = spec.taken(item.clone(), Ok((Some(answer), None)), at(now));
        let code = after.error.as_ref().map_or("", |error| error.code.as_str()).to_owned();
        assert_eq!((after.status, code.as_str(), after.outcome()), expected, "{status} {payload}");
        after
    };
    check(200, "null", 2, (ItemStatus::Completed, "", Some(Outcome::Succeeded)));
    check(404, "null", 2, (ItemStatus::Failed, "DeviceRejected", Some(Outcome::Rejected)));
    check(500, "null", 2, (ItemStatus::Failed, "DeviceFailed", Some(Outcome::Failed)));
    let later = check(
        200,
        r#"{"deferred":{"afterSeconds":900,"reason":"in use"}}"#,
        2,
        (ItemStatus::Pending, "DeviceDeferred", None),
    );
    assert_eq!((later.not_before, later.started, later.is_retrying()), (Some(at(902)), Some(at(1)), true));
    assert_eq!(
        later.error.as_ref().map(|error| error.description.as_str()),
        Some("the device said not now: in use")
    );
    // Nothing is tried again behind the job's end.
    check(
        503,
        r#"{"deferred":{"afterSeconds":7200}}"#,
        2,
        (ItemStatus::Failed, "DeviceDeferred", Some(Outcome::TimedOut)),
    );
    let error = |code: &str| ItemError { code: code.into(), description: String::new() };
    for (code, status, outcome) in [
        ("404103", ItemStatus::Pending, None),
        ("504101", ItemStatus::Pending, None),
        ("404001", ItemStatus::Failed, Some(Outcome::Skipped)),
        (outcome::OUTCOME_UNKNOWN, ItemStatus::Failed, Some(Outcome::Failed)),
        (outcome::DEVICE_BUSY, ItemStatus::Failed, Some(Outcome::Rejected)),
        (outcome::JOB_TIME_OVER, ItemStatus::Failed, Some(Outcome::TimedOut)),
    ] {
        let after = spec.taken(item.clone(), Err(error(code)), at(2));
        assert_eq!((after.status, after.outcome()), (status, outcome), "{code}");
    }
    let plain = self::spec("*", None, None).expect("valid");
    let after = plain.taken(item.clone(), Err(error("404103")), at(2));
    assert_eq!(after.status, ItemStatus::Failed, "without a rollout nothing is tried again");
}

#[test]
fn not_now_is_honoured_without_a_rollout_unless_it_is_a_method_as_the_service_knows_it() {
    let method = |wait_for_devices| match calling() {
        JobAction::CallMethod { call, .. } => JobAction::CallMethod { call, wait_for_devices },
        other => other,
    };
    let reboot = Management::parse("rebootDevice", &json!({})).and_then(Result::ok).expect("a reboot");
    let reboot = JobAction::Manage { management: reboot, wait_for_devices: false };
    let erase = crate::method::MethodCall::new("erase", None, None, None).ok();
    let request = RetireRequest { erase, ..RetireRequest::default() };
    let retire = JobAction::Retire { request, wait_for_devices: false };
    let (soon, late) = (r#"{"deferred":{"afterSeconds":5}}"#, r#"{"deferred":{"afterSeconds":7200}}"#);
    for (action, payload, status, not_before) in [
        (method(false), soon, ItemStatus::Completed, None),
        (method(true), soon, ItemStatus::Pending, Some(at(7))),
        // Not when the job is over by then.
        (method(true), late, ItemStatus::Failed, None),
        (reboot.clone(), soon, ItemStatus::Pending, Some(at(7))),
        (reboot, late, ItemStatus::Failed, None),
        (retire, "null", ItemStatus::Pending, Some(at(62))),
    ] {
        let spec = JobSpec { rollout: None, ..rolled(json!({}), action.clone()).expect("a job") };
        let item = JobItem::new(TwinId::parse("d", None).expect("an id"), at(0)).run(at(1));
        let answer = MethodResult { status: 503, payload: payload.into() };
        let after = spec.taken(item, Ok((Some(answer), None)), at(2));
        assert_eq!((after.status, after.not_before), (status, not_before), "{action:?} {payload}");
        let code = after.error.as_ref().map(|error| error.code.as_str());
        assert_eq!(code, (status != ItemStatus::Completed).then_some(outcome::DEVICE_DEFERRED), "{action:?}");
    }
}

#[test]
fn what_a_patch_took_away_is_brought_back() {
    use crate::twin::{TwinPatch, WriteMode};
    use crate::version::Precondition;
    let patch = |value| TwinPatch::from_value(value).expect("a patch");
    let update = |tags, desired| TwinUpdate { tags: Some(patch(tags)), desired: Some(patch(desired)) };
    let write = |twin: &Twin, update: &TwinUpdate| {
        twin.update(update, WriteMode::Patch, &Precondition::None, at(1)).expect("it fits").0
    };
    let former =
        write(&Twin::new(at(0)), &update(json!({"ring": 1}), json!({"a": {"b": 1, "c": 2}, "d": [1]})));
    let action = JobAction::PatchTwin(update(
        json!({"ring": 2, "new": {"x": 1}}),
        json!({"a": {"b": 5, "e": 1}, "d": {"f": 1}, "a2": null}),
    ));
    let spec = rolled(json!({"onStop": "rollBack"}), action.clone()).expect("a job");
    let item = spec.begin(JobItem::new(TwinId::parse("d", None).expect("an id"), at(0)), &former, at(1));
    let JobAction::PatchTwin(wanted) = &action else { unreachable!() };
    let patched = write(&former, wanted);
    assert_ne!(patched.desired.values, former.desired.values);
    let restored = write(&patched, &JobSpec::restoring(&item).expect("it was patched"));
    assert_eq!(
        (restored.tags, restored.desired.values),
        (former.tags.clone(), former.desired.values.clone())
    );
    // A second attempt does not take its own first for what was there before.
    let again = spec.begin(JobItem { status: ItemStatus::Pending, ..item.clone() }, &patched, at(3));
    assert_eq!(again.before, item.before);
    let text = rolled(json!({"onStop": "rollBack"}), calling()).expect_err("no way back").to_string();
    assert!(text.contains("give rollBack"), "{text}");
}

#[test]
fn retirements_are_checked_and_have_a_way_back() {
    let retire = |request| JobAction::Retire { request, wait_for_devices: false };
    let plain = rolled(json!({"onStop": "rollBack"}), retire(RetireRequest::default())).expect("a job");
    let undo = plain.undo(at(5)).expect("it can be undone");
    assert_eq!((undo.action, undo.undoes), (JobAction::RestoreDevice, Some(plain.id.clone())));
    assert!(plain.rights().allow(Rights::REGISTRY_WRITE.with(Rights::SERVICE_CONNECT)));
    assert_eq!(rolled(json!({}), calling()).expect("a job").rights(), Rights::SERVICE_CONNECT);

    let reports = json!({"success": {"condition": "properties.reported.done = true"}});
    let new = |condition: &str, listed: Option<Vec<&str>>, request: RetireRequest| NewJob {
        id: JobId::parse("leave").expect("an id"),
        action: retire(request),
        condition: condition.into(),
        listed: listed.map(|ids| ids.into_iter().map(|id| DeviceId::parse(id).expect("an id")).collect()),
        start: None,
        execution_max: None,
        device_timeout: None,
        rollout: None,
        gates: None,
        roll_back: None,
    };
    let too_many: Vec<String> = (0..=JOB_LISTED_DEVICES_MAX).map(|n| format!("d{n}")).collect();
    let too_many: Vec<&str> = too_many.iter().map(String::as_str).collect();
    let long = RetireRequest { reason: Some("x".repeat(10_000)), ..RetireRequest::default() };
    let request = RetireRequest::default;
    for (bad, part) in [
        (new("FROM devices.modules WHERE moduleId = 'm'", None, request()), "devices are retired"),
        (new("*", Some(Vec::new()), request()), "devices is empty"),
        (new("*", Some(too_many.clone()), request()), "at most 10000"),
        (new("*", None, long), "parameters: reason has 10000 characters"),
        (NewJob { rollout: Rollout::parse(&reports).ok(), ..new("*", None, request()) }, "reports nothing"),
    ] {
        let text = JobSpec::new(bad, Actor::Hub, 7, at(0)).expect_err(part).to_string();
        assert!(text.contains(part), "{part}: {text}");
    }
    JobSpec::new(new("*", Some(too_many[1..].to_vec()), request()), Actor::Hub, 7, at(0))
        .expect("as many as go");
    let listed = JobSpec::new(new("*", Some(vec!["b", "a", "b"]), request()), Actor::Hub, 7, at(0));
    let ids = listed.expect("a job").listed.expect("a list");
    assert_eq!(ids.iter().map(DeviceId::as_str).collect::<Vec<_>>(), ["a", "b"]);
}
