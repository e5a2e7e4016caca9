//! Many identities in one request: each item stands for itself, and all of them share the store's group commits.

use futures_util::future::join_all;
use hub_domain::id::TwinId;
use hub_domain::identity::IdentitySpec;
use hub_domain::limits::BULK_DEVICES_MAX;
use hub_domain::rights::Rights;
use hub_domain::twin::{TwinUpdate, WriteMode};
use hub_domain::version::Precondition;

use crate::Hub;
use crate::access::Principal;
use crate::error::{Error, Result};

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
}

impl Hub {
    /// Carries out up to a hundred items and says how each ended, in the order of the request.
    pub async fn device_bulk(&self, who: &Principal, items: Vec<BulkItem>) -> Result<Vec<Result<()>>> {
        who.must(Rights::REGISTRY_WRITE)?;
        if items.len() > BULK_DEVICES_MAX {
            return Err(Error::TooManyDevices(items.len()));
        }
        Ok(join_all(items.into_iter().map(|item| self.bulk_item(item))).await)
    }

    async fn bulk_item(&self, BulkItem { id, action }: BulkItem) -> Result<()> {
        self.require_device(&id)?;
        match action {
            BulkAction::Create { spec, twin } => self.create_with_twin(&id, &spec, &twin).await.map(drop),
            BulkAction::Update { spec, twin, precondition, twin_precondition } => {
                self.bulk_update(&id, &spec, &twin, &precondition, &twin_precondition).await
            }
            BulkAction::CreateOrUpdate { spec, twin, precondition, twin_precondition } => {
                match self.create_with_twin(&id, &spec, &twin).await {
                    Err(Error::DeviceExists(_) | Error::ModuleExists(_)) => {
                        self.bulk_update(&id, &spec, &twin, &precondition, &twin_precondition).await
                    }
                    other => other.map(drop),
                }
            }
            BulkAction::Delete { precondition } => self.delete(&id, &precondition).await,
            BulkAction::UpdateTwin { twin, precondition } => {
                self.write_twin(&id, &twin, WriteMode::Patch, &precondition).await.map(drop)
            }
        }
    }

    async fn bulk_update(
        &self,
        id: &TwinId,
        spec: &IdentitySpec,
        twin: &TwinUpdate,
        precondition: &Precondition,
        twin_precondition: &Precondition,
    ) -> Result<()> {
        let twin = (*twin != TwinUpdate::default()).then_some((twin, twin_precondition));
        self.update_with_twin(id, spec, precondition, twin).await.map(drop)
    }
}
