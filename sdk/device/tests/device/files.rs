//! An HTTPS server that answers each request with the next reply of a list, however wrong, and remembers the ranges asked for.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// One answer.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    /// The length that is announced; less than that is sent if `body` is shorter.
    pub length: usize,
    pub body: Vec<u8>,
    /// Sends `body` over and over, and announces no length.
    pub endless: bool,
}

impl Reply {
    pub fn new(status: u16, body: &[u8]) -> Reply {
        Reply { status, length: body.len(), body: body.into(), endless: false }
    }

    /// Only the first bytes of what is announced.
    pub fn cut(status: u16, body: &[u8], at: usize) -> Reply {
        Reply { body: body[..at].into(), ..Reply::new(status, body) }
    }

    pub fn endless(body: &[u8]) -> Reply {
        Reply { endless: true, ..Reply::new(200, body) }
    }
}

/// See the module.
pub struct Files {
    port: u16,
    ranges: Arc<Mutex<Vec<Option<String>>>>,
}

impl Files {
    /// Replies in this order; the last one again and again.
    pub async fn start(acceptor: TlsAcceptor, replies: Vec<Reply>) -> Files {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let ranges: Arc<Mutex<Vec<Option<String>>>> = Arc::default();
        let asked = ranges.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // One request on each connection, one after the other.
                let _ = answer(&acceptor, stream, &replies, &asked).await;
            }
        });
        Files { port, ranges }
    }

    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}/image?signature=secret", self.port)
    }

    /// The `Range` headers of the requests so far.
    pub fn ranges(&self) -> Vec<Option<String>> {
        self.ranges.lock().expect("no panic").clone()
    }
}

async fn answer(
    acceptor: &TlsAcceptor,
    stream: TcpStream,
    replies: &[Reply],
    asked: &Mutex<Vec<Option<String>>>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(acceptor.accept(stream).await?);
    let mut range = None;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("range")
        {
            range = Some(value.trim().to_string());
        }
    }
    let number = {
        let mut asked = asked.lock().expect("no panic");
        asked.push(range);
        asked.len() - 1
    };
    let reply = &replies[number.min(replies.len() - 1)];
    let length = if reply.endless { String::new() } else { format!("Content-Length: {}\r\n", reply.length) };
    let head = format!("HTTP/1.1 {} Told\r\n{length}Connection: close\r\n\r\n", reply.status);
    stream.write_all(head.as_bytes()).await?;
    loop {
        stream.write_all(&reply.body).await?;
        if !reply.endless {
            return stream.shutdown().await;
        }
    }
}
