//! Where a demo is played: a temporary folder, and a hub on free ports in a process of its own, started from this program.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hub_cli::client::{Client, Target};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::config::Settings;
use crate::config::layers::Sources;
use crate::connection_string;
use crate::endpoints::Endpoints;

/// Longest wait for the hub to be ready.
const READY_TIME: Duration = Duration::from_secs(30);
/// Longest wait for the hub to end.
const END_TIME: Duration = Duration::from_secs(30);

/// See the module.
pub struct Place {
    folder: tempfile::TempDir,
    process: Child,
    settings: Settings,
    /// Where the hub listens.
    pub endpoints: Endpoints,
}

impl Place {
    /// Starts the hub and waits until it is ready.
    pub async fn start() -> Result<Place> {
        let folder =
            tempfile::Builder::new().prefix("fleetyard-demo-").tempdir().context("a temporary folder")?;
        let data = folder.path().join("hub");
        let mut command = Command::new(std::env::current_exe().context("this program's own file")?);
        command.args(["serve", "--hostname", "localhost", "--log", "warn", "--data"]).arg(&data);
        command.args([
            "--https-address",
            "127.0.0.1:0",
            "--mqtt-address",
            "127.0.0.1:0",
            "--metrics-address",
            "127.0.0.1:0",
        ]);
        let ours = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FLEETYARD_"));
        for (name, _) in ours {
            command.env_remove(name);
        }
        let mut process =
            command.stdout(Stdio::piped()).kill_on_drop(true).spawn().context("starting the hub")?;
        let mut lines = BufReader::new(process.stdout.take().context("the hub's output")?).lines();
        let ready = async {
            while let Some(line) = lines.next_line().await? {
                if line.starts_with("ready") {
                    return Ok(());
                }
            }
            bail!("the hub ended before it was ready")
        };
        tokio::time::timeout(READY_TIME, ready).await.context("the hub was not ready in time")??;
        let flags = vec![("hub.data", data.display().to_string())];
        let settings = Settings::load(&Sources { file: None, environment: Vec::new(), flags })?;
        let endpoints = Endpoints::load(&data)?.context("the hub wrote no endpoints")?;
        Ok(Place { folder, process, settings, endpoints })
    }

    /// The hub's data folder.
    pub fn data(&self) -> &Path {
        &self.settings.data
    }

    /// Where simulated devices keep their slots.
    pub fn devices(&self) -> PathBuf {
        self.folder.path().join("devices")
    }

    /// The hub's certificate authority.
    pub fn ca(&self) -> PathBuf {
        self.data().join("tls/ca.pem")
    }

    /// A client of the hub as its owner.
    pub fn client(&self) -> Result<Client> {
        let connection_string = connection_string::of_policy(&self.settings, "iothubowner")?;
        let address = Some(self.endpoints.https);
        Ok(Client::new(&Target { connection_string, ca: Some(self.ca()), address, mqtt_host: None })?)
    }

    /// Says how to look around.
    pub fn explain(&self) {
        let data = self.data().display();
        println!("\nhub and devices go on until Ctrl-C. In another terminal:");
        println!("  export FLEETYARD_CA={}", self.ca().display());
        println!("  export FLEETYARD_CONNECTION_STRING=\"$(fleetyard connection-string --data {data})\"");
        println!("  fleetyard status");
        println!(
            "  fleetyard query \"SELECT properties.reported.firmware.version AS v, COUNT() AS n FROM devices GROUP BY properties.reported.firmware.version\""
        );
        println!("  fleetyard method call demo-0000 reboot");
    }

    /// Ends the hub in order; the folder goes with it.
    pub async fn stop(mut self) -> Result<()> {
        if let Some(pid) = self.process.id() {
            let told = Command::new("kill")
                .args(["-INT", &pid.to_string()])
                .status()
                .await
                .context("telling the hub to end")?;
            if !told.success() {
                bail!("the hub could not be told to end");
            }
        }
        let status = tokio::time::timeout(END_TIME, self.process.wait())
            .await
            .context("the hub did not end in time")??;
        if !status.success() {
            bail!("the hub ended with {status}");
        }
        Ok(())
    }
}
