//! Containers of blobs by their URL: a folder (`file:`), Azure blob storage (`https:` with its access signature), S3 (`s3:`).
//! Read a blob and write a blob, both as streams in a bounded amount of memory, every wait with a limit.
//!
//! It must never reach what the operator's [`ContainerPolicy`] does not name, and its errors must never show a signature.

mod error;
mod folder;
mod name;
mod policy;
mod remote;
mod stream;

pub use error::{ContainerError, Result};
pub use name::{BLOB_NAME_BYTES_MAX, BlobName};
pub use policy::{ContainerPolicy, S3Settings, StoreRule};
pub use remote::{PART_BYTES, PARTS_IN_FLIGHT_MAX, REQUEST_RETRIES_MAX};
pub use stream::BlobReader;

use std::time::Duration;

use bytes::Bytes;

/// A place that was opened under a policy.
#[derive(Debug)]
pub struct Container {
    place: Place,
    timeout: Duration,
}

#[derive(Debug)]
enum Place {
    Folder(folder::Folder),
    Remote(remote::Remote),
}

/// What is known of a blob without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobInfo {
    /// Its length.
    pub bytes: u64,
    /// Another text whenever its content is another.
    pub version: String,
}

impl Container {
    /// Looks whether the blob is there.
    pub async fn info(&self, name: &BlobName) -> Result<BlobInfo> {
        match &self.place {
            Place::Folder(folder) => self.limited(name, folder.info(name)).await,
            Place::Remote(remote) => self.limited(name, remote.info(name)).await,
        }
    }

    /// Begins to read a blob.
    pub async fn read(&self, name: &BlobName) -> Result<(BlobInfo, BlobReader)> {
        let (info, chunks) = match &self.place {
            Place::Folder(folder) => self.limited(name, folder.read(name)).await?,
            Place::Remote(remote) => self.limited(name, remote.read(name)).await?,
        };
        Ok((info, stream::reader(chunks, self.timeout)))
    }

    /// Begins to write a blob. It is there, whole, once [`BlobWriter::finish`] returns, and as before until then.
    pub async fn write(&self, name: &BlobName) -> Result<BlobWriter> {
        let sink = match &self.place {
            Place::Folder(folder) => Sink::File(self.limited(name, folder.write(name)).await?),
            Place::Remote(remote) => Sink::Upload(remote.write(name)?),
        };
        Ok(BlobWriter { sink, name: name.clone(), timeout: self.timeout })
    }

    async fn limited<T>(&self, name: &BlobName, work: impl Future<Output = Result<T>>) -> Result<T> {
        limited(name, self.timeout, work).await
    }
}

async fn limited<T>(name: &BlobName, limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    let done = tokio::time::timeout(limit, work).await;
    done.unwrap_or_else(|_| Err(ContainerError::Stalled { name: name.to_string(), after: limit }))
}

enum Sink {
    File(folder::FileWriter),
    Upload(Box<remote::Upload>),
}

/// A blob under way. Dropped early, it leaves the blob of before.
pub struct BlobWriter {
    sink: Sink,
    name: BlobName,
    timeout: Duration,
}

impl BlobWriter {
    /// Adds to the blob; waits while as much as may is on its way.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let Self { sink, name, timeout } = self;
        match sink {
            Sink::File(file) => limited(name, *timeout, file.write(name, bytes)).await,
            Sink::Upload(upload) => limited(name, *timeout, upload.write(name, bytes)).await,
        }
    }

    /// Makes the blob complete and, in a folder, durable.
    pub async fn finish(self) -> Result<()> {
        let Self { sink, name, timeout } = self;
        match sink {
            Sink::File(file) => limited(&name, timeout, file.finish(&name)).await,
            Sink::Upload(mut upload) => limited(&name, timeout, upload.finish(&name)).await,
        }
    }

    /// Gives up, and takes away what was sent as far as the place can.
    pub async fn abort(self) {
        let Self { sink, name, timeout } = self;
        let given_up = match sink {
            Sink::File(file) => limited(&name, timeout, file.abort(&name)).await,
            Sink::Upload(mut upload) => limited(&name, timeout, upload.abort(&name)).await,
        };
        // The blob of before is as it was in any case.
        drop(given_up);
    }
}
