//! A container that is a folder. Every step into it is taken from the folder above and follows no symbolic link, so nothing
//! that somebody puts there, not even meanwhile, leads out of it.

use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, mkdirat, openat, renameat, statat, unlinkat};
use tokio::io::AsyncWriteExt;
use tokio_util::io::ReaderStream;

use crate::BlobInfo;
use crate::error::{ContainerError, Result};
use crate::name::BlobName;
use crate::stream::Chunks;

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// A folder under the one that the settings allow.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    below: Vec<String>,
}

impl Folder {
    /// The folder `path`, which must be `root` or below it.
    pub(crate) fn new(root: &Path, path: &Path) -> Result<Self> {
        let refuse = |why: &str| {
            let (path, root) = (path.display(), root.display());
            ContainerError::Refused(format!("the folder {path} {why}: the setting bulk.folder allows {root}"))
        };
        let rest = path.strip_prefix(root).map_err(|_| refuse("is not allowed"))?;
        let below = rest.components().map(|part| match part {
            Component::Normal(name) => name.to_str().map(String::from).ok_or_else(|| refuse("is not UTF-8")),
            _ => Err(refuse("has '..' in it")),
        });
        Ok(Self { root: root.to_owned(), below: below.collect::<Result<_>>()? })
    }

    pub(crate) async fn info(&self, name: &BlobName) -> Result<BlobInfo> {
        let (info, _) = self.open(name).await?;
        Ok(info)
    }

    pub(crate) async fn read(&self, name: &BlobName) -> Result<(BlobInfo, Chunks)> {
        let (info, file) = self.open(name).await?;
        let chunks = ReaderStream::with_capacity(tokio::fs::File::from_std(file), CHUNK_BYTES);
        Ok((info, chunks.into_stream().boxed()))
    }

    async fn open(&self, name: &BlobName) -> Result<(BlobInfo, File)> {
        let name = name.clone();
        self.blocking(name.clone(), move |folder| {
            let (dir, last) = folder.enter(&name, false)?;
            // A pipe would make whoever opens it wait.
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = File::from(openat(&dir, &last, flags, Mode::empty())?);
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                return Err(io::Error::other("it is not a file"));
            }
            let modified = metadata.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            let version = format!("{}-{}", modified.as_nanos(), metadata.len());
            Ok((BlobInfo { bytes: metadata.len(), version }, file))
        })
        .await
    }

    pub(crate) async fn write(&self, name: &BlobName) -> Result<FileWriter> {
        let name = name.clone();
        self.blocking(name.clone(), move |folder| {
            let (dir, last) = folder.enter(&name, true)?;
            let part = format!(".{last}.part");
            let flags =
                OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = File::from(openat(&dir, &part, flags, Mode::RUSR | Mode::WUSR)?);
            // One that a killed process left has no lock and is taken over.
            let is_mine = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
                && statat(&dir, &part, AtFlags::SYMLINK_NOFOLLOW)?.st_ino == rustix::fs::fstat(&file)?.st_ino;
            if !is_mine {
                return Err(io::Error::other("something else is writing it"));
            }
            file.set_len(0)?;
            Ok(FileWriter { file: tokio::fs::File::from_std(file), dir, part, last })
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        name: BlobName,
        work: impl FnOnce(&Folder) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let folder = self.clone();
        blocking(&name, move || work(&folder)).await
    }

    /// Goes down to the folder of a blob, and says how the blob is called in it.
    fn enter(&self, name: &BlobName, make: bool) -> io::Result<(File, String)> {
        let mut dir = File::open(&self.root).map_err(|error| {
            io::Error::new(error.kind(), format!("the folder of the setting bulk.folder: {error}"))
        })?;
        let (folders, last) = name.split();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let step = |dir: &File, below: &str| -> io::Result<File> {
            openat(dir, below, flags, Mode::empty()).map(File::from).map_err(|error| {
                let error = io::Error::from(error);
                io::Error::new(error.kind(), format!("the folder '{below}' cannot be entered: {error}"))
            })
        };
        for below in &self.below {
            dir = step(&dir, below)?;
        }
        for below in folders {
            if make
                && let Err(error) = mkdirat(&dir, below, Mode::RWXU)
                && error != rustix::io::Errno::EXIST
            {
                return Err(error.into());
            }
            dir = step(&dir, below)?;
        }
        Ok((dir, last.to_owned()))
    }
}

async fn blocking<T: Send + 'static>(
    name: &BlobName,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.unwrap_or_else(|_| Err(io::Error::other("the file system's thread ended")));
    done.map_err(|error| ContainerError::io(name.as_str(), &error))
}

/// A file under another name until it is complete.
pub(crate) struct FileWriter {
    file: tokio::fs::File,
    dir: File,
    part: String,
    last: String,
}

impl FileWriter {
    pub(crate) async fn write(&mut self, name: &BlobName, bytes: Bytes) -> Result<()> {
        self.file.write_all(&bytes).await.map_err(|error| ContainerError::io(name.as_str(), &error))
    }

    pub(crate) async fn finish(mut self, name: &BlobName) -> Result<()> {
        let flushed = async {
            self.file.flush().await?;
            self.file.sync_all().await
        };
        flushed.await.map_err(|error| ContainerError::io(name.as_str(), &error))?;
        let Self { dir, part, last, .. } = self;
        blocking(name, move || {
            renameat(&dir, &part, &dir, &last)?;
            dir.sync_all()
        })
        .await
    }

    pub(crate) async fn abort(self, name: &BlobName) -> Result<()> {
        let Self { dir, part, .. } = self;
        blocking(name, move || Ok(unlinkat(&dir, &part, AtFlags::empty())?)).await
    }
}
