//! Signals of the operating system: Ctrl-C and SIGTERM end the hub in order and the second one at once, SIGHUP reads
//! certificates again. The only place that may end the process without returning from `main`.

use std::process::exit;

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What shells report for a program that Ctrl-C ended.
const EXIT_INTERRUPTED: i32 = 130;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// End in order.
    End,
    /// Read certificates again.
    Reload,
}

/// The signals that the hub listens to from its first moment on.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// Begins to listen.
    pub fn listen() -> Result<Signals> {
        let listen = |kind| signal(kind).context("cannot listen to signals");
        Ok(Signals {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) -> Wish {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => Wish::End,
            _ = self.terminate.recv() => Wish::End,
            _ = self.hangup.recv() => Wish::Reload,
        }
    }

    /// Waits for another signal to end, and ends at once; never returns.
    pub async fn exit_on_next_end(&mut self) {
        while self.next().await != Wish::End {}
        eprintln!("ending at once");
        exit(EXIT_INTERRUPTED)
    }
}
