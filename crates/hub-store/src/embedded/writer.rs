//! The writer thread: takes what is queued, applies it in one durable transaction, answers everyone.
//! While it syncs, the next group gathers in the queue; a lonely batch waits for nobody.
//! It must never answer `Ok` before the sync, and never let one batch's conflict harm another.

use std::sync::{Arc, PoisonError};
use std::{io, thread};

use redb::{Durability, ReadableTable, Table};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use super::file::{LAST_COMMIT, META, ROWS};
use super::{Shared, Wish, Wishes, row};
use crate::{Batch, Commit, CommitError, StoreError, disk, keys};

/// Most batches that wait for the writer; who comes later waits before the queue.
const QUEUE_BATCHES_MAX: usize = 4096;
/// Most bytes of batches that wait for the writer or are being written.
const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most batches in one durable transaction.
const GROUP_BATCHES_MAX: usize = 1024;
/// Bytes after which a group takes no further batch.
const GROUP_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Rows that are written before other threads may have the processor: some 50 us.
const TURN_ROWS: usize = 8;

type Answer = Result<Commit, CommitError>;

/// A batch on its way to the writer, with its share of the queue's memory.
pub struct Request {
    batch: Batch,
    size_bytes: usize,
    answer: oneshot::Sender<Answer>,
    _room: OwnedSemaphorePermit,
}

/// The senders' end of the writer's queue, bounded in batches and in bytes.
pub struct Queue {
    wishes: mpsc::Sender<Wish>,
    room: Arc<Semaphore>,
}

impl Queue {
    pub fn new() -> (Queue, Wishes) {
        let (wishes, receiver) = mpsc::channel(QUEUE_BATCHES_MAX);
        (Queue { wishes, room: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)) }, receiver)
    }

    /// Hands `batch` to the writer, waiting for room. `None` when the writer is gone.
    pub async fn push(&self, batch: Batch) -> Option<oneshot::Receiver<Answer>> {
        let size_bytes = batch.size_bytes();
        let permits = u32::try_from(size_bytes).expect("BATCH_BYTES_MAX fits into 32 bits");
        let room = self.room.clone().acquire_many_owned(permits).await.ok()?;
        let (answer, answered) = oneshot::channel();
        let request = Request { batch, size_bytes, answer, _room: room };
        self.wishes.send(Wish::Commit(request)).await.ok()?;
        Some(answered)
    }

    /// Asks the writer to end after what is queued; it answers `done`.
    pub async fn close(&self, done: oneshot::Sender<()>) {
        // If the thread is gone, `done` is dropped here, which the waiting side sees.
        let _ = self.wishes.send(Wish::Close(done)).await;
    }
}

/// The thread's state.
pub struct Writer {
    pub shared: Arc<Shared>,
    pub requests: Wishes,
    pub newest: watch::Sender<Commit>,
    pub last: Commit,
    /// Why nothing is written any more, after a failed sync.
    pub stopped: Option<StoreError>,
}

impl Writer {
    pub fn start(self) -> io::Result<()> {
        thread::Builder::new().name("store-writer".to_owned()).spawn(move || self.run()).map(drop)
    }

    fn run(mut self) {
        while let Some(wish) = self.requests.blocking_recv() {
            let (group, close) = self.gather(wish);
            if !group.is_empty() {
                self.commit(group);
            }
            if let Some(done) = close {
                self.close();
                let _ = done.send(());
                return;
            }
        }
        // Every handle was dropped without `close`.
        self.close();
    }

    /// Takes what is in the queue already, up to the limits of a group; ends early at a wish to close.
    fn gather(&mut self, first: Wish) -> (Vec<Request>, Option<oneshot::Sender<()>>) {
        let mut group = Vec::new();
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(wish) = next.take() {
            match wish {
                Wish::Close(done) => return (group, Some(done)),
                Wish::Commit(request) => {
                    bytes += request.size_bytes;
                    group.push(request);
                }
            }
            if group.len() < GROUP_BATCHES_MAX && bytes < GROUP_BYTES_MAX {
                next = self.requests.try_recv().ok();
            }
        }
        (group, None)
    }

    fn commit(&mut self, group: Vec<Request>) {
        match self.write(&group) {
            Ok(outcomes) => {
                if let Some(last) = outcomes.iter().rev().find_map(|outcome| outcome.as_ref().ok()) {
                    self.last = *last;
                    self.newest.send_replace(*last);
                }
                for (request, outcome) in group.into_iter().zip(outcomes) {
                    // A caller that went away does not want its answer.
                    let _ = request.answer.send(outcome);
                }
            }
            Err(error) => {
                tracing::error!(error = %error, cause = ?std::error::Error::source(&error), "a group of writes failed");
                for request in group {
                    let _ = request.answer.send(Err(error.clone().into()));
                }
            }
        }
    }

    /// Applies a group in one durable transaction. On failure the file is opened anew, so that the next group can work.
    fn write(&mut self, group: &[Request]) -> Result<Vec<Answer>, StoreError> {
        if let Some(stopped) = &self.stopped {
            return Err(stopped.clone());
        }
        if self.is_without_database() {
            self.reopen()?;
        }
        let written = self
            .shared
            .read(|database| apply(database, group, self.last).map_err(|error| self.explain(error)));
        if written.is_err() {
            // What the failed group left behind is either whole or not there; the answer to it is given already.
            if let Err(error) = self.reopen() {
                tracing::error!(error = %error, "the store's file could not be opened again");
            }
        }
        written
    }

    fn explain(&self, error: Failure) -> StoreError {
        match error {
            Failure::Row(error) => error,
            Failure::Engine(redb::Error::Io(error)) if disk::is_no_room(&error) => {
                StoreError::DiskFull { path: self.shared.file.path().to_owned() }
            }
            Failure::Engine(error) => StoreError::unavailable("writing a group of batches", error),
        }
    }

    fn is_without_database(&self) -> bool {
        self.shared.database.read().unwrap_or_else(PoisonError::into_inner).is_err()
    }

    /// Closes the file and opens it again: redb refuses everything after an I/O error until that is done.
    fn reopen(&mut self) -> Result<(), StoreError> {
        if self.shared.file.sync_failed() {
            let reason =
                "the disk failed to keep what was written; check it, then restart the hub".to_owned();
            let stopped = StoreError::Stopped { reason };
            self.stopped = Some(stopped.clone());
            return Err(stopped);
        }
        let mut database = self.shared.database.write().unwrap_or_else(PoisonError::into_inner);
        // The old one must be gone first: it holds the lock of the file.
        *database = Err(StoreError::Closed);
        match self.shared.file.open() {
            Ok((opened, last)) => {
                *database = Ok(opened);
                self.last = last;
                Ok(())
            }
            Err(error) => {
                let error = StoreError::unavailable("opening its file again after an error", error);
                *database = Err(error.clone());
                Err(error)
            }
        }
    }

    fn close(&mut self) {
        let mut database = self.shared.database.write().unwrap_or_else(PoisonError::into_inner);
        // Dropping the old database is what closes the file cleanly.
        *database = Err(StoreError::Closed);
    }
}

/// Why a transaction failed.
enum Failure {
    Row(StoreError),
    Engine(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Engine(error.into())
    }
}

type Rows<'a> = Table<'a, &'static [u8], &'static [u8]>;

fn apply(database: &redb::Database, group: &[Request], last: Commit) -> Result<Vec<Answer>, Failure> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    // After a crash the file opens at once, instead of being walked whole.
    transaction.set_quick_repair(true);
    let mut outcomes = Vec::with_capacity(group.len());
    let mut next = last;
    {
        let mut rows = transaction.open_table(ROWS)?;
        for request in group {
            let commit = Commit(next.0 + 1);
            match conflict(&rows, &request.batch)? {
                Some(error) => outcomes.push(Err(error)),
                None => {
                    write_rows(&mut rows, &request.batch, commit)?;
                    next = commit;
                    outcomes.push(Ok(commit));
                }
            }
        }
        if next > last {
            transaction.open_table(META)?.insert(LAST_COMMIT, next.0)?;
        }
    }
    match next > last {
        true => transaction.commit()?,
        false => transaction.abort()?,
    }
    Ok(outcomes)
}

/// The first expectation of `batch` that does not hold, seen after the earlier batches of the group.
fn conflict(rows: &Rows<'_>, batch: &Batch) -> Result<Option<CommitError>, Failure> {
    for (key, expected) in batch.expectations() {
        let found = rows.get(key.as_bytes())?;
        let version =
            found.map(|value| row::version(key, value.value())).transpose().map_err(Failure::Row)?;
        if !expected.holds(version) {
            return Ok(Some(CommitError::Conflict { key: key.clone() }));
        }
    }
    Ok(None)
}

fn write_rows(rows: &mut Rows<'_>, batch: &Batch, commit: Commit) -> Result<(), Failure> {
    for (place, (key, value)) in batch.writes().enumerate() {
        give_way(place);
        match value {
            Some(value) => drop(rows.insert(key.as_bytes(), row::encode(key, commit, value).as_slice())?),
            None => drop(rows.remove(key.as_bytes())?),
        }
    }
    for (index, value) in (0..).zip(batch.appends()) {
        give_way(index as usize);
        let key = keys::log(commit, index);
        rows.insert(key.as_bytes(), row::encode(&key, commit, value).as_slice())?;
    }
    Ok(())
}

/// Lets other threads have the processor between some rows. A group may keep it busy for longer than a device takes to answer a
/// call, and a kernel that is not asked lets whoever was just woken wait for some milliseconds.
fn give_way(place: usize) {
    if place.is_multiple_of(TURN_ROWS) {
        thread::yield_now();
    }
}
