//! The binary: one program for the hub and for its command line. Reads arguments, calls one function, turns errors into
//! words and exit codes. No logic.

#[cfg(test)]
mod cli_page;
mod compose;
mod config;
mod connection_string;
mod demo;
mod endpoints;
mod signals;
mod tls;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser, Subcommand};

use crate::config::Settings;
use crate::config::layers::Sources;

/// Millions of small values in maps are what the hub is made of: the system's allocator took a third of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A self-hosted hub for fleets of IoT devices, compatible with Azure IoT Hub.
#[derive(Parser)]
#[command(name = "fleetyard", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the hub.
    Serve(ServeFlags),
    /// Play the five patterns of device management with simulated devices on a hub of its own.
    Demo(demo::Options),
    /// Show settings.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print the connection string of a policy or a device of the hub on this machine, running or stopped.
    ConnectionString {
        #[command(flatten)]
        flags: ServeFlags,
        /// A shared access policy.
        #[arg(long, default_value = "iothubowner", conflicts_with = "device")]
        policy: String,
        /// A device, or `device/module`.
        #[arg(long)]
        device: Option<String>,
    },
    /// Print shell completions.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    #[command(flatten)]
    Operate(hub_cli::Command),
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Print each setting, its value and where it came from.
    Show {
        #[command(flatten)]
        flags: ServeFlags,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Flags that set settings.
#[derive(clap::Args)]
struct ServeFlags {
    /// Settings file (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data folder.
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Name under which clients know the hub.
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Where back ends, the command line and devices over WebSocket connect; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS")]
    https_address: Option<String>,
    /// Where devices connect over MQTT; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS")]
    mqtt_address: Option<String>,
    /// Where monitoring asks; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS")]
    metrics_address: Option<String>,
    /// Your own certificate (PEM).
    #[arg(long, value_name = "FILE")]
    tls_certificate: Option<String>,
    /// Its key (PEM).
    #[arg(long, value_name = "FILE")]
    tls_key: Option<String>,
    /// What is logged.
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

impl ServeFlags {
    fn sources(self) -> Sources {
        let flags = [
            ("hub.data", self.data),
            ("hub.hostname", self.hostname),
            ("https.address", self.https_address),
            ("mqtt.address", self.mqtt_address),
            ("metrics.address", self.metrics_address),
            ("tls.certificate", self.tls_certificate),
            ("tls.key", self.tls_key),
            ("log.filter", self.log),
        ];
        Sources::of_process(
            self.config,
            flags.into_iter().filter_map(|(key, value)| Some((key, value?))).collect(),
        )
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let command = match Arguments::parse().command {
        Command::Operate(command) => return command.run(connection_string::local_target).await,
        command => command,
    };
    match run(command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Serve(flags) => {
            let settings = Settings::load(&flags.sources())?;
            start_log(&settings.log_filter)?;
            compose::serve(settings).await
        }
        Command::Demo(options) => demo::run(options).await,
        Command::Config { command: ConfigCommand::Show { flags, json } } => {
            print_settings(&config::shown(&flags.sources())?, json);
            Ok(())
        }
        Command::ConnectionString { flags, policy, device } => {
            let settings = Settings::load(&flags.sources())?;
            let text = match device {
                Some(device) => connection_string::of_device(&settings, &device).await?,
                None => connection_string::of_policy(&settings, &policy)?,
            };
            println!("{text}");
            Ok(())
        }
        Command::Operate(_) => unreachable!("operating commands are run before"),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "fleetyard", &mut std::io::stdout());
            Ok(())
        }
    }
}

fn start_log(filter: &str) -> Result<()> {
    let filter =
        tracing_subscriber::EnvFilter::try_new(filter).with_context(|| format!("log.filter = '{filter}'"))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    log.try_init().map_err(|error| anyhow::anyhow!("the log cannot be started: {error}"))
}

fn print_settings(shown: &[(String, String, String)], json: bool) {
    if json {
        let rows = shown
            .iter()
            .map(|(key, value, origin)| serde_json::json!({"key": key, "value": value, "origin": origin}));
        println!("{}", serde_json::Value::from_iter(rows));
        return;
    }
    let width = |column: fn(&(String, String, String)) -> usize| shown.iter().map(column).max().unwrap_or(0);
    let (keys, values) = (width(|row| row.0.len()), width(|row| row.1.len()));
    for (key, value, origin) in shown {
        println!("{key:keys$}  {value:values$}  {origin}");
    }
}
