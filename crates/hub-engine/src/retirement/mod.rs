//! The end of a device's life: retire, restore, erase, release, and read what is kept of it. Each is one commit: a device is
//! in the registry, or retired with its archive, never half of both. The removal that follows runs in `reconcile`.

mod everything;
mod proof;
mod replace;
mod tombstones;

use std::sync::Arc;

use hub_domain::actor::Actor;
use hub_domain::event::{LifecycleBody, LifecycleStep};
use hub_domain::id::{DeviceId, TwinId};
use hub_domain::identity::{Authentication, Identity};
use hub_domain::retirement::{RetireRequest, Retirement, RetirementError, RetirementState};
use hub_domain::rights::Rights;
use hub_domain::twin::{Connection, PackedTwin, Twin};
use hub_store::{PageLen, keys, tables};
use serde_json::{Value, json};

pub use everything::{Everything, Part};
pub use proof::Proof;
pub use replace::{Replaced, Replacement};
pub(crate) use tombstones::Tombstones;

use crate::Hub;
use crate::access::Principal;
use crate::config::{ERASE_WAIT_MAX, RETIRED_LIST_ROWS_MAX};
use crate::configurations::Touched;
use crate::error::{self, Error, Result};
use crate::registry::{IdentityView, KeyChoice, lifecycle_event, stamps};
use crate::transact::Txn;

/// The scope of this list's paging tokens.
const LIST_SCOPE: &str = "retired";

/// A retired device with its last documents.
#[derive(Clone, Debug, PartialEq)]
pub struct RetiredView {
    /// The record.
    pub retirement: Retirement,
    /// The device's last document and those of its modules; empty once they are erased.
    pub documents: Vec<Value>,
}

/// One page of retired devices.
#[derive(Clone, Debug, PartialEq)]
pub struct RetiredPage {
    /// In the order of their ids.
    pub retired: Vec<Retirement>,
    /// Pass it back for the next page. `None` on the last.
    pub continuation: Option<String>,
}

impl From<RetirementError> for Error {
    fn from(error: RetirementError) -> Self {
        match error {
            RetirementError::Invalid(text) => Error::Invalid(text),
            RetirementError::Over { .. } => Error::Gone(error.to_string()),
            RetirementError::NotErased { .. } => Error::Conflict(error.to_string()),
        }
    }
}

impl Hub {
    /// Takes a device with its modules out of the registry: their keys fail and their connections end from this commit on,
    /// their twins are archived, and the id is not given away.
    ///
    /// # Errors
    /// [`Error::Retired`] if that was done before, [`Error::Conflict`] if the device gives no valid receipt and `force` is
    /// not set, and those of a method call.
    pub async fn device_retire(
        &self,
        who: &Principal,
        device: &DeviceId,
        request: &RetireRequest,
    ) -> Result<Retirement> {
        who.must(Rights::REGISTRY_WRITE)?;
        if request.erase.is_some() {
            who.must(Rights::SERVICE_CONNECT)?;
        }
        self.retire(&who.actor(), device, request).await
    }

    /// The same by whoever acts, such as a job.
    pub(crate) async fn retire(
        &self,
        actor: &Actor,
        device: &DeviceId,
        request: &RetireRequest,
    ) -> Result<Retirement> {
        request.check()?;
        let proof = self.prove_erased(device, request).await?;
        for mut txn in self.attempts_by(actor) {
            let retirement = self.put_retired(&mut txn, device, request, &proof, None)?;
            if txn.commit().await? {
                return Ok(retirement);
            }
        }
        Err(Error::Contended(TwinId::device(device.clone())))
    }

    /// Puts a device and its modules out of the registry and into the archive.
    pub(crate) fn put_retired(
        &self,
        txn: &mut Txn<'_>,
        device: &DeviceId,
        request: &RetireRequest,
        proof: &Proof,
        replaced_by: Option<&DeviceId>,
    ) -> Result<Retirement> {
        let id = TwinId::device(device.clone());
        let entry = txn.identity_entry(&id).map_err(|error| self.retired_or(device, error))?;
        let modules = self.index.modules_of(device);
        let now = txn.now();
        let retirement = Retirement {
            device: device.clone(),
            generation: entry.identity.generation.clone(),
            at: now,
            by: txn.actor().clone(),
            reason: request.reason.clone(),
            restorable_until: now.plus(request.restorable_for.unwrap_or(self.config.restorable_default)),
            replaced_by: replaced_by.cloned(),
            receipt: proof.receipt.clone(),
            unproven: proof.unproven.clone(),
            last_activity: entry.live.connection().last_activity,
            modules: modules.len() as u64,
            erasure: None,
            released: None,
        };
        txn.expect_free(device)?;
        for one in std::iter::once(&entry).chain(&modules) {
            // The versions of both are expected, so what is archived is the last that anybody wrote.
            txn.identity_entry(one.id())?;
            txn.twin_entry(one.id())?;
            txn.rows().put_archived(&one.identity, &one.packed);
            txn.delete(one.id());
        }
        let mut body = entry.twin.short_document(&id);
        body["retirement"] = json!({
            "reason": retirement.reason,
            "restorableUntil": retirement.restorable_until.to_string(),
            "replacedBy": retirement.replaced_by.as_ref().map(DeviceId::as_str),
            "modules": modules.iter().filter_map(|one| one.id().module.as_ref()).map(ToString::to_string).collect::<Vec<_>>(),
        });
        lifecycle_event(txn, &id, LifecycleStep::Retired, LifecycleBody::Document(body));
        txn.put_retirement(&retirement);
        Ok(retirement)
    }

    /// Brings a retired device back with its modules and twins, as they were: the same keys, unless new ones are asked for.
    /// Configurations have their say within the same commit.
    ///
    /// # Errors
    /// [`Error::RetirementNotFound`], and [`Error::Gone`] if its time is over.
    pub async fn retired_restore(
        &self,
        who: &Principal,
        device: &DeviceId,
        new_keys: bool,
    ) -> Result<IdentityView> {
        who.must(Rights::REGISTRY_WRITE)?;
        let id = TwinId::device(device.clone());
        for mut txn in self.attempts_by(&who.actor()) {
            let identity = self.put_restored(&mut txn, device, new_keys).await?;
            if txn.commit().await? {
                return Ok(IdentityView { identity, connection: Connection::NEVER });
            }
        }
        Err(Error::Contended(id))
    }

    /// Puts a retired device with its modules back into the registry.
    pub(crate) async fn put_restored(
        &self,
        txn: &mut Txn<'_>,
        device: &DeviceId,
        new_keys: bool,
    ) -> Result<Arc<Identity>> {
        let id = TwinId::device(device.clone());
        let retirement = txn.retirement(device).await?;
        retirement.check_restorable(txn.now())?;
        let archive = tables::retired::archive(&*self.store, device).await?;
        let Some(twin) = archive.first().map(|(_, twin)| twin.clone()) else {
            return Err(Error::Internal(format!("nothing is archived of '{device}'")));
        };
        let identity = put_archived(txn, archive, new_keys).ok_or_else(|| error::not_found(&id))?;
        let body = LifecycleBody::Twin(PackedTwin::new(&twin));
        lifecycle_event(txn, &id, LifecycleStep::Restored, body);
        txn.delete_retirement(device);
        Ok(identity)
    }

    /// Ends the time in which a device can be restored, and waits a while for its erasure: the record that is returned says
    /// whether it ended.
    pub async fn retired_erase(&self, who: &Principal, device: &DeviceId) -> Result<Retirement> {
        who.must(Rights::REGISTRY_WRITE)?;
        self.begin_erasure(&who.actor(), device).await?;
        self.tombstones.poke.notify_one();
        let mut commits = self.applier.watch();
        let erased = commits.wait_for(|_| {
            self.tombstones.get(device).is_none_or(|known| {
                !matches!(known.state, RetirementState::Restorable | RetirementState::Erasing)
            })
        });
        let _ = tokio::time::timeout(ERASE_WAIT_MAX, erased).await;
        self.retirement(device).await
    }

    /// Notes, durably, that there is no way back.
    pub(crate) async fn begin_erasure(&self, actor: &Actor, device: &DeviceId) -> Result<()> {
        for mut txn in self.attempts_by(actor) {
            let mut retirement = txn.retirement(device).await?;
            if !retirement.begin_erasure(actor.clone(), txn.now()) {
                return Ok(());
            }
            txn.put_retirement(&retirement);
            if txn.commit().await? {
                return Ok(());
            }
        }
        Err(Error::Contended(TwinId::device(device.clone())))
    }

    /// Sets the id of an erased device free. The record stays until the id is retired again.
    pub async fn retired_release(&self, who: &Principal, device: &DeviceId) -> Result<Retirement> {
        who.must(Rights::REGISTRY_WRITE)?;
        let id = TwinId::device(device.clone());
        for mut txn in self.attempts_by(&who.actor()) {
            let mut retirement = txn.retirement(device).await?;
            if !retirement.release(txn.now())? {
                return Ok(retirement);
            }
            txn.put_retirement(&retirement);
            let body = LifecycleBody::Document(json!({ "deviceId": device.as_str() }));
            lifecycle_event(&mut txn, &id, LifecycleStep::Released, body);
            if txn.commit().await? {
                return Ok(retirement);
            }
        }
        Err(Error::Contended(id))
    }

    /// Reads the record of a retired device and, while there is any, what is archived of it.
    pub async fn retired_get(&self, who: &Principal, device: &DeviceId) -> Result<RetiredView> {
        who.must(Rights::REGISTRY_READ)?;
        let retirement = self.retirement(device).await?;
        let archive = tables::retired::archive(&*self.store, device).await?;
        let documents = archive.iter().map(|(identity, twin)| retirement.document(identity, twin)).collect();
        Ok(RetiredView { retirement, documents })
    }

    pub(crate) async fn retirement(&self, device: &DeviceId) -> Result<Retirement> {
        let retirement = tables::retired::get(&*self.store, device).await?;
        retirement.ok_or_else(|| Error::RetirementNotFound(device.clone()))
    }

    /// Lists retired devices, in the order of their ids.
    pub async fn retired_list(
        &self,
        who: &Principal,
        page_rows: Option<usize>,
        continuation: Option<&str>,
    ) -> Result<RetiredPage> {
        who.must(Rights::REGISTRY_READ)?;
        let rows = page_rows.unwrap_or(RETIRED_LIST_ROWS_MAX).clamp(1, RETIRED_LIST_ROWS_MAX);
        let after = continuation.map(|token| self.open_token(LIST_SCOPE, token)).transpose()?;
        let after = after.and_then(|place| place.last).map(|id| DeviceId::parse(&id));
        let after = after.transpose().map_err(|_| Error::InvalidContinuation)?;
        let range = after.as_ref().map_or_else(keys::retired, keys::retired_after);
        let len = PageLen::new(rows).expect("a page of this list is a valid page");
        let page = tables::retired::page(&*self.store, range, len).await?;
        let retired: Vec<_> = page.entries.into_iter().map(|(retirement, _)| retirement).collect();
        // A token must never be followed by an empty page (S 7.1).
        let more = match page.rest {
            Some(rest) => !tables::retired::page(&*self.store, rest, PageLen::MAX).await?.entries.is_empty(),
            None => false,
        };
        let last = retired.last().filter(|_| more);
        let continuation = last.map(|last| self.make_token(LIST_SCOPE, 0, Some(last.device.as_str())));
        Ok(RetiredPage { retired, continuation })
    }

    /// The error for a device that is not there: that it is retired, if it is.
    pub(crate) fn retired_or(&self, device: &DeviceId, error: Error) -> Error {
        match (&error, self.tombstones.get(device)) {
            (Error::DeviceNotFound(_) | Error::ModuleNotFound(_), Some(known)) if known.is_in_force() => {
                known.error(device)
            }
            _ => error,
        }
    }
}

impl Txn<'_> {
    /// The record of a retired device that is not in use again; the commit fails if it changes before.
    async fn retirement(&mut self, device: &DeviceId) -> Result<Retirement> {
        let retirement = self.rows().retirement(device).await?;
        retirement.ok_or_else(|| Error::RetirementNotFound(device.clone()))
    }

    /// Errs if `device` is retired; the commit fails if it is by then.
    pub(crate) fn expect_free(&mut self, device: &DeviceId) -> Result<()> {
        let known = self.hub.tombstones.get(device);
        if let Some(known) = known.filter(|known| known.is_in_force()) {
            return Err(known.error(device));
        }
        self.rows().expect_retirement(device, known.map(|known| known.version));
        Ok(())
    }
}

/// Puts archived identities and twins back, the device's first; gives that.
fn put_archived(txn: &mut Txn<'_>, archive: Vec<(Identity, Twin)>, new_keys: bool) -> Option<Arc<Identity>> {
    let mut restored = Vec::new();
    for (identity, twin) in archive {
        let id = identity.id.clone();
        txn.expect_absent(&id);
        txn.rows().delete_archived(&id);
        let authentication = match &identity.authentication {
            Authentication::Sas(keys) if new_keys => Authentication::Sas(KeyChoice::Both.renew(keys)),
            kept => kept.clone(),
        };
        let etag_counter = stamps(txn.now(), Some(identity.etag_counter)).etag_counter;
        restored.push(txn.put_identity(Identity { authentication, etag_counter, ..identity }));
        let packed = PackedTwin::new(&twin);
        txn.put_settled_twin(&id, twin, packed);
    }
    // All of them first: what configurations do to a module can depend on its device, and on other modules being there.
    let set = txn.configurations();
    for identity in &restored {
        txn.settle(&set, &identity.id, Touched::Unknown);
    }
    restored.into_iter().next()
}
