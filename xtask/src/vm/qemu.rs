//! Starting the emulated machine and keeping what it says on its serial line.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use super::{
    emulator::Emulator,
    kernel::{Kernel, Tree},
};
use crate::{exec, progress, workspace};

/// A guest that is not done by then never will be.
const LIMIT: &str = "2400";

/// Boots, waits until the guest powers off, and returns its serial log. The log stays in
/// `target/vm/VERSION.log`.
pub fn boot(emulator: &Emulator, kernel: &Kernel, tree: &Tree, initrd: &Path) -> Result<String> {
    let log = workspace::target()
        .join("vm")
        .join(format!("{}.log", kernel.version));
    // `timeout` ends the machine also when this process is gone by then; in the foreground, Ctrl-C
    // reaches both.
    let mut qemu = exec::command("timeout");
    qemu.args(["--foreground", "--kill-after=5", LIMIT]);
    emulator.add_to(&mut qemu);
    qemu.args([
        "-accel",
        "tcg,thread=multi",
        "-cpu",
        "max",
        "-smp",
        "2",
        "-m",
        "2048",
    ])
    .args([
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
    ])
    .arg("-chardev")
    .arg(format!(
        "stdio,id=serial,signal=off,logfile={},logappend=off",
        log.display()
    ))
    .args(["-serial", "chardev:serial"])
    .arg("-kernel")
    .arg(tree.image())
    .arg("-initrd")
    .arg(initrd)
    // A panic restarts the machine at once, which -no-reboot makes its end.
    .args(["-append", "console=ttyS0 panic=-1 quiet rdinit=/init"]);
    let ended = progress::step(
        &format!("running {} (log: {})", kernel.version, log.display()),
        &mut qemu,
    );
    let bytes = fs::read(&log).with_context(|| format!("the machine left no {}", log.display()));
    let _ = fs::remove_file(initrd);
    // A machine that was stopped may have failed a check before: its log tells more than the stop.
    match ended {
        Err(error) if bytes.is_err() => Err(error),
        _ => Ok(String::from_utf8_lossy(&bytes?).into_owned()),
    }
}
