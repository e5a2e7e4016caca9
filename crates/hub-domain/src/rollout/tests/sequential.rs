//! What the sequential rule promises, measured on the whole machine. `ROLLOUT_STOP_RUNS=2000 cargo nextest run -p hub-domain
//! --no-capture stop_rule` prints the table of `docs/rollouts.md`.

use serde_json::json;

use super::{Random, at, rollout, rounds};
use crate::rollout::*;

const FLEET: u64 = 1_000_000;

/// Evidence from which no way leads back: to stop nevertheless has a chance below e to this power.
const HOPELESS: f64 = -40.0;

/// In which order the devices in flight show what became of them.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Order {
    /// As they were turned to.
    Same,
    /// Failures at once, successes only when there is room for no more.
    BadFirst,
    /// Successes at once, failures (such as timeouts) only when there is room for no more.
    GoodFirst,
}

fn policy(allowed: f64, in_flight: u64) -> Rollout {
    rollout(json!({
        "waves": {"canary": {"devices": 100}, "growth": {"exponential": 3}},
        "limits": {"inFlight": in_flight},
        "stop": {"sequential": {"allowedFailureRate": allowed, "margin": 0.02}},
    }))
}

/// Devices that were turned to when the rule stopped it; `None` if it did not, up to `devices_max`.
fn play(policy: &Rollout, rate: f64, order: Order, devices_max: u64, random: &mut Random) -> Option<u64> {
    let sizes = policy.waves.sizes(FLEET).expect("sizes");
    let mut state = RolloutState::new("ada", &sizes);
    let rule = policy.stop.sequential.expect("the rule");
    let (mut turned_to, mut good, mut bad) = (0, 0, 0);
    let mut in_order = std::collections::VecDeque::new();
    while turned_to <= devices_max {
        let step = state.next_step(policy, at(0));
        let wave = state.opened().len().saturating_sub(1);
        match step {
            RolloutStep::Stop(_) => return Some(turned_to),
            RolloutStep::Finish => return None,
            RolloutStep::Dispatch { at_most, .. } => {
                state.dispatch(policy, wave, at_most, 0, at(0)).expect("the step says so");
                turned_to += at_most;
                for _ in 0..at_most {
                    let fails = random.happens(rate);
                    in_order.push_back(fails);
                    *(if fails { &mut bad } else { &mut good }) += 1;
                }
            }
            RolloutStep::Wait { reason: Waiting::Answers, .. } => {
                let (outcome, count) = match order {
                    Order::Same => {
                        let fails = in_order.pop_front().expect("one is in flight");
                        *(if fails { &mut bad } else { &mut good }) -= 1;
                        (if fails { Outcome::Failed } else { Outcome::Succeeded }, 1)
                    }
                    Order::BadFirst if bad > 0 => (Outcome::Failed, std::mem::take(&mut bad)),
                    Order::GoodFirst if good == 0 => (Outcome::Failed, std::mem::take(&mut bad)),
                    _ => (Outcome::Succeeded, std::mem::take(&mut good)),
                };
                state.settle(wave, outcome, count, at(0)).expect("they are in flight");
                let ended = state.opened().iter().fold(Tally::default(), |sum, wave| sum.plus(wave.ended));
                let worst = ended.bad() + state.sum(|wave| wave.in_flight);
                if rule.evidence(ended.succeeded, worst) < HOPELESS {
                    return None;
                }
            }
            step => assert!(state.apply(&step, policy, at(0)), "{step:?}"),
        }
    }
    None
}

/// Wilson's interval for a share, at 95 %.
fn interval(hits: u64, runs: u64) -> (f64, f64) {
    const Z: f64 = 1.96;
    let (n, p) = (runs as f64, hits as f64 / runs as f64);
    let middle = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt() / (1.0 + Z * Z / n);
    (100.0 * (middle - half).max(0.0), 100.0 * (middle + half).min(1.0))
}

#[test]
fn the_stop_rule_keeps_its_promises() {
    let runs = rounds("ROLLOUT_STOP_RUNS", 100);
    println!(
        "| allowed | in flight | order | stopped before 1 % at allowed + 2 points | median | 95 of 100 | wrongly |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (index, allowed) in [0.005, 0.01, 0.02, 0.05, 0.1].into_iter().enumerate() {
        for (in_flight, order) in
            [(100, Order::Same), (100, Order::BadFirst), (100, Order::GoodFirst), (500, Order::Same)]
        {
            let policy = policy(allowed, in_flight);
            let mut random = Random((index as u64) << 32);
            let limit = FLEET / 100;
            let mut stops: Vec<u64> =
                (0..runs).filter_map(|_| play(&policy, allowed + 0.02, order, limit, &mut random)).collect();
            stops.retain(|devices| *devices < limit);
            stops.sort_unstable();
            let wrongly = (0..runs)
                .filter(|_| play(&policy, allowed, order, FLEET, &mut random).is_some())
                .count() as u64;
            let stopped = stops.len() as u64;
            let ((low, high), (wrong_low, wrong_high)) = (interval(stopped, runs), interval(wrongly, runs));
            let percent = |hits: u64| 100.0 * hits as f64 / runs as f64;
            println!(
                "| {} % | {in_flight} | {order:?} | {:.1} % ({low:.1} to {high:.1}) | {} | {} | {:.1} % ({wrong_low:.1} to {wrong_high:.1}) |",
                allowed * 100.0,
                percent(stopped),
                stops.get(runs as usize / 2).copied().unwrap_or(limit),
                stops.get(runs as usize * 95 / 100).copied().unwrap_or(limit),
                percent(wrongly),
            );
            // With many in flight, who all count as good, little differs between 10 % and 12 %: measured, not promised.
            let is_promised = in_flight <= 100 || allowed < 0.1;
            assert!(
                !is_promised || percent(stopped) >= 95.0,
                "{allowed} {in_flight} {order:?}: stopped {stopped} of {runs}"
            );
            // The promise is five in a hundred; what is above is left to chance.
            assert!(wrong_low <= 5.0, "{allowed} {in_flight} {order:?}: wrongly {wrongly} of {runs}");
        }
    }
}

#[test]
fn evidence_is_wald_s() {
    let share = |millionths| Share::from_millionths(millionths).expect("a share");
    let rule = Sequential { allowed: share(10_000), alternative: share(30_000), confidence: share(950_000) };
    assert!((rule.limit() - 20_f64.ln()).abs() < 1e-9);
    assert!((rule.evidence(0, 1) - 3_f64.ln()).abs() < 1e-9);
    assert!((rule.evidence(1, 0) - (97.0_f64 / 99.0).ln()).abs() < 1e-9);
    for settled in [1, 10, 500, 100_000] {
        let bad = rule.stops_at(settled);
        assert!(bad > settled || !rule.stops(settled + 1 - bad, bad - 1), "{settled}: {bad} are the fewest");
        assert!(bad > settled || rule.stops(settled - bad, bad), "{settled}: {bad} stop it");
    }
}

/// The number of devices after which the alternative rate was stopped, from the binomial distribution: 1 - 0.5^n for a
/// rule that one bad device of n meets.
#[test]
fn decides_after_is_exact() {
    let share = |millionths| Share::from_millionths(millionths).expect("a share");
    let rule = |allowed, alternative, confidence| Sequential {
        allowed: share(allowed),
        alternative: share(alternative),
        confidence: share(confidence),
    };
    // A rate of one in a million against one half: the first bad device stops it, for any of the first devices.
    assert_eq!(rule(1, 500_000, 900_000).decides_after(), Some(4));
    assert_eq!(rule(500_000, 500_001, 950_000).decides_after(), None);
    let usual = rule(10_000, 30_000, 950_000);
    let devices = usual.decides_after().expect("a number");
    assert!((400..1500).contains(&devices), "{devices}");
    // Played: not stopped after so many devices in at most about five of a hundred runs.
    println!("1 % against 3 %: {devices}");
    let mut random = Random(9);
    let missed = (0..2000).filter(|_| {
        let mut bad = 0;
        !(1..=devices).any(|settled| {
            bad += u64::from(random.happens(0.03));
            usual.stops(settled - bad, bad)
        })
    });
    let missed = missed.count();
    assert!(missed <= 100, "{missed} of 2000");
}
