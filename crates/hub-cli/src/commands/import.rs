//! `fleetyard device import-file`: many devices from a file, a hundred in a request, several requests at once.
//! A line that cannot be carried out is named with its number and harms no other.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use clap::Args;
use futures_util::{StreamExt, stream};
use hub_api::bulk::BulkResult;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::Context;
use crate::error::{Error, Exit, Result};
use crate::output::{line, note, progress};

/// Devices in one request; the hub takes no more.
pub const BATCH_DEVICES: usize = 100;
/// Requests at once.
const BATCHES_AT_ONCE: usize = 4;
/// Longest line of the file.
const LINE_BYTES_MAX: usize = 256 * 1024;

/// What to import.
#[derive(Args, Debug)]
pub struct Arguments {
    /// The file, or - for standard input. On each line an id, or a JSON object with id, status, tags, properties.desired,
    /// authentication, importMode and so on. Empty lines and lines that begin with # are skipped.
    file: PathBuf,
    /// What to do with lines that have no importMode of their own.
    #[arg(long, default_value = "create", value_parser = ["create", "update", "createOrUpdate", "delete", "updateTwin"])]
    mode: String,
}

/// An item and the number of its line.
type Numbered = (usize, Value);
/// What was wrong with a line.
type Problem = (usize, String);

/// Imports.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> Result<()> {
    let (items, mut problems) = read(&arguments)?;
    let total = items.len() + problems.len();
    let bar = progress(items.len() as u64, "import");
    let batches: Vec<_> = items.chunks(BATCH_DEVICES).map(<[Numbered]>::to_vec).collect();
    let mut results = stream::iter(batches)
        .map(|batch| async move { (batch.len(), submit(context, &batch).await) })
        .buffer_unordered(BATCHES_AT_ONCE);
    while let Some((count, result)) = results.next().await {
        bar.inc(count as u64);
        match result {
            Ok(failed) => problems.extend(failed),
            Err(error) => {
                bar.abandon();
                return Err(Error::new(
                    error.exit,
                    format!("{error}; lines before this may have been imported"),
                ));
            }
        }
    }
    drop(results);
    bar.finish_and_clear();
    problems.sort();
    finish(context, total, &problems)
}

fn finish(context: &Context, total: usize, problems: &[Problem]) -> Result<()> {
    for (number, problem) in problems {
        note(&format!("line {number}: {problem}"));
    }
    let done = total - problems.len();
    if context.output.json {
        let failed: Vec<_> =
            problems.iter().map(|(line, error)| json!({ "line": line, "error": error })).collect();
        line(&json!({ "done": done, "failed": failed }).to_string())?;
    } else {
        line(&format!("{done} of {total} done"))?;
    }
    match problems.len() {
        0 => Ok(()),
        failed if done == 0 => Err(Error::failed(format!("none of {failed} lines could be carried out"))),
        failed => {
            Err(Error::new(Exit::Partial, format!("{failed} of {total} lines could not be carried out")))
        }
    }
}

fn read(arguments: &Arguments) -> Result<(Vec<Numbered>, Vec<Problem>)> {
    let unreadable = |error| Error::usage(format!("cannot read {}: {error}", arguments.file.display()));
    if arguments.file.as_os_str() == "-" {
        return parse(std::io::stdin().lock(), &arguments.mode).map_err(unreadable);
    }
    let file = std::fs::File::open(&arguments.file).map_err(unreadable)?;
    parse(BufReader::new(file), &arguments.mode).map_err(unreadable)
}

fn parse(input: impl BufRead, mode: &str) -> std::io::Result<(Vec<Numbered>, Vec<Problem>)> {
    let (mut items, mut problems, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for (index, bytes) in input.split(b'\n').enumerate() {
        let (number, bytes) = (index + 1, bytes?);
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim().trim_start_matches('\u{feff}');
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        match item(text, bytes.len(), mode) {
            Ok(item) if !seen.insert(name(&item)) => {
                problems.push((number, format!("{} is on an earlier line, too", name(&item))))
            }
            Ok(item) => items.push((number, item)),
            Err(problem) => problems.push((number, problem)),
        }
    }
    Ok((items, problems))
}

fn item(text: &str, bytes: usize, mode: &str) -> Result<Value, String> {
    if bytes > LINE_BYTES_MAX {
        return Err(format!("it is longer than {LINE_BYTES_MAX} bytes"));
    }
    if !text.starts_with('{') {
        return Ok(json!({ "id": text, "importMode": mode }));
    }
    let mut item: Value = serde_json::from_str(text)
        .map_err(|error| format!("not JSON at column {}: {error}", error.column()))?;
    // The registry's own lists say `deviceId`, the import format says `id`.
    if item.get("id").is_none() && item.get("deviceId").is_some() {
        item["id"] = item["deviceId"].take();
    }
    if item["id"].as_str().is_none_or(str::is_empty) {
        return Err("it has no \"id\"".into());
    }
    if item.get("importMode").is_none_or(Value::is_null) {
        item["importMode"] = mode.into();
    }
    Ok(item)
}

/// How the hub names it in errors.
fn name(item: &Value) -> String {
    let text = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default();
    match text("moduleId") {
        "" => text("id").to_string(),
        module => format!("{}/{module}", text("id")),
    }
}

async fn submit(context: &Context, batch: &[Numbered]) -> Result<Vec<Problem>> {
    let items: Vec<_> = batch.iter().map(|(_, item)| item.clone()).collect();
    match bulk(context, &items).await {
        Ok(result) => {
            let lines: HashMap<String, usize> =
                batch.iter().map(|(number, item)| (name(item), *number)).collect();
            let failed = result.errors.into_iter().map(|error| {
                let name = match error.module_id.as_str() {
                    "" => error.device_id,
                    module => format!("{}/{module}", error.device_id),
                };
                let number = lines.get(&name).copied().unwrap_or(batch[0].0);
                (number, format!("{name}: {} {}", error.error_code, error.error_status))
            });
            Ok(failed.collect())
        }
        // The whole request was refused for what stands in it: that is no reason to give up the others.
        Err(error) if error.exit == Exit::Failed => {
            Ok(batch.iter().map(|(number, item)| (*number, format!("{}: {error}", name(item)))).collect())
        }
        Err(error) => Err(error),
    }
}

/// One bulk request. An answer that tells of single failures is a result, whatever its status.
pub async fn bulk(context: &Context, items: &[Value]) -> Result<BulkResult> {
    let request = context.client.request(Method::POST, &["devices"]).json(items);
    let (status, body) = context.client.raw(request).await?;
    if matches!(status, StatusCode::OK | StatusCode::BAD_REQUEST)
        && let Ok(result) = serde_json::from_slice::<BulkResult>(&body)
    {
        return Ok(result);
    }
    Err(crate::client::answer_error(status, &body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_items_or_problems_with_their_number() {
        let text = "# fleet\n\npump-1\n{\"id\":\"pump-2\",\"tags\":{\"a\":1}}\n{\"deviceId\":\"pump-3\",\"importMode\":\"delete\"}\n{oops}\n{\"tags\":{}}\npump-1\r\n";
        let (items, problems) = parse(text.as_bytes(), "create").expect("read from memory");
        let ids: Vec<_> =
            items.iter().map(|(number, item)| (*number, name(item), item["importMode"].clone())).collect();
        assert_eq!(
            ids,
            [
                (3, "pump-1".to_string(), json!("create")),
                (4, "pump-2".to_string(), json!("create")),
                (5, "pump-3".to_string(), json!("delete"))
            ]
        );
        assert_eq!(items[1].1["tags"], json!({"a": 1}));
        let numbers: Vec<_> = problems.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [6, 7, 8]);
        assert!(problems[0].1.contains("column 2") && problems[1].1.contains("no \"id\""), "{problems:?}");
        assert!(problems[2].1.contains("earlier line"), "{problems:?}");
    }
}
