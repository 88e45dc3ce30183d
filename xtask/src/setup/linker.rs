//! `bpf-linker`: links the eBPF programs. Built from crates.io with Debian's LLVM.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::apt::{self, Tool};
use crate::{exec, progress, workspace};

/// The LLVM that bpf-linker is built with. Compilers with a newer one are refused.
pub const LLVM: u32 = 22;
const VERSION: &str = "0.13.0";
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
const PACKAGES: &[&str] = &[
    "llvm-22-dev",
    "libpolly-22-dev",
    "libzstd-dev",
    "zlib1g-dev",
];

/// Finds bpf-linker, or builds it.
pub fn ensure() -> Result<PathBuf> {
    let own_root = workspace::target().join("xtask/bpf-linker");
    let own = own_root.join("bin/bpf-linker");
    let theirs = workspace::which("bpf-linker");
    if let Some(found) = theirs.iter().chain([&own]).find(|path| fits(path)) {
        return Ok(found.clone());
    }
    apt::ensure_packages("bpf-linker", PACKAGES)?;
    apt::ensure_tools("bpf-linker", &[Tool::new("c++", "g++")])?;
    let mut install = exec::cargo();
    install
        .env("LLVM_PREFIX", LLVM_PREFIX)
        // Its build is no part of this workspace's target directory.
        .env_remove("CARGO_TARGET_DIR")
        .args(["install", "bpf-linker", "--version", VERSION, "--locked"])
        .args(["--no-default-features", "--features", "llvm-22"]);
    let binary = if theirs.is_some() {
        // Somebody's bpf-linker of another version stays as it is.
        install.arg("--root").arg(&own_root);
        own
    } else {
        workspace::cargo_bin()
            .context("no home directory, so no place for bpf-linker")?
            .join("bpf-linker")
    };
    progress::step(&format!("building bpf-linker {VERSION}"), &mut install).with_context(|| {
        format!(
            "bpf-linker links the eBPF programs; get it with `LLVM_PREFIX={LLVM_PREFIX} cargo install \
             bpf-linker --version {VERSION} --no-default-features --features llvm-22`"
        )
    })?;
    Ok(binary)
}

fn fits(binary: &Path) -> bool {
    binary.is_file()
        && exec::capture(exec::command(binary).arg("--version"))
            .is_ok_and(|said| said.trim().ends_with(VERSION))
}
