//! Jobs: what is refused, what comes next in every state, and counts that add up whatever happens.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::id::TwinId;
use crate::method::MethodResult;
use crate::query::Row;

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
        start: start.map(at),
        execution_max: execution.map(Duration::from_secs),
        device_timeout: None,
    };
    JobSpec::new(new, at(0))
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

/// One thing that can happen to a running job.
#[derive(Clone, Debug)]
enum Event {
    Find(u64),
    Run(u64),
    SettleRunning(u64, u64),
    SettlePending(u64, u64),
    Cancel(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0..50_u64).prop_map(Event::Find),
        (0..50_u64).prop_map(Event::Run),
        (0..50_u64, 0..50_u64).prop_map(|(a, b)| Event::SettleRunning(a, b)),
        (0..50_u64, 0..50_u64).prop_map(|(a, b)| Event::SettlePending(a, b)),
        (0..50_u64).prop_map(Event::Cancel),
    ]
}

proptest! {
    #[test]
    fn counts_always_add_up_to_the_targets(events in proptest::collection::vec(event(), 0..60)) {
        let mut state = JobState::new(at(0), at(0));
        state.begin(at(0));
        let mut targets = 0;
        for event in events {
            let counts = state.counts;
            let split = |most: u64, a: u64, b: u64| {
                let succeeded = a.min(most);
                Settled { succeeded, failed: b.min(most - succeeded) }
            };
            match event {
                Event::Find(count) => {
                    targets += count;
                    state.found(count, None, false);
                }
                Event::Run(count) => state.run(count.min(counts.pending)),
                Event::SettleRunning(a, b) => state.settle_running(split(counts.running, a, b)),
                Event::SettlePending(a, b) => state.settle_pending(split(counts.pending, a, b)),
                Event::Cancel(count) => state.cancelled(count.min(counts.pending)),
            }
            prop_assert_eq!(state.counts.targets(), targets);
        }
    }
}
