//! The suite that every backend passes: the contract of `Store`, made executable.
//! It is part of the crate, not of its tests, so that a backend in another crate can run it too.
//! It must never ask for more than the contract says, nor use anything but the trait.
#![allow(clippy::disallowed_methods, reason = "the suite tests `Store::commit` itself")]

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{join, join_all};
use tokio::task::JoinSet;

use crate::{
    BATCH_BYTES_MAX, Batch, Commit, CommitError, Expected, Key, KeyRange, PAGE_BYTES_MAX, Page, PageLen, Row,
    Store, StoreError, keys,
};

/// How the suite gets its stores.
pub trait Backend {
    /// A new, empty store.
    fn create(&mut self) -> Arc<dyn Store>;
    /// The store that `create` made last, opened again after it was closed.
    fn reopen(&mut self) -> Arc<dyn Store>;
}

/// Runs the whole suite. Panics at the first thing that is not as the contract says.
pub async fn run(backend: &mut dyn Backend) {
    an_empty_store_has_nothing(&*backend.create()).await;
    rows_are_written_and_removed(&*backend.create()).await;
    commit_numbers_have_no_gaps(&*backend.create()).await;
    keys_sort_bytewise(&*backend.create()).await;
    scans_go_page_by_page(&*backend.create()).await;
    pages_end_at_their_size(&*backend.create()).await;
    pages_are_snapshots(backend.create()).await;
    expectations_decide(&*backend.create()).await;
    batches_are_whole_or_nothing(&*backend.create()).await;
    batches_that_come_together_see_each_other(&*backend.create()).await;
    appends_are_in_commit_order(&*backend.create()).await;
    batches_have_a_size(&*backend.create()).await;
    writers_of_one_key_lose_nothing(backend.create()).await;
    changes_wake_up(&*backend.create()).await;
    a_closed_store_says_so(&*backend.create()).await;
    everything_is_there_after_a_restart(backend).await;
}

fn key(text: &str) -> Key {
    Key::new(text.as_bytes().to_vec())
}

fn put(at: &str, value: &str) -> Batch {
    let mut batch = Batch::new();
    batch.put(key(at), value.as_bytes().to_vec());
    batch
}

fn rows(limit: usize) -> PageLen {
    PageLen::new(limit).expect("a page length within its limits")
}

async fn get(store: &dyn Store, at: &str) -> Option<Row> {
    store.get(&key(at)).await.expect("a read")
}

async fn commit(store: &dyn Store, batch: Batch) -> Commit {
    store.commit(batch).await.expect("a commit")
}

async fn scan(store: &dyn Store, range: KeyRange, limit: usize) -> Page {
    store.scan(range, rows(limit)).await.expect("a scan")
}

async fn scan_all(store: &dyn Store) -> Vec<Key> {
    let page = scan(store, KeyRange::prefix(b""), 1000).await;
    assert_eq!(page.next, None);
    page.rows.into_iter().map(|(key, _)| key).collect()
}

async fn conflict_at(store: &dyn Store, batch: Batch) -> Key {
    match store.commit(batch).await {
        Err(CommitError::Conflict { key }) => key,
        other => panic!("expected a conflict, got {other:?}"),
    }
}

async fn an_empty_store_has_nothing(store: &dyn Store) {
    assert_eq!(get(store, "a").await, None);
    assert_eq!(scan_all(store).await, []);
    assert_eq!(store.stats().expect("stats").last_commit, Commit(0));
}

async fn rows_are_written_and_removed(store: &dyn Store) {
    let first = commit(store, put("a", "one")).await;
    assert_eq!(get(store, "a").await, Some(Row { bytes: Bytes::from("one"), version: first }));
    let second = commit(store, put("a", "two")).await;
    assert_eq!(get(store, "a").await, Some(Row { bytes: Bytes::from("two"), version: second }));
    commit(store, put("b", "")).await;
    assert_eq!(get(store, "b").await.map(|row| row.bytes), Some(Bytes::new()), "an empty value is a value");
    assert_eq!(get(store, "a").await.map(|row| row.version), Some(second), "a row keeps its own version");

    let mut removal = Batch::new();
    removal.delete(key("a"));
    removal.delete(key("was-never-there"));
    commit(store, removal).await;
    assert_eq!(get(store, "a").await, None);

    let mut last_word = put("c", "put");
    last_word.delete(key("c"));
    last_word.delete(key("d"));
    last_word.put(key("d"), "put again");
    commit(store, last_word).await;
    assert_eq!(get(store, "c").await, None);
    assert_eq!(get(store, "d").await.map(|row| row.bytes), Some(Bytes::from("put again")));
}

async fn commit_numbers_have_no_gaps(store: &dyn Store) {
    assert_eq!(commit(store, put("a", "1")).await, Commit(1));
    let mut wrong = put("a", "2");
    wrong.expect(key("a"), Expected::Absent);
    conflict_at(store, wrong).await;
    assert_eq!(commit(store, put("a", "3")).await, Commit(2), "a conflict uses no number");
    let together = join_all((0..20).map(|_| store.commit(put("b", "x")))).await;
    let mut numbers: Vec<u64> = together.into_iter().map(|commit| commit.expect("a commit").0).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (3..23).collect::<Vec<_>>());
    assert_eq!(store.stats().expect("stats").last_commit, Commit(22));
}

async fn keys_sort_bytewise(store: &dyn Store) {
    let sorted: [&[u8]; 8] = [b"", b"\x00", b"A", b"Z", b"a", b"a\x00", b"a/b", b"\xff\xff"];
    let mut batch = Batch::new();
    for bytes in [4, 2, 7, 0, 5, 1, 6, 3] {
        batch.put(Key::new(sorted[bytes]), "x");
    }
    commit(store, batch).await;
    assert_eq!(scan_all(store).await, sorted.map(Key::new));

    let within = async |range| -> Vec<Key> {
        scan(store, range, 1000).await.rows.into_iter().map(|row| row.0).collect()
    };
    assert_eq!(
        within(KeyRange::prefix(b"a")).await,
        sorted[4..7].iter().map(|bytes| Key::new(*bytes)).collect::<Vec<_>>()
    );
    assert_eq!(within(KeyRange::prefix(b"\xff")).await, [Key::new(sorted[7])]);
    assert_eq!(within(KeyRange::between(key("A"), key("a"))).await, [key("A"), key("Z")]);
    assert_eq!(within(KeyRange::between(key("a"), key("a"))).await, []);
    assert_eq!(
        within(KeyRange::between(key("b"), key("a"))).await,
        [],
        "a range that ends before it starts is empty"
    );
}

async fn scans_go_page_by_page(store: &dyn Store) {
    let mut batch = Batch::new();
    for number in 0..25 {
        batch.put(key(&format!("page/{number:02}")), "x");
    }
    batch.put(key("q"), "behind the range");
    commit(store, batch).await;

    let mut seen = Vec::new();
    let mut lengths = Vec::new();
    let mut start = Some(key("page/"));
    while let Some(from) = start {
        let page = scan(store, KeyRange::prefix(b"page/").from(from), 10).await;
        lengths.push(page.rows.len());
        seen.extend(page.rows.into_iter().map(|(key, _)| key.to_string()));
        start = page.next;
    }
    assert_eq!(lengths, [10, 10, 5]);
    assert_eq!(seen, (0..25).map(|number| format!("page/{number:02}")).collect::<Vec<_>>());
    let exact = scan(store, KeyRange::prefix(b"page/"), 25).await;
    assert_eq!((exact.rows.len(), exact.next), (25, None), "a page that takes all has no next one");
}

async fn pages_end_at_their_size(store: &dyn Store) {
    let big = vec![7; PAGE_BYTES_MAX / 4 + 1];
    for number in 0..6 {
        let mut batch = Batch::new();
        batch.put(key(&number.to_string()), big.clone());
        commit(store, batch).await;
    }
    let page = scan(store, KeyRange::prefix(b""), 1000).await;
    assert_eq!((page.rows.len(), page.next), (4, Some(key("4"))));
}

/// Two rows are always written together with the same value; a page that shows them different is not a snapshot.
async fn pages_are_snapshots(store: Arc<dyn Store>) {
    let mut tasks = JoinSet::new();
    let writer = store.clone();
    tasks.spawn(async move {
        for round in 0..200 {
            let mut batch = put("left", &round.to_string());
            batch.put(key("right"), round.to_string());
            commit(&*writer, batch).await;
        }
    });
    while tasks.try_join_next().is_none() {
        let page = scan(&*store, KeyRange::prefix(b""), 10).await;
        if let [(_, left), (_, right)] = &page.rows[..] {
            assert_eq!(left, right);
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(get(&*store, "right").await.map(|row| row.bytes), Some(Bytes::from("199")));
}

async fn expectations_decide(store: &dyn Store) {
    let first = commit(store, put("a", "one")).await;
    let second = commit(store, put("a", "two")).await;
    // What is expected of "a" and of "b" (which is absent), and at which key it fails.
    let cases = [
        (Some(Expected::Version(second)), None, None),
        (Some(Expected::Version(first)), None, Some("a")),
        (Some(Expected::Version(Commit(second.0 + 1))), None, Some("a")),
        (Some(Expected::Absent), None, Some("a")),
        (None, Some(Expected::Absent), None),
        (None, Some(Expected::Version(second)), Some("b")),
        (Some(Expected::Version(second)), Some(Expected::Version(second)), Some("b")),
    ];
    for (expected_a, expected_b, fails_at) in cases {
        let mut batch = put("elsewhere", "x");
        if let Some(expected) = expected_a {
            batch.expect(key("a"), expected);
        }
        if let Some(expected) = expected_b {
            batch.expect(key("b"), expected);
        }
        match fails_at {
            Some(at) => assert_eq!(conflict_at(store, batch).await, key(at)),
            None => drop(commit(store, batch).await),
        }
    }
    let mut removal = Batch::new();
    removal.delete(key("a"));
    commit(store, removal).await;
    let again = commit(store, put("a", "two")).await;
    assert!(
        again > second,
        "a version never comes back, so an old expectation cannot hold again by accident"
    );
}

async fn batches_are_whole_or_nothing(store: &dyn Store) {
    commit(store, put("kept", "old")).await;
    let before = store.stats().expect("stats").last_commit;
    let mut batch = put("new", "x");
    batch.put(key("kept"), "changed");
    batch.append("logged");
    batch.expect(key("kept"), Expected::Absent);
    conflict_at(store, batch).await;
    assert_eq!(scan_all(store).await, [key("kept")]);
    assert_eq!(get(store, "kept").await.map(|row| row.bytes), Some(Bytes::from("old")));
    assert_eq!(store.stats().expect("stats").last_commit, before);
}

/// Handed in at once, they may be applied in one group: each must see those before it, and a loser harms nobody.
async fn batches_that_come_together_see_each_other(store: &dyn Store) {
    let claims = join_all((0..50).map(|number| {
        let mut claim = put("lease", &number.to_string());
        claim.expect(key("lease"), Expected::Absent);
        store.commit(claim)
    }));
    let bystanders = join_all((0..50).map(|number| store.commit(put(&format!("other/{number}"), "x"))));
    let (claims, bystanders) = join(claims, bystanders).await;
    let won: Vec<usize> = (0..claims.len()).filter(|index| claims[*index].is_ok()).collect();
    assert_eq!(won.len(), 1, "one claim wins");
    assert!(claims.iter().all(|claim| matches!(claim, Ok(_) | Err(CommitError::Conflict { .. }))));
    assert!(bystanders.iter().all(Result::is_ok));
    assert_eq!(get(store, "lease").await.map(|row| row.bytes), Some(Bytes::from(won[0].to_string())));
}

async fn appends_are_in_commit_order(store: &dyn Store) {
    let commits = join_all((0..30).map(|number| {
        let mut batch = Batch::new();
        batch.append(format!("{number}/0"));
        batch.append(format!("{number}/1"));
        store.commit(batch)
    }));
    let mut expected: Vec<(Key, Row)> = Vec::new();
    for (number, commit) in commits.await.into_iter().enumerate() {
        let version = commit.expect("a commit");
        for index in 0..2 {
            let bytes = Bytes::from(format!("{number}/{index}"));
            expected.push((keys::log(version, index), Row { bytes, version }));
        }
    }
    expected.sort_by_key(|(_, row)| row.version);
    assert_eq!(scan(store, KeyRange::prefix(b"log/"), 1000).await.rows, expected);
}

async fn batches_have_a_size(store: &dyn Store) {
    let mut largest = Batch::new();
    largest.put(key("k"), vec![1; BATCH_BYTES_MAX - 1]);
    assert_eq!(largest.size_bytes(), BATCH_BYTES_MAX);
    let at = commit(store, largest).await;
    let mut too_large = Batch::new();
    too_large.put(key("k"), vec![2; BATCH_BYTES_MAX - 1]);
    too_large.append("x");
    match store.commit(too_large).await {
        Err(CommitError::TooLarge { bytes, limit }) => {
            assert_eq!((bytes, limit), (BATCH_BYTES_MAX + 1, BATCH_BYTES_MAX))
        }
        other => panic!("expected TooLarge, got {other:?}"),
    }
    assert_eq!(get(store, "k").await.map(|row| row.version), Some(at));
}

/// Eight writers add one to a counter 500 times each, as every command of the engine does it: read, decide, commit, retry.
async fn writers_of_one_key_lose_nothing(store: Arc<dyn Store>) {
    let mut writers = JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        writers.spawn(async move {
            for _ in 0..500 {
                while !try_add_one(&*store).await {}
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.expect("a writer that does not panic");
    }
    let counter = get(&*store, "counter").await.expect("the counter");
    assert_eq!((counter.bytes, counter.version), (Bytes::from("4000"), Commit(4000)));
}

async fn try_add_one(store: &dyn Store) -> bool {
    let row = get(store, "counter").await;
    let (count, expected) = match &row {
        None => (0, Expected::Absent),
        Some(row) => {
            let text = std::str::from_utf8(&row.bytes).expect("text");
            (text.parse::<u64>().expect("a number"), Expected::Version(row.version))
        }
    };
    let mut batch = put("counter", &(count + 1).to_string());
    batch.expect(key("counter"), expected);
    match store.commit(batch).await {
        Ok(_) => true,
        Err(CommitError::Conflict { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

async fn changes_wake_up(store: &dyn Store) {
    let first = commit(store, put("a", "1")).await;
    assert_eq!(store.changes(Commit(0)).await.expect("changes"), first, "an old commit is told at once");
    let mut waiting = store.changes(first);
    assert!((&mut waiting).now_or_never().is_none(), "there is nothing new yet");
    let mut wrong = put("a", "2");
    wrong.expect(key("a"), Expected::Absent);
    conflict_at(store, wrong).await;
    assert!((&mut waiting).now_or_never().is_none(), "a conflict is not a change");
    let second = commit(store, put("a", "2")).await;
    assert_eq!(waiting.await.expect("changes"), second);
}

async fn a_closed_store_says_so(store: &dyn Store) {
    let at = commit(store, put("a", "1")).await;
    let waiting = store.changes(at);
    let (closed, told) = join(store.close(), waiting).await;
    closed.expect("closing");
    assert!(matches!(told, Err(StoreError::Closed)), "who waits for changes is told");
    assert!(matches!(store.get(&key("a")).await, Err(StoreError::Closed)));
    assert!(matches!(store.scan(KeyRange::prefix(b""), PageLen::MAX).await, Err(StoreError::Closed)));
    let written = store.commit(put("a", "2")).await;
    assert!(matches!(written, Err(CommitError::Unavailable(StoreError::Closed))), "{written:?}");
    assert!(matches!(store.changes(Commit(0)).await, Err(StoreError::Closed)));
}

async fn everything_is_there_after_a_restart(backend: &mut dyn Backend) {
    let store = backend.create();
    for number in 0..100 {
        let mut batch = put(&format!("row/{number:03}"), &number.to_string());
        batch.append(number.to_string());
        commit(&*store, batch).await;
    }
    let before = scan(&*store, KeyRange::prefix(b""), 1000).await;
    assert_eq!(before.rows.len(), 200);
    // What was handed in before `close` is finished by it.
    let (last, closed) = join(store.commit(put("last", "x")), store.close()).await;
    closed.expect("closing");
    assert_eq!(last.expect("a commit handed in before close"), Commit(101));
    drop(store);

    let store = backend.reopen();
    let after = scan(&*store, KeyRange::prefix(b""), 1000).await;
    assert_eq!(
        after.rows.iter().filter(|(at, _)| *at != key("last")).cloned().collect::<Vec<_>>(),
        before.rows
    );
    assert_eq!(get(&*store, "last").await.map(|row| row.version), Some(Commit(101)));
    assert_eq!(commit(&*store, put("a", "1")).await, Commit(102), "numbers go on after a restart");
    assert_eq!(store.changes(Commit(101)).await.expect("changes"), Commit(102));
}
