//! Learned MACs from user space. The programs insert and move them; this is the one place that removes
//! them, and that puts a switch port's count right again.

use std::collections::{HashMap, HashSet};

use netd_common::addr::Mac;
use netd_common::learn::{is_fresh, learns};
use netd_common::maps::{FdbKey, Learned, Meter, Port};

use super::error::Result;
use super::flows::now;
use super::{Datapath, LearnedRecord};

/// The switch port of an entry that still counts.
fn holder(ports: &HashMap<u32, Port>, key: &FdbKey, entry: &Learned, now: u64) -> Option<u32> {
    let device = Learned::device(entry.owner, key)?;
    let port = ports.get(&device)?;
    let holds = port.network == key.network && learns(port);
    (holds && is_fresh(port, entry.last_seen, now)).then_some(device)
}

impl Datapath {
    /// MACs that are known because they were learned.
    pub fn learned(&self) -> Result<Vec<LearnedRecord>> {
        let ports: HashMap<u32, Port> = self.ports.all()?.into_iter().collect();
        let now = now();
        let known = |(key, entry): (FdbKey, Learned)| {
            let device = holder(&ports, &key, &entry, now)?;
            Some(LearnedRecord {
                network: key.network,
                mac: key.mac,
                device,
                endpoint: ports.get(&device)?.endpoint,
                idle_ns: now.saturating_sub(entry.last_seen),
            })
        };
        Ok(self.learned.all()?.into_iter().filter_map(known).collect())
    }

    /// Removes MACs that have been silent for the aging time, whose switch port is gone, or that have
    /// got a forwarding entry of the control plane's; says how many. Call every few seconds: until
    /// then the programs take such an entry for absent, but it holds a place of its switch port.
    pub fn learned_collect(&mut self) -> Result<u32> {
        let before: HashMap<u32, Meter> = self.meters.all()?.into_iter().collect();
        if before.is_empty() {
            return Ok(0);
        }
        let ports: HashMap<u32, Port> = self.ports.all()?.into_iter().collect();
        let fixed: HashSet<(u32, Mac)> = self
            .fdb
            .all()?
            .into_iter()
            .map(|(key, _)| (key.network, key.mac))
            .collect();
        let mut there: HashMap<u32, u64> = HashMap::new();
        let mut removed: HashMap<u32, u64> = HashMap::new();
        for (key, entry) in self.learned.all()? {
            let stays = |entry: &Learned| holder(&ports, &key, entry, now());
            let fixed = fixed.contains(&(key.network, key.mac));
            let mut holds = stays(&entry);
            let mut last = Learned::device(entry.owner, &key);
            if fixed || holds.is_none() {
                // Looked at once more, just before: it may have spoken again.
                let Some(entry) = self.learned.get(key)? else {
                    continue;
                };
                holds = stays(&entry).filter(|_| !fixed);
                last = Learned::device(entry.owner, &key);
            }
            match (holds, last) {
                (Some(device), _) => *there.entry(device).or_default() += 1,
                (None, device) if self.learned.remove(key)? => {
                    *removed.entry(device.unwrap_or_default()).or_default() += 1;
                }
                (None, _) => {}
            }
        }
        for (device, meter) in self.meters.all()? {
            if ports.contains_key(&device) {
                let quiet = before
                    .get(&device)
                    .is_some_and(|b| counts(b) == counts(&meter));
                let there = there.get(&device).copied().unwrap_or_default();
                let removed = removed.get(&device).copied().unwrap_or_default();
                self.recount(device, &meter, quiet.then_some(there), removed)?;
            } else {
                self.meters.remove(device)?;
                self.aged.remove(device)?;
            }
        }
        Ok(removed.values().sum::<u64>() as u32)
    }

    /// Writes how many of a switch port's MACs the daemon has removed. Where nothing was learned
    /// meanwhile it is counted anew, so that no mistake lasts: what came, less what moved away, less
    /// what is `there`.
    fn recount(
        &mut self,
        device: u32,
        meter: &Meter,
        there: Option<u64>,
        removed: u64,
    ) -> Result<()> {
        let old = self.aged.get(device)?.unwrap_or_default();
        let new = match there {
            Some(there) => meter.gained.wrapping_sub(meter.lost).wrapping_sub(there),
            None => old.wrapping_add(removed),
        };
        if new == old {
            return Ok(());
        }
        self.aged.set(device, new)
    }

    /// Forgets what was learned behind a device, and its counts.
    pub(super) fn learned_forget(&mut self, device: u32, learned: bool) -> Result<()> {
        if learned {
            for (key, entry) in self.learned.all()? {
                if Learned::device(entry.owner, &key) == Some(device) {
                    self.learned.remove(key)?;
                }
            }
        }
        self.meters.remove(device)?;
        self.aged.remove(device).map(drop)
    }
}

/// What a switch port has learned, without what it has flooded.
const fn counts(meter: &Meter) -> (u64, u64) {
    (meter.gained, meter.lost)
}
