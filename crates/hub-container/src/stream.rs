//! A blob as it is read: chunks one after another, each with a limit on how long it may take.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio_util::io::StreamReader;

/// Chunks of a blob.
pub(crate) type Chunks = BoxStream<'static, io::Result<Bytes>>;

/// Reads a blob. It errs with [`io::ErrorKind::TimedOut`] when the place falls silent.
pub type BlobReader = StreamReader<Chunks, Bytes>;

pub(crate) fn reader(chunks: Chunks, limit: Duration) -> BlobReader {
    let limited = stream::unfold(Some(chunks), move |chunks| async move {
        let mut chunks = chunks?;
        match tokio::time::timeout(limit, chunks.next()).await {
            Ok(Some(chunk)) => Some((chunk, Some(chunks))),
            Ok(None) => None,
            Err(_) => {
                let text = format!("the container fell silent for {} s", limit.as_secs_f32());
                Some((Err(io::Error::new(io::ErrorKind::TimedOut, text)), None))
            }
        }
    });
    StreamReader::new(limited.boxed())
}
