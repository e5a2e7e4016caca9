//! Who is attached, and where downlinks for him go. Live state; only subscriptions and times are stored.
//!
//! A front end brings the queue; the hub only puts into it. Whatever does not fit ends the session: a device that
//! lost a message must come back and ask, and it does that when its connection ends.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use hub_domain::event::{Event, EventKind};
use hub_domain::id::TwinId;
use hub_domain::link::{CloseReason, Downlink};
use hub_domain::session::{Family, StoredSession, Subscriptions};
use hub_domain::time::Timestamp;
use hub_domain::twin::Connection;
use hub_index::Live;
use tokio::sync::{Notify, Semaphore, broadcast};

use crate::access::Principal;
use crate::config::{JOB_ARRIVALS_MAX, SESSION_COMMITS_MAX};
use crate::configurations::Touched;
use crate::downlinks::DownlinkSender;
use crate::error::{self, Error, Result};
use crate::tasks::TaskKind;
use crate::{Hub, transact::Txn};

/// One attachment of a device.
pub(crate) struct Session {
    id: TwinId,
    number: u64,
    clean: bool,
    queue: DownlinkSender,
    live: Arc<Live>,
    subscriptions: Mutex<Subscriptions>,
    ended: OnceLock<CloseReason>,
    ended_notify: Notify,
    /// Method calls that wait for this device's answer.
    pub(crate) calls: AtomicUsize,
}

impl Session {
    fn subscriptions(&self) -> Subscriptions {
        *self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_subscriptions(&self, subscriptions: Subscriptions) {
        *self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner) = subscriptions;
    }

    fn end(&self, reason: CloseReason) {
        let _ = self.ended.set(reason);
        self.ended_notify.notify_waiters();
    }

    /// Resolves when the hub ends this session.
    pub(crate) async fn ended(&self) -> CloseReason {
        loop {
            let notified = self.ended_notify.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if let Some(reason) = self.ended.get() {
                return *reason;
            }
            notified.await;
        }
    }

    /// Puts something into the device's queue; if it does not fit, the session ends.
    pub(crate) fn tell(&self, downlink: Downlink) -> bool {
        let told = self.queue.send(downlink);
        if !told {
            self.end(CloseReason::TooSlow);
        }
        told
    }
}

/// All attachments of this process.
pub(crate) struct Sessions {
    state: Mutex<State>,
    next: AtomicU64,
    arrivals: broadcast::Sender<TwinId>,
    /// Turns at writing down who comes and goes. When thousands do so at once, whoever stays must not wait behind them all.
    turns: Semaphore,
}

#[derive(Default)]
struct State {
    attached: HashMap<TwinId, Arc<Session>>,
    /// Those who wait for a device to come or to take methods.
    awaited: HashMap<TwinId, Arc<Notify>>,
}

impl Sessions {
    /// `seed` makes numbers that no earlier process used.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            state: Mutex::default(),
            next: AtomicU64::new(seed),
            arrivals: broadcast::Sender::new(JOB_ARRIVALS_MAX),
            turns: Semaphore::new(SESSION_COMMITS_MAX),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, id: &TwinId) -> Option<Arc<Session>> {
        self.state().attached.get(id).cloned()
    }

    /// The session that takes methods for `id`, if there is one.
    pub(crate) fn callable(&self, id: &TwinId) -> Option<Arc<Session>> {
        self.get(id)
            .filter(|session| session.subscriptions().has(Family::Methods) && session.ended.get().is_none())
    }

    /// Something to wait on until `id` attaches or subscribes. Ask [`Sessions::callable`] after taking it.
    pub(crate) fn awaited(&self, id: &TwinId) -> Arc<Notify> {
        self.state().awaited.entry(id.clone()).or_default().clone()
    }

    /// Gives back what [`Sessions::awaited`] gave.
    pub(crate) fn not_awaited(&self, id: &TwinId, mine: &Arc<Notify>) {
        let mut state = self.state();
        // Two are left when nobody else waits: the map's and the one about to go.
        if state.awaited.get(id).is_some_and(|kept| Arc::ptr_eq(kept, mine) && Arc::strong_count(kept) <= 2) {
            state.awaited.remove(id);
        }
    }

    /// Devices that attach or subscribe from now on, for those who wait for many. They may not take methods yet.
    pub(crate) fn arrivals(&self) -> broadcast::Receiver<TwinId> {
        self.arrivals.subscribe()
    }

    /// Tells those who wait for `id` to look again.
    pub(crate) fn arrived(&self, id: &TwinId) {
        // Nobody may be listening.
        let _ = self.arrivals.send(id.clone());
        if let Some(notify) = self.state().awaited.get(id) {
            notify.notify_waiters();
        }
    }

    /// Tells an attached, subscribed device of its desired properties.
    pub(crate) fn tell_desired(&self, id: &TwinId, downlink: Downlink) {
        if let Some(session) = self.get(id).filter(|session| session.subscriptions().has(Family::Desired)) {
            session.tell(downlink);
        }
    }

    /// Ends the session of `id`, if there is one.
    pub(crate) fn end(&self, id: &TwinId, reason: CloseReason) {
        if let Some(session) = self.get(id) {
            session.end(reason);
        }
    }

    /// Ends all sessions.
    pub(crate) fn end_all(&self, reason: CloseReason) {
        let all: Vec<_> = self.state().attached.values().cloned().collect();
        all.iter().for_each(|session| session.end(reason));
    }

    /// How many devices and modules are attached.
    pub(crate) fn count(&self) -> u64 {
        self.state().attached.len() as u64
    }

    /// Takes the place of whoever was there, and ends him.
    fn enter(&self, session: Arc<Session>) {
        let former = self.state().attached.insert(session.id.clone(), session);
        if let Some(former) = former {
            former.end(CloseReason::TakenOver);
        }
    }

    /// Says whether `session` was still the one in force.
    fn leave(&self, session: &Session) -> bool {
        let mut state = self.state();
        let in_force =
            state.attached.get(&session.id).is_some_and(|current| current.number == session.number);
        if in_force {
            state.attached.remove(&session.id);
        }
        in_force
    }
}

/// A device's hold on its session; dropping it detaches the device.
pub struct Attachment {
    hub: Arc<Hub>,
    session: Arc<Session>,
    /// Whether the hub knew this device's session from before.
    pub session_present: bool,
}

impl Attachment {
    /// Whose.
    pub fn id(&self) -> &TwinId {
        &self.session.id
    }

    /// What the device is subscribed to.
    pub fn subscriptions(&self) -> Subscriptions {
        self.session.subscriptions()
    }

    /// Resolves when the hub ends the session. May be dropped and asked again.
    pub async fn ended(&self) -> CloseReason {
        self.session.ended().await
    }

    /// Notes that the device sent something.
    pub fn note_activity(&self) {
        self.session.live.touch(self.hub.clock.now());
    }

    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let in_force = self.hub.sessions.leave(&self.session);
        self.session.end(CloseReason::ShuttingDown);
        if !in_force {
            return;
        }
        let (session, now) = (&self.session, self.hub.clock.now());
        self.hub.index.set_connected(&session.id, &session.live, false, now);
        let (hub, session) = (self.hub.clone(), self.session.clone());
        self.hub.tasks.spawn(TaskKind::Detach, async move {
            if let Err(error) = hub.write_detach(&session).await {
                tracing::warn!(id = %session.id, %error, "could not write down that a device went");
            }
        });
    }
}

impl Hub {
    /// Attaches a device or module. A newer attachment takes over from an older one. `clean` forgets the stored
    /// session; otherwise its subscriptions are in force at once.
    pub async fn attach(
        self: &Arc<Self>,
        who: &Principal,
        id: &TwinId,
        clean: bool,
        queue: DownlinkSender,
    ) -> Result<Attachment> {
        who.must_act_as(id)?;
        let number = self.sessions.next.fetch_add(1, Ordering::Relaxed);
        let _turn = self.sessions.turns.acquire().await;
        for mut txn in self.attempts() {
            let entry = txn.identity_entry(id)?;
            let stored = txn.session(id).await?;
            let subscriptions = stored.filter(|_| !clean).map(|s| s.subscriptions).unwrap_or_default();
            let session_present = !clean && stored.is_some_and(|s| s.kept());
            let now = txn.now();
            if stored.is_some_and(|s| s.attached.is_some()) {
                connection_event(&mut txn, id, false);
            }
            connection_event(&mut txn, id, true);
            let last_activity = entry.live.connection().last_activity;
            txn.put_session(
                id,
                &StoredSession { subscriptions, changed: now, last_activity, attached: Some(number) },
            );
            let connection = Connection { connected: true, changed: now, last_activity: now };
            txn.settle_owner(id, Touched::Connection, Some(connection));
            if !txn.commit().await? {
                continue;
            }
            self.index.set_connected(id, &entry.live, true, now);
            entry.live.touch(now);
            let session = Arc::new(Session {
                id: id.clone(),
                number,
                clean,
                queue,
                live: entry.live.clone(),
                subscriptions: Mutex::new(subscriptions),
                ended: OnceLock::new(),
                ended_notify: Notify::new(),
                calls: AtomicUsize::new(0),
            });
            self.sessions.enter(session.clone());
            self.sessions.arrived(id);
            let attachment = Attachment { hub: self.clone(), session, session_present };
            return self.still_allowed(attachment);
        }
        Err(Error::Contended(id.clone()))
    }

    /// A device that was deleted or disabled between its check and its attachment must not stay.
    fn still_allowed(&self, attachment: Attachment) -> Result<Attachment> {
        let id = attachment.id();
        match self.index.get(id) {
            None => Err(error::not_found(id)),
            Some(entry) if !self.is_enabled(&entry.identity) => Err(Error::Disabled(id.clone())),
            Some(_) => Ok(attachment),
        }
    }

    /// Enables a family of messages; durable when it returns, unless the session is a clean one.
    pub async fn subscribe(
        &self,
        attachment: &Attachment,
        family: Family,
        at_least_once: bool,
    ) -> Result<()> {
        self.change_subscriptions(attachment, |subscriptions| subscriptions.with(family, at_least_once))
            .await?;
        self.sessions.arrived(attachment.id());
        Ok(())
    }

    /// Disables a family of messages; durable when it returns.
    pub async fn unsubscribe(&self, attachment: &Attachment, family: Family) -> Result<()> {
        self.change_subscriptions(attachment, |subscriptions| subscriptions.without(family)).await
    }

    async fn change_subscriptions(
        &self,
        attachment: &Attachment,
        change: impl Fn(Subscriptions) -> Subscriptions,
    ) -> Result<()> {
        let session = attachment.session();
        let (before, after) = (session.subscriptions(), change(session.subscriptions()));
        if before == after {
            return Ok(());
        }
        if session.clean {
            session.set_subscriptions(after);
            return Ok(());
        }
        let _turn = self.sessions.turns.acquire().await;
        for mut txn in self.attempts() {
            let stored = txn.session(&session.id).await?;
            let Some(stored) = stored.filter(|stored| stored.attached == Some(session.number)) else {
                return Err(Error::DeviceGone);
            };
            txn.put_session(&session.id, &StoredSession { subscriptions: after, ..stored });
            if txn.commit().await? {
                session.set_subscriptions(after);
                return Ok(());
            }
        }
        Err(Error::Contended(session.id.clone()))
    }

    async fn write_detach(&self, session: &Session) -> Result<()> {
        self.write_gone(&session.id, session.number, session.live.connection().last_activity).await
    }

    /// Writes down that attachment `number` of `id` is over, unless a newer one is in force.
    pub(crate) async fn write_gone(&self, id: &TwinId, number: u64, last_activity: Timestamp) -> Result<()> {
        let _turn = self.sessions.turns.acquire().await;
        for mut txn in self.attempts() {
            let stored = txn.session(id).await?;
            let Some(stored) = stored.filter(|stored| stored.attached == Some(number)) else { return Ok(()) };
            connection_event(&mut txn, id, false);
            let changed = txn.now();
            txn.put_session(id, &StoredSession { changed, last_activity, attached: None, ..stored });
            let connection = Connection { connected: false, changed, last_activity };
            txn.settle_owner(id, Touched::Connection, Some(connection));
            if txn.commit().await? {
                return Ok(());
            }
        }
        Err(Error::Contended(id.clone()))
    }

    /// How many devices and modules are attached.
    pub fn connected_count(&self) -> u64 {
        self.sessions.count()
    }
}

fn connection_event(txn: &mut Txn<'_>, id: &TwinId, connected: bool) {
    let event = Event { time: txn.now(), id: id.clone(), kind: EventKind::Connection { connected } };
    txn.event(&event);
}
