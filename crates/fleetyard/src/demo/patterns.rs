//! The five patterns of device management, each begun over the REST API and judged by queries (docs/patterns.md).

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Stage, bar};

/// Calls and writes under way at once.
const AT_ONCE: usize = 32;
/// The version that devices are updated to, and the size of its image.
const NEW_VERSION: &str = "2.0.0";
const IMAGE_BYTES: usize = 256 * 1024;
/// Longest wait of one method call, for a device that just reboots and for its answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);

async fn boot_ids(stage: &Stage) -> Result<BTreeMap<String, String>> {
    let rows =
        stage.query("SELECT deviceId, properties.reported.device.bootId AS bootId FROM devices").await?;
    let text = |row: &Value, key: &str| row[key].as_str().map(String::from);
    let pairs = rows.iter().map(|row| Some((text(row, "deviceId")?, text(row, "bootId")?)));
    pairs.collect::<Option<_>>().context("a device reported no boot id")
}

/// Calls a method on every device and checks that each took it.
async fn call_all(stage: &Stage, name: &str, payload: &Value, status: i64) -> Result<()> {
    let bar = bar(&format!("called {name}"), stage.devices.len());
    let calls = stage.devices.iter().map(|device| {
        let body = json!({
            "methodName": name, "payload": payload, "connectTimeoutInSeconds": 60, "responseTimeoutInSeconds": 30,
        });
        let bar = &bar;
        async move {
            let request = stage.client.request(Method::POST, &["twins", device, "methods"]).json(&body).timeout(CALL_TIMEOUT);
            let (answer, _) = stage.client.json_with_headers(request).await.with_context(|| format!("{name} on {device}"))?;
            if answer["status"] != json!(status) {
                bail!("{device} answered {answer} to {name}");
            }
            bar.inc(1);
            Ok(())
        }
    });
    stream::iter(calls).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    bar.finish();
    Ok(())
}

/// Checks that every device booted since.
async fn all_rebooted(stage: &Stage, before: &BTreeMap<String, String>) -> Result<()> {
    let after = boot_ids(stage).await?;
    match before.iter().find(|(device, boot)| after.get(*device) == Some(boot)) {
        Some((device, _)) => bail!("{device} says that it rebooted and has the same boot id"),
        None => Ok(()),
    }
}

/// Reboots all devices: each must come back with another boot id.
pub async fn reboot(stage: &Stage) -> Result<()> {
    println!("\n1. reboot");
    let before = boot_ids(stage).await?;
    call_all(stage, "reboot", &Value::Null, 202).await?;
    stage.until("rebooted", "properties.reported.reboot.state = 'done'").await?;
    all_rebooted(stage, &before).await?;
    stage.show("SELECT properties.reported.reboot.state AS reboot, COUNT() AS devices FROM devices GROUP BY properties.reported.reboot.state").await
}

/// Resets all devices: configuration is gone, identity stays.
pub async fn factory_reset(stage: &Stage) -> Result<()> {
    println!("\n2. factory reset");
    let before = boot_ids(stage).await?;
    call_all(stage, "factoryReset", &Value::Null, 202).await?;
    stage.until("reset", "properties.reported.factoryReset.state = 'done' AND NOT IS_DEFINED(properties.reported.configuration)").await?;
    all_rebooted(stage, &before).await?;
    stage.show("SELECT properties.reported.factoryReset.state AS reset, COUNT() AS devices FROM devices GROUP BY properties.reported.factoryReset.state").await
}

/// Writes desired configuration; each device must report that it is in force.
pub async fn configuration(stage: &Stage) -> Result<()> {
    println!("\n3. configuration");
    let body =
        json!({ "properties": { "desired": { "configuration": { "interval": 60, "logLevel": "info" } } } });
    let bar = bar("desired written", stage.devices.len());
    let writes = stage.devices.iter().map(|device| {
        let (body, bar) = (&body, &bar);
        async move {
            stage.client.write(Method::PATCH, &["twins", device], body, None).await?;
            bar.inc(1);
            Ok::<_, anyhow::Error>(())
        }
    });
    stream::iter(writes).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    bar.finish();
    let applied = "properties.reported.configuration.state = 'applied' AND properties.reported.configuration.values.interval = properties.desired.configuration.interval";
    stage.until("configured", applied).await?;
    stage.show("SELECT properties.reported.configuration.state AS state, properties.reported.configuration.values.interval AS interval, COUNT() AS devices FROM devices GROUP BY properties.reported.configuration.state, properties.reported.configuration.values.interval").await
}

/// Stores an image; gives what a firmware update to it takes.
pub async fn store_image(stage: &Stage, version: &str) -> Result<Value> {
    let image = hub_sim::make_image(version, IMAGE_BYTES);
    let size = image.len();
    let name = format!("demo-{version}");
    let request =
        stage.client.request(Method::POST, &["api", "artifacts"]).query(&[("name", &name)]).body(image);
    let artifact = stage.client.json(request).await.context("storing the image")?;
    let sha256 = artifact["sha256"].as_str().context("the image's SHA-256")?;
    let grant = json!({ "expiresInSeconds": 3600 });
    let grant =
        stage.client.write(Method::POST, &["api", "artifacts", sha256, "grants"], &grant, None).await?;
    let url = stage.client.url(grant["path"].as_str().context("the image's link")?);
    Ok(json!({ "version": version, "url": url, "sha256": sha256, "size": size }))
}

/// Stores an image and updates all devices: done is who runs the new version after its reboot.
pub async fn firmware(stage: &Stage) -> Result<()> {
    println!("\n4. firmware update to {NEW_VERSION}");
    let payload = store_image(stage, NEW_VERSION).await?;
    call_all(stage, "firmwareUpdate", &payload, 202).await?;
    let faulty = stage.expected.len();
    let good = format!(
        "properties.reported.firmware.update.state = 'succeeded' AND properties.reported.firmware.version = '{NEW_VERSION}'"
    );
    stage.until_count("updated", &good, stage.devices.len() - faulty).await?;
    if faulty > 0 {
        stage
            .until_count(
                "failed or reverted",
                "properties.reported.firmware.update.state IN ['failed', 'reverted']",
                faulty,
            )
            .await?;
    }
    for (number, state, step) in stage.expected.iter() {
        let device = &stage.devices[number];
        let right = format!(
            "deviceId = '{device}' AND properties.reported.firmware.update.state = '{state}' AND properties.reported.firmware.update.error.step = '{step}'"
        );
        if stage.count(&right).await? != 1 {
            stage
                .show(&format!(
                    "SELECT properties.reported.firmware AS firmware FROM devices WHERE deviceId = '{device}'"
                ))
                .await?;
            bail!("{device} should have ended as {state} at {step}");
        }
    }
    stage.show("SELECT properties.reported.firmware.update.state AS state, properties.reported.firmware.version AS version, COUNT() AS devices FROM devices GROUP BY properties.reported.firmware.update.state, properties.reported.firmware.version").await?;
    if faulty > 0 {
        stage.show("SELECT deviceId, properties.reported.firmware.update.state AS state, properties.reported.firmware.update.error.step AS step, properties.reported.firmware.update.error.code AS code FROM devices WHERE properties.reported.firmware.update.state != 'succeeded'").await?;
    }
    Ok(())
}

/// Asks all devices for their status; each must have reported one since.
pub async fn status(stage: &Stage) -> Result<()> {
    println!("\n5. progress and status");
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    call_all(stage, "reportStatus", &Value::Null, 200).await?;
    stage.until("reported", &format!("properties.reported.status.reportedAt >= {since}")).await?;
    stage.show("SELECT properties.reported.status.health AS health, COUNT() AS devices, AVG(properties.reported.status.battery) AS battery FROM devices GROUP BY properties.reported.status.health").await?;
    stage.show("SELECT TOP 3 deviceId, tags.site, properties.reported.firmware.version AS version, properties.reported.status.boots AS boots FROM devices ORDER BY deviceId").await
}
