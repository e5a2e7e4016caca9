//! Random batches against a plain map: the backends do what the map does, also across restarts.
#![allow(clippy::disallowed_methods, reason = "the store itself is under test, below any transaction")]

use std::collections::BTreeMap;
use std::path::Path;

use hub_store::{
    Batch, Commit, CommitError, EmbeddedOptions, EmbeddedStore, Expected, Key, KeyRange, MemoryStore,
    PageLen, Store,
};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Change>),
    Scan { from: u8, to: u8, limit: usize },
    Restart,
}

#[derive(Clone, Debug)]
enum Change {
    Put(u8, Vec<u8>),
    Delete(u8),
    ExpectCurrent(u8),
    ExpectAbsent(u8),
    ExpectVersion(u8, u64),
}

fn change() -> impl Strategy<Value = Change> {
    let key = 0..12_u8;
    prop_oneof![
        4 => (key.clone(), proptest::collection::vec(any::<u8>(), 0..200)).prop_map(|(key, value)| Change::Put(key, value)),
        2 => key.clone().prop_map(Change::Delete),
        2 => key.clone().prop_map(Change::ExpectCurrent),
        1 => key.clone().prop_map(Change::ExpectAbsent),
        1 => (key, 0..10_u64).prop_map(|(key, version)| Change::ExpectVersion(key, version)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => proptest::collection::vec(change(), 0..5).prop_map(Step::Commit),
        3 => (0..13_u8, 0..13_u8, 1..6_usize).prop_map(|(from, to, limit)| Step::Scan { from, to, limit }),
        1 => Just(Step::Restart),
    ]
}

#[derive(Default)]
struct Model {
    rows: BTreeMap<Key, (Vec<u8>, Commit)>,
    last: u64,
}

fn key(number: u8) -> Key {
    Key::new(vec![b'k', number])
}

impl Model {
    fn version(&self, key: &Key) -> Option<Commit> {
        self.rows.get(key).map(|row| row.1)
    }

    /// The batch of `changes`, and what the map says must come of it.
    fn apply(&mut self, changes: &[Change]) -> (Batch, Option<Commit>) {
        let mut batch = Batch::new();
        let mut expected = BTreeMap::new();
        let mut rows = self.rows.clone();
        let commit = Commit(self.last + 1);
        for change in changes {
            match change {
                Change::Put(number, value) => {
                    batch.put(key(*number), value.clone());
                    rows.insert(key(*number), (value.clone(), commit));
                }
                Change::Delete(number) => {
                    batch.delete(key(*number));
                    rows.remove(&key(*number));
                }
                Change::ExpectCurrent(number) => {
                    expected.insert(key(*number), self.version(&key(*number)));
                }
                Change::ExpectAbsent(number) => {
                    expected.insert(key(*number), None);
                }
                Change::ExpectVersion(number, version) => {
                    expected.insert(key(*number), Some(Commit(*version)));
                }
            }
        }
        for (key, version) in &expected {
            batch.expect(key.clone(), version.map_or(Expected::Absent, Expected::Version));
        }
        if expected.iter().any(|(key, version)| self.version(key) != *version) {
            return (batch, None);
        }
        self.rows = rows;
        self.last = commit.0;
        (batch, Some(commit))
    }
}

async fn play(steps: &[Step], mut store: Box<dyn Store>, restart: impl Fn() -> Box<dyn Store>) {
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Commit(changes) => {
                let (batch, expected) = model.apply(changes);
                match (store.commit(batch).await, expected) {
                    (Ok(commit), Some(expected)) => assert_eq!(commit, expected),
                    (Err(CommitError::Conflict { .. }), None) => {}
                    (result, expected) => panic!("{result:?} instead of {expected:?}"),
                }
            }
            Step::Scan { from, to, limit } => {
                let limit = PageLen::new(*limit).expect("a page length");
                let page = store.scan(KeyRange::between(key(*from), key(*to)), limit).await.expect("a page");
                let mut left = model.rows.iter().filter(|(at, _)| (key(*from)..key(*to)).contains(at));
                for (at, row) in &page.rows {
                    let (key, (value, version)) = left.next().expect("a row more than the model has");
                    assert_eq!((at, &row.bytes[..], row.version), (key, &value[..], *version));
                }
                assert_eq!(page.next.as_ref(), left.next().map(|(at, _)| at));
                assert!(page.next.is_none() || page.rows.len() == limit.get());
            }
            Step::Restart => {
                store.close().await.expect("closing");
                drop(store);
                store = restart();
            }
        }
        for number in 0..12 {
            let found =
                store.get(&key(number)).await.expect("a read").map(|row| (row.bytes.to_vec(), row.version));
            assert_eq!(found.as_ref(), model.rows.get(&key(number)));
        }
    }
    store.close().await.expect("closing");
}

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future);
}

fn embedded(path: &Path) -> Box<dyn Store> {
    Box::new(EmbeddedStore::open(path, EmbeddedOptions::default()).expect("a store"))
}

proptest! {
    #[test]
    fn memory_is_a_map(steps in proptest::collection::vec(step(), 0..60)) {
        let first = MemoryStore::new();
        let current = std::cell::RefCell::new(first.clone());
        block_on(play(&steps, Box::new(first), || {
            let reopened = current.borrow().reopen();
            current.replace(reopened.clone());
            Box::new(reopened)
        }));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn embedded_is_a_map(steps in proptest::collection::vec(step(), 0..60)) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("hub.redb");
        block_on(play(&steps, embedded(&path), || embedded(&path)));
    }
}
