//! The smallest MQTT client that can load a hub: it knows just the packets that the benchmarks use.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Bytes read at once, which may be many packets.
const READ_BYTES: usize = 4096;
/// Bytes of a PUBACK.
const ACKNOWLEDGEMENT_BYTES: usize = 4;

/// One connection.
pub struct Client {
    stream: BufReader<TlsStream<TcpStream>>,
    next_packet: u16,
}

/// Something that the hub published.
pub struct Publish {
    /// The topic.
    pub topic: String,
    /// The payload.
    pub payload: Vec<u8>,
}

fn text(into: &mut Vec<u8>, text: &str) {
    into.extend_from_slice(&(text.len() as u16).to_be_bytes());
    into.extend_from_slice(text.as_bytes());
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![kind];
    let mut length = body.len();
    loop {
        let byte = (length % 128) as u8;
        length /= 128;
        packet.push(if length > 0 { byte | 0x80 } else { byte });
        if length == 0 {
            break;
        }
    }
    packet.extend_from_slice(body);
    packet
}

impl Client {
    /// Connects over TLS and says CONNECT; returns once the hub accepted.
    pub async fn connect(
        tls: Arc<rustls::ClientConfig>,
        address: &str,
        device: &str,
        token: &str,
    ) -> Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let stream = TlsConnector::from(tls).connect(ServerName::try_from("localhost")?, socket).await?;
        let mut client = Self { stream: BufReader::with_capacity(READ_BYTES, stream), next_packet: 1 };
        let mut body = Vec::new();
        text(&mut body, "MQTT");
        body.extend_from_slice(&[4, 0xc0, 0, 240]);
        text(&mut body, device);
        text(&mut body, &format!("localhost/{device}/?api-version=2021-04-12"));
        text(&mut body, token);
        client.write(&packet(0x10, &body)).await?;
        match client.read().await? {
            (0x20, answer) if answer.get(1) == Some(&0) => Ok(client),
            (kind, answer) => bail!("the hub answered CONNECT with {kind:#x} {answer:?}"),
        }
    }

    /// Writes and flushes: TLS keeps bytes back when the socket takes none at the moment.
    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    async fn read(&mut self) -> Result<(u8, Vec<u8>)> {
        let kind = self.stream.read_u8().await?;
        let (mut length, mut shift) = (0usize, 0);
        loop {
            let byte = self.stream.read_u8().await?;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await?;
        Ok((kind, body))
    }

    /// Subscribes at QoS 0 and waits for the acknowledgement.
    pub async fn subscribe(&mut self, filters: &[&str]) -> Result<()> {
        let mut body = self.packet_id().to_vec();
        for filter in filters {
            text(&mut body, filter);
            body.push(0);
        }
        self.write(&packet(0x82, &body)).await?;
        loop {
            if self.read().await?.0 == 0x90 {
                return Ok(());
            }
        }
    }

    fn packet_id(&mut self) -> [u8; 2] {
        let id = self.next_packet;
        self.next_packet = id.checked_add(1).unwrap_or(1);
        id.to_be_bytes()
    }

    /// Publishes at QoS 0.
    pub async fn publish(&mut self, topic: &str, payload: &[u8]) -> Result<()> {
        let mut body = Vec::with_capacity(topic.len() + payload.len() + 2);
        text(&mut body, topic);
        body.extend_from_slice(payload);
        self.write(&packet(0x30, &body)).await
    }

    /// Publishes the same `count` times at QoS 1 in one write; the acknowledgements are still to come.
    pub async fn publish_many(&mut self, topic: &str, payload: &[u8], count: usize) -> Result<()> {
        let mut packets = Vec::with_capacity(count * (topic.len() + payload.len() + 8));
        for _ in 0..count {
            let mut body = Vec::with_capacity(topic.len() + payload.len() + 4);
            text(&mut body, topic);
            body.extend_from_slice(&self.packet_id());
            body.extend_from_slice(payload);
            packets.extend_from_slice(&packet(0x32, &body));
        }
        self.write(&packets).await
    }

    /// Waits for an acknowledgement; returns how many came with it, itself among them.
    pub async fn acknowledged(&mut self) -> Result<usize> {
        let mut count = 0;
        while count == 0 || self.stream.buffer().len() >= ACKNOWLEDGEMENT_BYTES {
            count += usize::from(self.read().await?.0 == 0x40);
        }
        Ok(count)
    }

    /// Patches the device's reported properties and waits until the hub has them on disk.
    pub async fn patch_reported(&mut self, number: u64, patch: &str) -> Result<()> {
        let topic = format!("$iothub/twin/PATCH/properties/reported/?$rid={number}");
        self.publish(&topic, patch.as_bytes()).await?;
        let answer = self.next().await?;
        if !answer.topic.starts_with("$iothub/twin/res/204/") {
            bail!("{} {}", answer.topic, String::from_utf8_lossy(&answer.payload));
        }
        Ok(())
    }

    /// The next thing that the hub publishes.
    pub async fn next(&mut self) -> Result<Publish> {
        loop {
            let (kind, body) = self.read().await?;
            if kind & 0xf0 != 0x30 {
                continue;
            }
            let length =
                body.get(..2).map(|b| usize::from(u16::from_be_bytes([b[0], b[1]]))).context("a topic")?;
            let topic = String::from_utf8(body.get(2..2 + length).context("a topic")?.to_vec())?;
            let skip = if kind & 0x06 == 0 { 0 } else { 2 };
            return Ok(Publish { topic, payload: body[2 + length + skip..].to_vec() });
        }
    }
}
