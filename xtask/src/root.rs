//! Raising one program to root. Nothing else of xtask, no build and no download, ever runs raised.

use std::{ffi::OsStr, os::unix::fs::MetadataExt, process::Command};

use anyhow::{Result, bail};

use crate::{exec, workspace};

/// Whether this process is root already.
pub fn is_root() -> bool {
    // /proc/self belongs to the effective user.
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// The words to put before a command line so that it runs as root; empty for root itself.
pub fn prefix() -> Result<&'static [&'static str]> {
    if is_root() {
        return Ok(&[]);
    }
    if workspace::which("sudo").is_none() {
        bail!("this needs root and sudo is not installed: run the same command as root");
    }
    // The environment is kept for variables such as RUST_BACKTRACE and NO_COLOR.
    Ok(&["sudo", "-E", "--"])
}

/// `program` as a command that runs as root.
pub fn command(program: impl AsRef<OsStr>) -> Result<Command> {
    let mut words = prefix()?.iter();
    Ok(match words.next() {
        None => exec::command(program),
        Some(first) => {
            let mut command = exec::command(first);
            command.args(words).arg(program);
            command
        }
    })
}
