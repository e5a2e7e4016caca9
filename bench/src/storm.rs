//! A storm: nearly all devices are cut off and come back at once, each with the back-off of the SDKs. What it takes until they
//! are back, what the hub's memory is meanwhile, and what those notice that stayed connected.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::Args;
use crate::client::Client;
use crate::fleet::{Rest, connect, connect_one};
use crate::hub::Hub;
use crate::measure::{Report, Times, milliseconds, resident_bytes, with_peak};

/// Devices that stay connected, and the pause of each between two patches.
const STAYING: usize = 50;
const PATCH_PAUSE: Duration = Duration::from_millis(100);
/// How long they are measured without a storm.
const CALM: Duration = Duration::from_secs(5);
/// The back-off: about the first wait at once, then twice as long after each failure, up to the last.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LAST_WAIT: Duration = Duration::from_secs(10);
/// Longest storm.
const STORM_MAX: Duration = Duration::from_secs(600);
/// What each device subscribes to.
const FILTERS: [&str; 2] = ["$iothub/methods/POST/#", "$iothub/twin/PATCH/properties/desired/#"];

/// See the module.
pub async fn storm(args: &Args, report: &mut Report) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let hub = Arc::new(Hub::start(&args.binary, folder.path()).await?);
    let count = args.connected.max(STAYING + 1);
    Rest::new(&hub)?.register(count).await?;
    let failed = Arc::new(AtomicU64::new(0));
    let leaving = come_back(&hub, STAYING..count, &failed).await?;
    failed.store(0, Ordering::Relaxed);

    let over = Arc::new(AtomicBool::new(false));
    let staying = {
        let (hub, over) = (hub.clone(), over.clone());
        // A thread with a runtime of its own: what they wait for is the hub, and not the load generator.
        std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(stay(&hub, &over))
        })
    };
    sleep(CALM).await;
    let before = resident_bytes(hub.process()) as f64 / 1e6;
    let begun = Instant::now();
    drop(leaving);
    let back = timeout(STORM_MAX, come_back(&hub, STAYING..count, &failed));
    let (back, peak) = with_peak(hub.process(), async { back.await.context("not all came back")? }).await?;
    let took = begun.elapsed();
    over.store(true, Ordering::Relaxed);
    let patches = tokio::task::spawn_blocking(|| staying.join()).await?;
    let (mut calm, mut stormy) = (Times::default(), Times::default());
    for (at, time) in patches.map_err(|_| anyhow!("the devices that stay panicked"))?? {
        if at + time < begun { &mut calm } else { &mut stormy }.push(time);
    }

    let mut note = |what: &str, figure: String, aim: &str, remark: String| {
        report.add(what, figure, "-".into(), aim, &remark);
    };
    let cut = count - STAYING;
    let rate = cut as f64 / took.as_secs_f64();
    let what = format!("storm: {cut} devices cut off, until all are back");
    let tries = format!("{rate:.0} /s, {} tries failed", failed.load(Ordering::Relaxed));
    note(&what, format!("{:.1} s", took.as_secs_f64()), "-", tries);
    let peak = format!("{:.0} MB", peak as f64 / 1e6);
    note("  hub's memory at most", peak, "-", format!("{before:.0} MB before"));
    let percentiles = |times: &mut Times| {
        format!("{:.1} / {:.1} ms", milliseconds(times.percentile(0.5)), milliseconds(times.percentile(0.99)))
    };
    let calm = format!("{} without a storm", percentiles(&mut calm));
    note("  patch of who stayed, p50 / p99", percentiles(&mut stormy), "p99 < 1000 ms", calm);
    drop(back);
    Arc::into_inner(hub).context("the hub is still used")?.stop().await
}

/// The devices that stay report again and again until it is over; says when each patch began and how long it took.
async fn stay(hub: &Hub, over: &AtomicBool) -> Result<Vec<(Instant, Duration)>> {
    let mut devices = connect(hub, STAYING).await?;
    for device in &mut devices {
        device.subscribe(&["$iothub/twin/res/#"]).await?;
    }
    let each = devices.into_iter().map(|mut device| async move {
        let mut patches = Vec::new();
        for number in 0.. {
            if over.load(Ordering::Relaxed) {
                break;
            }
            let begun = Instant::now();
            device.patch_reported(number, &format!(r#"{{"uptime":{number}}}"#)).await?;
            patches.push((begun, begun.elapsed()));
            sleep(PATCH_PAUSE).await;
        }
        Ok::<_, anyhow::Error>(patches)
    });
    Ok(futures_util::future::try_join_all(each).await?.concat())
}

/// All these devices connect and subscribe again, at the same time.
async fn come_back(
    hub: &Hub,
    numbers: std::ops::Range<usize>,
    failed: &Arc<AtomicU64>,
) -> Result<Vec<Client>> {
    let mut returning: JoinSet<_> = numbers
        .map(|number| {
            let (tls, address, failed) = (hub.tls.clone(), hub.mqtt.clone(), failed.clone());
            async move {
                let mut wait = FIRST_WAIT;
                loop {
                    sleep(wait.mul_f64(jitter(number, wait))).await;
                    if let Ok(mut device) = connect_one(tls.clone(), &address, number).await
                        && device.subscribe(&FILTERS).await.is_ok()
                    {
                        return device;
                    }
                    failed.fetch_add(1, Ordering::Relaxed);
                    wait = (wait * 2).min(LAST_WAIT);
                }
            }
        })
        .collect();
    let mut back = Vec::new();
    while let Some(device) = returning.join_next().await {
        back.push(device?);
    }
    Ok(back)
}

/// Between a half and one and a half, another for each device and wait, the same in each run.
fn jitter(number: usize, wait: Duration) -> f64 {
    let mixed = (number as u64 ^ wait.as_nanos() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    0.5 + (mixed >> 11) as f64 / (1u64 << 53) as f64
}
