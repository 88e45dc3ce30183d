//! The cgroup of a lab: each node has one of its own, because a cgroup takes 64 programs per hook.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::wait;

/// Where cgroup2 is mounted, if it is.
pub fn root() -> Option<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    table.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        filesystem
            .starts_with("cgroup2 ")
            .then(|| PathBuf::from(mount.split(' ').nth(4).unwrap_or_default()))
    })
}

/// Makes a cgroup; none where cgroup2 is not mounted.
pub fn create(name: &str) -> Result<Option<PathBuf>> {
    let Some(root) = root() else { return Ok(None) };
    let dir = root.join(name);
    fs::create_dir(&dir).with_context(|| format!("cannot make the cgroup {}", dir.display()))?;
    Ok(Some(dir))
}

/// Processes of a cgroup.
pub fn pids(name: &str) -> Vec<i32> {
    let Some(root) = root() else {
        return Vec::new();
    };
    let text = fs::read_to_string(root.join(name).join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|l| l.parse().ok()).collect()
}

/// Removes a cgroup that may be gone already.
pub fn remove(name: &str) -> Result<()> {
    let Some(root) = root() else { return Ok(()) };
    let dir = root.join(name);
    // A scenario may have made some below.
    for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove(&format!("{name}/{}", entry.file_name().to_string_lossy()))?;
        }
    }
    wait::until(
        &format!("the cgroup {} to be empty", dir.display()),
        || match fs::remove_dir(&dir) {
            Ok(()) => Ok(Some(())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Some(())),
            // Zombies not yet reaped keep it busy.
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => Ok(None),
            Err(e) => Err(e).with_context(|| format!("cannot remove {}", dir.display())),
        },
    )
}
