//! Deletes devices in the background: the kernel takes 20 ms for each (RCU), and nobody should
//! wait for that but who wants the same name again.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use super::{NetError, Netlink, Result, link};

/// The thread, and what it still has to do.
pub struct Reaper {
    jobs: mpsc::Sender<(String, u32)>,
    pending: Arc<Pending>,
}

#[derive(Default)]
struct Pending {
    devices: Mutex<BTreeSet<u32>>,
    done: Condvar,
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        // A set of numbers is whole whatever happened to the thread that held it.
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reaper {
    /// Starts the thread, in the caller's network namespace.
    pub fn start() -> Result<Self> {
        let mut netlink = Netlink::open()?;
        let (jobs, inbox) = mpsc::channel::<(String, u32)>();
        let pending = Arc::new(Pending::default());
        let shared = Arc::clone(&pending);
        std::thread::Builder::new()
            .name("reaper".into())
            .spawn(move || {
                for (name, ifindex) in inbox {
                    if let Err(e) = netlink.batch(vec![link::delete(&name, ifindex)]) {
                        tracing::warn!("{e}");
                    }
                    shared.lock().remove(&ifindex);
                    shared.done.notify_all();
                }
            })
            .map_err(|e| NetError::io("cannot start a thread", e))?;
        Ok(Self { jobs, pending })
    }

    /// Deletes a device soon.
    pub fn delete(&self, name: &str, ifindex: u32) {
        self.pending.lock().insert(ifindex);
        if self.jobs.send((name.into(), ifindex)).is_err() {
            self.pending.lock().remove(&ifindex);
        }
    }

    /// Whether a device is about to be deleted.
    pub fn has(&self, ifindex: u32) -> bool {
        self.pending.lock().contains(&ifindex)
    }

    /// Waits until everything is deleted that was asked for, for a while.
    pub fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut devices = self.pending.lock();
        while !devices.is_empty() && Instant::now() < deadline {
            let wait = self
                .pending
                .done
                .wait_timeout(devices, Duration::from_millis(200));
            devices = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
