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

async fn page_of<T>(
    store: &dyn Store,
    range: KeyRange,
    limit: PageLen,
    decode: Decode<T>,
) -> Result<TablePage<T>, StoreError> {
    let page = store.scan(range.clone(), limit).await?;
    let decoded = page.rows.iter().map(|(key, row)| Ok((decode(key, &row.bytes)?, row.version)));
    let entries = decoded.collect::<Result<_, StoreError>>()?;
    Ok(TablePage { entries, rest: page.next.map(|next| range.from(next)) })
}
