//! Many identities in one request: each item stands for itself, and all of them share the store's group commits.

use futures_util::future::join_all;
use hub_domain::actor::Actor;
use hub_domain::id::TwinId;
use hub_domain::identity::IdentitySpec;
use hub_domain::limits::BULK_DEVICES_MAX;
use hub_domain::rights::Rights;
use hub_domain::twin::{TwinRecord, TwinUpdate, WriteMode};
use hub_domain::version::Precondition;

use crate::Hub;
use crate::access::Principal;
use crate::error::{Error, Result};
use crate::transact::Txn;

/// What to do with one identity.
#[derive(Clone, Debug, PartialEq)]
pub enum BulkAction {
    /// It must not exist.
    Create {
        /// The identity.
        spec: IdentitySpec,
        /// Tags and desired properties to begin with.
        twin: TwinUpdate,
    },
    /// It must exist and meet the preconditions; identity and given twin sections are replaced.
    Update {
        /// The identity.
        spec: IdentitySpec,
        /// Sections that are given are replaced.
        twin: TwinUpdate,
        /// On the identity's etag.
        precondition: Precondition,
        /// On the twin's etag; looked at only if a section is given.
        twin_precondition: Precondition,
    },
    /// Create or else update.
    CreateOrUpdate {
        /// The identity.
        spec: IdentitySpec,
        /// Sections that are given are replaced.
        twin: TwinUpdate,
        /// On the identity's etag, if it exists.
        precondition: Precondition,
        /// On the twin's etag, if it exists and a section is given.
        twin_precondition: Precondition,
    },
    /// It must exist and meet the precondition.
    Delete {
        /// On the identity's etag.
        precondition: Precondition,
    },
    /// Only tags and desired properties are merged.
    UpdateTwin {
        /// What to merge.
        twin: TwinUpdate,
        /// On the twin's etag.
        precondition: Precondition,
    },
}

/// One item of a bulk request.
#[derive(Clone, Debug, PartialEq)]
pub struct BulkItem {
    /// Which device or module.
    pub id: TwinId,
    /// What to do with it.
    pub action: BulkAction,
    /// What the twin takes over beyond that if it is created.
    pub record: Option<Box<TwinRecord>>,
}

impl Hub {
    /// Carries out up to a hundred items and says how each ended, in the order of the request.
    pub async fn device_bulk(&self, who: &Principal, items: Vec<BulkItem>) -> Result<Vec<Result<()>>> {
        who.must(Rights::REGISTRY_WRITE)?;
        if items.len() > BULK_DEVICES_MAX {
            return Err(Error::TooManyDevices(items.len()));
        }
        let actor = who.actor();
        Ok(join_all(items.into_iter().map(|item| self.bulk_item(&actor, item))).await)
    }

    /// One item in a commit of its own.
    pub(crate) async fn bulk_item(&self, actor: &Actor, item: BulkItem) -> Result<()> {
        for mut txn in self.attempts_by(actor) {
            self.put_item(&mut txn, &item)?;
            if txn.commit().await? {
                return Ok(());
            }
        }
        Err(Error::Contended(item.id))
    }

    /// Puts what an item asks for. If it errs, it has put nothing.
    pub(crate) fn put_item(&self, txn: &mut Txn<'_>, item: &BulkItem) -> Result<()> {
        let BulkItem { id, action, record } = item;
        self.require_device(id)?;
        match action {
            BulkAction::Create { spec, twin } => {
                self.put_created(txn, id, spec, twin, record.as_deref()).map(drop)
            }
            BulkAction::CreateOrUpdate { spec, twin, .. } if self.index.get(id).is_none() => {
                self.put_created(txn, id, spec, twin, record.as_deref()).map(drop)
            }
            BulkAction::Update { spec, twin, precondition, twin_precondition }
            | BulkAction::CreateOrUpdate { spec, twin, precondition, twin_precondition } => {
                let twin = (*twin != TwinUpdate::default()).then_some((twin, twin_precondition));
                self.put_updated(txn, id, spec, precondition, twin).map(drop)
            }
            BulkAction::Delete { precondition } => self.put_deleted(txn, id, precondition),
            BulkAction::UpdateTwin { twin, precondition } => {
                self.put_twin_update(txn, id, twin, WriteMode::Patch, precondition).map(drop)
            }
        }
    }
}
