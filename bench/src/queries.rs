//! Queries over a believable fleet beside PostgreSQL, alone and while patches arrive; what the index takes, and how long
//! the hub takes to start with it. The fleet comes from a seed, so that every run asks the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::Args;
use crate::client::Client;
use crate::fleet::{Rest, connect, name};
use crate::hub::Hub;
use crate::keep_alive::KeepAlive;
use crate::measure::{Better, Report, Rounds, Times, milliseconds, resident_bytes, summary};
use crate::population::twin;
use crate::postgres::Postgres;

/// Lines of one import.
const IMPORT_LINES: usize = 20_000;
/// How often the hub is asked each query in a round, and its peer.
const HUB_ASKS: usize = 30;
const PEER_ASKS: usize = 5;
/// Single twins that are read and written, and how far apart they are: a prime, so that every twin may come.
const POINT_OPERATIONS: usize = 2_000;
const POINT_STRIDE: usize = 7_919;
/// Devices that report while queries are asked, and their patches each second together.
const REPORTERS: usize = 256;
const PATCHES_PER_SECOND: u64 = 10_000;

/// What is asked, of the hub and of its peer.
struct Asked {
    title: &'static str,
    query: &'static str,
    sql: &'static str,
    aim: &'static str,
}

const QUERIES: [Asked; 5] = [
    Asked {
        title: "COUNT with three terms",
        query: "SELECT COUNT() AS n FROM devices WHERE tags.location.site = 'site-7' \
                AND properties.reported.battery.level < 20 AND properties.reported.firmware.version != '1.3.0'",
        sql: "SELECT count(*) FROM twins WHERE doc #>> '{tags,location,site}' = 'site-7' \
              AND (doc #>> '{properties,reported,battery,level}')::numeric < 20 \
              AND doc #>> '{properties,reported,firmware,version}' <> '1.3.0'",
        aim: "< 5 ms, >= 100 x",
    },
    Asked {
        title: "GROUP BY a string path with COUNT and AVG",
        query: "SELECT properties.reported.firmware.version AS version, COUNT() AS n, \
                AVG(properties.reported.battery.level) AS level FROM devices \
                GROUP BY properties.reported.firmware.version",
        sql: "SELECT doc #>> '{properties,reported,firmware,version}' AS version, count(*), \
              avg((doc #>> '{properties,reported,battery,level}')::numeric) FROM twins GROUP BY 1",
        aim: "< 20 ms, >= 100 x",
    },
    Asked {
        title: "page of 100 with three terms",
        query: "SELECT * FROM devices WHERE tags.location.site = 'site-7' \
                AND properties.reported.battery.level < 20 AND properties.reported.firmware.version != '1.3.0'",
        sql: "SELECT doc::text FROM twins WHERE doc #>> '{tags,location,site}' = 'site-7' \
              AND (doc #>> '{properties,reported,battery,level}')::numeric < 20 \
              AND doc #>> '{properties,reported,firmware,version}' <> '1.3.0' ORDER BY id LIMIT 100",
        aim: "< 2 ms, >= 100 x",
    },
    Asked {
        title: "ORDER BY a number, TOP 10",
        query: "SELECT TOP 10 deviceId FROM devices ORDER BY properties.reported.temperature DESC",
        sql: "SELECT id FROM twins ORDER BY (doc #>> '{properties,reported,temperature}')::numeric DESC LIMIT 10",
        aim: "-",
    },
    Asked {
        title: "COUNT of what two paths say differently",
        query: "SELECT COUNT() AS n FROM devices \
                WHERE properties.reported.firmware.version != properties.desired.firmware.version",
        sql: "SELECT count(*) FROM twins WHERE doc #>> '{properties,reported,firmware,version}' \
              <> doc #>> '{properties,desired,firmware,version}'",
        aim: "-",
    },
];

/// Imports a fleet, asks, and starts the hub again.
pub async fn queries(args: &Args, report: &mut Report) -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let folder = args.keep.as_deref().unwrap_or(temporary.path());
    let hub = Hub::start(&args.binary, folder).await?;
    let rest = Rest::new(&hub)?;
    let count = args.registered;
    match rest.json("/statistics/devices").await?["totalDeviceCount"].as_u64() {
        Some(0) => import(&rest, count, report).await?,
        Some(known) if known == count as u64 => {}
        other => bail!("{} holds {other:?} devices and not {count}", folder.display()),
    }
    note_memory(&rest, &hub, count, report).await?;
    let peer = if args.without_peer { None } else { Some(loaded(count).await?) };
    let mut client = KeepAlive::connect(&hub, &rest).await?;
    for asked in &QUERIES {
        let (mut rounds, mut inside) = (Rounds::default(), Vec::new());
        for _ in 0..args.rounds {
            rounds.hub.push(ask_hub(&mut client, asked).await?);
            inside.push(ask_inside(&rest, asked).await?);
            if let Some((_, database)) = &peer {
                rounds.peer.push(ask_peer(database, asked).await?);
            }
        }
        inside.sort_by(f64::total_cmp);
        let what = format!("{}, {count} twins", asked.title);
        if peer.is_some() {
            report.compare(&what, &rounds, ("ms", 2), ("PostgreSQL", Better::Lower), asked.aim);
        } else {
            let (figure, spread) = summary(&rounds.hub, "ms", 2);
            report.add(&what, figure, spread, asked.aim, "without a peer");
        }
        report.add(
            "  in the hub, without REST",
            format!("{:.2} ms", inside[inside.len() / 2]),
            "-".into(),
            "-",
            "",
        );
    }
    drop(peer);
    point_operations(&mut client, count, report).await?;
    drop(client);
    under_load(&rest, &hub, report).await?;
    hub.stop().await?;
    let hub = Hub::start(&args.binary, folder).await?;
    let what = format!("start to ready, {count} twins");
    report.add(&what, format!("{:.0} ms", milliseconds(hub.ready_after)), "-".into(), "< 5000 ms", "");
    let resident = resident_bytes(hub.process()) as f64 / count as f64;
    report.add(
        "hub's memory for each twin, started",
        format!("{resident:.0} bytes"),
        "-".into(),
        "-",
        "all resident",
    );
    hub.stop().await
}

/// Brings the fleet in.
async fn import(rest: &Rest, count: usize, report: &mut Report) -> Result<()> {
    let begun = Instant::now();
    for start in (0..count).step_by(IMPORT_LINES) {
        let numbers = start..(start + IMPORT_LINES).min(count);
        let lines: Vec<String> = numbers.map(|number| twin(number).to_string()).collect();
        let wanted = lines.len();
        let answer = rest.import(lines.join("\n")).await?;
        if answer["done"].as_u64() != Some(wanted as u64) {
            bail!("not all of {wanted} lines were imported: {answer}");
        }
    }
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    let durable = "identity, twin and event each, durable";
    report.add(&format!("twins imported, {count}"), format!("{rate:.0} /s"), "-".into(), "-", durable);
    Ok(())
}

/// The peer with the same twins.
async fn loaded(count: usize) -> Result<(Postgres, tokio_postgres::Client)> {
    let peer = Postgres::start().await?;
    let begun = Instant::now();
    let database = peer.load(count).await.context("loading PostgreSQL")?;
    let megabytes = Postgres::table_bytes(&database).await? as f64 / 1e6;
    eprintln!("  PostgreSQL loaded in {:.0} s: {megabytes:.0} MB", begun.elapsed().as_secs_f64());
    Ok((peer, database))
}

/// Reads and writes of single twins, here and there in the fleet: what more twins must not make slower.
async fn point_operations(client: &mut KeepAlive, count: usize, report: &mut Report) -> Result<()> {
    let (mut reads, mut writes) = (Times::default(), Times::default());
    for turn in 0..POINT_OPERATIONS {
        let path = format!("/twins/{}", name(turn * POINT_STRIDE % count));
        let begun = Instant::now();
        client.get(&path).await?;
        reads.push(begun.elapsed());
        let begun = Instant::now();
        client.patch(&path, &json!({"tags": {"turn": turn}}).to_string()).await?;
        writes.push(begun.elapsed());
    }
    for (what, mut times) in
        [("one twin read by its id", reads), ("tags of one twin patched, durable", writes)]
    {
        let [p50, p99] = [0.5, 0.99].map(|share| milliseconds(times.percentile(share)));
        let figure = format!("{p50:.2} / {p99:.2} ms");
        report.add(
            &format!("{what}, {count} twins, p50 / p99"),
            figure,
            "-".into(),
            "flat",
            "over REST, one after the other",
        );
    }
    Ok(())
}

async fn note_memory(rest: &Rest, hub: &Hub, count: usize, report: &mut Report) -> Result<()> {
    let index = rest.json("/api/status").await?["index"].take();
    let each = |bytes: &serde_json::Value| bytes.as_f64().map(|bytes| bytes / count as f64);
    let columns = each(&index["bytes"]).context("bytes of the index")?;
    let packed = each(&index["twinsBytes"]).context("bytes of the twins")?;
    let paths = format!("{} paths indexed, {} not", index["pathsIndexed"], index["pathsNotIndexed"]);
    report.add(
        "index memory for each twin",
        format!("{columns:.0} bytes"),
        "-".into(),
        "< 400 bytes",
        &paths,
    );
    report.add("packed twin", format!("{packed:.0} bytes"), "-".into(), "-", "beside the index");
    let resident = resident_bytes(hub.process()) as f64 / count as f64;
    report.add("hub's memory for each twin", format!("{resident:.0} bytes"), "-".into(), "-", "all resident");
    Ok(())
}

/// Median of some asks over REST, milliseconds.
async fn ask_hub(client: &mut KeepAlive, asked: &Asked) -> Result<f64> {
    let mut times = Times::default();
    let query = json!({ "query": asked.query }).to_string();
    for _ in 0..HUB_ASKS {
        let begun = Instant::now();
        client.post("/devices/query", &query).await?;
        times.push(begun.elapsed());
    }
    Ok(milliseconds(times.percentile(0.5)))
}

/// What the hub says that a query took it, milliseconds.
async fn ask_inside(rest: &Rest, asked: &Asked) -> Result<f64> {
    let explained = json!({ "query": format!("EXPLAIN {}", asked.query) });
    let row = rest.post("/devices/query", &explained).await?[0].take();
    row["milliseconds"].as_f64().context("a time")
}

async fn ask_peer(database: &tokio_postgres::Client, asked: &Asked) -> Result<f64> {
    let statement = database.prepare(asked.sql).await?;
    let mut times = Times::default();
    for _ in 0..PEER_ASKS {
        let begun = Instant::now();
        database.query(&statement, &[]).await?;
        times.push(begun.elapsed());
    }
    Ok(milliseconds(times.percentile(0.5)))
}

/// The first three queries while devices report as fast as is aimed at.
async fn under_load(rest: &Rest, hub: &Hub, report: &mut Report) -> Result<()> {
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut asker = KeepAlive::connect(hub, rest).await?;
    let mut alone = Vec::new();
    for asked in &QUERIES[..3] {
        alone.push(ask_hub(&mut asker, asked).await?);
    }
    let mut tasks = Vec::new();
    for mut client in connect(hub, REPORTERS).await? {
        client.subscribe(&["$iothub/twin/res/#"]).await?;
        tasks.push(tokio::spawn(report_steadily(client, stop.clone(), done.clone())));
    }
    let begun = Instant::now();
    let mut beside = Vec::new();
    for asked in &QUERIES[..3] {
        let mut medians = Vec::new();
        for _ in 0..5 {
            medians.push(ask_hub(&mut asker, asked).await?);
        }
        medians.sort_by(f64::total_cmp);
        beside.push(medians[2]);
    }
    let rate = done.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await??;
    }
    for ((asked, alone), beside) in QUERIES.iter().zip(alone).zip(beside) {
        let what = format!("  {}, while patches arrive", asked.title);
        let remark =
            format!("{:.1} x alone ({alone:.2} ms); {rate:.0} durable patches/s meanwhile", beside / alone);
        report.add(&what, format!("{beside:.2} ms"), "-".into(), "<= 2 x alone", &remark);
    }
    Ok(())
}

async fn report_steadily(mut client: Client, stop: Arc<AtomicBool>, done: Arc<AtomicU64>) -> Result<()> {
    let pace = Duration::from_secs(REPORTERS as u64) / PATCHES_PER_SECOND as u32;
    let mut turn = tokio::time::interval(pace);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut number = 0u64;
    while !stop.load(Ordering::Relaxed) {
        turn.tick().await;
        let patch = json!({"battery": {"level": number % 100}, "uptime": number}).to_string();
        client.patch_reported(number, &patch).await?;
        done.fetch_add(1, Ordering::Relaxed);
        number += 1;
    }
    Ok(())
}
