//! The commands that the agent takes: direct methods and desired configuration. Checked first, answered at once, then done.

use serde_json::{Map, Value, json};

use super::report::{error, now};
use super::{Action, Agent, End, Failure, Machine, Pending, Step};
use crate::{ConnectionState, Error, Inbox, MethodRequest, Twin};

/// The methods that the agent serves.
pub const METHODS: [&str; 4] = ["reboot", "factoryReset", "firmwareUpdate", "reportStatus"];

/// The desired property that holds a device's configuration.
const CONFIGURATION: &str = "configuration";

/// The parameters of `firmwareUpdate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirmwareRequest {
    /// The version that must run afterwards.
    pub version: String,
    /// Where the image is.
    pub url: String,
    /// Its SHA-256, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// Its length in bytes.
    pub size: u64,
}

impl FirmwareRequest {
    /// Checks a method's payload; errs with the field that is wrong.
    pub fn parse(payload: &Value) -> Result<Self, Failure> {
        let wrong = |field: &str, expected: &str| {
            Failure::new("badParameter", format!("{field}: expected {expected}"))
        };
        let text = |field: &str, expected: &str| {
            let text = payload[field].as_str().filter(|text| !text.is_empty() && text.len() <= 2048);
            text.map(String::from).ok_or_else(|| wrong(field, expected))
        };
        let sha256 = text("sha256", "64 hexadecimal digits")?.to_ascii_lowercase();
        if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong("sha256", "64 hexadecimal digits"));
        }
        let url = text("url", "an https URL")?;
        if !url.starts_with("https://") {
            return Err(wrong("url", "an https URL"));
        }
        let size = payload["size"].as_u64().filter(|size| (1..=super::DOWNLOAD_BYTES_MAX).contains(size));
        let size = size.ok_or_else(|| wrong("size", "the image's length in bytes, 1 to 2 GiB"))?;
        Ok(Self { version: text("version", "the version that shall run")?, url, sha256, size })
    }
}

/// What a method leads to, after it was answered.
enum Work {
    Nothing,
    Reboot,
    FactoryReset,
    Firmware(FirmwareRequest),
    Status,
}

impl Work {
    /// What of it a machine may put off.
    fn action(&self) -> Option<Action> {
        match self {
            Work::Nothing | Work::Status => None,
            Work::Reboot => Some(Action::Reboot),
            Work::FactoryReset => Some(Action::FactoryReset),
            Work::Firmware(_) => Some(Action::Update(Step::Downloading)),
        }
    }
}

/// A method's answer and its work.
fn decide(name: &str, payload: &Value) -> Result<Work, (i32, Failure)> {
    let bad = |failure| (400, failure);
    match name {
        "reboot" | "factoryReset" | "reportStatus" if !(payload.is_null() || payload.is_object()) => {
            Err(bad(Failure::new("badParameter", "the payload must be an object or null")))
        }
        "reboot" => Ok(Work::Reboot),
        "factoryReset" => Ok(Work::FactoryReset),
        "reportStatus" => Ok(Work::Status),
        "firmwareUpdate" => FirmwareRequest::parse(payload).map(Work::Firmware).map_err(bad),
        other => {
            let message = format!("'{other}' is not a method of this device; it has {}", METHODS.join(", "));
            Err((404, Failure::new("unknownMethod", message)))
        }
    }
}

impl<M: Machine> Agent<M> {
    /// Carries out commands, one after the other; while one runs, methods are answered with 409.
    pub(super) async fn serve(&self, mut inbox: Inbox, twin: Twin) -> Result<End, Error> {
        let mut seen = self.configure(&twin).await?;
        let mut state = self.client.state();
        loop {
            let work = tokio::select! {
                biased;
                request = inbox.methods.recv() => match request {
                    None => return Ok(End::Closed),
                    Some(request) => self.answer(request).await?,
                },
                patch = inbox.desired.recv() => {
                    let Some(patch) = patch else { return Ok(End::Closed) };
                    if version_of(&patch) > seen {
                        // The whole twin is read: a change may have been missed, and configurations apply as a whole.
                        seen = self.configure(&self.client.twin().await?).await?;
                    }
                    Work::Nothing
                }
                changed = state.changed() => {
                    if changed.is_err() || *state.borrow() == ConnectionState::Closed {
                        return Ok(End::Closed);
                    }
                    // Back after a loss: what changed meanwhile was not told.
                    if *state.borrow() == ConnectionState::Connected {
                        let twin = self.client.twin().await?;
                        if version_of(&twin.desired) > seen {
                            seen = self.configure(&twin).await?;
                        }
                    }
                    Work::Nothing
                }
            };
            let done = self.carry_out(work);
            tokio::pin!(done);
            let reboot = loop {
                tokio::select! {
                    biased;
                    reboot = &mut done => break reboot?,
                    Some(request) = inbox.methods.recv() => refuse_busy(request).await?,
                }
            };
            if reboot {
                return Ok(End::Reboot);
            }
        }
    }

    async fn answer(&self, request: MethodRequest) -> Result<Work, Error> {
        match decide(&request.name, &request.payload) {
            Ok(Work::Status) => {
                request.respond(200, &Value::Object(self.machine.status())).await?;
                Ok(Work::Status)
            }
            Ok(work) => {
                if let Some(deferral) = work.action().and_then(|action| self.machine.not_now(action)) {
                    request.respond(503, &deferral.answer()).await?;
                    return Ok(Work::Nothing);
                }
                request.respond(202, &json!({ "accepted": true, "bootId": self.machine.boot_id() })).await?;
                Ok(work)
            }
            Err((status, failure)) => {
                request
                    .respond(
                        status,
                        &json!({ "error": { "code": failure.code, "message": failure.message } }),
                    )
                    .await?;
                Ok(Work::Nothing)
            }
        }
    }

    /// Says whether the device must restart now.
    async fn carry_out(&self, work: Work) -> Result<bool, Error> {
        let boot_id_before = self.machine.boot_id();
        match work {
            Work::Nothing => Ok(false),
            Work::Status => self.report(json!({ "status": self.status_document() })).await.map(|()| false),
            Work::Firmware(request) => self.update(request).await,
            Work::Reboot => {
                let started = json!({ "state": "rebooting", "bootIdBefore": boot_id_before, "bootIdAfter": null, "error": null, "updatedAt": now() });
                self.report(json!({ "reboot": started })).await?;
                self.store_or_fail("reboot", Pending::Reboot { boot_id_before }).await
            }
            Work::FactoryReset => {
                let started = json!({ "state": "resetting", "bootIdBefore": boot_id_before, "bootIdAfter": null, "error": null, "updatedAt": now() });
                // The configuration goes with everything else, so what was reported of it goes too.
                self.report(json!({ "factoryReset": started, "configuration": null })).await?;
                if let Err(failure) = self.machine.factory_reset().await {
                    self.report_state("factoryReset", "failed", Some(&failure)).await?;
                    return Ok(false);
                }
                self.store_or_fail("factoryReset", Pending::FactoryReset { boot_id_before }).await
            }
        }
    }

    async fn store_or_fail(&self, pattern: &str, pending: Pending) -> Result<bool, Error> {
        match self.machine.store_pending(Some(&pending)) {
            Ok(()) => Ok(true),
            Err(failure) => self.report_state(pattern, "failed", Some(&failure)).await.map(|()| false),
        }
    }

    fn status_document(&self) -> Value {
        let mut status = self.machine.status();
        status.insert("reportedAt".into(), now().into());
        Value::Object(status)
    }

    /// Applies desired configuration, if there is any, and reports which version is in force. Returns the version.
    async fn configure(&self, twin: &Twin) -> Result<u64, Error> {
        let version = version_of(&twin.desired);
        let applied = match twin.desired.get(CONFIGURATION) {
            None => return Ok(version),
            Some(Value::Object(configuration)) => {
                self.machine.configure(configuration).await.map(|()| configuration)
            }
            Some(_) => Err(Failure::new("badConfiguration", "desired.configuration must be an object")),
        };
        let (state, failure) = match &applied {
            Ok(_) => ("applied", None),
            Err(failure) => ("failed", Some(error(failure, None))),
        };
        let mut document =
            json!({ "state": state, "version": version, "error": failure, "updatedAt": now() });
        if let Ok(configuration) = applied {
            let before = twin.reported.get(CONFIGURATION).and_then(|document| document.get("values"));
            document["values"] = replacing(before, configuration);
        }
        self.report(json!({ CONFIGURATION: document })).await?;
        Ok(version)
    }
}

/// The merge patch that turns `before` into `after`.
fn replacing(before: Option<&Value>, after: &Map<String, Value>) -> Value {
    let before = before.and_then(Value::as_object);
    let gone = before.into_iter().flat_map(Map::keys).filter(|key| !after.contains_key(*key));
    let mut patch: Map<_, _> = gone.map(|key| (key.clone(), Value::Null)).collect();
    for (key, value) in after {
        let value = match value {
            Value::Object(after) => replacing(before.and_then(|before| before.get(key)), after),
            value => value.clone(),
        };
        patch.insert(key.clone(), value);
    }
    Value::Object(patch)
}

fn version_of(section: &Map<String, Value>) -> u64 {
    section.get("$version").and_then(Value::as_u64).unwrap_or(0)
}

async fn refuse_busy(request: MethodRequest) -> Result<(), Error> {
    let message = "another command is under way; try again when it has ended";
    request.respond(409, &json!({ "error": { "code": "busy", "message": message } })).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_checked_before_they_are_done() {
        let good = json!({"version": "2.0", "url": "https://h/x", "sha256": "A".repeat(64), "size": 10});
        let Ok(Work::Firmware(request)) = decide("firmwareUpdate", &good) else { panic!("it is good") };
        assert_eq!((request.version.as_str(), request.sha256.as_str()), ("2.0", "a".repeat(64).as_str()));
        let check = |name: &str, field: &str, value: Value, status: i32, part: &str| {
            let mut payload = good.clone();
            payload[field] = value;
            let Err((got, failure)) = decide(name, &payload) else {
                panic!("{name} {field} must be refused")
            };
            assert_eq!(got, status);
            assert!(failure.message.contains(part), "{failure}");
        };
        check("firmwareUpdate", "version", json!(2), 400, "version");
        check("firmwareUpdate", "version", json!(""), 400, "version");
        check("firmwareUpdate", "url", json!("http://h/x"), 400, "https");
        check("firmwareUpdate", "sha256", json!("abc"), 400, "64");
        check("firmwareUpdate", "size", json!(0), 400, "size");
        check("firmwareUpdate", "size", json!("10"), 400, "size");
        check("dance", "size", json!(1), 404, "firmwareUpdate");
        assert!(decide("reboot", &Value::Null).is_ok());
        assert!(decide("reboot", &json!([1])).is_err());
    }
}
