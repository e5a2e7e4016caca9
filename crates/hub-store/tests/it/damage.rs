//! Damaged files, and files that are no store: opening says so, never panics, and leaves every byte as it was.
//! Damage that opening does not find, for it does not read every page, is found when a row is read: a value that was
//! never written must not come back.

use std::path::Path;
use std::sync::Arc;

use hub_store::{
    Bytes, Commit, EmbeddedOptions, EmbeddedStore, Key, KeyRange, OpenError, PageLen, Row, Store, StoreError,
    Txn,
};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

const ROWS: u32 = 400;
const VALUE_BYTES: usize = 900;
/// How many bytes of the file are flipped, each in a file of its own.
const PLACES: usize = 150;

fn open(path: &Path) -> Result<Arc<dyn Store>, OpenError> {
    Ok(Arc::new(EmbeddedStore::open(path, EmbeddedOptions::default())?))
}

fn key(number: u32) -> Key {
    Key::new(format!("row/{number:06}"))
}

fn value(number: u32) -> Bytes {
    number.to_be_bytes().into_iter().cycle().take(VALUE_BYTES).collect::<Vec<u8>>().into()
}

/// The bytes of a store that was closed.
async fn intact() -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("hub.redb");
    let store = open(&path).expect("a store");
    for hundred in 0..ROWS / 100 {
        let mut txn = Txn::new(store.clone());
        for number in hundred * 100..(hundred + 1) * 100 {
            txn.put(key(number), value(number));
        }
        txn.commit().await.expect("a write");
    }
    store.close().await.expect("closing");
    std::fs::read(&path).expect("the file")
}

/// Opening `content` fails, names the file and says `expected`, and changes nothing, however often it is tried.
fn check_refused(name: &str, content: &[u8], expected: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("hub.redb");
    std::fs::write(&path, content).expect("a file");
    for _ in 0..2 {
        let Err(error) = open(&path) else { panic!("{name}: was opened") };
        let text = error.to_string();
        assert!(text.contains(path.to_str().expect("text")) && text.contains(expected), "{name}: {text}");
        assert!(std::fs::read(&path).expect("the file") == content, "{name}: the file was changed");
    }
    let names: Vec<_> = std::fs::read_dir(folder.path()).expect("the folder").collect();
    assert_eq!(names.len(), 1, "{name}: something was put beside the file");
}

#[tokio::test]
async fn what_is_no_whole_store_is_refused_and_left_as_it_is() {
    let intact = intact().await;
    let flipped = |at: usize| {
        let mut bytes = intact.clone();
        bytes[at] ^= 0x55;
        bytes
    };
    // The engine has two slots for its root, 128 bytes each, and uses them in turn.
    let (mut roots, half) = (flipped(80), intact.len() / 2);
    roots[80 + 128] ^= 0x55;
    for (name, content) in [
        ("nothing", Vec::new()),
        ("text", b"These are notes, not a store.\n".to_vec()),
        ("a long text", b"These are notes, not a store.\n".repeat(100_000)),
        ("zeros", vec![0; intact.len()]),
        ("a single byte", intact[..1].to_vec()),
        ("the first page alone", intact[..4096].to_vec()),
        ("the first half", intact[..half].to_vec()),
        ("all but the last byte", intact[..intact.len() - 1].to_vec()),
        ("the second half", intact[half..].to_vec()),
        ("another magic number", flipped(0)),
        ("another page size", flipped(13)),
        ("another layout", flipped(24)),
        ("other roots", roots),
        ("another version of the engine's format", flipped(64)),
    ] {
        check_refused(name, &content, "is damaged or no store of this hub");
    }
}

const ROWS_TABLE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("rows");
const META_TABLE: TableDefinition<&str, u64> = TableDefinition::new("meta");

type Entries<K, V> = Vec<(K, V)>;

/// Everything in the file, as the engine sees it.
fn dump(path: &Path) -> (Entries<Vec<u8>, Vec<u8>>, Entries<String, u64>) {
    let read = Database::open(path).expect("the engine opens it").begin_read().expect("a snapshot");
    let rows = read.open_table(ROWS_TABLE).expect("the rows");
    let rows = rows.iter().expect("all of them").map(|entry| entry.expect("a row"));
    let meta = read.open_table(META_TABLE).expect("the numbers");
    let meta = meta.iter().expect("all of them").map(|entry| entry.expect("a number"));
    (
        rows.map(|(key, value)| (key.value().to_vec(), value.value().to_vec())).collect(),
        meta.map(|(name, number)| (name.value().to_owned(), number.value())).collect(),
    )
}

/// The engine keeps its own house on every opening, so here it is the content that must stay, not each byte.
#[tokio::test]
async fn a_newer_format_is_refused_and_its_content_left_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("hub.redb");
    std::fs::write(&path, intact().await).expect("a file");
    let database = Database::open(&path).expect("the engine opens it");
    let change = database.begin_write().expect("a transaction");
    change.open_table(META_TABLE).expect("the numbers").insert("format", 1000).expect("a write");
    change.commit().expect("a commit");
    drop(database);
    let before = dump(&path);
    assert_eq!(before.0.len(), ROWS as usize);
    for _ in 0..2 {
        let Err(error) = open(&path) else { panic!("a store of a newer release was opened") };
        assert!(matches!(&error, OpenError::NewerFormat { found: 1000, .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(path.to_str().expect("text")) && text.contains("newer release"), "{text}");
        assert!(dump(&path) == before, "the content was changed");
    }
}

/// A crash while a store is made leaves only a file beside its name, which must not keep a new hub from starting.
#[tokio::test]
async fn a_store_that_was_half_made_is_made_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, half) = (folder.path().join("hub.redb"), folder.path().join("hub.redb.new"));
    for content in [vec![], vec![0; 1_000_000], intact().await[..5000].to_vec()] {
        std::fs::write(&half, content).expect("a file");
        let store = open(&path).expect("a store");
        assert_eq!(store.stats().expect("its numbers").last_commit, Commit(0));
        assert!(!half.exists());
        store.close().await.expect("closing");
        std::fs::remove_file(&path).expect("the next one");
    }
}

/// Every row of `store` that can be read, and how many errors there were instead of pages.
async fn scan(store: &Arc<dyn Store>) -> (Vec<(Key, Row)>, usize) {
    let mut rows = Vec::new();
    let mut range = KeyRange::prefix(b"");
    loop {
        match store.scan(range.clone(), PageLen::new(50).expect("a page length")).await {
            Ok(page) => {
                rows.extend(page.rows);
                match page.next {
                    Some(next) => range = range.from(next),
                    None => return (rows, 0),
                }
            }
            Err(_) => return (rows, 1),
        }
    }
}

#[tokio::test]
async fn a_damaged_row_is_named_and_the_others_are_read() {
    const DAMAGED: u32 = 0x0000_0123;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("hub.redb");
    let mut bytes = intact().await;
    // Pages that were replaced still lie in the file, so the row may be there more than once.
    let value_bytes = value(DAMAGED);
    let places: Vec<_> =
        (0..bytes.len() - VALUE_BYTES).filter(|at| bytes[*at..].starts_with(&value_bytes)).collect();
    assert!(!places.is_empty(), "the row is not in the file as it was written");
    for at in places {
        bytes[at + VALUE_BYTES / 2] ^= 1;
    }
    std::fs::write(&path, bytes).expect("a file");

    let store = open(&path).expect("a store");
    for number in 0..ROWS {
        match store.get(&key(number)).await {
            Err(StoreError::Corrupt { key: named, problem }) => {
                assert_eq!((number, named), (DAMAGED, key(DAMAGED)));
                assert!(problem.contains("checksum"), "{problem}");
            }
            found => {
                let row = found.expect("a read").expect("a row");
                assert!(number != DAMAGED && row.bytes == value(number), "row {number}");
            }
        }
    }
    assert_eq!(scan(&store).await.1, 1, "a page with the damaged row");
}

/// One flipped byte after the other, over the whole file: opening refuses, or a read does, or the byte does not matter.
#[tokio::test]
async fn no_flipped_byte_makes_up_a_value() {
    let intact = intact().await;
    let (mut refused, mut noticed) = (0, 0);
    for at in (0..intact.len()).step_by(intact.len() / PLACES) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("hub.redb");
        let mut bytes = intact.clone();
        bytes[at] ^= 0x55;
        std::fs::write(&path, &bytes).expect("a file");
        let store = match open(&path) {
            Ok(store) => store,
            Err(error) => {
                assert!(matches!(error, OpenError::Damaged { .. }), "byte {at}: {error:?}");
                assert!(std::fs::read(&path).expect("the file") == bytes, "byte {at}: the file was changed");
                refused += 1;
                continue;
            }
        };
        for number in 0..ROWS {
            // A row whose key is damaged cannot be found by it; what is found must be what was written.
            if let Ok(Some(row)) = store.get(&key(number)).await {
                assert!(row.bytes == value(number), "byte {at} made up a value of row {number}");
            }
        }
        let (rows, errors) = scan(&store).await;
        noticed += errors;
        for (found, row) in rows {
            let number = (0..ROWS).find(|number| key(*number) == found).expect("a key that was written");
            assert!(row.bytes == value(number), "byte {at} made up a value of row {number}");
        }
    }
    assert!(
        refused > 0 && noticed > PLACES / 5,
        "{refused} and {noticed}: the bytes that matter were not hit"
    );
}
