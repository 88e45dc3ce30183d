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
    let found = workspace::which("bpf-linker");
    if let Some(found) = &found
        && fits(found)
    {
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
    let root = if found.is_some() {
        // Somebody's bpf-linker of another version stays as it is.
        workspace::own_linker()
    } else {
        workspace::cargo_home().context("no home directory, so no place for bpf-linker")?
    };
    install.arg("--root").arg(&root);
    progress::step(&format!("building bpf-linker {VERSION}"), &mut install).with_context(|| {
        format!(
            "bpf-linker links the eBPF programs; get it with `LLVM_PREFIX={LLVM_PREFIX} cargo install \
             bpf-linker --version {VERSION} --no-default-features --features llvm-22`"
        )
    })?;
    Ok(root.join("bin/bpf-linker"))
}

fn fits(binary: &Path) -> bool {
    exec::capture(exec::command(binary).arg("--version"))
        .is_ok_and(|said| said.trim().ends_with(VERSION))
}
