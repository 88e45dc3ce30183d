//! `netd ns exec`: enters a namespace and becomes the command.

use std::ffi::OsString;
use std::fs::read_dir;
use std::io;
use std::path::Path;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use super::mounts;
use super::name::Name;
use crate::cli::Outcome;
use crate::cli::command::{arguments, execute, not_executed};
use crate::cli::output::default_sigpipe;

const NOTHING: Option<&str> = None;

/// Enters the namespace and executes the command in this process's place, so that signals, terminal
/// and exit status are the command's own. Returns only when it cannot.
pub fn run(name: &Name, command: &[OsString]) -> Outcome {
    let command = arguments(command)?;
    let namespace = mounts::open(name)?;
    setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(|e| match e {
        Errno::EPERM => anyhow::anyhow!("cannot enter namespace {name:?}: run this as root"),
        Errno::EINVAL => anyhow::anyhow!("cannot enter {name:?}: it is not a network namespace"),
        e => anyhow::anyhow!("cannot enter namespace {name:?}: {}", e.desc()),
    })?;
    drop(namespace);
    overlay_etc(&Path::new("/etc/netns").join(name.as_str()))
        .with_context(|| format!("cannot set up /etc for namespace {name:?}"))?;
    default_sigpipe();
    Err(not_executed(&command[0], execute(&command)).into())
}

/// Bind-mounts the files of `/etc/netns/NAME` over those in `/etc`, in a mount namespace of its own.
/// Without such files there is no new mount namespace: what the command mounts stays visible to all.
fn overlay_etc(dir: &Path) -> anyhow::Result<()> {
    let entries = match read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?.collect::<io::Result<Vec<_>>>()?,
    };
    if entries.is_empty() {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWNS)?;
    // Mounts of the machine still arrive here, the ones below do not leave.
    mount(
        NOTHING,
        "/",
        NOTHING,
        MsFlags::MS_SLAVE | MsFlags::MS_REC,
        NOTHING,
    )?;
    for entry in entries {
        let over = Path::new("/etc").join(entry.file_name());
        if let Err(e) = mount(
            Some(&entry.path()),
            &over,
            NOTHING,
            MsFlags::MS_BIND,
            NOTHING,
        ) {
            // As `ip netns exec`: a file that /etc does not have cannot be covered, the others can.
            eprintln!(
                "netd: cannot bind {} over {}: {}",
                entry.path().display(),
                over.display(),
                e.desc()
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_files_for_the_namespace_etc_stays_as_it_is() {
        let before = std::fs::read_link("/proc/thread-self/ns/mnt").unwrap();
        let dir = tempfile::tempdir().unwrap();
        overlay_etc(dir.path()).unwrap();
        overlay_etc(&dir.path().join("missing")).unwrap();
        assert_eq!(
            std::fs::read_link("/proc/thread-self/ns/mnt").unwrap(),
            before
        );
    }
}
