//! Watching live traffic. The programs that are hooked as a rule tell nothing; while somebody watches, a
//! second set of them is hooked in their place, over the same maps, which tells. Both are loaded then,
//! and each hook is changed from one to the other in place: no packet meets none.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use aya::Ebpf;
use aya::maps::{MapData, PerCpuArray, RingBuf};
use netd_common::maps::{Event, name, watch};

use super::error::{Error, Result, chain};
use super::hooks;
use super::load::{self, FLOW_END, Pins, Set, remove};
use super::stages::Stages;
use super::table::Table;
use super::{Datapath, flows::Ender, sys};

/// The set that is hooked while somebody watches.
pub(super) struct Watching {
    pub ebpf: Ebpf,
    stages: Stages,
    watched: Table<u32, u32>,
    captured: BTreeMap<u32, u32>,
}

/// What the programs tell, for one reader.
pub struct Events {
    ring: RingBuf<MapData>,
    lost: PerCpuArray<MapData, u64>,
}

impl Events {
    /// Readable when there are events.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }

    /// The same as a number.
    pub fn raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    /// Shows the events there are, and of packets the first bytes, oldest first.
    pub fn read(&mut self, mut visit: impl FnMut(&Event, &[u8])) {
        while let Some(record) = self.ring.next() {
            let Some((head, rest)) = record.split_at_checked(size_of::<Event>()) else {
                continue;
            };
            let event: Event = bytemuck::pod_read_unaligned(head);
            // Rounded up: a packet of no bytes has one behind it.
            let bytes = rest.get(..event.captured as usize).unwrap_or(rest);
            visit(&event, bytes);
        }
    }

    /// Events for which there was no room so far.
    pub fn lost(&self) -> u64 {
        let cpus = self.lost.get(&0, 0);
        cpus.map_or(0, |cpus| cpus.iter().sum())
    }
}

impl Watching {
    fn load(datapath: &Datapath) -> Result<(Self, Events, Ender)> {
        let pins = &datapath.pins;
        let shared = [(name::HELD, pins.stages.join(name::HELD))];
        let [(_, held)] = &shared;
        remove(held)?;
        datapath.held.pin(held)?;
        let set = Set {
            watch: watch::EVENTS | watch::PACKETS,
            shared: &shared,
        };
        let loaded = load::load_set(&datapath.options, pins, &set);
        remove(held)?;
        let mut ebpf = loaded?;
        let stages = Stages::pin(&mut ebpf, &pins.stages)?;
        let mut take = |name: &'static str| {
            let map = ebpf.take_map(name);
            map.ok_or_else(|| Error::Load(format!("map {name} is missing")))
        };
        let wrong = |e: aya::maps::MapError| Error::Load(chain(&e));
        let events = Events {
            ring: RingBuf::try_from(take(name::EVENTS)?).map_err(wrong)?,
            lost: PerCpuArray::try_from(take(name::LOST)?).map_err(wrong)?,
        };
        let ender = Ender::new(load::classifier(&mut ebpf, FLOW_END)?)?;
        let watching = Self {
            watched: Table::take(&mut ebpf, name::WATCHED)?,
            ebpf,
            stages,
            captured: BTreeMap::new(),
        };
        Ok((watching, events, ender))
    }
}

impl Datapath {
    /// Whether the programs that tell are hooked.
    pub fn is_watched(&self) -> bool {
        self.watching.is_some()
    }

    /// Hooks the programs that tell. On any failure nothing has changed.
    pub fn watch(&mut self) -> Result<Events> {
        let (mut watching, events, ender) = Watching::load(self)?;
        if let Err(e) = hooks::replace_all(&mut watching.ebpf, &self.pins) {
            hooks::replace_all(&mut self.ebpf, &self.pins)?;
            settle();
            remove(watching.stages.pin_path())?;
            return Err(e);
        }
        self.ender.replace(&ender)?;
        self.watching = Some(watching);
        Ok(events)
    }

    /// Hooks the programs that tell nothing. They stay as they are where that fails.
    pub fn unwatch(&mut self) -> Result<()> {
        if self.watching.is_none() {
            return Ok(());
        }
        hooks::replace_all(&mut self.ebpf, &self.pins)?;
        let ender = Ender::new(load::classifier(&mut self.ebpf, FLOW_END)?)?;
        self.ender.replace(&ender)?;
        if let Some(watching) = self.watching.take() {
            // A packet that is in one of its programs may be about to go on in another.
            settle();
            remove(watching.stages.pin_path())?;
        }
        Ok(())
    }

    /// Captures packets at these devices, by ifindex, with so many bytes of each, and no others.
    pub fn capture(&mut self, devices: BTreeMap<u32, u32>) -> Result<()> {
        let Some(watching) = &mut self.watching else {
            return Ok(());
        };
        for ifindex in watching.captured.keys() {
            if !devices.contains_key(ifindex) {
                watching.watched.remove(*ifindex)?;
            }
        }
        for (ifindex, bytes) in &devices {
            if watching.captured.get(ifindex) != Some(bytes) {
                watching.watched.set(*ifindex, *bytes)?;
            }
        }
        watching.captured = devices;
        Ok(())
    }
}

/// Waits until every packet that was in a program has left it.
fn settle() {
    if let Err(e) = sys::grace_period() {
        tracing::debug!("membarrier: {e}");
    }
}

/// Devices that have hooks, with the names of their pins.
pub(super) fn hooks_of(pins: &Pins) -> Result<Vec<(String, Vec<String>)>> {
    let names = |dir: &std::path::Path| -> Result<Vec<String>> {
        let entries = fs::read_dir(dir).map_err(Error::pin(dir))?;
        let name = |e: std::io::Result<fs::DirEntry>| e.ok()?.file_name().into_string().ok();
        Ok(entries.filter_map(name).collect())
    };
    let mut all = Vec::new();
    for device in names(&pins.links)? {
        let hooks = names(&pins.links.join(&device))?;
        all.push((device.replace('%', "."), hooks));
    }
    Ok(all)
}
