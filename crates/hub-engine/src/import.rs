//! Any number of identities, one after another as they come: many in one commit, several commits under way, and what
//! cannot be carried out told by its line while the rest goes on.
//!
//! Memory does not grow with what was imported, but for eight bytes per identity that tell a second line for it.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use hub_domain::actor::Actor;
use hub_domain::id::TwinId;
use hub_domain::rights::Rights;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use crate::Hub;
use crate::access::Principal;
use crate::bulk::BulkItem;
use crate::config::{
    EXPORTS_AT_ONCE_MAX, IMPORT_BATCH_ATTEMPTS_MAX, IMPORT_BATCH_ITEMS, IMPORT_BATCHES_IN_FLIGHT,
    IMPORT_ITEMS_MAX, IMPORTS_AT_ONCE_MAX,
};
use crate::error::{Error, Result};
use crate::tasks::TaskKind;

/// How many imports and exports may run.
pub(crate) struct Streams {
    imports: Arc<Semaphore>,
    pub(crate) exports: Arc<Semaphore>,
}

impl Default for Streams {
    fn default() -> Self {
        Self {
            imports: Arc::new(Semaphore::new(IMPORTS_AT_ONCE_MAX)),
            exports: Arc::new(Semaphore::new(EXPORTS_AT_ONCE_MAX)),
        }
    }
}

/// An item that was not carried out.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// The number that it came with.
    pub line: u64,
    /// Whose.
    pub id: TwinId,
    /// Why.
    pub error: Error,
}

struct Numbered {
    line: u64,
    item: BulkItem,
}

/// An import under way. Dropped early, it finishes the batches that it began.
pub struct Import {
    hub: Arc<Hub>,
    actor: Actor,
    hasher: RandomState,
    /// Hashes of the ids: at ten million of them, one is taken for another with a likelihood of 1 : 300,000.
    seen: HashSet<u64>,
    batch: Vec<Numbered>,
    in_flight: VecDeque<JoinHandle<Vec<Refused>>>,
    refused: Vec<Refused>,
    /// That a batch ended without saying what became of its items.
    broken: Option<Error>,
    _permit: OwnedSemaphorePermit,
}

impl Hub {
    /// Begins an import.
    pub fn import(self: &Arc<Self>, who: &Principal) -> Result<Import> {
        who.must(Rights::REGISTRY_WRITE)?;
        let permit = self.streams.imports.clone().try_acquire_owned().map_err(|_| {
            Error::Throttled(format!(
                "{IMPORTS_AT_ONCE_MAX} imports are running, no more at once are allowed"
            ))
        })?;
        Ok(Import {
            hub: self.clone(),
            actor: who.actor(),
            hasher: RandomState::new(),
            seen: HashSet::new(),
            batch: Vec::with_capacity(IMPORT_BATCH_ITEMS),
            in_flight: VecDeque::new(),
            refused: Vec::new(),
            broken: None,
            _permit: permit,
        })
    }

    /// Carries out items with different ids, and says which were refused.
    async fn import_batch(&self, actor: &Actor, items: Vec<Numbered>) -> Vec<Refused> {
        // A module must find its device as it is after this batch.
        let (modules, devices): (Vec<_>, Vec<_>) = items.into_iter().partition(|it| it.item.id.is_module());
        let mut refused = self.import_together(actor, devices).await;
        refused.extend(self.import_together(actor, modules).await);
        refused
    }

    async fn import_together(&self, actor: &Actor, items: Vec<Numbered>) -> Vec<Refused> {
        if items.is_empty() {
            return Vec::new();
        }
        for mut txn in self.attempts_by(actor).take(IMPORT_BATCH_ATTEMPTS_MAX) {
            let mut refused = Vec::new();
            for Numbered { line, item } in &items {
                if let Err(error) = self.put_item(&mut txn, item) {
                    refused.push(Refused { line: *line, id: item.id.clone(), error });
                }
                tokio::task::consume_budget().await;
            }
            if refused.len() == items.len() {
                return refused;
            }
            match txn.commit().await {
                Ok(true) => return refused,
                // Somebody else changed one of them meanwhile.
                Ok(false) => {}
                // Too large together, or the store has a reason that each of them will hear.
                Err(_) => break,
            }
        }
        let mut refused = Vec::new();
        for Numbered { line, item } in items {
            let id = item.id.clone();
            if let Err(error) = self.bulk_item(actor, item).await {
                refused.push(Refused { line, id, error });
            }
        }
        refused
    }
}

impl Import {
    /// Takes the next item; waits while as many as may are under way. `line` is how it is called if it is refused.
    pub async fn add(&mut self, line: u64, item: BulkItem) -> Result<()> {
        if self.seen.len() >= IMPORT_ITEMS_MAX {
            return Err(Error::TooLarge(format!("an import has at most {IMPORT_ITEMS_MAX} identities")));
        }
        if !self.seen.insert(self.hasher.hash_one(&item.id)) {
            let error = Error::Invalid(format!("'{}' is on an earlier line, too", item.id));
            self.refused.push(Refused { line, id: item.id, error });
            return Ok(());
        }
        self.batch.push(Numbered { line, item });
        if self.batch.len() >= IMPORT_BATCH_ITEMS {
            self.begin().await;
        }
        self.broken.clone().map_or(Ok(()), Err)
    }

    /// What was refused since the last call, not always in the order of the lines.
    pub fn refused(&mut self) -> Vec<Refused> {
        std::mem::take(&mut self.refused)
    }

    /// Returns once everything taken is carried out or refused.
    pub async fn finish(&mut self) -> Result<()> {
        self.begin().await;
        self.wait(0).await;
        self.broken.clone().map_or(Ok(()), Err)
    }

    async fn begin(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(IMPORT_BATCH_ITEMS));
        // The devices of modules may be in batches under way, and so may other modules that count against the limit.
        let alone = batch.iter().any(|it| it.item.id.is_module());
        self.wait(if alone { 0 } else { IMPORT_BATCHES_IN_FLIGHT - 1 }).await;
        let hub = self.hub.clone();
        let actor = self.actor.clone();
        let work = async move { hub.import_batch(&actor, batch).await };
        self.in_flight.push_back(self.hub.tasks.spawn(TaskKind::Import, work));
        if alone {
            self.wait(0).await;
        }
    }

    async fn wait(&mut self, left: usize) {
        while self.in_flight.len() > left {
            let Some(oldest) = self.in_flight.front_mut() else { return };
            match oldest.await {
                Ok(refused) => self.refused.extend(refused),
                Err(error) => self.broken = Some(Error::Internal(format!("a batch ended early: {error}"))),
            }
            self.in_flight.pop_front();
        }
    }
}
