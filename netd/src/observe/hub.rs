//! Who listens, to what, and what each has missed. Nobody waits for a listener: what does not fit in its
//! queue is counted and told when there is room again.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use netd_api::Told;
use netd_common::maps::Event;
use netd_common::reason::DropReason;
use tokio::sync::{Notify, mpsc};

use super::names::Names;
use super::tell::{self, About, Clock, What};

/// Lines that wait for a listener.
const QUEUE: usize = 8_192;

/// What somebody listens to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Flows and drops.
    Monitor {
        /// Number of the only endpoint.
        endpoint: Option<u32>,
        /// Number of the only network.
        network: Option<u32>,
        /// Drops and refusals only.
        drops: bool,
        /// Flows and refusals only.
        flows: bool,
        /// The only reason.
        reason: Option<DropReason>,
    },
    /// Packets at devices.
    Capture {
        /// Their ifindexes.
        devices: BTreeSet<u32>,
        /// Bytes of each packet.
        snaplen: u32,
    },
}

impl Ask {
    fn fits(&self, about: &About) -> bool {
        match self {
            Self::Monitor {
                endpoint,
                network,
                drops,
                flows,
                reason,
            } => {
                let what = match about.what {
                    What::Flow => !drops && reason.is_none(),
                    What::Refused => true,
                    What::Dropped => !flows,
                    What::Passed => false,
                };
                what && endpoint.is_none_or(|n| about.endpoints.contains(&n))
                    && network.is_none_or(|n| about.networks.contains(&n))
                    && reason.is_none_or(|r| about.reason == Some(r))
            }
            Self::Capture { devices, .. } => {
                about.what != What::Flow && about.devices.iter().any(|d| devices.contains(d))
            }
        }
    }

    /// What is captured: devices, and bytes of each packet.
    pub fn captures(&self) -> Option<(&BTreeSet<u32>, u32)> {
        match self {
            Self::Monitor { .. } => None,
            Self::Capture { devices, snaplen } => Some((devices, *snaplen)),
        }
    }
}

/// What a listener has missed.
#[derive(Default)]
struct Missed {
    events: AtomicU64,
    more: Notify,
}

struct Listener {
    id: u64,
    ask: Ask,
    queue: mpsc::Sender<Told>,
    missed: Arc<Missed>,
}

#[derive(Default)]
struct State {
    listeners: Vec<Listener>,
    names: Names,
    next: u64,
}

/// All listeners.
#[derive(Default)]
pub struct Hub(Mutex<State>);

/// The listener's end.
pub struct Listening {
    /// Which one it is.
    pub id: u64,
    queue: mpsc::Receiver<Told>,
    missed: Arc<Missed>,
}

impl Listening {
    /// The next line; what was missed is told before what came later. `None`: the daemon stops.
    pub async fn next(&mut self) -> Option<Told> {
        loop {
            if let Some(lost) = self.lost() {
                return Some(lost);
            }
            tokio::select! {
                told = self.queue.recv() => return told,
                () = self.missed.more.notified() => {}
            }
        }
    }

    /// The next line if there is one at once.
    pub fn ready(&mut self) -> Option<Told> {
        self.lost().or_else(|| self.queue.try_recv().ok())
    }

    fn lost(&self) -> Option<Told> {
        let events = self.missed.events.swap(0, Ordering::Relaxed);
        (events > 0).then_some(Told::Lost { events })
    }
}

impl Hub {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere has left the lists whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody listens from now on.
    pub fn listen(&self, ask: Ask) -> Listening {
        let (queue, lines) = mpsc::channel(QUEUE);
        let missed = Arc::new(Missed::default());
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        state.listeners.push(Listener {
            id,
            ask,
            queue,
            missed: Arc::clone(&missed),
        });
        Listening {
            id,
            queue: lines,
            missed,
        }
    }

    /// A listener goes; says whether it was the last.
    pub fn leave(&self, id: u64) -> bool {
        let mut state = self.state();
        state.listeners.retain(|l| l.id != id);
        state.listeners.is_empty()
    }

    /// Whether nobody listens.
    pub fn is_empty(&self) -> bool {
        self.state().listeners.is_empty()
    }

    /// Lets a listener have another ask.
    pub fn change(&self, id: u64, ask: Ask) {
        if let Some(listener) = self.state().listeners.iter_mut().find(|l| l.id == id) {
            listener.ask = ask;
        }
    }

    /// Takes up names.
    pub fn update(&self, names: Names) {
        self.state().names.update(names);
    }

    /// Tells an event to those it is for.
    pub fn tell(&self, event: &Event, frame: &[u8], clock: Clock) {
        let state = self.state();
        let about = tell::about(event, frame, &state.names);
        for listener in state.listeners.iter().filter(|l| l.ask.fits(&about)) {
            let (bytes, frame) = match listener.ask.captures() {
                Some((_, snaplen)) => (true, frame.get(..snaplen as usize).unwrap_or(frame)),
                None => (false, frame),
            };
            let told = tell::line(event, frame, &state.names, clock, bytes);
            if let Some(told) = told
                && listener.queue.try_send(told).is_err()
            {
                listener.miss(1);
            }
        }
    }

    /// So many events never came here: nobody knows for whom they were.
    pub fn lose(&self, events: u64) {
        for listener in &self.state().listeners {
            listener.miss(events);
        }
    }
}

impl Listener {
    fn miss(&self, events: u64) {
        self.missed.events.fetch_add(events, Ordering::Relaxed);
        self.missed.more.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;
    use netd_common::maps::EventKind;

    use super::*;

    fn monitor() -> Ask {
        Ask::Monitor {
            endpoint: None,
            network: None,
            drops: false,
            flows: false,
            reason: None,
        }
    }

    fn opened() -> Event {
        Event {
            kind: EventKind::FlowOpened.code(),
            ..Event::zeroed()
        }
    }

    #[tokio::test]
    async fn a_listener_that_does_not_read_holds_nobody_up_and_hears_what_it_missed() {
        let hub = Hub::default();
        let (mut slow, mut quick) = (hub.listen(monitor()), hub.listen(monitor()));
        let all = QUEUE as u64 + 100;
        for _ in 0..all {
            hub.tell(&opened(), &[], Clock(0));
            assert!(matches!(quick.ready(), Some(Told::Opened(_))));
        }
        assert_eq!(quick.ready(), None, "it missed nothing");
        assert_eq!(slow.next().await, Some(Told::Lost { events: 100 }));
        for _ in 0..QUEUE {
            assert!(matches!(slow.next().await, Some(Told::Opened(_))));
        }
        assert_eq!(slow.ready(), None);
        hub.lose(3);
        assert_eq!(slow.next().await, Some(Told::Lost { events: 3 }));
        assert!(!hub.leave(slow.id) && hub.leave(quick.id));
    }

    #[test]
    fn a_listener_hears_what_it_asked_for() {
        let flow = About {
            what: What::Flow,
            endpoints: vec![7],
            networks: vec![1],
            ..About::default()
        };
        let drop = About {
            what: What::Dropped,
            devices: vec![4],
            reason: Some(DropReason::Isolated),
            ..flow.clone()
        };
        let refused = About {
            what: What::Refused,
            ..drop.clone()
        };
        let passed = About {
            what: What::Passed,
            reason: None,
            ..drop.clone()
        };
        let ask = |endpoint, network, drops, flows, reason| Ask::Monitor {
            endpoint,
            network,
            drops,
            flows,
            reason,
        };
        let isolated = Some(DropReason::Isolated);
        let devices = |d: u32| Ask::Capture {
            devices: BTreeSet::from([d]),
            snaplen: 64,
        };
        for (ask, wanted) in [
            (monitor(), [true, true, true, false]),
            (
                ask(Some(7), None, false, false, None),
                [true, true, true, false],
            ),
            (ask(Some(8), None, false, false, None), [false; 4]),
            (ask(None, Some(2), false, false, None), [false; 4]),
            (
                ask(None, Some(1), true, false, None),
                [false, true, true, false],
            ),
            (
                ask(None, None, false, true, None),
                [true, false, true, false],
            ),
            (
                ask(None, None, false, false, isolated),
                [false, true, true, false],
            ),
            (
                ask(None, None, false, false, Some(DropReason::Storm)),
                [false; 4],
            ),
            (devices(4), [false, true, true, true]),
            (devices(5), [false; 4]),
        ] {
            let found = [&flow, &drop, &refused, &passed].map(|about| ask.fits(about));
            assert_eq!(found, wanted, "{ask:?}");
        }
    }
}
