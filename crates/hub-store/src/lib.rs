//! Storage behind a narrow trait: ordered keys, optimistic batches, and what is built once above them.
//! Read in this order: `Store` here, `batch`, `error`, the backends (`memory`, `embedded`), then `keys`, `records`,
//! `tables`, `txn`; `blobs` and `policies` are the two things of the data folder that are not rows.
//! It must never know a rule of the domain: it turns values into rows, and back.

pub mod batch;
pub mod blobs;
pub mod conformance;
mod disk;
pub mod embedded;
pub mod error;
pub mod keys;
pub mod memory;
pub mod policies;
mod records;
pub mod tables;
pub mod txn;

use std::fmt;

pub use batch::{BATCH_BYTES_MAX, Batch, Expected};
pub use bytes::Bytes;
pub use embedded::{EmbeddedOptions, EmbeddedStore};
pub use error::{CommitError, OpenError, StoreError};
pub use futures_util::future::BoxFuture;
pub use memory::MemoryStore;
pub use txn::Txn;

/// Most rows that one scan page may carry.
pub const PAGE_ROWS_MAX: u16 = 1000;
/// Bytes of keys and values after which a scan page ends early, with a `next` key.
pub const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Ordered keys with optimistic batches: all that the hub asks of a storage engine.
///
/// The contract, which `conformance::run` tests on every backend:
///
/// * Keys sort bytewise, and a scan page is a snapshot: all of its rows were there at one moment.
/// * A batch is applied whole or not at all, and only if every one of its expectations holds at that moment.
/// * A commit that returned `Ok` is durable, and every read that starts afterwards sees it.
/// * Each successful batch has its own commit number, exactly one more than the one before it, also across restarts.
///   The version of a row is the number of the commit that wrote it, so versions of a key only ever grow.
/// * After an error other than `Conflict` and `TooLarge` the outcome is unknown: the batch was applied whole or not at
///   all, and the caller reads again to learn which.
/// * Dropping the future of a commit does not recall the batch: its outcome is then unknown too.
pub trait Store: Send + Sync {
    /// The row at `key`, or `None`.
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Row>, StoreError>>;

    /// Rows of `range` in key order: at most `limit` of them and about `PAGE_BYTES_MAX` bytes, at least one if there is one.
    fn scan(&self, range: KeyRange, limit: PageLen) -> BoxFuture<'_, Result<Page, StoreError>>;

    /// Applies `batch` if its expectations hold. Returns once it is durable.
    ///
    /// Called by `Txn::commit` alone; everybody else writes through a `Txn`.
    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Commit, CommitError>>;

    /// Resolves with the newest commit number as soon as that is later than `after`: a wake-up, not a feed.
    fn changes(&self, after: Commit) -> BoxFuture<'_, Result<Commit, StoreError>>;

    /// What the store holds, for status pages and metrics. Cheap.
    fn stats(&self) -> Result<StoreStats, StoreError>;

    /// Finishes the commits that were handed in, then closes. Every later call answers `StoreError::Closed`.
    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// Number of a successful batch. The first one is 1; 0 means "before everything".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Commit(pub u64);

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Key of a row: bytes whose grammar is in `keys`. Printed with everything unprintable escaped.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Bytes);

impl Key {
    /// A key of exactly these bytes.
    pub fn new(bytes: impl Into<Bytes>) -> Key {
        Key(bytes.into())
    }

    /// The key's bytes, in the order by which rows are sorted.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The smallest key that is greater than this one: where a scan goes on after it.
    pub fn successor(&self) -> Key {
        let mut bytes = Vec::with_capacity(self.0.len() + 1);
        bytes.extend_from_slice(&self.0);
        bytes.push(0);
        Key(bytes.into())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

/// A stored value and the number of the commit that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The value, as it was put.
    pub bytes: Bytes,
    /// The commit that wrote it.
    pub version: Commit,
}

/// One answer of `Store::scan`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Rows in key order, all from one moment.
    pub rows: Vec<(Key, Row)>,
    /// Where the next page starts; `None` when the range is exhausted.
    pub next: Option<Key>,
}

/// Keys from `start` (included) to `end` (excluded).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// First key of the range.
    pub start: Key,
    /// First key behind the range; `None` is the end of everything.
    pub end: Option<Key>,
}

impl KeyRange {
    /// Every key from `start` on and before `end`. Empty if `end` is not greater.
    pub fn between(start: Key, end: Key) -> KeyRange {
        KeyRange { start, end: Some(end) }
    }

    /// Every key that begins with `prefix`.
    pub fn prefix(prefix: &[u8]) -> KeyRange {
        // The end is the prefix with its last byte that can still grow made one greater: "ab\xff" ends at "ac".
        let end = prefix.iter().rposition(|byte| *byte < 0xff).map(|last| {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            Key::new(end)
        });
        KeyRange { start: Key::new(Bytes::copy_from_slice(prefix)), end }
    }

    /// The part of this range that begins at `start`: how a scan goes on at `Page::next`.
    pub fn from(self, start: Key) -> KeyRange {
        KeyRange { start: start.max(self.start), end: self.end }
    }

    /// True when no key can be inside.
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }
}

/// How many rows a page may have: 1 to `PAGE_ROWS_MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLen(u16);

impl PageLen {
    /// The longest page.
    pub const MAX: PageLen = PageLen(PAGE_ROWS_MAX);

    /// `rows`, or `None` when it is not within 1 to `PAGE_ROWS_MAX`.
    pub fn new(rows: usize) -> Option<PageLen> {
        u16::try_from(rows).ok().filter(|rows| (1..=PAGE_ROWS_MAX).contains(rows)).map(PageLen)
    }

    /// The number of rows.
    pub fn get(self) -> usize {
        usize::from(self.0)
    }
}

/// What a store holds, see `Store::stats`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Bytes on disk; 0 for a store in memory.
    pub disk_bytes: u64,
    /// Number of the newest commit.
    pub last_commit: Commit,
}
