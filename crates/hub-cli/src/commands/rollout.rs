//! What people decide about the rollout of a job or a configuration, why its devices wait, what it would do; and the hub's context document.
//! It never decides for them, and retries nothing.

use clap::Subcommand;
use hub_api::rollout::{DryRun, JobWaiting};
use reqwest::Method;
use serde_json::{Value, json};

use super::read_json;
use crate::Context;
use crate::error::{Error, Result};
use crate::output::line;

const REASONS: [(&str, &str); 4] =
    [("devices", "devices"), ("reason", "code"), ("for example", "example"), ("not before", "next")];
const WAVES: [(&str, &str); 5] = [
    ("wave", "wave"),
    ("devices", "deviceCount"),
    ("reachable", "reachableCount"),
    ("opens", "opensTime"),
    ("ends", "endsTime"),
];

/// What to do with the context document.
#[derive(Subcommand, Debug)]
pub enum ContextAction {
    /// Show where devices report facts, the named windows and places, and the black-out dates.
    Show,
    /// Replace all of that: JSON, @FILE, or - for standard input.
    Replace {
        /// The document, see docs/context.md.
        document: String,
    },
}

/// Does it.
pub(crate) async fn run_context(context: &Context, action: ContextAction) -> Result<()> {
    let document = match action {
        ContextAction::Show => context.client.get(&["api", "context"]).await?,
        ContextAction::Replace { document } => {
            let document = read_json(&document)?;
            context.client.write(Method::PUT, &["api", "context"], &document, None).await?
        }
    };
    let text = if context.output.json { document.to_string() } else { format!("{document:#}") };
    line(&text)
}

/// What somebody decides about the rollout of a job or a configuration.
#[derive(Subcommand, Debug)]
pub enum Decide {
    /// Begin nothing new in a rollout until somebody resumes it.
    Pause {
        /// Its name.
        id: String,
        /// Why, for those who ask later.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Let a rollout go on that is paused, or that a rule stopped.
    Resume {
        /// Its name.
        id: String,
    },
    /// Let the next wave of a rollout open.
    Approve {
        /// Its name.
        id: String,
    },
    /// End a rollout after what is in flight; what was done, or is in force, stays so.
    Abort {
        /// Its name.
        id: String,
        /// Why, for those who ask later.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// End a rollout and undo it: a job by a job of its own, also after its end; a configuration goes out of force.
    RollBack {
        /// Its name.
        id: String,
        /// Why, for those who ask later.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Let every device go whatever its gates say: for emergencies. Who says so, and why, is recorded.
    OverrideGates {
        /// Its name.
        id: String,
        /// Why.
        #[arg(long)]
        reason: String,
    },
}

/// Tells the hub what somebody decided about one of these; gives how that stands then.
pub(crate) async fn decide(context: &Context, these: &str, decide: &Decide) -> Result<Value> {
    let (id, action, reason) = match decide {
        Decide::Pause { id, reason } => (id, "pause", Some(reason)),
        Decide::Resume { id } => (id, "resume", None),
        Decide::Approve { id } => (id, "approve", None),
        Decide::Abort { id, reason } => (id, "abort", Some(reason)),
        Decide::RollBack { id, reason } => (id, "rollBack", Some(reason)),
        Decide::OverrideGates { id, reason } => (id, "overrideGates", Some(reason)),
    };
    let body = json!({ "action": action, "reason": reason });
    context.client.write(Method::POST, &["api", these, id, "rollout"], &body, None).await
}

/// Shows what the devices of a job wait for.
pub(crate) async fn waiting(context: &Context, id: &str) -> Result<()> {
    let answer = context.client.get(&["api", "jobs", id, "waiting"]).await?;
    if context.output.json {
        return line(&answer.to_string());
    }
    let waiting: JobWaiting = serde_json::from_value(answer.clone()).map_err(not_understood)?;
    if let Some(job) = &waiting.job {
        line(job["text"].as_str().unwrap_or_default())?;
    }
    line(&format!("{} devices of {} have not had their turn", waiting.pending_count, waiting.job_id))?;
    reasons(context, &answer["reasons"])
}

/// Shows what a job would do.
pub(crate) async fn dry_run(
    context: &Context,
    body: Value,
    seconds: Option<u64>,
    bytes: Option<u64>,
) -> Result<()> {
    let request = json!({ "job": body, "secondsPerDevice": seconds, "bytesPerDevice": bytes });
    let answer = context.client.write(Method::POST, &["api", "jobs", "preview"], &request, None).await?;
    if context.output.json {
        return line(&answer.to_string());
    }
    let found: DryRun = serde_json::from_value(answer.clone()).map_err(not_understood)?;
    line(&format!("{} devices match", found.device_count))?;
    if let Some(Value::Array(waves)) = answer.get("waves").cloned() {
        let number = |(index, mut wave): (usize, Value)| {
            wave["wave"] = (index + 1).into();
            wave
        };
        context.output.many(&waves.into_iter().enumerate().map(number).collect::<Vec<_>>(), &WAVES)?;
        let end = found.expected_end_time.as_deref();
        line(&format!("expected to end: {}", end.unwrap_or("never: a wave would not be good enough")))?;
        let is_late = |(end, deadline): &(&str, &str)| end > deadline;
        if let Some((_, deadline)) = end.zip(found.deadline_time.as_deref()).filter(is_late) {
            line(&format!("the job's time is over before, at {deadline}: give it more seconds"))?;
        }
        if let Some(approvals) = found.approvals.filter(|approvals| *approvals > 0) {
            line(&format!("approvals needed: {approvals}"))?;
        }
        if let Some(bytes) = found.bytes.filter(|bytes| *bytes > 0) {
            line(&format!("bytes to send: {bytes}"))?;
        }
    }
    line("as the fleet is now:")?;
    reasons(context, &answer["reasons"])
}

/// Shows devices by what they wait for.
pub(crate) fn reasons(context: &Context, reasons: &Value) -> Result<()> {
    let row = |(code, count): (&String, &Value)| {
        let mut row = count.clone();
        row["code"] = code.as_str().into();
        row
    };
    let mut rows: Vec<Value> = reasons.as_object().into_iter().flatten().map(row).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row["devices"].as_u64()));
    context.output.many(&rows, &REASONS)
}

fn not_understood(error: serde_json::Error) -> Error {
    Error::failed(format!("the hub's answer is not understood: {error}"))
}
