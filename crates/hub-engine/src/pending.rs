//! Method calls that wait for a device's answer. In memory only: a restart forgets them, and their callers know.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hub_domain::id::TwinId;
use hub_domain::link::CallId;
use hub_domain::method::MethodResult;
use tokio::sync::oneshot;

use crate::config::METHOD_CALLS_MAX;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    calls: Mutex<HashMap<CallId, Waiting>>,
    next: AtomicU64,
}

#[derive(Debug)]
struct Waiting {
    id: TwinId,
    answer: oneshot::Sender<MethodResult>,
}

/// A registered call; dropping it forgets the call, so that a late answer finds nobody.
pub(crate) struct PendingCall {
    pending: Arc<Pending>,
    pub(crate) call: CallId,
    pub(crate) answer: oneshot::Receiver<MethodResult>,
}

impl Pending {
    fn calls(&self) -> MutexGuard<'_, HashMap<CallId, Waiting>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a call to `id`; `None` if too many wait already.
    pub(crate) fn register(self: &Arc<Self>, id: &TwinId) -> Option<PendingCall> {
        let call = CallId(self.next.fetch_add(1, Ordering::Relaxed) + 1);
        let (sender, answer) = oneshot::channel();
        let mut calls = self.calls();
        if calls.len() >= METHOD_CALLS_MAX {
            return None;
        }
        calls.insert(call, Waiting { id: id.clone(), answer: sender });
        Some(PendingCall { pending: self.clone(), call, answer })
    }

    /// Gives an answer to whoever waits. `false` if nobody does, or if the call went to another device.
    pub(crate) fn complete(&self, id: &TwinId, call: CallId, result: MethodResult) -> bool {
        let mut calls = self.calls();
        if calls.get(&call).is_none_or(|waiting| waiting.id != *id) {
            return false;
        }
        calls.remove(&call).is_some_and(|waiting| waiting.answer.send(result).is_ok())
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        self.pending.calls().remove(&self.call);
    }
}
