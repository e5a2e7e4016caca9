//! The management agent: reboot, factory reset, configuration, firmware update and status reports, as
//! `docs/patterns.md` of the project describes them. A device maker implements [`Machine`]; [`Agent::run`] does the rest.
//!
//! The agent never decides what a device can do; it keeps the order of steps, reports each of them, and survives restarts:
//! what must outlive a reboot is in [`Pending`], which the machine keeps for it.

mod commands;
mod deferral;
mod download;
mod firmware;
mod report;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{DeviceClient, Error, Inbox};

pub use commands::{FirmwareRequest, METHODS};
pub use deferral::{Action, DEFERRED_MAX, Deferral};
pub use download::{DOWNLOAD_BYTES_MAX, DOWNLOAD_TRIES_MAX};

/// A step of a firmware update, as reported in `firmware.update.state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The image is fetched.
    Downloading,
    /// Its size and SHA-256 are checked.
    Verifying,
    /// It is written into the inactive slot.
    Applying,
    /// The device restarts from that slot.
    Rebooting,
    /// The new firmware runs and is about to be kept.
    Confirming,
}

impl Step {
    /// All steps in their order.
    pub const ALL: [Step; 5] =
        [Step::Downloading, Step::Verifying, Step::Applying, Step::Rebooting, Step::Confirming];

    /// The word that is reported.
    pub fn as_str(self) -> &'static str {
        match self {
            Step::Downloading => "downloading",
            Step::Verifying => "verifying",
            Step::Applying => "applying",
            Step::Rebooting => "rebooting",
            Step::Confirming => "confirming",
        }
    }
}

/// Why a step failed: a code for programs, words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// In camel case, for example `hashMismatch`.
    pub code: String,
    /// What happened.
    pub message: String,
}

impl Failure {
    /// A failure with a code and words.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

/// What the agent must know after a restart. The machine keeps it wherever it survives one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Pending {
    /// A reboot that was asked for.
    #[serde(rename_all = "camelCase")]
    Reboot {
        /// The boot before it.
        boot_id_before: String,
    },
    /// A factory reset that was asked for.
    #[serde(rename_all = "camelCase")]
    FactoryReset {
        /// The boot before it.
        boot_id_before: String,
    },
    /// A firmware update whose reboot is under way.
    #[serde(rename_all = "camelCase")]
    Firmware {
        /// The version that must run afterwards.
        version: String,
        /// The version that ran before.
        version_before: String,
        /// The boot before it.
        boot_id_before: String,
    },
    /// The reboot that leaves a new version which could not be kept.
    #[serde(rename_all = "camelCase")]
    Rollback {
        /// The version that must run afterwards.
        version_before: String,
        /// Why the new version was not kept: a code.
        code: String,
        /// Likewise, in words.
        message: String,
    },
}

/// What a device maker implements. Every method may fail, and says why in words that reach the operator.
pub trait Machine: Send + Sync + 'static {
    /// Changes at every boot.
    fn boot_id(&self) -> String;
    /// The version that runs now.
    fn firmware_version(&self) -> String;
    /// The slot that runs now.
    fn slot(&self) -> String;
    /// Where a new image is put while it is fetched; a file there is resumed if it is of the same image. The agent keeps the
    /// image's SHA-256 next to it, in a file of that name with `.sha256` appended.
    fn download_path(&self) -> PathBuf;
    /// What [`Machine::store_pending`] stored last, also after a restart.
    fn pending(&self) -> Option<Pending>;
    /// Stores it durably; `None` forgets it.
    fn store_pending(&self, pending: Option<&Pending>) -> Result<(), Failure>;
    /// Asked at the moment of each action: `Some` puts it off, because the device is in use, low on power or in the middle
    /// of something, whatever it reported before. That is no failure: whoever asked is told when to ask again.
    fn not_now(&self, action: Action) -> Option<Deferral> {
        let _ = action;
        None
    }
    /// Called before each step of an update; the place to refuse for good, for lack of space or for the wrong image.
    fn before(&self, step: Step) -> impl Future<Output = Result<(), Failure>> + Send {
        let _ = step;
        async { Ok(()) }
    }
    /// Puts desired configuration into force; all of it or nothing. Also called with what is in force already.
    fn configure(
        &self,
        configuration: &Map<String, Value>,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
    /// Removes everything that was not there when the device left the factory; the identity stays.
    fn factory_reset(&self) -> impl Future<Output = Result<(), Failure>> + Send;
    /// Writes the image into the inactive slot and makes that slot the one to boot next, on trial.
    fn apply(&self, image: PathBuf, version: &str) -> impl Future<Output = Result<(), Failure>> + Send;
    /// Keeps the slot that runs now; without it the next boot falls back, and the agent asks for that boot at once. May be called for a slot that is kept already.
    fn confirm(&self) -> impl Future<Output = Result<(), Failure>> + Send;
    /// What `reported.status` shall say: battery, uptime, whatever the device measures.
    fn status(&self) -> Map<String, Value>;
}

/// Why [`Agent::run`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The device must restart now; what is pending is stored.
    Reboot,
    /// The client was closed.
    Closed,
}

/// The agent of one device.
pub struct Agent<M> {
    client: DeviceClient,
    http: reqwest::Client,
    machine: Arc<M>,
}

impl<M: Machine> Agent<M> {
    /// An agent on a connection that was started. `http` fetches images; it must trust the hub.
    pub fn new(client: DeviceClient, http: reqwest::Client, machine: Arc<M>) -> Self {
        Self { client, http, machine }
    }

    /// Serves the device until it must restart or is closed. Call it again, with a new connection, after the restart.
    pub async fn run(&self, inbox: Inbox) -> Result<End, Error> {
        self.client.connected().await?;
        let twin = self.client.twin().await?;
        if self.announce(&twin.reported).await? {
            return Ok(End::Reboot);
        }
        self.serve(inbox, twin).await
    }
}
