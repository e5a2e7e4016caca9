//! What comes next in which state, who may decide what, and what the rules count.

use serde_json::{Value, json};

use super::{at, rollout};
use crate::rollout::*;

/// A state after some of what happened to its waves: `[pending, in flight, retrying, succeeded, failed, timed out,
/// rejected, skipped]` for each wave, of which the first `opened` are open.
fn state(waves: &[[u64; 8]], opened: usize) -> RolloutState {
    let mut state = RolloutState::new("ada", &[]);
    state.waves = waves
        .iter()
        .enumerate()
        .map(|(index, &[pending, in_flight, retrying, succeeded, failed, timed_out, rejected, skipped])| {
            WaveState {
                pending,
                in_flight,
                retrying,
                ended: Tally { succeeded, failed, timed_out, rejected },
                skipped,
                opened: (index < opened).then(|| at(0)),
                ..WaveState::default()
            }
        })
        .collect();
    state
}

fn dispatch(up_to_wave: usize, at_most: u64, until: Option<i64>) -> RolloutStep {
    RolloutStep::Dispatch { up_to_wave, at_most, until: until.map(at) }
}

fn wait(reason: Waiting, until: Option<i64>) -> RolloutStep {
    RolloutStep::Wait { reason, until: until.map(at) }
}

#[test]
fn what_comes_next() {
    use Waiting::{Answers, Approval, Decision, Observation, Rate};
    let open = |wave| RolloutStep::OpenWave { wave };
    let next = [20, 0, 0, 0, 0, 0, 0, 0];
    let done = [0, 0, 0, 10, 0, 0, 0, 0];
    let observing = Phase::Observing { since: at(0) };
    let asked = Phase::AwaitingApproval { since: at(0) };
    let words = || (String::from("ada"), String::from("because"));
    let paused = || {
        let (by, reason) = words();
        Phase::Paused { by, reason }
    };
    let aborting = || {
        let (by, reason) = words();
        Phase::Aborting { by, reason }
    };
    let undoing = || {
        let (by, reason) = words();
        Phase::RollingBack { by, reason }
    };
    let none = json!({});
    let caps = json!({"limits": {"inFlight": 5, "perSecond": 4}});
    let good = json!({"advance": {"successPercent": 80}});
    let watch = json!({"advance": {"minObservationInSeconds": 100}});
    let agree = json!({"advance": {"minObservationInSeconds": 100, "approval": "anyone"}});
    for (policy, waves, opened, phase, now, expected) in [
        (&none, vec![], 0, Phase::Running, 0, RolloutStep::Finish),
        (&none, vec![next], 0, Phase::Running, 0, open(0)),
        (&none, vec![next, next], 1, Phase::Running, 0, dispatch(0, 20, None)),
        (&none, vec![[0, 3, 0, 7, 0, 0, 0, 0], next], 1, Phase::Running, 0, wait(Answers, None)),
        (&none, vec![[0, 0, 3, 7, 0, 0, 0, 0], next], 1, Phase::Running, 0, dispatch(0, 3, None)),
        (&none, vec![[0, 0, 0, 1, 2, 3, 3, 1], next], 1, Phase::Running, 0, open(1)),
        (&none, vec![[0, 0, 0, 0, 0, 0, 0, 10], next], 1, Phase::Running, 0, open(1)),
        (&none, vec![done, done], 2, Phase::Running, 0, RolloutStep::Finish),
        (&none, vec![done, [0, 1, 0, 9, 0, 0, 0, 0]], 2, Phase::Running, 0, wait(Answers, None)),
        // Caps; five were turned to in second 7.
        (&caps, vec![next], 1, Phase::Running, 0, dispatch(0, 4, None)),
        (&caps, vec![[20, 3, 0, 0, 0, 0, 0, 0]], 1, Phase::Running, 0, dispatch(0, 2, None)),
        (&caps, vec![[20, 5, 0, 0, 0, 0, 0, 0]], 1, Phase::Running, 0, wait(Answers, None)),
        (&caps, vec![[20, 9, 0, 0, 0, 0, 0, 0]], 1, Phase::Running, 0, wait(Answers, None)),
        (&caps, vec![next], 1, Phase::Running, 7, wait(Rate, Some(8))),
        // Good enough before it is settled: the stragglers go on with the next wave.
        (&good, vec![[1, 2, 0, 7, 0, 0, 0, 0], next], 1, Phase::Running, 0, dispatch(0, 1, None)),
        (&good, vec![[1, 1, 0, 8, 0, 0, 0, 0], next], 1, Phase::Running, 0, open(1)),
        (&good, vec![[1, 1, 0, 8, 0, 0, 0, 0], next], 2, Phase::Running, 0, dispatch(1, 21, None)),
        (&good, vec![[0, 0, 0, 4, 0, 0, 0, 5], next], 1, Phase::Running, 0, open(1)),
        (&watch, vec![done, next], 1, Phase::Running, 0, RolloutStep::Observe),
        (&watch, vec![done, next], 1, observing.clone(), 99, wait(Observation, Some(100))),
        (&watch, vec![done, next], 1, observing.clone(), 100, open(1)),
        // The hub's clock was set back by an hour.
        (&watch, vec![done, next], 1, observing.clone(), -3600, wait(Observation, Some(100))),
        (&agree, vec![done, next], 1, observing.clone(), 100, RolloutStep::AskApproval),
        (&agree, vec![done, next], 1, asked.clone(), 200, wait(Approval, None)),
        (&agree, vec![done], 1, Phase::Running, 200, RolloutStep::Finish),
        (&none, vec![next], 1, paused(), 0, wait(Decision, None)),
        (&none, vec![[1, 1, 1, 0, 0, 0, 0, 0]], 1, aborting(), 0, RolloutStep::Skip),
        (&none, vec![[0, 1, 0, 0, 0, 0, 0, 9]], 1, aborting(), 0, wait(Answers, None)),
        (&none, vec![[0, 0, 0, 1, 0, 0, 0, 9]], 1, aborting(), 0, RolloutStep::Finish),
        (&none, vec![[0, 0, 0, 1, 0, 0, 0, 9]], 1, undoing(), 0, RolloutStep::RollBack),
    ] {
        let mut state = state(&waves, opened);
        state.phase = phase;
        state.dispatched = Some((at(7).seconds(), 5));
        let found = state.next_step(&rollout(policy.clone()), at(now));
        assert_eq!(found, expected, "{policy} {waves:?} {:?} {now}", state.phase);
        assert_eq!(RolloutState::from_json(&state.to_json()), Ok(state.clone()));
        state.ended = Some(at(1));
        assert_eq!(state.next_step(&rollout(policy.clone()), at(now)), RolloutStep::Over);
    }
}

#[test]
fn what_stops_it() {
    let count = |rule: &str, count: u64| json!({"stop": {rule: {"count": count}}});
    let percent = |rule: &str, percent: u64| json!({"stop": {rule: {"percent": percent}}});
    let sequential = json!({"stop": {"sequential": {"allowedFailureRate": 0.1, "margin": 0.4}}});
    let next = [90, 0, 0, 0, 0, 0, 0, 0];
    // Of a wave of ten: three failed, two timed out, one rejected it.
    let bad = [0, 0, 0, 4, 3, 2, 1, 0];
    for (policy, waves, opened, expected) in [
        (json!({}), vec![bad], 1, None),
        (
            count("failures", 3),
            vec![bad],
            1,
            Some("stop.failures: 3 of 10 devices failed, 3 stop it (wave 0)"),
        ),
        (count("failures", 4), vec![bad], 1, None),
        (
            count("timeouts", 2),
            vec![bad],
            1,
            Some("stop.timeouts: 2 of 10 devices timed out, 2 stop it (wave 0)"),
        ),
        (count("timeouts", 3), vec![bad], 1, None),
        (
            count("rejections", 1),
            vec![bad],
            1,
            Some("stop.rejections: 1 of 10 devices rejected it, 1 stop it (wave 0)"),
        ),
        (count("rejections", 2), vec![bad], 1, None),
        // Of the waves that were opened.
        (
            percent("failures", 30),
            vec![bad, next],
            1,
            Some("stop.failures: 3 of 10 devices failed, 3 stop it (wave 0)"),
        ),
        (percent("failures", 30), vec![bad, next], 2, None),
        (
            percent("failures", 3),
            vec![bad, next],
            2,
            Some("stop.failures: 3 of 100 devices failed, 3 stop it (wave 1)"),
        ),
        (
            json!({"advance": {"failurePercent": 60}}),
            vec![bad, next],
            2,
            Some("advance.failurePercent: 6 of 10 devices did not succeed, 6 stop it (wave 0)"),
        ),
        (json!({"advance": {"failurePercent": 61}}), vec![bad, next], 2, None),
        (
            json!({"advance": {"successPercent": 50}}),
            vec![bad, next],
            1,
            Some("advance.successPercent: 6 of 10 devices did not succeed, 6 stop it (wave 0)"),
        ),
        (json!({"advance": {"successPercent": 40}}), vec![bad, next], 1, None),
        (
            sequential.clone(),
            vec![[0, 0, 0, 0, 2, 0, 0, 0]],
            1,
            Some("stop.sequential: 2 of 2 devices did not succeed, 2 stop it (wave 0)"),
        ),
        // Those in flight count as good.
        (sequential.clone(), vec![[0, 2, 1, 0, 2, 0, 0, 0]], 1, None),
        (sequential, vec![[5, 0, 0, 1, 1, 0, 0, 0]], 1, None),
    ] {
        let state = state(&waves, opened);
        let found = state.broken_rule(&rollout(policy.clone())).map(|cause| cause.to_string());
        assert_eq!(found.as_deref(), expected, "{policy} {waves:?}");
        let step = state.next_step(&rollout(policy), at(0));
        assert_eq!(matches!(step, RolloutStep::Stop(_)), expected.is_some());
    }
}

/// Runs all steps that concern the state alone.
fn settle_down(state: &mut RolloutState, policy: &Rollout, now: i64) -> RolloutStep {
    loop {
        let step = state.next_step(policy, at(now));
        if !state.apply(&step, policy, at(now)) {
            return step;
        }
    }
}

fn started(document: Value, sizes: &[u64]) -> (RolloutState, Rollout) {
    let policy = rollout(document);
    let mut state = RolloutState::new("Ada", sizes);
    settle_down(&mut state, &policy, 0);
    (state, policy)
}

#[test]
fn a_second_person_lets_the_next_wave_open() {
    let (mut state, policy) = started(json!({"advance": {"approval": "secondPerson"}}), &[2, 5]);
    assert!(state.approve(&policy, "bob", at(0)).is_err(), "nobody asked yet");
    state.dispatch(&policy, 0, 2, 0, at(1)).expect("two may go");
    assert!(state.dispatch(&policy, 1, 1, 0, at(1)).is_err(), "wave 1 is not open");
    state.settle(0, Outcome::Succeeded, 2, at(2)).expect("two are in flight");
    assert_eq!(settle_down(&mut state, &policy, 3), wait(Waiting::Approval, None));
    let before = state.clone();
    for (name, part) in
        [("Ada", "a second person"), (" ada ", "a second person"), ("", "who approves"), (" ", "who")]
    {
        let refusal = state.approve(&policy, name, at(4)).expect_err(name).to_string();
        assert!(refusal.contains(part), "{name:?}: {refusal}");
    }
    assert_eq!(state, before);
    state.approve(&policy, "bob", at(4)).expect("a second person");
    assert_eq!(settle_down(&mut state, &policy, 5), dispatch(1, 5, None));
    assert_eq!(state.waves[1].approved, Some(Approved { by: "bob".into(), at: at(4) }));
    assert_eq!(state.waves[1].opened, Some(at(5)));
    assert_eq!(RolloutState::from_json(&state.to_json()), Ok(state));
}

#[test]
fn who_resumes_after_a_stop_takes_the_responsibility() {
    let document = json!({
        "stop": {"failures": {"count": 2}},
        "advance": {"successPercent": 80, "failurePercent": 50, "approval": "secondPerson"},
    });
    let (mut state, policy) = started(document, &[4, 5]);
    state.dispatch(&policy, 0, 4, 0, at(1)).expect("four may go");
    state.settle(0, Outcome::Failed, 2, at(2)).expect("in flight");
    settle_down(&mut state, &policy, 3);
    let Phase::Stopped(cause) = &state.phase else { panic!("{:?}", state.phase) };
    assert_eq!((cause.rule, cause.devices, cause.of, cause.limit), (StopRule::Failures, 2, 4, 2));
    assert!(state.pause("bob", "").expect_err("stopped").to_string().contains("stopped the rollout already"));
    assert!(state.resume(&policy, "ada").is_err(), "she asked for it");
    // Answers come in while it is stopped, and survive being stored.
    state.settle(0, Outcome::Succeeded, 1, at(4)).expect("in flight");
    let mut state = RolloutState::from_json(&state.to_json()).expect("a state");
    state.resume(&policy, "bob").expect("a second person");
    assert_eq!(
        settle_down(&mut state, &policy, 5),
        wait(Waiting::Answers, None),
        "2 of 4 are not counted again"
    );
    state.settle(0, Outcome::Failed, 1, at(6)).expect("in flight");
    settle_down(&mut state, &policy, 7);
    let Phase::Stopped(cause) = &state.phase else { panic!("{:?}", state.phase) };
    assert_eq!((cause.rule, cause.devices, cause.of), (StopRule::WaveFailures, 1, 2), "but new ones are");
}

#[test]
fn pausing_and_ending() {
    let (mut state, policy) = started(json!({"advance": {"minObservationInSeconds": 100}}), &[2, 5]);
    assert!(state.resume(&policy, "ada").is_err(), "it runs");
    state.dispatch(&policy, 0, 2, 0, at(1)).expect("two may go");
    state.pause("bob", "lunch").expect("it runs");
    assert!(state.pause("eve", "").expect_err("paused").to_string().contains("by bob"));
    state.put_back(0, 1).expect("in flight");
    state.settle(0, Outcome::Succeeded, 1, at(2)).expect("in flight");
    assert!(state.dispatch(&policy, 0, 0, 1, at(2)).is_err(), "it is paused");
    assert!(state.settle(0, Outcome::Succeeded, 1, at(2)).is_err(), "none is in flight");
    assert!(state.settle(9, Outcome::Succeeded, 0, at(2)).is_err(), "there is no such wave");
    assert!(state.put_back(0, 1).is_err() && state.put_back(9, 0).is_err());
    state.resume(&policy, "ada").expect("it is paused");
    state.dispatch(&policy, 0, 0, 1, at(3)).expect("one retries");
    state.roll_back("bob", "bad").expect("it runs");
    for refusal in
        [state.abort("a", ""), state.roll_back("a", ""), state.pause("a", ""), state.resume(&policy, "a")]
    {
        assert!(refusal.expect_err("ending").to_string().contains("rolled back"));
    }
    assert_eq!(settle_down(&mut state, &policy, 4), RolloutStep::Skip);
    state.settle_pending(1, Outcome::Skipped, 5, at(5)).expect("pending");
    assert_eq!(settle_down(&mut state, &policy, 5), wait(Waiting::Answers, None));
    state.settle(0, Outcome::TimedOut, 1, at(6)).expect("in flight");
    assert_eq!(settle_down(&mut state, &policy, 6), RolloutStep::RollBack);
    assert!(state.apply(&RolloutStep::Finish, &policy, at(7)));
    assert!(matches!(state.phase, Phase::RollingBack { .. }) && state.is_over());
    assert!(state.abort("a", "").expect_err("over").to_string().contains("is over"));
}

#[test]
fn what_a_rule_does_is_the_policys() {
    for (word, expected) in [("pause", "stopped"), ("abort", "aborted"), ("rollBack", "rollingBack")] {
        let document = json!({"onStop": word, "stop": {"rejections": {"count": 1}}});
        let (mut state, policy) = started(document, &[2]);
        state.settle_pending(0, Outcome::Rejected, 1, at(1)).expect("pending");
        settle_down(&mut state, &policy, 1);
        assert_eq!(state.phase.as_str(), expected);
    }
}

#[test]
fn stored_states_are_checked() {
    let good = state(&[[1, 2, 3, 4, 5, 6, 7, 8], [1, 0, 0, 0, 0, 0, 0, 0]], 1).to_json();
    let with = |pointer: &str, value: Value| {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).expect(pointer) = value;
        RolloutState::from_json(&bad).expect_err(pointer).to_string()
    };
    for (pointer, value, part) in [
        ("/waves/0/targets", json!(35), "state.waves[0].targets is not the sum of the others, 36"),
        ("/waves/0/pending", json!(-1), "state.waves[0].pending is -1"),
        ("/waves/0/openedTime", json!("x"), "state.waves[0].openedTime is \"x\"; expected a time"),
        ("/waves/0", json!({"x": 1}), "state.waves[0].x is unknown"),
        ("/phase", json!("x"), "state.phase is 'x'"),
        ("/phase", json!("paused"), "state.by is missing"),
        ("/phase", json!("stopped"), "state.stop is missing"),
        ("/phase", json!("observing"), "state.since is missing"),
        ("/askedBy", json!(1), "state.askedBy is 1"),
    ] {
        let text = with(pointer, value);
        assert!(text.contains(part), "{pointer}: {text}");
    }
    let mut out_of_order = state(&[[1, 0, 0, 0, 0, 0, 0, 0]; 2], 2);
    out_of_order.waves[0].opened = None;
    let text = RolloutState::from_json(&out_of_order.to_json()).expect_err("order").to_string();
    assert!(text.contains("out of their order"), "{text}");
}
