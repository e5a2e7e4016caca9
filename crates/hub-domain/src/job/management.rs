//! The six job types of device management: what each sends to a device, and what the device must report before it counts
//! as done (docs/patterns.md; names: S 3). Nothing here sends anything, and no clock decides: a report counts if it is
//! another than the one that was there before the device was asked.

use std::fmt;

use serde_json::{Map, Value, json};

use super::outcome::DEVICE_REJECTED;
use super::{ItemError, JobItem};
use crate::json::Object;
use crate::limits::{JOB_PROPERTIES_MAX, METHOD_PAYLOAD_BYTES_MAX};
use crate::method::{MethodCall, MethodResult};
use crate::retirement::RetireRequest;
use crate::twin::{Twin, TwinPatch, TwinUpdate};

/// What a job of device management does to each target.
#[derive(Clone, Debug, PartialEq)]
pub enum Management {
    /// Restarts it.
    Reboot,
    /// Puts it back as it left the factory.
    FactoryReset,
    /// Brings it to another firmware.
    UpdateFirmware(Firmware),
    /// Merges into its desired properties, all below `configuration`, which it must apply.
    UpdateConfiguration(TwinPatch),
    /// Has it report, and reads reported properties: names with dots between them.
    ReadProperties(Vec<String>),
    /// Merges into its desired properties, which it must confirm.
    WriteProperties(TwinPatch),
}

/// The image that a device shall run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firmware {
    /// What the device reports once it runs.
    pub version: String,
    /// What the device is sent: `version`, `url`, `sha256`, `size` and whatever else the device maker wants.
    pub payload: String,
}

/// How one target is reached.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Its twin is patched.
    Patch(TwinUpdate),
    /// It is called.
    Call(MethodCall),
    /// Its twin is brought back to what it was, see [`super::JobSpec::restoring`].
    Restore,
    /// It is retired, after it erased itself if that is asked for.
    Retire(RetireRequest),
    /// It is brought back, if the job that is undone retired it.
    RestoreDevice,
}

impl Act {
    /// The call by which it is done, or that comes before it.
    pub fn call(&self) -> Option<&MethodCall> {
        match self {
            Act::Call(call) => Some(call),
            Act::Retire(request) => request.erase.as_ref(),
            Act::Patch(_) | Act::Restore | Act::RestoreDevice => None,
        }
    }
}

/// What a device has reported of an action that it took.
#[derive(Clone, Debug, PartialEq)]
pub enum Reported {
    /// It is not done; the step that it reports, if it reports one.
    Underway(Option<Value>),
    /// It is done; what shows it.
    Done(Value),
    /// It failed.
    Failed(ItemError),
}

/// Why something cannot be the parameters of a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterError(String);

impl fmt::Display for ParameterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ParameterError {}

const REBOOT: &str = "rebootDevice";
const FACTORY_RESET: &str = "factoryResetDevice";
const FIRMWARE: &str = "firmwareUpdate";
const CONFIGURATION: &str = "updateDeviceConfiguration";
const READ: &str = "readDeviceProperties";
const WRITE: &str = "writeDeviceProperties";

impl Management {
    /// The words of all types.
    pub const KINDS: [&'static str; 6] = [REBOOT, FACTORY_RESET, FIRMWARE, CONFIGURATION, READ, WRITE];

    /// The word of the type.
    pub fn kind(&self) -> &'static str {
        match self {
            Management::Reboot => REBOOT,
            Management::FactoryReset => FACTORY_RESET,
            Management::UpdateFirmware(_) => FIRMWARE,
            Management::UpdateConfiguration(_) => CONFIGURATION,
            Management::ReadProperties(_) => READ,
            Management::WriteProperties(_) => WRITE,
        }
    }

    /// From a type, in any case, and its parameters. `None`: there is no such type.
    pub fn parse(kind: &str, parameters: &Value) -> Option<Result<Self, ParameterError>> {
        let kind = Self::KINDS.into_iter().find(|known| known.eq_ignore_ascii_case(kind))?;
        let none = || match parameters {
            Value::Null => Ok(()),
            Value::Object(object) if object.is_empty() => Ok(()),
            _ => Err(ParameterError(format!("{kind} takes no parameters"))),
        };
        Some(match kind {
            REBOOT => none().map(|()| Management::Reboot),
            FACTORY_RESET => none().map(|()| Management::FactoryReset),
            FIRMWARE => Firmware::parse(parameters).map(Management::UpdateFirmware),
            CONFIGURATION => object(parameters, "configuration").and_then(|object| {
                let below = Object::from_iter([("configuration".to_owned(), Value::Object(object))]);
                patch(below).map(Management::UpdateConfiguration)
            }),
            READ => paths(parameters).map(Management::ReadProperties),
            _ => object(parameters, "properties").and_then(patch).map(Management::WriteProperties),
        })
    }

    /// The parameters, as [`Management::parse`] takes them.
    pub fn parameters(&self) -> Value {
        match self {
            Management::Reboot | Management::FactoryReset => Value::Null,
            Management::UpdateFirmware(firmware) => {
                serde_json::from_str(&firmware.payload).unwrap_or_default()
            }
            Management::UpdateConfiguration(patch) => Value::Object(patch.object().clone()),
            Management::ReadProperties(paths) => json!({ "properties": paths }),
            Management::WriteProperties(patch) => json!({ "properties": patch.object() }),
        }
    }

    /// Whether targets are patched rather than called.
    pub fn is_patch(&self) -> bool {
        matches!(self, Management::UpdateConfiguration(_) | Management::WriteProperties(_))
    }

    /// How a target is reached.
    pub fn act(&self) -> Act {
        let call = |name: &str, payload: Option<String>| {
            let call = MethodCall::new(name, payload, None, None);
            Act::Call(call.expect("the name is valid, and the payload's size was checked"))
        };
        let desired = |patch: &TwinPatch| Act::Patch(TwinUpdate { tags: None, desired: Some(patch.clone()) });
        match self {
            Management::Reboot => call("reboot", None),
            Management::FactoryReset => call("factoryReset", None),
            Management::UpdateFirmware(firmware) => call("firmwareUpdate", Some(firmware.payload.clone())),
            Management::ReadProperties(_) => call("reportStatus", None),
            Management::UpdateConfiguration(patch) | Management::WriteProperties(patch) => desired(patch),
        }
    }

    /// What is to be remembered of the twin before the device is asked, so that an old report is not taken for a new one.
    pub fn before(&self, twin: &Twin) -> Option<Value> {
        match self {
            Management::Reboot => Some(at(&twin.reported.values, &["reboot"]).clone()),
            Management::FactoryReset => Some(at(&twin.reported.values, &["factoryReset"]).clone()),
            Management::UpdateFirmware(_) => Some(at(&twin.reported.values, &["firmware", "update"]).clone()),
            Management::ReadProperties(_) => Some(Value::from(twin.reported.version)),
            Management::UpdateConfiguration(_) | Management::WriteProperties(_) => None,
        }
    }

    /// Whether an answer says that the device took the action; otherwise, why not.
    pub fn takes(&self, answer: &MethodResult) -> Result<(), ItemError> {
        // A device that cannot report on request is read as it reported last.
        let is_read = matches!(self, Management::ReadProperties(_));
        if answer.is_success() || (is_read && answer.status == 404) {
            return Ok(());
        }
        Err(rejection(answer))
    }

    /// What `twin` says of the action that `item` is the record of.
    pub fn reported(&self, item: &JobItem, twin: &Twin) -> Reported {
        let reported = &twin.reported.values;
        match self {
            Management::Reboot => pattern(item, at(reported, &["reboot"]), &["done"], &["failed"]),
            Management::FactoryReset => {
                pattern(item, at(reported, &["factoryReset"]), &["done"], &["failed"])
            }
            Management::UpdateFirmware(firmware) => {
                let update = at(reported, &["firmware", "update"]);
                let running = at(reported, &["firmware", "version"]);
                match pattern(item, update, &["succeeded"], &["failed", "reverted"]) {
                    Reported::Done(_) if running.as_str() != Some(&firmware.version) => {
                        Reported::Failed(ItemError {
                            code: "WrongVersion".into(),
                            description: format!(
                                "the device reports success and runs {running}, not \"{}\"",
                                firmware.version
                            ),
                        })
                    }
                    Reported::Done(_) => Reported::Done(at(reported, &["firmware"]).clone()),
                    other => other,
                }
            }
            Management::UpdateConfiguration(_) => configuration(item, at(reported, &["configuration"])),
            Management::ReadProperties(paths) => read(item, twin, paths),
            Management::WriteProperties(patch) => written(item, patch.object(), reported),
        }
    }
}

impl Firmware {
    fn parse(parameters: &Value) -> Result<Self, ParameterError> {
        let wrong = |text: &str| ParameterError(format!("parameters of {FIRMWARE}: {text}"));
        let Value::Object(object) = parameters else {
            return Err(wrong("expected an object with version, url, sha256 and size"));
        };
        let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
        let version = text("version");
        if version.is_empty() {
            return Err(wrong("version must be the text that the device reports once the image runs"));
        }
        if !text("url").starts_with("https://") {
            return Err(wrong("url must be where the image is, and begin with https://"));
        }
        let sha256 = text("sha256");
        if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong("sha256 must be 64 hexadecimal digits"));
        }
        if object.get("size").and_then(Value::as_u64).is_none_or(|size| size == 0) {
            return Err(wrong("size must be the length of the image in bytes, a whole number above 0"));
        }
        let payload = parameters.to_string();
        if payload.len() > METHOD_PAYLOAD_BYTES_MAX {
            return Err(wrong(&format!(
                "they have {} bytes, at most {METHOD_PAYLOAD_BYTES_MAX} are allowed",
                payload.len()
            )));
        }
        Ok(Self { version: version.into(), payload })
    }
}

/// `parameters` is `{name: {…}}`, not empty.
fn object(parameters: &Value, name: &str) -> Result<Object, ParameterError> {
    let only = parameters.as_object().filter(|object| object.len() == 1);
    match only.and_then(|object| object.get(name)) {
        Some(Value::Object(object)) if object.is_empty() => {
            Err(ParameterError(format!("parameters.{name} is empty: there is nothing to write")))
        }
        Some(Value::Object(object)) => Ok(object.clone()),
        _ => Err(ParameterError(format!("parameters: expected {{\"{name}\": {{…}}}}"))),
    }
}

/// Why a device did not take an action.
pub(super) fn rejection(answer: &MethodResult) -> ItemError {
    let payload: Value = serde_json::from_str(&answer.payload).unwrap_or_default();
    let why = payload["error"]["message"].as_str().map(|why| format!(": {why}")).unwrap_or_default();
    let description = format!("the device answered {}{why}", answer.status);
    ItemError { code: DEVICE_REJECTED.into(), description }
}

fn patch(object: Object) -> Result<TwinPatch, ParameterError> {
    TwinPatch::new(object).map_err(|error| ParameterError(format!("parameters: {error}")))
}

fn paths(parameters: &Value) -> Result<Vec<String>, ParameterError> {
    let wrong = || {
        ParameterError(format!(
            "parameters: expected {{\"properties\": [\"firmware.version\", …]}} with 1 to {JOB_PROPERTIES_MAX} names below reported"
        ))
    };
    let only = parameters.as_object().filter(|object| object.len() == 1);
    let list =
        only.and_then(|object| object.get("properties")).and_then(Value::as_array).ok_or_else(wrong)?;
    if list.is_empty() || list.len() > JOB_PROPERTIES_MAX {
        return Err(wrong());
    }
    let path = |value: &Value| {
        let text = value.as_str().filter(|text| text.split('.').all(|name| !name.is_empty()));
        text.map(str::to_owned).ok_or_else(wrong)
    };
    list.iter().map(path).collect()
}

fn at<'v>(values: &'v Object, path: &[&str]) -> &'v Value {
    const NOTHING: &Value = &Value::Null;
    let (first, rest) = path.split_first().expect("a path has a name");
    let first = values.get(*first);
    rest.iter().try_fold(first, |value, name| Some(value?.get(name))).flatten().unwrap_or(NOTHING)
}

/// A document with a `state`, as all patterns have it.
fn pattern(item: &JobItem, document: &Value, done: &[&str], failed: &[&str]) -> Reported {
    if item.before.as_ref() == Some(document) {
        return Reported::Underway(None);
    }
    match document["state"].as_str() {
        Some(state) if done.contains(&state) => Reported::Done(document.clone()),
        Some(state) if failed.contains(&state) => Reported::Failed(failure(state, &document["error"])),
        _ => Reported::Underway(Some(document.clone()).filter(|document| !document.is_null())),
    }
}

fn failure(state: &str, error: &Value) -> ItemError {
    let text = |name: &str| error[name].as_str().filter(|text| !text.is_empty());
    let step = text("step").map(|step| format!(" while {step}")).unwrap_or_default();
    let message = text("message").unwrap_or("the device did not say why");
    ItemError {
        code: text("code").unwrap_or("deviceFailed").to_owned(),
        description: format!("{state}{step}: {message}"),
    }
}

fn configuration(item: &JobItem, document: &Value) -> Reported {
    let version = document["version"].as_u64().unwrap_or(0);
    if item.version.is_none_or(|written| version < written) {
        return Reported::Underway(None);
    }
    match document["state"].as_str() {
        Some("applied") => Reported::Done(document.clone()),
        Some("failed") => Reported::Failed(failure("failed", &document["error"])),
        _ => Reported::Underway(Some(document.clone())),
    }
}

fn read(item: &JobItem, twin: &Twin, paths: &[String]) -> Reported {
    // A device that knows nothing of `reportStatus` is read as it last reported.
    let fresh = item.before != Some(Value::from(twin.reported.version));
    let cannot = item.answer.as_ref().is_some_and(|answer| answer.status == 404);
    if !fresh && !cannot {
        return Reported::Underway(None);
    }
    let mut values = Map::new();
    for path in paths {
        let names: Vec<&str> = path.split('.').collect();
        let value = at(&twin.reported.values, &names);
        if !value.is_null() {
            values.insert(path.clone(), value.clone());
        }
    }
    if values.is_empty() {
        return Reported::Failed(ItemError {
            code: "PropertyNotReported".into(),
            description: format!("the device reports none of {}", paths.join(", ")),
        });
    }
    Reported::Done(Value::Object(values))
}

/// Each leaf of `patch` must be reported: as it is, or acknowledged with `{"value", "ac", "av", "ad"}`, the convention of
/// IoT Plug and Play.
fn written(item: &JobItem, patch: &Object, reported: &Object) -> Reported {
    let mut missing = Vec::new();
    match confirm(item, patch, reported, &mut Vec::new(), &mut missing) {
        Some(error) => Reported::Failed(error),
        None if missing.is_empty() => Reported::Done(Value::Object(patch.clone())),
        None => Reported::Underway(Some(json!({ "notConfirmed": missing }))),
    }
}

fn confirm<'p>(
    item: &JobItem,
    patch: &'p Object,
    reported: &Object,
    path: &mut Vec<&'p str>,
    missing: &mut Vec<String>,
) -> Option<ItemError> {
    for (name, wanted) in patch {
        path.push(name);
        let there = reported.get(name).unwrap_or(&Value::Null);
        let acknowledged = there.get("ac").and_then(Value::as_i64);
        match (acknowledged, wanted, there) {
            (Some(ac), ..) if there["av"].as_u64() >= item.version => {
                if !(200..300).contains(&ac) {
                    let why = there["ad"].as_str().unwrap_or("the device did not say why");
                    let description = format!("{} was refused with {ac}: {why}", path.join("."));
                    return Some(ItemError { code: "PropertyRefused".into(), description });
                }
            }
            (None, Value::Object(wanted), Value::Object(there)) => {
                if let Some(error) = confirm(item, wanted, there, path, missing) {
                    return Some(error);
                }
            }
            (None, wanted, there) if wanted == there => {}
            _ => missing.push(path.join(".")),
        }
        path.pop();
    }
    None
}
