//! The end of a verb that goes on: Ctrl-C, or a polite kill.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals that end it, caught from the moment this value is made.
pub struct Until {
    int: Signal,
    term: Signal,
}

impl Until {
    /// Catches them.
    pub fn new() -> anyhow::Result<Self> {
        let catch = |kind| signal(kind).context("cannot wait for Ctrl-C");
        Ok(Self {
            int: catch(SignalKind::interrupt())?,
            term: catch(SignalKind::terminate())?,
        })
    }

    /// Waits for one.
    pub async fn ended(&mut self) {
        tokio::select! {
            _ = self.int.recv() => {}
            _ = self.term.recv() => {}
        }
    }
}
