//! `BlobFolder`: the content of artifacts, one file per SHA-256, written as a stream and never held in memory.
//! A file has its final name only when it is whole and durable; what an upload left behind is removed at the next start.
//! It must never decide who may read: it only knows digests.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{Stream, StreamExt};
use hub_domain::artifact::Digest;
use hub_domain::limits::ARTIFACT_BYTES_MAX;
use sha2::{Digest as _, Sha256};
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt;

use crate::{Bytes, disk};

/// How the name of an unfinished upload ends.
const UPLOAD_SUFFIX: &str = ".upload";

/// The folder of stored files.
#[derive(Debug)]
pub struct BlobFolder {
    folder: PathBuf,
    bytes_max: u64,
    uploads: AtomicU64,
}

/// A file that was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Of its content; also its name.
    pub digest: Digest,
    /// Its length.
    pub bytes: u64,
}

impl BlobFolder {
    /// Opens or makes the folder, and removes what cut uploads left in it.
    pub async fn open(folder: &Path) -> Result<BlobFolder, BlobError> {
        BlobFolder::open_with_limit(folder, ARTIFACT_BYTES_MAX).await
    }

    /// Like `open`, with another limit than `ARTIFACT_BYTES_MAX` for the size of a file.
    pub async fn open_with_limit(folder: &Path, bytes_max: u64) -> Result<BlobFolder, BlobError> {
        let blobs = BlobFolder { folder: folder.to_owned(), bytes_max, uploads: AtomicU64::new(0) };
        let failed = |error| failed("open", folder, error);
        tokio::fs::create_dir_all(folder).await.map_err(failed)?;
        for name in blobs.names().await? {
            if name.ends_with(UPLOAD_SUFFIX) {
                tokio::fs::remove_file(folder.join(&name)).await.map_err(failed)?;
            }
        }
        Ok(blobs)
    }

    /// Stores what `chunks` brings and tells its digest. The same content is stored once.
    /// An error of the stream, too many bytes, or dropping this future leaves nothing behind.
    pub async fn add(&self, chunks: impl Stream<Item = io::Result<Bytes>>) -> Result<Blob, BlobError> {
        let upload = Upload(
            self.folder.join(format!("{}{UPLOAD_SUFFIX}", self.uploads.fetch_add(1, Ordering::Relaxed))),
        );
        let written = |error| failed("write", &upload.0, error);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(disk::PRIVATE_FILE)
            .open(&upload.0)
            .await
            .map_err(written)?;
        let mut hasher = Sha256::new();
        let mut bytes = 0_u64;
        let mut chunks = pin!(chunks);
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|source| BlobError::Cut { source })?;
            bytes += chunk.len() as u64;
            if bytes > self.bytes_max {
                return Err(BlobError::TooLarge { bytes_max: self.bytes_max });
            }
            hasher.update(&chunk);
            file.write_all(&chunk).await.map_err(written)?;
        }
        file.sync_all().await.map_err(written)?;
        let digest = Digest::from_bytes(&hasher.finalize().into());
        let path = self.path(&digest);
        // Over an older copy as well: it has the same content, and this one is known to be whole.
        tokio::fs::rename(&upload.0, &path).await.map_err(written)?;
        self.sync_folder(&path).await?;
        Ok(Blob { digest, bytes })
    }

    /// The file with this digest, to be read from any offset, and its length; `None` if it is not stored.
    /// It stays readable until closed, even if it is removed meanwhile.
    pub async fn get(&self, digest: &Digest) -> Result<Option<(File, u64)>, BlobError> {
        let path = self.path(digest);
        let opened = async {
            let file = File::open(&path).await?;
            let bytes = file.metadata().await?.len();
            Ok((file, bytes))
        };
        found(opened.await).map_err(|error| failed("read", &path, error))
    }

    /// Removes the file with this digest; tells whether there was one.
    pub async fn remove(&self, digest: &Digest) -> Result<bool, BlobError> {
        let path = self.path(digest);
        let removed =
            found(tokio::fs::remove_file(&path).await).map_err(|error| failed("remove", &path, error))?;
        if removed.is_some() {
            self.sync_folder(&path).await?;
        }
        Ok(removed.is_some())
    }

    /// Every stored file, in no order.
    pub async fn list(&self) -> Result<Vec<Blob>, BlobError> {
        let mut blobs = Vec::new();
        for name in self.names().await? {
            // Anything else in the folder is not ours, and neither is a digest in another spelling.
            let Some(digest) = Digest::parse(&name).filter(|digest| digest.as_str() == name) else {
                continue;
            };
            let path = self.path(&digest);
            let metadata =
                found(tokio::fs::metadata(&path).await).map_err(|error| failed("read", &path, error))?;
            blobs.extend(metadata.map(|metadata| Blob { digest, bytes: metadata.len() }));
        }
        Ok(blobs)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.as_str())
    }

    async fn names(&self) -> Result<Vec<String>, BlobError> {
        let read = async {
            let mut names = Vec::new();
            let mut entries = tokio::fs::read_dir(&self.folder).await?;
            while let Some(entry) = entries.next_entry().await? {
                names.extend(entry.file_name().into_string());
            }
            Ok(names)
        };
        read.await.map_err(|error| failed("list", &self.folder, error))
    }

    async fn sync_folder(&self, of: &Path) -> Result<(), BlobError> {
        let path = of.to_owned();
        let synced = tokio::task::spawn_blocking(move || disk::sync_folder_of(&path)).await;
        synced
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(|error| failed("sync", &self.folder, error))
    }
}

/// The file of an upload. Gone when this is dropped, unless it was renamed before.
struct Upload(PathBuf);

impl Drop for Upload {
    fn drop(&mut self) {
        // After the rename there is none, which is as it should be; what cannot be removed now is removed at the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn failed(doing: &'static str, path: &Path, source: io::Error) -> BlobError {
    let path = path.to_owned();
    if disk::is_no_room(&source) {
        BlobError::DiskFull { path }
    } else {
        BlobError::Failed { doing, path, source }
    }
}

/// Why a file could not be stored, read or removed.
#[derive(Debug)]
pub enum BlobError {
    /// The content has more bytes than a file may have.
    TooLarge { bytes_max: u64 },
    /// The stream that brought the content failed.
    Cut { source: io::Error },
    /// The disk has no room.
    DiskFull { path: PathBuf },
    /// The file system refused.
    Failed { doing: &'static str, path: PathBuf, source: io::Error },
}

impl fmt::Display for BlobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlobError::TooLarge { bytes_max } => write!(f, "the file is larger than {bytes_max} bytes"),
            BlobError::Cut { .. } => write!(f, "the upload ended before the file was whole"),
            BlobError::DiskFull { path } => write!(f, "no room left on the disk of {}", path.display()),
            BlobError::Failed { doing, path, .. } => write!(f, "cannot {doing} {}", path.display()),
        }
    }
}

impl Error for BlobError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            BlobError::Cut { source } | BlobError::Failed { source, .. } => Some(source),
            BlobError::TooLarge { .. } | BlobError::DiskFull { .. } => None,
        }
    }
}
