//! Watching live traffic. The programs that are hooked as a rule tell nothing; while somebody watches, a
//! second set of them is hooked in their place, over the same maps, which tells. Both are loaded then,
//! and each hook is changed from one to the other in place: no packet meets none.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use aya::Ebpf;
use aya::maps::{MapData, PerCpuArray, RingBuf};
use netd_common::maps::{Event, layout, name, watch};

use super::error::{Error, Result, chain};
use super::hooks;
use super::load::{self, FLOW_END, Pins, Set, remove};
use super::stages::Stages;
use super::table::Table;
use super::{Datapath, Options, flows::Ender, sys};

/// The set that is hooked while somebody watches.
pub(super) struct Watching {
    pub ebpf: Ebpf,
    pub(super) stages: Stages,
    watched: Table<u32, u32>,
    captured: BTreeMap<u32, u32>,
}

impl Drop for Watching {
    /// Its programs are in no hook any more, or never were.
    fn drop(&mut self) {
        // A packet that is in one of them may be about to go on in another.
        if let Err(e) = sys::grace_period() {
            tracing::debug!("membarrier: {e}");
        }
        if let Err(e) = remove(self.stages.pin_path()) {
            tracing::warn!("{e}");
        }
    }
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

    /// Shows the events there are, and of packets the first bytes, oldest first, and no more than `most` of
    /// them: there may be new ones quicker than they are read. What is left keeps [`Self::fd`] readable.
    pub fn read(&mut self, most: usize, mut visit: impl FnMut(&Event, &[u8])) {
        for _ in 0..most {
            let Some(record) = self.ring.next() else {
                return;
            };
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

/// The set that tells, to be loaded: that takes a while and needs nobody.
pub struct Load {
    options: Options,
    pins: Pins,
    /// Maps that belong to one load as a rule: these two share them, by pins for the moment.
    shared: Vec<(String, PathBuf)>,
}

/// Maps that each set has for itself: scratch of one run, and what only a watcher needs. All the others hold
/// what the next packet needs, whichever set it meets.
const OWN: [&str; 10] = [
    name::EVENTS,
    name::LOST,
    name::WATCHED,
    name::SEEN,
    "STAGES",
    "TRACE",
    "WORK4",
    "WORK6",
    "FRAG_SAVED",
    "AYA_LOGS",
];

/// It is loaded, and hooked nowhere.
pub struct Loaded {
    watching: Watching,
    events: Events,
    ender: Ender,
}

impl Load {
    /// Loads it.
    pub fn load(self) -> Result<Loaded> {
        let set = Set {
            watch: watch::EVENTS | watch::PACKETS,
            shared: &self.shared,
        };
        let mut ebpf = load::load_set(&self.options, &self.pins, &set)?;
        let stages = Stages::pin(&mut ebpf, &self.pins.stages)?;
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
        let watching = Watching {
            watched: Table::take(&mut ebpf, name::WATCHED)?,
            ebpf,
            stages,
            captured: BTreeMap::new(),
        };
        Ok(Loaded {
            watching,
            events,
            ender,
        })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for (_, pin) in &self.shared {
            if let Err(e) = remove(pin) {
                tracing::warn!("{e}");
            }
        }
    }
}

impl Datapath {
    /// Whether the programs that tell are hooked.
    pub fn is_watched(&self) -> bool {
        self.watching.is_some()
    }

    /// The programs that tell, to be loaded on whichever thread; one load at a time.
    pub fn watch_load(&self) -> Result<Load> {
        let pin = |name: &str| self.pins.stages.join(name);
        let mut load = Load {
            options: self.options.clone(),
            pins: self.pins.clone(),
            shared: Vec::new(),
        };
        // What was not taken out of the object is neither pinned nor read from here.
        for (name, map) in self.ebpf.maps() {
            // What is pinned for good is found there.
            let brief = layout::BRIEF.iter().any(|map| map.name == name);
            if brief || OWN.contains(&name) || name.starts_with('.') {
                continue;
            }
            let path = pin(name);
            remove(&path)?;
            map.pin(&path)
                .map_err(|e| Error::Load(format!("{}: {}", path.display(), chain(&e))))?;
            load.shared.push((name.to_owned(), path));
        }
        let held = pin(name::HELD);
        remove(&held)?;
        self.held.pin(&held)?;
        load.shared.push((name::HELD.to_owned(), held));
        Ok(load)
    }

    /// Hooks them. On a failure those that tell nothing are hooked again; should that fail too, some hooks have
    /// the ones and some the others, [`Self::is_watched`], until [`Self::unwatch`] succeeds.
    pub fn watch_hook(&mut self, loaded: Loaded) -> Result<Events> {
        let Loaded {
            mut watching,
            events,
            ender,
        } = loaded;
        let ender = ender.handle()?;
        if let Err(e) = hooks::replace_all(&mut watching.ebpf, &self.pins) {
            if hooks::replace_all(&mut self.ebpf, &self.pins).is_err() {
                // What is hooked must keep its stages.
                self.watching = Some(watching);
            }
            return Err(e);
        }
        self.ender.replace(ender);
        self.watching = Some(watching);
        Ok(events)
    }

    /// Loads and hooks them.
    pub fn watch(&mut self) -> Result<Events> {
        let loaded = self.watch_load()?.load()?;
        self.watch_hook(loaded)
    }

    /// Hooks the programs that tell nothing. What fails leaves the others where they are.
    pub fn unwatch(&mut self) -> Result<()> {
        if self.watching.is_none() {
            return Ok(());
        }
        let ender = Ender::new(load::classifier(&mut self.ebpf, FLOW_END)?)?.handle()?;
        hooks::replace_all(&mut self.ebpf, &self.pins)?;
        self.ender.replace(ender);
        self.watching = None;
        Ok(())
    }

    /// Captures packets at these devices, by ifindex, with so many bytes of each, and no others.
    pub fn capture(&mut self, mut devices: BTreeMap<u32, u32>) -> Result<()> {
        let Some(watching) = &mut self.watching else {
            return Ok(());
        };
        // What is noted of every packet, before anybody knows where it goes.
        if let Some(most) = devices.values().copied().max() {
            devices.insert(0, most);
        }
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
