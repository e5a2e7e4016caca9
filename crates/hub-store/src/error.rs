//! The errors of storage. A message says what happened, to which key or file, and what helps; the cause underneath is
//! only in `source()`, so that printing the chain says nothing twice.
//! No variant may carry a stored value: rows hold keys of devices.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::Key;

/// A cause that several answers can share: one failed sync fails every batch of its group.
pub type Cause = Arc<dyn Error + Send + Sync>;

/// Why a read failed, or why the store cannot take anything now.
#[derive(Clone, Debug)]
pub enum StoreError {
    /// The disk has no room; nothing of the batch was written. Writes work again when there is room.
    DiskFull { path: PathBuf },
    /// The storage engine failed. The outcome of a write is unknown.
    Unavailable { doing: &'static str, source: Cause },
    /// The store takes no writes until the process is started again.
    Stopped { reason: String },
    /// `close` was called.
    Closed,
    /// The row at `key` is there and cannot be understood.
    Corrupt { key: Key, problem: String },
}

impl StoreError {
    /// `Unavailable` while `doing` something, because of `source`.
    pub fn unavailable(doing: &'static str, source: impl Error + Send + Sync + 'static) -> StoreError {
        StoreError::Unavailable { doing, source: Arc::new(source) }
    }

    /// `Corrupt` at `key`: `problem` says what is wrong and, if known, what helps.
    pub fn corrupt(key: &Key, problem: impl Into<String>) -> StoreError {
        StoreError::Corrupt { key: key.clone(), problem: problem.into() }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::DiskFull { path } => {
                write!(
                    f,
                    "no room left on the disk of {}: free some space, then writes work again",
                    path.display()
                )
            }
            StoreError::Unavailable { doing, .. } => write!(f, "the store failed while {doing}"),
            StoreError::Stopped { reason } => write!(f, "the store takes no more writes: {reason}"),
            StoreError::Closed => write!(f, "the store is closed"),
            StoreError::Corrupt { key, problem } => write!(f, "the stored row {key} is damaged: {problem}"),
        }
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            StoreError::Unavailable { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Why a batch was not applied.
#[derive(Clone, Debug)]
pub enum CommitError {
    /// `key` was not as the batch expected: read again, decide again. Nothing was written.
    Conflict { key: Key },
    /// The batch has more than `limit` bytes. Nothing was written.
    TooLarge { bytes: usize, limit: usize },
    /// The store failed. Unless it says otherwise, the outcome is unknown.
    Unavailable(StoreError),
}

impl CommitError {
    /// Whether the batch may have been written all the same: only reading it again would tell.
    pub fn outcome_is_unknown(&self) -> bool {
        matches!(self, CommitError::Unavailable(StoreError::Unavailable { .. }))
    }
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommitError::Conflict { key } => {
                write!(f, "the row {key} was changed by somebody else meanwhile")
            }
            CommitError::TooLarge { bytes, limit } => {
                write!(f, "a batch of {bytes} bytes is too large: at most {limit} bytes fit into one commit")
            }
            CommitError::Unavailable(error) => error.fmt(f),
        }
    }
}

impl Error for CommitError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            // The store error is shown in place of this one, so the chain goes on below it.
            CommitError::Unavailable(error) => error.source(),
            CommitError::Conflict { .. } | CommitError::TooLarge { .. } => None,
        }
    }
}

impl From<StoreError> for CommitError {
    fn from(error: StoreError) -> CommitError {
        CommitError::Unavailable(error)
    }
}

/// Why the file of the embedded store could not be opened.
#[derive(Clone, Debug)]
pub enum OpenError {
    /// The folder or file may not be written by this user, or does not exist.
    NotWritable { path: PathBuf, source: Arc<std::io::Error> },
    /// Another process has the file open.
    InUse { path: PathBuf },
    /// The file is not a store, or is damaged.
    Damaged { path: PathBuf, problem: String },
    /// A later release wrote the file.
    NewerFormat { path: PathBuf, found: u64, known: u64 },
    /// There is no room on the disk to open the file.
    DiskFull { path: PathBuf },
    /// Anything else.
    Failed { path: PathBuf, source: Cause },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::NotWritable { path, .. } => write!(
                f,
                "cannot write {}: the folder must exist and belong to the user that runs the hub",
                path.display()
            ),
            OpenError::InUse { path } => write!(
                f,
                "{} is in use by another process: a data folder belongs to one running hub",
                path.display()
            ),
            OpenError::Damaged { path, problem } => write!(
                f,
                "{} is damaged or no store of this hub ({problem}): it was left as it is; restore it from a backup",
                path.display()
            ),
            OpenError::NewerFormat { path, found, known } => write!(
                f,
                "{} was written by a newer release (format {found}, this release knows {known}): start that release",
                path.display()
            ),
            OpenError::DiskFull { path } => {
                write!(f, "no room left on the disk of {}: free some space and start again", path.display())
            }
            OpenError::Failed { path, .. } => write!(f, "cannot open {}", path.display()),
        }
    }
}

impl Error for OpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            OpenError::NotWritable { source, .. } => Some(source),
            OpenError::Failed { source, .. } => Some(source),
            _ => None,
        }
    }
}
