//! Server-sent events of the hub, message by message, and when to try again after a stream broke.
//! Must never wait for ever: the hub says that it lives, and one that does not is given up.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use reqwest::RequestBuilder;

use crate::client::Client;
use crate::error::Result;

/// The hub says more often than this that it lives.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Pause before a stream is taken up again; doubled after each failure.
const RESUME_PAUSE_MIN: Duration = Duration::from_millis(500);
/// Longest such pause.
const RESUME_PAUSE_MAX: Duration = Duration::from_secs(30);
/// Longest line of a stream: a message of 256 KB with every byte escaped, and room for the rest.
const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Pauses between attempts, longer and longer.
pub(crate) struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(RESUME_PAUSE_MIN)
    }
}

impl Pauses {
    /// How long the next one is.
    pub(crate) fn seconds(&self) -> f32 {
        self.0.as_secs_f32()
    }

    /// Waits.
    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(RESUME_PAUSE_MAX);
    }
}

/// One message of the stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// The position.
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) data: String,
}

type Chunks = BoxStream<'static, reqwest::Result<Vec<u8>>>;

/// The lines of an open stream.
pub(crate) struct Lines {
    chunks: Chunks,
    parser: Parser,
}

impl Lines {
    /// Sends the request, whose answer is the stream; errs if the hub refuses.
    pub(crate) async fn open(client: &Client, request: RequestBuilder) -> Result<Lines> {
        let response = client.send(request).await?;
        let chunks = response.bytes_stream().map(|chunk| chunk.map(|bytes| bytes.to_vec())).boxed();
        Ok(Lines { chunks, parser: Parser::default() })
    }

    /// The next message, or how the stream broke.
    pub(crate) async fn message(&mut self) -> Result<Message, String> {
        loop {
            if let Some(message) = self.parser.next() {
                return Ok(message);
            }
            match tokio::time::timeout(SILENCE_MAX, self.chunks.next()).await {
                Err(_) => return Err("the hub is silent".into()),
                Ok(None) => return Err("the hub closed it".into()),
                Ok(Some(Err(error))) => return Err(error.to_string()),
                Ok(Some(Ok(chunk))) => self.parser.push(&chunk)?,
            }
        }
    }
}

/// Bytes to messages.
#[derive(Default)]
struct Parser {
    bytes: Vec<u8>,
    message: Message,
}

impl Parser {
    fn push(&mut self, chunk: &[u8]) -> Result<(), String> {
        if self.bytes.len() + chunk.len() > LINE_BYTES_MAX {
            return Err(format!("a line of it is longer than {LINE_BYTES_MAX} bytes"));
        }
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }

    fn next(&mut self) -> Option<Message> {
        let mut start = 0;
        let mut found = None;
        while let Some(length) = self.bytes[start..].iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&self.bytes[start..start + length]).into_owned();
            start += length + 1;
            if self.line(line.trim_end_matches('\r')) {
                found = Some(std::mem::take(&mut self.message));
                break;
            }
        }
        self.bytes.drain(..start);
        found
    }

    /// Takes a line; true when it ends a message that has data.
    fn line(&mut self, line: &str) -> bool {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" if line.is_empty() => return !self.message.data.is_empty(),
            "id" => self.message.id = value.into(),
            "event" => self.message.name = value.into(),
            "data" if self.message.data.is_empty() => self.message.data = value.into(),
            "data" => self.message.data = format!("{}\n{value}", self.message.data),
            _ => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_whole_however_the_bytes_are_cut() {
        let text =
            b": keep alive\n\nid: 4.0\nevent: twin\ndata: {\"a\":1}\n\nid: 5.0\r\ndata: x\r\ndata: y\r\n\r\n";
        let expected = [("4.0", "twin", "{\"a\":1}"), ("5.0", "", "x\ny")];
        for size in 1..text.len() {
            let mut parser = Parser::default();
            let mut found = Vec::new();
            for chunk in text.chunks(size) {
                parser.push(chunk).expect("short enough");
                while let Some(message) = parser.next() {
                    found.push(message);
                }
            }
            let found: Vec<_> =
                found.iter().map(|m| (m.id.as_str(), m.name.as_str(), m.data.as_str())).collect();
            assert_eq!(found, expected, "in pieces of {size}");
        }
    }
}
