//! What a lab's things are called and where they live: one id for each lab, one prefix for all.
//!
//! Everything a lab makes is found again from its id alone, so that `netd-lab clean` can remove what
//! a killed run left: namespaces `ndtID-HOST`, the directory `/run/ndt-ID`, the cgroup `ndt-ID`.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};

/// Where named namespaces are, as for `ip netns`.
pub const NETNS_DIR: &str = "/run/netns";
/// Begins the name of every namespace of a lab.
pub const PREFIX: &str = "ndt";
const RUN: &str = "/run";
const RUN_PREFIX: &str = "ndt-";

/// The id of a lab: four hexadecimal digits, unique on the machine while the lab lives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LabId(String);

impl LabId {
    /// Takes a free id: making the directory is the reservation. The directory says who owns it.
    pub fn reserve() -> Result<Self> {
        let nanos = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_nanos();
        // A multiplicative hash: labs started at the same time by different processes spread out.
        let mut seed = (nanos as u64 ^ u64::from(std::process::id()) << 32)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15);
        loop {
            let id = Self(format!("{:04x}", seed >> 48));
            match fs::create_dir(id.dir()) {
                Ok(()) => {
                    let me = Owner::current();
                    let path = id.dir().join("owner");
                    fs::write(&path, format!("{} {}\n", me.pid, me.started))
                        .with_context(|| format!("cannot write {}", path.display()))?;
                    return Ok(id);
                }
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                }
                Err(e) => {
                    return Err(e).with_context(|| {
                        format!("cannot make {} (the lab needs root)", id.dir().display())
                    });
                }
            }
        }
    }

    /// The lab's directory under `/run`.
    pub fn dir(&self) -> PathBuf {
        Path::new(RUN).join(format!("{RUN_PREFIX}{}", self.0))
    }

    /// The name of the namespace of a host of this lab.
    pub fn ns(&self, host: &str) -> String {
        format!("{PREFIX}{}-{host}", self.0)
    }

    /// The name of the lab's cgroup, below the root of cgroup2.
    pub fn cgroup(&self) -> String {
        format!("{RUN_PREFIX}{}", self.0)
    }

    /// Ids of all labs on this machine that have a directory.
    pub fn all() -> Vec<Self> {
        let mut ids: Vec<_> = fs::read_dir(RUN)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|e| {
                Some(Self(
                    e.file_name().to_str()?.strip_prefix(RUN_PREFIX)?.to_owned(),
                ))
            })
            .collect();
        ids.sort();
        ids
    }

    /// Says that the lab is to stay when its owner ends.
    pub fn mark_kept(&self) {
        // Without the mark `clean` takes it for a leftover: no harm.
        let _ = fs::write(self.dir().join("kept"), "");
    }

    /// Whether the lab is to stay.
    pub fn kept(&self) -> bool {
        self.dir().join("kept").exists()
    }

    /// The process that owns the lab, if it still runs.
    pub fn owner(&self) -> Option<u32> {
        let text = fs::read_to_string(self.dir().join("owner")).ok()?;
        let (pid, started) = text.trim().split_once(' ')?;
        let pid = pid.parse().ok()?;
        (Owner::of(pid)?.started == started).then_some(pid)
    }
}

impl std::fmt::Display for LabId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A process, told apart from a later one with the same pid by its start time.
struct Owner {
    pid: u32,
    started: String,
}

impl Owner {
    fn current() -> Self {
        let pid = std::process::id();
        Self::of(pid).unwrap_or(Self {
            pid,
            started: String::new(),
        })
    }

    fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Fields after the command name, which may hold blanks; starttime is the 22nd of all.
        let started = stat.rsplit_once(") ")?.1.split(' ').nth(19)?.to_owned();
        Some(Self { pid, started })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_recognised_by_pid_and_start() {
        let me = Owner::current();
        assert!(!me.started.is_empty());
        assert_eq!(Owner::of(me.pid).unwrap().started, me.started);
        assert!(Owner::of(u32::MAX).is_none());
    }

    #[test]
    fn namespace_names_carry_the_prefix() {
        let id = LabId("00ff".into());
        assert_eq!(id.ns("node"), "ndt00ff-node");
        assert_eq!(id.dir(), Path::new("/run/ndt-00ff"));
    }
}
