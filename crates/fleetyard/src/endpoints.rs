//! `endpoints.json` of the data folder: the host name and the addresses last served, for commands on the same machine.
//! It holds nothing secret, and nothing that the hub itself would need.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::tls::authority::replace_file;

/// The port that clients take if none is named.
const HTTPS_PORT_DEFAULT: u16 = 443;
/// Likewise for MQTT over TLS.
const MQTT_PORT_DEFAULT: u16 = 8883;

/// Where the hub is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// The hub's name.
    pub hostname: String,
    /// HTTPS.
    pub https: SocketAddr,
    /// MQTT over TLS.
    pub mqtt: SocketAddr,
    /// Monitoring.
    pub metrics: SocketAddr,
}

impl Endpoints {
    /// Reads the file; `None` if there is none.
    pub fn load(data: &Path) -> Result<Option<Endpoints>> {
        let path = data.join("endpoints.json");
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let endpoints = serde_json::from_slice(&text);
        endpoints.map(Some).with_context(|| format!("{} is damaged; remove it", path.display()))
    }

    /// Writes the file, if it says something else.
    pub fn save(&self, data: &Path) -> Result<()> {
        if Endpoints::load(data).ok().flatten().as_ref() == Some(self) {
            return Ok(());
        }
        let text = serde_json::to_string_pretty(self).expect("addresses become text");
        replace_file(&data.join("endpoints.json"), &(text + "\n"))
    }

    /// `HostName` for back ends.
    pub fn service_host(&self) -> String {
        with_port(&self.hostname, self.https.port(), HTTPS_PORT_DEFAULT)
    }

    /// `HostName` for devices.
    pub fn device_host(&self) -> String {
        with_port(&self.hostname, self.mqtt.port(), MQTT_PORT_DEFAULT)
    }

    /// Where HTTPS is reached from this machine, whatever its name resolves to.
    pub fn https_from_here(&self) -> SocketAddr {
        let ip = match self.https.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        SocketAddr::new(ip, self.https.port())
    }
}

fn with_port(host: &str, port: u16, default: u16) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_string() };
    if port == default { host } else { format!("{host}:{port}") }
}
