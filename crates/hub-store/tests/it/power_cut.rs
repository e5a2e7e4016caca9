//! Power cuts: killing a process cannot show a missing sync, because the kernel still writes what it was handed.
//! So the disk itself is cut off under a writing process; after its restart, all that was acknowledged must be there.
//! Nothing here may wait on a clock: a cut comes after a number of acknowledgements, wherever the writers are then.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use hub_store::{
    Bytes, Commit, CommitError, EmbeddedOptions, EmbeddedStore, Key, KeyRange, PageLen, Row, Store, Txn, keys,
};

use crate::mounts::{Mount, or_say_why_not};

/// Writers at once, so that groups of batches are cut and not only single ones.
const WRITERS: u64 = 16;
/// A further writer: the test itself, after each restart.
const TEST_WRITER: u64 = WRITERS;
/// How many acknowledgements a round waits for before the cut. The first cut comes as soon as the file is open.
const ACKNOWLEDGED_AT_CUT: [usize; 6] = [0, 1, 60, 333, 700, 1500];
/// Large enough to need new pages all the time, small enough for all rounds on the disk.
const VALUE_BYTES: usize = 700;
const DISK_BYTES: u64 = 128 * 1024 * 1024;
/// Tells the child where the store is.
const STORE: &str = "FLEETYARD_TEST_POWER_CUT_STORE";

/// A write of a writer, its numbers counted from 1 without a gap.
type Write = (u64, u64);

fn key(table: &str, (writer, number): Write) -> Key {
    Key::new(format!("{table}/{writer:02}/{number:08}"))
}

fn parse(text: &str) -> Write {
    let mut numbers = text.split('/').rev().map(|number| number.parse().expect("a number"));
    let number = numbers.next().expect("its number");
    (numbers.next().expect("its writer"), number)
}

fn value((writer, number): Write) -> Vec<u8> {
    format!("{writer}/{number};").into_bytes().into_iter().cycle().take(VALUE_BYTES).collect()
}

/// Four changes that belong together: two rows that must agree, one that is overwritten again and again, one of the log.
async fn write(store: &Arc<dyn Store>, write: Write) -> Result<Commit, CommitError> {
    let mut txn = Txn::new(store.clone());
    txn.put(key("left", write), value(write));
    txn.put(key("right", write), value(write));
    txn.put(key("newest", (write.0, 0)), write.1.to_string());
    txn.append(format!("{}/{}", write.0, write.1));
    txn.commit().await
}

fn open(path: &Path) -> Arc<dyn Store> {
    Arc::new(EmbeddedStore::open(path, EmbeddedOptions::default()).expect("the store opens"))
}

async fn rows(store: &Arc<dyn Store>, mut range: KeyRange) -> Vec<(Key, Row)> {
    let mut rows = Vec::new();
    loop {
        let page = store.scan(range.clone(), PageLen::MAX).await.expect("a page");
        rows.extend(page.rows);
        match page.next {
            Some(next) => range = range.from(next),
            None => return rows,
        }
    }
}

/// Number of the last write of each writer.
async fn newest(store: &Arc<dyn Store>) -> BTreeMap<u64, u64> {
    let number = |bytes: Bytes| std::str::from_utf8(&bytes).expect("text").parse().expect("a number");
    let found = rows(store, KeyRange::prefix(b"newest/")).await;
    let writer = |key: &Key| {
        parse(std::str::from_utf8(key.as_bytes()).expect("text").split_once('/').expect("a table").1).0
    };
    found.into_iter().map(|(key, row)| (writer(&key), number(row.bytes))).collect()
}

/// The process whose disk is cut off. It writes until it cannot, tells what was acknowledged, and waits to be killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "the child process of the test below; without its environment it does nothing"]
async fn child_that_writes() {
    let Ok(path) = std::env::var(STORE) else { return };
    let store = open(Path::new(&path));
    let newest = newest(&store).await;
    println!("open");
    for writer in 0..WRITERS {
        let store = store.clone();
        let first = newest.get(&writer).copied().unwrap_or(0) + 1;
        tokio::spawn(async move {
            for number in first.. {
                match write(&store, (writer, number)).await {
                    Ok(commit) => println!("acknowledged {commit} {writer}/{number}"),
                    // The disk is gone, as it was to be. Had it gone by itself, the test misses acknowledgements.
                    Err(_) => return,
                }
            }
        });
    }
    std::future::pending::<()>().await;
}

/// The child above, killed when dropped.
struct Writers(Child);

impl Writers {
    fn start(store: &Path) -> Writers {
        let child = Command::new(std::env::current_exe().expect("this test binary"))
            .args(["--exact", "power_cut::child_that_writes", "--ignored", "--nocapture"])
            .env(STORE, store)
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child process");
        Writers(child)
    }

    fn told(&mut self) -> BufReader<ChildStdout> {
        BufReader::new(self.0.stdout.take().expect("its output is piped"))
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the writers until `enough` was acknowledged, cuts the power, and returns all that was acknowledged.
fn write_until_cut(disk: &Mount, store: &Path, enough: usize) -> Result<BTreeMap<Commit, Write>, String> {
    let mut writers = Writers::start(store);
    let mut lines = writers.told().lines().map(|line| line.expect("readable output"));
    // The test harness of the child says things too.
    lines.by_ref().find(|line| line.ends_with("open")).expect("the child opens the store");
    let mut acknowledged = BTreeMap::new();
    let mut take = |line: &str| {
        if let Some((commit, write)) =
            line.strip_prefix("acknowledged ").and_then(|line| line.split_once(' '))
        {
            let before = acknowledged.insert(Commit(commit.parse().expect("a commit")), parse(write));
            assert_eq!(before, None, "two writes were acknowledged with one commit number: {line}");
        }
    };
    lines.by_ref().take(enough).for_each(|line| take(&line));
    disk.cut_power()?;
    drop(writers);
    lines.for_each(|line| take(&line));
    assert!(acknowledged.len() >= enough, "the child ended by itself");
    Ok(acknowledged)
}

/// Everything acknowledged is there, every batch is there whole, and commits and writes are numbered without a gap.
async fn check(store: &Arc<dyn Store>, acknowledged: &BTreeMap<Commit, Write>) {
    let last = store.stats().expect("its numbers").last_commit;
    let log = KeyRange::between(keys::log(Commit(0), 0), keys::log(Commit(u64::MAX), u32::MAX));
    let mut logged = BTreeMap::new();
    let mut per_writer = BTreeMap::new();
    for (number, (at, row)) in (1..).zip(rows(store, log).await) {
        assert_eq!((at, row.version), (keys::log(Commit(number), 0), Commit(number)), "a gap in the log");
        let write = parse(std::str::from_utf8(&row.bytes).expect("text"));
        let previous = per_writer.insert(write.0, write.1);
        assert_eq!(write.1, previous.unwrap_or(0) + 1, "a gap in the writes of writer {}", write.0);
        logged.insert(row.version, write);
    }
    assert_eq!(Commit(logged.len() as u64), last);
    for (commit, write) in acknowledged {
        assert_eq!(logged.get(commit), Some(write), "commit {commit} was acknowledged, and the disk lost it");
    }
    for table in ["left", "right"] {
        let mut found = BTreeMap::new();
        for (at, row) in rows(store, KeyRange::prefix(format!("{table}/").as_bytes())).await {
            let write = logged.get(&row.version).expect("the log has every commit");
            assert_eq!((at, row.bytes), (key(table, *write), Bytes::from(value(*write))));
            found.insert(row.version, *write);
        }
        assert!(found == logged, "{table} and the log do not agree");
    }
    assert_eq!(newest(store).await, per_writer);
}

#[tokio::test]
async fn acknowledged_is_on_the_disk() {
    let Some(mut disk) = or_say_why_not("acknowledged_is_on_the_disk", Mount::ext4(DISK_BYTES)) else {
        return;
    };
    let path = disk.path().join("hub.redb");
    let mut acknowledged = BTreeMap::new();
    for (round, enough) in (1..).zip(ACKNOWLEDGED_AT_CUT) {
        let cut = write_until_cut(&disk, &path, enough);
        let Some(in_round) = or_say_why_not("acknowledged_is_on_the_disk", cut) else { return };
        let count = in_round.len();
        acknowledged.extend(in_round);
        disk.restart().expect("the disk mounts again");
        assert!(path.exists(), "the store was open, and the disk lost its very name");
        let store = open(&path);
        check(&store, &acknowledged).await;

        let last = store.stats().expect("its numbers").last_commit;
        let unanswered = last.0 - acknowledged.len() as u64;
        assert!(unanswered <= WRITERS * round, "{unanswered} writes nobody can have waited for");
        println!(
            "round {round}: {count} acknowledged before the cut, all of them found; {last} commits in all"
        );
        let commit = write(&store, (TEST_WRITER, round)).await.expect("the store goes on");
        assert_eq!(commit, Commit(last.0 + 1));
        acknowledged.insert(commit, (TEST_WRITER, round));
        store.close().await.expect("closing");
    }
}
