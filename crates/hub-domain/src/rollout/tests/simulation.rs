//! Whole rollouts by chance: devices that fail, defer, vanish; people who pause, resume and abort; a hub that is killed
//! between any two writes and starts again from what it stored; a clock that jumps. No device may be acted on while it is
//! being acted on, none may be lost, counts must add up, and no cap may ever be passed.
//! `ROLLOUT_SIMULATION_SEEDS=10000` plays more of them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Random, at, device, rollout, rounds};
use crate::id::TwinId;
use crate::rollout::*;
use crate::time::Timestamp;

const STEPS_MAX: u64 = 200_000;

#[derive(Clone, Debug, PartialEq)]
enum Status {
    Open { not_before: Timestamp },
    InFlight { since: Timestamp },
    Settled(Outcome),
}

/// The row of one target.
#[derive(Clone, Debug)]
struct Item {
    wave: usize,
    status: Status,
    first: Option<Timestamp>,
    /// Retries by class.
    retries: BTreeMap<&'static str, u64>,
    claims: u64,
}

/// What survives a kill: rows.
#[derive(Clone)]
struct Rows {
    state: String,
    items: Vec<Item>,
}

struct World {
    policy: Rollout,
    ids: Vec<TwinId>,
    sites: Vec<String>,
    rows: Rows,
    // In memory.
    state: RolloutState,
    items: Vec<Item>,
    now: Timestamp,
    random: Random,
    // Outside of the hub: how often each device was acted on, and answers on their way.
    acted: Vec<u64>,
    answers: BTreeMap<usize, (Timestamp, Option<Class>)>,
    kills: u64,
}

fn random_policy(random: &mut Random) -> Value {
    let waves = random.one_of(&[
        json!([{"rest": true}]),
        json!([{"devices": 2}, {"percent": 20}, {"rest": true}]),
        json!([{"percent": 10}, {"percent": 90}]),
        json!({"canary": {"devices": 1}, "growth": {"exponential": 2.5}}),
        json!({"canary": {"percent": 5}, "growth": {"constant": {"percent": 30}}}),
    ]);
    let advance = random.one_of(&[
        json!({}),
        json!({"successPercent": 60, "minObservationInSeconds": 30}),
        json!({"failurePercent": 40, "approval": "anyone"}),
        json!({"successPercent": 50, "failurePercent": 60, "minObservationInSeconds": 5, "approval": "secondPerson"}),
    ]);
    let stop = random.one_of(&[
        json!({}),
        json!({"failures": {"count": 5}, "timeouts": {"percent": 50}}),
        json!({"rejections": {"percent": 20, "count": 8}}),
        json!({"sequential": {"allowedFailureRate": 0.1, "margin": 0.2}}),
    ]);
    let limits = random.one_of(&[
        json!({}),
        json!({"inFlight": 3}),
        json!({"inFlight": 7, "perSecond": 2}),
        json!({"perSecond": 4, "perTag": {"path": "tags.site", "inFlight": 2}}),
    ]);
    let backoff = json!({"maxRetries": 2, "initialInSeconds": 3, "factor": 2, "maxInSeconds": 20});
    json!({
        "waves": waves, "advance": advance, "stop": stop, "limits": limits,
        "seed": random.below(1 << 50),
        "jitterInSeconds": random.one_of(&[0, 20]),
        "onStop": random.one_of(&["pause", "abort", "rollBack"]),
        "retry": {"deferred": backoff, "offline": backoff, "timedOut": backoff, "failed": {"maxRetries": random.below(2)}},
        "deviceTimeoutInSeconds": random.one_of(&[60, 600]),
        "stepTimeoutInSeconds": 40,
    })
}

fn class_name(class: Class) -> &'static str {
    match class {
        Class::Rejected => "rejected",
        Class::Failed => "failed",
        Class::Deferred => "deferred",
        Class::Offline => "offline",
        Class::TimedOut => "timedOut",
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed << 24);
        let policy = rollout(random_policy(&mut random));
        let count = random.below(45) + 5;
        let ids: Vec<TwinId> = (0..count).map(device).collect();
        let sites: Vec<String> = (0..count).map(|_| format!("site-{}", random.below(3))).collect();
        let sizes = policy.waves.sizes(count).expect("sizes");
        let waves = plan(&sizes, policy.seed.expect("a seed"), ids.iter().zip(&sites));
        let state = RolloutState::new("ada", &sizes);
        let item = |wave: u32| Item {
            wave: wave as usize,
            status: Status::Open { not_before: Timestamp::NEVER },
            first: None,
            retries: BTreeMap::new(),
            claims: 0,
        };
        let items: Vec<Item> = waves.into_iter().map(item).collect();
        let rows = Rows { state: state.to_json().to_string(), items: items.clone() };
        let acted = vec![0; ids.len()];
        let answers = BTreeMap::new();
        Self { policy, ids, sites, rows, state, items, now: at(0), random, acted, answers, kills: 0 }
    }

    /// One batch, all or nothing. `false` if the hub was killed before or after it, and started again.
    fn commit(&mut self) -> bool {
        let fate = self.random.below(40);
        if fate != 0 {
            self.check();
            self.rows = Rows { state: self.state.to_json().to_string(), items: self.items.clone() };
        }
        if fate > 1 {
            return true;
        }
        self.kills += 1;
        let stored: Value = serde_json::from_str(&self.rows.state).expect("JSON");
        self.state = RolloutState::from_json(&stored).expect("a state");
        self.items = self.rows.items.clone();
        // Answers to a hub that is down are gone.
        let random = &mut self.random;
        self.answers.retain(|_, _| random.happens(0.5));
        false
    }

    fn check(&self) {
        let count = |wave: usize, test: &dyn Fn(&Item) -> bool| {
            self.items.iter().filter(|item| item.wave == wave && test(item)).count() as u64
        };
        let settled = |outcome| move |item: &Item| item.status == Status::Settled(outcome);
        let is_open = |item: &Item| matches!(item.status, Status::Open { .. });
        for (index, wave) in self.state.waves.iter().enumerate() {
            assert_eq!(wave.targets(), count(index, &|_| true));
            assert_eq!(wave.pending, count(index, &|item| is_open(item) && item.claims == 0));
            assert_eq!(wave.retrying, count(index, &|item| is_open(item) && item.claims > 0));
            assert_eq!(wave.in_flight, count(index, &|item| matches!(item.status, Status::InFlight { .. })));
            assert_eq!(wave.ended.succeeded, count(index, &settled(Outcome::Succeeded)));
            assert_eq!(wave.ended.failed, count(index, &settled(Outcome::Failed)));
            assert_eq!(wave.ended.timed_out, count(index, &settled(Outcome::TimedOut)));
            assert_eq!(wave.ended.rejected, count(index, &settled(Outcome::Rejected)));
            assert_eq!(wave.skipped, count(index, &settled(Outcome::Skipped)));
            assert!(
                wave.opened.is_some() || count(index, &|item| item.claims > 0) == 0,
                "acted on too early"
            );
        }
        let caps = &self.policy.limits;
        assert!(caps.in_flight.is_none_or(|cap| self.state.sum(|wave| wave.in_flight) <= cap));
        assert!(
            caps.per_second.is_none_or(|cap| self.state.dispatched.is_none_or(|(_, count)| count <= cap))
        );
        if let Some(cap) = &caps.per_tag {
            for site in &self.sites {
                assert!(
                    self.in_flight_sites().filter(|other| *other == site).count() as u64 <= cap.in_flight
                );
            }
        }
    }

    fn in_flight_sites(&self) -> impl Iterator<Item = &str> {
        let in_flight = |(index, item): (usize, &Item)| {
            matches!(item.status, Status::InFlight { .. }).then(|| self.sites[index].as_str())
        };
        self.items.iter().enumerate().filter_map(in_flight)
    }

    fn settle(&mut self, index: usize, outcome: Outcome) {
        let (now, item) = (self.now, &mut self.items[index]);
        let settled = match (&item.status, item.claims) {
            (Status::InFlight { .. }, _) => self.state.settle(item.wave, outcome, 1, now),
            (Status::Open { .. }, 0) => self.state.settle_pending(item.wave, outcome, 1, now),
            (Status::Open { .. }, _) => self.state.settle_retrying(item.wave, outcome, 1, now),
            (Status::Settled(_), _) => panic!("{} was settled before", self.ids[index]),
        };
        settled.expect("the counts follow the items");
        item.status = Status::Settled(outcome);
    }

    /// Answers that came, and devices whose time is over.
    fn receive(&mut self) {
        for index in 0..self.items.len() {
            let Status::InFlight { since } = self.items[index].status else { continue };
            let first = self.items[index].first.expect("it was turned to");
            let answer = self.answers.get(&index).filter(|(time, _)| *time <= self.now).copied();
            let class = match answer {
                Some((_, answer)) => answer,
                None if self.now >= self.policy.deadline(first, since) => Some(Class::TimedOut),
                None => continue,
            };
            self.answers.remove(&index);
            let Some(class) = class else {
                self.settle(index, Outcome::Succeeded);
                continue;
            };
            let retries = self.items[index].retries.get(class_name(class)).copied().unwrap_or(0);
            let attempt = Attempt { class, retries, first, again_at: None };
            match self.policy.retry(&attempt, self.policy.spread(&self.ids[index]), self.now) {
                Retry::Never => self.settle(index, class.outcome()),
                Retry::At(not_before) => {
                    self.state.put_back(self.items[index].wave, 1).expect("it is in flight");
                    let item = &mut self.items[index];
                    item.status = Status::Open { not_before };
                    *item.retries.entry(class_name(class)).or_default() += 1;
                }
            }
        }
    }

    /// Claims in one batch, then acts. `false` if nobody may go now.
    fn dispatch(&mut self, up_to_wave: usize, at_most: u64) -> bool {
        let cap = self.policy.limits.per_tag.as_ref().map_or(u64::MAX, |cap| cap.in_flight);
        let mut caps = TagCaps::new(cap, self.in_flight_sites());
        let mut claimed = Vec::new();
        for index in 0..self.items.len() {
            let item = &self.items[index];
            let Status::Open { not_before } = item.status else { continue };
            let opened = self.state.waves[item.wave].opened;
            let begin = opened.map(|opened| opened.plus(self.policy.start_jitter(&self.ids[index])));
            let due = begin.is_some_and(|begin| begin <= self.now) && not_before <= self.now;
            if item.wave <= up_to_wave
                && due
                && (claimed.len() as u64) < at_most
                && caps.claim(&self.sites[index])
            {
                claimed.push(index);
            }
        }
        for &index in &claimed {
            let item = &mut self.items[index];
            let (fresh, again) = if item.claims == 0 { (1, 0) } else { (0, 1) };
            self.state.dispatch(&self.policy, item.wave, fresh, again, self.now).expect("the step says so");
            item.claims += 1;
            item.first = item.first.or(Some(self.now));
            item.status = Status::InFlight { since: self.now };
        }
        if !claimed.is_empty() && self.commit() {
            for &index in &claimed {
                self.acted[index] += 1;
                let wait = std::time::Duration::from_secs(self.random.below(30));
                let class = self.random.one_of(&[
                    None,
                    None,
                    None,
                    None,
                    None,
                    None,
                    None,
                    None,
                    Some(Class::Rejected),
                    Some(Class::Failed),
                    Some(Class::Deferred),
                    Some(Class::Offline),
                ]);
                if !self.random.happens(0.05) {
                    self.answers.insert(index, (self.now.plus(wait), class));
                }
            }
        }
        !claimed.is_empty()
    }

    fn decide(&mut self) {
        let choice = self.random.below(10);
        let decided = match choice {
            0 => self.state.abort("bob", "enough"),
            1 => self.state.roll_back("bob", "enough"),
            _ => self.state.resume(&self.policy, "bob"),
        };
        decided.expect("it waits for a decision");
        self.commit();
    }

    fn approve(&mut self) {
        if self.policy.advance.approval == Approval::SecondPerson {
            self.state.approve(&self.policy, "ada", self.now).expect_err("she asked for it");
        }
        self.state.approve(&self.policy, "bob", self.now).expect("it waits for approval");
        self.commit();
    }

    fn run(&mut self) {
        let mut kinds = 0;
        loop {
            kinds += 1;
            assert!(kinds < STEPS_MAX, "it hangs: {}", self.state.to_json());
            if self.random.happens(0.01) && self.state.pause("bob", "tea").is_ok() {
                self.commit();
            }
            if self.random.happens(0.002) {
                self.now = at(self.now.seconds() - at(0).seconds() + self.random.one_of(&[-3600, 3600]));
            }
            self.receive();
            if !self.commit() {
                continue;
            }
            let step = self.state.next_step(&self.policy, self.now);
            match step {
                RolloutStep::Over => return,
                RolloutStep::Dispatch { up_to_wave, at_most, .. } if self.dispatch(up_to_wave, at_most) => {}
                RolloutStep::Wait { reason: Waiting::Decision, .. } if self.random.happens(0.3) => {
                    self.decide()
                }
                RolloutStep::Wait { reason: Waiting::Approval, .. } if self.random.happens(0.3) => {
                    self.approve()
                }
                RolloutStep::Dispatch { .. } | RolloutStep::Wait { .. } => {
                    self.now = self.now.plus(std::time::Duration::from_secs(1 + self.random.below(5)));
                }
                RolloutStep::Skip => {
                    let open = |item: &Item| matches!(item.status, Status::Open { .. });
                    for index in 0..self.items.len() {
                        if open(&self.items[index]) {
                            self.settle(index, Outcome::Skipped);
                        }
                    }
                    self.commit();
                }
                RolloutStep::RollBack => {
                    assert!(self.state.apply(&RolloutStep::Finish, &self.policy, self.now));
                    self.commit();
                }
                step => {
                    assert!(self.state.apply(&step, &self.policy, self.now), "{step:?}");
                    self.commit();
                }
            }
        }
    }
}

#[test]
fn whole_rollouts() {
    let seeds = rounds("ROLLOUT_SIMULATION_SEEDS", 2000);
    let (mut kills, mut devices, mut acted, mut ends) = (0, 0, 0, BTreeMap::<&str, u64>::new());
    for seed in 0..seeds {
        let mut world = World::new(seed);
        world.run();
        for (index, item) in world.items.iter().enumerate() {
            assert!(matches!(item.status, Status::Settled(_)), "seed {seed}: {} is lost", world.ids[index]);
            let retries: u64 = item.retries.values().sum();
            assert!(item.claims <= 1 + retries, "seed {seed}: {} was claimed too often", world.ids[index]);
            assert!(
                world.acted[index] <= item.claims,
                "seed {seed}: {} was acted on twice",
                world.ids[index]
            );
        }
        assert_eq!(world.state.sum(|wave| wave.open()), 0);
        assert_eq!(world.state.sum(WaveState::targets), world.ids.len() as u64);
        kills += world.kills;
        devices += world.ids.len() as u64;
        acted += world.acted.iter().sum::<u64>();
        *ends.entry(world.state.phase.as_str()).or_default() += 1;
    }
    println!("{seeds} rollouts over {devices} devices, acted {acted} times, {kills} kills, ended {ends:?}");
    for end in ["done", "aborted", "rollingBack"] {
        assert!(ends.contains_key(end), "no rollout ended {end}: {ends:?}");
    }
    assert!(kills > seeds, "the hub was hardly killed: {kills}");
}
