//! What a broker does, too, beside Mosquitto on the same machine with the same certificate and the same client: connections
//! over TLS and their memory, messages at QoS 1, and a request with its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::Mutex;

use crate::Args;
use crate::client::Client;
use crate::fleet::{Rest, connect, connect_to, name};
use crate::hub::Hub;
use crate::keep_alive::KeepAlive;
use crate::measure::{Better, Report, Rounds, Times, milliseconds, resident_bytes};
use crate::mosquitto::Mosquitto;
use crate::operations::answer;
use crate::runs::{busy_for, every};

/// Pause before memory is read, so that what is under way has ended.
const SETTLE: Duration = Duration::from_secs(2);
/// Longest wait for a process to let go of the connections that its clients left, and how often it is looked at.
const LEAVE_MAX: Duration = Duration::from_secs(120);
const LEAVE_INTERVAL: Duration = Duration::from_millis(50);
/// Files that a process may open for itself meanwhile.
const FILES_SLACK: usize = 16;
/// Callers of methods at once.
const CALLERS: usize = 8;
/// A message, as a sensor sends it.
const MESSAGE: &str =
    r#"{"temperature":21.5,"humidity":48.2,"pressure":1013.2,"battery":87,"sequence":123456}"#;

/// Connects per second and memory for each connected TLS device.
pub async fn connections(args: &Args, report: &mut Report) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let hub = Hub::start(&args.binary, folder.path()).await?;
    Rest::new(&hub)?.register(args.connected).await?;
    let (mut rates, mut memory) = (Rounds::default(), Rounds::default());
    for round in 0..args.rounds {
        // A process that had connections keeps some of their memory, so only the first round tells what they take.
        let peer = Mosquitto::start(folder.path()).await?;
        let (rate, each) = many(&hub, hub.process(), &hub.mqtt, args.connected).await?;
        rates.hub.push(rate);
        if round == 0 {
            memory.hub.push(each);
        }
        let (rate, each) = many(&hub, peer.process(), &peer.address, args.connected).await?;
        rates.peer.push(rate);
        memory.peer.push(each);
    }
    let what = format!("memory for each of {} TLS devices", args.connected);
    report.compare(&what, &memory, ("KB", 1), ("Mosquitto", Better::Lower), "<= 16 KB");
    let what = "connects, full TLS handshakes";
    report.compare(what, &rates, ("/s", 0), ("Mosquitto", Better::Higher), ">= 1 x");
    hub.stop().await
}

/// Connects and subscribes many; returns connects per second and kilobytes for each. All have left when it returns: a
/// process has files for the connections to one of both only, and neither is to be busy in the other's turn.
async fn many(hub: &Hub, process: u32, address: &str, count: usize) -> Result<(f64, f64)> {
    tokio::time::sleep(SETTLE).await;
    let (before, files) = (resident_bytes(process), open_files(process));
    let begun = Instant::now();
    let mut clients = connect_to(hub, address, count).await?;
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    for client in &mut clients {
        client.subscribe(&["$iothub/methods/POST/#", "$iothub/twin/PATCH/properties/desired/#"]).await?;
    }
    tokio::time::sleep(SETTLE).await;
    let each = resident_bytes(process).saturating_sub(before) as f64 / count as f64 / 1e3;
    drop(clients);
    let left = async {
        while open_files(process) > files + FILES_SLACK {
            tokio::time::sleep(LEAVE_INTERVAL).await;
        }
    };
    tokio::time::timeout(LEAVE_MAX, left).await.context("the connections that clients left stay open")?;
    Ok((rate, each))
}

/// Files and sockets that a process has open.
fn open_files(process: u32) -> usize {
    std::fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count)
}

/// Messages at QoS 1 from many devices: each waits for its acknowledgement, and as many on their way as a client sends
/// without waiting.
pub async fn telemetry(args: &Args, report: &mut Report) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let hub = Hub::start(&args.binary, folder.path()).await?;
    Rest::new(&hub)?.register(args.publishers).await?;
    let peer = Mosquitto::start(folder.path()).await?;
    let mut to_hub = connect(&hub, args.publishers).await?;
    let mut to_peer = connect_to(&hub, &peer.address, args.publishers).await?;
    let ways = [
        (1, "each waits for its acknowledgement".to_string()),
        (args.in_flight, format!("{} in flight each", args.in_flight)),
    ];
    let mut rounds = [(); 2].map(|()| (Rounds::default(), Rounds::default()));
    for _ in 0..args.rounds {
        for ((in_flight, _), (rates, costs)) in ways.iter().zip(&mut rounds) {
            let (rate, cost) = publish(&mut to_hub, hub.process(), *in_flight, args.seconds).await?;
            rates.hub.push(rate);
            costs.hub.push(cost);
            let (rate, cost) = publish(&mut to_peer, peer.process(), *in_flight, args.seconds).await?;
            rates.peer.push(rate);
            costs.peer.push(cost);
        }
    }
    for ((_, how), (rates, costs)) in ways.iter().zip(&rounds) {
        let what = format!("telemetry at QoS 1 over TLS, {} devices, {how}", args.publishers);
        report.compare(&what, rates, ("/s", 0), ("Mosquitto", Better::Higher), ">= 1.5 x");
        report.compare("  CPU for each message", costs, ("us", 1), ("Mosquitto", Better::Lower), "-");
    }
    let megabytes = resident_bytes(hub.process()) as f64 / 1e6;
    report.add("  hub's memory after it", format!("{megabytes:.0} MB"), "-".into(), "-", "");
    hub.stop().await
}

/// Acknowledged messages per second, and microseconds of the process for each.
async fn publish(
    clients: &mut Vec<Client>,
    process: u32,
    in_flight: usize,
    seconds: u64,
) -> Result<(f64, f64)> {
    let before = cpu_seconds(process);
    let work = |device, client, stop| publish_on(client, device, in_flight, stop);
    let (each, took) = busy_for(clients, seconds, work).await?;
    let messages = each.into_iter().sum::<usize>();
    let cost = (cpu_seconds(process) - before) / messages.max(1) as f64 * 1e6;
    Ok((messages as f64 / took.as_secs_f64(), cost))
}

/// Keeps `in_flight` messages on their way; returns how many were acknowledged, which at the end are all.
async fn publish_on(
    mut client: Client,
    device: usize,
    in_flight: usize,
    stop: Arc<AtomicBool>,
) -> Result<(Client, usize)> {
    let topic = format!("devices/{}/messages/events/", name(device));
    let (mut on_their_way, mut acknowledged) = (0, 0);
    loop {
        if !stop.load(Ordering::Relaxed) {
            client.publish_many(&topic, MESSAGE.as_bytes(), in_flight - on_their_way).await?;
            on_their_way = in_flight;
        } else if on_their_way == 0 {
            return Ok((client, acknowledged));
        }
        let came = client.acknowledged().await?;
        on_their_way -= came;
        acknowledged += came;
    }
}

/// What a process has spent so far.
pub fn cpu_seconds(process: u32) -> f64 {
    /// Linux counts these times in hundredths of a second (`man 5 proc_pid_stat`).
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields = behind_name.split_whitespace().skip(11).take(2);
    fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND
}

/// Round trips of direct methods beside a bare request and answer through Mosquitto.
pub async fn methods(args: &Args, report: &mut Report) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let hub = Hub::start(&args.binary, folder.path()).await?;
    let rest = Rest::new(&hub)?;
    rest.register(args.connected.max(CALLERS)).await?;
    let mut clients = connect(&hub, args.connected.max(CALLERS)).await?;
    let idle = clients.split_off(CALLERS);
    for client in clients {
        answer(client).await?;
    }
    let caller = KeepAlive::connect_many(&hub, &rest, 1).await?;
    let peer = Mosquitto::start(folder.path()).await?;
    let mut requester = bare_exchange(&hub, &peer).await?;
    let (mut rounds, mut single) = (Rounds::default(), Times::default());
    for _ in 0..args.rounds {
        let mut times = call(&caller, args.seconds).await?;
        rounds.hub.push(milliseconds(times.percentile(0.5)));
        single.extend(times);
        let mut times = Times::default();
        let end = Instant::now() + Duration::from_secs(args.seconds);
        while Instant::now() < end {
            let begun = Instant::now();
            requester.publish("bench/request", br#"{"n":1}"#).await?;
            requester.next().await?;
            times.push(begun.elapsed());
        }
        rounds.peer.push(milliseconds(times.percentile(0.5)));
    }
    let what = format!("direct method, p50, {} connected", args.connected);
    report.compare(
        &what,
        &rounds,
        ("ms", 2),
        ("a bare exchange through Mosquitto", Better::Lower),
        ">= 0.83 x",
    );
    let p99 = milliseconds(single.percentile(0.99));
    report.add("  p99", format!("{p99:.2} ms"), "-".into(), "-", "");
    // Only now: the hub ends connections on which nobody asks for long.
    let callers = KeepAlive::connect_many(&hub, &rest, CALLERS).await?;
    let mut times = call(&callers, args.seconds).await?;
    let rate = times.len() as f64 / args.seconds as f64;
    let (p50, p99) = (milliseconds(times.percentile(0.5)), milliseconds(times.percentile(0.99)));
    let what = format!("direct method, {CALLERS} callers, p50 / p99");
    report.add(&what, format!("{p50:.2} / {p99:.2} ms"), "-".into(), "-", &format!("{rate:.0} /s"));
    drop(idle);
    hub.stop().await
}

/// Each caller calls a device of its own.
async fn call(callers: &[Arc<Mutex<KeepAlive>>], seconds: u64) -> Result<Times> {
    every(callers.len(), seconds, |caller| {
        let connection = callers[caller].clone();
        async move {
            let body = r#"{"methodName":"ping","payload":{"n":1},"responseTimeoutInSeconds":30}"#;
            let path = format!("/twins/{}/methods", name(caller));
            connection.lock().await.post(&path, body).await.map(drop)
        }
    })
    .await
}

/// Somebody who answers, and the one who asks.
async fn bare_exchange(hub: &Hub, peer: &Mosquitto) -> Result<Client> {
    let mut both = connect_to(hub, &peer.address, 2).await?.into_iter();
    let (Some(mut responder), Some(mut requester)) = (both.next(), both.next()) else {
        anyhow::bail!("two clients were to connect");
    };
    responder.subscribe(&["bench/request"]).await?;
    requester.subscribe(&["bench/answer"]).await?;
    tokio::spawn(async move {
        while let Ok(request) = responder.next().await {
            if responder.publish("bench/answer", &request.payload).await.is_err() {
                return;
            }
        }
    });
    Ok(requester)
}
