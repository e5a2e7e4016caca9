//! Twins: a back end reads and writes tags and desired properties, a device reads its sections and reports.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hub_domain::actor::Actor;
use hub_domain::event::{Event, EventKind};
use hub_domain::id::TwinId;
use hub_domain::identity::Identity;
use hub_domain::rights::Rights;
use hub_domain::twin::{
    Connection, PathChanges, Properties, Twin, TwinChange, TwinDocument, TwinError, TwinPatch, TwinUpdate,
    WriteMode,
};
use hub_domain::version::Precondition;
use hub_index::Entry;
use serde_json::{Map, Value, json};

use crate::access::Principal;
use crate::configurations::Touched;
use crate::error::{self, Error, Result};
use crate::transact::Txn;
use crate::{Attachment, Hub};

/// A twin with its owner, as it was at one moment.
#[derive(Clone, Debug)]
pub struct TwinView {
    /// The registry's entry.
    pub identity: Arc<Identity>,
    /// The twin.
    pub twin: Arc<Twin>,
    /// The live side.
    pub connection: Connection,
}

impl TwinView {
    pub(crate) fn of(entry: &Entry) -> Self {
        Self {
            identity: entry.identity.clone(),
            twin: entry.twin.clone(),
            connection: entry.live.connection(),
        }
    }

    /// The document that back ends see.
    pub fn document(&self) -> TwinDocument<'_> {
        TwinDocument { identity: &self.identity, twin: &self.twin, connection: self.connection }
    }
}

impl From<TwinError> for Error {
    fn from(error: TwinError) -> Self {
        match error {
            TwinError::TooLarge { .. } => Error::Invalid(error.to_string()),
            TwinError::Precondition => Error::PreconditionFailed,
        }
    }
}

impl Hub {
    /// Reads a twin, for a back end.
    pub fn twin_get(&self, who: &Principal, id: &TwinId) -> Result<TwinView> {
        who.must(Rights::SERVICE_CONNECT)?;
        self.twin_view(id)
    }

    /// Reads the twin of the device or module that is attached.
    pub fn twin_get_own(&self, attachment: &Attachment) -> Result<TwinView> {
        self.twin_view(attachment.id())
    }

    fn twin_view(&self, id: &TwinId) -> Result<TwinView> {
        self.require_device(id)?;
        self.index.get(id).map(|entry| TwinView::of(&entry)).ok_or_else(|| error::not_found(id))
    }

    /// Merges into or replaces tags and desired properties; the device is told what changed of the latter.
    pub async fn twin_update(
        &self,
        who: &Principal,
        id: &TwinId,
        update: &TwinUpdate,
        mode: WriteMode,
        precondition: &Precondition,
    ) -> Result<TwinView> {
        who.must(Rights::SERVICE_CONNECT)?;
        self.require_device(id)?;
        self.write_twin(&who.actor(), id, update, mode, precondition).await
    }

    pub(crate) async fn write_twin(
        &self,
        actor: &Actor,
        id: &TwinId,
        update: &TwinUpdate,
        mode: WriteMode,
        precondition: &Precondition,
    ) -> Result<TwinView> {
        for mut txn in self.attempts_by(actor) {
            let (entry, twin) = self.put_twin_update(&mut txn, id, update, mode, precondition)?;
            if txn.commit().await? {
                return Ok(TwinView { twin, ..TwinView::of(&entry) });
            }
        }
        Err(Error::Contended(id.clone()))
    }

    pub(crate) fn put_twin_update(
        &self,
        txn: &mut Txn<'_>,
        id: &TwinId,
        update: &TwinUpdate,
        mode: WriteMode,
        precondition: &Precondition,
    ) -> Result<(Arc<Entry>, Arc<Twin>)> {
        let entry = txn.twin_entry(id)?;
        let (mut twin, change) = entry.twin.update(update, mode, precondition, txn.now())?;
        if let Some(patch) = &change.desired {
            twin = twin.written_by(txn.actor().clone());
            txn.tell_desired(id, patch.clone(), twin.desired.version);
        }
        twin_event(txn, id, (&entry.twin, &twin), &change);
        let twin = txn.put_twin(id, twin, Touched::Sections(&change));
        Ok((entry, twin))
    }

    /// Merges a device's patch into its reported section; returns the section's new version.
    pub async fn twin_patch_reported(
        &self,
        who: &Principal,
        id: &TwinId,
        patch: &TwinPatch,
        if_version: Option<u64>,
    ) -> Result<u64> {
        who.must_act_as(id)?;
        for mut txn in self.attempts_by(&who.actor()) {
            let entry = txn.twin_entry(id)?;
            let (twin, change) = entry.twin.patch_reported(patch, if_version, txn.now())?;
            twin_event(&mut txn, id, (&entry.twin, &twin), &change);
            let version = twin.reported.version;
            txn.put_twin(id, twin, Touched::Sections(&change));
            if txn.commit().await? {
                self.counters.reported_patches.fetch_add(1, Ordering::Relaxed);
                return Ok(version);
            }
        }
        Err(Error::Contended(id.clone()))
    }

    /// Notes the DTDL model that a device announced when it connected.
    pub async fn twin_announce_model(&self, who: &Principal, id: &TwinId, model_id: &str) -> Result<()> {
        who.must_act_as(id)?;
        for mut txn in self.attempts_by(&who.actor()) {
            let entry = txn.twin_entry(id)?;
            if entry.twin.model_id.as_deref() == Some(model_id) {
                return Ok(());
            }
            let twin = Twin { model_id: Some(model_id.into()), ..Twin::clone(&entry.twin) };
            txn.put_twin(id, twin, Touched::Identity);
            if txn.commit().await? {
                return Ok(());
            }
        }
        Err(Error::Contended(id.clone()))
    }
}

/// Tells that whoever acts in `txn` made the first of these twins the second.
pub(crate) fn twin_event(txn: &mut Txn<'_>, id: &TwinId, twins: (&Twin, &Twin), change: &TwinChange) {
    let actor = txn.actor().clone();
    let changes = PathChanges::of(change, twins.0, twins.1);
    write_event(txn, id, twins.1, change, actor, changes);
}

/// Tells that configurations made the first of these twins the second.
pub(crate) fn configured_event(
    txn: &mut Txn<'_>,
    id: &TwinId,
    (before, after): (&Twin, &Twin),
    change: &TwinChange,
) {
    let mut changes = PathChanges::of(change, before, after);
    let actor = changes.attribute(&before.desired, &after.desired);
    write_event(txn, id, after, change, actor, changes);
}

/// Writes the event of S 10.4: for a merge what changed with its stamps, for a replacement the whole twin.
fn write_event(
    txn: &mut Txn<'_>,
    id: &TwinId,
    twin: &Twin,
    change: &TwinChange,
    actor: Actor,
    changes: PathChanges,
) {
    let replaced = change.mode == WriteMode::Replace;
    let body = if replaced { replaced_body(id, twin) } else { merged_body(twin, change) };
    let kind = EventKind::Twin { replaced, body, actor: Some(actor), changes };
    let event = Event { time: txn.now(), id: id.clone(), kind };
    txn.event(&event);
}

fn merged_body(twin: &Twin, change: &TwinChange) -> Value {
    let section = |properties: &Properties, patch: &Map<String, Value>| {
        let mut object = patch.clone();
        object.insert("$metadata".into(), Value::Object(properties.metadata.part(patch).to_json()));
        object.insert("$version".into(), properties.version.into());
        Value::Object(object)
    };
    let mut properties = Map::new();
    if let Some(patch) = &change.desired {
        properties.insert("desired".into(), section(&twin.desired, patch));
    }
    if let Some(patch) = &change.reported {
        properties.insert("reported".into(), section(&twin.reported, patch));
    }
    let mut body = json!({ "version": twin.version() });
    if let Some(tags) = &change.tags {
        body["tags"] = Value::Object(Map::clone(tags));
    }
    if !properties.is_empty() {
        body["properties"] = Value::Object(properties);
    }
    body
}

fn replaced_body(id: &TwinId, twin: &Twin) -> Value {
    let mut body = twin.short_document(id);
    body["tags"] = Value::Object(twin.tags.clone());
    body
}
