//! The benchmarks themselves. Each takes a fresh data folder, and compares with its peer in the same run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::json;

use crate::client::Client;
use crate::fleet::{Rest, connect, name};
use crate::hub::Hub;
use crate::measure::{Report, Times, milliseconds, resident_bytes, summary};
use crate::operations::answer;
use crate::{Args, log};

/// Pause before memory is read, so that what is under way has ended.
const SETTLE: Duration = Duration::from_secs(2);
/// Callers of methods and reads at once.
const CALLERS: usize = 8;

/// Start to ready with nothing and with many devices, and memory when idle.
pub async fn start(args: &Args, report: &mut Report) -> Result<()> {
    let folder = tempfile::tempdir()?;
    for count in [0, args.registered] {
        let hub = Hub::start(&args.binary, folder.path()).await?;
        if count > 0 {
            let begun = Instant::now();
            Rest::new(&hub)?.register(count).await?;
            let rate = count as f64 / begun.elapsed().as_secs_f64();
            report.add(
                "devices registered in bulk",
                format!("{rate:.0} /s"),
                "-".into(),
                "-",
                "100 a request, one commit each",
            );
        }
        hub.stop().await?;
        let (mut times, mut memory) = (Vec::new(), Vec::new());
        for _ in 0..args.rounds {
            let hub = Hub::start(&args.binary, folder.path()).await?;
            times.push(milliseconds(hub.ready_after));
            tokio::time::sleep(SETTLE).await;
            memory.push(resident_bytes(hub.process()) as f64 / 1e6);
            hub.stop().await?;
        }
        let (median, spread) = summary(&times, "ms", 0);
        report.add(&format!("start to ready, {count} devices"), median, spread, "< 1000 ms", "");
        let (median, spread) = summary(&memory, "MB", 1);
        let aim = if count == 0 { "< 60 MB" } else { "-" };
        report.add(&format!("memory idle, {count} devices"), median, spread, aim, "resident");
    }
    Ok(())
}

/// Memory for each connected TLS device.
pub async fn connections(args: &Args, report: &mut Report) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let hub = Hub::start(&args.binary, folder.path()).await?;
    Rest::new(&hub)?.register(args.connected).await?;
    tokio::time::sleep(SETTLE).await;
    let before = resident_bytes(hub.process());
    let begun = Instant::now();
    let mut clients = connect(&hub, args.connected).await?;
    let rate = args.connected as f64 / begun.elapsed().as_secs_f64();
    for client in &mut clients {
        client.subscribe(&["$iothub/methods/POST/#", "$iothub/twin/PATCH/properties/desired/#"]).await?;
    }
    tokio::time::sleep(SETTLE).await;
    let each = (resident_bytes(hub.process()).saturating_sub(before)) as f64 / args.connected as f64 / 1e3;
    let what = format!("memory for each of {} TLS devices", args.connected);
    report.add(
        &what,
        format!("{each:.1} KB"),
        "-".into(),
        "< 40 KB",
        "method and desired subscriptions each",
    );
    report.add(
        "connects",
        format!("{rate:.0} /s"),
        "-".into(),
        "-",
        "full TLS handshakes, client on the same cores",
    );
    drop(clients);
    hub.stop().await
}

/// Durable reported patches, beside the raw log.
pub async fn patches(args: &Args, report: &mut Report) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let hub = Hub::start(&args.binary, folder.path()).await?;
    Rest::new(&hub)?.register(args.reporters).await?;
    let mut clients = connect(&hub, args.reporters).await?;
    for client in &mut clients {
        client.subscribe(&["$iothub/twin/res/#"]).await?;
    }
    let (mut rates, mut raw_rates, mut times, mut raw_times) =
        (Vec::new(), Vec::new(), Times::default(), Times::default());
    for _ in 0..args.rounds {
        let (raw_rate, raw) = log::run(folder.path(), args.reporters, args.seconds).await?;
        raw_rates.push(raw_rate);
        raw_times.extend(raw);
        let begun = Instant::now();
        let stop = Arc::new(AtomicBool::new(false));
        let tasks: Vec<_> =
            clients.drain(..).map(|client| tokio::spawn(report_on(client, stop.clone()))).collect();
        tokio::time::sleep(Duration::from_secs(args.seconds)).await;
        stop.store(true, Ordering::Relaxed);
        let mut round = Times::default();
        for task in tasks {
            let (client, done) = task.await??;
            clients.push(client);
            round.extend(done);
        }
        rates.push(round.len() as f64 / begun.elapsed().as_secs_f64());
        times.extend(round);
    }
    let (median, spread) = summary(&rates, "/s", 0);
    let (raw_median, raw_spread) = summary(&raw_rates, "/s", 0);
    let what = format!("durable reported patches, {} devices", args.reporters);
    report.add(&what, median, spread, "> 10000 /s", "MQTT publish to 204, each on disk");
    report.add(
        "  peer: raw log, same writers",
        raw_median,
        raw_spread,
        "-",
        "1,500 bytes a record, one sync for all that wait",
    );
    for (share, title) in [(0.5, "p50"), (0.99, "p99")] {
        let (time, raw) = (milliseconds(times.percentile(share)), milliseconds(raw_times.percentile(share)));
        report.add(
            &format!("  {title} of a patch"),
            format!("{time:.1} ms"),
            "-".into(),
            "-",
            &format!("raw log {raw:.1} ms"),
        );
    }
    drop(clients);
    hub.stop().await
}

async fn report_on(mut client: Client, stop: Arc<AtomicBool>) -> Result<(Client, Times)> {
    let mut times = Times::default();
    let mut number = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let patch = json!({"battery": {"level": number % 100, "voltage": 3.7}, "uptime": number}).to_string();
        client
            .publish(&format!("$iothub/twin/PATCH/properties/reported/?$rid={number}"), patch.as_bytes())
            .await?;
        let answer = client.next().await?;
        if !answer.topic.starts_with("$iothub/twin/res/204/") {
            bail!("{} {}", answer.topic, String::from_utf8_lossy(&answer.payload));
        }
        times.push(begun.elapsed());
        number += 1;
    }
    Ok((client, times))
}

/// Round trips of direct methods: REST to the hub, MQTT to the device, and back.
pub async fn methods(args: &Args, report: &mut Report) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let hub = Hub::start(&args.binary, folder.path()).await?;
    let rest = Rest::new(&hub)?;
    rest.register(CALLERS).await?;
    for client in connect(&hub, CALLERS).await? {
        answer(client).await?;
    }
    for callers in [1, CALLERS] {
        let mut times = every(callers, args.seconds, |caller| {
            let rest = rest.clone();
            async move {
                let body = json!({"methodName": "ping", "payload": {"n": 1}, "responseTimeoutInSeconds": 30});
                rest.post(&format!("/twins/{}/methods", name(caller)), &body).await.map(drop)
            }
        })
        .await?;
        let rate = times.len() as f64 / args.seconds as f64;
        let (p50, p99) = (milliseconds(times.percentile(0.5)), milliseconds(times.percentile(0.99)));
        let aim = if callers == 1 { "p50 < 2 ms" } else { "-" };
        let what = format!("direct method, {callers} caller(s), p50 / p99");
        report.add(&what, format!("{p50:.2} / {p99:.2} ms"), "-".into(), aim, &format!("{rate:.0} /s"));
    }
    hub.stop().await
}

/// Reads of twins over REST.
pub async fn reads(args: &Args, report: &mut Report) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let hub = Hub::start(&args.binary, folder.path()).await?;
    let rest = Rest::new(&hub)?;
    rest.register(1000).await?;
    let mut times = every(32, args.seconds, |caller| {
        let rest = rest.clone();
        async move { rest.get(&format!("/twins/{}", name(caller * 31))).await.map(drop) }
    })
    .await?;
    let rate = times.len() as f64 / args.seconds as f64;
    let (p50, p99) = (milliseconds(times.percentile(0.5)), milliseconds(times.percentile(0.99)));
    report.add(
        "REST twin reads, 32 callers",
        format!("{rate:.0} /s"),
        "-".into(),
        "-",
        &format!("p50 {p50:.2} ms, p99 {p99:.2} ms"),
    );
    hub.stop().await
}

/// `callers` tasks do the same thing again and again for `seconds`; returns how long each took.
async fn every<F, W>(callers: usize, seconds: u64, work: F) -> Result<Times>
where
    F: Fn(usize) -> W,
    W: Future<Output = Result<()>> + Send + 'static,
{
    let end = Instant::now() + Duration::from_secs(seconds);
    let each = (0..callers).map(|caller| {
        let work = &work;
        async move {
            let mut times = Times::default();
            while Instant::now() < end {
                let begun = Instant::now();
                work(caller).await?;
                times.push(begun.elapsed());
            }
            Ok::<_, anyhow::Error>(times)
        }
    });
    let mut all = Times::default();
    for times in futures_util::future::try_join_all(each).await? {
        all.extend(times);
    }
    Ok(all)
}
