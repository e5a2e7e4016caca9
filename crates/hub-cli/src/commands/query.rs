//! `fleetyard query`: the query language, all pages, once or again and again with what changed.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::query_all;
use crate::Context;
use crate::error::Result;
use crate::output::{cell, line, note};

/// What to ask.
#[derive(Args, Debug)]
pub struct Arguments {
    /// The query, such as "SELECT deviceId FROM devices WHERE tags.site = 'a'".
    text: String,
    /// At most so many rows.
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    limit: usize,
    /// Ask again and again, and show rows that come, change and go.
    #[arg(long)]
    watch: bool,
    /// Pause between two questions, in seconds, 0.1 to 86400.
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS", requires = "watch", value_parser = pause)]
    interval: f64,
}

fn pause(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.1..=86_400.0).contains(seconds));
    seconds.ok_or_else(|| "expected seconds, 0.1 to 86400".into())
}

/// Asks.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> Result<()> {
    let rows = query_all(context, &arguments.text, arguments.limit).await?;
    if !arguments.watch {
        return print(context, &rows);
    }
    let mut known = Known::default();
    report(context, known.take(rows))?;
    loop {
        tokio::time::sleep(Duration::from_secs_f64(arguments.interval)).await;
        match query_all(context, &arguments.text, arguments.limit).await {
            Ok(rows) => report(context, known.take(rows))?,
            Err(error) if error.exit == crate::error::Exit::Offline => {
                note(&format!("{error}; asking again"))
            }
            Err(error) => return Err(error),
        }
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

/// Rows of the last answer by what names them: their device and module, else all that they are.
#[derive(Default)]
struct Known(BTreeMap<String, Value>);

impl Known {
    /// What is different in the new answer.
    fn take(&mut self, rows: Vec<Value>) -> Vec<(&'static str, Value)> {
        let mut new = BTreeMap::new();
        let mut changes = Vec::new();
        for row in rows {
            let name = match row.get("deviceId") {
                Some(device) => format!("{device}/{}", cell(&row, "moduleId")),
                None => row.to_string(),
            };
            match self.0.get(&name) {
                None => changes.push(("enter", row.clone())),
                Some(old) if *old != row => changes.push(("change", row.clone())),
                Some(_) => {}
            }
            new.insert(name, row);
        }
        let gone = self.0.iter().filter(|(name, _)| !new.contains_key(*name));
        changes.extend(gone.map(|(_, row)| ("leave", row.clone())));
        self.0 = new;
        changes
    }
}

fn report(context: &Context, changes: Vec<(&'static str, Value)>) -> Result<()> {
    for (change, row) in changes {
        if context.output.json {
            line(&json!({ "change": change, "row": row }).to_string())?;
        } else {
            let sign = match change {
                "enter" => '+',
                "leave" => '-',
                _ => '~',
            };
            line(&format!("{sign} {}", short(&row)))?;
        }
    }
    Ok(())
}

/// A row on one line; of a whole twin what people look at.
fn short(row: &Value) -> String {
    if row.get("deviceEtag").is_none() {
        return row.to_string();
    }
    let mut properties = row["properties"].clone();
    for section in ["desired", "reported"] {
        if let Some(section) = properties[section].as_object_mut() {
            section.retain(|key, _| !key.starts_with('$'));
        }
    }
    let module = cell(row, "moduleId");
    let id =
        if module.is_empty() { cell(row, "deviceId") } else { format!("{}/{module}", cell(row, "deviceId")) };
    format!("{id}  {}  {properties}", cell(row, "connectionState"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watching_tells_what_came_changed_and_went() {
        let mut known = Known::default();
        let a = |n: u64| json!({"deviceId": "a", "n": n});
        let b = json!({"deviceId": "b"});
        assert_eq!(known.take(vec![a(1), b.clone()]), [("enter", a(1)), ("enter", b.clone())]);
        assert_eq!(known.take(vec![a(1), b.clone()]), []);
        assert_eq!(known.take(vec![a(2)]), [("change", a(2)), ("leave", b)]);
        assert_eq!(known.take(vec![a(2), json!({"count": 1})]), [("enter", json!({"count": 1}))]);
        assert_eq!(
            known.take(vec![a(2), json!({"count": 2})]),
            [("enter", json!({"count": 2})), ("leave", json!({"count": 1}))]
        );
    }
}
