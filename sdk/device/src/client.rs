//! A device's connection to its hub: telemetry, twin, direct methods; it reconnects by itself.
//!
//! One task owns the connection (`run`); this is the handle to it. Never blocks without a time limit.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rumqttc::{AsyncClient, QoS};
use rustls::ClientConfig;
use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::run::{self, Answer};
use crate::{ConnectionString, Error};

/// Longest wait for the answer to a twin request, over as many connections as it takes.
pub const TWIN_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest wait for room in the queue of messages to send.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(120);
/// Method calls and desired patches that may wait for the application.
pub const QUEUE_MAX: usize = 64;

/// Whether the device is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// Not yet, or not any more; it is being tried.
    Connecting,
    /// Yes.
    Connected,
    /// The hub refuses this device; it is tried again, slowly.
    Refused(String),
    /// For good.
    Closed,
}

/// A direct method that the device is asked to carry out.
#[derive(Debug)]
pub struct MethodRequest {
    /// The method's name.
    pub name: String,
    /// Its payload; `null` if the caller gave none.
    pub payload: Value,
    pub(crate) rid: String,
    pub(crate) client: AsyncClient,
}

impl MethodRequest {
    /// Answers with a status of the device's choice and any JSON.
    pub async fn respond(self, status: i32, payload: &Value) -> Result<(), Error> {
        let topic = format!("$iothub/methods/res/{status}/?$rid={}", self.rid);
        self.client
            .publish(topic, QoS::AtMostOnce, false, payload.to_string())
            .await
            .map_err(|_| Error::Closed)
    }
}

/// The twin as its device sees it; both sections contain `$version`.
#[derive(Clone, Debug, PartialEq)]
pub struct Twin {
    /// What the device shall be.
    pub desired: Map<String, Value>,
    /// What it reported.
    pub reported: Map<String, Value>,
}

/// A telemetry message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Opaque bytes.
    pub body: Vec<u8>,
    /// For example `application/json`.
    pub content_type: Option<String>,
    /// For example `utf-8`.
    pub content_encoding: Option<String>,
    /// An id of the device's choice.
    pub message_id: Option<String>,
    /// Application properties.
    pub properties: Vec<(String, String)>,
}

impl Message {
    /// A JSON message in UTF-8.
    pub fn json(body: &Value) -> Self {
        Self {
            body: body.to_string().into_bytes(),
            content_type: Some("application/json".into()),
            content_encoding: Some("utf-8".into()),
            ..Self::default()
        }
    }

    fn bag(&self) -> String {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let system =
            [("$.mid", &self.message_id), ("$.ct", &self.content_type), ("$.ce", &self.content_encoding)];
        let system = system.into_iter().filter_map(|(key, value)| Some((key, value.as_deref()?)));
        let properties = self.properties.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let parts: Vec<_> =
            system.chain(properties).map(|(k, v)| format!("{}={}", encode(k), encode(v))).collect();
        parts.join("&")
    }
}

/// What the connection's task and the handle share.
pub(crate) struct Shared {
    pub(crate) answers: Mutex<HashMap<String, oneshot::Sender<Answer>>>,
    next: AtomicU64,
}

impl Shared {
    pub(crate) fn answers(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<Answer>>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What comes from the hub; taken once, by whoever serves the device.
#[derive(Debug)]
pub struct Inbox {
    /// Direct methods to carry out.
    pub methods: mpsc::Receiver<MethodRequest>,
    /// Changes of desired properties, with their nulls and `$version`.
    pub desired: mpsc::Receiver<Map<String, Value>>,
}

/// A handle to a device's connection; clones share it.
#[derive(Clone)]
pub struct DeviceClient {
    client: AsyncClient,
    shared: Arc<Shared>,
    state: watch::Receiver<ConnectionState>,
    stop: CancellationToken,
    id: Arc<ConnectionString>,
}

impl DeviceClient {
    /// Begins to connect, and goes on until [`DeviceClient::close`]. Returns at once; see [`DeviceClient::connected`].
    pub fn start(id: ConnectionString, tls: Arc<ClientConfig>) -> Result<(Self, Inbox), Error> {
        let id = Arc::new(id);
        let (client, eventloop) = run::open(&id, tls)?;
        let shared = Arc::new(Shared { answers: Mutex::default(), next: AtomicU64::new(1) });
        let (methods_in, methods) = mpsc::channel(QUEUE_MAX);
        let (desired_in, desired) = mpsc::channel(QUEUE_MAX);
        let (state_in, state) = watch::channel(ConnectionState::Connecting);
        let stop = CancellationToken::new();
        let connection = run::Connection {
            id: id.clone(),
            client: client.clone(),
            shared: shared.clone(),
            methods: methods_in,
            desired: desired_in,
            state: state_in,
            stop: stop.clone(),
        };
        tokio::spawn(connection.run(eventloop));
        Ok((Self { client, shared, state, stop, id }, Inbox { methods, desired }))
    }

    /// Who this is.
    pub fn id(&self) -> &ConnectionString {
        &self.id
    }

    /// The connection's state, to be watched.
    pub fn state(&self) -> watch::Receiver<ConnectionState> {
        self.state.clone()
    }

    /// Waits until the device is connected. Errs if the hub refuses it, or if the client is closed.
    pub async fn connected(&self) -> Result<(), Error> {
        let mut state = self.state.clone();
        loop {
            match &*state.borrow_and_update() {
                ConnectionState::Connected => return Ok(()),
                ConnectionState::Refused(why) => return Err(Error::Refused(why.clone())),
                ConnectionState::Closed => return Err(Error::Closed),
                ConnectionState::Connecting => {}
            }
            state.changed().await.map_err(|_| Error::Closed)?;
        }
    }

    /// Queues a message and returns; does not wait for the hub. It goes out at QoS 1: kept in memory and sent again on every
    /// connection until the hub has stored it. Errs if the queue is full for [`SEND_TIMEOUT`].
    pub async fn send(&self, message: Message) -> Result<(), Error> {
        let module =
            self.id.module_id.as_ref().map(|module| format!("modules/{module}/")).unwrap_or_default();
        let topic = format!("devices/{}/{module}messages/events/{}", self.id.device_id, message.bag());
        let sent = self.client.publish(topic, QoS::AtLeastOnce, false, message.body);
        tokio::time::timeout(SEND_TIMEOUT, sent)
            .await
            .map_err(|_| Error::TimedOut)?
            .map_err(|_| Error::Closed)
    }

    /// Reads the twin.
    pub async fn twin(&self) -> Result<Twin, Error> {
        let answer = self.request("GET/", Vec::new()).await?;
        let mut body: Map<String, Value> = serde_json::from_slice(&answer.body).unwrap_or_default();
        let mut section = |name: &str| match body.remove(name) {
            Some(Value::Object(section)) => section,
            _ => Map::new(),
        };
        Ok(Twin { desired: section("desired"), reported: section("reported") })
    }

    /// Merges a patch into the reported properties (`null` deletes); returns their new version.
    pub async fn report(&self, patch: &Value) -> Result<u64, Error> {
        let answer = self.request("PATCH/properties/reported/", patch.to_string().into_bytes()).await?;
        Ok(answer.version.unwrap_or(0))
    }

    async fn request(&self, operation: &str, body: Vec<u8>) -> Result<Answer, Error> {
        let rid = self.shared.next.fetch_add(1, Ordering::Relaxed).to_string();
        let forget = Forget { shared: &self.shared, rid: &rid };
        let topic = format!("$iothub/twin/{operation}?$rid={rid}");
        let ask = async {
            loop {
                let (sender, answer) = oneshot::channel();
                self.shared.answers().insert(rid.clone(), sender);
                self.connected().await?;
                let sent = self.client.publish(&topic, QoS::AtMostOnce, false, body.clone());
                sent.await.map_err(|_| Error::Closed)?;
                // Without an answer the connection was lost; reading and merging may both be done twice.
                if let Ok(answer) = answer.await {
                    return Ok(answer);
                }
            }
        };
        let answer = tokio::time::timeout(TWIN_TIMEOUT, ask).await.map_err(|_| Error::TimedOut)??;
        drop(forget);
        answer.checked()
    }

    /// Begins to disconnect for good and does not wait for it.
    pub fn abandon(&self) {
        self.stop.cancel();
    }

    /// Disconnects for good.
    pub async fn close(&self) {
        self.stop.cancel();
        let mut state = self.state.clone();
        let _ = state.wait_for(|state| *state == ConnectionState::Closed).await;
    }
}

/// Forgets a request whose answer nobody waits for any more.
struct Forget<'a> {
    shared: &'a Shared,
    rid: &'a str,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.shared.answers().remove(self.rid);
    }
}
