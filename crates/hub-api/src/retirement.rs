//! The end of a device's life (ours): retire, restore, erase, release, replace, and everything known about a device.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::event::Actor;
use crate::identity::{Authentication, Device};
use crate::method::MethodRequest;

/// How a device is retired.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetireRequest {
    /// Why; at most 512 characters.
    pub reason: Option<String>,
    /// A method that the device carries out before, and signs for with a receipt.
    pub erase_method: Option<MethodRequest>,
    /// How long it can be restored: up to ten years, the hub's setting if missing.
    pub restorable_for_seconds: Option<u64>,
    /// Whether it is retired without a receipt, too.
    pub force: Option<bool>,
}

/// How a retired device comes back.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreRequest {
    /// Whether it and its modules get new keys.
    pub new_keys: Option<bool>,
}

/// A device's proof that it erased itself; the hub checked its signature.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// By the device's own clock.
    pub erased_at: String,
    /// What the hub gave it for this one call.
    pub nonce: String,
    /// Base64 of an HMAC-SHA256 with the device's key.
    pub signature: String,
}

/// How much was removed for good.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Removed {
    /// The device and its modules.
    pub identities: u64,
    /// Their twins.
    pub twins: u64,
    /// Events of theirs that were still kept.
    pub events: u64,
    /// Records of theirs in jobs that are over.
    pub job_records: u64,
}

/// The proof of what was removed.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Erasure {
    /// When it began; from then on there is no way back.
    pub begun_time: String,
    /// When it ended; missing until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_time: Option<String>,
    /// By whom; the hub, if the time was over.
    pub by: Actor,
    /// How much.
    pub removed: Removed,
    /// SHA-256 of the last documents, each as compact JSON with a line feed behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// The record of a retired device.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retirement {
    /// Whose.
    pub device_id: String,
    /// The generation of its identity.
    pub generation_id: String,
    /// `restorable`, `erasing`, `erased` or `released`.
    pub state: String,
    /// When it was retired.
    pub retired_time: String,
    /// By whom.
    pub retired_by: Actor,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Until when it can, or could, be restored.
    pub restorable_until: String,
    /// The device that took over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<String>,
    /// When it last sent something.
    pub last_activity_time: String,
    /// How many modules went with it.
    pub module_count: u64,
    /// That it erased itself, if it was asked to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Receipt>,
    /// Why there is no receipt although one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unproven: Option<String>,
    /// What became of the archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erasure: Option<Erasure>,
    /// When the id was set free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released_time: Option<String>,
    /// The last documents of the device and its modules, where one device is read; none once they are erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>)]
    pub documents: Option<Vec<Value>>,
}

/// What takes the place of a device: `new`, or other hardware under the same id.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplaceRequest {
    /// The registered device that takes over the twin.
    pub new: Option<String>,
    /// Whether other hardware takes over the id instead.
    pub keep_id: Option<bool>,
    /// With `new`: whether it may have a twin of its own, which is then overwritten.
    pub overwrite: Option<bool>,
    /// With `keepId`: whether what the old hardware reported stays.
    pub keep_reported: Option<bool>,
    /// With `keepId`: how the new hardware proves who it is; new keys if missing.
    pub authentication: Option<Authentication>,
    /// With `new`: why the old one is retired.
    pub reason: Option<String>,
    /// With `new`: how long the old one can be restored.
    pub restorable_for_seconds: Option<u64>,
}

/// A device in whose place another came.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Predecessor {
    /// Its id; the same if only the hardware changed.
    pub device_id: String,
    /// The generation of its identity.
    pub generation_id: String,
    /// When it was replaced.
    pub replaced_time: String,
    /// By whom.
    pub replaced_by: Actor,
}

/// A device that took the place of another.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Replaced {
    /// The one that is there now, with its keys.
    pub device: Device,
    /// Those that were there before, the newest first.
    pub replaces: Vec<Predecessor>,
    /// The record of the old one, if it had an id of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired: Option<Retirement>,
}

/// A line of everything that is known about a device.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "part")]
pub enum KnownPart {
    /// The device or a module: its registry entry, and its twin with all stamps.
    Identity {
        /// As the registry shows it; without keys unless they were asked for.
        #[schema(value_type = Object)]
        identity: Value,
        /// Its document.
        #[schema(value_type = Object)]
        twin: Value,
    },
    /// The record of its retirement, with its last documents.
    Retirement {
        /// The record.
        retirement: Box<Retirement>,
    },
    /// A device in whose place it came.
    Replaces {
        /// Which.
        predecessor: Predecessor,
    },
    /// A configuration that applies to it or to a module.
    Configuration {
        /// As it is read.
        #[schema(value_type = Object)]
        configuration: Value,
    },
    /// What became of it in a job.
    JobRecord {
        /// As in `devices.jobs`.
        #[schema(value_type = Object)]
        record: Value,
    },
    /// Something that happened.
    Event {
        /// Where it stands in the log.
        position: String,
        /// What.
        event: Box<crate::event::Event>,
    },
    /// The last line, if nothing went wrong.
    End {},
}
