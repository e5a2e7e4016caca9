//! `fleetyard simulate`: registers devices and runs them, with everything that real ones do, until Ctrl-C or for a set time.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;
use clap::builder::PossibleValuesParser;
use futures_util::{StreamExt, TryStreamExt, stream};
use hub_sim::{ConnectionString, Fault, Fleet, FleetOptions, Model, SimulatedDevice, Surroundings};
use serde_json::{Value, json};

use super::import::{BATCH_DEVICES, bulk};
use crate::Context;
use crate::error::{Error, Exit, Result};
use crate::output::{line, note, progress};

/// Most devices in one process.
const DEVICES_MAX: u32 = 100_000;
/// Requests at once for keys of devices.
const KEYS_AT_ONCE: usize = 16;
/// Devices that connect at the same time.
const CONNECTS_AT_ONCE: usize = 64;
/// How often the numbers are shown.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// What to run.
#[derive(Args, Debug)]
pub struct Arguments {
    /// How many devices.
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(DEVICES_MAX)))]
    devices: u32,
    /// Their ids begin so; a number of four digits follows. Those that exist are used, the others registered.
    #[arg(long, default_value = "sim-", value_name = "TEXT")]
    prefix: String,
    /// Pause between two messages of a device, in seconds; 0 is none at all.
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    telemetry: u64,
    /// How long a reboot takes, in seconds.
    #[arg(long, default_value_t = 2, value_name = "SECONDS")]
    reboot: u64,
    /// What a device does wrong: the first one given is for the first device, and so on.
    #[arg(long, value_name = "FAULT", value_parser = PossibleValuesParser::new(Fault::ALL.map(Fault::as_str)))]
    fault: Vec<String>,
    /// So many percent of the others do something wrong, each its own thing.
    #[arg(long, default_value_t = 0, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    faulty: u8,
    /// What surrounds the devices: they report it where context gates look, and put off what they are told while they are
    /// in use or out of power.
    #[arg(long, value_delimiter = ',', value_name = "MODELS", value_parser = PossibleValuesParser::new(Model::ALL.map(Model::as_str)))]
    model: Vec<String>,
    /// What faults and surroundings are drawn from: with the same number a fleet lives the same life.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    seed: u64,
    /// The charge of their batteries at first, in percent; they are charged from then on, and report it.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    battery: Option<u8>,
    /// Where the devices keep their firmware slots; a temporary folder without it.
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Name and port where the devices find the hub over MQTT, if not the hub's own.
    #[arg(long, value_name = "NAME[:PORT]")]
    mqtt_host: Option<String>,
    /// End after so many seconds.
    #[arg(long = "for", value_name = "SECONDS")]
    duration: Option<u64>,
    /// Delete the devices at the end.
    #[arg(long)]
    remove: bool,
}

/// Runs them.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> Result<()> {
    let ids: Vec<_> =
        (1..=arguments.devices).map(|number| format!("{}{number:04}", arguments.prefix)).collect();
    register(context, &ids).await?;
    let temporary = std::env::temp_dir().join(format!("fleetyard-simulate-{}", std::process::id()));
    let folder = arguments.folder.clone().unwrap_or_else(|| temporary.clone());
    let ca = context.target.ca.as_ref().ok_or_else(|| {
        Error::usage(
            "simulated devices need the hub's certificate authority: give it with --ca or FLEETYARD_CA",
        )
    })?;
    let ca_pem =
        std::fs::read(ca).map_err(|error| Error::usage(format!("cannot read {}: {error}", ca.display())))?;
    let options = FleetOptions {
        devices: devices(context, &ids, &arguments).await?,
        ca_pem,
        folder,
        telemetry_interval: (arguments.telemetry > 0).then(|| Duration::from_secs(arguments.telemetry)),
        reboot_time: Duration::from_secs(arguments.reboot),
        connects_at_once: CONNECTS_AT_ONCE,
    };
    let fleet = Fleet::start(options).map_err(|error| Error::failed(format!("{error:#}")))?;
    let ran = watch(context, &fleet, &arguments).await;
    fleet.stop().await;
    if arguments.folder.is_none() && temporary.exists() {
        std::fs::remove_dir_all(&temporary)
            .map_err(|error| Error::failed(format!("cannot remove {}: {error}", temporary.display())))?;
    }
    if arguments.remove {
        let items: Vec<_> = ids.iter().map(|id| json!({ "id": id, "importMode": "delete" })).collect();
        submit(context, &items, "remove", "DeviceNotFound").await?;
    }
    ran
}

async fn register(context: &Context, ids: &[String]) -> Result<()> {
    let items: Vec<_> = ids.iter().map(|id| json!({ "id": id, "importMode": "create" })).collect();
    submit(context, &items, "register", "DeviceAlreadyExists").await
}

/// Bulk requests; errors named `expected` are none.
async fn submit(context: &Context, items: &[Value], what: &'static str, expected: &str) -> Result<()> {
    let bar = progress(items.len() as u64, what);
    for batch in items.chunks(BATCH_DEVICES) {
        let result = bulk(context, batch).await?;
        if let Some(error) = result.errors.iter().find(|error| error.error_code != expected) {
            return Err(Error::failed(format!(
                "{}: {} {}",
                error.device_id, error.error_code, error.error_status
            )));
        }
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    Ok(())
}

/// The devices with their keys, as the hub has them.
async fn devices(context: &Context, ids: &[String], arguments: &Arguments) -> Result<Vec<SimulatedDevice>> {
    let own = context.target.mqtt_host.as_deref().unwrap_or_else(|| context.client.host());
    let host = arguments.mqtt_host.as_deref().unwrap_or(own);
    let bar = &progress(ids.len() as u64, "keys");
    let models: Vec<_> = arguments.model.iter().filter_map(|name| Model::parse(name)).collect();
    let models = &models;
    let fetched = stream::iter(ids.iter().enumerate()).map(|(index, id)| async move {
        let device = context.client.get(&["devices", id]).await?;
        bar.inc(1);
        let key = device["authentication"]["symmetricKey"]["primaryKey"].as_str().ok_or_else(|| {
            Error::new(Exit::Conflict, format!("{id} exists and has no key: choose another --prefix"))
        })?;
        let text = format!("HostName={host};DeviceId={id};SharedAccessKey={key}");
        let connection =
            ConnectionString::parse(&text).map_err(|error| Error::failed(format!("{id}: {error}")))?;
        let fault = match arguments.fault.get(index) {
            Some(name) => Fault::parse(name),
            None => Fault::drawn(arguments.seed, id, arguments.faulty),
        };
        let surroundings = Surroundings::new(arguments.seed, id, models);
        let surroundings = match arguments.battery {
            Some(percent) => surroundings.with_battery(percent),
            None => surroundings,
        };
        Ok(SimulatedDevice { connection, fault, surroundings })
    });
    let devices = fetched.buffered(KEYS_AT_ONCE).try_collect().await;
    bar.finish_and_clear();
    devices
}

/// Shows the numbers until Ctrl-C or the end of the time.
async fn watch(context: &Context, fleet: &Fleet, arguments: &Arguments) -> Result<()> {
    let total = u64::from(arguments.devices);
    let bar = progress(total, "connected");
    context
        .output
        .done(&format!("{total} simulated devices {}0001 and up; Ctrl-C ends them", arguments.prefix));
    let end = async {
        match arguments.duration {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(end);
    let stats = fleet.stats();
    loop {
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => break,
            () = &mut end => break,
            () = tokio::time::sleep(REPORT_INTERVAL) => bar.set_position(stats.connected.load(Ordering::Relaxed)),
        }
    }
    bar.finish_and_clear();
    let number = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let (connected, failures) = (number(&stats.connected), number(&stats.failures));
    let ended = json!({
        "devices": total,
        "connected": connected,
        "messages": number(&stats.messages),
        "reboots": number(&stats.reboots),
        "failures": failures,
    });
    if context.output.json {
        line(&ended.to_string())?;
    } else {
        note(&format!(
            "{connected} of {total} connected, {} messages, {} reboots",
            ended["messages"], ended["reboots"]
        ));
    }
    if number(&stats.connects) == 0 || (failures > 0 && connected == 0) {
        return Err(Error::new(
            Exit::Offline,
            "no device could stay connected: check the MQTT address (--mqtt-host), and that --for leaves the time to connect",
        ));
    }
    Ok(())
}
