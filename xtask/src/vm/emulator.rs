//! QEMU: the machine's own if it is on the search path, else Debian's packages unpacked below
//! `target/vm`. They are not installed: that would bring some thirty packages to the machine, and where
//! a newer part of QEMU is installed already (from backports, say) apt would have to remove it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{exec, progress, setup, workspace};

const PROGRAM: &str = "qemu-system-x86_64";
const PACKAGE: &str = "qemu-system-x86";

/// An emulator that can be started.
pub struct Emulator {
    /// Root of the unpacked packages; none: QEMU is installed.
    root: Option<PathBuf>,
}

impl Emulator {
    /// Finds QEMU, or downloads and unpacks it.
    pub fn ensure() -> Result<Self> {
        if workspace::which(PROGRAM).is_some() {
            return Ok(Self { root: None });
        }
        let root = workspace::target().join("vm/qemu");
        if !root.is_dir() {
            unpack(&root).with_context(|| {
                format!(
                    "the VM needs `{PROGRAM}`; get it with `apt-get update && apt-get install {PACKAGE}`"
                )
            })?;
        }
        Ok(Self { root: Some(root) })
    }

    /// Appends the emulator to a command that starts it, and what it needs to find its own files.
    pub fn add_to(&self, command: &mut Command) {
        let Some(root) = &self.root else {
            command.arg(PROGRAM);
            return;
        };
        let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"]
            .map(|dir| root.join(dir).display().to_string());
        command.env("LD_LIBRARY_PATH", libraries.join(":"));
        command.arg(root.join("usr/bin").join(PROGRAM));
        for firmware in ["usr/share/qemu", "usr/share/seabios"] {
            command.arg("-L").arg(root.join(firmware));
        }
    }
}

fn unpack(root: &Path) -> Result<()> {
    let debs = root.with_extension("debs");
    fs::create_dir_all(debs.join("partial"))
        .with_context(|| format!("cannot make {}", debs.display()))?;
    download(&debs).or_else(|_| {
        // Old lists name files that the mirror no longer has.
        setup::update_package_lists()?;
        download(&debs)
    })?;
    // Unpacked beside its place and renamed: an interrupted run leaves nothing that looks whole.
    let fresh = root.with_extension("new");
    let _ = fs::remove_dir_all(&fresh);
    let files = fs::read_dir(&debs).with_context(|| format!("cannot list {}", debs.display()))?;
    for deb in files.flatten().map(|entry| entry.path()) {
        if deb.extension().is_some_and(|ending| ending == "deb") {
            exec::capture(exec::command("dpkg-deb").arg("-x").args([&deb, &fresh]))?;
        }
    }
    if !fresh.join("usr/bin").join(PROGRAM).is_file() {
        bail!("apt-get downloaded {PACKAGE}, but there is no {PROGRAM} in it");
    }
    fs::rename(&fresh, root).with_context(|| format!("cannot make {}", root.display()))?;
    fs::remove_dir_all(&debs).with_context(|| format!("cannot remove {}", debs.display()))
}

/// Downloads the package and those it needs that are not installed; nothing is installed or removed.
fn download(debs: &Path) -> Result<()> {
    let mut apt = exec::command("apt-get");
    apt.args(["-q", "-y", "--no-install-recommends", "--download-only"])
        // Unsandboxed: apt's own user may not write to the checkout. No lock: the system stays as it is.
        .args(["-o", "APT::Sandbox::User=root", "-o", "Debug::NoLocking=1"])
        .arg("-o")
        .arg(format!("Dir::Cache::archives={}", debs.display()))
        .args(["install", PACKAGE]);
    progress::step(&format!("downloading {PACKAGE} for the VM"), &mut apt)
}
