//! The command line over the public REST API; knows nothing of the server's inside.
//! Data goes to standard output, everything else to standard error, and the exit code says how it ended (docs/cli.md).

pub mod client;
mod commands;
mod credential;
pub mod error;
mod events;
mod output;
mod sse;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use client::Client;
pub use client::Target;
use error::{Error, Exit, Result};
use output::Output;

/// Flags of every command.
#[derive(Args, Debug)]
#[command(next_help_heading = "Common options")]
pub struct Common {
    /// Connection string of a policy; without it the hub of the data folder on this machine.
    #[arg(
        long,
        env = "FLEETYARD_CONNECTION_STRING",
        hide_env_values = true,
        value_name = "TEXT",
        global = true
    )]
    connection_string: Option<String>,
    /// Certificate authority of the hub (PEM).
    #[arg(long, env = "FLEETYARD_CA", value_name = "FILE", global = true)]
    ca: Option<PathBuf>,
    /// Data folder of a hub on this machine; beside a connection string it only says which authority to trust.
    #[arg(long, value_name = "DIR", global = true)]
    data: Option<PathBuf>,
    /// Print JSON: one value, or one per line where there are many.
    #[arg(long, global = true)]
    json: bool,
}

/// A command with actions below it.
#[derive(Args, Debug)]
pub struct Group<T: Subcommand> {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    action: T,
}

/// A command that is its own action.
#[derive(Args, Debug)]
pub struct Single<T: Args> {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    arguments: T,
}

/// Everything that operates a hub.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Create, list, show, change and delete devices.
    Device(Group<commands::device::Action>),
    /// Create, list, show, change and delete modules of devices.
    Module(Group<commands::module::Action>),
    /// Show, change and watch twins.
    Twin(Group<commands::twin::Action>),
    /// Call direct methods.
    Method(Group<commands::method::Action>),
    /// Change twins of many devices or call a method of them, now or later, and watch how far it is.
    Job(Group<commands::job::Action>),
    /// Show and replace what the hub knows of the context of devices: facts, maintenance windows, places, black-out dates.
    Context(Group<commands::rollout::ContextAction>),
    /// Keep desired properties on every twin that a condition matches.
    Configuration(Group<commands::configuration::Action>),
    /// Run a query over all twins.
    Query(Single<commands::query::Arguments>),
    /// Watch telemetry, twin changes, lifecycle, connections and overridden gates as they happen.
    Monitor(Single<commands::monitor::Arguments>),
    /// Add, list and remove firmware images, and make links to them.
    Artifact(Group<commands::artifact::Action>),
    /// List shared access policies and renew their keys.
    Policy(Group<commands::policy::Action>),
    /// Show the hub in numbers.
    Status(Single<commands::status::Arguments>),
    /// Run simulated devices for as long as you like.
    Simulate(Single<commands::simulate::Arguments>),
}

impl Command {
    /// Runs the command and says how it ended. `local` finds the hub of a data folder on this machine.
    pub async fn run(self, local: impl FnOnce(Option<&Path>) -> anyhow::Result<Target>) -> ExitCode {
        match self.try_run(local).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                output::note(&format!("error: {error}"));
                ExitCode::from(error.exit as u8)
            }
        }
    }

    async fn try_run(self, local: impl FnOnce(Option<&Path>) -> anyhow::Result<Target>) -> Result<()> {
        let context = Context::new(self.common(), local)?;
        match self {
            Command::Device(group) => commands::device::run(&context, group.action).await,
            Command::Module(group) => commands::module::run(&context, group.action).await,
            Command::Twin(group) => commands::twin::run(&context, group.action).await,
            Command::Method(group) => commands::method::run(&context, group.action).await,
            Command::Job(group) => commands::job::run(&context, group.action).await,
            Command::Context(group) => commands::rollout::run_context(&context, group.action).await,
            Command::Configuration(group) => commands::configuration::run(&context, group.action).await,
            Command::Query(single) => commands::query::run(&context, single.arguments).await,
            Command::Monitor(single) => commands::monitor::run(&context, single.arguments).await,
            Command::Artifact(group) => commands::artifact::run(&context, group.action).await,
            Command::Policy(group) => commands::policy::run(&context, group.action).await,
            Command::Status(_) => commands::status::run(&context).await,
            Command::Simulate(single) => commands::simulate::run(&context, single.arguments).await,
        }
    }

    fn common(&self) -> &Common {
        match self {
            Command::Device(group) => &group.common,
            Command::Module(group) => &group.common,
            Command::Twin(group) => &group.common,
            Command::Method(group) => &group.common,
            Command::Job(group) => &group.common,
            Command::Context(group) => &group.common,
            Command::Configuration(group) => &group.common,
            Command::Query(single) => &single.common,
            Command::Monitor(single) => &single.common,
            Command::Artifact(group) => &group.common,
            Command::Policy(group) => &group.common,
            Command::Status(single) => &single.common,
            Command::Simulate(single) => &single.common,
        }
    }
}

/// What every command works with.
struct Context {
    client: Client,
    target: Target,
    output: Output,
}

impl Context {
    fn new(common: &Common, local: impl FnOnce(Option<&Path>) -> anyhow::Result<Target>) -> Result<Context> {
        let mut target = match &common.connection_string {
            Some(text) => Target {
                connection_string: text.clone(),
                ca: common.data.as_ref().map(|data| data.join("tls/ca.pem")),
                ..Target::default()
            },
            None => local(common.data.as_deref()).map_err(|error| {
                Error::new(
                    Exit::Usage,
                    format!("which hub? Give --connection-string (or FLEETYARD_CONNECTION_STRING) and --ca, or --data with the folder of a hub on this machine ({error:#})"),
                )
            })?,
        };
        if common.ca.is_some() {
            target.ca.clone_from(&common.ca);
        }
        Ok(Context { client: Client::new(&target)?, target, output: Output { json: common.json } })
    }
}
