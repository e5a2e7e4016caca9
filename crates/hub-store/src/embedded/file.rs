//! The file under the store: opening it with errors an operator understands, and watching its syncs.
//! It must never open a file for writing again after a failed sync: the kernel forgets what it could not write, so what
//! reads back fine may not be on the disk.

use std::fmt::Debug;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::backends::FileBackend;
use redb::{
    BackendError, Database, DatabaseError, ReadOnlyTable, ReadableDatabase, StorageBackend, StorageError,
    TableDefinition,
};

use crate::{Commit, OpenError, StoreError, disk};

/// Every row of the store.
pub const ROWS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("rows");
/// Numbers about the file itself.
pub const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// `META`: the format of the file.
const FORMAT: &str = "format";
/// `META`: the number of the newest commit.
pub const LAST_COMMIT: &str = "last-commit";
/// The format that this release writes.
const FORMAT_KNOWN: u64 = 1;

/// Makes the thing that redb reads and writes. A test puts a failing disk here.
type Backend = Box<dyn Fn(File) -> Result<Box<dyn StorageBackend>, DatabaseError> + Send + Sync>;

/// Where the store's file is and how it is opened.
pub struct DataFile {
    path: PathBuf,
    cache_bytes: usize,
    backend: Backend,
    sync_failed: Arc<AtomicBool>,
}

impl DataFile {
    pub fn new(path: &Path, cache_bytes: usize) -> DataFile {
        DataFile::with_backend(path, cache_bytes, Box::new(|file| Ok(Box::new(FileBackend::new(file)?))))
    }

    pub fn with_backend(path: &Path, cache_bytes: usize, backend: Backend) -> DataFile {
        DataFile { path: path.to_owned(), cache_bytes, backend, sync_failed: Arc::default() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn sync_failed(&self) -> bool {
        self.sync_failed.load(Ordering::Acquire)
    }

    pub fn disk_bytes(&self) -> io::Result<u64> {
        Ok(std::fs::metadata(&self.path)?.len())
    }

    /// Opens or makes the file; tells the number of the newest commit in it.
    pub fn open(&self) -> Result<(Database, Commit), OpenError> {
        self.create_if_absent()?;
        let file = file_options().open(&self.path).map_err(|error| self.cannot_open(error))?;
        // The engine would take an empty file for a new one; a store is never empty, so here something was lost.
        if file.metadata().map_err(|error| self.cannot_open(error))?.len() == 0 {
            return Err(self.damaged("it is empty"));
        }
        self.guard(|| {
            let database = self.database_in(file)?;
            let last = read_meta(&database)?;
            Ok((database, last))
        })
    }

    /// Makes the file under another name first, so that a crash or a full disk leaves a whole store or none.
    fn create_if_absent(&self) -> Result<(), OpenError> {
        let is_there = || self.path.try_exists().map_err(|error| self.cannot_open(error));
        if is_there()? {
            return Ok(());
        }
        let mut name = self.path.as_os_str().to_owned();
        name.push(".new");
        let new = Path::new(&name);
        let file = file_options().create(true).open(new).map_err(|error| self.cannot_open(error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { path: self.path.clone() }),
            Err(TryLockError::Error(error)) => return Err(self.cannot_open(error)),
        }
        // Another process may have made the store before this one had the lock.
        let made = match is_there()? {
            true => return Ok(()),
            false => self.create(&file, new),
        };
        if made.is_err() {
            // Of no use, and overwritten at the next start in any case.
            let _ = std::fs::remove_file(new);
        }
        made
    }

    fn create(&self, file: &File, new: &Path) -> Result<(), OpenError> {
        // What a crash left behind.
        let inner =
            file.set_len(0).and_then(|()| file.try_clone()).map_err(|error| self.cannot_open(error))?;
        self.guard(|| Ok(write_meta(&self.database_in(inner)?)?))?;
        std::fs::rename(new, &self.path)
            .and_then(|()| disk::sync_folder_of(&self.path))
            .map_err(|error| self.cannot_open(error))
    }

    fn database_in(&self, file: File) -> Result<Database, NotOpened> {
        let backend = WatchedFile { inner: (self.backend)(file)?, sync_failed: self.sync_failed.clone() };
        Ok(Database::builder().set_cache_size(self.cache_bytes).create_with_backend(backend)?)
    }

    /// Runs what works inside redb, and says in our words why it failed.
    fn guard<T>(&self, work: impl FnOnce() -> Result<T, NotOpened>) -> Result<T, OpenError> {
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(NotOpened::Engine(error))) => Err(self.not_opened(error)),
            Ok(Err(NotOpened::Newer(found))) => {
                Err(OpenError::NewerFormat { path: self.path.clone(), found, known: FORMAT_KNOWN })
            }
            Err(_) => Err(self.damaged("the storage engine cannot make sense of it")),
        }
    }

    fn cannot_open(&self, error: io::Error) -> OpenError {
        let path = self.path.clone();
        match error.kind() {
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory => OpenError::NotWritable { path, source: Arc::new(error) },
            _ if disk::is_no_room(&error) => OpenError::DiskFull { path },
            _ => OpenError::Failed { path, source: Arc::new(error) },
        }
    }

    fn not_opened(&self, error: redb::Error) -> OpenError {
        let path = self.path.clone();
        match error {
            redb::Error::DatabaseAlreadyOpen => OpenError::InUse { path },
            redb::Error::Corrupted(problem) => self.damaged(&problem),
            redb::Error::TableDoesNotExist(_) => self.damaged("it does not say its format"),
            redb::Error::UpgradeRequired(version) => self.damaged(&format!("redb file format {version}")),
            redb::Error::Io(error) if is_damage(&error) => self.damaged(&error.to_string()),
            redb::Error::Io(error) => self.cannot_open(error),
            error => OpenError::Failed { path, source: Arc::new(error) },
        }
    }

    fn damaged(&self, problem: &str) -> OpenError {
        OpenError::Damaged { path: self.path.clone(), problem: problem.to_owned() }
    }
}

/// Why `open` got no further inside redb.
enum NotOpened {
    Engine(redb::Error),
    Newer(u64),
}

impl<E: Into<redb::Error>> From<E> for NotOpened {
    fn from(error: E) -> NotOpened {
        NotOpened::Engine(error.into())
    }
}

/// Rows hold keys of devices: nobody else may read them.
fn file_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).truncate(false).mode(disk::PRIVATE_FILE);
    options
}

/// Reads the format and the last commit.
fn read_meta(database: &Database) -> Result<Commit, NotOpened> {
    let meta =
        database.begin_read().map_err(redb::Error::from)?.open_table(META).map_err(redb::Error::from)?;
    let number = |name| Ok::<_, redb::Error>(meta.get(name)?.map(|value| value.value()));
    match number(FORMAT)?.zip(number(LAST_COMMIT)?) {
        Some((FORMAT_KNOWN, last)) => Ok(Commit(last)),
        Some((found, _)) => Err(NotOpened::Newer(found)),
        None => Err(redb::Error::Corrupted("it does not say its format".to_owned()).into()),
    }
}

fn write_meta(database: &Database) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    transaction.open_table(ROWS)?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert(FORMAT, FORMAT_KNOWN)?;
        meta.insert(LAST_COMMIT, 0)?;
    }
    Ok(transaction.commit()?)
}

/// The rows as they are now, unchanged while the table is held.
pub fn rows_of(database: &Database) -> Result<ReadOnlyTable<&'static [u8], &'static [u8]>, StoreError> {
    let snapshot =
        database.begin_read().map_err(|error| StoreError::unavailable("beginning to read", error))?;
    snapshot.open_table(ROWS).map_err(|error| StoreError::unavailable("opening the rows", error))
}

/// Runs `work`; a panic of redb on a damaged page becomes an error.
pub fn catch_damage<T>(
    doing: &'static str,
    work: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let cause = StorageError::Corrupted(
            "a page cannot be understood; check the disk and restore a backup".to_owned(),
        );
        Err(StoreError::unavailable(doing, cause))
    })
}

/// Whether redb says with an I/O error that the bytes are wrong.
fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

/// A file that remembers for ever that a sync failed.
#[derive(Debug)]
struct WatchedFile {
    inner: Box<dyn StorageBackend>,
    sync_failed: Arc<AtomicBool>,
}

impl StorageBackend for WatchedFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data().inspect_err(|_| self.sync_failed.store(true, Ordering::Release))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        // One page of a commit, which has hundreds: others may want the processor in between.
        std::thread::yield_now();
        self.inner.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}
