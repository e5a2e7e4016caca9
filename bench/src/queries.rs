//! Queries over a believable fleet: how long each takes over REST and in the hub, what the index takes, and how long
//! the hub takes to start with it. The fleet comes from a seed, so that every run asks the same.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::Args;
use crate::fleet::{Rest, name};
use crate::hub::Hub;
use crate::measure::{Report, Times, milliseconds, resident_bytes};

/// Lines of one import.
const IMPORT_LINES: usize = 20_000;
/// How often each query is asked.
const QUERY_ROUNDS: usize = 30;

/// What is asked: a title, the query, and the aim in milliseconds at a million twins.
const QUERIES: [(&str, &str, &str); 5] = [
    (
        "COUNT with three terms",
        "SELECT COUNT() AS n FROM devices WHERE tags.location.site = 'site-7' \
         AND properties.reported.battery.level < 20 AND properties.reported.firmware.version != '1.3.0'",
        "< 5 ms",
    ),
    (
        "GROUP BY a string path with COUNT and AVG",
        "SELECT properties.reported.firmware.version AS version, COUNT() AS n, \
         AVG(properties.reported.battery.level) AS level FROM devices \
         GROUP BY properties.reported.firmware.version",
        "< 20 ms",
    ),
    (
        "page of 100 with three terms",
        "SELECT * FROM devices WHERE tags.location.site = 'site-7' \
         AND properties.reported.battery.level < 20 AND properties.reported.firmware.version != '1.3.0'",
        "< 2 ms",
    ),
    (
        "ORDER BY a number, TOP 10",
        "SELECT TOP 10 deviceId FROM devices ORDER BY properties.reported.temperature DESC",
        "-",
    ),
    (
        "COUNT of what two paths say differently",
        "SELECT COUNT() AS n FROM devices \
         WHERE properties.reported.firmware.version != properties.desired.firmware.version",
        "-",
    ),
];

/// Imports a fleet, asks, and starts the hub again.
pub async fn queries(args: &Args, report: &mut Report) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let hub = Hub::start(&args.binary, folder.path()).await?;
    let rest = Rest::new(&hub)?;
    let begun = Instant::now();
    for start in (0..args.registered).step_by(IMPORT_LINES) {
        let numbers = start..(start + IMPORT_LINES).min(args.registered);
        let lines: Vec<String> = numbers.map(|number| twin(number).to_string()).collect();
        let wanted = lines.len();
        let answer = rest.import(lines.join("\n")).await?;
        if answer["done"].as_u64() != Some(wanted as u64) {
            bail!("not all of {wanted} lines were imported: {answer}");
        }
    }
    let rate = args.registered as f64 / begun.elapsed().as_secs_f64();
    let what = format!("twins imported, {}", args.registered);
    report.add(&what, format!("{rate:.0} /s"), "-".into(), "-", "identity, twin and event each, durable");
    let index = rest.json("/api/status").await?["index"].take();
    let each = index["bytes"].as_f64().context("bytes of the index")? / args.registered as f64;
    let paths = format!("{} paths indexed, {} not", index["pathsIndexed"], index["pathsNotIndexed"]);
    report.add("index memory for each twin", format!("{each:.0} bytes"), "-".into(), "< 400 bytes", &paths);
    let resident = resident_bytes(hub.process()) as f64 / args.registered as f64;
    report.add("hub's memory for each twin", format!("{resident:.0} bytes"), "-".into(), "-", "all resident");
    for (title, text, aim) in QUERIES {
        ask(&rest, title, text, aim, report).await?;
    }
    hub.stop().await?;
    let hub = Hub::start(&args.binary, folder.path()).await?;
    let what = format!("start to ready, {} twins", args.registered);
    report.add(&what, format!("{:.0} ms", milliseconds(hub.ready_after)), "-".into(), "< 5000 ms", "");
    hub.stop().await
}

async fn ask(rest: &Rest, title: &str, text: &str, aim: &str, report: &mut Report) -> Result<()> {
    let (mut times, mut inside) = (Times::default(), Vec::new());
    let explained = json!({ "query": format!("EXPLAIN {text}") });
    let query = json!({ "query": text });
    for _ in 0..QUERY_ROUNDS {
        let begun = Instant::now();
        rest.post("/devices/query", &query).await?;
        times.push(begun.elapsed());
        let row = rest.post("/devices/query", &explained).await?[0].take();
        inside.push(row["milliseconds"].as_f64().context("a time")?);
    }
    inside.sort_by(f64::total_cmp);
    let (p50, most) = (milliseconds(times.percentile(0.5)), milliseconds(times.percentile(1.0)));
    let remark = format!("in the hub {:.2} ms", inside[inside.len() / 2]);
    report.add(title, format!("{p50:.2} ms"), format!("to {most:.2}"), aim, &remark);
    Ok(())
}

/// A generator of numbers that look random and are always the same.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    /// Small numbers much more often than large ones.
    fn skewed(&mut self, end: u64) -> u64 {
        self.below(end).min(self.below(end)).min(self.below(end))
    }
}

/// A line of an import: 20 to 40 paths, by the type of the device.
fn twin(number: usize) -> Value {
    let mut dice = Dice(number as u64);
    let kind = ["pump", "meter", "camera"][dice.skewed(3) as usize];
    let site = dice.skewed(50);
    let link = ["wifi", "lte", "ethernet"][dice.skewed(3) as usize];
    let mut reported = json!({
        "firmware": {"version": format!("1.{}.0", dice.skewed(9)), "status": "current", "updates": dice.skewed(20)},
        "battery": {"level": dice.below(101), "voltage": 3.0 + dice.below(1200) as f64 / 1000.0},
        "temperature": 15.0 + dice.below(100_000) as f64 / 4000.0,
        "uptime": dice.below(10_000_000), "rssi": -30 - dice.below(60) as i64,
        "connectivity": link,
        "serial": format!("SN-{number:012}"),
        "lastBoot": format!("2026-01-{:02}T{:02}:{:02}:00Z", 1 + dice.below(28), dice.below(24), dice.below(60)),
    });
    match kind {
        "pump" => {
            reported["pressure"] =
                json!({"in": dice.below(400), "out": dice.below(900), "alarm": dice.below(50) == 0});
        }
        "meter" => {
            let total = dice.below(1_000_000) as f64 / 10.0;
            reported["reading"] =
                json!({"total": total, "unit": "kWh", "phase": dice.below(3), "sealed": true});
        }
        _ => {
            let lens = json!({"type": format!("lens-{}", dice.below(5)), "focus": dice.below(100), "zoom": dice.below(10)});
            reported["video"] = json!({"width": 1920, "height": 1080, "rate": 25, "lens": lens});
        }
    }
    json!({
        "id": name(number), "importMode": "create", "status": "enabled",
        "tags": {
            "kind": kind, "ring": dice.skewed(4), "owner": format!("team-{}", dice.skewed(12)),
            "location": {"site": format!("site-{site}"), "country": format!("c{}", site % 17), "floor": dice.below(6)},
        },
        "properties": {
            "desired": {
                "interval": 60, "report": {"level": "info", "batch": 20},
                "firmware": {"version": format!("1.{}.0", dice.skewed(3)), "url": format!("https://example.com/{kind}")},
            },
            "reported": reported,
        },
    })
}
