//! The hub under test: its own process on free ports, its data folder, its CA and its owner's key.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Longest wait for the hub to be ready.
const READY_MAX: Duration = Duration::from_secs(600);

/// A running hub.
pub struct Hub {
    process: Child,
    /// How long it took from start to ready.
    pub ready_after: Duration,
    /// `127.0.0.1:port`.
    pub https: String,
    /// `127.0.0.1:port`.
    pub mqtt: String,
    /// Trusts the hub's CA.
    pub tls: Arc<rustls::ClientConfig>,
    /// The owner's key, base64.
    pub owner_key: String,
}

impl Hub {
    /// Starts a hub on a folder and waits until it says that it is ready.
    pub async fn start(binary: &Path, data: &Path) -> Result<Self> {
        Self::start_with(binary, data, &[]).await
    }

    /// Likewise with these settings as environment variables.
    pub async fn start_with(binary: &Path, data: &Path, settings: &[(&str, &Path)]) -> Result<Self> {
        let begun = Instant::now();
        let mut process = Command::new(binary)
            .args([
                "serve",
                "--hostname",
                "localhost",
                "--https-address",
                "127.0.0.1:0",
                "--mqtt-address",
                "127.0.0.1:0",
            ])
            .args(["--metrics-address", "127.0.0.1:0", "--data"])
            .arg(data)
            .envs(settings.iter().copied())
            .env("FLEETYARD_LOG", std::env::var_os("FLEETYARD_LOG").unwrap_or("warn".into()))
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", binary.display()))?;
        let stdout = process.stdout.take().context("the hub's output")?;
        let mut lines = BufReader::new(stdout).lines();
        let ready = async {
            while let Some(line) = lines.next_line().await? {
                if let Some(endpoints) = line.strip_prefix("ready") {
                    return Ok(endpoints.to_string());
                }
            }
            bail!("the hub ended before it was ready")
        };
        let endpoints =
            tokio::time::timeout(READY_MAX, ready).await.context("the hub was not ready in time")??;
        let ready_after = begun.elapsed();
        // Kept open, so that the hub can write; nothing more is read.
        std::mem::forget(lines);
        let endpoint = |name: &str| {
            let found =
                endpoints.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            found.map(str::to_string).with_context(|| format!("no {name} in '{endpoints}'"))
        };
        let (https, mqtt) = (endpoint("https")?, endpoint("mqtt")?);
        let tls = trust(&data.join("tls/ca.pem"))?;
        let policies: serde_json::Value =
            serde_json::from_slice(&std::fs::read(data.join("policies.json"))?)?;
        let list = policies["policies"].as_array().context("the list of policies")?;
        let owner =
            list.iter().find(|policy| policy["name"] == "iothubowner").context("the owner's policy")?;
        let owner_key = owner["primaryKey"].as_str().context("the owner's key")?.to_string();
        Ok(Self { process, ready_after, https, mqtt, tls, owner_key })
    }

    /// The process's number.
    pub fn process(&self) -> u32 {
        self.process.id().unwrap_or(0)
    }

    /// Ends the hub in order and waits for it.
    pub async fn stop(mut self) -> Result<()> {
        let interrupt = Command::new("kill").args(["-INT", &self.process().to_string()]).status().await?;
        if !interrupt.success() {
            bail!("the hub could not be told to stop");
        }
        self.process.wait().await?;
        Ok(())
    }
}

/// A port that was free a moment ago, for a peer that cannot choose one.
pub fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn trust(ca: &PathBuf) -> Result<Arc<rustls::ClientConfig>> {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).with_context(|| format!("reading {}", ca.display()))?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
