//! A bpffs under the pin directory: found, or mounted.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nix::mount::{MsFlags, mount, umount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::private_dir;

/// Where the system has its bpffs.
const SYSTEM: &str = "/sys/fs/bpf";

/// Whether a path that exists is on a bpffs.
pub fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC)
}

/// Makes sure that `dir` exists and is on a bpffs. Below `/sys/fs/bpf` that one is mounted, for
/// all; elsewhere `dir` itself.
pub fn prepare(dir: &Path) -> anyhow::Result<()> {
    let existing = dir
        .ancestors()
        .find(|d| d.exists())
        .map(PathBuf::from)
        .unwrap_or_default();
    if !is_bpffs(&existing) {
        let point = if dir.starts_with(SYSTEM) {
            Path::new(SYSTEM)
        } else {
            dir
        };
        if point == dir {
            private_dir(dir)?;
            if fs::read_dir(dir)?.next().is_some() {
                bail!(
                    "{} is not on a bpffs and not empty; give another --bpf-dir",
                    dir.display()
                );
            }
        }
        let none = None::<&str>;
        mount(
            Some("bpf"),
            point,
            Some("bpf"),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
            none,
        )
        .with_context(|| format!("cannot mount a bpffs on {}", point.display()))?;
    }
    private_dir(dir)
}

/// Removes the pin directory, and the bpffs that [`prepare`] mounted on it.
pub fn remove(dir: &Path) -> anyhow::Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    if !dir.starts_with(SYSTEM) && is_mount_point(dir) && is_bpffs(dir) {
        umount(dir).with_context(|| format!("cannot unmount {}", dir.display()))?;
    }
    fs::remove_dir(dir).with_context(|| format!("cannot remove {}", dir.display()))
}

fn is_mount_point(dir: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let dev = |p: &Path| fs::metadata(p).map(|m| m.dev()).ok();
    dir.parent().is_some_and(|parent| dev(dir) != dev(parent))
}
