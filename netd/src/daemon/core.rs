//! The state, and the one thread that owns it. Every request is a closure sent to that thread, so
//! changes come one after the other and nothing needs a lock.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Context;
use netd_api::{By, Caller};
use tokio::sync::{Semaphore, oneshot};

use super::collect::Collecting;
use super::error::{Result, ServiceError};
use super::events::Events;
use super::listen::Watchers;
use super::trace::Kept;
use super::uplink::Uplink;
use crate::apply::{self, Mode, Node};
use crate::config::Settings;
use crate::failpoint;
use crate::model::{Change, Desired, Netns, Object};
use crate::plan::{Actual, Scope};
use crate::store::Store;

/// Without a request for this long the daemon counts as idle.
const QUIET: Duration = Duration::from_millis(200);
/// Between two pieces of work that can wait: others want the kernel's RTNL lock as well.
const PAUSE: Duration = Duration::from_millis(50);

/// Requests that wait for the core's thread; further ones wait with their clients.
const WAITING: usize = 256;

/// The state.
pub struct Core {
    pub(super) settings: Settings,
    pub(super) desired: Desired,
    pub(super) actual: Actual,
    pub(super) node: Node,
    pub(super) store: Store,
    /// Uplinks in use by ifindex.
    pub(super) uplinks: BTreeMap<u32, Uplink>,
    /// What is not as it should be, by subject.
    pub(super) problems: BTreeMap<String, String>,
    /// All that is not as it should be, as it was last told.
    pub(super) told_problems: BTreeSet<String>,
    /// What has changed, and by whom.
    pub(super) events: Arc<Events>,
    /// Who has asked for what is being done.
    pub(super) by: By,
    /// Devices inside namespaces that are about to be deleted: (namespace, node-side ifindex).
    pub(super) leaving: Vec<(Netns, u32)>,
    /// Whether what the start found has been brought into order.
    pub(super) settled: bool,
    /// Whether what earlier loads of the programs left is removed.
    pub(super) former_dropped: bool,
    /// Addresses that traffic of endpoints can stand on.
    pub(super) standing: BTreeSet<IpAddr>,
    /// The cgroup the socket hooks sit on; none: the node has no cgroup2.
    pub(super) cgroup: Option<PathBuf>,
    pub(super) started: Instant,
    /// Who listens to what happens.
    pub(super) watchers: Watchers,
    /// Programs that a trace has loaded.
    pub(super) traced: Kept,
    /// Ends expired flows beside this thread.
    pub(super) _collecting: Collecting,
}

type Job = Box<dyn FnOnce(&mut Core) + Send>;

/// Sends requests to the core's thread.
#[derive(Clone)]
pub struct Handle {
    jobs: mpsc::Sender<Option<Job>>,
    log: Option<std::os::fd::RawFd>,
    /// Room for requests that wait for the thread, also for those whose callers have hung up.
    room: Arc<Semaphore>,
    events: Arc<Events>,
    by: By,
}

impl Handle {
    /// Runs a request in the core's thread.
    pub async fn call<T: Send + 'static>(
        &self,
        request: impl FnOnce(&mut Core) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let ended = || ServiceError::node("the daemon is stopping");
        let room = Arc::clone(&self.room).acquire_owned().await;
        let room = room.map_err(|_| ended())?;
        let (tell, told) = oneshot::channel();
        let by = self.by.clone();
        let job: Job = Box::new(move |core| {
            drop(room);
            // Whoever has hung up before anything was done gets nothing done. What has begun ends whole.
            if tell.is_closed() {
                return;
            }
            core.by = by;
            let answer = request(core);
            failpoint::step("answering");
            let _ = tell.send(answer);
        });
        let sent = self.jobs.send(Some(job)).is_ok();
        if !sent {
            return Err(ended());
        }
        told.await.unwrap_or_else(|_| Err(ended()))
    }

    /// Runs something in the core's thread, some time.
    pub fn post(&self, job: impl FnOnce(&mut Core) + Send + 'static) {
        // The core is gone only while the daemon stops: then there is nothing to do any more.
        let _ = self.jobs.send(Some(Box::new(job)));
    }

    /// A handle of a core that is gone.
    #[cfg(test)]
    pub fn of_nobody() -> Self {
        let events = Arc::<Events>::default();
        // Readers come to their end at once.
        events.close();
        Self {
            jobs: mpsc::channel().0,
            log: None,
            room: Arc::new(Semaphore::new(1)),
            events,
            by: By::Netd,
        }
    }

    /// The same handle, in the name of a caller.
    #[must_use]
    pub fn in_the_name_of(&self, caller: Caller) -> Self {
        Self {
            by: By::Caller(caller),
            ..self.clone()
        }
    }

    /// What has changed, and by whom.
    pub fn events(&self) -> &Arc<Events> {
        &self.events
    }

    /// The same, and waits until it was run or the core has ended.
    pub async fn posted(&self, job: impl FnOnce(&mut Core) + Send + 'static) {
        let (run, over) = oneshot::channel::<()>();
        self.post(move |core| {
            job(core);
            drop(run);
        });
        // It is dropped either way, and never sent to.
        let _ = over.await;
    }

    /// Readable when the programs have written log lines.
    pub fn log_fd(&self) -> Option<std::os::fd::RawFd> {
        self.log
    }

    /// Ends the thread after the requests sent so far.
    pub async fn close(self) {
        let (tell, told) = oneshot::channel::<()>();
        self.post(move |_| drop(tell));
        let _ = self.jobs.send(None);
        let _ = told.await;
    }
}

/// Starts the thread; the receiver ends with it.
pub async fn spawn(
    settings: Settings,
    events: Arc<Events>,
) -> anyhow::Result<(Handle, oneshot::Receiver<()>)> {
    let of_core = Arc::clone(&events);
    let (jobs, inbox) = mpsc::channel::<Option<Job>>();
    let (ready, started) = oneshot::channel();
    let (alive, ended) = oneshot::channel::<()>();
    std::thread::Builder::new()
        .name("core".into())
        .spawn(move || {
            let _alive = alive;
            let mut core = match Core::open(settings, of_core) {
                Ok(core) => core,
                Err(e) => {
                    let _ = ready.send(Err(e));
                    return;
                }
            };
            let _ = ready.send(Ok(core.node.datapath.log_fd()));
            while let Some(job) = core.next_job(&inbox) {
                job(&mut core);
                core.by = By::Netd;
                core.tell_problems();
            }
            core.end_watching();
        })
        .context("cannot start a thread")?;
    let log = started.await.context("the core thread ended")??;
    let handle = Handle {
        jobs,
        log,
        room: Arc::new(Semaphore::new(WAITING)),
        events,
        by: By::Netd,
    };
    Ok((handle, ended))
}

impl Core {
    /// Waits for a request; none: the end. What can wait is done when no request has come for a while.
    fn next_job(&mut self, inbox: &mpsc::Receiver<Option<Job>>) -> Option<Job> {
        let mut patience = QUIET;
        while self.node.datapath.hooks_wait() {
            match inbox.recv_timeout(patience) {
                Ok(job) => return job,
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(e) = self.node.datapath.move_hook() {
                        tracing::warn!("{e}");
                    }
                    patience = PAUSE;
                }
            }
        }
        inbox.recv().ok().flatten()
    }

    /// Stores a change and makes it real; on any failure nothing has changed. The store's fsync
    /// runs beside the work on the node: should the machine die in between, the next start removes
    /// what no record asks for.
    pub(super) fn transact(&mut self, change: &Change, scope: Scope) -> Result<()> {
        let back = self.desired.apply(change);
        let pending = self
            .store
            .commit(change.clone(), self.desired.meta.next_number);
        let settled = self.settle(scope, Mode::AllOrNothing);
        self.release_claims();
        let stored = pending.wait();
        let error = match (settled, stored) {
            (Ok(()), Ok(())) => {
                self.note_stored();
                self.tell_change(change, &back);
                return Ok(());
            }
            (Err(e), stored) => {
                self.desired.apply(&back);
                if stored.is_ok() {
                    self.store_back(back, e)
                } else {
                    e
                }
            }
            (Ok(()), Err(e)) => {
                self.desired.apply(&back);
                self.settle_onward(scope);
                e.into()
            }
        };
        Err(error)
    }

    /// A change has been stored, and before it all that could not be.
    pub(super) fn note_stored(&mut self) {
        self.problems.remove("store");
    }

    /// Stores what takes a change back that failed, and says why it did.
    pub(super) fn store_back(&mut self, back: Change, why: ServiceError) -> ServiceError {
        let stored = self.store.take_back(back, self.desired.meta.next_number);
        match stored.wait() {
            Ok(()) => why,
            Err(e) => {
                let line = format!("what was taken back is still stored: {e}");
                let next = "the next change takes it out, once it can be stored; a start before that makes it";
                self.problems
                    .insert("store".into(), format!("store: {line}; {next}"));
                why.and(&line)
            }
        }
    }

    /// Stores a removal, then makes it real as far as it goes: what fails is tried again later.
    pub(super) fn remove(&mut self, change: &Change, scope: Scope) -> Result<()> {
        let pending = self
            .store
            .commit(change.clone(), self.desired.meta.next_number);
        pending.wait()?;
        self.note_stored();
        let back = self.desired.apply(change);
        self.tell_change(change, &back);
        self.settle_onward(scope);
        Ok(())
    }

    pub(super) fn settle(&mut self, scope: Scope, mode: Mode) -> Result<()> {
        let settled = apply::settle(&mut self.node, &self.desired, &mut self.actual, scope, mode);
        self.refresh_watchers();
        settled.map_err(ServiceError::from)
    }

    /// Makes real what can be; the rest becomes a problem that `netd status` shows.
    pub(super) fn settle_onward(&mut self, scope: Scope) {
        let key = "state".to_owned();
        match self.settle(scope, Mode::Onward) {
            Ok(()) => drop(self.problems.remove(&key)),
            Err(e) => drop(self.problems.insert(key, e.line)),
        }
    }

    /// Remembers in the store that an endpoint is whole. It may be lost: the device tells it, too.
    pub(super) fn note_made(&mut self, number: u32) {
        if let Some(endpoint) = self.desired.endpoints.get_mut(&number) {
            endpoint.made = true;
            let put = vec![Object::Endpoint(endpoint.clone())];
            let change = Change {
                put,
                remove: vec![],
            };
            drop(self.store.note(change, self.desired.meta.next_number));
        }
    }
}
