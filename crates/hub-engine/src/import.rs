//! Any number of identities, one after another as they come: many in one commit, several commits under way, and what
//! cannot be carried out told by its line while the rest goes on.
//!
//! Memory does not grow with what was imported, but for eight bytes per identity that tell a second line for it. With a
//! [`Journal`], each commit also says which lines it settled, so that an import that was cut off goes on exactly there.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use hub_domain::actor::Actor;
use hub_domain::id::{JobId, TwinId};
use hub_domain::rights::Rights;
use hub_domain::transfer::{LineSet, Refusal, TransferNote};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use crate::Hub;
use crate::access::Principal;
use crate::bulk::BulkItem;
use crate::config::{
    EXPORTS_AT_ONCE_MAX, IMPORT_BATCH_ATTEMPTS_MAX, IMPORT_BATCH_ITEMS, IMPORT_BATCHES_IN_FLIGHT,
    IMPORT_ITEMS_MAX, IMPORTS_AT_ONCE_MAX, WATCHES_MAX,
};
use crate::error::{Error, Result};
use crate::line_format::LineFormat;
use crate::tasks::TaskKind;
use crate::transact::Txn;

/// How many imports and exports may run, and queries stand.
pub(crate) struct Streams {
    imports: Arc<Semaphore>,
    pub(crate) exports: Arc<Semaphore>,
    pub(crate) watches: Arc<Semaphore>,
    pub(crate) watch_backlog: Arc<AtomicUsize>,
}

impl Default for Streams {
    fn default() -> Self {
        Self {
            imports: Arc::new(Semaphore::new(IMPORTS_AT_ONCE_MAX)),
            exports: Arc::new(Semaphore::new(EXPORTS_AT_ONCE_MAX)),
            watches: Arc::new(Semaphore::new(WATCHES_MAX)),
            watch_backlog: Arc::default(),
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
    /// Boxed: it is large, and a batch of them would be a piece of memory that is fetched anew from the kernel each time.
    item: Box<BulkItem>,
}

/// Where each commit of a job's import writes down what it settled.
pub(crate) struct Journal {
    pub(crate) job: JobId,
    pub(crate) format: Arc<dyn LineFormat>,
}

impl Journal {
    fn refusal(&self, refused: &Refused) -> Refusal {
        Refusal {
            line: refused.line,
            subject: refused.id.device.to_string(),
            module: refused.id.module.as_ref().map(ToString::to_string).unwrap_or_default(),
            code: self.format.code(&refused.error),
            text: refused.error.to_string(),
        }
    }

    fn note(
        &self,
        txn: &mut Txn<'_>,
        lines: impl Iterator<Item = u64>,
        refused: &[Refused],
        bad: &[Refusal],
    ) {
        let lines = LineSet::of(lines.chain(bad.iter().map(|refusal| refusal.line)));
        let refused = refused.iter().map(|refused| self.refusal(refused)).chain(bad.iter().cloned());
        txn.rows().put_transfer_note(&self.job, &TransferNote { lines, refused: refused.collect() });
    }
}

/// What is carried out together: items with different ids, and lines that were refused before.
#[derive(Default)]
struct Batch {
    items: Vec<Numbered>,
    bad: Vec<Refusal>,
}

impl Batch {
    fn len(&self) -> usize {
        self.items.len() + self.bad.len()
    }
}

/// An import under way. Dropped early, it finishes the batches that it began.
pub struct Import {
    hub: Arc<Hub>,
    actor: Actor,
    hasher: RandomState,
    /// Hashes of the ids: at ten million of them, one is taken for another with a likelihood of 1 : 300,000.
    seen: HashSet<u64>,
    batch: Batch,
    in_flight: VecDeque<JoinHandle<Result<Vec<Refused>>>>,
    refused: Vec<Refused>,
    journal: Option<Arc<Journal>>,
    /// Lines that the journal has from a former run.
    settled: LineSet,
    /// That a batch ended without saying what became of its items.
    broken: Option<Error>,
    _permit: Option<OwnedSemaphorePermit>,
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
        Ok(Import { _permit: Some(permit), ..self.import_by(who.actor()) })
    }

    /// Begins an import, or goes on with one: what the journal has `settled` is not done again.
    pub(crate) fn import_journaled(
        self: &Arc<Self>,
        actor: Actor,
        journal: Journal,
        settled: LineSet,
    ) -> Import {
        Import { journal: Some(Arc::new(journal)), settled, ..self.import_by(actor) }
    }

    fn import_by(self: &Arc<Self>, actor: Actor) -> Import {
        Import {
            hub: self.clone(),
            actor,
            hasher: RandomState::new(),
            seen: HashSet::new(),
            batch: Batch::default(),
            in_flight: VecDeque::new(),
            refused: Vec::new(),
            journal: None,
            settled: LineSet::default(),
            broken: None,
            _permit: None,
        }
    }

    /// Carries out items with different ids, and says which were refused.
    async fn import_batch(
        &self,
        actor: &Actor,
        journal: Option<&Journal>,
        batch: Batch,
    ) -> Result<Vec<Refused>> {
        // A module must find its device as it is after this batch.
        let (modules, devices): (Vec<_>, Vec<_>) =
            batch.items.into_iter().partition(|it| it.item.id.is_module());
        let devices = Batch { items: devices, bad: batch.bad };
        let mut refused = self.import_together(actor, journal, devices).await?;
        let modules = Batch { items: modules, bad: Vec::new() };
        refused.extend(self.import_together(actor, journal, modules).await?);
        Ok(refused)
    }

    async fn import_together(
        &self,
        actor: &Actor,
        journal: Option<&Journal>,
        batch: Batch,
    ) -> Result<Vec<Refused>> {
        if batch.len() == 0 {
            return Ok(Vec::new());
        }
        let Batch { items, bad } = batch;
        for mut txn in self.attempts_by(actor).take(IMPORT_BATCH_ATTEMPTS_MAX) {
            let mut refused = Vec::new();
            for Numbered { line, item } in &items {
                if let Err(error) = self.put_item(&mut txn, item) {
                    refused.push(Refused { line: *line, id: item.id.clone(), error });
                }
                tokio::task::consume_budget().await;
            }
            match journal {
                Some(journal) => journal.note(&mut txn, items.iter().map(|it| it.line), &refused, &bad),
                None if refused.len() == items.len() => return Ok(refused),
                None => {}
            }
            match txn.commit().await {
                Ok(true) => return Ok(refused),
                // Somebody else changed one of them meanwhile.
                Ok(false) => {}
                // Too large together, or the store has a reason that each of them will hear.
                Err(_) => break,
            }
        }
        let mut refused = Vec::new();
        for it in items {
            refused.extend(self.import_alone(actor, journal, it).await?);
        }
        if let Some(journal) = journal {
            self.commit_note(actor, |txn| journal.note(txn, std::iter::empty(), &[], &bad)).await?;
        }
        Ok(refused)
    }

    /// Carries out one item in commits of its own, and says if it was refused.
    async fn import_alone(
        &self,
        actor: &Actor,
        journal: Option<&Journal>,
        it: Numbered,
    ) -> Result<Option<Refused>> {
        let Numbered { line, item } = it;
        let refuse = |error| Refused { line, id: item.id.clone(), error };
        let Some(journal) = journal else {
            return Ok(self.bulk_item(actor, BulkItem::clone(&item)).await.err().map(refuse));
        };
        let mut last = Error::Contended(item.id.clone());
        for mut txn in self.attempts_by(actor) {
            match self.put_item(&mut txn, &item) {
                Ok(()) => {
                    journal.note(&mut txn, std::iter::once(line), &[], &[]);
                    match txn.commit().await {
                        Ok(true) => return Ok(None),
                        Ok(false) => continue,
                        // The store's own trouble is none of this line's: the job waits and goes on.
                        Err(error @ (Error::Unavailable(_) | Error::Internal(_))) => return Err(error),
                        Err(error) => last = error,
                    }
                }
                Err(error) => last = error,
            }
            break;
        }
        let refused = refuse(last);
        let only = std::slice::from_ref(&refused);
        self.commit_note(actor, |txn| journal.note(txn, std::iter::once(line), only, &[])).await?;
        Ok(Some(refused))
    }

    async fn commit_note(&self, actor: &Actor, note: impl Fn(&mut Txn<'_>)) -> Result<()> {
        for mut txn in self.attempts_by(actor) {
            note(&mut txn);
            if txn.commit().await? {
                return Ok(());
            }
        }
        Err(Error::Throttled("the job's notes are being changed by many at once".into()))
    }
}

impl Import {
    /// Takes the next item; waits while as many as may are under way. `line` is how it is called if it is refused.
    pub async fn add(&mut self, line: u64, item: BulkItem) -> Result<()> {
        if self.seen.len() >= IMPORT_ITEMS_MAX {
            return Err(Error::TooLarge(format!("an import has at most {IMPORT_ITEMS_MAX} identities")));
        }
        let is_second = !self.seen.insert(self.hasher.hash_one(&item.id));
        if self.settled.contains(line) {
            return Ok(());
        }
        if is_second {
            let error = Error::Invalid(format!("'{}' is on an earlier line, too", item.id));
            let refused = Refused { line, id: item.id, error };
            if let Some(journal) = &self.journal {
                let refusal = journal.refusal(&refused);
                return self.refuse(refusal).await;
            }
            self.refused.push(refused);
            return Ok(());
        }
        self.batch.items.push(Numbered { line, item: Box::new(item) });
        self.begin_if_full().await
    }

    /// Takes a line that cannot be carried out, for the journal.
    pub(crate) async fn refuse(&mut self, refusal: Refusal) -> Result<()> {
        if !self.settled.contains(refusal.line) {
            self.batch.bad.push(refusal);
        }
        self.begin_if_full().await
    }

    async fn begin_if_full(&mut self) -> Result<()> {
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
        if self.batch.len() == 0 {
            return;
        }
        let batch = std::mem::take(&mut self.batch);
        // The devices of modules may be in batches under way, and so may other modules that count against the limit.
        let alone = batch.items.iter().any(|it| it.item.id.is_module());
        self.wait(if alone { 0 } else { IMPORT_BATCHES_IN_FLIGHT - 1 }).await;
        let hub = self.hub.clone();
        let (actor, journal) = (self.actor.clone(), self.journal.clone());
        let work = async move { hub.import_batch(&actor, journal.as_deref(), batch).await };
        self.in_flight.push_back(self.hub.tasks.spawn(TaskKind::Import, work));
        if alone {
            self.wait(0).await;
        }
    }

    async fn wait(&mut self, left: usize) {
        while self.in_flight.len() > left {
            let Some(oldest) = self.in_flight.front_mut() else { return };
            match oldest.await {
                Ok(Ok(refused)) => self.refused.extend(refused),
                Ok(Err(error)) => self.broken = Some(error),
                Err(error) => self.broken = Some(Error::Internal(format!("a batch ended early: {error}"))),
            }
            self.in_flight.pop_front();
        }
    }
}
