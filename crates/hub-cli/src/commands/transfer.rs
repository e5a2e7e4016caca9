//! `fleetyard job import` and `job export`: the hub itself reads or writes a container of blobs, and this watches it.
//! Stopping to watch stops nothing; `job cancel` does.

use std::time::Duration;

use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use crate::Context;
use crate::error::{Error, Exit, Result};
use crate::output::{cell, line, progress};

/// Pause between two looks at a job that is watched.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

pub(super) const FIELDS: [(&str, &str); 14] = [
    ("job", "jobId"),
    ("type", "type"),
    ("status", "status"),
    ("reason", "failureReason"),
    ("progress", "progress"),
    ("done", "doneCount"),
    ("failed", "failedCount"),
    ("start", "startTimeUtc"),
    ("end", "endTimeUtc"),
    ("input", "inputBlobContainerUri"),
    ("input blob", "inputBlobName"),
    ("output", "outputBlobContainerUri"),
    ("output blob", "outputBlobName"),
    ("configurations", "configurationsBlobName"),
];
const COLUMNS: [(&str, &str); 6] = [
    ("job", "jobId"),
    ("type", "type"),
    ("status", "status"),
    ("start", "startTimeUtc"),
    ("done", "doneCount"),
    ("failed", "failedCount"),
];

/// What both ways share.
#[derive(Args, Debug)]
pub struct Shared {
    /// The container: file:///folder under the hub's setting bulk.folder, https://account.blob.core.windows.net/container?SAS,
    /// or s3://bucket/folder; the hub's setting bulk.stores must allow its store.
    #[arg(long, value_name = "URL")]
    container: String,
    /// The blob of devices and modules.
    #[arg(long, value_name = "NAME", default_value = "devices.txt")]
    blob: String,
    /// Configurations, too, in this blob.
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "configurations.txt")]
    configurations: Option<String>,
    /// Return when the job is created, and do not watch it.
    #[arg(long)]
    no_wait: bool,
}

/// What to import.
#[derive(Args, Debug)]
pub struct Import {
    #[command(flatten)]
    shared: Shared,
    /// The container that gets importErrors.log, if it is another one.
    #[arg(long, value_name = "URL")]
    errors: Option<String>,
}

/// What to export.
#[derive(Args, Debug)]
pub struct Export {
    #[command(flatten)]
    shared: Shared,
    /// Without the keys of devices.
    #[arg(long)]
    exclude_keys: bool,
}

/// Imports.
pub(super) async fn import(context: &Context, arguments: Import) -> Result<()> {
    let Import { shared, errors } = arguments;
    let output = errors.as_ref().unwrap_or(&shared.container);
    let body = json!({
        "type": "import",
        "inputBlobContainerUri": shared.container,
        "inputBlobName": shared.blob,
        "outputBlobContainerUri": output,
    });
    create(context, body, &shared).await
}

/// Exports.
pub(super) async fn export(context: &Context, arguments: Export) -> Result<()> {
    let Export { shared, exclude_keys } = arguments;
    let body = json!({
        "type": "export",
        "outputBlobContainerUri": shared.container,
        "outputBlobName": shared.blob,
        "excludeKeysInExport": exclude_keys,
    });
    create(context, body, &shared).await
}

async fn create(context: &Context, mut body: Value, shared: &Shared) -> Result<()> {
    body["includeConfigurations"] = shared.configurations.is_some().into();
    body["configurationsBlobName"] = shared.configurations.as_deref().into();
    let job = context.client.write(Method::POST, &["jobs", "create"], &body, None).await?;
    if shared.no_wait { context.output.one(&job, &FIELDS) } else { watch(context, job).await }
}

/// Import and export jobs, the newest first.
pub(super) async fn list(context: &Context) -> Result<()> {
    let jobs = context.client.get(&["jobs"]).await?;
    context.output.many(jobs.as_array().map_or(&[], Vec::as_slice), &COLUMNS)
}

/// The import or export job with this name.
pub(super) async fn read(context: &Context, id: &str) -> Result<Value> {
    context.client.get(&["jobs", id]).await
}

/// Cancels it.
pub(super) async fn cancel(context: &Context, id: &str) -> Result<()> {
    context.client.delete(&["jobs", id], None).await?;
    context.output.one(&read(context, id).await?, &FIELDS)
}

/// Shows how far a job is until it is over, then how it ended.
pub(super) async fn watch(context: &Context, first: Value) -> Result<()> {
    let id = cell(&first, "jobId");
    let bar = progress(100, "");
    let mut job = first;
    while job["endTimeUtc"].is_null() {
        bar.set_position(job["progress"].as_u64().unwrap_or(0));
        bar.set_message(cell(&job, "status"));
        tokio::time::sleep(WATCH_INTERVAL).await;
        match read(context, &id).await {
            Ok(now) => job = now,
            // The hub may be away for a moment; the job goes on when it is back.
            Err(error) if error.exit == Exit::Offline => bar.set_message("waiting for the hub"),
            Err(error) => return Err(error),
        }
    }
    bar.finish_and_clear();
    if context.output.json {
        line(&job.to_string())?
    } else {
        context.output.one(&job, &FIELDS)?
    }
    verdict(&job)
}

/// How the command ends for a job that is over.
fn verdict(job: &Value) -> Result<()> {
    let (id, kind) = (cell(job, "jobId"), cell(job, "type"));
    let count = |name: &str| job[name].as_u64().unwrap_or(0);
    match job["status"].as_str().unwrap_or_default() {
        "completed" => match (count("doneCount"), count("failedCount")) {
            (_, 0) => Ok(()),
            (0, failed) => Err(Error::failed(format!("none of {failed} lines could be carried out"))),
            (done, failed) => Err(Error::new(
                Exit::Partial,
                format!(
                    "{failed} of {} lines could not be carried out; importErrors.log names them",
                    done + failed
                ),
            )),
        },
        "cancelled" => Err(Error::failed(format!("{kind} '{id}' was cancelled"))),
        _ => Err(Error::failed(format!("{kind} '{id}' failed: {}", cell(job, "failureReason")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_tells_how_a_job_ended() {
        for (status, done, failed, exit) in [
            ("completed", 5, 0, None),
            ("completed", 0, 0, None),
            ("completed", 5, 1, Some(Exit::Partial)),
            ("completed", 0, 1, Some(Exit::Failed)),
            ("cancelled", 5, 0, Some(Exit::Failed)),
            ("failed", 0, 0, Some(Exit::Failed)),
        ] {
            let job = json!({ "status": status, "doneCount": done, "failedCount": failed });
            assert_eq!(verdict(&job).err().map(|error| error.exit), exit, "{job}");
        }
    }
}
