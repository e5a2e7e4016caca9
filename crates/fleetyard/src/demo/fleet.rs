//! The devices of a demo: registered in bulk, connected as separate clients, some of them faulty if that is asked for.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hub_cli::client::Client;
use hub_sim::{ConnectionString, Fault, Fleet, FleetOptions, Model, SimulatedDevice, Surroundings};
use reqwest::Method;
use serde_json::{Value, json};

use super::bar;
use super::place::Place;

/// Devices in one bulk request.
const BULK: usize = 100;
/// Devices that connect at the same time.
const CONNECTS_AT_ONCE: usize = 32;
/// What the lives of the devices are drawn from.
const SEED: u64 = 1;
/// How long a simulated reboot takes.
const REBOOT_TIME: Duration = Duration::from_millis(300);

/// Which device fails how, and what an update must end with on it.
pub struct Expected(Vec<(Fault, &'static str, &'static str)>);

impl Expected {
    /// How many devices are faulty.
    pub const FAULTS: usize = 6;

    /// The first devices are faulty, or none is.
    pub fn new(faults: bool) -> Expected {
        let all = [
            (Fault::DownloadFails, "failed", "downloading"),
            (Fault::WrongHash, "failed", "verifying"),
            (Fault::WrongSize, "failed", "verifying"),
            (Fault::ApplyFails, "failed", "applying"),
            (Fault::BootFails, "reverted", "rebooting"),
            (Fault::ConfirmFails, "reverted", "confirming"),
        ];
        Expected(if faults { all.into() } else { Vec::new() })
    }

    /// Number of the device, state and step for each faulty device.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &'static str, &'static str)> {
        self.0.iter().enumerate().map(|(number, (_, state, step))| (number, *state, *step))
    }

    /// How many devices are faulty.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    fn fault(&self, number: usize) -> Option<Fault> {
        self.0.get(number).map(|(fault, _, _)| *fault)
    }
}

fn item(name: &str, number: usize, key: &str) -> Value {
    let site = ["north", "south", "east"][number % 3];
    let ring = if number.is_multiple_of(20) { "canary" } else { "all" };
    json!({
        "id": name,
        "importMode": "create",
        "authentication": { "type": "sas", "symmetricKey": { "primaryKey": key, "secondaryKey": key } },
        "tags": { "site": site, "ring": ring, "zone": super::rollout::ZONES[number % 3] },
        "properties": { "desired": {} },
    })
}

/// Registers the devices and starts them; returns their names.
pub async fn start(
    place: &Place,
    client: &Client,
    count: usize,
    expected: &Expected,
    models: &[Model],
) -> Result<(Fleet, Vec<String>)> {
    let names: Vec<String> = (0..count).map(|number| format!("demo-{number:04}")).collect();
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("random bytes: {error}"))?;
    let key = BASE64.encode(random);
    let bar = bar("registered", count);
    for (chunk, start) in names.chunks(BULK).zip((0..).step_by(BULK)) {
        let items: Vec<Value> =
            chunk.iter().zip(start..).map(|(name, number)| item(name, number, &key)).collect();
        let answer = client.write(Method::POST, &["devices"], &Value::from(items), None).await?;
        if answer["isSuccessful"] != json!(true) {
            bail!("not all devices could be registered: {answer}");
        }
        bar.inc(chunk.len() as u64);
    }
    bar.finish();
    let host = place.endpoints.device_host();
    let device = |(number, name): (usize, &String)| {
        let text = format!("HostName={host};DeviceId={name};SharedAccessKey={key}");
        let connection = ConnectionString::parse(&text)?;
        // Some batteries are low at first, and are being charged.
        let battery = if number.is_multiple_of(7) { 10 } else { 90 };
        let surroundings = Surroundings::new(SEED, name, models).with_battery(battery);
        Ok(SimulatedDevice { connection, fault: expected.fault(number), surroundings })
    };
    let options = FleetOptions {
        devices: names.iter().enumerate().map(device).collect::<Result<_>>()?,
        ca_pem: std::fs::read(place.ca()).context("the hub's certificate authority")?,
        folder: place.devices(),
        telemetry_interval: Some(Duration::from_secs(5)),
        reboot_time: REBOOT_TIME,
        connects_at_once: CONNECTS_AT_ONCE,
    };
    Ok((Fleet::start(options)?, names))
}
