//! The smallest managed device: its "slots" are files and its "reboot" is the end of the process, to be started again.

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fleetyard_device::agent::{Action, Agent, Deferral, End, Failure, Machine, Pending};
use fleetyard_device::{ConnectionString, DeviceClient, client_config};
use serde_json::{Map, Value};

struct Thing {
    folder: PathBuf,
    boot_id: String,
}

impl Thing {
    fn text(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.folder.join(name)).ok()
    }

    fn store(&self, name: &str, text: String) -> Result<(), Failure> {
        // A real device also syncs the file and its folder: what is stored must survive a loss of power.
        let (new, path) = (self.folder.join("new"), self.folder.join(name));
        fs::write(&new, text).and_then(|()| fs::rename(&new, path)).map_err(failed)
    }
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::new("storage", error.to_string())
}

impl Machine for Thing {
    fn boot_id(&self) -> String {
        self.boot_id.clone()
    }
    fn firmware_version(&self) -> String {
        self.text("version").unwrap_or_else(|| "1.0.0".into())
    }
    fn slot(&self) -> String {
        "a".into()
    }
    fn download_path(&self) -> PathBuf {
        self.folder.join("download")
    }
    fn pending(&self) -> Option<Pending> {
        serde_json::from_str(&self.text("pending")?).ok()?
    }
    fn store_pending(&self, pending: Option<&Pending>) -> Result<(), Failure> {
        self.store("pending", serde_json::to_string(&pending).map_err(failed)?)
    }
    fn not_now(&self, _action: Action) -> Option<Deferral> {
        // Somebody works with the device: the hub asks again in a minute.
        let is_used = self.text("in-use").is_some();
        is_used.then(|| Deferral::new(Duration::from_secs(60), "in use"))
    }
    async fn configure(&self, configuration: &Map<String, Value>) -> Result<(), Failure> {
        self.store("configuration", Value::Object(configuration.clone()).to_string())
    }
    async fn factory_reset(&self) -> Result<(), Failure> {
        self.store("configuration", "{}".into())
    }
    async fn apply(&self, image: PathBuf, version: &str) -> Result<(), Failure> {
        fs::rename(image, self.folder.join("image")).map_err(failed)?;
        self.store("version", version.into())
    }
    async fn confirm(&self) -> Result<(), Failure> {
        Ok(())
    }
    fn status(&self) -> Map<String, Value> {
        Map::from_iter([("health".into(), "ok".into())])
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let id = ConnectionString::parse(&std::env::var("DEVICE")?)?;
    let tls = client_config(&fs::read(std::env::var("CA")?)?, None)?;
    let folder = PathBuf::from(std::env::var("FOLDER")?);
    fs::create_dir_all(&folder)?;
    // On Linux the kernel's boot id is the thing to take; here a process is a boot.
    let thing = Arc::new(Thing { folder, boot_id: std::process::id().to_string() });

    let http = reqwest::Client::builder().tls_backend_preconfigured((*tls).clone()).build()?;
    let (client, inbox) = DeviceClient::start(id, tls)?;
    let end = Agent::new(client.clone(), http, thing).run(inbox).await?;
    client.close().await;
    if end == End::Reboot {
        println!("start me again");
    }
    Ok(())
}
