//! What has changed, and by whom: the last events in a ring, and the lines of the log made from them. Readers
//! have a place in the ring and nothing else, so none of them can hold anybody up or take room.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use netd_api::{By, Event, EventKind, EventLine, EventsFrom, LostEvents, Owner};
use tokio::sync::watch;

use super::error::{Result, ServiceError};

/// Events that are kept.
const KEPT: usize = 4_096;
/// Characters of an event's words: a problem may list many objects.
const WORDS: usize = 2_000;

/// What happened, without number and time.
#[derive(Clone, Debug)]
pub struct News {
    /// What.
    pub kind: EventKind,
    /// To what.
    pub object: String,
    /// Who that belongs to.
    pub owner: Option<Owner>,
    /// In words.
    pub text: String,
}

impl News {
    /// Of something that belongs to nobody.
    pub fn new(kind: EventKind, object: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            kind,
            object: object.into(),
            owner: None,
            text: text.into(),
        }
    }
}

#[derive(Default)]
struct Ring {
    kept: VecDeque<Event>,
    /// Number of the newest; 0: there is none.
    newest: u64,
    closed: bool,
}

impl Ring {
    /// Number of the oldest that is kept, or of the next one.
    fn oldest(&self) -> u64 {
        self.newest + 1 - self.kept.len() as u64
    }
}

/// All events of this daemon.
pub struct Events {
    ring: Mutex<Ring>,
    /// Changes with the ring.
    changed: watch::Sender<()>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            ring: Mutex::default(),
            changed: watch::Sender::new(()),
        }
    }
}

impl Events {
    fn ring(&self) -> MutexGuard<'_, Ring> {
        // A panic elsewhere has left the ring whole.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an event up and logs it: the one place where either is done.
    pub fn tell(&self, by: &By, news: News) {
        let text = one_line(&news.text);
        let whom = match by {
            By::Netd => String::new(),
            By::Caller(_) => format!("; by {by}"),
        };
        match news.kind {
            EventKind::Gone | EventKind::Problem => tracing::warn!("{text}{whom}"),
            EventKind::Created
            | EventKind::Changed
            | EventKind::Remade
            | EventKind::Removed
            | EventKind::Applied
            | EventKind::Repaired
            | EventKind::Solved
            | EventKind::Started
            | EventKind::Stopping => tracing::info!("{text}{whom}"),
        }
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        let mut ring = self.ring();
        ring.newest += 1;
        let event = Event {
            number: ring.newest,
            time_ns: since_1970.map_or(0, |t| t.as_nanos() as u64),
            kind: news.kind,
            object: news.object,
            owner: news.owner,
            by: by.clone(),
            text,
        };
        if ring.kept.len() == KEPT {
            ring.kept.pop_front();
        }
        ring.kept.push_back(event);
        drop(ring);
        self.changed.send_replace(());
    }

    /// There are no further events: readers come to their end.
    pub fn close(&self) {
        self.ring().closed = true;
        self.changed.send_replace(());
    }

    /// Reads from a place on.
    pub fn read(self: &Arc<Self>, from: &EventsFrom) -> Result<Reader> {
        let newest = self.ring().newest;
        let next = match from.since {
            None => newest + 1,
            Some(n) if n <= newest => n + 1,
            Some(n) => {
                return Err(ServiceError::conflict(format!(
                    "there is no event {n} yet, the newest is {newest}: the daemon has been started anew since; \
                     read from 0 on"
                )));
            }
        };
        Ok(Reader {
            events: Arc::clone(self),
            changed: self.changed.subscribe(),
            next,
            wait: from.wait,
        })
    }
}

/// A place in the ring.
pub struct Reader {
    events: Arc<Events>,
    changed: watch::Receiver<()>,
    /// Number of the event to be read next.
    next: u64,
    wait: bool,
}

impl Reader {
    /// The next line if there is one at once.
    pub fn ready(&mut self) -> Option<EventLine> {
        let ring = self.events.ring();
        let oldest = ring.oldest();
        if self.next < oldest {
            let lost = oldest - self.next;
            self.next = oldest;
            return Some(EventLine::Lost(LostEvents { lost }));
        }
        let at = usize::try_from(self.next - oldest).ok()?;
        let event = ring.kept.get(at)?.clone();
        self.next += 1;
        Some(EventLine::Event(event))
    }

    /// The next line; `None`: there is no further one.
    pub async fn next(&mut self) -> Option<EventLine> {
        loop {
            // Marked before the look, so that what comes after it wakes.
            self.changed.mark_unchanged();
            let over = !self.wait || self.events.ring().closed;
            if let Some(line) = self.ready() {
                return Some(line);
            }
            if over || self.changed.changed().await.is_err() {
                return None;
            }
        }
    }
}

fn one_line(text: &str) -> String {
    let line = text.replace('\n', "; ");
    match line.char_indices().nth(WORDS) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(n: usize) -> News {
        News::new(EventKind::Created, format!("network n{n}"), "made")
    }

    fn from(since: Option<u64>, wait: bool) -> EventsFrom {
        EventsFrom { since, wait }
    }

    fn number(line: Option<EventLine>) -> Option<u64> {
        match line? {
            EventLine::Event(event) => Some(event.number),
            EventLine::Lost(_) => None,
        }
    }

    #[test]
    fn a_reader_that_does_not_read_holds_nobody_up_and_hears_how_much_it_missed() {
        let events = Arc::new(Events::default());
        let mut slow = events.read(&from(None, true)).unwrap();
        let mut quick = events.read(&from(None, true)).unwrap();
        let all = KEPT + 100;
        for n in 1..=all {
            events.tell(&By::Netd, news(n));
            assert_eq!(number(quick.ready()), Some(n as u64));
        }
        assert_eq!(quick.ready(), None, "it missed nothing");
        let lost = LostEvents { lost: 100 };
        assert_eq!(slow.ready(), Some(EventLine::Lost(lost)));
        for n in 101..=all {
            assert_eq!(number(slow.ready()), Some(n as u64));
        }
        assert_eq!(slow.ready(), None);
        assert_eq!(events.ring().kept.len(), KEPT, "the ring does not grow");
    }

    #[tokio::test]
    async fn reading_begins_where_it_is_asked_to_and_ends_with_the_daemon() {
        let events = Arc::new(Events::default());
        for n in 0..3 {
            events.tell(&By::Netd, news(n));
        }
        let mut all = events.read(&from(Some(0), false)).unwrap();
        for n in 1..=3 {
            assert_eq!(number(all.next().await), Some(n));
        }
        assert_eq!(all.next().await, None, "it does not wait");
        let mut late = events.read(&from(Some(2), true)).unwrap();
        assert_eq!(number(late.next().await), Some(3));
        let refused = events.read(&from(Some(4), true)).err().unwrap();
        assert!(refused.line.contains("the newest is 3"), "{refused}");

        let waiting = tokio::spawn(async move { (late.next().await, late.next().await) });
        tokio::task::yield_now().await;
        events.tell(&By::Netd, news(4));
        events.close();
        let (fourth, end) = waiting.await.unwrap();
        assert_eq!((number(fourth), end), (Some(4), None));
    }

    #[test]
    fn words_are_one_line_of_bounded_length() {
        let text = one_line(&format!("a\nb{}", "\u{fc}".repeat(WORDS)));
        assert!(text.starts_with("a; b") && text.ends_with("..."));
        assert_eq!(text.chars().count(), WORDS + 3);
    }
}
