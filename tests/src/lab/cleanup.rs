//! Removing a lab, by its id alone: works for labs of this process and for what killed runs left.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::names::{LabId, PREFIX};
use super::{cgroup, netns, wait};

/// Removes everything of a lab. Goes on after a failure; the first one is the result.
pub fn remove(id: &LabId) -> Result<()> {
    let spaces: Vec<String> = netns::list()
        .into_iter()
        .filter(|name| name.starts_with(&id.ns("")))
        .collect();
    let identities: Vec<_> = spaces.iter().filter_map(|n| identity(n)).collect();
    let mut first = kill_inside(id, &identities);
    let mut keep = |result: Result<()>| {
        if first.is_ok() {
            first = result;
        }
    };
    for dir in mounts_below(&id.dir()) {
        keep(
            umount2(&dir, MntFlags::MNT_DETACH)
                .with_context(|| format!("cannot unmount {}", dir.display())),
        );
    }
    for (dev, ino) in identities {
        // A killed daemon leaves its lock file; nobody else can hold it once the namespace is gone.
        let _ = fs::remove_file(format!("/run/netd.lock.d/net-{dev}-{ino}"));
    }
    for name in spaces {
        keep(netns::remove(&name));
    }
    keep(cgroup::remove(&id.cgroup()));
    match fs::remove_dir_all(id.dir()) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            keep(Err(e).with_context(|| format!("cannot remove {}", id.dir().display())));
        }
        _ => {}
    }
    first
}

/// Removes the labs whose owners are dead (`all`: kept and running ones too), and stray namespaces.
/// Says what went.
pub fn clean(all: bool) -> Result<Vec<String>> {
    let mut gone = Vec::new();
    for id in LabId::all() {
        if all || (id.owner().is_none() && !id.kept()) {
            remove(&id)?;
            gone.push(format!("lab {id}"));
        }
    }
    let living: Vec<String> = LabId::all().iter().map(|id| id.ns("")).collect();
    for name in netns::list() {
        if name.starts_with(PREFIX) && !living.iter().any(|l| name.starts_with(l)) {
            // Without a lab's directory nobody says whether it is in use: processes inside do.
            if all || identity(&name).is_none_or(|i| inside(&[i]).is_empty()) {
                netns::remove(&name)?;
                gone.push(format!("namespace {name}"));
            }
        }
    }
    Ok(gone)
}

fn identity(name: &str) -> Option<(u64, u64)> {
    netns::identity(&Path::new(super::names::NETNS_DIR).join(name)).ok()
}

/// Kills every process in the lab's namespaces and cgroup, and waits until they are gone.
fn kill_inside(id: &LabId, namespaces: &[(u64, u64)]) -> Result<()> {
    wait::until(&format!("the processes of lab {id} to end"), || {
        let mut pids = inside(namespaces);
        pids.extend(cgroup::pids(&id.cgroup()));
        for pid in &pids {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        Ok(pids.is_empty().then_some(()))
    })
}

/// Processes, zombies excepted, whose network namespace is one of these.
fn inside(namespaces: &[(u64, u64)]) -> Vec<i32> {
    if namespaces.is_empty() {
        return Vec::new();
    }
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok())
        // A zombie's namespace cannot be read: it is gone for our purpose.
        .filter(|pid| {
            netns::identity(Path::new(&format!("/proc/{pid}/ns/net")))
                .is_ok_and(|i| namespaces.contains(&i))
        })
        .collect()
}

/// Mount points below a directory, innermost first.
fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    // The thread may have a mount namespace of its own.
    let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    let mut mounts: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| Some(PathBuf::from(line.split(' ').nth(4)?)))
        .filter(|path| path.starts_with(dir))
        .collect();
    mounts.reverse();
    mounts
}
