//! What the core tells of: changes of the desired state, what it finds on the node, problems. Each is told once,
//! here, as an event; the log's line is made from that.

use std::collections::BTreeSet;

use netd_api::{By, EventKind};

use super::core::Core;
use super::events::News;
use crate::model::Change;
use crate::model::told::told;

impl Core {
    /// Something has happened, by whom the core works for at the moment.
    pub(super) fn tell(&self, kind: EventKind, object: impl Into<String>, text: impl Into<String>) {
        self.events.tell(&self.by, News::new(kind, object, text));
    }

    /// A change was made. `back`: what would take it back.
    pub(super) fn tell_change(&self, change: &Change, back: &Change) {
        for told in told(&self.desired, change, back) {
            let news = News {
                owner: Some(told.owner),
                ..News::new(told.kind, told.object, told.text)
            };
            self.events.tell(&self.by, news);
        }
    }

    /// Tells the problems that have come and those that are over since the last time.
    pub(super) fn tell_problems(&mut self) {
        let now: BTreeSet<String> = self.conditions().into_iter().collect();
        if now == self.told_problems {
            return;
        }
        for over in self.told_problems.difference(&now) {
            let text = format!("no longer a problem: {over}");
            self.events
                .tell(&By::Netd, News::new(EventKind::Solved, "node", text));
        }
        for new in now.difference(&self.told_problems) {
            self.events
                .tell(&By::Netd, News::new(EventKind::Problem, "node", new));
        }
        self.told_problems = now;
    }
}
