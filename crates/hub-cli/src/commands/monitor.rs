//! `fleetyard monitor`: events as they happen, taken up again where the connection broke.

use clap::{Args, ValueEnum};

use crate::Context;
use crate::error::Result;
use crate::events::{Events, Filter, Received, change_text};
use crate::output::line;

/// Streams of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Source {
    /// Messages of devices.
    Telemetry,
    /// Changes of twins.
    Twin,
    /// Identities that come and go.
    Lifecycle,
    /// Devices that connect and disconnect.
    Connection,
    /// What jobs do that somebody must answer for.
    Job,
}

/// What to watch.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Only these; all without it.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SOURCE")]
    source: Vec<Source>,
    /// Only of this device.
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// From after this position on, as --json shows it; from now on without it. 0.0 is from the oldest kept.
    #[arg(long, value_name = "POSITION")]
    after: Option<String>,
    /// End after so many events.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// Watches until it is stopped.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> Result<()> {
    let name = |source: &Source| source.to_possible_value().map(|value| value.get_name().to_string());
    let filter = Filter {
        sources: arguments.source.iter().filter_map(name).collect(),
        device: arguments.device,
        after: arguments.after,
    };
    let mut events = Events::open(&context.client, filter).await?;
    let mut seen = 0;
    while arguments.count.is_none_or(|count| seen < count) {
        print(context, &events.next().await?)?;
        seen += 1;
    }
    Ok(())
}

fn print(context: &Context, received: &Received) -> Result<()> {
    let event = &received.event;
    if context.output.json {
        return line(&received.to_json()?.to_string());
    }
    let module = event.module_id.as_ref().map(|module| format!("/{module}")).unwrap_or_default();
    let what = event.operation.as_deref().unwrap_or(&event.source);
    let properties = event.properties.as_ref().filter(|properties| !properties.is_empty());
    let properties = properties.map(|all| format!("  {}", serde_json::json!(all))).unwrap_or_default();
    let body = match &event.body_base64 {
        None => change_text(event),
        Some(bytes) => format!("  base64 {bytes}"),
    };
    line(&format!("{}  {}{module}  {what}{body}{properties}", event.time, event.device_id))
}
