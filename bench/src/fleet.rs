//! Devices for the benchmarks: registered in bulk over REST, with tokens made from their keys.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::{StreamExt, TryStreamExt, stream};
use hmac::{Hmac, Mac};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::client::Client;
use crate::hub::Hub;

/// Devices in one bulk request.
const BULK: usize = 100;
/// Requests and handshakes under way at once.
const AT_ONCE: usize = 32;

/// Longest try to connect.
const CONNECT_MAX: Duration = Duration::from_secs(60);

/// The same key for all devices of a benchmark: 32 bytes, base64.
const DEVICE_KEY: &str = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=";

/// A back end's client.
#[derive(Clone)]
pub struct Rest {
    http: reqwest::Client,
    base: String,
    token: String,
}

/// A token for `resource`, good for a day.
fn token(resource: &str, key: &str, policy: Option<&str>) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let resource = utf8_percent_encode(resource, NON_ALPHANUMERIC).to_string();
    let expiry = now + 86_400;
    let mut mac = Hmac::<Sha256>::new_from_slice(&BASE64.decode(key)?)?;
    mac.update(format!("{resource}\n{expiry}").as_bytes());
    let signature = BASE64.encode(mac.finalize().into_bytes());
    let signature = utf8_percent_encode(&signature, NON_ALPHANUMERIC);
    let policy = policy.map(|name| format!("&skn={name}")).unwrap_or_default();
    Ok(format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}{policy}"))
}

impl Rest {
    /// A client of this hub as its owner.
    pub fn new(hub: &Hub) -> Result<Self> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(rustls::ClientConfig::clone(&hub.tls))
            .build()?;
        let port = hub.https.rsplit_once(':').map_or("443", |(_, port)| port);
        let token = token("localhost", &hub.owner_key, Some("iothubowner"))?;
        Ok(Self { http, base: format!("https://localhost:{port}"), token })
    }

    /// What to send as `Authorization`.
    pub fn authorization(&self) -> &str {
        &self.token
    }

    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("{}{path}?api-version=2021-04-12", self.base);
        self.http.request(method, url).header("Authorization", &self.token)
    }

    /// Sends a POST and returns the answer's body; errs on any status that is no success.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.send(reqwest::Method::POST, path, Some(body)).await
    }

    /// Likewise with PUT.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.send(reqwest::Method::PUT, path, Some(body)).await
    }

    /// Likewise with PATCH.
    pub async fn patch(&self, path: &str, body: &Value) -> Result<Value> {
        self.send(reqwest::Method::PATCH, path, Some(body)).await
    }

    /// Sends a GET and returns the answer's body.
    pub async fn json(&self, path: &str) -> Result<Value> {
        self.send(reqwest::Method::GET, path, None).await
    }

    async fn send(&self, method: reqwest::Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let mut request = self.request(method.clone(), path);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        if !status.is_success() {
            bail!("{method} {path}: {status} {text}");
        }
        Ok(serde_json::from_str(&text)?)
    }

    /// Imports lines of devices with their twins.
    pub async fn import(&self, lines: String) -> Result<Value> {
        let answer = self.request(reqwest::Method::POST, "/api/import").body(lines).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    /// Sends a GET and returns the length of the answer's body, which is not kept.
    pub async fn get(&self, path: &str) -> Result<usize> {
        let mut answer = self.request(reqwest::Method::GET, path).send().await?.error_for_status()?;
        let mut length = 0;
        while let Some(part) = answer.chunk().await? {
            length += part.len();
        }
        Ok(length)
    }

    /// Registers `count` devices named `bench-0` and up, with believable tags and desired properties.
    pub async fn register(&self, count: usize) -> Result<()> {
        let starts = (0..count).step_by(BULK);
        stream::iter(starts.map(|start| async move {
            let items: Vec<Value> = (start..(start + BULK).min(count)).map(item).collect();
            self.post("/devices", &Value::from(items)).await.map(drop)
        }))
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await
        .map(drop)
    }
}

fn item(number: usize) -> Value {
    json!({
        "id": name(number), "importMode": "create", "status": "enabled",
        "authentication": authentication(),
        "tags": {"site": format!("site-{}", number % 50), "model": format!("m{}", number % 7), "ring": number % 4},
        "properties": {"desired": {"interval": 60, "report": {"level": "info", "batch": 20}}},
    })
}

/// How every device proves who it is.
pub fn authentication() -> Value {
    json!({"type": "sas", "symmetricKey": {"primaryKey": DEVICE_KEY, "secondaryKey": DEVICE_KEY}})
}

/// The name of a device.
pub fn name(number: usize) -> String {
    format!("bench-{number}")
}

/// Connects the first `count` devices, in their order.
pub async fn connect(hub: &Hub, count: usize) -> Result<Vec<Client>> {
    connect_to(hub, &hub.mqtt, count).await
}

/// Likewise at another address that has the hub's certificate.
pub async fn connect_to(hub: &Hub, address: &str, count: usize) -> Result<Vec<Client>> {
    let each = (0..count).map(|number| connect_one(Arc::clone(&hub.tls), address, number));
    stream::iter(each).buffered(AT_ONCE).try_collect().await
}

/// Connects one device.
pub async fn connect_one(tls: Arc<rustls::ClientConfig>, address: &str, number: usize) -> Result<Client> {
    let device = name(number);
    let token = token(&format!("localhost/devices/{device}"), DEVICE_KEY, None)?;
    tokio::time::timeout(CONNECT_MAX, Client::connect(tls, address, &device, &token)).await?
}
