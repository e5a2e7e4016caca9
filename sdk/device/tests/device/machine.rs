//! A machine without hardware: two slots as two versions, a boot counter, and failures on demand.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fleetyard_device::agent::{Action, Agent, Deferral, End, Failure, Machine, Pending, Step};
use fleetyard_device::{DeviceClient, Error};
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::hub::Hub;

pub struct State {
    pub boots: u32,
    pub version: String,
    /// The version of the slot that boots next.
    pub next: Option<String>,
    pub pending: Option<Pending>,
    pub configuration: Option<Map<String, Value>>,
    pub refused: Option<Step>,
    /// What is put off, and for how long.
    pub not_now: Option<(Action, Duration)>,
    pub reset_fails: bool,
    pub store_fails: bool,
    pub confirmed: bool,
    pub image: Vec<u8>,
}

/// See the module.
pub struct FakeMachine {
    folder: tempfile::TempDir,
    state: Mutex<State>,
    /// Steps of updates wait for a permit each.
    pub steps: Semaphore,
}

impl FakeMachine {
    pub fn new() -> Arc<Self> {
        let state = State {
            boots: 1,
            version: "1.0".into(),
            next: None,
            pending: None,
            configuration: None,
            refused: None,
            not_now: None,
            reset_fails: false,
            store_fails: false,
            confirmed: false,
            image: Vec::new(),
        };
        let folder = tempfile::tempdir().expect("a folder");
        Arc::new(Self { folder, state: Mutex::new(state), steps: Semaphore::new(100) })
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    pub fn pending_now(&self) -> Option<Pending> {
        self.state().pending.clone()
    }

    pub fn boot_now(&self) -> String {
        format!("boot-{}", self.state().boots)
    }

    /// Restarts, from the new slot if there is one.
    pub fn restart(&self) {
        let mut state = self.state();
        state.boots += 1;
        if let Some(next) = state.next.take() {
            state.version = next;
        }
    }
}

/// Connects a device with this machine and lets its agent run.
pub fn run(hub: &Hub, machine: &Arc<FakeMachine>) -> (DeviceClient, JoinHandle<Result<End, Error>>) {
    let http = reqwest::Client::builder()
        .tls_backend_preconfigured((*hub.tls.client).clone())
        .no_proxy()
        .build()
        .expect("a client");
    let (client, inbox) = DeviceClient::start(hub.device(), hub.tls.client.clone()).expect("started");
    let agent = Agent::new(client.clone(), http, machine.clone());
    let closing = client.clone();
    let running = tokio::spawn(async move {
        let end = agent.run(inbox).await;
        closing.close().await;
        end
    });
    (client, running)
}

impl Machine for FakeMachine {
    fn boot_id(&self) -> String {
        self.boot_now()
    }
    fn firmware_version(&self) -> String {
        self.state().version.clone()
    }
    fn slot(&self) -> String {
        "a".into()
    }
    fn download_path(&self) -> PathBuf {
        self.folder.path().join("download")
    }
    fn pending(&self) -> Option<Pending> {
        self.pending_now()
    }
    fn store_pending(&self, pending: Option<&Pending>) -> Result<(), Failure> {
        if self.state().store_fails {
            return Err(Failure::new("storage", "the disk is full"));
        }
        self.state().pending = pending.cloned();
        Ok(())
    }
    fn not_now(&self, action: Action) -> Option<Deferral> {
        let put_off = self.state().not_now;
        put_off.filter(|(put_off, _)| *put_off == action).map(|(_, after)| Deferral::new(after, "in use"))
    }
    async fn before(&self, step: Step) -> Result<(), Failure> {
        self.steps.acquire().await.expect("open").forget();
        match self.state().refused {
            Some(refused) if refused == step => Err(Failure::new("notNow", "told to")),
            _ => Ok(()),
        }
    }
    async fn configure(&self, configuration: &Map<String, Value>) -> Result<(), Failure> {
        if configuration.contains_key("bad") {
            return Err(Failure::new("badValue", "bad: not supported"));
        }
        self.state().configuration = Some(configuration.clone());
        Ok(())
    }
    async fn factory_reset(&self) -> Result<(), Failure> {
        if self.state().reset_fails {
            return Err(Failure::new("resetFailed", "told to"));
        }
        self.state().configuration = None;
        Ok(())
    }
    async fn apply(&self, image: PathBuf, version: &str) -> Result<(), Failure> {
        let image = std::fs::read(image).expect("an image");
        let mut state = self.state();
        (state.image, state.next) = (image, Some(version.into()));
        Ok(())
    }
    async fn confirm(&self) -> Result<(), Failure> {
        self.state().confirmed = true;
        Ok(())
    }
    fn status(&self) -> Map<String, Value> {
        Map::from_iter([("battery".into(), json!(80))])
    }
}
