//! `Txn`: one attempt of a command. It remembers what it read, and commits only if that is still so.
//! It is the only caller of `Store::commit`; the tables add their typed reads and writes to it.
//! It must never retry by itself: who lost against another writer must read and decide anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{Batch, Bytes, Commit, CommitError, Expected, Key, Row, Store, StoreError};

/// Reads, then writes, then `commit`, which applies all of it or nothing.
pub struct Txn {
    store: Arc<dyn Store>,
    read: BTreeMap<Key, Option<Commit>>,
    batch: Batch,
}

impl Txn {
    /// An attempt on `store` that has read and written nothing.
    pub fn new(store: Arc<dyn Store>) -> Txn {
        Txn { store, read: BTreeMap::new(), batch: Batch::new() }
    }

    /// The row at `key` as the store has it, without what this attempt wrote.
    /// Its version, or its absence, becomes an expectation of the commit.
    pub async fn get(&mut self, key: Key) -> Result<Option<Row>, StoreError> {
        let row = self.store.get(&key).await?;
        // Read twice and changed in between: the first version stays expected, so the commit will conflict, as it must.
        self.read.entry(key).or_insert(row.as_ref().map(|row| row.version));
        Ok(row)
    }

    /// Expects the row at `key` to be of this version at commit, or absent, as the caller read it elsewhere.
    pub fn expect(&mut self, key: Key, version: Option<Commit>) {
        self.read.entry(key).or_insert(version);
    }

    /// Writes `value` at `key`.
    pub fn put(&mut self, key: Key, value: impl Into<Bytes>) {
        self.batch.put(key, value);
    }

    /// Removes the row at `key`, if there is one.
    pub fn delete(&mut self, key: Key) {
        self.batch.delete(key);
    }

    /// Adds `value` to the event log; its place is known after the commit: the commit's number, and how many were
    /// appended before it.
    pub fn append(&mut self, value: impl Into<Bytes>) {
        self.batch.append(value);
    }

    /// Applies everything if what was read is unchanged; returns once it is durable.
    /// `CommitError::Conflict` means that somebody else was faster: begin again with a new `Txn`.
    #[allow(clippy::disallowed_methods, reason = "this is the one door to Store::commit")]
    pub async fn commit(mut self) -> Result<Commit, CommitError> {
        for (key, version) in self.read {
            self.batch.expect(key, version.map_or(Expected::Absent, Expected::Version));
        }
        self.store.commit(self.batch).await
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::MemoryStore;

    /// The memory store answers at once, so nothing here needs a runtime.
    fn now<T>(future: impl Future<Output = T>) -> T {
        future.now_or_never().expect("memory does not wait")
    }

    fn write(store: &Arc<dyn Store>, key: &'static str) -> Result<Commit, CommitError> {
        let mut txn = Txn::new(store.clone());
        txn.put(Key::new(key), "x");
        now(txn.commit())
    }

    #[test]
    fn what_was_read_must_be_unchanged() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        write(&store, "there").expect("a first write");
        // What is read, what somebody else writes meanwhile, whether that is a conflict.
        for (read, written, conflicts) in [
            ("there", "there", true),
            ("absent", "absent", true),
            ("there", "other", false),
            ("there-not", "other", false),
        ] {
            let mut txn = Txn::new(store.clone());
            now(txn.get(Key::new(read))).expect("a read");
            txn.put(Key::new("result"), "x");
            write(&store, written).expect("somebody else's write");
            match now(txn.commit()) {
                Err(CommitError::Conflict { key }) => {
                    assert!(conflicts && key == Key::new(read), "{read} {written}")
                }
                other => assert!(other.is_ok() && !conflicts, "{read} {written}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_row_that_changes_between_two_reads_is_a_conflict() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let mut txn = Txn::new(store.clone());
        assert_eq!(now(txn.get(Key::new("a"))).expect("a read"), None);
        write(&store, "a").expect("somebody else's write");
        assert!(now(txn.get(Key::new("a"))).expect("a read").is_some());
        assert!(matches!(now(txn.commit()), Err(CommitError::Conflict { .. })));
    }
}
