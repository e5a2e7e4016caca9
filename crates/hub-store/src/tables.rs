//! The tables: typed reads, pages and writes over keys and records, one small file per table.
//! Reads outside of a transaction take the store; inside one they are methods of `Txn`, and are expected at its commit.
//! No rule of the domain may be here: a table writes what it is given.

pub mod artifacts;
pub mod configurations;
pub mod events;
pub mod identities;
pub mod jobs;
pub mod meta;
pub mod retired;
pub mod sessions;
pub mod transfers;
pub mod twins;

use crate::{Commit, Key, KeyRange, PageLen, Row, Store, StoreError};

/// One page of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct TablePage<T> {
    /// Its entries with the versions of their rows, in the order of their keys, all from one moment.
    pub entries: Vec<(T, Commit)>,
    /// What comes after it; `None` at the end.
    pub rest: Option<KeyRange>,
}

type Decode<T> = fn(&Key, &[u8]) -> Result<T, StoreError>;

fn decode_row<T>(key: &Key, row: Option<Row>, decode: Decode<T>) -> Result<Option<T>, StoreError> {
    row.map(|row| decode(key, &row.bytes)).transpose()
}

/// An entry with the version of its row, if it can be read.
pub type Decoded<T> = Result<(T, Commit), StoreError>;

/// One page of a table as it is stored, for who reads much and decodes it elsewhere, entry by entry.
pub struct StoredPage {
    range: KeyRange,
    rows: Vec<(Key, Row)>,
    rest: Option<KeyRange>,
}

impl StoredPage {
    /// Reads the entries of a range.
    pub async fn read(store: &dyn Store, range: KeyRange, limit: PageLen) -> Result<Self, StoreError> {
        let page = store.scan(range.clone(), limit).await?;
        let rest = page.next.map(|next| range.clone().from(next));
        Ok(Self { range, rows: page.rows, rest })
    }

    /// How many entries it has.
    #[allow(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Leaves all but the first `len` entries to the next page.
    pub fn cut(&mut self, len: usize) {
        if let Some((next, _)) = self.rows.get(len) {
            self.rest = Some(self.range.clone().from(next.clone()));
            self.rows.truncate(len);
        }
    }

    /// What comes after it; `None` at the end.
    pub fn rest(&self) -> Option<&KeyRange> {
        self.rest.as_ref()
    }

    /// Its entries with the versions of their rows.
    fn entries<'p, T>(
        &'p self,
        decode: fn(&Key, &'p [u8]) -> Result<T, StoreError>,
    ) -> impl Iterator<Item = Decoded<T>> {
        self.rows.iter().map(move |(key, row)| Ok((decode(key, &row.bytes)?, row.version)))
    }
}

async fn page_of<T>(
    store: &dyn Store,
    range: KeyRange,
    limit: PageLen,
    decode: Decode<T>,
) -> Result<TablePage<T>, StoreError> {
    let page = StoredPage::read(store, range, limit).await?;
    Ok(TablePage { entries: page.entries(decode).collect::<Result<_, _>>()?, rest: page.rest })
}
