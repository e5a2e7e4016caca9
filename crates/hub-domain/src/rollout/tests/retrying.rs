//! Which attempts are tried again, and when.

use std::time::Duration;

use serde_json::json;

use super::{at, device, rollout};
use crate::rollout::*;

#[test]
fn answers_have_a_class() {
    for (status, class, outcome) in [
        (200, None, Outcome::Succeeded),
        (299, None, Outcome::Succeeded),
        (404, Some(Class::Rejected), Outcome::Rejected),
        (429, Some(Class::Deferred), Outcome::TimedOut),
        (503, Some(Class::Deferred), Outcome::TimedOut),
        (500, Some(Class::Failed), Outcome::Failed),
        (0, Some(Class::Failed), Outcome::Failed),
        (-1, Some(Class::Failed), Outcome::Failed),
    ] {
        assert_eq!(Class::of_status(status), class, "{status}");
        assert_eq!(class.map_or(Outcome::Succeeded, Class::outcome), outcome, "{status}");
    }
}

#[test]
fn each_class_has_its_own_patience() {
    let policy = rollout(json!({
        "retry": {
            "offline": {"maxRetries": 4, "initialInSeconds": 10, "factor": 3, "maxInSeconds": 60},
            "timedOut": {"maxRetries": 1, "initialInSeconds": 100, "factor": 1, "maxInSeconds": 100},
        },
        "deviceTimeoutInSeconds": 1000,
    }));
    let first = at(0);
    // Between half of the delay and all of it; `None` is never.
    for (class, retries, now, again_at, expected) in [
        (Class::Offline, 0, 0, None, Some((5, 10))),
        (Class::Offline, 1, 0, None, Some((15, 30))),
        (Class::Offline, 2, 0, None, Some((30, 60))),
        (Class::Offline, 3, 0, None, Some((30, 60))),
        (Class::Offline, 4, 0, None, None),
        (Class::Offline, u64::MAX, 0, None, None),
        (Class::TimedOut, 0, 500, None, Some((550, 600))),
        (Class::TimedOut, 0, 950, None, None),
        (Class::TimedOut, 1, 0, None, None),
        (Class::Rejected, 0, 0, None, None),
        (Class::Failed, 0, 0, None, None),
        (Class::Deferred, 0, 0, None, Some((150, 300))),
        // The device's own word, if it is later; never past the device's deadline.
        (Class::Deferred, 0, 0, Some(700), Some((700, 700))),
        (Class::Deferred, 0, 0, Some(20), Some((150, 300))),
        (Class::Deferred, 0, 0, Some(1000), None),
        // A device whose clock is a year off.
        (Class::Deferred, 0, 0, Some(366 * 86_400), None),
        (Class::Deferred, 0, 0, Some(-366 * 86_400), Some((150, 300))),
    ] {
        let attempt = Attempt { class, retries, first, again_at: again_at.map(at) };
        for number in 0..200 {
            match (policy.retry(&attempt, policy.spread(&device(number)), at(now)), expected) {
                (Retry::Never, None) => {}
                (Retry::At(time), Some((from, to))) => {
                    assert!((at(from)..=at(to)).contains(&time), "{attempt:?}: {time}");
                }
                (found, _) => panic!("{attempt:?}: {found:?}, expected {expected:?}"),
            }
        }
    }
}

#[test]
fn devices_are_spread_over_the_back_off_and_over_the_start() {
    let policy = rollout(json!({"jitterInSeconds": 100, "seed": 4}));
    let attempt = Attempt { class: Class::Offline, retries: 0, first: at(0), again_at: None };
    let starts: Vec<Duration> = (0..1000).map(|n| policy.start_jitter(&device(n))).collect();
    let early = starts.iter().filter(|start| **start < Duration::from_secs(50)).count();
    assert!((430..570).contains(&early), "{early}");
    assert!(starts.iter().all(|start| *start < Duration::from_secs(100)));
    let retry = |n| policy.retry(&attempt, policy.spread(&device(n)), at(0));
    let early = (0..1000).filter(|n| matches!(retry(*n), Retry::At(time) if time < at(45))).count();
    assert!((430..570).contains(&early), "{early}");
    assert_eq!(retry(1), retry(1), "the same after a restart");
    assert_eq!(rollout(json!({})).start_jitter(&device(1)), Duration::ZERO);
}
