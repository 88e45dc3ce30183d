//! The programs of the last trace, kept for a while: loading them takes seconds, copying rows a moment.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::datapath::Copies;

/// How long they are kept.
const KEPT: Duration = Duration::from_mins(1);

/// Where they are kept.
#[derive(Clone, Default)]
pub struct Kept(Arc<Mutex<Slot>>);

#[derive(Default)]
struct Slot {
    copies: Option<Copies>,
    /// How often some were put here.
    puts: u64,
}

impl Kept {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes them, if there are any and nobody else has.
    pub fn take(&self) -> Option<Copies> {
        self.slot().copies.take()
    }

    /// Keeps these for a minute. The calling thread is one of the daemon's runtime.
    pub fn put(&self, copies: Copies) {
        let mut slot = self.slot();
        slot.puts += 1;
        let puts = slot.puts;
        let before = slot.copies.replace(copies);
        // Whoever waits for the lock does not wait for the kernel to take programs away.
        drop(slot);
        drop(before);
        let kept = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(KEPT).await;
            let is_last = kept.slot().puts == puts;
            drop(is_last.then(|| kept.take()));
        });
    }
}
