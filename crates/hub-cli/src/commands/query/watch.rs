//! What comes, changes and goes in the answer of a query: told by the hub, or found by comparing two answers.
//! After a break the whole answer is compared with what was known, so nothing is missed.

use std::collections::BTreeMap;

use hub_api::event::{END, StreamEnd};
use hub_api::watch::{CHANGE, ENTER, LEAVE, READY, WatchedRow};
use reqwest::Method;
use serde_json::{Value, json};

use crate::Context;
use crate::error::{Error, Exit, Result};
use crate::output::{cell, line, note};
use crate::sse::{Lines, Message, Pauses};

/// Rows by what names them.
type Rows = BTreeMap<String, Value>;

/// The rows that were shown last.
#[derive(Default)]
pub(super) struct Known(Rows);

/// One thing that happened to a row.
#[derive(Debug, PartialEq)]
pub(super) struct Change {
    what: &'static str,
    name: String,
    /// The row; the last there was of one that left.
    row: Value,
    /// Where in the event log, if the hub told it.
    position: Option<String>,
}

/// What names a row among others: its device and module, else all that it is.
pub(super) fn name_of(row: &Value) -> String {
    match row.get("deviceId") {
        Some(_) => join(&cell(row, "deviceId"), &cell(row, "moduleId")),
        None => row.to_string(),
    }
}

fn join(device: &str, module: &str) -> String {
    if module.is_empty() { device.into() } else { format!("{device}/{module}") }
}

impl Known {
    /// What is different in a whole new answer.
    pub(super) fn replace(&mut self, new: Rows) -> Vec<Change> {
        let mut changes = Vec::new();
        for (name, row) in &new {
            let what = match self.0.get(name) {
                None => ENTER,
                Some(old) if old != row => CHANGE,
                Some(_) => continue,
            };
            changes.push(Change { what, name: name.clone(), row: row.clone(), position: None });
        }
        let old = std::mem::replace(&mut self.0, new);
        let gone = old.into_iter().filter(|(name, _)| !self.0.contains_key(name));
        changes.extend(gone.map(|(name, row)| Change { what: LEAVE, name, row, position: None }));
        changes
    }
}

/// What one event of the hub makes of some rows; `None` if it changes nothing.
fn take(rows: &mut Rows, name: String, row: Option<Value>) -> Option<Change> {
    let (what, row) = match row {
        None => (LEAVE, rows.remove(&name)?),
        Some(row) => {
            let former = rows.insert(name.clone(), row.clone());
            if former.as_ref() == Some(&row) {
                return None;
            }
            (if former.is_some() { CHANGE } else { ENTER }, row)
        }
    };
    Some(Change { what, name, row, position: None })
}

impl Change {
    /// Shows it.
    pub(super) fn report(&self, context: &Context) -> Result<()> {
        if context.output.json {
            let mut change = json!({ "change": self.what, "row": self.row });
            if let Some(position) = &self.position {
                change["id"] = self.name.as_str().into();
                change["position"] = position.as_str().into();
            }
            return line(&change.to_string());
        }
        let sign = match self.what {
            ENTER => '+',
            LEAVE => '-',
            _ => '~',
        };
        let row = short(&self.row);
        // A row that does not say whose it is.
        let whose =
            if self.position.is_some() && self.row.get("deviceId").is_none() { &*self.name } else { "" };
        line(&format!("{sign} {whose}{}{row}", if whose.is_empty() { "" } else { "  " }))
    }
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
    format!("{}  {}  {properties}", name_of(row), cell(row, "connectionState"))
}

/// Shows what the hub tells of a standing query, and begins anew when the stream breaks.
pub(super) async fn live(context: &Context, text: &str, limit: usize) -> Result<()> {
    let mut known = Known::default();
    let mut pauses = Pauses::default();
    let mut is_first = true;
    loop {
        let request =
            context.client.request(Method::GET, &["api", "queries", "watch"]).query(&[("query", text)]);
        let broke = match Lines::open(&context.client, request).await {
            Ok(lines) => follow(context, lines, &mut known, limit, &mut pauses).await?,
            Err(error) if !is_first && error.exit == Exit::Offline => error.to_string(),
            Err(error) => return Err(error),
        };
        is_first = false;
        note(&format!("{broke}; beginning anew in {} s", pauses.seconds()));
        pauses.pause().await;
    }
}

/// Shows what one stream tells; returns how it ended.
async fn follow(
    context: &Context,
    mut lines: Lines,
    known: &mut Known,
    limit: usize,
    pauses: &mut Pauses,
) -> Result<String> {
    // Until the answer is whole.
    let mut begun = Some(Rows::new());
    loop {
        let Message { id: position, name, data } = match lines.message().await {
            Ok(message) => message,
            Err(text) => return Ok(format!("the stream broke ({text})")),
        };
        if name == END {
            let end: StreamEnd = serde_json::from_str(&data).map_err(unexpected)?;
            return Ok(format!("the hub ended the stream: {}", end.reason));
        }
        let changes = if name == READY {
            *pauses = Pauses::default();
            begun.take().map(|rows| known.replace(rows)).unwrap_or_default()
        } else {
            let WatchedRow { device_id, module_id, row } = serde_json::from_str(&data).map_err(unexpected)?;
            let rows = begun.as_mut().unwrap_or(&mut known.0);
            let change = take(rows, join(&device_id, &module_id.unwrap_or_default()), row);
            if rows.len() > limit {
                return Err(Error::failed(format!(
                    "the query has more than {limit} rows: ask for less, or raise --limit"
                )));
            }
            if begun.is_some() { Vec::new() } else { change.into_iter().collect() }
        };
        for mut change in changes {
            change.position = Some(position.clone());
            change.report(context)?;
        }
    }
}

fn unexpected(error: serde_json::Error) -> Error {
    Error::failed(format!("an event of the hub is not as expected: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[Value]) -> Rows {
        rows.iter().map(|row| (name_of(row), row.clone())).collect()
    }

    fn said(changes: impl IntoIterator<Item = Change>) -> Vec<String> {
        changes.into_iter().map(|change| format!("{} {}", change.what, change.row)).collect()
    }

    #[test]
    fn two_answers_tell_what_came_changed_and_went() {
        let mut known = Known::default();
        let a = |n: u64| json!({"deviceId": "a", "n": n});
        let b = json!({"deviceId": "b", "moduleId": null});
        let mut check = |new: &[Value], expected: &[(&str, Value)]| {
            let expected: Vec<_> = expected.iter().map(|(what, row)| format!("{what} {row}")).collect();
            assert_eq!(said(known.replace(rows(new))), expected);
        };
        check(&[a(1), b.clone()], &[("enter", a(1)), ("enter", b.clone())]);
        check(&[a(1), b.clone()], &[]);
        check(&[a(2)], &[("change", a(2)), ("leave", b)]);
        check(&[a(2), json!({"count": 1})], &[("enter", json!({"count": 1}))]);
        let other = [("enter", json!({"count": 2})), ("leave", json!({"count": 1}))];
        check(&[a(2), json!({"count": 2})], &other);
    }

    #[test]
    fn steps_of_the_hub_tell_the_same() {
        let mut rows = Rows::new();
        let mut check = |row: Option<Value>, expected: Option<&str>| {
            let change = take(&mut rows, "a".into(), row);
            assert_eq!(said(change).pop().as_deref(), expected);
        };
        check(None, None);
        check(Some(json!({"n": 1})), Some("enter {\"n\":1}"));
        check(Some(json!({"n": 1})), None);
        check(Some(json!({"n": 2})), Some("change {\"n\":2}"));
        check(None, Some("leave {\"n\":2}"));
    }
}
