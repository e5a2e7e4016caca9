//! The only place that spawns: every task has a kind, and all of them end with the hub.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
/// See [`Tasks::hold`].
pub use tokio_util::task::task_tracker::TaskTrackerToken as Held;

/// What a task is for; also its label in logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskKind {
    /// Accepts connections.
    Listener,
    /// Serves one connection.
    Connection,
    /// Carries commits through, whoever still waits for them.
    Commit,
    /// Writes down that a device went.
    Detach,
    /// Looks again and again whether something is to be done.
    Reconciler,
    /// Runs one job.
    Job,
    /// Writes one batch of an import.
    Import,
    /// Decodes what the store held at start.
    Loading,
}

/// Spawns tasks and knows when all of them have ended.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Nothing runs yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts `future`. It should end soon after [`Tasks::stopping`] resolves.
    #[allow(clippy::disallowed_methods, reason = "this is the door")]
    pub fn spawn<F>(&self, kind: TaskKind, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tracing::trace!(?kind, "task starts");
        tokio::spawn(self.tracker.track_future(future))
    }

    /// Starts what needs no time to end: when the hub stops, it is dropped where it waits.
    pub fn run(&self, kind: TaskKind, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stopping();
        self.spawn(kind, async move { stop.run_until_cancelled(work).await });
    }

    /// Starts what serves others until they are gone. The hub's end does not wait for it; see [`Tasks::hold`].
    #[allow(clippy::disallowed_methods, reason = "this is the door")]
    pub fn serve(&self, kind: TaskKind, future: impl Future<Output = ()> + Send + 'static) {
        tracing::trace!(?kind, "task starts");
        drop(tokio::spawn(future));
    }

    /// Something that is under way: the hub's end waits for it as for a task.
    pub fn hold(&self) -> Held {
        self.tracker.token()
    }

    /// Cancelled when the hub stops. Listeners and connections watch it, or a child of it.
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Tells all tasks to stop and waits for them, at most `grace`. Says whether all ended.
    pub async fn stop(&self, grace: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        tokio::time::timeout(grace, self.tracker.wait()).await.is_ok()
    }
}
