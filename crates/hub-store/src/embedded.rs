//! The on-disk backend: one redb file, one writer thread with group commit, reads beside it.
//! `file` opens the file and guards its syncs, `writer` is the thread, `row` is how a value lies in the file.
//! It must never answer a commit before the disk has it, nor wait on a timer to make a group larger.

mod file;
mod row;
mod writer;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use futures_util::FutureExt;
use redb::Database;
use tokio::sync::{mpsc, oneshot, watch};

use self::file::{DataFile, rows_of};
use self::writer::{Queue, Request, Writer};
use crate::{
    Batch, BoxFuture, Commit, CommitError, Key, KeyRange, OpenError, PAGE_BYTES_MAX, Page, PageLen, Row,
    Store, StoreError, StoreStats,
};

/// Memory that redb may use for pages that were read or not yet written, unless the options say otherwise.
pub const CACHE_BYTES_DEFAULT: usize = 64 * 1024 * 1024;

/// How an embedded store is opened.
#[derive(Clone, Copy, Debug)]
pub struct EmbeddedOptions {
    /// Most bytes of pages kept in memory.
    pub cache_bytes: usize,
}

impl Default for EmbeddedOptions {
    fn default() -> EmbeddedOptions {
        EmbeddedOptions { cache_bytes: CACHE_BYTES_DEFAULT }
    }
}

/// A store in one file on disk.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    queue: Queue,
    newest: watch::Receiver<Commit>,
}

/// What the readers and the writer thread share.
struct Shared {
    file: DataFile,
    /// Empty after `close`, and while a file that failed could not be opened again; the reason stands in its place.
    database: RwLock<Result<Database, StoreError>>,
}

impl EmbeddedStore {
    /// Opens the file at `path`, or makes it. Recovers by itself from a crash of the process or the machine.
    pub fn open(path: &Path, options: EmbeddedOptions) -> Result<EmbeddedStore, OpenError> {
        EmbeddedStore::open_file(DataFile::new(path, options.cache_bytes))
    }

    fn open_file(file: DataFile) -> Result<EmbeddedStore, OpenError> {
        let (database, last) = file.open()?;
        let shared = Arc::new(Shared { file, database: RwLock::new(Ok(database)) });
        let (newest_sender, newest) = watch::channel(last);
        let (queue, requests) = Queue::new();
        let path = shared.file.path().to_owned();
        Writer { shared: shared.clone(), requests, newest: newest_sender, last, stopped: None }
            .start()
            .map_err(|error| OpenError::Failed { path, source: Arc::new(error) })?;
        Ok(EmbeddedStore { shared, queue, newest })
    }

    async fn submit(&self, batch: Batch) -> Result<Commit, CommitError> {
        batch.check_size()?;
        let answer = self.queue.push(batch).await.ok_or_else(|| self.shared.why_gone())?;
        answer.await.unwrap_or_else(|_| Err(self.shared.why_gone().into()))
    }
}

impl Shared {
    /// Runs `read` on the database, which stays open meanwhile.
    fn read<T>(&self, read: impl FnOnce(&Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
        // A panic under the write lock leaves either a whole database or an error in it, so poison says nothing.
        match &*self.database.read().unwrap_or_else(PoisonError::into_inner) {
            Ok(database) => file::catch_damage("reading", || read(database)),
            Err(error) => Err(error.clone()),
        }
    }

    fn get(&self, key: &Key) -> Result<Option<Row>, StoreError> {
        self.read(|database| {
            let rows = rows_of(database)?;
            let found =
                rows.get(key.as_bytes()).map_err(|error| StoreError::unavailable("reading a row", error))?;
            found.map(|value| row::decode(key, value.value())).transpose()
        })
    }

    fn page(&self, range: &KeyRange, limit: PageLen) -> Result<Page, StoreError> {
        let mut page = Page { rows: Vec::new(), next: None };
        if range.is_empty() {
            return Ok(page);
        }
        self.read(|database| {
            let failed = |error| StoreError::unavailable("reading a range of rows", error);
            let rows = rows_of(database)?;
            let found = match &range.end {
                Some(end) => rows.range(range.start.as_bytes()..end.as_bytes()),
                None => rows.range(range.start.as_bytes()..),
            };
            let mut bytes = 0;
            for entry in found.map_err(failed)? {
                let (key, value) = entry.map_err(failed)?;
                let key = Key::new(key.value().to_vec());
                if page.rows.len() == limit.get() || bytes >= PAGE_BYTES_MAX {
                    page.next = Some(key);
                    break;
                }
                let row = row::decode(&key, value.value())?;
                bytes += key.as_bytes().len() + row.bytes.len();
                page.rows.push((key, row));
            }
            Ok(page)
        })
    }

    fn check_open(&self) -> Result<(), StoreError> {
        match &*self.database.read().unwrap_or_else(PoisonError::into_inner) {
            Err(StoreError::Closed) => Err(StoreError::Closed),
            _ => Ok(()),
        }
    }

    /// Why the writer thread is not there: it was closed, or it panicked.
    fn why_gone(&self) -> StoreError {
        let ended = StoreError::Stopped { reason: "its writer thread ended; restart the hub".to_owned() };
        self.check_open().err().unwrap_or(ended)
    }
}

impl Store for EmbeddedStore {
    // Reads run where they are polled: a page of a B-tree is microseconds, handing it to another thread is more.
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Row>, StoreError>> {
        async move { self.shared.get(key) }.boxed()
    }

    fn scan(&self, range: KeyRange, limit: PageLen) -> BoxFuture<'_, Result<Page, StoreError>> {
        async move { self.shared.page(&range, limit) }.boxed()
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Commit, CommitError>> {
        self.submit(batch).boxed()
    }

    fn changes(&self, after: Commit) -> BoxFuture<'_, Result<Commit, StoreError>> {
        async move {
            self.shared.check_open()?;
            let mut newest = self.newest.clone();
            match newest.wait_for(|commit| *commit > after).await {
                Ok(commit) => Ok(*commit),
                Err(_) => Err(self.shared.why_gone()),
            }
        }
        .boxed()
    }

    fn stats(&self) -> Result<StoreStats, StoreError> {
        self.shared.check_open()?;
        let disk_bytes = self
            .shared
            .file
            .disk_bytes()
            .map_err(|error| StoreError::unavailable("measuring its file", error))?;
        Ok(StoreStats { disk_bytes, last_commit: *self.newest.borrow() })
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let (done, closed) = oneshot::channel();
            self.queue.close(done).await;
            // The thread drops `done` unanswered only if it was gone before.
            closed.await.map_err(|_| self.shared.why_gone())
        }
        .boxed()
    }
}

/// One batch waiting for the writer, or the wish to end.
enum Wish {
    Commit(Request),
    Close(oneshot::Sender<()>),
}

type Wishes = mpsc::Receiver<Wish>;
