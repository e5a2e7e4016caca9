//! A hub with one device: MQTT over TLS, a twin, methods. It keeps no session, remembers all patches, and can cut the line.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use fleetyard_device::{ConnectionString, client_config};
use rumqttc::{
    ConnAck, ConnectReturnCode, Packet, PubAck, Publish, QoS, SubAck, SubscribeReasonCode, mqttbytes,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, ServerConfig};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_rustls::TlsAcceptor;

use crate::soon;

/// Largest packet.
const PACKET_BYTES_MAX: usize = 300 * 1024;

/// Keys of the servers and what clients need to trust them.
pub struct Tls {
    pub client: Arc<ClientConfig>,
    pub acceptor: TlsAcceptor,
}

pub fn tls() -> Tls {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).expect("a certificate");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let server = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a server");
    let client = client_config(made.cert.pem().as_bytes(), None).expect("a client");
    Tls { client, acceptor: TlsAcceptor::from(Arc::new(server)) }
}

/// What the hub does once instead of what it should.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trick {
    /// Refuses the next connection with this code.
    Refuse(u8),
    /// Cuts the line when a message comes, before it acknowledges it.
    CutAtMessage,
    /// Cuts the line when a twin request comes, before it answers.
    CutAtTwin,
}

#[derive(Default)]
struct State {
    desired: Map<String, Value>,
    patches: Vec<Value>,
    tricks: VecDeque<Trick>,
    to_device: Option<mpsc::UnboundedSender<Packet>>,
    waiting: HashMap<String, oneshot::Sender<(i32, Value)>>,
    calls: u32,
}

/// See the module.
pub struct Hub {
    pub tls: Tls,
    port: u16,
    state: Arc<Mutex<State>>,
    reported: watch::Sender<Value>,
    messages: watch::Sender<Vec<String>>,
}

/// Merges as twins do: `null` deletes.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().expect("an object").remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}

impl Hub {
    pub async fn start(tricks: &[Trick]) -> Arc<Hub> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let state = State {
            desired: Map::from_iter([("$version".into(), json!(1))]),
            tricks: tricks.iter().copied().collect(),
            ..State::default()
        };
        let hub = Arc::new(Hub {
            tls: tls(),
            port: listener.local_addr().expect("an address").port(),
            state: Arc::new(Mutex::new(state)),
            reported: watch::Sender::new(json!({ "$version": 1 })),
            messages: watch::Sender::default(),
        });
        let serving = hub.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(serving.clone(), stream));
            }
        });
        hub
    }

    pub fn device(&self) -> ConnectionString {
        let text = format!("HostName=127.0.0.1:{};DeviceId=d;SharedAccessKey=a2V5", self.port);
        ConnectionString::parse(&text).expect("a connection string")
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    fn trick(&self, matches: impl Fn(Trick) -> bool) -> Option<Trick> {
        let mut state = self.state();
        if state.tricks.front().copied().is_some_and(matches) { state.tricks.pop_front() } else { None }
    }

    pub fn play(&self, trick: Trick) {
        self.state().tricks.push_back(trick);
    }

    /// Calls a method and waits for its answer.
    pub async fn call(&self, name: &str, payload: &Value) -> (i32, Value) {
        let (sender, answer) = oneshot::channel();
        let rid = {
            let mut state = self.state();
            state.calls += 1;
            let rid = state.calls.to_string();
            state.waiting.insert(rid.clone(), sender);
            rid
        };
        self.publish(format!("$iothub/methods/POST/{name}/?$rid={rid}"), payload);
        soon(name, answer).await.expect("an answer")
    }

    /// Changes desired properties and tells the device.
    pub fn desire(&self, patch: &Value) {
        let version = {
            let mut state = self.state();
            let version = state.desired["$version"].as_u64().expect("a version") + 1;
            let mut desired = Value::Object(std::mem::take(&mut state.desired));
            merge(&mut desired, patch);
            desired["$version"] = version.into();
            state.desired = desired.as_object().expect("an object").clone();
            version
        };
        let mut told = patch.clone();
        told["$version"] = version.into();
        self.publish(format!("$iothub/twin/PATCH/properties/desired/?$version={version}"), &told);
    }

    /// Calls a method until the device is not busy with the command before, and returns the status.
    pub async fn call_when_idle(&self, name: &str, payload: &Value) -> i32 {
        loop {
            let (status, _) = self.call(name, payload).await;
            if status != 409 {
                return status;
            }
        }
    }

    /// Reports in the device's place.
    pub fn report(&self, patch: &Value) {
        self.reported.send_modify(|reported| merge(reported, patch));
    }

    pub fn desired_version(&self) -> Value {
        self.state().desired["$version"].clone()
    }

    /// Cuts the line.
    pub fn cut(&self) {
        self.state().to_device = None;
    }

    fn publish(&self, topic: String, payload: &Value) {
        let publish = Publish::new(topic, QoS::AtMostOnce, payload.to_string());
        if let Some(device) = &self.state().to_device {
            let _ = device.send(Packet::Publish(publish));
        }
    }

    /// Waits until the reported properties are so, and returns them.
    pub async fn until(&self, what: &str, so: impl FnMut(&Value) -> bool) -> Value {
        let mut reported = self.reported.subscribe();
        soon(what, reported.wait_for(so)).await.expect("the hub is there").clone()
    }

    pub fn reported(&self) -> Value {
        self.reported.borrow().clone()
    }

    /// The patches that the device reported.
    pub fn patches(&self) -> Vec<Value> {
        self.state().patches.clone()
    }

    /// Waits until so many messages were acknowledged, and returns all.
    pub async fn messages(&self, count: usize) -> Vec<String> {
        let mut messages = self.messages.subscribe();
        let enough = messages.wait_for(|messages| messages.len() >= count);
        soon("messages", enough).await.expect("the hub is there").clone()
    }

    /// What is to be answered; `None` cuts the line.
    fn take(&self, packet: Packet) -> Option<Vec<Packet>> {
        let publish = match packet {
            Packet::Connect(_) => {
                let refusal = self.trick(|trick| matches!(trick, Trick::Refuse(_)));
                let code = match refusal {
                    Some(Trick::Refuse(3)) => ConnectReturnCode::ServiceUnavailable,
                    Some(Trick::Refuse(_)) => ConnectReturnCode::NotAuthorized,
                    _ => ConnectReturnCode::Success,
                };
                return Some(vec![Packet::ConnAck(ConnAck::new(code, false))]);
            }
            Packet::Subscribe(subscribe) => {
                let granted = subscribe.filters.iter().map(|_| SubscribeReasonCode::Success(QoS::AtMostOnce));
                return Some(vec![Packet::SubAck(SubAck::new(subscribe.pkid, granted.collect()))]);
            }
            Packet::Publish(publish) => publish,
            Packet::PingReq => return Some(vec![Packet::PingResp]),
            Packet::Disconnect => return None,
            _ => return Some(Vec::new()),
        };
        if let Some(rest) = publish.topic.strip_prefix("$iothub/methods/res/") {
            let (status, rid) = rest.split_once("/?$rid=").expect("a status and an id");
            let payload = serde_json::from_slice(&publish.payload).expect("JSON");
            if let Some(waiting) = self.state().waiting.remove(rid) {
                let _ = waiting.send((status.parse().expect("a status"), payload));
            }
            return Some(Vec::new());
        }
        let Some(rest) = publish.topic.strip_prefix("$iothub/twin/") else {
            if self.trick(|trick| trick == Trick::CutAtMessage).is_some() {
                return None;
            }
            let body = String::from_utf8_lossy(&publish.payload).into_owned();
            self.messages.send_modify(|messages| messages.push(body));
            return Some(vec![Packet::PubAck(PubAck::new(publish.pkid))]);
        };
        if self.trick(|trick| trick == Trick::CutAtTwin).is_some() {
            return None;
        }
        let (_, rid) = rest.split_once("?$rid=").expect("an id");
        let (topic, body) = if rest.starts_with("GET/") {
            let twin = json!({ "desired": self.state().desired, "reported": self.reported() });
            (format!("$iothub/twin/res/200/?$rid={rid}"), twin.to_string())
        } else {
            let patch: Value = serde_json::from_slice(&publish.payload).expect("JSON");
            self.state().patches.push(patch.clone());
            let version = self.reported()["$version"].as_u64().expect("a version") + 1;
            self.reported.send_modify(|reported| {
                merge(reported, &patch);
                reported["$version"] = version.into();
            });
            (format!("$iothub/twin/res/204/?$rid={rid}&$version={version}"), String::new())
        };
        Some(vec![Packet::Publish(Publish::new(topic, QoS::AtMostOnce, body))])
    }
}

/// One connection, until it ends or is cut.
async fn serve(hub: Arc<Hub>, stream: TcpStream) {
    let Ok(mut stream) = hub.tls.acceptor.accept(stream).await else { return };
    let (to_device, mut outbox) = mpsc::unbounded_channel();
    hub.state().to_device = Some(to_device);
    let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
    loop {
        let answers = match Packet::read(&mut input, PACKET_BYTES_MAX) {
            Ok(packet) => match hub.take(packet) {
                Some(answers) => answers,
                None => return,
            },
            Err(mqttbytes::Error::InsufficientBytes(_)) => tokio::select! {
                biased;
                packet = outbox.recv() => match packet {
                    Some(packet) => vec![packet],
                    None => return,
                },
                read = stream.read_buf(&mut input) => match read {
                    Ok(0) | Err(_) => return,
                    Ok(_) => Vec::new(),
                },
            },
            Err(error) => panic!("the device sent what is not MQTT: {error}"),
        };
        for answer in answers {
            answer.write(&mut output, PACKET_BYTES_MAX).expect("a packet");
        }
        if stream.write_all_buf(&mut output).await.is_err() {
            return;
        }
        let _ = stream.flush().await;
    }
}
