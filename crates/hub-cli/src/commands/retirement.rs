//! `fleetyard device retire`, `restore`, `replace`, `export` and `retired`: the end of a device's life, for one or many.
//! Many are one request each, some at a time; each that fails is told by its id, and the rest goes on. With a rollout or
//! gates the hub does it, as a job.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use futures_util::stream::{self, StreamExt};
use reqwest::Method;
use serde_json::{Value, json};

use super::{AuthenticationFlags, export, job, pages, query_all, read_json, rollout};
use crate::Context;
use crate::error::{Error, Exit, Result};
use crate::output::{line, note, progress};

/// Devices that are retired at the same time.
const RETIRE_AT_ONCE: usize = 16;
/// Largest file of ids.
const IDS_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// How much longer than an erase method's own time limits the answer may be on its way.
const ANSWER_MARGIN: Duration = Duration::from_secs(60);
/// Ids that are shown of those that would be retired.
const IDS_SHOWN_MAX: usize = 10;

const COLUMNS: [(&str, &str); 6] = [
    ("device", "deviceId"),
    ("state", "state"),
    ("retired", "retiredTime"),
    ("by", "retiredBy.name"),
    ("restorable until", "restorableUntil"),
    ("reason", "reason"),
];
const FIELDS: [(&str, &str); 15] = [
    ("device", "deviceId"),
    ("generation", "generationId"),
    ("state", "state"),
    ("retired", "retiredTime"),
    ("by", "retiredBy.name"),
    ("reason", "reason"),
    ("restorable until", "restorableUntil"),
    ("replaced by", "replacedBy"),
    ("modules", "moduleCount"),
    ("last activity", "lastActivityTime"),
    ("erased itself", "receipt.erasedAt"),
    ("unproven", "unproven"),
    ("erased", "erasure.endedTime"),
    ("removed", "erasure.removed"),
    ("sha256", "erasure.sha256"),
];
const REPLACED: [(&str, &str); 5] = [
    ("device", "device.deviceId"),
    ("generation", "device.generationId"),
    ("replaces", "replaces"),
    ("old restorable until", "retired.restorableUntil"),
    ("status", "device.status"),
];

/// Which devices to retire, and how.
#[derive(Args, Debug)]
pub struct Retire {
    /// Their ids.
    #[arg(required_unless_present_any = ["query", "file"])]
    ids: Vec<String>,
    /// All devices that this condition matches, such as "tags.site = 'old'"; needs --yes.
    #[arg(long, value_name = "CONDITION", conflicts_with_all = ["ids", "file"])]
    query: Option<String>,
    /// All devices in this file, an id on each line, - for standard input; needs --yes.
    #[arg(long, value_name = "FILE", conflicts_with = "ids")]
    file: Option<PathBuf>,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// How long they can be restored, in seconds; without it as the hub's setting says.
    #[arg(long, value_name = "SECONDS")]
    restorable_for: Option<u64>,
    /// A method by which each device erases itself before, with a signed receipt (docs/retirement.md).
    #[arg(long, value_name = "METHOD")]
    erase_method: Option<String>,
    /// What is given to it: a JSON object, @FILE, or - for standard input.
    #[arg(long, value_name = "JSON", requires = "erase_method")]
    erase_payload: Option<String>,
    /// How long a device may take for it, in seconds, 5 to 300.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, requires = "erase_method")]
    erase_timeout: u64,
    /// How long to wait for a device that is not connected, in seconds, 0 to 300.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, requires = "erase_method")]
    erase_connect_timeout: u64,
    /// Retire a device even if it gives no valid receipt.
    #[arg(long, requires = "erase_method")]
    force: bool,
    /// Do it, however many match the condition or are in the file.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    staged: Staged,
}

/// How many are retired as one job, in waves and behind gates.
#[derive(Args, Debug)]
pub struct Staged {
    /// In waves, as this document says: JSON, @FILE, or - for standard input (docs/rollouts.md).
    #[arg(long, value_name = "JSON")]
    rollout: Option<String>,
    /// Only while a device can bear it, likewise (docs/context.md).
    #[arg(long, value_name = "JSON")]
    gates: Option<String>,
    /// The name of the job; one with the time in it without.
    #[arg(long, value_name = "NAME", conflicts_with = "dry_run")]
    job: Option<String>,
    /// How long the job may act on devices, in seconds, at most 2592000; an hour without.
    #[arg(long, value_name = "SECONDS")]
    max_time: Option<u64>,
    /// Only tell waves, times and what stands in the way.
    #[arg(long)]
    dry_run: bool,
}

impl Staged {
    /// Whether anything says that it shall be a job.
    fn is_meant(&self) -> bool {
        let Self { rollout, gates, job, max_time, dry_run } = self;
        rollout.is_some() || gates.is_some() || job.is_some() || max_time.is_some() || *dry_run
    }
}

/// What takes the place of a device.
#[derive(Args, Debug)]
pub struct Replace {
    /// The device that is replaced.
    old: String,
    /// The registered device that takes over its tags and desired properties.
    #[arg(required_unless_present = "keep_id", conflicts_with = "keep_id")]
    new: Option<String>,
    /// Other hardware takes over the id instead, with new keys; the old keys fail at once.
    #[arg(long)]
    keep_id: bool,
    /// The new device may have a twin of its own, which is overwritten.
    #[arg(long, conflicts_with = "keep_id")]
    overwrite: bool,
    /// What the old hardware reported stays until the new one reports.
    #[arg(long, requires = "keep_id")]
    keep_reported: bool,
    /// Why the old device is retired.
    #[arg(long, value_name = "TEXT", conflicts_with = "keep_id")]
    reason: Option<String>,
    /// How long the old device can be restored, in seconds.
    #[arg(long, value_name = "SECONDS", conflicts_with = "keep_id")]
    restorable_for: Option<u64>,
    #[command(flatten)]
    authentication: AuthenticationFlags,
}

/// What to do with retired devices.
#[derive(Subcommand, Debug)]
pub enum Retired {
    /// List retired devices in the order of their ids.
    List {
        /// At most so many.
        #[arg(long, default_value_t = 10_000, value_name = "N")]
        top: usize,
    },
    /// Show the record of one, with JSON also its last documents.
    Show {
        /// Its id.
        id: String,
    },
    /// Erase for good what is archived of them; there is no way back.
    Erase {
        /// Their ids.
        #[arg(required = true)]
        ids: Vec<String>,
        /// Do it.
        #[arg(long, required = true)]
        yes: bool,
    },
    /// Set the ids of erased devices free.
    Release {
        /// Their ids.
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

/// Retires.
pub(crate) async fn retire(context: &Context, arguments: Retire) -> Result<()> {
    if arguments.staged.is_meant() && (arguments.yes || arguments.staged.dry_run) {
        return retire_in_stages(context, &arguments).await;
    }
    let ids = targets(context, &arguments).await?;
    let body = body(&arguments)?;
    let is_many = arguments.query.is_some() || arguments.file.is_some() || arguments.staged.is_meant();
    if is_many && !arguments.yes {
        let shown = ids.iter().take(IDS_SHOWN_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = if ids.len() > IDS_SHOWN_MAX { ", …" } else { "" };
        let count = ids.len();
        return Err(Error::usage(format!(
            "{count} devices would be retired ({shown}{more}); say --yes if that is meant"
        )));
    }
    let mut time_limit = ANSWER_MARGIN;
    if arguments.erase_method.is_some() {
        time_limit +=
            Duration::from_secs(arguments.erase_timeout.saturating_add(arguments.erase_connect_timeout));
    }
    let bar = progress(ids.len() as u64, "retire");
    let requests = ids.iter().map(|id| {
        let request = context.client.request(Method::POST, &["api", "devices", id, "retire"]);
        let request = request.json(&body).timeout(time_limit);
        async move { (id, context.client.json_with_headers(request).await) }
    });
    let mut answers = stream::iter(requests).buffer_unordered(RETIRE_AT_ONCE);
    let mut failed = Vec::new();
    while let Some((id, answer)) = answers.next().await {
        bar.inc(1);
        if let Err(error) = answer {
            bar.suspend(|| note(&format!("{id}: {error}")));
            failed.push((id.clone(), error));
        }
    }
    bar.finish_and_clear();
    summary(context, ids.len(), &failed)
}

/// Lets the hub do it as a job, and watches that.
async fn retire_in_stages(context: &Context, arguments: &Retire) -> Result<()> {
    let staged = &arguments.staged;
    let mut job = json!({
        "type": "retireDevice",
        "parameters": body(arguments)?,
        "maxExecutionTimeInSeconds": staged.max_time,
    });
    match &arguments.query {
        Some(condition) => job["queryCondition"] = condition.as_str().into(),
        None => job["devices"] = targets(context, arguments).await?.into(),
    }
    for (name, document) in [("rollout", &staged.rollout), ("gates", &staged.gates)] {
        if let Some(document) = document {
            job[name] = read_json(document)?;
        }
    }
    if staged.dry_run {
        return rollout::dry_run(context, job, None, None).await;
    }
    let by_time = || format!("retire-{}", jiff::Timestamp::now().as_millisecond());
    let id = staged.job.clone().unwrap_or_else(by_time);
    let created = context.client.write(Method::PUT, &["jobs", "v2", &id], &job, None).await?;
    job::watch(context, &id, created).await
}

/// Who was retired and who was not, and the exit code for that.
fn summary(context: &Context, asked: usize, failed: &[(String, Error)]) -> Result<()> {
    let done = asked - failed.len();
    if context.output.json {
        let failures: Vec<_> =
            failed.iter().map(|(id, error)| json!({ "deviceId": id, "error": error.message })).collect();
        line(&json!({ "done": done, "failed": failures }).to_string())?;
    } else {
        line(&format!("{done} of {asked} retired"))?;
    }
    match failed {
        [] => Ok(()),
        [(_, only)] if asked == 1 => Err(only.clone()),
        all if done == 0 => Err(Error::failed(format!("none of {} devices could be retired", all.len()))),
        all => {
            Err(Error::new(Exit::Partial, format!("{} of {asked} devices could not be retired", all.len())))
        }
    }
}

fn body(arguments: &Retire) -> Result<Value> {
    let mut body = json!({
        "reason": arguments.reason,
        "restorableForSeconds": arguments.restorable_for,
        "force": arguments.force,
    });
    if let Some(method) = &arguments.erase_method {
        body["eraseMethod"] = json!({
            "methodName": method,
            "payload": arguments.erase_payload.as_deref().map(read_json).transpose()?,
            "responseTimeoutInSeconds": arguments.erase_timeout,
            "connectTimeoutInSeconds": arguments.erase_connect_timeout,
        });
    }
    Ok(body)
}

async fn targets(context: &Context, arguments: &Retire) -> Result<Vec<String>> {
    if let Some(condition) = &arguments.query {
        let text = match condition.trim() {
            "*" => "SELECT deviceId FROM devices".to_string(),
            condition => format!("SELECT deviceId FROM devices WHERE {condition}"),
        };
        let rows = query_all(context, &text, usize::MAX).await?;
        return Ok(rows.iter().filter_map(|row| row["deviceId"].as_str()).map(String::from).collect());
    }
    let Some(file) = &arguments.file else { return Ok(arguments.ids.clone()) };
    let unreadable = |error: std::io::Error| Error::usage(format!("cannot read {}: {error}", file.display()));
    let input: Box<dyn Read> = match file.as_os_str() == "-" {
        true => Box::new(std::io::stdin()),
        false => Box::new(std::fs::File::open(file).map_err(unreadable)?),
    };
    let mut text = String::new();
    input.take(IDS_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
    Ok(ids_of(&text))
}

/// The ids of a file, each once: lines that are empty or begin with # are passed over.
fn ids_of(text: &str) -> Vec<String> {
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    let mut seen = std::collections::HashSet::new();
    lines.filter(|id| !id.is_empty() && !id.starts_with('#') && seen.insert(*id)).map(String::from).collect()
}

/// Brings devices back.
pub(crate) async fn restore(context: &Context, ids: &[String], new_keys: bool) -> Result<()> {
    for id in ids {
        let path = ["api", "retired", id, "restore"];
        context.client.write(Method::POST, &path, &json!({ "newKeys": new_keys }), None).await?;
        context.output.done(&format!("restored {id}"));
    }
    Ok(())
}

/// Puts another device or other hardware in the place of one.
pub(crate) async fn replace(context: &Context, arguments: Replace) -> Result<()> {
    let authentication = arguments.authentication.to_body();
    if authentication.is_some() && !arguments.keep_id {
        return Err(Error::usage("keys and thumbprints are for --keep-id; the new device has its own"));
    }
    let mut body = match &arguments.new {
        Some(new) => json!({
            "new": new,
            "overwrite": arguments.overwrite,
            "reason": arguments.reason,
            "restorableForSeconds": arguments.restorable_for,
        }),
        None => json!({ "keepId": true, "keepReported": arguments.keep_reported }),
    };
    if let Some(authentication) = authentication {
        body["authentication"] = authentication;
    }
    let path = ["api", "devices", &arguments.old, "replace"];
    let mut replaced = context.client.write(Method::POST, &path, &body, None).await?;
    if !context.output.json {
        let line = replaced["replaces"].as_array().cloned().unwrap_or_default();
        let names: Vec<_> = line.iter().filter_map(|one| one["deviceId"].as_str()).collect();
        replaced["replaces"] = names.join(", ").into();
    }
    context.output.one(&replaced, &REPLACED)?;
    let device = replaced["device"]["deviceId"].as_str().unwrap_or_default();
    let text = format!("replaced; its connection string: fleetyard connection-string --device {device}");
    context.output.done(&text);
    Ok(())
}

/// Everything known about a device, a line of JSON each.
pub(crate) async fn export(context: &Context, id: &str, output: Option<&Path>, keys: bool) -> Result<()> {
    let request = context.client.request(Method::GET, &["api", "devices", id, "everything"]);
    let answer = context.client.send(request.query(&[("keys", keys)])).await?;
    let file = output.unwrap_or(Path::new("-"));
    export::save(context, answer, file, Some(b"{\"part\":\"end\"}\n")).await
}

/// Does something with retired devices.
pub(crate) async fn run(context: &Context, action: Retired) -> Result<()> {
    match action {
        Retired::List { top } => {
            let rows =
                pages(context, || context.client.request(Method::GET, &["api", "retired"]), top).await?;
            context.output.many(&rows, &COLUMNS)
        }
        Retired::Show { id } => {
            context.output.one(&context.client.get(&["api", "retired", &id]).await?, &FIELDS)
        }
        Retired::Erase { ids, yes: _ } => {
            for id in &ids {
                let request = context.client.request(Method::DELETE, &["api", "retired", id]);
                let record = context.client.json(request).await?;
                let state = record["state"].as_str().unwrap_or_default();
                let digest = record["erasure"]["sha256"].as_str().unwrap_or_default();
                match context.output.json {
                    true => line(&record.to_string())?,
                    false => note(&format!("{state} {id} {digest}")),
                }
            }
            Ok(())
        }
        Retired::Release { ids } => {
            for id in &ids {
                let path = ["api", "retired", id, "release"];
                context.client.write(Method::POST, &path, &json!({}), None).await?;
                context.output.done(&format!("released {id}"));
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_hold_ids_each_once() {
        let text = "\u{feff}pump-1\r\n\n# old ones\n pump-2 \npump-1\n";
        assert_eq!(ids_of(text), ["pump-1", "pump-2"]);
    }
}
