//! The queue of what one device is to be told: bounded, and with no memory of its own while it is empty, since most of a
//! hundred thousand devices are told nothing most of the time. Must never wait for room: what does not fit is refused.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hub_domain::link::Downlink;
use tokio::sync::Notify;

/// A queue for at most `max` downlinks: the end that the hub puts into, and the end that a front end takes from.
pub fn downlinks(max: usize) -> (DownlinkSender, Downlinks) {
    let queue = Arc::new(Queue { max, state: Mutex::default(), changed: Notify::new() });
    (DownlinkSender(queue.clone()), Downlinks(queue))
}

struct Queue {
    max: usize,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Downlink>,
    /// One of the ends is gone.
    is_closed: bool,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_one();
    }
}

/// Puts into a queue.
pub struct DownlinkSender(Arc<Queue>);

impl DownlinkSender {
    /// `false`: it did not fit, or nobody takes from the queue any more.
    pub(crate) fn send(&self, downlink: Downlink) -> bool {
        let mut state = self.0.state();
        let fits = !state.is_closed && state.waiting.len() < self.0.max;
        if fits {
            state.waiting.push_back(downlink);
            drop(state);
            self.0.changed.notify_one();
        }
        fits
    }
}

impl Drop for DownlinkSender {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Takes from a queue.
pub struct Downlinks(Arc<Queue>);

impl Downlinks {
    /// The next one; `None` once the queue is empty and nobody puts into it any more. May be dropped and asked again.
    pub async fn next(&mut self) -> Option<Downlink> {
        loop {
            let (next, is_closed) = self.take();
            if next.is_some() || is_closed {
                return next;
            }
            self.0.changed.notified().await;
        }
    }

    /// The next one, if there is one now.
    pub fn try_next(&mut self) -> Option<Downlink> {
        self.take().0
    }

    fn take(&mut self) -> (Option<Downlink>, bool) {
        let mut state = self.0.state();
        let next = state.waiting.pop_front();
        if state.waiting.is_empty() {
            state.waiting = VecDeque::new();
        }
        (next, state.is_closed)
    }
}

impl Drop for Downlinks {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use hub_domain::link::{CallId, Downlink};

    use super::downlinks;

    fn call(number: u64) -> Downlink {
        Downlink::Call { call: CallId(number), name: "m".into(), payload: "null".into() }
    }

    #[tokio::test]
    async fn what_is_sent_arrives_in_order_and_the_end_is_told() {
        let (sender, mut queue) = downlinks(2);
        assert!(sender.send(call(1)) && sender.send(call(2)));
        assert!(!sender.send(call(3)), "it is full");
        assert_eq!(queue.next().await, Some(call(1)));
        assert!(sender.send(call(4)), "there is room again");
        drop(sender);
        assert_eq!((queue.next().await, queue.try_next()), (Some(call(2)), Some(call(4))));
        assert_eq!(queue.next().await, None);
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let (sender, mut queue) = downlinks(1);
        let waits = tokio::spawn(async move { (queue.next().await, queue.next().await) });
        tokio::task::yield_now().await;
        assert!(sender.send(call(1)));
        tokio::task::yield_now().await;
        drop(sender);
        assert_eq!(waits.await.expect("it ends"), (Some(call(1)), None));
    }

    #[tokio::test]
    async fn nobody_sends_to_who_is_gone() {
        let (sender, queue) = downlinks(1);
        drop(queue);
        assert!(!sender.send(call(1)));
    }
}
