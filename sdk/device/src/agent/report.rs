//! What the agent reports: one document for each pattern, always the same shape, small enough to be queried.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::{Agent, Failure, Machine, Pending, Step};
use crate::Error;

/// Seconds since 1970; a number, so that queries can compare it.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

pub(super) fn error(failure: &Failure, step: Option<Step>) -> Value {
    json!({ "code": failure.code, "message": failure.message, "step": step.map(Step::as_str) })
}

impl<M: Machine> Agent<M> {
    pub(super) async fn report(&self, patch: Value) -> Result<(), Error> {
        self.client.report(&patch).await.map(drop)
    }

    /// Reports a pattern's state, with its error or without.
    pub(super) async fn report_state(
        &self,
        pattern: &str,
        state: &str,
        failure: Option<&Failure>,
    ) -> Result<(), Error> {
        let error = failure.map(|failure| error(failure, None));
        self.report(json!({ pattern: { "state": state, "error": error, "updatedAt": now() } })).await
    }

    /// What a device says of itself whenever it comes up, and how what was under way has ended. Says whether it must
    /// restart again, to leave a version that cannot be kept.
    pub(super) async fn announce(&self, reported: &Map<String, Value>) -> Result<bool, Error> {
        let machine = &self.machine;
        let mut patch = interrupted(reported);
        match machine.pending() {
            None => {}
            Some(Pending::Reboot { boot_id_before }) => patch["reboot"] = self.came_back(&boot_id_before),
            Some(Pending::FactoryReset { boot_id_before }) => {
                patch["factoryReset"] = self.came_back(&boot_id_before)
            }
            Some(Pending::Firmware { version, version_before, boot_id_before }) => {
                let update = self.conclude(&version, &version_before, &boot_id_before).await?;
                patch["firmware"]["update"] = update;
            }
            Some(Pending::Rollback { version_before, code, message }) => {
                let failure = Failure { code, message };
                let state = if machine.firmware_version() == version_before { "reverted" } else { "failed" };
                patch["firmware"]["update"] = ended(state, Some((Step::Confirming, failure)));
            }
        }
        patch["device"] = json!({ "bootId": machine.boot_id(), "bootedAt": now() });
        patch["firmware"]["version"] = machine.firmware_version().into();
        patch["firmware"]["slot"] = machine.slot().into();
        let leaves = patch["firmware"]["update"]["state"] == Step::Confirming.as_str();
        self.report(patch).await?;
        if !leaves
            && machine.pending().is_some()
            && let Err(failure) = machine.store_pending(None)
        {
            tracing::warn!(%failure, "could not forget what was pending");
        }
        Ok(leaves)
    }

    fn came_back(&self, boot_id_before: &str) -> Value {
        let boot_id = self.machine.boot_id();
        let state = if boot_id == boot_id_before { "failed" } else { "done" };
        let failure = Failure::new("notRebooted", "the device came back with the same boot id");
        let failed = (state == "failed").then(|| error(&failure, None));
        json!({ "state": state, "bootIdBefore": boot_id_before, "bootIdAfter": boot_id, "error": failed, "updatedAt": now() })
    }

    /// An update is done only when the new version runs after the reboot; the old one means that it was reverted.
    async fn conclude(&self, version: &str, before: &str, boot_id_before: &str) -> Result<Value, Error> {
        let machine = &self.machine;
        let running = machine.firmware_version();
        let (state, failure) = if machine.boot_id() == boot_id_before {
            let failure = Failure::new("notRebooted", "the device came back with the same boot id");
            ("failed", Some((Step::Rebooting, failure)))
        } else if running != version {
            let message = format!("version {running} runs after the reboot instead of {version}");
            let state = if running == before { "reverted" } else { "failed" };
            (state, Some((Step::Rebooting, Failure::new("wrongVersion", message))))
        } else {
            self.report_step(Step::Confirming, 95).await?;
            let confirmed = match machine.before(Step::Confirming).await {
                Ok(()) => machine.confirm().await,
                refused => refused,
            };
            match confirmed {
                Ok(()) => ("succeeded", None),
                Err(failure) => (self.leave(before, &failure), Some((Step::Confirming, failure))),
            }
        };
        Ok(ended(state, failure))
    }

    /// The state of an update whose version cannot be kept: it is left at once, unless that cannot be noted.
    fn leave(&self, version_before: &str, failure: &Failure) -> &'static str {
        let rollback = Pending::Rollback {
            version_before: version_before.into(),
            code: failure.code.clone(),
            message: failure.message.clone(),
        };
        match self.machine.store_pending(Some(&rollback)) {
            Ok(()) => Step::Confirming.as_str(),
            Err(storage) => {
                tracing::warn!(failure = %storage, "could not note that the new version is to be left");
                "failed"
            }
        }
    }

    /// Reports a step of an update.
    pub(super) async fn report_step(&self, step: Step, progress: u64) -> Result<(), Error> {
        let update = json!({ "state": step.as_str(), "progress": progress, "updatedAt": now() });
        self.report(json!({ "firmware": { "update": update } })).await
    }
}

/// How an update ended, or is about to.
fn ended(state: &str, failure: Option<(Step, Failure)>) -> Value {
    json!({
        "state": state,
        "progress": if failure.is_none() { 100 } else { 95 },
        "error": failure.map(|(step, failure)| error(&failure, Some(step))),
        "updatedAt": now(),
    })
}

/// Ends what the twin says is under way; what is pending overwrites it. A restart came in the middle, or before it was stored.
fn interrupted(reported: &Map<String, Value>) -> Value {
    let failure = Failure::new("interrupted", "the device or its agent restarted in the middle of it");
    let failed =
        |step: Option<Step>| json!({ "state": "failed", "error": error(&failure, step), "updatedAt": now() });
    let state = |pattern: &str| reported.get(pattern).map(|document| &document["state"]);
    let mut patch = json!({});
    for (pattern, under_way) in [("reboot", "rebooting"), ("factoryReset", "resetting")] {
        if state(pattern).is_some_and(|state| state == under_way) {
            patch[pattern] = failed(None);
        }
    }
    let update = reported.get("firmware").map(|firmware| &firmware["update"]["state"]);
    if let Some(step) = Step::ALL.into_iter().find(|step| update.is_some_and(|state| state == step.as_str()))
    {
        patch["firmware"]["update"] = failed(Some(step));
        patch["firmware"]["update"]["deferred"] = Value::Null;
    }
    patch
}
