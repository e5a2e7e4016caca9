//! What an operator meets: a full disk, a folder that cannot be written, a second process. (A damaged file: `damage`.)
//! Each must give an error that says what happened and to which file, and must leave the data as it was.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use hub_store::{
    Commit, CommitError, EmbeddedOptions, EmbeddedStore, Key, OpenError, Row, Store, StoreError, Txn,
};

use crate::mounts::{Mount, or_say_why_not};

const DISK_BYTES: u64 = 16 * 1024 * 1024;
/// Room that is taken first, and made when the disk is full.
const BALLAST_BYTES: usize = 6 * 1024 * 1024;
/// Large, so that few commits fill a disk.
const VALUE_BYTES: usize = 60_000;
/// More rows than `DISK_BYTES` can hold.
const ROWS_MAX: u32 = 1000;
/// Tells the child of `a_second_process_is_refused` where the store is.
const STORE: &str = "FLEETYARD_TEST_SECOND_PROCESS_STORE";

fn open(path: &Path) -> Result<Arc<dyn Store>, OpenError> {
    Ok(Arc::new(EmbeddedStore::open(path, EmbeddedOptions::default())?))
}

fn key(number: u32) -> Key {
    Key::new(format!("row/{number:06}"))
}

fn value(number: u32) -> Vec<u8> {
    number.to_be_bytes().into_iter().cycle().take(VALUE_BYTES).collect()
}

async fn write(store: &Arc<dyn Store>, number: u32) -> Result<Commit, CommitError> {
    let mut txn = Txn::new(store.clone());
    txn.put(key(number), value(number));
    txn.commit().await
}

/// The rows up to `last` are all there, each written by the commit of its number, and there are no others.
async fn check_rows(store: &Arc<dyn Store>, last: u32) {
    for number in 1..=last {
        let row = store.get(&key(number)).await.expect("a read").expect("a row that was acknowledged");
        assert_eq!(row, Row { bytes: value(number).into(), version: Commit(number.into()) });
    }
    assert_eq!(store.get(&key(last + 1)).await.expect("a read"), None);
    assert_eq!(store.stats().expect("its numbers").last_commit, Commit(last.into()));
}

/// Writes until the disk is full, and returns the last row that was acknowledged.
async fn fill(store: &Arc<dyn Store>, path: &Path, from: u32) -> u32 {
    for number in from..ROWS_MAX {
        match write(store, number).await {
            Ok(commit) => assert_eq!(commit, Commit(number.into())),
            Err(CommitError::Unavailable(error @ StoreError::DiskFull { .. })) => {
                let text = error.to_string();
                assert!(
                    text.contains("no room left") && text.contains(path.to_str().expect("text")),
                    "{text}"
                );
                return number - 1;
            }
            Err(error) => panic!("row {number}: {error:?} is not how a full disk is told"),
        }
    }
    panic!("{ROWS_MAX} rows did not fill the disk")
}

async fn full_disk(disk: &Mount) {
    let (path, ballast) = (disk.path().join("hub.redb"), disk.path().join("ballast"));
    std::fs::write(&ballast, vec![7; BALLAST_BYTES]).expect("an empty disk has room");
    let store = open(&path).expect("a store");
    let last = fill(&store, &path, 1).await;
    assert!(last > 10, "the disk was full at once: {last}");
    check_rows(&store, last).await;
    // Full is full: said again as often as somebody tries, and never half done.
    for _ in 0..3 {
        assert_eq!(fill(&store, &path, last + 1).await, last);
    }
    check_rows(&store, last).await;

    std::fs::remove_file(&ballast).expect("making room");
    let further = fill(&store, &path, last + 1).await;
    assert!(further > last, "room was made, and nothing more fits");
    check_rows(&store, further).await;

    store.close().await.expect("closing");
    drop(store);
    let store = open(&path).expect("a full disk is no reason not to start");
    check_rows(&store, further).await;
    store.close().await.expect("closing");
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_writes_work_again_when_there_is_room() {
    for disk in [Mount::tmpfs(DISK_BYTES), Mount::ext4(DISK_BYTES)] {
        if let Some(disk) = or_say_why_not("a full disk", disk) {
            full_disk(&disk).await;
        }
    }
}

#[tokio::test]
async fn a_store_is_not_made_on_a_full_disk() {
    let Some(disk) = or_say_why_not("a new store on a full disk", Mount::tmpfs(DISK_BYTES)) else { return };
    let (path, ballast) = (disk.path().join("hub.redb"), disk.path().join("ballast"));
    std::fs::write(&ballast, vec![7; DISK_BYTES as usize + 1]).expect_err("the disk is smaller than that");
    let Err(error) = open(&path) else { panic!("a store without any room") };
    assert!(matches!(&error, OpenError::DiskFull { path: told } if *told == path), "{error:?}");
    assert!(error.to_string().contains("no room left"), "{error}");

    std::fs::remove_file(&ballast).expect("making room");
    let store = open(&path).expect("what the failed start left behind is no hindrance");
    write(&store, 1).await.expect("a write");
    store.close().await.expect("closing");
}

fn check_not_writable(path: &Path) {
    let Err(error) = open(path) else { panic!("{} was opened", path.display()) };
    assert!(matches!(&error, OpenError::NotWritable { path: told, .. } if told == path), "{error:?}");
    assert!(error.to_string().contains(path.to_str().expect("text")), "{error}");
    assert!(std::error::Error::source(&error).is_some(), "the system's own reason is missing");
}

#[test]
fn places_that_cannot_be_written_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    std::fs::write(&file, "no folder").expect("a file");
    for path in [
        file.join("hub.redb"),
        folder.path().join("missing").join("hub.redb"),
        folder.path().to_owned(),
        PathBuf::from("/proc/hub.redb"),
    ] {
        check_not_writable(&path);
    }
    assert_eq!(std::fs::read(&file).expect("the file"), b"no folder");
}

#[tokio::test]
async fn a_read_only_disk_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder.path().join("hub.redb")).expect("a store");
    write(&store, 1).await.expect("a write");
    store.close().await.expect("closing");
    let Some(disk) = or_say_why_not("a read-only disk", Mount::read_only(folder.path())) else { return };
    check_not_writable(&disk.path().join("hub.redb"));
    check_not_writable(&disk.path().join("new.redb"));
    drop(disk);
    check_rows(&open(&folder.path().join("hub.redb")).expect("writable again"), 1).await;
}

/// The first process: it opens the store, writes a row, says so, and waits to be killed.
#[tokio::test]
#[ignore = "the child process of the test below; without its environment it does nothing"]
async fn child_that_holds_a_store() {
    let Ok(path) = std::env::var(STORE) else { return };
    let store = open(Path::new(&path)).expect("a store");
    write(&store, 1).await.expect("a write");
    println!("holds it");
    std::future::pending::<()>().await;
}

struct Holder(Child);

impl Holder {
    fn start(store: &Path) -> Holder {
        let child = Command::new(std::env::current_exe().expect("this test binary"))
            .args(["--exact", "disasters::child_that_holds_a_store", "--ignored", "--nocapture"])
            .env(STORE, store)
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child process");
        let mut holder = Holder(child);
        let said = std::io::BufReader::new(holder.0.stdout.take().expect("its output is piped"));
        let mut lines = std::io::BufRead::lines(said).map(|line| line.expect("readable output"));
        lines.find(|line| line.ends_with("holds it")).expect("the child opens the store");
        holder
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_second_process_is_refused_and_the_first_is_not_disturbed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("hub.redb");
    let holder = Holder::start(&path);
    for _ in 0..2 {
        let Err(error) = open(&path) else { panic!("two processes have one store") };
        assert!(matches!(&error, OpenError::InUse { path: told } if *told == path), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("in use by another process") && text.contains(path.to_str().expect("text")));
    }
    drop(holder);
    let store = open(&path).expect("the lock ends with the process, however it ends");
    check_rows(&store, 1).await;
    assert!(matches!(open(&path), Err(OpenError::InUse { .. })), "twice in one process is no better");
    write(&store, 2).await.expect("the refused one did no harm");
    check_rows(&store, 2).await;
}
