//! What the hub knows for all gates, and what stands between a target of a job and its turn. One place decides that, for
//! whoever runs the job and for whoever asks why a device is waiting. It acts on nothing.

use std::sync::Arc;

use hub_domain::context::{HubContext, Reason};
use hub_domain::id::TwinId;
use hub_domain::job::{ItemError, JobAction, JobItem, JobSpec, JobState};
use hub_domain::rights::Rights;
use hub_domain::rollout::{Phase, RolloutStep};
use hub_domain::time::Timestamp;
use hub_store::tables;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::Hub;
use crate::access::Principal;
use crate::error::{self, Error, Result};
use crate::reconcile::item_error;

/// The row of the hub's context.
const NAME: &str = "context";

/// The hub's context as it is now, for those who wait for it to change.
pub(crate) struct Context(watch::Sender<Arc<HubContext>>);

impl Context {
    /// Reads it from the store.
    pub(crate) async fn load(store: &dyn hub_store::Store) -> Result<Self> {
        let text = tables::meta::get(store, NAME).await?;
        let parsed = text.map(|text| {
            let value: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
            HubContext::parse(&value).map_err(|error| error.to_string())
        });
        let context = parsed
            .transpose()
            .map_err(|error| Error::Internal(format!("the stored context is damaged: {error}")))?;
        Ok(Self(watch::Sender::new(Arc::new(context.unwrap_or_default()))))
    }

    pub(crate) fn current(&self) -> Arc<HubContext> {
        self.0.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Arc<HubContext>> {
        self.0.subscribe()
    }
}

/// Something between a pending target and its turn.
#[derive(Clone, Debug, PartialEq)]
pub enum Obstacle {
    /// The job waits for its time, for people, or for devices in flight; the word says for what.
    Job(&'static str, Option<Timestamp>),
    /// Its wave, from 0, is not open.
    Wave(u32),
    /// It starts a little after its wave opened, so that not all do at once.
    Jitter(Timestamp),
    /// It is tried again from then on, after this.
    Again(Timestamp, Option<ItemError>),
    /// It is not connected, or takes no methods.
    Offline,
    /// A gate is closed.
    Gate(Box<Reason>),
    /// It cannot go at all.
    Never(ItemError),
}

impl Obstacle {
    /// The word for it, by which devices are counted: `waveNotOpen`, `offline`, `power.batteryLow`, …
    pub fn code(&self) -> String {
        match self {
            Obstacle::Job(word, _) => (*word).to_owned(),
            Obstacle::Wave(_) => "waveNotOpen".to_owned(),
            Obstacle::Jitter(_) => "jitter".to_owned(),
            Obstacle::Again(_, Some(error)) => format!("again.{}", error.code),
            Obstacle::Again(_, None) => "again".to_owned(),
            Obstacle::Offline => "offline".to_owned(),
            Obstacle::Gate(reason) => reason.key(),
            Obstacle::Never(error) => format!("never.{}", error.code),
        }
    }

    /// When time alone could take it away.
    pub fn next(&self) -> Option<Timestamp> {
        match self {
            Obstacle::Job(_, next) => *next,
            Obstacle::Jitter(at) | Obstacle::Again(at, _) => Some(*at),
            Obstacle::Gate(reason) => reason.next,
            Obstacle::Wave(_) | Obstacle::Offline | Obstacle::Never(_) => None,
        }
    }

    /// For programs: `code`, `text`, `next` and the values that decided.
    pub fn to_json(&self) -> Value {
        let detail = match self {
            Obstacle::Gate(reason) => reason.to_json(),
            Obstacle::Wave(wave) => json!({ "wave": wave }),
            Obstacle::Again(_, Some(error)) | Obstacle::Never(error) => {
                json!({ "error": { "code": error.code, "description": error.description } })
            }
            _ => Value::Null,
        };
        let next = self.next().map(|next| next.to_string());
        json!({ "code": self.code(), "text": self.text(), "next": next, "detail": detail })
    }

    fn text(&self) -> String {
        match self {
            Obstacle::Job(word, _) => format!("the job waits: {word}"),
            Obstacle::Wave(wave) => format!("its wave, number {}, is not open", wave + 1),
            Obstacle::Jitter(at) => format!("starts are spread; its own is at {at}"),
            Obstacle::Again(at, Some(error)) => format!("tried again at {at}, after: {}", error.description),
            Obstacle::Again(at, None) => format!("its turn is at {at}"),
            Obstacle::Offline => "not connected, or takes no methods".to_owned(),
            Obstacle::Gate(reason) => reason.to_string(),
            Obstacle::Never(error) => error.description.clone(),
        }
    }
}

impl Hub {
    /// The hub's context document.
    pub fn context_get(&self, who: &Principal) -> Result<Arc<HubContext>> {
        who.must(Rights::SERVICE_CONNECT)?;
        Ok(self.context.current())
    }

    /// Replaces the context document. Jobs that wait look at their gates anew.
    pub async fn context_replace(&self, who: &Principal, context: HubContext) -> Result<Arc<HubContext>> {
        who.must(Rights::REGISTRY_WRITE)?;
        let context = Arc::new(context);
        for mut txn in self.attempts() {
            // Read so that two who write at once do so one after the other.
            txn.rows().meta(NAME).await?;
            txn.rows().put_meta(NAME, &context.to_json().to_string());
            if txn.commit().await? {
                self.context.0.send_replace(context.clone());
                return Ok(context);
            }
        }
        Err(Error::Throttled("the context is being changed by many at once; try again".into()))
    }

    /// What stands between a target that is pending and its turn; nothing if it may go at once, as far as it is concerned.
    /// The second value is when the gates could say something else by time alone.
    pub(crate) fn obstacles(
        &self,
        spec: &JobSpec,
        state: &JobState,
        item: &JobItem,
        now: Timestamp,
    ) -> (Vec<Obstacle>, Option<Timestamp>) {
        let mut found = Vec::new();
        if let (Some(policy), Some(rollout), Some(wave)) = (&spec.rollout, &state.rollout, item.wave) {
            match rollout.waves.get(wave as usize).and_then(|wave| wave.opened) {
                None => found.push(Obstacle::Wave(wave)),
                Some(opened) => {
                    let start = opened.plus(policy.start_jitter(&item.id));
                    found.extend((start > now).then_some(Obstacle::Jitter(start)));
                }
            }
        }
        let again = item.not_before.filter(|at| *at > now);
        found.extend(again.map(|at| Obstacle::Again(at, item.error.clone())));
        if let Err(error) = self.reachable(spec, &item.id) {
            found.push(match error {
                Error::DeviceOffline { .. } => Obstacle::Offline,
                error => Obstacle::Never(item_error(&self.retired_or(&item.id.device, error))),
            });
        }
        let gates = spec.gates.as_ref().filter(|_| state.gates_override.is_none());
        let Some((gates, entry)) = gates.zip(self.index.get(&item.id)) else {
            return (found, None);
        };
        let verdict = gates.evaluate(&entry.document(), &self.context.current(), now);
        if verdict.is_open() {
            return (found, None);
        }
        found.extend(verdict.reasons.into_iter().map(|reason| Obstacle::Gate(Box::new(reason))));
        (found, verdict.next_change)
    }

    /// Errs if a target cannot have its turn now.
    pub(crate) fn reachable(&self, spec: &JobSpec, id: &TwinId) -> Result<()> {
        match &spec.action {
            action if action.needs_connection() => self.reach(id),
            // It is brought back from the archive.
            JobAction::RestoreDevice => Ok(()),
            _ => self.index.get(id).map(drop).ok_or_else(|| error::not_found(id)),
        }
    }

    /// What the whole job waits for, if it does.
    pub(crate) fn job_waits_for(&self, spec: &JobSpec, state: &JobState, now: Timestamp) -> Option<Obstacle> {
        if now < spec.start {
            return Some(Obstacle::Job("startTime", Some(spec.start)));
        }
        let (policy, rollout) = spec.rollout.as_ref().zip(state.rollout.as_ref())?;
        match (&rollout.phase, rollout.next_step(policy, now)) {
            (Phase::Paused { .. }, _) => Some(Obstacle::Job("paused", None)),
            (Phase::Stopped(_), _) => Some(Obstacle::Job("stopped", None)),
            (_, RolloutStep::Wait { reason, until }) => Some(Obstacle::Job(reason.as_str(), until)),
            _ => None,
        }
    }
}
