//! The benchmarks themselves. Each takes a fresh data folder, and compares with its peer in the same run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::client::Client;
use crate::engine::Engine;
use crate::fleet::{Rest, connect, name};
use crate::hub::Hub;
use crate::keep_alive::KeepAlive;
use crate::measure::{Better, Report, Rounds, Times, milliseconds, resident_bytes, summary};
use crate::population::report_text;
use crate::postgres::Postgres;
use crate::{Args, log};

/// Pause before memory is read, so that what is under way has ended.
const SETTLE: Duration = Duration::from_secs(2);
/// Callers that read at once.
const READERS: usize = 32;
/// Twins that are read.
const READ_TWINS: usize = 1000;

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
        report.add(&format!("start to ready, {count} devices"), median, spread, "< 5000 ms", "");
        let (median, spread) = summary(&memory, "MB", 1);
        let aim = if count == 0 { "< 60 MB" } else { "-" };
        report.add(&format!("memory idle, {count} devices"), median, spread, aim, "resident");
    }
    Ok(())
}

/// Durable reported patches, beside the raw log, the embedded engine alone, and PostgreSQL.
pub async fn patches(args: &Args, report: &mut Report) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let hub = Hub::start(&args.binary, folder.path()).await?;
    Rest::new(&hub)?.register(args.reporters).await?;
    let mut clients = connect(&hub, args.reporters).await?;
    for client in &mut clients {
        client.subscribe(&["$iothub/twin/res/#"]).await?;
    }
    let postgres = Postgres::start().await?;
    postgres.load(args.reporters).await?;
    let (mut raw, mut engine, mut sql) = (Vec::new(), Vec::new(), Vec::new());
    let (mut rates, mut times, mut sql_times) = (Vec::new(), Times::default(), Times::default());
    let hub_alone = Engine::start(args.reporters).await;
    let mut alone = Vec::new();
    for _ in 0..args.rounds {
        raw.push(log::run(log::raw(folder.path())?, args.reporters, args.seconds).await?.0);
        engine.push(log::run(log::engine(folder.path())?, args.reporters, args.seconds).await?.0);
        alone.push(hub_alone.report_for(args.seconds).await?.0);
        let (rate, round) = report_for(&mut clients, args.seconds).await?;
        rates.push(rate);
        times.extend(round);
        let round = update_rows(&postgres, args).await?;
        sql.push(round.len() as f64 / args.seconds as f64);
        sql_times.extend(round);
    }
    for (of, rates) in [("through the engine", alone), ("over MQTT with TLS", rates)] {
        let what = format!("durable reported patches {of}, {} devices", args.reporters);
        for (peer, rounds, aim) in [
            ("PostgreSQL (no TLS, rows with the indexes of the queries)", &sql, ">= 10 x, >= 15000 /s"),
            ("the embedded engine alone, same batches", &engine, ">= 0.5 x"),
            ("a raw log, same batches", &raw, "-"),
        ] {
            let rounds = Rounds { hub: rates.clone(), peer: rounds.clone() };
            report.compare(&what, &rounds, ("/s", 0), (peer, Better::Higher), aim);
        }
    }
    for (share, title, aim) in [(0.5, "p50", "-"), (0.99, "p99", "< 30 ms")] {
        let (time, sql) = (milliseconds(times.percentile(share)), milliseconds(sql_times.percentile(share)));
        let what = format!("  {title} of a patch, MQTT publish to 204");
        report.add(&what, format!("{time:.1} ms"), "-".into(), aim, &format!("PostgreSQL {sql:.1} ms"));
    }
    drop(clients);
    hub.stop().await
}

/// Each device's row gets one patch after the other over a connection of its own.
async fn update_rows(postgres: &Postgres, args: &Args) -> Result<Times> {
    let mut connections = Vec::new();
    for _ in 0..args.reporters {
        let client = postgres.connect().await?;
        let sql = "UPDATE twins SET doc = jsonb_set(doc, '{properties,reported}', \
                   (doc #> '{properties,reported}') || $2::text::jsonb) WHERE id = $1";
        let statement = client.prepare(sql).await?;
        connections.push(Arc::new((client, statement)));
    }
    every(args.reporters, args.seconds, |device| {
        let connection = connections[device].clone();
        async move {
            let (client, statement) = &*connection;
            let number = rows_written();
            let patch = report_text(number);
            client.execute(statement, &[&name(device), &patch]).await?;
            Ok(())
        }
    })
    .await
}

/// A number that grows.
fn rows_written() -> u64 {
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    WRITTEN.fetch_add(1, Ordering::Relaxed)
}

/// Devices report one patch after the other; returns how many a second, and how long each took.
pub async fn report_for(clients: &mut Vec<Client>, seconds: u64) -> Result<(f64, Times)> {
    let (each, took) = busy_for(clients, seconds, |_, client, stop| report_on(client, stop)).await?;
    let mut times = Times::default();
    for done in each {
        times.extend(done);
    }
    Ok((times.len() as f64 / took.as_secs_f64(), times))
}

/// Every client is busy in a task of its own until it is told to stop; returns what each did, and how long all of them took.
pub async fn busy_for<F, W, T>(clients: &mut Vec<Client>, seconds: u64, work: F) -> Result<(Vec<T>, Duration)>
where
    F: Fn(usize, Client, Arc<AtomicBool>) -> W,
    W: Future<Output = Result<(Client, T)>> + Send + 'static,
    T: Send + 'static,
{
    let begun = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    let busy = clients.drain(..).enumerate();
    let tasks: Vec<_> =
        busy.map(|(number, client)| tokio::spawn(work(number, client, stop.clone()))).collect();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    stop.store(true, Ordering::Relaxed);
    let mut each = Vec::with_capacity(tasks.len());
    for task in tasks {
        let (client, done) = task.await??;
        clients.push(client);
        each.push(done);
    }
    Ok((each, begun.elapsed()))
}

async fn report_on(mut client: Client, stop: Arc<AtomicBool>) -> Result<(Client, Times)> {
    let mut times = Times::default();
    let mut number = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let patch = report_text(number);
        client.patch_reported(number, &patch).await?;
        times.push(begun.elapsed());
        number += 1;
    }
    Ok((client, times))
}

/// Reads of twins over REST, beside PostgreSQL.
pub async fn reads(args: &Args, report: &mut Report) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let hub = Hub::start(&args.binary, folder.path()).await?;
    let rest = Rest::new(&hub)?;
    rest.register(READ_TWINS).await?;
    let postgres = Postgres::start().await?;
    postgres.load(READ_TWINS).await?;
    let mut connections = Vec::new();
    for _ in 0..READERS {
        let client = postgres.connect().await?;
        let statement = client.prepare("SELECT doc::text FROM twins WHERE id = $1").await?;
        connections.push(Arc::new((client, statement)));
    }
    let clients = KeepAlive::connect_many(&hub, &rest, READERS).await?;
    let (mut rounds, mut times) = (Rounds::default(), Times::default());
    let twin_of = |reader: usize| name(reader * READ_TWINS / READERS);
    for _ in 0..args.rounds {
        let round = every(READERS, args.seconds, |reader| {
            let client = clients[reader].clone();
            async move { client.lock().await.get(&format!("/twins/{}", twin_of(reader))).await.map(drop) }
        })
        .await?;
        rounds.hub.push(round.len() as f64 / args.seconds as f64);
        times.extend(round);
        let round = every(READERS, args.seconds, |reader| {
            let connection = connections[reader].clone();
            async move {
                connection.0.query_one(&connection.1, &[&twin_of(reader)]).await?;
                Ok(())
            }
        })
        .await?;
        rounds.peer.push(round.len() as f64 / args.seconds as f64);
    }
    let what = format!("REST twin reads over TLS, {READERS} callers");
    report.compare(&what, &rounds, ("/s", 0), ("PostgreSQL (no TLS)", Better::Higher), ">= 30000 /s");
    let (p50, p99) = (milliseconds(times.percentile(0.5)), milliseconds(times.percentile(0.99)));
    report.add("  p50 / p99 of a read", format!("{p50:.2} / {p99:.2} ms"), "-".into(), "-", "");
    hub.stop().await
}

/// `callers` tasks do the same thing again and again for `seconds`; returns how long each took.
pub async fn every<F, W>(callers: usize, seconds: u64, work: F) -> Result<Times>
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
