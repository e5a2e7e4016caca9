//! The reference backend: one map under one lock. It says what the contract means, and tests above it use it.
//! It must never be cleverer than the contract; it keeps nothing across a restart.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use tokio::sync::watch;

use crate::{
    Batch, BoxFuture, Commit, CommitError, Key, KeyRange, PAGE_BYTES_MAX, Page, PageLen, Row, Store,
    StoreError, StoreStats, keys,
};

/// A store in memory. Clones share the same rows, which is how a test "restarts" a hub on it.
#[derive(Clone)]
pub struct MemoryStore {
    rows: Arc<Mutex<Rows>>,
    newest: watch::Sender<Commit>,
}

#[derive(Default)]
struct Rows {
    rows: BTreeMap<Key, Row>,
    last: Commit,
    closed: bool,
}

impl Default for MemoryStore {
    fn default() -> MemoryStore {
        MemoryStore::new()
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> MemoryStore {
        MemoryStore { rows: Arc::default(), newest: watch::Sender::new(Commit(0)) }
    }

    /// Opens the rows again after `close`: a restart, as far as memory can have one.
    pub fn reopen(&self) -> MemoryStore {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        MemoryStore {
            newest: watch::Sender::new(rows.last),
            rows: Arc::new(Mutex::new(Rows { rows: rows.rows.clone(), last: rows.last, closed: false })),
        }
    }

    fn open_rows(&self) -> Result<MutexGuard<'_, Rows>, StoreError> {
        // A panic while the lock was held is a bug elsewhere; the map itself is changed in steps that cannot panic.
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if rows.closed { Err(StoreError::Closed) } else { Ok(rows) }
    }

    fn commit_now(&self, batch: &Batch) -> Result<Commit, CommitError> {
        batch.check_size()?;
        let mut rows = self.open_rows()?;
        for (key, expected) in batch.expectations() {
            if !expected.holds(rows.rows.get(key).map(|row| row.version)) {
                return Err(CommitError::Conflict { key: key.clone() });
            }
        }
        let commit = Commit(rows.last.0 + 1);
        for (key, value) in batch.writes() {
            match value {
                Some(bytes) => rows.rows.insert(key.clone(), Row { bytes: bytes.clone(), version: commit }),
                None => rows.rows.remove(key),
            };
        }
        for (index, bytes) in (0..).zip(batch.appends()) {
            rows.rows.insert(keys::log(commit, index), Row { bytes: bytes.clone(), version: commit });
        }
        rows.last = commit;
        // Told while the lock is held, so that the numbers told only grow.
        self.newest.send_replace(commit);
        Ok(commit)
    }

    fn page(&self, range: &KeyRange, limit: PageLen) -> Result<Page, StoreError> {
        let rows = self.open_rows()?;
        let within = rows
            .rows
            .range(&range.start..)
            .take_while(|(key, _)| range.end.as_ref().is_none_or(|end| *key < end));
        let mut page = Page { rows: Vec::new(), next: None };
        let mut bytes = 0;
        for (key, row) in within {
            if page.rows.len() == limit.get() || bytes >= PAGE_BYTES_MAX {
                page.next = Some(key.clone());
                break;
            }
            bytes += key.as_bytes().len() + row.bytes.len();
            page.rows.push((key.clone(), row.clone()));
        }
        Ok(page)
    }
}

impl Store for MemoryStore {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Row>, StoreError>> {
        async move { Ok(self.open_rows()?.rows.get(key).cloned()) }.boxed()
    }

    fn scan(&self, range: KeyRange, limit: PageLen) -> BoxFuture<'_, Result<Page, StoreError>> {
        async move { self.page(&range, limit) }.boxed()
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Commit, CommitError>> {
        async move { self.commit_now(&batch) }.boxed()
    }

    fn changes(&self, after: Commit) -> BoxFuture<'_, Result<Commit, StoreError>> {
        async move {
            let mut newest = self.newest.subscribe();
            loop {
                // Marked as seen before closing is checked: what happens in between wakes the wait below.
                let commit = *newest.borrow_and_update();
                drop(self.open_rows()?);
                if commit > after {
                    return Ok(commit);
                }
                newest.changed().await.map_err(|_| StoreError::Closed)?;
            }
        }
        .boxed()
    }

    fn stats(&self) -> Result<StoreStats, StoreError> {
        Ok(StoreStats { disk_bytes: 0, last_commit: self.open_rows()?.last })
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            self.rows.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
            self.newest.send_modify(|_| ());
            Ok(())
        }
        .boxed()
    }
}
