//! The socket hooks from the daemon's side: which cgroup they sit on, and what to say where they cannot.

use std::path::{Path, PathBuf};

use anyhow::bail;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use super::core::Core;

/// Key of what is wrong with the hooks among the problems.
pub const SOCKETS: &str = "sockets";
/// What goes without them.
const WITHOUT: &str = "the node's own processes do not reach published ports, and may bind them";

/// The cgroup the hooks are to sit on: the one that was asked for, which must be one, else the root of
/// cgroup2; none: the node has no cgroup2.
pub fn cgroup(asked: Option<&Path>) -> anyhow::Result<Option<PathBuf>> {
    let Some(dir) = asked else {
        return Ok(root());
    };
    if !dir.is_dir() {
        bail!("cgroup {}: there is no such directory", dir.display());
    }
    if !statfs(dir).is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC) {
        let hint = root().map_or_else(
            || "mount one (`mount -t cgroup2 none DIR`)".into(),
            |root| format!("give one below {}", root.display()),
        );
        bail!(
            "cgroup {}: this is no directory of cgroup2; {hint}",
            dir.display()
        );
    }
    Ok(Some(dir.to_owned()))
}

/// Where cgroup2 is mounted.
fn root() -> Option<PathBuf> {
    mounted(&std::fs::read_to_string("/proc/self/mountinfo").ok()?)
}

/// The first cgroup2 of a mount table (proc(5), `/proc/pid/mountinfo`).
fn mounted(table: &str) -> Option<PathBuf> {
    table.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let point = mount.split(' ').nth(4)?;
        (filesystem.split(' ').next()? == "cgroup2").then(|| PathBuf::from(point))
    })
}

impl Core {
    /// Brings the socket hooks onto their cgroup; what is in the way is a problem, and the rest works.
    pub(super) fn hook_sockets(&mut self) {
        match self.try_hook_sockets() {
            Ok(()) => drop(self.problems.remove(SOCKETS)),
            Err(why) => {
                let line = format!("socket hooks: {why}; {WITHOUT}");
                self.problems.insert(SOCKETS.into(), line);
            }
        }
    }

    fn try_hook_sockets(&mut self) -> Result<(), String> {
        if self.cgroup.is_none() {
            self.cgroup = root();
        }
        let hooked = match &self.cgroup {
            None => Err("the node has no cgroup2 mounted".into()),
            Some(cgroup) => self
                .node
                .datapath
                .hook_sockets(cgroup)
                .map_err(|e| e.to_string()),
        };
        if hooked.is_err() {
            // A former daemon's programs would go on with its knowledge of ports and addresses.
            let unhooked = self.node.datapath.unhook_sockets();
            unhooked.map_err(|e| e.to_string())?;
        }
        hooked
    }

    /// The cgroup the hooks sit on; none: they could not be hooked.
    pub(super) fn hooked_cgroup(&self) -> Option<String> {
        let cgroup = self.cgroup.as_ref()?;
        let hooked = !self.problems.contains_key(SOCKETS);
        hooked.then(|| cgroup.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_of_cgroup2_is_found() {
        let hybrid = "30 24 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      42 32 0:39 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(
            mounted(hybrid).as_deref(),
            Some(Path::new("/sys/fs/cgroup/unified"))
        );
        assert_eq!(mounted("1 2 0:3 / /cgroup2 rw - ext4 /dev/sda1 rw\n"), None);
    }

    #[test]
    fn a_directory_that_is_no_cgroup_is_refused() {
        for (dir, why) in [
            ("/proc", "no directory of cgroup2"),
            ("/no/such", "no such directory"),
        ] {
            let e = cgroup(Some(Path::new(dir))).unwrap_err().to_string();
            assert!(e.contains(why) && !e.contains('\n'), "{e}");
        }
    }
}
