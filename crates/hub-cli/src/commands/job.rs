//! `fleetyard job`: one action over many devices, now or at a set time, and how far it is; imports and exports by the hub.
//! Watching never changes a job, and goes on when the hub was away for a moment.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use hub_api::job::JobStatistics;
use indicatif::ProgressBar;
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};

use super::twin::sections;
use super::{pages, query_all, quoted, read_json, rollout, transfer};
use crate::Context;
use crate::error::{Error, Exit, Result};
use crate::output::{cell, line, note, progress};

/// Pause between two looks at a job that is watched.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);
/// Most reasons of failures that are read; a reason may name its device, so there can be as many as devices.
const REASONS_MAX: usize = 10_000;
/// Most of them that people are shown.
const REASONS_SHOWN_MAX: usize = 20;

const COLUMNS: [(&str, &str); 7] = [
    ("job", "jobId"),
    ("type", "type"),
    ("status", "status"),
    ("start", "startTime"),
    ("devices", "deviceJobStatistics.deviceCount"),
    ("succeeded", "deviceJobStatistics.succeededCount"),
    ("failed", "deviceJobStatistics.failedCount"),
];
const FIELDS: [(&str, &str); 29] = [
    ("job", "jobId"),
    ("type", "type"),
    ("status", "status"),
    ("reason", "failureReason"),
    ("where", "queryCondition"),
    ("of a list of", "listedCount"),
    ("method", "cloudToDeviceMethod"),
    ("waits for devices", "waitForDevices"),
    ("parameters", "parameters"),
    ("seconds for a report", "deviceTimeoutInSeconds"),
    ("gates", "gates"),
    ("gates overridden by", "gatesOverride.by"),
    ("because", "gatesOverride.reason"),
    ("rollout", "rolloutState.phase"),
    ("forecast made", "rolloutState.forecast.startTime"),
    ("expected end", "rolloutState.forecast.expectedEndTime"),
    ("forecast error", "rolloutState.forecast.error"),
    ("undoes", "undoesJobId"),
    ("asked by", "askedBy"),
    ("twin", "updateTwin"),
    ("created", "createdTime"),
    ("start", "startTime"),
    ("end", "endTime"),
    ("seconds at most", "maxExecutionTimeInSeconds"),
    ("devices", "deviceJobStatistics.deviceCount"),
    ("pending", "deviceJobStatistics.pendingCount"),
    ("succeeded", "deviceJobStatistics.succeededCount"),
    ("failed", "deviceJobStatistics.failedCount"),
    ("cancelled", "deviceJobStatistics.cancelledCount"),
];
const SUMMARY: [(&str, &str); 7] = [
    ("job", "jobId"),
    ("status", "status"),
    ("end", "endTime"),
    ("devices", "deviceJobStatistics.deviceCount"),
    ("succeeded", "deviceJobStatistics.succeededCount"),
    ("failed", "deviceJobStatistics.failedCount"),
    ("cancelled", "deviceJobStatistics.cancelledCount"),
];
const CHILDREN: [(&str, &str); 7] = [
    ("device", "deviceId"),
    ("module", "moduleId"),
    ("status", "status"),
    ("start", "startTimeUtc"),
    ("end", "endTimeUtc"),
    ("wave", "wave"),
    ("error", "error.code"),
];
const CHILD: [(&str, &str); 15] = [
    ("device", "target.deviceId"),
    ("module", "target.moduleId"),
    ("status", "target.status"),
    ("start", "target.startTimeUtc"),
    ("end", "target.endTimeUtc"),
    ("wave", "target.wave"),
    ("progress", "target.progress"),
    ("outcome", "target.outcome"),
    ("error", "target.error"),
    ("last error", "target.lastError"),
    ("again at", "target.notBeforeTimeUtc"),
    ("job", "parent.jobId"),
    ("type", "parent.type"),
    ("status of the job", "parent.status"),
    ("asked by", "parent.askedBy"),
];
const REASONS: [(&str, &str); 3] = [("devices", "devices"), ("code", "code"), ("reason", "description")];

/// What jobs do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Calls a method.
    Method,
    /// Changes twins.
    Twin,
    /// Restarts devices.
    Reboot,
    /// Puts devices back as they left the factory.
    FactoryReset,
    /// Brings devices to another firmware.
    FirmwareUpdate,
    /// Merges into the configuration of devices.
    UpdateConfiguration,
    /// Has devices report, and reads reported properties.
    ReadProperties,
    /// Merges into the desired properties of devices, which must confirm them.
    WriteProperties,
    /// Takes devices out of the registry; `device retire` is easier.
    Retire,
}

impl Kind {
    fn on_the_wire(self) -> &'static str {
        match self {
            Kind::Method => "scheduleDeviceMethod",
            Kind::Twin => "scheduleUpdateTwin",
            Kind::Reboot => "rebootDevice",
            Kind::FactoryReset => "factoryResetDevice",
            Kind::FirmwareUpdate => "firmwareUpdate",
            Kind::UpdateConfiguration => "updateDeviceConfiguration",
            Kind::ReadProperties => "readDeviceProperties",
            Kind::WriteProperties => "writeDeviceProperties",
            Kind::Retire => "retireDevice",
        }
    }
}

/// Which devices.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// The devices for which this is true when the job starts, such as "tags.site = 'a'"; or
    /// "FROM devices.modules WHERE …" for modules.
    #[arg(long = "where", value_name = "CONDITION")]
    condition: Option<String>,
    /// All devices.
    #[arg(long)]
    all: bool,
}

/// What is done to each.
#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
pub struct What {
    /// Call this method.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["tags", "desired"])]
    method: Option<String>,
    /// Merge into the tags: JSON, @FILE, or - for standard input; `null` removes a key.
    #[arg(long, value_name = "JSON")]
    tags: Option<String>,
    /// Merge into the desired properties, likewise.
    #[arg(long, value_name = "JSON")]
    desired: Option<String>,
    /// One of the types of device management, all but method and twin: a device is done when it has reported so.
    #[arg(long = "type", value_enum, value_name = "TYPE", conflicts_with_all = ["method", "tags", "desired"])]
    kind: Option<Kind>,
}

/// How the method is called.
// Conflicts, since `requires = "method"` would not do: clap forgives what is missing if it conflicts with what is given.
#[derive(Args, Debug)]
pub struct How {
    /// What is given to the method: JSON, @FILE, or - for standard input.
    #[arg(long, value_name = "JSON", conflicts_with_all = ["tags", "desired", "kind"])]
    payload: Option<String>,
    /// What the type takes, likewise: {"version", "url", "sha256", "size"} for firmware-update, {"configuration": {…}},
    /// {"properties": ["name.name", …]} to read and {"properties": {…}} to write.
    #[arg(long, value_name = "JSON", conflicts_with_all = ["tags", "desired", "method"])]
    parameters: Option<String>,
    /// How long a device may take to answer, in seconds, 5 to 300.
    #[arg(long, default_value_t = 30, value_name = "SECONDS", conflicts_with_all = ["tags", "desired", "kind"])]
    timeout: u64,
    /// How long to wait for devices that are not connected, in seconds, 0 to 300.
    #[arg(long, default_value_t = 0, value_name = "SECONDS", conflicts_with_all = ["tags", "desired", "kind"])]
    connect_timeout: u64,
    /// Wait for devices that are not connected as long as the job runs.
    #[arg(long, conflicts_with_all = ["tags", "desired", "connect_timeout"])]
    wait_for_devices: bool,
}

/// A new job.
#[derive(Args, Debug)]
pub struct Create {
    /// Its name, which no other job of the hub has.
    id: String,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    how: How,
    /// When: a time such as 2030-01-31T04:00:00Z, or +30m, +2h, +1d from now; at once without it.
    #[arg(long, value_name = "TIME", value_parser = |text: &str| start(text, Timestamp::now()))]
    start: Option<Timestamp>,
    /// How long after its start it may act on devices, in seconds, 1 to 2592000; an hour without it.
    #[arg(long, value_name = "SECONDS")]
    max_time: Option<u64>,
    /// How long a device may take to report that it did what it was told, in seconds; as long as the job runs without it.
    #[arg(long, value_name = "SECONDS", conflicts_with_all = ["tags", "desired", "method"])]
    device_timeout: Option<u64>,
    #[command(flatten)]
    rollout: Rollout,
    /// Watch it to its end, as `job watch` does.
    #[arg(long, conflicts_with = "dry_run")]
    watch: bool,
}

/// How it goes through the devices.
#[derive(Args, Debug)]
pub struct Rollout {
    /// In waves, with caps and stop rules: the document of docs/rollouts.md as JSON, @FILE, or - for standard input.
    #[arg(long, value_name = "JSON")]
    rollout: Option<String>,
    /// Only while a device can bear it: the document of docs/context.md, likewise.
    #[arg(long, value_name = "JSON")]
    gates: Option<String>,
    /// How it is undone if it does not patch twins: {"type": …} with its members, likewise.
    #[arg(long, value_name = "JSON")]
    roll_back: Option<String>,
    /// Only show what it would do: waves, times, and what would stand in the way now.
    #[arg(long)]
    dry_run: bool,
    /// A guess of what one device needs, for the dry run.
    #[arg(long, value_name = "SECONDS", requires = "dry_run")]
    seconds_per_device: Option<u64>,
    /// A guess of what is sent to one device, likewise.
    #[arg(long, value_name = "BYTES", requires = "dry_run")]
    bytes_per_device: Option<u64>,
}

/// What to do with jobs.
#[derive(Subcommand, Debug)]
pub enum Action {
    /// Create a job: a method, a patch of twins or a type of device management, over the devices of a condition.
    Create(Box<Create>),
    /// Import devices, modules and configurations from a container of blobs, which the hub itself reads.
    Import(Box<transfer::Import>),
    /// Export them into a container of blobs.
    Export(Box<transfer::Export>),
    /// List jobs, over and not over.
    List {
        /// Only those that stand here.
        #[arg(long, value_parser = ["scheduled", "queued", "running", "completed", "failed", "cancelled"])]
        status: Option<String>,
        /// Only those that do this.
        #[arg(long = "type", value_enum, value_name = "TYPE")]
        kind: Option<Kind>,
        /// At most so many.
        #[arg(long, default_value_t = 100_000, value_name = "N")]
        limit: usize,
        /// The imports and exports instead, the newest first.
        #[arg(long, conflicts_with_all = ["status", "kind", "limit"])]
        bulk: bool,
    },
    /// Show a job, or what became of it on one device.
    Show {
        /// The job.
        id: String,
        /// What became of it on this device.
        #[arg(long, value_name = "ID")]
        device: Option<String>,
        /// On this module of the device.
        #[arg(long, value_name = "ID", requires = "device")]
        module: Option<String>,
    },
    /// List the devices of a job with what became of them.
    Children {
        /// The job.
        id: String,
        /// Only those that stand there.
        #[arg(long, value_name = "STATUS", value_parser = ["pending", "running", "completed", "failed", "canceled"])]
        status: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 100_000, value_name = "N")]
        limit: usize,
    },
    /// Watch a job to its end; then show what became of the devices, failures grouped by reason.
    Watch {
        /// The job.
        id: String,
    },
    /// Cancel a job that waits or runs: what has not been sent to a device, or imported, is not.
    Cancel {
        /// The job.
        id: String,
    },
    /// Count the devices of a job by what they wait for.
    Waiting {
        /// The job.
        id: String,
    },
    #[command(flatten)]
    Decide(rollout::Decide),
}

/// Does it.
pub(crate) async fn run(context: &Context, action: Action) -> Result<()> {
    let client = &context.client;
    match action {
        Action::Create(job) => create(context, &job).await,
        Action::Import(job) => transfer::import(context, *job).await,
        Action::Export(job) => transfer::export(context, *job).await,
        Action::List { bulk: true, .. } => transfer::list(context).await,
        Action::List { status, kind, limit, .. } => {
            let status = status.iter().map(|status| ("jobStatus", status.as_str()));
            let kind = kind.iter().map(|kind| ("jobType", kind.on_the_wire()));
            let filter: Vec<_> = status.chain(kind).collect();
            let ask = || client.request(Method::GET, &["jobs", "v2", "query"]).query(&filter);
            context.output.many(&pages(context, ask, limit).await?, &COLUMNS)
        }
        Action::Show { id, device: Some(device), module } => {
            let mut path = vec!["api", "jobs", &id, "devices", &device];
            path.extend(module.iter().flat_map(|module| ["modules", module]));
            context.output.one(&client.get(&path).await?, &CHILD)
        }
        Action::Children { id, status, limit } => {
            let filter: Vec<_> = status.iter().map(|status| ("status", status)).collect();
            let path = ["api", "jobs", &id, "devices"];
            let ask = || client.request(Method::GET, &path).query(&filter);
            context.output.many(&pages(context, ask, limit).await?, &CHILDREN)
        }
        Action::Show { id, .. } => match client.get(&path(&id)).await? {
            job if is_transfer(&job) => {
                context.output.one(&transfer::read(context, &id).await?, &transfer::FIELDS)
            }
            job => context.output.one(&job, &FIELDS),
        },
        Action::Watch { id } => match client.get(&path(&id)).await? {
            job if is_transfer(&job) => transfer::watch(context, transfer::read(context, &id).await?).await,
            job => watch(context, &id, job).await,
        },
        Action::Cancel { id } => {
            if is_transfer(&client.get(&path(&id)).await?) {
                return transfer::cancel(context, &id).await;
            }
            let request = client.request(Method::POST, &["jobs", "v2", &id, "cancel"]);
            context.output.one(&client.json(request).await?, &FIELDS)
        }
        Action::Waiting { id } => rollout::waiting(context, &id).await,
        Action::Decide(decide) => {
            context.output.one(&rollout::decide(context, "jobs", &decide).await?, &FIELDS)
        }
    }
}

/// Of an import or export `jobs/v2` says only what it is.
fn is_transfer(job: &Value) -> bool {
    job["status"] == "unknown"
}

fn path(id: &str) -> [&str; 3] {
    ["jobs", "v2", id]
}

async fn create(context: &Context, job: &Create) -> Result<()> {
    if job.rollout.dry_run {
        let Rollout { seconds_per_device, bytes_per_device, .. } = job.rollout;
        return rollout::dry_run(context, body(job)?, seconds_per_device, bytes_per_device).await;
    }
    let created = context.client.write(Method::PUT, &path(&job.id), &body(job)?, None).await?;
    if job.watch { watch(context, &job.id, created).await } else { context.output.one(&created, &FIELDS) }
}

fn body(job: &Create) -> Result<Value> {
    let mut body = json!({
        "jobId": job.id,
        "queryCondition": job.which.condition.as_deref().unwrap_or("*"),
        "startTime": job.start.map(|start| start.to_string()),
        "maxExecutionTimeInSeconds": job.max_time,
        "deviceTimeoutInSeconds": job.device_timeout,
    });
    let Rollout { rollout, gates, roll_back, .. } = &job.rollout;
    for (name, document) in [("rollout", rollout), ("gates", gates), ("rollBack", roll_back)] {
        if let Some(document) = document {
            body[name] = read_json(document)?;
        }
    }
    if let Some(method) = &job.what.method {
        body["type"] = Kind::Method.on_the_wire().into();
        body["cloudToDeviceMethod"] = json!({
            "methodName": method,
            "payload": job.how.payload.as_deref().map(read_json).transpose()?,
            "responseTimeoutInSeconds": job.how.timeout,
            "connectTimeoutInSeconds": job.how.connect_timeout,
        });
        body["waitForDevices"] = job.how.wait_for_devices.into();
    } else if let Some(kind) = job.what.kind {
        if matches!(kind, Kind::Method | Kind::Twin) {
            let text =
                "--type is for device management; use --method NAME, or --tags and --desired, for these two";
            return Err(Error::usage(text));
        }
        body["type"] = kind.on_the_wire().into();
        body["parameters"] = job.how.parameters.as_deref().map(read_json).transpose()?.into();
        body["waitForDevices"] = job.how.wait_for_devices.into();
    } else {
        body["type"] = Kind::Twin.on_the_wire().into();
        body["updateTwin"] = sections(job.what.tags.as_deref(), job.what.desired.as_deref())?;
        body["updateTwin"]["etag"] = "*".into();
    }
    Ok(body)
}

/// Reads a time, or how long after `now`.
fn start(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let expected =
        || "expected a time such as 2030-01-31T04:00:00Z, or +30m, +2h or +1d from now".to_string();
    let Some(later) = text.strip_prefix('+') else { return text.parse().map_err(|_| expected()) };
    let seconds =
        [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)].into_iter().find_map(|(unit, seconds)| {
            let digits =
                later.strip_suffix(unit).filter(|count| count.bytes().all(|b| b.is_ascii_digit()))?;
            Some(i64::from(digits.parse::<u32>().ok()?) * seconds)
        });
    now.checked_add(SignedDuration::from_secs(seconds.ok_or_else(expected)?)).map_err(|_| expected())
}

/// Shows how far a job is until it is over, then what became of it.
pub(super) async fn watch(context: &Context, id: &str, first: Value) -> Result<()> {
    let bar = progress(0, "");
    let (mut job, mut before) = (first, Value::Null);
    while job["endTime"].is_null() {
        if job != before {
            show(context, &bar, &job, &before)?;
        }
        tokio::time::sleep(WATCH_INTERVAL).await;
        before =
            std::mem::replace(&mut job, patiently(&bar, async || context.client.get(&path(id)).await).await?);
    }
    let mut reasons = Vec::new();
    if statistics(&job).failed_count > 0 {
        let query = format!(
            "SELECT error.code AS code, error.description AS description, COUNT() AS devices FROM devices.jobs \
             WHERE jobId = {} AND status = 'failed' GROUP BY error.code, error.description",
            quoted(id)
        );
        reasons = patiently(&bar, || query_all(context, &query, REASONS_MAX)).await?;
    }
    bar.finish_and_clear();
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason["devices"].as_u64()));
    finish(context, job, reasons)
}

fn show(context: &Context, bar: &ProgressBar, job: &Value, before: &Value) -> Result<()> {
    let counts = statistics(job);
    bar.set_position(counts.succeeded_count + counts.failed_count + counts.cancelled_count);
    match counts.device_count {
        // Zero of zero would be a full bar.
        0 => bar.unset_length(),
        count => bar.set_length(count),
    }
    let headline = headline(job);
    if headline != self::headline(before) {
        // What was done before says nothing of the rate from here on.
        bar.reset_eta();
        bar.suspend(|| context.output.done(&format!("{} is {headline}", cell(job, "jobId"))));
        bar.set_message(headline);
    }
    if context.output.json { bar.suspend(|| line(&job.to_string())) } else { Ok(()) }
}

fn headline(job: &Value) -> String {
    match job["status"].as_str() {
        Some("scheduled") => format!("scheduled for {}", cell(job, "startTime")),
        status => {
            let phase = job["rolloutState"]["phase"].as_str().filter(|phase| *phase != "running");
            let phase = phase.map(|phase| format!(", {phase}")).unwrap_or_default();
            format!("{}{phase}", status.unwrap_or_default())
        }
    }
}

fn statistics(job: &Value) -> JobStatistics {
    serde_json::from_value(job["deviceJobStatistics"].clone()).unwrap_or_default()
}

/// Asks until there is an answer: the hub may be away for a moment.
async fn patiently<T>(bar: &ProgressBar, ask: impl AsyncFn() -> Result<T>) -> Result<T> {
    let mut told = false;
    loop {
        match ask().await {
            Err(error) if error.exit == Exit::Offline => {
                if !std::mem::replace(&mut told, true) {
                    bar.suspend(|| note(&format!("{error}; asking again until it does")));
                }
                tokio::time::sleep(WATCH_INTERVAL).await;
            }
            answer => return answer,
        }
    }
}

fn finish(context: &Context, mut job: Value, reasons: Vec<Value>) -> Result<()> {
    if context.output.json {
        job["failures"] = reasons.into();
        line(&job.to_string())?;
    } else {
        context.output.one(&job, &SUMMARY)?;
        let (shown, hidden) = reasons.split_at(reasons.len().min(REASONS_SHOWN_MAX));
        if !shown.is_empty() {
            context.output.many(shown, &REASONS)?;
        }
        if !hidden.is_empty() {
            note(&format!("and {} more reasons, which --json shows", hidden.len()));
        }
    }
    verdict(&job)
}

/// How the command ends for a job that is over.
fn verdict(job: &Value) -> Result<()> {
    let JobStatistics { device_count, succeeded_count, failed_count, cancelled_count, .. } = statistics(job);
    let id = cell(job, "jobId");
    match job["status"].as_str().unwrap_or_default() {
        "failed" => Err(Error::failed(format!("job '{id}' failed: {}", cell(job, "failureReason")))),
        "cancelled" if device_count == 0 => {
            Err(Error::failed(format!("job '{id}' was cancelled before it acted on any device")))
        }
        _ if device_count == 0 => Err(Error::failed(format!("job '{id}' found no device to act on"))),
        _ if succeeded_count == 0 => {
            Err(Error::failed(format!("job '{id}' succeeded on none of {device_count} devices")))
        }
        status if succeeded_count < device_count || status == "cancelled" => Err(Error::new(
            Exit::Partial,
            format!("of {device_count} devices {failed_count} failed and {cancelled_count} were cancelled"),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_times_or_distances() {
        let now: Timestamp = "2030-01-01T00:00:00Z".parse().expect("a time");
        for (text, expected) in [
            ("2031-02-03T04:05:06Z", "2031-02-03T04:05:06Z"),
            ("2031-02-03T04:05:06+02:00", "2031-02-03T02:05:06Z"),
            ("+0s", "2030-01-01T00:00:00Z"),
            ("+45s", "2030-01-01T00:00:45Z"),
            ("+30m", "2030-01-01T00:30:00Z"),
            ("+2h", "2030-01-01T02:00:00Z"),
            ("+1d", "2030-01-02T00:00:00Z"),
        ] {
            assert_eq!(start(text, now).expect(text).to_string(), expected, "{text}");
        }
        for text in [
            "",
            "+",
            "+m",
            "+5",
            "5m",
            "+-5m",
            "++5m",
            "+1.5h",
            "+1w",
            "+2h30m",
            "+ 1h",
            "+4294967296s",
            "+4294967295d",
            "2031-02-03",
            "2031-02-03T04:05:06",
            "2031-02-30T00:00:00Z",
            "tomorrow",
        ] {
            let refused = start(text, now).expect_err(text);
            assert!(refused.contains("+30m"), "{text}: {refused}");
        }
    }

    #[test]
    fn the_exit_code_says_what_became_of_the_devices() {
        let check = |status: &str, succeeded: u64, failed: u64, cancelled: u64, exit: Option<Exit>| {
            let counts = JobStatistics {
                device_count: succeeded + failed + cancelled,
                succeeded_count: succeeded,
                failed_count: failed,
                cancelled_count: cancelled,
                ..JobStatistics::default()
            };
            let job = json!({ "jobId": "j", "status": status, "deviceJobStatistics": counts });
            assert_eq!(verdict(&job).err().map(|error| error.exit), exit, "{job}");
        };
        check("completed", 3, 0, 0, None);
        check("completed", 2, 1, 0, Some(Exit::Partial));
        check("completed", 0, 3, 0, Some(Exit::Failed));
        check("completed", 0, 0, 0, Some(Exit::Failed));
        check("cancelled", 2, 0, 1, Some(Exit::Partial));
        check("cancelled", 2, 0, 0, Some(Exit::Partial));
        check("cancelled", 0, 0, 0, Some(Exit::Failed));
        check("cancelled", 0, 0, 3, Some(Exit::Failed));
        check("failed", 2, 0, 0, Some(Exit::Failed));
    }
}
