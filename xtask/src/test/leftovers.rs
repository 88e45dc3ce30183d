//! What labs leave on the machine when they do not clean up: namespaces, run directories, cgroups,
//! devices, pins and processes. All of them carry the lab's id in their name (`ndt` and four hex
//! digits), and the lab's run directory says which process owns it.

use std::{collections::BTreeSet, fmt, fs, path::Path};

use anyhow::Result;

use crate::{exec, root};

/// Begins every name of the lab.
const PREFIX: &str = "ndt";
/// Where the kernel's BPF objects are pinned; readable by root only.
const BPFFS: &str = "/sys/fs/bpf";

/// Things of labs whose owner is gone.
pub struct Leftovers(BTreeSet<String>);

impl Leftovers {
    /// Looks at the machine now. Labs that still have a live owner are somebody's at work.
    pub fn find() -> Result<Self> {
        let mut found = BTreeSet::new();
        let dirs = [
            ("namespace", "/run/netns"),
            ("directory", "/run"),
            ("device", "/sys/class/net"),
            ("cgroup", "/sys/fs/cgroup"),
            ("cgroup", "/sys/fs/cgroup/unified"),
        ];
        for (what, dir) in dirs {
            let names = fs::read_dir(dir).into_iter().flatten().flatten();
            let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
            found.extend(
                names
                    .filter(|name| name.starts_with(PREFIX))
                    .map(|name| format!("{what} {name}")),
            );
        }
        if Path::new(BPFFS).is_dir() {
            let pins = exec::capture(root::command("ls")?.arg(BPFFS))?;
            let pins = pins.lines().filter(|name| name.starts_with(PREFIX));
            found.extend(pins.map(|name| format!("pins {BPFFS}/{name}")));
        }
        found.extend(daemons());
        found.retain(|thing| lab_id(thing).is_none_or(|id| !has_live_owner(id)));
        Ok(Self(found))
    }

    /// What is here and was not there before.
    pub fn beyond(self, before: &Self) -> Self {
        Self(self.0.difference(&before.0).cloned().collect())
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Leftovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<&str> = self.0.iter().map(String::as_str).collect();
        f.write_str(&all.join(", "))
    }
}

/// netd processes that were started for a lab: one of their arguments has its name.
fn daemons() -> Vec<String> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let program = line.split(' ').next()?.rsplit('/').next()?;
            let id = lab_id(&line)?;
            (program == "netd").then(|| format!("process {pid} (netd of lab {PREFIX}-{id})"))
        })
        .collect()
}

/// The lab's id in `ndt-12ab`, `ndt12ab-node` or a command line that has one of them.
fn lab_id(text: &str) -> Option<&str> {
    text.match_indices(PREFIX).find_map(|(at, prefix)| {
        let rest = &text[at + prefix.len()..];
        let rest = rest.strip_prefix('-').unwrap_or(rest);
        let id = rest.get(..4)?;
        id.bytes()
            .all(|byte| byte.is_ascii_hexdigit())
            .then_some(id)
    })
}

/// The run directory's `owner` file has a pid and that process's start time, for a pid may be used
/// again.
fn has_live_owner(id: &str) -> bool {
    let Ok(owner) = fs::read_to_string(format!("/run/{PREFIX}-{id}/owner")) else {
        return false;
    };
    let Some((pid, started)) = owner.trim().split_once(' ') else {
        return false;
    };
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| start_time(&stat) == Some(started))
}

/// Field 22 of `/proc/PID/stat`; the command name before it may hold blanks.
fn start_time(stat: &str) -> Option<&str> {
    stat.rsplit_once(") ")?.1.split(' ').nth(19)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lab_is_recognised_in_every_kind_of_name() {
        assert_eq!(lab_id("namespace ndt00ff-node"), Some("00ff"));
        assert_eq!(lab_id("directory ndt-12ab"), Some("12ab"));
        assert_eq!(
            lab_id("netd daemon --run-dir /run/ndt-beef/node/run"),
            Some("beef")
        );
        assert_eq!(lab_id("netd daemon --instance handtools"), None);
        assert_eq!(lab_id("ndt"), None);
    }

    #[test]
    fn only_what_is_new_is_left_over() {
        let set = |names: &[&str]| Leftovers(names.iter().map(ToString::to_string).collect());
        let left = set(&["namespace ndt0001-a", "namespace ndt0002-a"])
            .beyond(&set(&["namespace ndt0001-a"]));
        assert_eq!(left.to_string(), "namespace ndt0002-a");
        assert!(set(&["x"]).beyond(&set(&["x"])).is_empty());
    }

    #[test]
    fn a_start_time_is_found_behind_a_name_with_blanks() {
        let stat = format!(
            "7 (a) b) S {} 4242 rest",
            (2..20).map(|n| n.to_string()).collect::<Vec<_>>().join(" ")
        );
        assert_eq!(start_time(&stat), Some("4242"));
    }
}
