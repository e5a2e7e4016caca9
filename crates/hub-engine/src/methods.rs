//! Direct methods: wait for the device if asked to, pass the call on, wait for the answer. Nothing is stored.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hub_domain::id::TwinId;
use hub_domain::link::{CallId, Downlink};
use hub_domain::method::{MethodCall, MethodResult};
use hub_domain::rights::Rights;
use tokio::time::Instant;

use crate::access::Principal;
use crate::config::{METHOD_ANSWER_MARGIN, METHOD_CALLS_PER_DEVICE_MAX};
use crate::error::{self, Error, Result};
use crate::sessions::Session;
use crate::{Attachment, Hub};

impl Hub {
    /// Calls a method on a device or module and returns its answer, whatever status the device put in it.
    ///
    /// Errs with [`Error::DeviceOffline`] if it does not come within the connect timeout, and with
    /// [`Error::TimedOut`] if it does not answer within the response timeout after that.
    pub async fn method_call(&self, who: &Principal, id: &TwinId, call: MethodCall) -> Result<MethodResult> {
        who.must(Rights::SERVICE_CONNECT)?;
        let _single = self.jobs.courtesy.single_call();
        self.call(id, &call, call.connect_timeout).await
    }

    /// The same for callers that the hub itself is.
    pub(crate) async fn call(
        &self,
        id: &TwinId,
        call: &MethodCall,
        connect_timeout: Duration,
    ) -> Result<MethodResult> {
        let begun = Instant::now();
        self.must_be_callable(id)?;
        self.counters.method_calls.fetch_add(1, Ordering::Relaxed);
        let session = self.await_callable(id, begun, connect_timeout).await?;
        let _slot = CallSlot::take(&session, id)?;
        let mut pending = self.pending.register(id).ok_or_else(|| {
            Error::Throttled("too many method calls wait for an answer; try again later".into())
        })?;
        let deadline = Instant::now() + call.response_timeout.saturating_sub(METHOD_ANSWER_MARGIN);
        let downlink = Downlink::Call {
            call: pending.call,
            name: call.name.as_str().into(),
            payload: call.payload.as_str().into(),
        };
        if !session.tell(downlink) {
            return Err(Error::DeviceGone);
        }
        tokio::select! {
            biased;
            answer = &mut pending.answer => answer.map_err(|_| Error::DeviceGone),
            _ = session.ended() => Err(Error::DeviceGone),
            () = tokio::time::sleep_until(deadline) => Err(Error::TimedOut { after: call.response_timeout }),
        }
    }

    fn must_be_callable(&self, id: &TwinId) -> Result<()> {
        let entry = self.index.get(id).ok_or_else(|| error::not_found(id))?;
        if self.is_enabled(&entry.identity) { Ok(()) } else { Err(Error::DeviceNotFound(id.device.clone())) }
    }

    /// Whether a call would find its device now.
    pub(crate) fn reach(&self, id: &TwinId) -> Result<()> {
        self.must_be_callable(id)?;
        match self.sessions.callable(id) {
            Some(_) => Ok(()),
            None => Err(Error::DeviceOffline { waited: Duration::ZERO }),
        }
    }

    async fn await_callable(
        &self,
        id: &TwinId,
        begun: Instant,
        connect_timeout: Duration,
    ) -> Result<Arc<Session>> {
        if let Some(session) = self.sessions.callable(id) {
            return Ok(session);
        }
        if connect_timeout.is_zero() {
            return Err(Error::DeviceOffline { waited: Duration::ZERO });
        }
        let deadline = begun + connect_timeout.saturating_sub(METHOD_ANSWER_MARGIN);
        let awaited = Awaited::take(self, id);
        loop {
            let notified = awaited.notify.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if let Some(session) = self.sessions.callable(id) {
                return Ok(session);
            }
            tokio::select! {
                biased;
                () = &mut notified => {}
                () = tokio::time::sleep_until(deadline) => return Err(Error::DeviceOffline { waited: connect_timeout }),
            }
        }
    }

    /// A device's answer to a call. One that comes late, or to a call that went to another device, is counted and ignored.
    pub fn method_complete(&self, attachment: &Attachment, call: CallId, result: MethodResult) {
        if !self.pending.complete(attachment.id(), call, result) {
            self.counters.method_answers_ignored.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(id = %attachment.id(), %call, "nobody waits for this method answer");
        }
    }
}

/// One of the calls that may wait for a device.
struct CallSlot(Arc<Session>);

impl CallSlot {
    fn take(session: &Arc<Session>, id: &TwinId) -> Result<Self> {
        let slot = Self(session.clone());
        if session.calls.fetch_add(1, Ordering::Relaxed) >= METHOD_CALLS_PER_DEVICE_MAX {
            return Err(Error::TooManyCalls(id.device.clone()));
        }
        Ok(slot)
    }
}

impl Drop for CallSlot {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A place among those who wait for a device.
struct Awaited<'h> {
    hub: &'h Hub,
    id: TwinId,
    notify: Arc<tokio::sync::Notify>,
}

impl<'h> Awaited<'h> {
    fn take(hub: &'h Hub, id: &TwinId) -> Self {
        Self { hub, id: id.clone(), notify: hub.sessions.awaited(id) }
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.hub.sessions.not_awaited(&self.id, &self.notify);
    }
}
