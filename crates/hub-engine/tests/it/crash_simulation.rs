//! Rollouts through the whole engine, killed at random points: whatever is cut off, no device is acted on twice and none is
//! lost. The store dies before or after one of its commits, the hub with it, and a new hub goes on with what was written.
//! Meanwhile gates open, and the hub's clock jumps by an hour in both directions.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hub_domain::context::Gates;
use hub_domain::job::{ItemStatus, JobAction, JobStatus, NewJob};
use hub_domain::link::Downlink;
use hub_domain::method::MethodResult;
use hub_domain::retirement::RetireRequest;
use hub_domain::rollout::Rollout;
use hub_domain::time::Timestamp;
use hub_engine::jobs::Job;
use hub_store::{
    Batch, Commit, CommitError, Key, KeyRange, MemoryStore, Page, PageLen, Row, Store, StoreError, StoreStats,
};
use hub_testkit::TestHub;
use serde_json::json;

use crate::jobs::{attached, calling, fleet, name, patching, rows};
use crate::retirement::{device, lifecycle};
use crate::{id, patch};

/// Rollouts that are played; `ENGINE_CRASH_SEEDS` asks for more, `ENGINE_CRASH_FIRST` for others.
const SEEDS: u64 = 12;
const DEVICES: usize = 24;
const JOB: &str = "roll";
/// Lives of the hub in one rollout; a rollout that needs more goes nowhere.
const LIVES_MAX: u32 = 400;

/// A store that dies at one of its next commits: that one is written or not, and nothing after it.
pub(crate) struct Mortal {
    inner: MemoryStore,
    /// Commits until then; none left: it is dead.
    left: AtomicI64,
    writes_the_last: bool,
}

impl Mortal {
    /// On these rows; it does not die before it is told when.
    pub(crate) fn on(rows: &MemoryStore, random: &Random) -> Arc<Self> {
        let (left, writes_the_last) = (AtomicI64::new(i64::MAX), random.below(2) == 0);
        Arc::new(Self { inner: rows.clone(), left, writes_the_last })
    }

    pub(crate) fn dies_after(&self, commits: u64) {
        self.left.store(i64::try_from(commits).expect("a few"), Ordering::Relaxed);
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.left.load(Ordering::Relaxed) <= 0
    }
}

impl Store for Mortal {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Row>, StoreError>> {
        self.inner.get(key)
    }

    fn scan(&self, range: KeyRange, limit: PageLen) -> BoxFuture<'_, Result<Page, StoreError>> {
        self.inner.scan(range, limit)
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Commit, CommitError>> {
        async move {
            let left = self.left.fetch_sub(1, Ordering::Relaxed);
            if left == 1 && self.writes_the_last {
                // Written, and nobody hears of it.
                let _ = self.inner.commit(batch).await;
            } else if left > 1 {
                return self.inner.commit(batch).await;
            }
            Err(CommitError::Unavailable(StoreError::Closed))
        }
        .boxed()
    }

    fn changes(&self, after: Commit) -> BoxFuture<'_, Result<Commit, StoreError>> {
        self.inner.changes(after)
    }

    fn stats(&self) -> Result<StoreStats, StoreError> {
        self.inner.stats()
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.close()
    }
}

/// SplitMix64.
pub(crate) struct Random(AtomicU64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    pub(crate) fn below(&self, bound: u64) -> u64 {
        let z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// One rollout, and what became of the devices.
struct Play {
    seed: u64,
    random: Random,
    rows: MemoryStore,
    now: Timestamp,
    /// How often each device was called.
    calls: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Play {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            random: Random::new(seed),
            rows: MemoryStore::new(),
            now: Timestamp::from_seconds(hub_testkit::START_SECONDS),
            calls: Arc::default(),
        }
    }

    fn is_calling(&self) -> bool {
        self.seed % 3 == 1
    }

    /// Patches, calls or retires, in waves with caps, with gates every other time.
    fn job(&self) -> NewJob {
        let job = match self.seed % 3 {
            0 => patching(JOB, "*", json!({"rate": 1})),
            1 => calling(JOB, 0, true),
            _ => NewJob {
                action: JobAction::Retire { request: RetireRequest::default(), wait_for_devices: false },
                ..patching(JOB, "*", json!({}))
            },
        };
        let none = json!({"maxRetries": 0});
        let policy = json!({
            "waves": {"canary": {"devices": 1 + self.random.below(5)}, "growth": {"exponential": 2}},
            "seed": self.random.below(1 << 53),
            "jitterInSeconds": self.random.below(3),
            "limits": {"inFlight": 1 + self.random.below(8)},
            "advance": {"minObservationInSeconds": self.random.below(4)},
            // Each device has one attempt, so that acting twice is always a mistake of the hub.
            "retry": {"failed": none, "timedOut": none, "deferred": none},
        });
        let gates = json!({"power": {"minimumBatteryPercent": 50}});
        NewJob {
            execution_max: Some(Duration::from_secs(30 * 86_400)),
            rollout: Some(Rollout::parse(&policy).expect("a policy")),
            gates: (self.random.below(2) == 0).then(|| Gates::parse(&gates).expect("gates")),
            ..job
        }
    }

    /// A life of the hub: until it is killed, or the job is over.
    async fn live(&mut self, is_first: bool) -> Option<Job> {
        let store = Mortal::on(&self.rows, &self.random);
        let test = TestHub::on(store.clone()).await;
        test.clock.set(self.now);
        if is_first {
            fleet(&test, DEVICES).await;
            test.hub.job_create(&test.owner(), self.job()).await.expect("created");
        }
        let mut devices = Vec::new();
        for n in 0..if self.is_calling() { DEVICES } else { 0 } {
            devices.push(self.answer(&test, format!("d{n:03}")).await);
        }
        store.dies_after(1 + self.random.below(if self.random.below(3) == 0 { 60 } else { 12 }));
        let ended = loop {
            if store.is_dead() {
                break None;
            }
            let job = test.hub.job_get(&test.owner(), &name(JOB)).await.expect("a job");
            if job.state.is_over() {
                break Some(job);
            }
            self.something_happens(&test).await;
        };
        self.now = test.hub.now();
        devices.iter().for_each(tokio::task::JoinHandle::abort);
        assert!(test.tasks.stop(Duration::from_secs(60)).await, "seed {}: a task does not end", self.seed);
        ended
    }

    async fn something_happens(&self, test: &TestHub) {
        let (now, start) = (test.hub.now().seconds(), hub_testkit::START_SECONDS);
        match self.random.below(16) {
            0 => test.clock.set(Timestamp::from_seconds((now - 3600).max(start))),
            // Not on for more than half a day, since events are counted that are kept for a day.
            1 | 2 if now < start + 12 * 3600 => test.advance(Duration::from_secs(3600)),
            3..8 => test.advance(Duration::from_secs(1 + self.random.below(3))),
            _ => {}
        }
        if self.random.below(4) == 0 {
            let charged = format!("d{:03}", self.random.below(DEVICES as u64));
            let power = patch(json!({"context": {"power": {"batteryPercent": 90}}}));
            // In vain if the hub dies, or the device is gone.
            let _ = test.hub.twin_patch_reported(&test.owner(), &id(&charged), &power, None).await;
        }
        if self.random.below(3) > 0 {
            tokio::time::sleep(Duration::from_millis(self.random.below(1200))).await;
        }
        for _ in 0..self.random.below(20) {
            tokio::task::yield_now().await;
        }
    }

    /// A device that does what it is told, and counts that.
    async fn answer(&self, test: &TestHub, device: String) -> tokio::task::JoinHandle<()> {
        let (attachment, mut queue) = attached(test, &device).await;
        let (hub, calls) = (test.hub.clone(), self.calls.clone());
        tokio::spawn(async move {
            while let Some(downlink) = queue.next().await {
                let Downlink::Call { call, .. } = downlink else { continue };
                *calls.lock().expect("not poisoned").entry(device.clone()).or_default() += 1;
                tokio::task::yield_now().await;
                let result = MethodResult { status: 200, payload: "null".into() };
                hub.method_complete(&attachment, call, result);
            }
        })
    }

    /// No device was acted on twice, and none was lost: each has a record that says what became of it.
    async fn check(&self, job: &Job) {
        let seed = self.seed;
        let test = TestHub::on(Arc::new(self.rows.clone())).await;
        assert_eq!(job.state.status, JobStatus::Completed, "seed {seed}");
        let records = rows(&test, "SELECT deviceId, status, error FROM devices.jobs").await;
        assert_eq!(records.len(), DEVICES, "seed {seed}");
        let settled = job.state.counts.succeeded + job.state.counts.failed;
        assert_eq!((settled, job.state.counts.targets()), (DEVICES as u64, DEVICES as u64), "seed {seed}");
        for record in &records {
            let of = record["deviceId"].as_str().expect("an id");
            let done = record["status"] == ItemStatus::Completed.as_str();
            let acted = self.acted_on(&test, of).await;
            // Of a call that the hub died over nobody knows, and the record says so; it is not made again.
            let unknown = record["error"]["code"] == "OutcomeUnknown" && self.is_calling();
            let good = if done { acted == 1 } else { unknown && acted <= 1 };
            assert!(good, "seed {seed}: {of} was acted on {acted} times: {record}");
        }
        assert!(test.tasks.stop(Duration::from_secs(60)).await, "seed {seed}: a task does not end");
    }

    async fn acted_on(&self, test: &TestHub, of: &str) -> u64 {
        match self.seed % 3 {
            0 => {
                let twin = test.hub.twin_get(&test.owner(), &id(of)).expect("a twin");
                // A section begins with version 1.
                twin.document().twin.desired.version - 1
            }
            1 => self.calls.lock().expect("not poisoned").get(of).copied().unwrap_or(0),
            _ => {
                assert!(test.hub.retired_get(&test.owner(), &device(of)).await.is_ok(), "{of}");
                let steps = lifecycle(test, of).await;
                steps.iter().filter(|step| step.starts_with("retire")).count() as u64
            }
        }
    }
}

/// The seeds to play: as many as this, if nobody asks for others.
pub(crate) fn seeds(default: u64) -> Range<u64> {
    let from_environment = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
    };
    let first = from_environment("ENGINE_CRASH_FIRST", 0);
    first..first + from_environment("ENGINE_CRASH_SEEDS", default)
}

#[tokio::test(start_paused = true)]
async fn no_device_is_acted_on_twice_and_none_is_lost_wherever_the_hub_is_killed() {
    let seeds = seeds(SEEDS);
    let mut kills = 0;
    for seed in seeds.clone() {
        let mut play = Play::new(seed);
        let mut lives = 0;
        let job = loop {
            let ended = play.live(lives == 0).await;
            lives += 1;
            if let Some(job) = ended {
                break job;
            }
            assert!(lives < LIVES_MAX, "seed {seed} does not end");
        };
        play.check(&job).await;
        kills += lives - 1;
    }
    let count = seeds.end - seeds.start;
    println!("{count} rollouts over {DEVICES} devices each, {kills} kills");
    assert!(u64::from(kills) >= count, "the hub was hardly killed: {kills} times in {count} rollouts");
}
