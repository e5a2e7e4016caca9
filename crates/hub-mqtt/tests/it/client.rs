//! A raw MQTT client over real TLS: it sends what a test tells it to, right or wrong, and shows what comes back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hub_engine::tasks::TaskKind;
use hub_mqtt::{Config, Mqtt};
use hub_testkit::{HOSTNAME, TestHub};
use rustls_pki_types::{PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longest wait for something that must come.
const WAIT: Duration = Duration::from_secs(20);

/// A hub in memory with its MQTT listener on a real socket.
pub struct Server {
    pub test: TestHub,
    pub address: SocketAddr,
    trust: Arc<rustls::ClientConfig>,
}

impl Server {
    pub async fn start() -> Self {
        Self::start_with(Config::default()).await
    }

    pub async fn start_with(config: Config) -> Self {
        let test = TestHub::start().await;
        let made = rcgen::generate_simple_self_signed(["localhost".to_string()]).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let tls = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("a server certificate");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a root");
        let trust = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let mqtt = Mqtt::new(test.hub.clone(), test.tasks.clone(), &config);
        let stop = test.tasks.stopping();
        test.tasks.spawn(TaskKind::Listener, async move { mqtt.serve(listener, Arc::new(tls), stop).await });
        Self { test, address, trust: Arc::new(trust) }
    }

    /// A TLS connection on which nothing was said yet.
    pub async fn raw(&self) -> Client {
        let socket = TcpStream::connect(self.address).await.expect("connected");
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = TlsConnector::from(self.trust.clone()).connect(name, socket).await.expect("TLS");
        Client { stream, buffer: BytesMut::new() }
    }

    /// Says CONNECT as `name` (`d` or `d/m`) with `token`; returns the code of CONNACK and the client.
    pub async fn connect_with(&self, name: &str, token: &str, options: Options) -> (u8, Client) {
        let mut client = self.raw().await;
        client
            .send(&connect(name, &format!("{HOSTNAME}/{name}/?api-version=2021-04-12"), token, &options))
            .await;
        let (kind, body) = client.packet().await.expect("CONNACK");
        assert_eq!((kind, body.len()), (0x20, 2));
        (body[1], client)
    }

    /// Registers a device and connects it.
    pub async fn device(&self, name: &str) -> Client {
        let (_, token) = self.test.register(name).await;
        let (code, client) = self.connect_with(name, &token, Options::default()).await;
        assert_eq!(code, 0);
        client
    }
}

/// How a client connects, besides who it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub clean: bool,
    pub keep_alive: u16,
    pub will: Option<(&'static str, &'static str)>,
}

pub fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

pub fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let (mut packet, mut length) = (vec![kind], body.len());
    loop {
        packet.push((length % 128) as u8 | if length > 127 { 0x80 } else { 0 });
        length /= 128;
        if length == 0 {
            break;
        }
    }
    packet.extend_from_slice(body);
    packet
}

/// A PUBLISH; `id` counts from QoS 1 on.
pub fn publish(topic: &str, qos: u8, id: u16, payload: &[u8]) -> Vec<u8> {
    let id = id.to_be_bytes();
    let id: &[u8] = if qos > 0 { &id } else { &[] };
    packet(0x30 | qos << 1, &[&text(topic), id, payload].concat())
}

pub fn connect(client_id: &str, username: &str, token: &str, options: &Options) -> Vec<u8> {
    let flags = 0xc0 | if options.clean { 2 } else { 0 } | if options.will.is_some() { 0x0c } else { 0 };
    let mut body =
        [text("MQTT"), vec![4, flags], options.keep_alive.to_be_bytes().to_vec(), text(client_id)].concat();
    if let Some((topic, message)) = options.will {
        body.extend([text(topic), text(message)].concat());
    }
    body.extend([text(username), text(token)].concat());
    packet(0x10, &body)
}

pub struct Client {
    stream: TlsStream<TcpStream>,
    buffer: BytesMut,
}

impl Client {
    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("written");
        self.stream.flush().await.expect("flushed");
    }

    /// Sends as much as the hub takes; says whether it took everything.
    pub async fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok() && self.stream.flush().await.is_ok()
    }

    pub async fn publish(&mut self, topic: &str, qos: u8, payload: &[u8]) {
        self.send(&publish(topic, qos, 7, payload)).await;
    }

    /// Subscribes and returns the codes of SUBACK.
    pub async fn subscribe(&mut self, filters: &[(&str, u8)]) -> Bytes {
        let mut body = vec![0, 9];
        for (filter, qos) in filters {
            body.extend(text(filter));
            body.push(*qos);
        }
        self.send(&packet(0x82, &body)).await;
        let (kind, body) = self.packet().await.expect("SUBACK");
        assert_eq!((kind, &body[..2]), (0x90, &[0, 9][..]));
        body.slice(2..)
    }

    /// The next packet, or `None` when the hub closed the connection.
    pub async fn packet(&mut self) -> Option<(u8, Bytes)> {
        tokio::time::timeout(WAIT, self.read()).await.expect("something within the time limit")
    }

    async fn read(&mut self) -> Option<(u8, Bytes)> {
        loop {
            if let Some((header, length)) = header(&self.buffer)
                && self.buffer.len() >= header + length
            {
                let packet = self.buffer.split_to(header + length).freeze();
                return Some((packet[0], packet.slice(header..)));
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return None,
            }
        }
    }

    /// The next publish: topic and payload.
    pub async fn published(&mut self) -> (String, Bytes) {
        let (kind, body) = self.packet().await.expect("a publish");
        assert_eq!(kind & 0xf6, 0x30, "a publish at QoS 0");
        let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
        (String::from_utf8(body[2..2 + length].to_vec()).expect("text"), body.slice(2 + length..))
    }

    /// Waits for the hub to close the connection; what it sends before is passed over.
    pub async fn closed(&mut self) {
        while self.packet().await.is_some() {}
    }
}

fn header(buffer: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for (at, byte) in buffer.iter().skip(1).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((at + 2, length));
        }
    }
    None
}
