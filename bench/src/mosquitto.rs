//! The peer of connections and messages: Mosquitto with TLS, by the hub's own certificate, on the same machine.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::hub::free_port;

/// Longest wait for the broker to listen.
const READY_MAX: Duration = Duration::from_secs(10);

/// A running broker; it ends when this is dropped.
pub struct Mosquitto {
    process: Child,
    _folder: tempfile::TempDir,
    /// `127.0.0.1:port`.
    pub address: String,
}

impl Mosquitto {
    /// Starts the broker with the certificate in the hub's data folder.
    pub async fn start(hub_data: &Path) -> Result<Self> {
        let (folder, port) = (tempfile::tempdir()?, free_port()?);
        let tls = |name: &str| hub_data.join("tls").join(name).display().to_string();
        let settings = format!(
            "user root\nlistener {port} 127.0.0.1\nallow_anonymous true\ncertfile {}\nkeyfile {}\n\
             set_tcp_nodelay true\nmax_queued_messages 0\nmax_inflight_messages 0\npersistence false\nlog_type error\n",
            tls("server.pem"),
            tls("server-key.pem"),
        );
        let file = folder.path().join("mosquitto.conf");
        std::fs::write(&file, settings)?;
        let process = Command::new("mosquitto")
            .arg("-c")
            .arg(&file)
            .env("PATH", "/usr/sbin:/usr/bin:/bin")
            .stdout(Stdio::null())
            // It writes a line for each client that ends without a farewell.
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("starting mosquitto: is Debian's package 'mosquitto' installed?")?;
        let address = format!("127.0.0.1:{port}");
        let listening = async {
            while TcpStream::connect(&address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(READY_MAX, listening).await.is_err() {
            bail!("mosquitto does not listen on {address}");
        }
        Ok(Self { process, _folder: folder, address })
    }

    /// The process's number.
    pub fn process(&self) -> u32 {
        self.process.id().unwrap_or(0)
    }
}
