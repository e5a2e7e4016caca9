//! The smallest HTTP client that can load a hub: one connection that is kept, one request at a time, and bodies that are
//! counted and not looked at. So what is measured is the hub, not a client.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::fleet::Rest;
use crate::hub::Hub;

/// Longest head of an answer, bytes.
const HEAD_MAX: usize = 16 * 1024;
/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;

/// One connection, as the hub's owner.
pub struct KeepAlive {
    stream: TlsStream<TcpStream>,
    authorization: String,
    answer: Vec<u8>,
}

impl KeepAlive {
    /// Connects to a hub.
    pub async fn connect(hub: &Hub, rest: &Rest) -> Result<Self> {
        let socket = TcpStream::connect(&hub.https).await?;
        socket.set_nodelay(true)?;
        let connector = TlsConnector::from(hub.tls.clone());
        let stream = connector.connect(ServerName::try_from("localhost")?, socket).await?;
        Ok(Self { stream, authorization: rest.authorization().to_owned(), answer: Vec::new() })
    }

    /// Connects a connection for each of many callers.
    pub async fn connect_many(hub: &Hub, rest: &Rest, callers: usize) -> Result<Vec<Arc<Mutex<Self>>>> {
        let mut connections = Vec::with_capacity(callers);
        for _ in 0..callers {
            connections.push(Arc::new(Mutex::new(Self::connect(hub, rest).await?)));
        }
        Ok(connections)
    }

    /// Sends a GET and returns the length of the answer's body; errs unless its status is 200.
    pub async fn get(&mut self, path: &str) -> Result<usize> {
        self.send("GET", path, "").await
    }

    /// Likewise a POST of JSON text.
    pub async fn post(&mut self, path: &str, body: &str) -> Result<usize> {
        self.send("POST", path, body).await
    }

    /// Likewise a PATCH of JSON text.
    pub async fn patch(&mut self, path: &str, body: &str) -> Result<usize> {
        self.send("PATCH", path, body).await
    }

    /// Begins to watch a query, given percent-encoded; the connection then only brings events. Returns when it has told its
    /// rows.
    pub async fn watch(&mut self, query: &str) -> Result<()> {
        let request = format!(
            "GET /api/queries/watch?api-version=2021-04-12&query={query} HTTP/1.1\r\nhost: localhost\r\n\
             authorization: {}\r\n\r\n",
            self.authorization
        );
        self.stream.write_all(request.as_bytes()).await?;
        self.stream.flush().await?;
        self.told("ready").await
    }

    /// Waits for an event of a watch.
    pub async fn told(&mut self, event: &str) -> Result<()> {
        self.answer.clear();
        let line = format!("event: {event}\n");
        while !self.answer.windows(line.len()).any(|window| window == line.as_bytes()) {
            if self.answer.len() > HEAD_MAX {
                bail!("no '{event}' in {}", String::from_utf8_lossy(&self.answer));
            }
            self.read_more().await?;
        }
        Ok(())
    }

    async fn send(&mut self, method: &str, path: &str, body: &str) -> Result<usize> {
        let request = format!(
            "{method} {path}?api-version=2021-04-12 HTTP/1.1\r\nhost: localhost\r\nauthorization: {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.authorization,
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await?;
        self.stream.flush().await?;
        self.answer.clear();
        let head = loop {
            if let Some(end) = self.answer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            if self.answer.len() > HEAD_MAX {
                bail!("the head of the answer to {method} {path} does not end");
            }
            self.read_more().await?;
        };
        let text = std::str::from_utf8(&self.answer[..head])?.to_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.context("an answer without content-length")?.trim().parse()?;
        let mut missing = (head + 4 + length).saturating_sub(self.answer.len());
        while missing > 0 {
            let before = self.answer.len();
            self.read_more().await?;
            missing = missing.saturating_sub(self.answer.len() - before);
        }
        if !text.starts_with("http/1.1 200") {
            bail!("{method} {path}: {}", String::from_utf8_lossy(&self.answer));
        }
        Ok(length)
    }

    async fn read_more(&mut self) -> Result<()> {
        self.answer.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.answer).await? {
            0 => bail!("the hub closed the connection"),
            _ => Ok(()),
        }
    }
}
