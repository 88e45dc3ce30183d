//! Loads the embedded object: maps that are pinned are reused where their layout fits, the others
//! are made and pinned; programs are always new.

use std::borrow::Cow;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aya::maps::MapInfo;
use aya::programs::{ProgramError, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use netd_common::maps::{layout, name, size, watch};
use netd_common::planted;
use netd_common::stage::Stage;

use super::Options;
use super::error::{Error, Result, chain};
use crate::failpoint;

/// The programs, as `netd-ebpf` built them.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("NETD_EBPF_OBJECT"));

/// Environment variable with the path of an object that is loaded instead: other programs over the same maps, as
/// another build has them. For tests alone.
pub const INSTEAD: &str = "NETD_PROGRAMS";

/// The object to load.
pub(super) fn object() -> Result<Cow<'static, [u8]>> {
    let Some(path) = std::env::var_os(INSTEAD) else {
        return Ok(OBJECT.into());
    };
    let read = fs::read(&path).map_err(Error::pin(path))?;
    Ok(read.into())
}

/// Stages whose programs an object has: one of another build may be without some, and never goes on in them.
pub(super) fn stages(ebpf: &Ebpf) -> Vec<Stage> {
    let instead = std::env::var_os(INSTEAD).is_some();
    let has = |stage: &&Stage| !instead || ebpf.program(stage.program()).is_some();
    Stage::ALL.iter().filter(has).copied().collect()
}

/// Generation of the map layouts: the directory pins are under. A change of any layout counts it up;
/// `netd-common/layout.lock` and the test `layout_lock` see to that.
pub const GENERATION: &str = "g3";

/// Names of the TC programs that are hooked.
pub const CLASSIFIERS: [&str; 5] = [
    "netd_ep_out",
    "netd_ep_in",
    "netd_gw_out",
    "netd_up_in",
    "netd_up_out",
];
/// Name of the program that is hooked nowhere: it ends flows.
pub const FLOW_END: &str = "netd_flow_end";
/// Name of the XDP program.
pub const XDP: &str = "netd_xdp";

/// Where an instance's pins are.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    pub maps: PathBuf,
    pub links: PathBuf,
    /// One link for each socket hook.
    pub cgroup: PathBuf,
    /// Maps of what is between two packets of a datagram.
    pub brief: PathBuf,
    /// The maps of stages, one for each load of the programs.
    pub stages: PathBuf,
    /// One empty directory for each uplink that got its clsact qdisc from netd.
    pub clsact: PathBuf,
}

impl Pins {
    pub fn below(bpf_dir: &Path) -> Self {
        Self::at(&bpf_dir.join(GENERATION))
    }

    /// Those of one generation.
    pub fn at(root: &Path) -> Self {
        Self {
            maps: root.join("maps"),
            links: root.join("links"),
            cgroup: root.join("cgroup"),
            brief: root.join("brief"),
            stages: root.join("stages"),
            clsact: root.join("clsact"),
        }
    }

    /// Makes the directories, there or not.
    pub fn make(&self) -> Result<()> {
        let all = [
            &self.maps,
            &self.links,
            &self.cgroup,
            &self.brief,
            &self.stages,
            &self.clsact,
        ];
        for dir in all {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)
                .map_err(Error::pin(dir))?;
        }
        Ok(())
    }

    /// The pin directory of a device's hooks. bpffs refuses names with a dot.
    pub fn device(&self, device: &str) -> PathBuf {
        self.links.join(device.replace('.', "%"))
    }

    /// Where it is remembered that a device got its clsact qdisc from netd.
    pub fn mark(&self, device: &str) -> PathBuf {
        self.clsact.join(device.replace('.', "%"))
    }
}

/// Every pinned map with the sizes of its key and value, in bytes.
pub const LAYOUTS: [(&str, u32, u32); layout::MAPS.len()] = {
    let mut all = [("", 0, 0); layout::MAPS.len()];
    let mut i = 0;
    while i < all.len() {
        let map = &layout::MAPS[i];
        all[i] = (map.name, map.key, map.value);
        i += 1;
    }
    all
};

/// Checks a pinned map against the layout; `Ok(Some(entries))` if it is there.
fn pinned(path: &Path, key: u32, value: u32) -> Result<Option<u32>> {
    if !path.exists() {
        return Ok(None);
    }
    let info = MapInfo::from_pin(path)
        .map_err(|e| Error::Load(format!("{}: {}", path.display(), chain(&e))))?;
    let found = (info.key_size(), info.value_size());
    if found != (key, value) {
        return Err(Error::Layout {
            path: path.into(),
            found: format!("key {} and value {} bytes", found.0, found.1),
            wanted: format!("key {key} and value {value} bytes"),
        });
    }
    Ok(Some(info.max_entries()))
}

/// Refuses to start over what another generation has hooked: its programs would go on beside these.
fn foreign(bpf_dir: &Path) -> Result<()> {
    let entries = fs::read_dir(bpf_dir).into_iter().flatten().flatten();
    for root in entries.map(|e| e.path()) {
        let found = root.file_name().unwrap_or_default().to_string_lossy();
        let pins = |dir: &Path| fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
        let at = Pins::at(&root);
        if found != GENERATION
            && [&at.maps, &at.links, &at.cgroup]
                .into_iter()
                .any(|d| pins(d))
        {
            return Err(Error::Generation {
                found: found.into_owned(),
                path: root,
            });
        }
    }
    Ok(())
}

/// Where the maps of what is between two packets are, which the last programs had if they had such ones.
fn brief(pins: &Pins) -> Result<Vec<(&'static str, PathBuf)>> {
    let mut all = Vec::new();
    for map in layout::BRIEF {
        let path = pins.brief.join(map.name);
        if path.exists() {
            let info = MapInfo::from_pin(&path)
                .map_err(|e| Error::Load(format!("{}: {}", path.display(), chain(&e))))?;
            if (info.key_size(), info.value_size(), info.max_entries()) != map.shape {
                remove(&path)?;
            }
        }
        all.push((map.name, path));
    }
    Ok(all)
}

/// A set of the programs.
pub(super) struct Set<'a> {
    /// What they tell, [`watch`].
    pub watch: u32,
    /// Maps without a pin of their own that they share with another set: names, and pins for the moment.
    pub shared: &'a [(String, PathBuf)],
}

/// Loads everything: the programs that are hooked as a rule.
pub(super) fn load(options: &Options) -> Result<(Ebpf, Pins)> {
    let pins = Pins::below(&options.bpf_dir);
    foreign(&options.bpf_dir)?;
    pins.make()?;
    let set = Set {
        watch: 0,
        shared: &[],
    };
    Ok((load_set(options, &pins, &set)?, pins))
}

/// Loads a set of the programs, over the pinned maps.
pub(super) fn load_set(options: &Options, pins: &Pins, set: &Set<'_>) -> Result<Ebpf> {
    let paths: Vec<PathBuf> = LAYOUTS
        .iter()
        .map(|(name, ..)| pins.maps.join(name))
        .collect();
    let globals = Globals::new(options.verbose, options.netns_cookie, set.watch);
    let mut loader = EbpfLoader::new();
    globals.set(&mut loader);
    for ((name, key, value), path) in LAYOUTS.iter().zip(&paths) {
        let entries = pinned(path, *key, *value)?;
        // A flow needs no more than one mapping, and a mapping has two rows as well.
        if name.starts_with("FLOW") || name.starts_with("MAP") {
            loader.map_max_entries(name, entries.unwrap_or(options.flow_entries));
        }
        loader.map_pin_path(name, path.as_path());
    }
    let briefs = brief(pins)?;
    for (name, path) in &briefs {
        loader.map_pin_path(name, path.as_path());
    }
    for (name, path) in set.shared {
        loader.map_pin_path(name, path.as_path());
    }
    if set.watch != 0 {
        loader
            .map_max_entries(name::EVENTS, size::EVENTS_WATCHED)
            .map_max_entries(name::SEEN, size::SEEN_WATCHED);
    }
    let mut ebpf = loader
        .override_global(planted::GLOBAL, &options.planted, false)
        // Asked for again, with the log, only when a program is refused.
        .verifier_log_level(VerifierLogLevel::DEBUG | VerifierLogLevel::STATS)
        .load(&object()?)
        .map_err(|e| Error::Load(chain(&e)))?;
    for path in paths.iter().chain(briefs.iter().map(|(_, path)| path)) {
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(Error::pin(path))?;
    }

    programs(&mut ebpf)?;
    Ok(ebpf)
}

/// Loads the programs of an object: all but those of the socket hooks.
pub(super) fn programs(ebpf: &mut Ebpf) -> Result<()> {
    let stages = stages(ebpf).into_iter().map(Stage::program);
    for program in CLASSIFIERS.into_iter().chain(stages).chain([FLOW_END]) {
        classifier(ebpf, program)?
            .load()
            .map_err(refused(program))?;
    }
    xdp(ebpf)?.load().map_err(refused(XDP))
}

/// What the programs are told when they are loaded.
pub(super) struct Globals {
    log_level: u8,
    csum_v6: u64,
    netns_cookie: u64,
    watch: u32,
}

impl Globals {
    /// `watch`: bits of [`watch`].
    pub fn new(verbose: bool, netns_cookie: u64, watch: u32) -> Self {
        Self {
            log_level: if verbose { 4 } else { 0 },
            csum_v6: if kernel_at_least(6, 16) { 1 << 7 } else { 0 },
            netns_cookie,
            watch,
        }
    }

    /// Lets a loader set them.
    pub fn set<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        loader
            .override_global("AYA_LOG_LEVEL", &self.log_level, false)
            .override_global("CSUM_V6_FLAG", &self.csum_v6, false)
            .override_global("NETNS_COOKIE", &self.netns_cookie, false)
            .override_global(watch::GLOBAL, &self.watch, true);
    }
}

/// What the kernel said when it refused a program, on one line.
pub(super) fn refused(program: &str) -> impl FnOnce(ProgramError) -> Error {
    let program = program.to_string();
    move |e| {
        if let ProgramError::LoadError { verifier_log, .. } = &e {
            tracing::debug!("verifier log of {program}:\n{verifier_log}");
        }
        let why = match &e {
            ProgramError::LoadError {
                io_error,
                verifier_log,
            } => {
                let log = verifier_log.to_string();
                // The reason stands before the figures.
                let figures = ["processed", "stack depth", "verification time"];
                let last = log
                    .lines()
                    .rev()
                    .find(|l| !l.trim().is_empty() && !figures.iter().any(|f| l.starts_with(f)));
                format!("{io_error}: {}", last.unwrap_or("no verifier log"))
            }
            other => chain(other),
        };
        Error::Program { program, why }
    }
}

/// Removes a pin, there or not.
pub(super) fn remove(pin: &Path) -> Result<()> {
    failpoint::step("removing a pin");
    match fs::remove_file(pin) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::pin(pin)(e)),
        _ => Ok(()),
    }
}

/// A TC program of a loaded object.
pub(super) fn classifier<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier> {
    ebpf.program_mut(name)
        .and_then(|p| p.try_into().ok())
        .ok_or_else(|| Error::Load(format!("program {name} is missing")))
}

/// The XDP program of a loaded object.
pub(super) fn xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp> {
    ebpf.program_mut(XDP)
        .and_then(|p| p.try_into().ok())
        .ok_or_else(|| Error::Load(format!("program {XDP} is missing")))
}

/// Whether the running kernel is at least `major.minor`.
pub(super) fn kernel_at_least(major: u32, minor: u32) -> bool {
    let Ok(uname) = nix::sys::utsname::uname() else {
        return false;
    };
    let release = uname.release().to_string_lossy();
    let mut parts = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|p| p.parse().unwrap_or(0));
    let (a, b) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    (a, b) >= (major, minor)
}
