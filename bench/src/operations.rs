//! Benchmarks of what works on a whole fleet: jobs and configurations. Each also says what it does to a single call.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::Args;
use crate::client::Client;
use crate::fleet::{Rest, connect, name};
use crate::hub::Hub;
use crate::measure::{Report, Times, milliseconds, with_peak};

/// Longest that one may take.
const JOB_MAX: Duration = Duration::from_secs(600);
/// Pause between two single calls: an operator, not a load.
const CALL_INTERVAL: Duration = Duration::from_millis(5);
/// Method jobs one after the other: one alone is over too soon for many single calls beside it.
const METHOD_JOBS: usize = 20;
/// Single calls while the hub is idle.
const IDLE_CALLS: usize = 2000;
/// Writes of a tag for each number of configurations.
const TAG_WRITES: usize = 300;

/// A twin job over all registered devices, a method job over connected ones, and a single call beside each.
pub async fn jobs(args: &Args, report: &mut Report) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let hub = Hub::start(&args.binary, folder.path()).await?;
    let rest = Rest::new(&hub)?;
    rest.register(args.registered.max(args.called)).await?;
    for client in connect(&hub, args.called).await? {
        answer(client).await?;
    }
    let mut idle = Times::default();
    for _ in 0..IDLE_CALLS {
        idle.push(call(&rest).await?);
        tokio::time::sleep(CALL_INTERVAL).await;
    }
    let idle_p99 = milliseconds(idle.percentile(0.99));
    report.add("single call, idle hub, p99", format!("{idle_p99:.2} ms"), "-".into(), "-", "");
    let twin = json!({
        "type": "scheduleUpdateTwin", "queryCondition": "*",
        "updateTwin": {"etag": "*", "properties": {"desired": {"interval": 30}}},
    });
    run(&rest, &hub, ("twins", 1), "twin job", twin, idle_p99, report).await?;
    let method = json!({
        "type": "scheduleDeviceMethod", "queryCondition": "connectionState = 'Connected'",
        "cloudToDeviceMethod": {"methodName": "ping", "payload": {"n": 1}, "responseTimeoutInSeconds": 60},
    });
    run(&rest, &hub, ("methods", METHOD_JOBS), "method job", method, idle_p99, report).await?;
    hub.stop().await
}

async fn run(
    rest: &Rest,
    hub: &Hub,
    (id, jobs): (&str, usize),
    title: &str,
    body: Value,
    idle_p99: f64,
    report: &mut Report,
) -> Result<()> {
    let calls = async {
        let (mut times, mut took, mut devices) = (Times::default(), Duration::ZERO, 0);
        for number in 0..jobs {
            let path = format!("/jobs/v2/{id}-{number}");
            let begun = Instant::now();
            rest.put(&path, &body).await?;
            let job = loop {
                times.push(call(rest).await?);
                tokio::time::sleep(CALL_INTERVAL).await;
                if begun.elapsed() > JOB_MAX {
                    bail!("the {title} took too long");
                }
                let job = rest.json(&path).await?;
                if !job["endTime"].is_null() {
                    break job;
                }
            };
            took += begun.elapsed();
            let counts = &job["deviceJobStatistics"];
            let succeeded = counts["succeededCount"].as_u64().context("a count")?;
            devices = counts["deviceCount"].as_u64().context("a count")?;
            if succeeded != devices || job["status"] != "completed" {
                bail!("the {title} did not reach everybody: {job}");
            }
        }
        Ok((times, took, devices))
    };
    let ((mut times, took, devices), peak): ((Times, Duration, u64), u64) =
        with_peak(hub.process(), calls).await?;
    let rate = (devices * jobs as u64) as f64 / took.as_secs_f64();
    let peak = peak as f64 / 1e6;
    let what = format!("{title}, {devices} devices");
    report.add(
        &what,
        format!("{rate:.0} /s"),
        "-".into(),
        "> 10000 /s",
        &format!("hub at most {peak:.0} MB"),
    );
    let p99 = milliseconds(times.percentile(0.99));
    report.add(
        &format!("  single call beside it, p99 of {}", times.len()),
        format!("{p99:.2} ms"),
        "-".into(),
        "< 2 x idle",
        &format!("{:.1} x idle", p99 / idle_p99),
    );
    Ok(())
}

async fn call(rest: &Rest) -> Result<Duration> {
    let body = json!({"methodName": "ping", "payload": {"n": 1}, "responseTimeoutInSeconds": 30});
    let begun = Instant::now();
    rest.post(&format!("/twins/{}/methods", name(0)), &body).await?;
    Ok(begun.elapsed())
}

/// Lets a device answer every call.
pub async fn answer(mut client: Client) -> Result<()> {
    client.subscribe(&["$iothub/methods/POST/#"]).await?;
    tokio::spawn(async move {
        while let Ok(call) = client.next().await {
            let rid = call.topic.rsplit_once("$rid=").map(|(_, rid)| rid.to_string()).unwrap_or_default();
            if client.publish(&format!("$iothub/methods/res/200/?$rid={rid}"), b"{}").await.is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// From the write of a tag to the device's new desired property, with ever more configurations on the hub.
pub async fn configurations(args: &Args, report: &mut Report) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let hub = Hub::start(&args.binary, folder.path()).await?;
    let rest = Rest::new(&hub)?;
    rest.register(100).await?;
    let mut device = connect(&hub, 1).await?.pop().context("a device")?;
    device.subscribe(&["$iothub/twin/PATCH/properties/desired/#"]).await?;
    let mut created = 0;
    for count in [10, 1_000, 10_000] {
        let begun = Instant::now();
        while created < count {
            let body = json!({
                "content": {"deviceContent": {"properties.desired.bench.value": created}},
                "targetCondition": format!("tags.bench = {created}"), "priority": 1,
            });
            rest.put(&format!("/configurations/c{created}"), &body).await?;
            created += 1;
        }
        eprintln!("  {count} configurations after {:.1} s", begun.elapsed().as_secs_f64());
        let mut times = Times::default();
        for number in 0..TAG_WRITES {
            let wanted = number % count;
            let begun = Instant::now();
            rest.patch(&format!("/twins/{}", name(0)), &json!({"tags": {"bench": wanted}})).await?;
            let told = tokio::time::timeout(Duration::from_secs(10), device.next()).await;
            let told: Value = serde_json::from_slice(&told.context("the device was not told")??.payload)?;
            if told["bench"]["value"] != json!(wanted) {
                bail!("the device was told {told} instead of {wanted}");
            }
            times.push(begun.elapsed());
        }
        let (p50, p99) = (milliseconds(times.percentile(0.5)), milliseconds(times.percentile(0.99)));
        let what = format!("tag write to desired at the device, {count} configurations, p50 / p99");
        let aim = if count == 10_000 { "p99 < 100 ms" } else { "-" };
        report.add(&what, format!("{p50:.2} / {p99:.2} ms"), "-".into(), aim, "REST to disk to MQTT");
    }
    let _ = args;
    hub.stop().await
}
