//! Loaded data paths that are used again. Loading is most of what a case costs, so a data path whose case
//! went well is emptied and kept for the next one. It is in no namespace of its own: its pins are on a bpffs
//! that only an open directory still leads to.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use aya::maps::{Array, Map, MapData, MapInfo, MapType};
use netd::datapath::{Datapath, Options};
use netd_common::flow::Timeouts;
use netd_common::maps::{Limits, name};
use nix::mount::{MsFlags, mount};

use super::table::Plain;

/// `bpf(2)` commands (`<linux/bpf.h>`).
mod command {
    pub const UPDATE: libc::c_long = 2;
    pub const DELETE: libc::c_long = 3;
    pub const NEXT_KEY: libc::c_long = 4;
}

/// What a data path was loaded with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    /// Entries of the flow tables.
    pub entries: u32,
    /// Flows of an endpoint; `None`: as many as there is room for.
    pub limit: Option<u32>,
    /// Mistakes that the programs make.
    pub planted: u32,
}

impl Size {
    fn options(self, bpf: &Path) -> Options {
        Options {
            bpf_dir: bpf.to_owned(),
            attach_mode: None,
            netns_cookie: 0,
            verbose: false,
            flow_entries: self.entries,
            flows_per_endpoint: Some(self.limit.unwrap_or(u32::MAX)),
            timeouts: Timeouts::DEFAULT,
            planted: self.planted,
        }
    }
}

/// A loaded data path, and the file system its pins are on.
pub(super) struct Loaded {
    pub datapath: Datapath,
    pub bpf: PathBuf,
    size: Size,
    limits: Limits,
    _root: File,
}

static IDLE: Mutex<Vec<Loaded>> = Mutex::new(Vec::new());

impl Loaded {
    /// One that nobody uses, empty, or a new one.
    pub fn take(size: Size) -> Self {
        let mut idle = IDLE.lock().expect("no case panics while it takes one");
        let found = idle.iter().position(|l| l.size == size);
        let found = found.map(|at| idle.swap_remove(at));
        drop(idle);
        match found {
            Some(mut loaded) => {
                loaded.wipe();
                loaded
            }
            None => Self::load(size),
        }
    }

    /// For the next case.
    pub fn give(self) {
        IDLE.lock()
            .expect("no case panics while it gives one")
            .push(self);
    }

    /// A new one. The calling thread has a mount namespace of its own.
    pub fn load(size: Size) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let none = None::<&str>;
        mount(Some("bpf"), dir.path(), Some("bpf"), MsFlags::empty(), none).expect("a bpffs");
        let root = File::open(dir.path()).expect("the bpffs");
        let bpf = PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd()));
        let datapath = Datapath::open(&size.options(&bpf)).expect("the programs load");
        nix::mount::umount2(dir.path(), nix::mount::MntFlags::MNT_DETACH).expect("unmounted");
        let limits = limits(&bpf).get(&0, 0).expect("the limits").0;
        Self {
            datapath,
            bpf,
            size,
            limits,
            _root: root,
        }
    }

    /// Loads the programs once more, as the next start of the daemon does.
    pub fn reload(&mut self) {
        let options = self.size.options(&self.bpf);
        self.datapath = Datapath::open(&options).expect("the programs load again");
    }

    /// Removes all rows; what the loading itself wrote is as it was then.
    fn wipe(&mut self) {
        // By its own call: it counts ports in a map that is not pinned.
        for (key, _) in self.datapath.published().expect("rows") {
            self.datapath.publish_remove(key).expect("publish");
        }
        for pin in pins(&self.bpf) {
            empty(&MapData::from_pin(&pin).expect("a pinned map"));
        }
        for (_, map) in self.datapath.ebpf().maps() {
            if let Map::Array(map)
            | Map::HashMap(map)
            | Map::LruHashMap(map)
            | Map::PerCpuArray(map) = map
            {
                empty(map);
            }
        }
        let set = limits(&self.bpf).set(0, Plain(self.limits), 0);
        set.expect("the limits are set");
    }
}

/// The row the loading writes, and cases change.
fn limits(bpf: &Path) -> Array<MapData, Plain<Limits>> {
    let pin = pins(bpf).into_iter().find(|p| p.ends_with(name::LIMITS));
    let map = MapData::from_pin(pin.expect("the map is pinned")).expect("a pinned map");
    Map::Array(map).try_into().expect("an array")
}

pub(super) fn pins(bpf: &Path) -> Vec<PathBuf> {
    let entries = |dir: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(dir).expect("the pin directory");
        entries.map(|e| e.expect("an entry").path()).collect()
    };
    let generations = entries(bpf);
    let maps = generations.iter().map(|g| g.join("maps"));
    maps.filter(|m| m.is_dir())
        .flat_map(|m| entries(&m))
        .collect()
}

/// Deletes all rows, or makes those zero that cannot be deleted.
pub(super) fn empty(map: &MapData) {
    let info = map.info().expect("the map's info");
    let (fd, key_size) = (map.fd().as_fd(), info.key_size() as usize);
    match info.map_type().expect("a known type") {
        MapType::Array | MapType::PerCpuArray => {
            if info
                .name_as_str()
                .is_some_and(|name| name.contains("rodata"))
            {
                return;
            }
            let zero = vec![0u8; value_bytes(&info)];
            for index in 0..info.max_entries() {
                call(command::UPDATE, fd, &index.to_ne_bytes(), zero.as_ptr());
            }
        }
        MapType::Hash | MapType::LruHash | MapType::LpmTrie => {
            let mut key = vec![0u8; key_size];
            while call(command::NEXT_KEY, fd, &[], key.as_mut_ptr()) {
                call(command::DELETE, fd, &key, std::ptr::null());
            }
        }
        _ => {}
    }
}

/// Bytes of a value as bpf(2) takes it: of a per-CPU map one for each CPU.
fn value_bytes(info: &MapInfo) -> usize {
    let size = info.value_size() as usize;
    if info.map_type().expect("a known type") == MapType::PerCpuArray {
        size.next_multiple_of(8) * aya::util::nr_cpus().expect("the CPUs")
    } else {
        size
    }
}

/// `bpf_attr` of the commands on an element.
#[repr(C)]
struct Element {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Whether the kernel did it. An empty key asks for the first one.
fn call(command: libc::c_long, map: BorrowedFd<'_>, key: &[u8], value: *const u8) -> bool {
    let mut element = Element {
        map: map.as_raw_fd().cast_unsigned(),
        pad: 0,
        key: if key.is_empty() {
            0
        } else {
            key.as_ptr() as u64
        },
        value: value as u64,
        flags: 0,
    };
    // SAFETY: key and value are as long as the map says, and live through the call.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            &raw mut element,
            size_of::<Element>(),
        )
    };
    rc == 0
}
