//! Collecting flows and mappings that are over, on a thread of its own: a full table takes tens of milliseconds to
//! read, and nobody who asks the daemon for something shall wait for that.

use std::collections::HashMap;

use netd_common::addr::{V4, V6};
use netd_common::flow::{Timeouts, recount};
use netd_common::maps::Usage;

use super::error::Result;
use super::flows::{self, Ender, FlowTable, Walk};
use super::mappings::{self, MappingTable, Suspects};
use super::table::Table;

/// Entries without their other half are looked for in one walk of so many.
const HALVES: u32 = 16;

/// Handles on the flow tables, and what was seen when they were last read.
pub struct Collector {
    pub(super) flows4: FlowTable<V4>,
    pub(super) flows6: FlowTable<V6>,
    pub(super) mappings4: MappingTable<V4>,
    pub(super) mappings6: MappingTable<V6>,
    /// Mappings that count flows that are gone, by family.
    pub(super) suspects: (Suspects<V4>, Suspects<V6>),
    pub(super) usage: Table<u32, Usage>,
    pub(super) ender: Ender,
    pub(super) timeouts: Timeouts,
    pub(super) walks: u32,
    /// By endpoint: counted, and found in the tables.
    pub(super) last: HashMap<u32, (Usage, Usage)>,
}

/// What a walk through both tables found and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Flows that ended.
    pub ended: u32,
    /// How full the fuller table was, in percent.
    pub percent: u32,
}

impl Collector {
    /// Ends flows that are over. Every so often entries that lost their other half go, too; `thorough`:
    /// now.
    pub fn collect(&mut self, thorough: bool) -> Result<Collected> {
        let halves = thorough || self.walks.is_multiple_of(HALVES);
        self.walks = self.walks.wrapping_add(1);
        let before: HashMap<u32, Usage> = self.usage.all()?.into_iter().collect();
        let four = flows::collect(&self.flows4, &self.ender, &self.timeouts, halves)?;
        let six = flows::collect(&self.flows6, &self.ender, &self.timeouts, halves)?;
        let (ender, suspects) = (&self.ender, &mut self.suspects);
        mappings::collect(
            &self.mappings4,
            &self.flows4,
            ender,
            halves,
            &mut suspects.0,
        )?;
        mappings::collect(
            &self.mappings6,
            &self.flows6,
            ender,
            halves,
            &mut suspects.1,
        )?;
        let ended = four.ended + six.ended;
        let percent = |walk: &Walk, room: u32| {
            let percent = u64::from(walk.entries) * 100 / u64::from(room.max(1));
            percent as u32
        };
        let percent = percent(&four, self.flows4.room()).max(percent(&six, self.flows6.room()));
        self.recount(&before, &[four, six])?;
        Ok(Collected { ended, percent })
    }

    /// Puts counts right that differ from the tables. That nothing ended or began is told by the counts.
    fn recount(&mut self, before: &HashMap<u32, Usage>, walks: &[Walk]) -> Result<()> {
        let mut last = HashMap::new();
        for (endpoint, after) in self.usage.all()? {
            let Some(before) = before.get(&endpoint) else {
                continue;
            };
            let mut found = Usage::default();
            for of in walks.iter().filter_map(|w| w.by_endpoint.get(&endpoint)) {
                found.flows += of.flows;
                found.called += of.called;
            }
            let again = self.last.get(&endpoint).copied();
            if let Some(right) = recount((*before, after), found, again) {
                tracing::warn!(
                    "endpoint {endpoint} was counted with {} flows, {} of them from outside; it has {} and {}",
                    after.flows,
                    after.called,
                    right.flows,
                    right.called
                );
                self.usage.set(endpoint, right)?;
            }
            last.insert(endpoint, (*before, found));
        }
        self.last = last;
        Ok(())
    }
}
