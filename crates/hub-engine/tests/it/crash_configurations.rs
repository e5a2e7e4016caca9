//! Configurations with gates through the whole engine, killed at random points: twins enter and leave, gates open and close,
//! content is edited, gates are overridden, edge deployments come and go. After each step all comes to rest, with as many
//! lives of the hub as that takes; so the end must be the same as that of a hub which nobody killed, to the last version.

use std::sync::Arc;
use std::time::Duration;

use hub_domain::configuration::ConfigurationSpec;
use hub_domain::event::EventSource;
use hub_domain::id::TwinId;
use hub_domain::identity::IdentitySpec;
use hub_domain::time::Timestamp;
use hub_domain::twin::WriteMode;
use hub_domain::version::Precondition;
use hub_engine::Error;
use hub_engine::config::{CONFIGURE_BATCH_TWINS, Config};
use hub_engine::events::EventFilter;
use hub_store::MemoryStore;
use hub_testkit::{START_SECONDS, TestHub};
use serde_json::{Value, json};

use crate::configurations::{device_content, name, write};
use crate::crash_simulation::{Mortal, Random, seeds};
use crate::jobs::fleet;
use crate::{id, patch, tags};

/// Scripts that are played; `ENGINE_CRASH_SEEDS` asks for more, `ENGINE_CRASH_FIRST` for others.
const SEEDS: u64 = 6;
/// A configuration is brought to them in more than one batch.
const DEVICES: usize = CONFIGURE_BATCH_TWINS + 8;
/// Those to which something happens; the others wait for what concerns all.
const BUSY_DEVICES: u64 = 6;
const STEPS: usize = 40;
/// Lives of the hub in one script; one that needs more goes nowhere.
const LIVES_MAX: u64 = 400;
/// Of the busy ones, those that are edge devices.
const EDGE_DEVICES: u64 = 2;
/// One without gates, and two that hold back for power and for the hour; and edge deployments without and with gates.
const CONFIGURATIONS: [&str; 5] = ["free", "power", "window", "base", "edge"];
/// How long all that runs by itself has until it is looked whether it rests.
const REST: Duration = Duration::from_secs(3);

#[derive(Clone, Debug)]
enum Step {
    /// A battery is charged or falls, which opens a gate or closes it.
    Battery(String, u64),
    /// A device enters the target, or leaves it.
    Site(String, &'static str),
    /// A configuration comes, or gets other content.
    Write(&'static str, u64),
    /// Its gates are overridden.
    Override(&'static str),
    Delete(&'static str),
    /// Some time passes, which opens windows and closes them.
    Until(Timestamp),
}

/// What happens, from a seed.
fn script(seed: u64) -> Vec<Step> {
    let random = Random::new(seed);
    let mut now = START_SECONDS;
    let mut step = || {
        let device = format!("d{:03}", random.below(BUSY_DEVICES));
        let configuration = CONFIGURATIONS[random.below(5) as usize];
        match random.below(20) {
            0..6 => Step::Battery(device, random.below(2) * 90),
            6..10 => Step::Site(device, ["a", "b"][random.below(2) as usize]),
            10..15 => Step::Write(configuration, random.below(100)),
            15..17 => Step::Override(configuration),
            17 => Step::Delete(configuration),
            // Not half a day in all, since events are counted that are kept for a day.
            _ => {
                now += 900;
                Step::Until(Timestamp::from_seconds(now))
            }
        }
    };
    (0..STEPS).map(|_| step()).collect()
}

fn spec(of: &str, value: u64) -> ConfigurationSpec {
    let (priority, gates) = match of {
        "free" | "base" => (1, Value::Null),
        "power" | "edge" => (2, json!({"power": {"minimumBatteryPercent": 50}})),
        _ => {
            let rule = json!({"rrule": "FREQ=HOURLY", "durationInSeconds": 1200});
            (3, json!({"window": rule}))
        }
    };
    let content = match of {
        "base" | "edge" => json!({"modulesContent": {
            "$edgeAgent": {"properties.desired": {"modules": {"m": {"version": value}}}},
            "m": {"properties.desired": {"rate": value, of: value}},
        }}),
        _ => device_content(
            json!({"properties.desired.rate": value, format!("properties.desired.{of}"): value}),
        ),
    };
    let body = json!({
        "content": content, "targetCondition": "tags.site = 'a'", "priority": priority, "gates": gates,
    });
    ConfigurationSpec::parse(name(of), &body).expect("a configuration")
}

impl Step {
    /// Done once more, it changes nothing.
    async fn take(&self, test: &TestHub) -> Result<(), Error> {
        let (hub, owner, any) = (&test.hub, &test.owner(), &Precondition::None);
        match self {
            Step::Battery(device, percent) => {
                let power = patch(json!({"context": {"power": {"batteryPercent": percent}}}));
                hub.twin_patch_reported(owner, &id(device), &power, None).await.map(drop)
            }
            Step::Site(device, site) => hub
                .twin_update(owner, &id(device), &tags(json!({ "site": site })), WriteMode::Patch, any)
                .await
                .map(drop),
            Step::Write(of, value) => match hub.configuration_get(owner, &name(of)).await {
                // What it says never changes.
                Ok(_) if *of == "edge" => Ok(()),
                Ok(_) => hub.configuration_update(owner, spec(of, *value), any).await.map(drop),
                Err(_) => hub.configuration_create(owner, spec(of, *value)).await.map(drop),
            },
            Step::Override(of) => {
                match hub.configuration_override_gates(owner, &name(of), "at once").await {
                    // Overridden already, without gates, or not there.
                    Err(Error::Conflict(_) | Error::ConfigurationNotFound(_)) => Ok(()),
                    other => other.map(drop),
                }
            }
            Step::Delete(of) => match hub.configuration_delete(owner, &name(of), any).await {
                Err(Error::ConfigurationNotFound(_)) => Ok(()),
                other => other,
            },
            Step::Until(moment) => {
                test.clock.set(*moment);
                Ok(())
            }
        }
    }
}

/// A script that is played on one store, by one hub after another.
struct Play {
    seed: u64,
    rows: MemoryStore,
    now: Timestamp,
    lives: u64,
    /// By which the hub is killed, if it is.
    deaths: Option<Random>,
}

impl Play {
    fn new(seed: u64, is_disturbed: bool) -> Self {
        let now = Timestamp::from_seconds(START_SECONDS);
        let deaths = is_disturbed.then(|| Random::new(!seed));
        Self { seed, rows: MemoryStore::new(), now, lives: 0, deaths }
    }

    async fn start(&mut self) -> (TestHub, Arc<Mortal>) {
        self.lives += 1;
        let store = Mortal::on(&self.rows, self.deaths.as_ref().unwrap_or(&Random::new(self.seed)));
        let config = Config { configuration_content_editable: true, ..Config::default() };
        let test = TestHub::on_with(store.clone(), config).await;
        test.clock.set(self.now);
        (test, store)
    }

    async fn stop(&mut self, test: &TestHub) {
        self.now = test.hub.now();
        assert!(test.tasks.stop(Duration::from_secs(60)).await, "seed {}: a task does not end", self.seed);
    }

    async fn prepare(&mut self) {
        let (test, _) = self.start().await;
        fleet(&test, DEVICES).await;
        for n in 0..DEVICES {
            let update = tags(json!({"site": "a", "timeZone": "Etc/UTC"}));
            write(&test, &format!("d{n:03}"), update).await;
        }
        for n in 0..EDGE_DEVICES {
            let (device, edge) =
                (id(&format!("d{n:03}")), IdentitySpec { edge: true, ..IdentitySpec::default() });
            let changed = test.hub.identity_update(&test.owner(), &device, edge, &Precondition::None).await;
            changed.expect("an edge device");
        }
        self.stop(&test).await;
    }

    /// Takes all steps, each once what came before is at rest.
    async fn run(&mut self) {
        let mut steps = script(self.seed).into_iter().peekable();
        let mut is_taken = false;
        while steps.peek().is_some() {
            assert!(self.lives < LIVES_MAX, "seed {} does not end", self.seed);
            let (test, store) = self.start().await;
            if let Some(deaths) = &self.deaths {
                store.dies_after(1 + deaths.below(6));
            }
            while let Some(step) = steps.peek()
                && !store.is_dead()
            {
                if !is_taken {
                    match step.take(&test).await {
                        Ok(()) => is_taken = true,
                        Err(error) => assert!(store.is_dead(), "seed {}: {step:?}: {error}", self.seed),
                    }
                }
                if is_taken && is_at_rest(&test, &store).await {
                    steps.next();
                    is_taken = false;
                }
            }
            self.stop(&test).await;
        }
    }

    /// What is there in the end, with all that was told of overridden gates.
    async fn end(mut self) -> (Value, u64) {
        let (test, _) = self.start().await;
        tokio::time::sleep(REST).await;
        let repaired = test.hub.prove_configurations().await.expect("proven");
        assert_eq!(repaired, 0, "seed {}: twins were not as their configurations want them", self.seed);
        let twin = |id: TwinId| {
            // The module comes with a deployment.
            let Ok(view) = test.hub.twin_get(&test.owner(), &id) else { return json!(id.to_string()) };
            let twin = &view.twin;
            let (statuses, let_in) = (&twin.configurations, &twin.let_in);
            let desired = Value::Object(twin.desired.values.clone());
            let texts = [id.to_string(), format!("{statuses:?}"), format!("{let_in:?}")];
            json!([texts, twin.desired.version, desired])
        };
        let devices = (0..DEVICES).map(|n| id(&format!("d{n:03}")));
        let modules = (0..EDGE_DEVICES).flat_map(|n| {
            ["$edgeAgent", "m"].map(|module| TwinId::parse(&format!("d{n:03}"), Some(module)).expect("an id"))
        });
        let twins: Vec<_> = devices.chain(modules).map(twin).collect();
        let filter = EventFilter { sources: vec![EventSource::Job], device: None };
        let (mut told, mut position, mut at_end) = (Vec::new(), None, false);
        while !at_end {
            let page = test.hub.events_read(&test.owner(), &filter, position, 1000).await.expect("events");
            told.extend(page.events.iter().map(|(_, event)| format!("{} {:?}", event.id, event.kind)));
            (position, at_end) = (Some(page.reached), page.at_end);
        }
        self.stop(&test).await;
        (json!({ "twins": twins, "told": told }), self.lives)
    }
}

/// Gives all that runs by itself the time it needs. `false`: the hub died of it.
async fn is_at_rest(test: &TestHub, store: &Mortal) -> bool {
    loop {
        tokio::time::sleep(REST).await;
        if store.is_dead() {
            return false;
        }
        if test.hub.configurations_settled() {
            return true;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn gated_configurations_end_as_if_nobody_had_killed_the_hub() {
    let (mut killed, mut lives, mut told) = (0, 0, 0);
    for seed in seeds(SEEDS) {
        let mut plays = [Play::new(seed, false), Play::new(seed, true)];
        for play in &mut plays {
            play.prepare().await;
            play.run().await;
        }
        let [undisturbed, disturbed] = plays;
        let ((expected, few), (found, many)) = (undisturbed.end().await, disturbed.end().await);
        assert_eq!(found, expected, "seed {seed}");
        told += expected["told"].as_array().map_or(0, Vec::len);
        (killed, lives) = (killed + many - few, lives + many);
    }
    println!("{killed} kills in {lives} lives, {told} overrides told");
    assert!(killed > 10 && told > 0, "{killed} kills, {told} overrides told: hardly anything happened");
}
