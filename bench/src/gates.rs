//! A job whose gates are closed on every device of a fleet: how long the hub takes to know that all wait and why, what the
//! waiting takes of its memory, and how long after its last gate opened a device is acted on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::Args;
use crate::client::Client;
use crate::fleet::{Rest, connect};
use crate::hub::Hub;
use crate::measure::{Report, Times, milliseconds, resident_bytes};

/// Devices whose gate opens, one after the other.
const OPENINGS: usize = 200;
/// How often the hub is asked how many wait.
const ASK_INTERVAL: Duration = Duration::from_millis(200);
/// Longest until all wait, and until one goes.
const WAIT_MAX: Duration = Duration::from_secs(900);
const GO_MAX: Duration = Duration::from_secs(30);

/// A twin job over all devices, whose batteries are all too low.
pub async fn gates(args: &Args, report: &mut Report) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let hub = Hub::start(&args.binary, folder.path()).await?;
    let rest = Rest::new(&hub)?;
    let count = args.registered.max(OPENINGS);
    rest.register(count).await?;
    let mut devices = connect(&hub, OPENINGS).await?;
    for device in &mut devices {
        device.subscribe(&["$iothub/twin/PATCH/properties/desired/#"]).await?;
    }
    let before = resident_bytes(hub.process());
    let job = json!({
        "type": "scheduleUpdateTwin", "queryCondition": "*", "maxExecutionTimeInSeconds": 86_400,
        "updateTwin": {"etag": "*", "properties": {"desired": {"interval": 30}}},
        "gates": {
            "power": {"minimumBatteryPercent": 50},
            "window": {"rrule": "FREQ=HOURLY", "durationInSeconds": 3600},
            "unknown": "closed",
        },
    });
    let begun = Instant::now();
    rest.put("/jobs/v2/gated", &job).await?;
    wait_for_all(&rest, count as u64).await?;
    let mut note = |what: &str, took: Duration, remark: &str| {
        let rate = count as f64 / took.as_secs_f64();
        let remark = format!("{rate:.0} /s{remark}");
        report.add(what, format!("{:.1} s", took.as_secs_f64()), "-".into(), "-", &remark);
    };
    note(&format!("gated job, {count} devices, until all are its targets"), begun.elapsed(), ", durable");
    let begun = Instant::now();
    let waiting = rest.json("/api/jobs/gated/waiting").await?["reasons"].take();
    let decided = begun.elapsed();
    let counts = waiting.as_object().into_iter().flatten();
    let counts: Vec<_> = counts.map(|(reason, of)| format!("{reason}: {}", of["devices"])).collect();
    note("  GET waiting: all decided anew and counted", decided, &format!("; {}", counts.join(", ")));
    let each = resident_bytes(hub.process()).saturating_sub(before) as f64 / count as f64;
    report.add("  memory for each device that waits", format!("{each:.0} bytes"), "-".into(), "-", "");
    let mut times = Times::default();
    for device in &mut devices {
        let begun = Instant::now();
        let opened =
            json!({"context": {"power": {"batteryPercent": 80}, "timeZone": "Europe/Berlin"}}).to_string();
        device.publish("$iothub/twin/PATCH/properties/reported/?$rid=1", opened.as_bytes()).await?;
        let told = tokio::time::timeout(GO_MAX, desired(device)).await;
        let told = told.context("the device was not acted on")??;
        if told["interval"] != 30 {
            bail!("the device was told {told}");
        }
        times.push(begun.elapsed());
    }
    let (p50, p99) = (milliseconds(times.percentile(0.5)), milliseconds(times.percentile(0.99)));
    report.add(
        "  report that opens the last gate to desired at the device, p50 / p99",
        format!("{p50:.1} / {p99:.1} ms"),
        "-".into(),
        "< 1000 ms",
        &format!("{OPENINGS} of {count} waiting devices, MQTT to disk to MQTT"),
    );
    hub.stop().await
}

/// The next desired properties that the hub sends; the answer to the report may come before.
async fn desired(device: &mut Client) -> Result<Value> {
    loop {
        let message = device.next().await?;
        if message.topic.starts_with("$iothub/twin/PATCH/") {
            return Ok(serde_json::from_slice(&message.payload)?);
        }
    }
}

/// Waits until every device is a target.
async fn wait_for_all(rest: &Rest, count: u64) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < WAIT_MAX {
        let job = rest.json("/jobs/v2/gated").await?;
        let found = job["deviceJobStatistics"]["pendingCount"].as_u64().unwrap_or(0);
        if job["status"] == "failed" {
            bail!("the job failed: {job}");
        }
        if found == count {
            return Ok(());
        }
        tokio::time::sleep(ASK_INTERVAL).await;
    }
    bail!("{count} devices did not come to wait")
}
