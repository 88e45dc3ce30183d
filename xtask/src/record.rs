//! `cargo xtask record`: writes what is committed and compared with the code later.

use anyhow::{Context as _, Result};
use clap::Subcommand;

use crate::{exec, workspace};

/// What is recorded.
#[derive(Clone, Copy, Subcommand)]
pub enum What {
    /// netd-common/layout.lock: the layouts of the pinned maps. Refused when their generation is released
    Layouts,
    /// tests/fixtures/GENERATION.o: the programs as they are now, without what is for debuggers
    Programs,
}

/// The verb.
pub fn run(what: What) -> Result<()> {
    match what {
        What::Programs => programs(),
        What::Layouts => exec::run(layouts().env("NETD_WRITE_LAYOUT_LOCK", "1")),
    }
}

/// Has the daemon's build made, and its object stripped: the suites upgrade to it and back.
fn programs() -> Result<()> {
    let object = workspace::target().join("recorded.o");
    let mut write = exec::cargo();
    write
        .args([
            "run",
            "--quiet",
            "--locked",
            "-p",
            "netd-tests",
            "--bin",
            "netd-lab",
            "--",
            "programs",
        ])
        .arg(&object);
    exec::run(&mut write)?;
    let lock = std::fs::read_to_string(workspace::root().join("netd-common/layout.lock"))?;
    let generation = lock
        .lines()
        .find_map(|l| l.strip_prefix("generation ")?.split(' ').next());
    let generation = generation.context("layout.lock names no generation")?;
    let fixture = workspace::root().join(format!("tests/fixtures/{generation}.o"));
    let strip = ["llvm-strip", "llvm-strip-22"]
        .into_iter()
        .find(|tool| workspace::which(tool).is_some());
    let strip = strip.context("there is no llvm-strip: `cargo xtask setup` installs LLVM")?;
    exec::run(
        exec::command(strip)
            .arg("--strip-debug")
            .arg(&object)
            .arg("-o")
            .arg(&fixture),
    )?;
    println!("{}", fixture.display());
    Ok(())
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
