//! A whole hub, in memory or on disk, with a manual clock, for tests of everything above the engine. Never part of the product.

pub mod blob_server;

use std::sync::Arc;
use std::time::Duration;

use hub_domain::id::TwinId;
use hub_domain::identity::{AuthenticationSpec, IdentitySpec};
use hub_domain::sas::make_token;
use hub_domain::time::Timestamp;
use hub_engine::clock::{Clock, ManualClock};
use hub_engine::containers::ContainerPolicy;
use hub_engine::policies::Policies;
use hub_engine::tasks::Tasks;
use hub_engine::{Config, Hub, Parts, Principal};
use hub_store::blobs::BlobFolder;
use hub_store::{EmbeddedOptions, EmbeddedStore, MemoryStore, Store};

/// The name of every test hub.
pub const HOSTNAME: &str = "hub.test";

/// Where the clock of a new test hub stands, in seconds since 1970.
pub const START_SECONDS: i64 = 1_800_000_000;

/// A hub with a manual clock.
pub struct TestHub {
    /// The hub.
    pub hub: Arc<Hub>,
    /// Its clock, to be set.
    pub clock: Arc<ManualClock>,
    /// Its store, so that another hub can be opened on it: a restart.
    pub store: Arc<dyn Store>,
    /// Its tasks.
    pub tasks: Tasks,
    policies: Vec<hub_engine::policies::Policy>,
    folder: tempfile::TempDir,
}

impl TestHub {
    /// A new hub with nothing in it.
    pub async fn start() -> Self {
        Self::on(Arc::new(MemoryStore::new())).await
    }

    /// A new hub whose store is a file in its folder, as in the product.
    pub async fn start_on_disk() -> Self {
        Self::start_on_disk_with(ContainerPolicy::default()).await
    }

    /// The same, whose import and export jobs may use these containers.
    pub async fn start_on_disk_with(containers: ContainerPolicy) -> Self {
        let folder = new_folder();
        let file = folder.path().join("hub.redb");
        let store = EmbeddedStore::open(&file, EmbeddedOptions::default()).expect("a new store");
        Self::with(Arc::new(store), folder, Config { containers, ..Config::default() }).await
    }

    /// A hub on a store that may hold something.
    pub async fn on(store: Arc<dyn Store>) -> Self {
        Self::on_with(store, Config::default()).await
    }

    /// The same with settings of its own; its names are always those of this crate.
    pub async fn on_with(store: Arc<dyn Store>, config: Config) -> Self {
        Self::with(store, new_folder(), config).await
    }

    /// Another hub on the same store, as after a kill: nobody has the time to write anything down. What is under way
    /// in the store ends first, since a store has one hub.
    pub async fn killed(&self) -> Self {
        assert!(self.tasks.stop(Duration::from_secs(60)).await, "what was under way ended");
        Self::on(self.store.clone()).await
    }

    async fn with(store: Arc<dyn Store>, folder: tempfile::TempDir, config: Config) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(START_SECONDS)));
        let tasks = Tasks::new();
        let policies = Policies::in_memory();
        let list = policies.list().to_vec();
        let parts = Parts {
            store: store.clone(),
            blobs: BlobFolder::open(folder.path()).await.expect("a folder for artifacts"),
            clock: clock.clone() as Arc<dyn Clock>,
            tasks: tasks.clone(),
            policies,
        };
        let config = Config { hostnames: vec![HOSTNAME.into(), "localhost".into()], ..config };
        let hub = Hub::open(config, parts).await.expect("the hub opens");
        Self { hub, clock, store, tasks, policies: list, folder }
    }

    /// Where artifacts are.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Sets the clock on by `duration`.
    pub fn advance(&self, duration: Duration) {
        self.clock.set(self.clock.now().plus(duration));
    }

    /// A token of a policy for the whole hub, good for an hour.
    pub fn policy_token(&self, policy: &str) -> String {
        let key = &self.policies.iter().find(|known| known.name == policy).expect("a known policy").primary;
        make_token(HOSTNAME, key, self.in_an_hour(), Some(policy))
    }

    /// Somebody who may do everything.
    pub fn owner(&self) -> Principal {
        self.service("iothubowner")
    }

    /// Somebody with this policy's rights.
    pub fn service(&self, policy: &str) -> Principal {
        self.hub.authenticate_service(&self.policy_token(policy), &[]).expect("the policy's own token")
    }

    fn in_an_hour(&self) -> Timestamp {
        self.clock.now().plus(Duration::from_secs(3600))
    }

    /// Registers a device (`d`) or module (`d/m`, whose device must exist) with keys; returns a token for it.
    pub async fn register(&self, name: &str) -> (TwinId, String) {
        let (device, module) = name.split_once('/').map_or((name, None), |(d, m)| (d, Some(m)));
        let id = TwinId::parse(device, module).expect("a valid id");
        self.hub
            .identity_create(&self.owner(), id.clone(), IdentitySpec::default())
            .await
            .expect("registered");
        let token = self.device_token(&id, self.in_an_hour());
        (id, token)
    }

    /// Registers a device that authenticates with a certificate of this thumbprint.
    pub async fn register_x509(&self, device: &str, thumbprint: &str) -> TwinId {
        let id = TwinId::parse(device, None).expect("a valid id");
        let authentication = AuthenticationSpec {
            primary_thumbprint: Some(thumbprint.into()),
            ..AuthenticationSpec::default()
        };
        let spec = IdentitySpec { authentication, ..IdentitySpec::default() };
        self.hub.identity_create(&self.owner(), id.clone(), spec).await.expect("registered");
        id
    }

    /// A token signed with the identity's primary key.
    pub fn device_token(&self, id: &TwinId, expiry: Timestamp) -> String {
        let view = self.hub.identity_get(&self.owner(), id).expect("a registered identity");
        let keys = view.identity.authentication.keys().expect("an identity with keys").clone();
        let resource = match &id.module {
            None => format!("{HOSTNAME}/devices/{}", id.device),
            Some(module) => format!("{HOSTNAME}/devices/{}/modules/{module}", id.device),
        };
        make_token(&resource, &keys.primary, expiry, None)
    }
}

fn new_folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}
