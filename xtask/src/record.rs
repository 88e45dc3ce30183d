//! `cargo xtask record`: writes what is committed and compared with the code later.

use anyhow::Result;
use clap::Subcommand;

use crate::exec;

/// What is recorded.
#[derive(Clone, Copy, Subcommand)]
pub enum What {
    /// netd-common/layout.lock: the layouts of the pinned maps. Refused when their generation is released
    Layouts,
}

/// The verb.
pub fn run(what: What) -> Result<()> {
    match what {
        What::Layouts => exec::run(layouts().env("NETD_WRITE_LAYOUT_LOCK", "1")),
    }
}

/// Compares the layouts with the lock file.
pub fn layouts() -> std::process::Command {
    let mut cargo = exec::cargo();
    cargo.args([
        "test",
        "--quiet",
        "--locked",
        "-p",
        "netd",
        "--test",
        "layout_lock",
    ]);
    cargo
}
