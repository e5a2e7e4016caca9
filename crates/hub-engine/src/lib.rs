//! The application: the only writer. Front ends translate what they receive into one call of [`Hub`] and its result back.
//!
//! Commands, by resource (`impl Hub` blocks, one file each): [`access`] authenticate · [`registry`] identities ·
//! [`bulk`] many of them, [`import`] and [`export`] all of them · [`twins`] · [`queries`] · [`methods`] · [`jobs`] · [`rollouts`] and [`context`] · [`transfers`] · [`configurations`] · [`telemetry`] · [`sessions`] attach, subscribe ·
//! [`events`] · [`policies`] · [`artifacts`] · [`retirement`] · [`status`]. How a command becomes durable and visible: `transact`, then
//! `applier`. It knows no wire type, topic, path, status code or socket.

pub mod access;
mod applier;
pub mod artifacts;
pub mod bulk;
pub mod clock;
mod commits;
pub mod config;
pub mod configurations;
pub mod context;
mod courtesy;
mod downlinks;
mod error;
pub mod events;
pub mod export;
pub mod import;
pub mod jobs;
pub mod line_format;
pub mod lines;
pub mod methods;
mod open;
mod pending;
pub mod policies;
pub mod queries;
mod reconcile;
pub mod registry;
pub mod retirement;
pub mod rollouts;
mod secret;
pub mod sessions;
pub mod status;
pub mod tasks;
pub mod telemetry;
mod transact;
pub mod transfers;
pub mod twins;

use std::sync::{Arc, Mutex, OnceLock};

use hub_domain::event::Position;
use hub_domain::time::Timestamp;
use hub_index::Index;
use hub_store::Store;
use hub_store::blobs::BlobFolder;

pub use hub_container as containers;

pub use access::{Credential, Principal};
pub use config::Config;
pub use downlinks::{DownlinkSender, Downlinks, downlinks};
pub use error::{Error, Result};
pub use open::Parts;
pub use sessions::Attachment;

use applier::Applier;
use clock::Clock;
use commits::Commits;
use configurations::Configurations;
use context::Context;
use import::Streams;
use jobs::Jobs;
use pending::Pending;
use policies::Policies;
use retirement::Tombstones;
use secret::Secret;
use sessions::Sessions;
use status::Counters;
use tasks::Tasks;
use transfers::Transfers;

/// The hub. Made by [`Hub::open`], shared as `Arc<Hub>`.
pub struct Hub {
    config: Config,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    store: Arc<dyn Store>,
    blobs: BlobFolder,
    index: Arc<Index>,
    applier: Arc<Applier>,
    commits: Commits,
    sessions: Arc<Sessions>,
    pending: Arc<Pending>,
    jobs: Jobs,
    transfers: Transfers,
    context: Context,
    configurations: Arc<Configurations>,
    tombstones: Arc<Tombstones>,
    policies: Arc<Policies>,
    secret: Secret,
    counters: Counters,
    streams: Streams,
    started: Timestamp,
    /// Why no more writes are taken, once that is so.
    failed: Arc<OnceLock<String>>,
    /// Events before this position were removed.
    pruned: Mutex<Option<Position>>,
}

impl Hub {
    /// The hub's own name: the first of the configured ones.
    pub fn hostname(&self) -> &str {
        self.config.hostnames.first().map_or("localhost", String::as_str)
    }

    /// The present, by the hub's own clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
