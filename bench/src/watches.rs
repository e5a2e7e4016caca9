//! Standing queries: what thousands of them cost each change that concerns none of them, and how soon one tells of a change.

use std::time::Instant;

use anyhow::Result;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use crate::Args;
use crate::broker::cpu_seconds;
use crate::fleet::{Rest, connect};
use crate::hub::Hub;
use crate::keep_alive::KeepAlive;
use crate::measure::{Report, Times, milliseconds, resident_bytes};
use crate::runs::report_for;

/// Queries that are watched at once; the hub takes 4,096.
const WATCHES: usize = 4000;
/// Changes that one watched query tells of.
const CHANGES: u64 = 300;

/// The same patches without and with the watches, then the way of one change to its watcher.
pub async fn watches(args: &Args, report: &mut Report) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let hub = Hub::start(&args.binary, folder.path()).await?;
    let rest = Rest::new(&hub)?;
    rest.register(args.reporters).await?;
    let mut devices = connect(&hub, args.reporters).await?;
    for device in &mut devices {
        device.subscribe(&["$iothub/twin/res/#"]).await?;
    }
    let mut patch = async || {
        let before = cpu_seconds(hub.process());
        let (rate, times) = report_for(&mut devices, args.seconds).await?;
        let each = (cpu_seconds(hub.process()) - before) / times.len().max(1) as f64 * 1e6;
        Ok::<_, anyhow::Error>((rate, each))
    };
    patch().await?;
    let (alone, cost_alone) = patch().await?;
    let before = resident_bytes(hub.process());
    let mut watchers = Vec::with_capacity(WATCHES);
    for number in 0..WATCHES {
        // Each patch changes the value that all of these test, and gets past the number of none of them.
        let level = 1000 + number;
        let condition =
            format!("tags.site = 'site-{}' AND properties.reported.battery.level > {level}", number % 50);
        watchers.push(watch(&hub, &rest, &condition).await?);
    }
    let memory = resident_bytes(hub.process()).saturating_sub(before) as f64 / WATCHES as f64 / 1e3;
    let (beside, cost) = patch().await?;
    report.add(
        &format!("patches with {WATCHES} watched queries on the path that they change"),
        format!("{beside:.0} /s"),
        "-".into(),
        "-",
        &format!("{alone:.0} /s without"),
    );
    report.add(
        "  what they cost each change",
        format!("{:.1} us", cost - cost_alone),
        "-".into(),
        "microseconds",
        &format!("CPU of the hub: {cost:.1} us instead of {cost_alone:.1}"),
    );
    report.add("  memory for each, with its TLS connection", format!("{memory:.1} KB"), "-".into(), "-", "");
    let mut watcher = watch(&hub, &rest, "properties.reported.alarm = true").await?;
    let mut times = Times::default();
    for number in 0..CHANGES {
        let begun = Instant::now();
        let is_on = number % 2 == 0;
        devices[0].patch_reported(number, &json!({ "alarm": is_on }).to_string()).await?;
        watcher.told(if is_on { "enter" } else { "leave" }).await?;
        times.push(begun.elapsed());
    }
    let (p50, p99) = (milliseconds(times.percentile(0.5)), milliseconds(times.percentile(0.99)));
    let what = format!("  one beside them, report to the watcher's event, {CHANGES} changes, p50 / p99");
    report.add(&what, format!("{p50:.2} / {p99:.2} ms"), "-".into(), "-", "MQTT to disk to HTTPS");
    drop(watchers);
    hub.stop().await
}

async fn watch(hub: &Hub, rest: &Rest, condition: &str) -> Result<KeepAlive> {
    let query = format!("SELECT deviceId FROM devices WHERE {condition}");
    let mut watcher = KeepAlive::connect(hub, rest).await?;
    watcher.watch(&utf8_percent_encode(&query, NON_ALPHANUMERIC).to_string()).await?;
    Ok(watcher)
}
