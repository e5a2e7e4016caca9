//! Import and export jobs, and what each commit of an import settled. Ranges: `keys::transfers`, `keys::transfer_notes`.

use hub_domain::id::JobId;
use hub_domain::transfer::{TransferNote, TransferSpec, TransferState};

use super::{TablePage, decode_row, page_of};
use crate::keys::RowKey;
use crate::records::transfer::{decode, decode_note, encode, encode_note};
use crate::txn::Txn;
use crate::{Key, KeyRange, PageLen, Store, StoreError};

fn key(id: &JobId) -> Key {
    RowKey::Transfer(id.clone()).to_key()
}

/// The job with this name.
pub async fn get(store: &dyn Store, id: &JobId) -> Result<Option<(TransferSpec, TransferState)>, StoreError> {
    let key = key(id);
    decode_row(&key, store.get(&key).await?, decode)
}

/// A page of jobs, in the order of their names.
pub async fn page(
    store: &dyn Store,
    range: KeyRange,
    limit: PageLen,
) -> Result<TablePage<(TransferSpec, TransferState)>, StoreError> {
    page_of(store, range, limit, decode).await
}

/// A page of notes, in the order of their first lines.
pub async fn notes(
    store: &dyn Store,
    range: KeyRange,
    limit: PageLen,
) -> Result<TablePage<(JobId, TransferNote)>, StoreError> {
    page_of(store, range, limit, decode_note).await
}

impl Txn {
    /// The job with this name, expected unchanged at commit.
    pub async fn transfer(
        &mut self,
        id: &JobId,
    ) -> Result<Option<(TransferSpec, TransferState)>, StoreError> {
        let key = key(id);
        decode_row(&key, self.get(key.clone()).await?, decode)
    }

    /// Writes a job.
    pub fn put_transfer(&mut self, spec: &TransferSpec, state: &TransferState) {
        self.put(key(&spec.id), encode(spec, state));
    }

    /// Removes a job whose notes were removed.
    pub fn delete_transfer(&mut self, id: &JobId) {
        self.delete(key(id));
    }

    /// Writes down what this commit settles, under its first line. Without lines it writes nothing.
    pub fn put_transfer_note(&mut self, id: &JobId, note: &TransferNote) {
        if let Some(first) = note.lines.first() {
            self.put(RowKey::TransferNote(id.clone(), first).to_key(), encode_note(note));
        }
    }

    /// Removes a note.
    pub fn delete_transfer_note(&mut self, id: &JobId, note: &TransferNote) {
        if let Some(first) = note.lines.first() {
            self.delete(RowKey::TransferNote(id.clone(), first).to_key());
        }
    }
}
