//! `fleetyard query`: the query language, all pages, once, or live with what comes, changes and goes.

mod watch;

use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::query_all;
use crate::Context;
use crate::error::Result;
use crate::output::note;
use watch::{Known, name_of};

/// What to ask.
#[derive(Args, Debug)]
pub struct Arguments {
    /// The query, such as "SELECT deviceId FROM devices WHERE tags.site = 'a'".
    text: String,
    /// At most so many rows. A watch that gets more ends.
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    limit: usize,
    /// Show rows that come, change and go, as they do.
    #[arg(long)]
    watch: bool,
    /// Watch by asking again and again with this pause, 0.1 to 86400: for queries that cannot be watched live.
    #[arg(long, value_name = "SECONDS", requires = "watch", value_parser = pause)]
    interval: Option<f64>,
}

fn pause(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.1..=86_400.0).contains(seconds));
    seconds.ok_or_else(|| "expected seconds, 0.1 to 86400".into())
}

/// Asks.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> Result<()> {
    match arguments.interval {
        _ if !arguments.watch => print(context, &query_all(context, &arguments.text, arguments.limit).await?),
        None => watch::live(context, &arguments.text, arguments.limit).await,
        Some(seconds) => poll(context, &arguments, Duration::from_secs_f64(seconds)).await,
    }
}

async fn poll(context: &Context, arguments: &Arguments, pause: Duration) -> Result<()> {
    let mut known = Known::default();
    let mut is_first = true;
    loop {
        match query_all(context, &arguments.text, arguments.limit).await {
            Ok(rows) => {
                let named = rows.into_iter().map(|row| (name_of(&row), row)).collect();
                known.replace(named).iter().try_for_each(|change| change.report(context))?;
            }
            Err(error) if !is_first && error.exit == crate::error::Exit::Offline => {
                note(&format!("{error}; asking again"));
            }
            Err(error) => return Err(error),
        }
        is_first = false;
        tokio::time::sleep(pause).await;
    }
}

fn print(context: &Context, rows: &[Value]) -> Result<()> {
    let is_twin = rows.first().is_some_and(|row| row.get("deviceEtag").is_some());
    if is_twin {
        let module = rows.iter().any(|row| row.get("moduleId").is_some_and(|id| !id.is_null()));
        let mut columns = vec![("device", "deviceId")];
        columns.extend(module.then_some(("module", "moduleId")));
        columns.extend([
            ("status", "status"),
            ("connection", "connectionState"),
            ("last activity", "lastActivityTime"),
            ("tags", "tags"),
        ]);
        return context.output.many(rows, &columns);
    }
    let mut names: Vec<&str> = Vec::new();
    for key in rows.iter().filter_map(Value::as_object).flat_map(|row| row.keys()) {
        if !names.contains(&key.as_str()) {
            names.push(key);
        }
    }
    let columns: Vec<_> = names.iter().map(|name| (*name, *name)).collect();
    context.output.many(rows, &columns)
}
