//! Many simulated devices in one process, each with its own connection, folder and life.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fleetyard_device::agent::{Agent, End, Machine};
use fleetyard_device::{ConnectionString, DeviceClient, Inbox, Message};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{Fault, Found, SimulatedMachine, Surroundings};

/// How often a device looks around; what has changed is reported.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How often a device reports what has not changed, so that the hub knows that it is still so.
const REFRESH_INTERVAL: Duration = Duration::from_secs(60);
/// Pause before a device that failed tries again.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// One device to simulate.
#[derive(Clone, Debug)]
pub struct SimulatedDevice {
    /// Who it is and where its hub is.
    pub connection: ConnectionString,
    /// What it does wrong.
    pub fault: Option<Fault>,
    /// What it finds around it and reports.
    pub surroundings: Surroundings,
}

/// How a fleet is simulated.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// The devices.
    pub devices: Vec<SimulatedDevice>,
    /// Authorities that are trusted (PEM).
    pub ca_pem: Vec<u8>,
    /// Where devices keep their slots and state; one folder each.
    pub folder: PathBuf,
    /// How often each device sends telemetry; `None` is never.
    pub telemetry_interval: Option<Duration>,
    /// How long a reboot takes.
    pub reboot_time: Duration,
    /// Devices that connect at the same time.
    pub connects_at_once: usize,
}

/// Numbers of a running fleet.
#[derive(Debug, Default)]
pub struct FleetStats {
    /// Devices that are connected.
    pub connected: AtomicU64,
    /// Connections made, those that ended among them.
    pub connects: AtomicU64,
    /// Messages sent.
    pub messages: AtomicU64,
    /// Reboots.
    pub reboots: AtomicU64,
    /// Devices that failed and try again.
    pub failures: AtomicU64,
}

/// A running fleet; dropping it ends all devices at once.
pub struct Fleet {
    tasks: JoinSet<()>,
    stop: CancellationToken,
    stats: Arc<FleetStats>,
}

struct Shared {
    tls: Arc<rustls::ClientConfig>,
    http: reqwest::Client,
    connects: Semaphore,
    stats: Arc<FleetStats>,
    stop: CancellationToken,
    started: Instant,
    options: FleetOptions,
}

impl Fleet {
    /// Starts all devices; they connect in the background.
    pub fn start(mut options: FleetOptions) -> Result<Self> {
        let tls = fleetyard_device::client_config(&options.ca_pem, None)?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(rustls::ClientConfig::clone(&tls))
            .build()
            .context("the client that fetches images")?;
        let (stats, stop) = (Arc::new(FleetStats::default()), CancellationToken::new());
        let devices = std::mem::take(&mut options.devices);
        let connects = Semaphore::new(options.connects_at_once.max(1));
        let shared = Arc::new(Shared {
            tls,
            http,
            connects,
            stats: stats.clone(),
            stop: stop.clone(),
            started: Instant::now(),
            options,
        });
        let mut tasks = JoinSet::new();
        for device in devices {
            tasks.spawn(live(shared.clone(), device));
        }
        Ok(Self { tasks, stop, stats })
    }

    /// The fleet's numbers.
    pub fn stats(&self) -> &FleetStats {
        &self.stats
    }

    /// Disconnects all devices and waits for them.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// A device's life: boot after boot, until the fleet stops or the device never comes back.
async fn live(shared: Arc<Shared>, device: SimulatedDevice) {
    let life = async {
        loop {
            match boot(&shared, &device).await {
                Ok(End::Reboot) if device.fault == Some(Fault::NeverReturns) => return,
                Ok(End::Reboot) => {
                    shared.stats.reboots.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(shared.options.reboot_time).await;
                }
                Ok(End::Closed) => return,
                Err(error) => {
                    shared.stats.failures.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(device = device.connection.device_id, %error, "a simulated device failed; it tries again");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = shared.stop.cancelled() => {}
        () = life => {}
    }
}

/// Counts a device as connected for as long as it lives.
struct Counted<'a>(&'a AtomicU64);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Closes the connection of a device whose fleet stops in the middle of something.
struct Closing(DeviceClient);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

async fn boot(shared: &Shared, device: &SimulatedDevice) -> Result<End> {
    let folder = shared.options.folder.join(&device.connection.device_id);
    let machine =
        SimulatedMachine::boot(&folder, device.fault).map_err(|failure| anyhow::anyhow!("{failure}"))?;
    let machine = Arc::new(machine.within(device.surroundings.clone(), shared.started));
    let turn = shared.connects.acquire().await?;
    let (client, inbox) = DeviceClient::start(device.connection.clone(), shared.tls.clone())?;
    let _closing = Closing(client.clone());
    client.connected().await?;
    drop(turn);
    shared.stats.connects.fetch_add(1, Ordering::Relaxed);
    shared.stats.connected.fetch_add(1, Ordering::Relaxed);
    let _counted = Counted(&shared.stats.connected);
    let end = tokio::select! {
        biased;
        end = serve(shared, &client, machine, inbox) => end?,
        () = look_around(&client, &device.surroundings, shared.started) => End::Closed,
    };
    client.close().await;
    Ok(end)
}

/// Reports what surrounds the device; never ends.
async fn look_around(client: &DeviceClient, surroundings: &Surroundings, begun: Instant) {
    if surroundings.is_empty() {
        return std::future::pending().await;
    }
    let mut reported: Option<(Found, Instant)> = None;
    loop {
        let since = begun.elapsed();
        let found = surroundings.at(since);
        let is_known = reported
            .as_ref()
            .is_some_and(|(known, when)| *known == found && when.elapsed() < REFRESH_INTERVAL);
        // What is not acknowledged is repeated with the next look, or after the next boot.
        if !is_known && client.report(&surroundings.document(&found, since, reported.is_none())).await.is_ok()
        {
            reported = Some((found, Instant::now()));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

async fn serve(
    shared: &Shared,
    client: &DeviceClient,
    machine: Arc<SimulatedMachine>,
    inbox: Inbox,
) -> Result<End> {
    let agent = Agent::new(client.clone(), shared.http.clone(), machine.clone());
    let telemetry = async {
        let Some(interval) = shared.options.telemetry_interval else { return std::future::pending().await };
        loop {
            tokio::time::sleep(interval).await;
            let mut body = machine.status();
            let sent = shared.stats.messages.load(Ordering::Relaxed);
            body.insert("temperature".into(), json!(20.0 + (sent % 50) as f64 / 10.0));
            if client.send(Message::json(&body.into())).await.is_ok() {
                shared.stats.messages.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    tokio::select! {
        biased;
        end = agent.run(inbox) => Ok(end?),
        () = telemetry => Ok(End::Closed),
    }
}
