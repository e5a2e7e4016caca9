//! The scenario `rollout`: a bad image that its canary wave stops and rolls back, then a good one that goes through in waves
//! while devices wait for power, network, people who use them, and their maintenance window. Judged by queries alone, as the
//! other scenario.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use reqwest::Method;
use serde_json::{Value, json};

use super::patterns::store_image;
use super::{ASK_INTERVAL, Stage, bar};

/// The image that fails its self-test on every second device, see `hub_sim::SimulatedMachine`.
const BROKEN: &str = "2.0.0-broken";
/// What devices go back to.
const FORMER: &str = "1.0.1";
/// The image that is good.
const GOOD: &str = "2.0.1";
/// Failures that stop a rollout.
const FAILURES_MAX: u64 = 3;
/// Longest that a rollout may take, and what each device adds to it.
const ROLLOUT_TIME: Duration = Duration::from_secs(180);
const ROLLOUT_TIME_PER_DEVICE: Duration = Duration::from_millis(300);
/// The zones of the devices, by turns: one where the maintenance window is open, and two where it is not.
pub const ZONES: [&str; 3] = ["Etc/UTC", "Asia/Tokyo", "America/Sao_Paulo"];

/// Plays it.
pub async fn play(stage: &Stage) -> Result<()> {
    let former = store_image(stage, FORMER).await?;
    bad(stage, &former).await?;
    good(stage).await
}

async fn bad(stage: &Stage, former: &Value) -> Result<()> {
    println!("\n1. firmware {BROKEN}: every second device will fail its self-test");
    let broken = store_image(stage, BROKEN).await?;
    let canary = stage.devices.len().div_ceil(50).max(10);
    let body = json!({
        "type": "firmwareUpdate", "parameters": broken, "queryCondition": "*", "waitForDevices": true,
        "rollout": {
            "waves": { "canary": { "devices": canary }, "growth": { "exponential": 4 } }, "stratifyBy": "tags.site",
            "stop": { "failures": { "count": FAILURES_MAX } }, "onStop": "rollBack", "retry": retry(),
        },
        "rollBack": { "type": "firmwareUpdate", "parameters": former, "waitForDevices": true },
    });
    let job = run(stage, "bad-image", &body).await?;
    println!("  the canary wave of {canary} stopped it: {}", job["failureReason"]);
    show_waves(&job);
    if job["status"] != "failed" {
        bail!("the rollout of the bad image should have been stopped by its canary wave: {job}");
    }
    stage.show("SELECT status, error.code AS why, COUNT() AS devices FROM devices.jobs WHERE jobId = 'bad-image' GROUP BY status, error.code").await?;
    println!("  those that were turned to go back to {FORMER}");
    let undone = ended(stage, "bad-image-rollback").await?;
    // Asked again: devices that were in flight when it was stopped have ended since. One that said "not now" was turned to
    // as well: it goes back with the others, though it counts as cancelled.
    let job = ended(stage, "bad-image").await?;
    let count = |job: &Value, name: &str| job["deviceJobStatistics"][name].as_u64().unwrap_or(0);
    let acted = count(&job, "succeededCount") + count(&job, "failedCount");
    let back = count(&undone, "deviceCount");
    if back > canary as u64 {
        bail!("the rollout of the bad image should have been stopped by its canary wave: {job}");
    }
    if back < acted || count(&undone, "succeededCount") != back {
        bail!("not all devices were rolled back: {undone}");
    }
    if stage.count(&format!("properties.reported.firmware.version = '{BROKEN}'")).await? > 0 {
        bail!("some device still runs {BROKEN}");
    }
    stage.show("SELECT properties.reported.firmware.version AS version, COUNT() AS devices FROM devices GROUP BY properties.reported.firmware.version").await
}

async fn good(stage: &Stage) -> Result<()> {
    println!(
        "\n2. firmware {GOOD}: in waves: charged, with a good network, while nobody uses it, within the window"
    );
    let good = store_image(stage, GOOD).await?;
    window(stage, Timestamp::now().to_zoned(TimeZone::UTC).hour(), Duration::from_secs(7200)).await?;
    let body = json!({
        "type": "firmwareUpdate", "parameters": good, "queryCondition": "*", "waitForDevices": true,
        "rollout": {
            "waves": { "canary": { "percent": 10 }, "growth": { "exponential": 6 } }, "stratifyBy": "tags.zone",
            "advance": { "successPercent": 15 }, "stop": { "failures": { "count": FAILURES_MAX } }, "limits": { "inFlight": 300 },
            "retry": retry(),
        },
        "gates": {
            "window": { "named": "maintenance" }, "power": { "minimumBatteryPercent": 50 },
            "network": { "minimumSignal": 30 }, "notInUse": {},
        },
    });
    let preview = json!({ "job": body, "secondsPerDevice": 3 });
    let preview = stage.client.write(Method::POST, &["api", "jobs", "preview"], &preview, None).await?;
    let waves = preview["waves"].as_array().map_or(0, Vec::len);
    println!("  a dry run: {} devices in {waves} waves; of them now", preview["deviceCount"]);
    show_reasons(&preview["reasons"]);
    let in_window = stage.count("tags.zone = 'Etc/UTC'").await? as u64;
    let mut opened = false;
    let path = ["jobs", "v2", "good-image"];
    stage.client.write(Method::PUT, &path, &body, None).await?;
    let (bar, limit) = watched(stage, "updated");
    let began = Instant::now();
    let job = loop {
        let job = stage.client.get(&path).await?;
        let done = job["deviceJobStatistics"]["succeededCount"].as_u64().unwrap_or(0);
        bar.set_position(done);
        if !job["endTime"].is_null() {
            break job;
        }
        if !opened && done == in_window {
            opened = true;
            let waiting = stage.client.get(&["api", "jobs", "good-image", "waiting"]).await?;
            bar.suspend(|| {
                println!("  {done} devices are done; why do the others wait?");
                show_reasons(&waiting["reasons"]);
            });
            explain_one(stage, &bar).await?;
            bar.suspend(|| println!("  the operators make the window the whole day"));
            window(stage, 0, Duration::from_secs(86_400)).await?;
        }
        if began.elapsed() > limit {
            bail!("the rollout of the good image did not end in time: {job}");
        }
        tokio::time::sleep(ASK_INTERVAL).await;
    };
    bar.finish();
    show_waves(&job);
    if !opened {
        bail!("no device waited for its window");
    }
    stage.until("run the new version", &format!("properties.reported.firmware.version = '{GOOD}' AND properties.reported.firmware.update.state = 'succeeded'")).await
}

/// Devices that say "not now", since they are in use, are asked again when they say.
fn retry() -> Value {
    json!({ "deferred": { "initialInSeconds": 1, "maxInSeconds": 1 } })
}

/// Replaces the hub's context: a daily maintenance window from this hour on, by the time of each device.
async fn window(stage: &Stage, hour: i8, duration: Duration) -> Result<()> {
    let rule = format!("FREQ=DAILY;BYHOUR={hour};BYMINUTE=0;BYSECOND=0");
    let window = json!({ "rrule": rule, "durationInSeconds": duration.as_secs() });
    let context = json!({ "windows": { "maintenance": window }, "facts": { "timeZone": "tags.zone" } });
    stage.client.write(Method::PUT, &["api", "context"], &context, None).await.map(drop).map_err(Into::into)
}

async fn explain_one(stage: &Stage, bar: &ProgressBar) -> Result<()> {
    let query = "SELECT TOP 1 deviceId FROM devices.jobs WHERE jobId = 'good-image' AND status = 'pending'";
    let rows = stage.query(query).await?;
    let Some(device) = rows.first().and_then(|row| row["deviceId"].as_str()) else { return Ok(()) };
    let explained = stage.client.get(&["api", "devices", device, "explain"]).await?;
    bar.suspend(|| {
        println!("  why is {device} still waiting?");
        for reason in explained["waiting"][0]["reasons"].as_array().into_iter().flatten() {
            println!("    {}", reason["text"].as_str().unwrap_or_default());
        }
    });
    Ok(())
}

async fn run(stage: &Stage, id: &str, body: &Value) -> Result<Value> {
    stage.client.write(Method::PUT, &["jobs", "v2", id], body, None).await?;
    ended(stage, id).await
}

fn watched(stage: &Stage, title: &str) -> (ProgressBar, Duration) {
    let count = stage.devices.len();
    (bar(title, count), ROLLOUT_TIME + ROLLOUT_TIME_PER_DEVICE * u32::try_from(count).unwrap_or(u32::MAX))
}

async fn ended(stage: &Stage, id: &str) -> Result<Value> {
    let (bar, limit) = watched(stage, id);
    let waiting = async {
        loop {
            let job = stage.client.get(&["jobs", "v2", id]).await?;
            let counts = &job["deviceJobStatistics"];
            bar.set_length(counts["deviceCount"].as_u64().unwrap_or(0));
            bar.set_position(counts["succeededCount"].as_u64().unwrap_or(0));
            if !job["endTime"].is_null() {
                return anyhow::Ok(job);
            }
            tokio::time::sleep(ASK_INTERVAL).await;
        }
    };
    let job = tokio::time::timeout(limit, waiting).await;
    bar.finish();
    job.with_context(|| format!("job {id} did not end in time"))?
}

fn show_waves(job: &Value) {
    for (number, wave) in job["rolloutState"]["waves"].as_array().into_iter().flatten().enumerate() {
        if !wave["openedTime"].is_null() {
            println!(
                "    wave {}: {} devices, {} succeeded, {} failed",
                number + 1,
                wave["targets"],
                wave["succeeded"],
                wave["failed"]
            );
        }
    }
}

fn show_reasons(reasons: &Value) {
    for (code, count) in reasons.as_object().into_iter().flatten() {
        let next = count["next"].as_str().map(|next| format!(", the first of them not before {next}"));
        println!("    {} {code}{}", count["devices"], next.unwrap_or_default());
    }
}
