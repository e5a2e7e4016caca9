//! Single calls go first: who works through a fleet waits a moment while somebody calls one device.
//! It must never stop a fleet's work for long: a device may take minutes to answer.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// Counts the single calls that are under way.
pub(crate) struct Courtesy {
    single_calls: watch::Sender<usize>,
}

impl Default for Courtesy {
    fn default() -> Self {
        Self { single_calls: watch::Sender::new(0) }
    }
}

/// One single call; dropping it ends it.
pub(crate) struct SingleCall<'c>(&'c Courtesy);

impl Drop for SingleCall<'_> {
    fn drop(&mut self) {
        self.0.single_calls.send_modify(|calls| *calls -= 1);
    }
}

impl Courtesy {
    /// Notes that somebody calls one device.
    pub(crate) fn single_call(&self) -> SingleCall<'_> {
        self.single_calls.send_modify(|calls| *calls += 1);
        SingleCall(self)
    }

    /// Lets others have the processor, and waits for single calls as long as there is `patience` left, which it takes from.
    pub(crate) async fn give_way(&self, patience: &mut Duration) {
        // First the threads of this and other programs that wait behind this one: a kernel that is not asked takes the
        // processor away from it only after some milliseconds. Then the tasks of this thread.
        std::thread::yield_now();
        tokio::task::yield_now().await;
        if *self.single_calls.borrow() == 0 || patience.is_zero() {
            return;
        }
        let begun = Instant::now();
        let _ = timeout(*patience, self.single_calls.subscribe().wait_for(|calls| *calls == 0)).await;
        *patience = patience.saturating_sub(begun.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_single_call_is_waited_for_and_one_that_lasts_is_not() {
        let courtesy = Courtesy::default();
        let mut patience = Duration::from_millis(5);
        courtesy.give_way(&mut patience).await;
        assert_eq!(patience, Duration::from_millis(5), "nobody calls");
        let begun = Instant::now();
        let call = courtesy.single_call();
        let ends = async {
            tokio::time::sleep(Duration::from_millis(2)).await;
            drop(call);
        };
        tokio::join!(courtesy.give_way(&mut patience), ends);
        assert_eq!((begun.elapsed(), patience), (Duration::from_millis(2), Duration::from_millis(3)));
        let _lasting = courtesy.single_call();
        courtesy.give_way(&mut patience).await;
        courtesy.give_way(&mut patience).await;
        assert_eq!((begun.elapsed(), patience), (Duration::from_millis(5), Duration::ZERO));
    }
}
