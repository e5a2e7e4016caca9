//! New hardware in the place of old: it takes over the id, with keys of its own, or it has an id of its own and takes over
//! the twin while the old device is retired. One commit either way; the old key fails from it on.

use std::sync::Arc;

use hub_domain::actor::Actor;
use hub_domain::event::{LifecycleBody, LifecycleStep};
use hub_domain::id::{DeviceId, TwinId};
use hub_domain::identity::{Authentication, AuthenticationSpec, Identity};
use hub_domain::json::Object;
use hub_domain::retirement::{Predecessor, RetireRequest, Retirement, with_predecessor};
use hub_domain::rights::Rights;
use hub_domain::twin::{Twin, TwinPatch, TwinUpdate, WriteMode};
use hub_domain::version::Precondition;
use hub_index::Entry;
use serde_json::Value;

use super::Proof;
use crate::Hub;
use crate::access::Principal;
use crate::configurations::Touched;
use crate::error::{Error, Result};
use crate::registry::{IdentityView, lifecycle_event, stamps};
use crate::transact::Txn;
use crate::twins::twin_event;

/// What takes the place of a device.
#[derive(Clone, Debug, PartialEq)]
pub enum Replacement {
    /// Other hardware under the same id.
    Hardware {
        /// How it proves who it is; new keys if nothing is said.
        authentication: AuthenticationSpec,
        /// Whether what the old hardware reported stays until the new one reports.
        keep_reported: bool,
    },
    /// Another registered device, which gets tags and desired properties.
    Device {
        /// Which.
        new: DeviceId,
        /// Whether it may have a twin of its own, which is then overwritten.
        overwrite: bool,
        /// How the old one is retired.
        retire: RetireRequest,
    },
}

/// A device that took the place of another.
#[derive(Clone, Debug)]
pub struct Replaced {
    /// The one that is there now.
    pub device: IdentityView,
    /// Those that were there before, the newest first.
    pub predecessors: Vec<Predecessor>,
    /// The record of the old device, if that had an id of its own.
    pub retirement: Option<Retirement>,
}

impl Hub {
    /// Replaces a device.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the new device has a twin of its own, [`Error::Invalid`] if it is the old one or its hardware
    /// has a key of the old one.
    pub async fn device_replace(
        &self,
        who: &Principal,
        old: &DeviceId,
        replacement: &Replacement,
    ) -> Result<Replaced> {
        who.must(Rights::REGISTRY_WRITE)?;
        if let Replacement::Device { new, retire, .. } = replacement {
            retire.check()?;
            if new == old {
                return Err(Error::Invalid(format!(
                    "device '{old}' cannot replace itself; to put other hardware under its id, keep the id"
                )));
            }
        }
        let actor: &Actor = &who.actor();
        for mut txn in self.attempts_by(actor) {
            let replaced = match replacement {
                Replacement::Hardware { authentication, keep_reported } => {
                    self.put_hardware(&mut txn, old, authentication, *keep_reported).await?
                }
                Replacement::Device { new, overwrite, retire } => {
                    self.put_successor(&mut txn, old, new, *overwrite, retire).await?
                }
            };
            if txn.commit().await? {
                return Ok(replaced);
            }
        }
        Err(Error::Contended(TwinId::device(old.clone())))
    }

    async fn put_hardware(
        &self,
        txn: &mut Txn<'_>,
        device: &DeviceId,
        authentication: &AuthenticationSpec,
        keep_reported: bool,
    ) -> Result<Replaced> {
        let id = TwinId::device(device.clone());
        let entry = txn.identity_entry(&id).map_err(|error| self.retired_or(device, error))?;
        let fresh = stamps(txn.now(), Some(entry.identity.etag_counter));
        let authentication = authentication.resolve(fresh.fresh_keys.clone())?;
        must_differ(&entry.identity.authentication, &authentication)?;
        for one in std::iter::once(&entry).chain(&self.index.modules_of(device)) {
            if !keep_reported {
                forget_reported(txn, one)?;
            }
            let identity = Identity::clone(&one.identity);
            let fresh = stamps(txn.now(), Some(identity.etag_counter));
            let authentication = match &identity.authentication {
                _ if !identity.id.is_module() => authentication.clone(),
                Authentication::Sas(_) | Authentication::SelfSigned { .. } => {
                    Authentication::Sas(fresh.fresh_keys.clone())
                }
                kept => kept.clone(),
            };
            txn.identity_entry(one.id())?;
            let generation = txn.now().ticks().to_string();
            let etag_counter = fresh.etag_counter;
            self.put_changed(txn, one, Identity { authentication, generation, etag_counter, ..identity });
        }
        let identity = txn.put_so_far(&id).unwrap_or_else(|| entry.identity.clone());
        let predecessors = put_predecessor(txn, &entry, device).await?;
        let device = IdentityView { identity, connection: entry.live.connection() };
        Ok(Replaced { device, predecessors, retirement: None })
    }

    async fn put_successor(
        &self,
        txn: &mut Txn<'_>,
        old: &DeviceId,
        new: &DeviceId,
        overwrite: bool,
        retire: &RetireRequest,
    ) -> Result<Replaced> {
        let (old_id, new_id) = (TwinId::device(old.clone()), TwinId::device(new.clone()));
        let from = txn.identity_entry(&old_id).map_err(|error| self.retired_or(old, error))?;
        let to = txn.identity_entry(&new_id).map_err(|error| self.retired_or(new, error))?;
        if !overwrite {
            must_be_empty(new, &to.twin)?;
        }
        let section =
            |values: Object| TwinPatch::new(values).map_err(|error| Error::Internal(error.to_string()));
        let update = TwinUpdate {
            tags: Some(section(from.twin.tags.clone())?),
            desired: Some(section(from.twin.desired_of_back_ends())?),
        };
        txn.twin_entry(&old_id)?;
        self.put_twin_update(txn, &new_id, &update, WriteMode::Replace, &Precondition::None)?;
        let retirement = self.put_retired(txn, old, retire, &Proof::default(), Some(new))?;
        let predecessors = put_predecessor(txn, &from, new).await?;
        let device = IdentityView { identity: to.identity.clone(), connection: to.live.connection() };
        Ok(Replaced { device, predecessors, retirement: Some(retirement) })
    }
}

/// Notes that the owner of `from` made room for `device`, in a row and an event.
async fn put_predecessor(txn: &mut Txn<'_>, from: &Entry, device: &DeviceId) -> Result<Vec<Predecessor>> {
    let old = &from.id().device;
    let older = txn.rows().predecessors(old).await?;
    let predecessor = Predecessor {
        device: old.clone(),
        generation: from.identity.generation.clone(),
        at: txn.now(),
        by: txn.actor().clone(),
    };
    let all = with_predecessor(predecessor, &older);
    txn.rows().put_predecessors(device, &all);
    let id = TwinId::device(device.clone());
    let mut body = from.twin.short_document(&id);
    body["replaces"] = old.as_str().into();
    body["replacesGenerationId"] = from.identity.generation.as_str().into();
    lifecycle_event(txn, &id, LifecycleStep::Replaced, LifecycleBody::Document(body));
    Ok(all)
}

/// The old hardware must not be able to go on with what the new one has.
fn must_differ(old: &Authentication, new: &Authentication) -> Result<()> {
    let shared = match (old, new) {
        (Authentication::Sas(old), Authentication::Sas(new)) => {
            let old = [&old.primary, &old.secondary];
            [&new.primary, &new.secondary].iter().any(|key| old.contains(key))
        }
        (
            Authentication::SelfSigned { primary, secondary },
            Authentication::SelfSigned { primary: new_primary, secondary: new_secondary },
        ) => {
            let old: Vec<_> = [primary, secondary].into_iter().flatten().collect();
            [new_primary, new_secondary].into_iter().flatten().any(|print| old.contains(&print))
        }
        _ => false,
    };
    if shared {
        let text = "the new hardware must not have a key or thumbprint of the old; leave authentication out for new keys";
        return Err(Error::Invalid(text.into()));
    }
    Ok(())
}

fn must_be_empty(device: &DeviceId, twin: &Twin) -> Result<()> {
    let sections = [
        ("tags", twin.tags.is_empty()),
        ("desired properties", twin.desired_of_back_ends().is_empty()),
        ("reported properties", twin.reported.values.is_empty()),
    ];
    let own: Vec<_> = sections.iter().filter(|(_, empty)| !empty).map(|(name, _)| *name).collect();
    if own.is_empty() {
        return Ok(());
    }
    Err(Error::Conflict(format!(
        "device '{device}' has a twin of its own ({}), of which tags and desired properties would be lost: say overwrite if \
         that is meant",
        own.join(", ")
    )))
}

/// What the old hardware reported is not true of the new.
fn forget_reported(txn: &mut Txn<'_>, entry: &Arc<Entry>) -> Result<()> {
    let all: Object = entry.twin.reported.values.keys().map(|key| (key.clone(), Value::Null)).collect();
    if all.is_empty() {
        return Ok(());
    }
    let id = entry.id();
    txn.twin_entry(id)?;
    let patch = TwinPatch::new(all).map_err(|error| Error::Internal(error.to_string()))?;
    let (twin, change) = entry.twin.patch_reported(&patch, None, txn.now())?;
    twin_event(txn, id, (&entry.twin, &twin), &change);
    txn.put_twin(id, twin, Touched::Sections(&change));
    Ok(())
}
