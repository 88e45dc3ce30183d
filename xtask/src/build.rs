//! `cargo xtask build`: the release binaries, with the eBPF object embedded.

use anyhow::{Context, Result};

use crate::{exec, setup, workspace};

/// Builds `target/release/netd`.
pub fn run() -> Result<()> {
    setup::build_tools()?;
    netd()?;
    println!("{}", workspace::release_binary("netd").display());
    Ok(())
}

/// The daemon, the CLI and the front ends: one binary.
pub fn netd() -> Result<()> {
    release(&["-p", "netd"]).context("netd was not built")
}

/// netd and the lab binary that starts it in simulated nodes.
pub fn netd_and_lab() -> Result<()> {
    release(&[
        "-p",
        "netd",
        "-p",
        "netd-tests",
        "--bin",
        "netd",
        "--bin",
        "netd-lab",
    ])
    .context("netd and its lab were not built")
}

fn release(what: &[&str]) -> Result<()> {
    exec::run(
        exec::cargo()
            .args(["build", "--release", "--locked"])
            .args(what),
    )
}
