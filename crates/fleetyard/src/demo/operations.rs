//! What works on the whole fleet at once: a scheduled job and an automatic configuration, judged by queries as well.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Stage, bar};

/// How far ahead the job is set.
const AHEAD: Duration = Duration::from_secs(2);
/// How often the job is asked how far it is.
const ASK_INTERVAL: Duration = Duration::from_millis(100);
/// Longest that it may take.
const JOB_TIME: Duration = Duration::from_secs(120);

/// A job that starts in a moment and asks every device for its status.
pub async fn job(stage: &Stage) -> Result<()> {
    println!("\n6. a scheduled job over all devices");
    let start = jiff::Timestamp::now() + AHEAD;
    let body = json!({
        "type": "scheduleDeviceMethod",
        "cloudToDeviceMethod": { "methodName": "reportStatus", "responseTimeoutInSeconds": 30 },
        "queryCondition": "*", "startTime": start.to_string(), "maxExecutionTimeInSeconds": 600,
        "waitForDevices": true,
    });
    let path = ["jobs", "v2", "demo-status"];
    let created = stage.client.write(Method::PUT, &path, &body, None).await?;
    if created["status"] != "scheduled" {
        bail!("the job is not scheduled: {created}");
    }
    let bar = bar("answered", stage.devices.len());
    let ended = tokio::time::timeout(JOB_TIME, async {
        loop {
            let job = stage.client.get(&path).await?;
            bar.set_position(job["deviceJobStatistics"]["succeededCount"].as_u64().unwrap_or(0));
            if !job["endTime"].is_null() {
                return anyhow::Ok(job);
            }
            tokio::time::sleep(ASK_INTERVAL).await;
        }
    });
    let job = ended.await.context("the job did not end in time")??;
    bar.finish();
    if job["deviceJobStatistics"]["succeededCount"] != json!(stage.devices.len()) {
        bail!("the job did not reach every device: {job}");
    }
    stage.show("SELECT status, outcome.deviceMethodResponse.status AS answer, COUNT() AS devices FROM devices.jobs WHERE jobId = 'demo-status' GROUP BY status, outcome.deviceMethodResponse.status").await
}

/// A configuration of lower and one of higher priority; devices enter the latter by a tag.
pub async fn rollout(stage: &Stage) -> Result<()> {
    println!("\n7. automatic configurations");
    let write = async |id: &str, target: &str, priority: u32, interval: u32| {
        let content = json!({ "deviceContent": { "properties.desired.configuration.interval": interval } });
        let body = json!({ "id": id, "content": content, "targetCondition": target, "priority": priority });
        stage.client.write(Method::PUT, &["configurations", id], &body, None).await
    };
    write("demo-all", "*", 1, 30).await?;
    write("demo-north", "tags.site = 'north'", 10, 15).await?;
    let applied = |interval: u32, site: &str| {
        format!(
            "tags.site {site} 'north' AND properties.reported.configuration.state = 'applied' AND properties.reported.configuration.values.interval = {interval}"
        )
    };
    let north = stage.count("tags.site = 'north'").await?;
    stage.until_count("north", &applied(15, "="), north).await?;
    stage.until_count("elsewhere", &applied(30, "!="), stage.devices.len() - north).await?;
    stage.show("SELECT tags.site AS site, properties.reported.configuration.values.interval AS interval, COUNT() AS devices FROM devices GROUP BY tags.site, properties.reported.configuration.values.interval").await?;

    let device = stage.devices.first().context("a device")?;
    println!("  why is {device} as it is?");
    let explained = stage.client.get(&["api", "devices", device, "explain"]).await?;
    for property in explained["properties"].as_array().into_iter().flatten() {
        let by =
            property["setBy"]["name"].as_str().or(property["setBy"]["kind"].as_str()).unwrap_or("somebody");
        println!("    {} = {}, set by {by}", text(&property["path"]), property["value"]);
        for lost in property["overridden"].as_array().into_iter().flatten() {
            println!(
                "      {} of {} lost: {}",
                lost["value"],
                text(&lost["configuration"]),
                text(&lost["reason"])
            );
        }
    }
    for configuration in explained["configurations"].as_array().into_iter().flatten() {
        println!("    {}: {}", text(&configuration["id"]), text(&configuration["reason"]));
    }
    Ok(())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
