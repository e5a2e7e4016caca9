//! Benchmarks: each starts the real hub in a process of its own, drives it over real sockets, and prints rows of one table.
//!
//! Never part of the product, and never a test: nothing here fails because a machine is slow.

#[cfg(test)]
mod agreement;
mod broker;
mod client;
mod engine;
mod fleet;
mod gates;
mod hub;
mod keep_alive;
mod log;
mod measure;
mod mosquitto;
mod operations;
mod population;
mod postgres;
mod queries;
mod runs;
mod storm;
mod transfers;
mod watches;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Parser;

use measure::Report;

/// Measures the hub on this machine and prints a table.
#[derive(Parser, Debug)]
struct Args {
    /// Which benchmark: start, connections, telemetry, patches, methods, reads, jobs, configurations,
    /// gates, queries, storm, watches, transfers; all of them if none is named.
    names: Vec<String>,
    /// The hub's binary; by default the one of the release profile.
    #[arg(long, env = "FLEETYARD_BIN", default_value = "target/release/fleetyard")]
    binary: PathBuf,
    /// Devices registered for the start benchmark, the twin job, the queries and the import.
    #[arg(long, default_value_t = 100_000)]
    registered: usize,
    /// Leaves the peer of the queries out, where the machine has no room for both of them.
    #[arg(long)]
    without_peer: bool,
    /// Keeps the fleet of the queries in this folder, and takes the one that a former run left there.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Devices connected for the memory benchmark and the storm.
    #[arg(long, default_value_t = 5_000)]
    connected: usize,
    /// Devices connected for the method job.
    #[arg(long, default_value_t = 5_000)]
    called: usize,
    /// Devices that publish telemetry at the same time.
    #[arg(long, default_value_t = 1_000)]
    publishers: usize,
    /// Devices that report at the same time.
    #[arg(long, default_value_t = 256)]
    reporters: usize,
    /// Seconds that each rate is measured.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Rounds in which the hub and its peers take turns, and starts of the start benchmark.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Messages that a device sends before it waits for acknowledgements, where telemetry is measured so; 1 to 65535.
    #[arg(long, default_value_t = 16, value_parser = in_flight)]
    in_flight: usize,
}

/// MQTT names each message in flight by 16 bits, of which 0 is none.
fn in_flight(text: &str) -> Result<usize> {
    match text.parse::<u16>()? {
        0 => bail!("at least one message must be in flight"),
        count => Ok(usize::from(count)),
    }
}

const NAMES: [&str; 13] = [
    "start",
    "connections",
    "telemetry",
    "patches",
    "methods",
    "reads",
    "jobs",
    "configurations",
    "gates",
    "queries",
    "storm",
    "watches",
    "transfers",
];

/// As in the hub, since part of it runs here.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let names: Vec<&str> = match args.names.as_slice() {
        [] => NAMES.to_vec(),
        names => names.iter().map(String::as_str).collect(),
    };
    if !args.binary.exists() {
        bail!("{} is not there: build it with 'cargo build --release -p fleetyard'", args.binary.display());
    }
    raise_file_limit();
    let mut report = Report::default();
    for name in names {
        eprintln!("running {name} …");
        let run = match name {
            "start" => runs::start(&args, &mut report).await,
            "connections" => broker::connections(&args, &mut report).await,
            "patches" => runs::patches(&args, &mut report).await,
            "methods" => broker::methods(&args, &mut report).await,
            "telemetry" => broker::telemetry(&args, &mut report).await,
            "reads" => runs::reads(&args, &mut report).await,
            "jobs" => operations::jobs(&args, &mut report).await,
            "configurations" => operations::configurations(&args, &mut report).await,
            "gates" => gates::gates(&args, &mut report).await,
            "queries" => queries::queries(&args, &mut report).await,
            "storm" => storm::storm(&args, &mut report).await,
            "watches" => watches::watches(&args, &mut report).await,
            "transfers" => transfers::transfers(&args, &mut report).await,
            other => bail!("there is no benchmark '{other}'; known are {}", NAMES.join(", ")),
        };
        run.with_context(|| format!("benchmark {name}"))?;
    }
    println!("{}", measure::machine());
    println!("{report}");
    Ok(())
}

/// Thousands of sockets need thousands of file descriptors; the hub inherits the limit.
#[allow(unsafe_code, reason = "the C library is the only way to the limit")]
fn raise_file_limit() {
    // SAFETY: both calls get a pointer to a valid, initialised struct that lives across them.
    unsafe {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}
