//! `cargo xtask check`: what must hold before anything is tested. Runs every check and names all
//! that failed.

mod compliance;
mod operations;
pub mod promises;
mod sizes;

use std::{process::Command, time::Instant};

use anyhow::{Result, bail};

use crate::{
    exec, progress, record,
    setup::{self, Toolchain},
    workspace,
};

/// The target of the eBPF programs.
const BPF_TARGET: &str = "bpfel-unknown-none";

/// Which CPU's registers the programs see, as netd's build script says it.
const CPU_CFG: &str = "--cfg=bpf_target_arch=\"x86_64\"";

/// The verb.
pub fn run() -> Result<()> {
    let toolchain = setup::build_tools()?;
    let mut report = Report::default();

    report.cargo(
        "lock file",
        exec::cargo()
            .args(["metadata", "--locked", "--format-version=1"])
            .stdout(std::process::Stdio::null()),
    );
    report.cargo("format", exec::cargo().args(["fmt", "--all", "--check"]));
    report.check("file sizes", sizes::check);
    report.cargo(
        "clippy, host",
        exec::cargo()
            .args([
                "clippy",
                "--locked",
                "--workspace",
                "--exclude",
                "netd-ebpf",
                "--all-targets",
            ])
            .args(["--", "-D", "warnings"]),
    );
    report.cargo("clippy, eBPF", &mut clippy_ebpf(&toolchain));
    report.cargo(
        "docs",
        exec::cargo().env("RUSTDOCFLAGS", "-D warnings").args([
            "doc",
            "--locked",
            "--no-deps",
            "--workspace",
            "--exclude",
            "netd-ebpf",
        ]),
    );
    report.cargo("layouts of pinned maps", &mut record::layouts());
    report.check("promises", promises::check);
    if workspace::which("cargo-deny").is_some() {
        report.cargo(
            "licences and advisories",
            exec::cargo().args(["deny", "check"]),
        );
    } else {
        println!("check: licences and advisories: not run, cargo-deny is not installed");
    }
    report.end()
}

/// Lints the eBPF programs for their own target with the compiler that builds them.
fn clippy_ebpf(toolchain: &Toolchain) -> Command {
    let bin = toolchain
        .cargo
        .parent()
        .map(std::path::Path::to_path_buf)
        .unwrap_or_default();
    let mut command = exec::command(&toolchain.cargo);
    // Debian packs clippy separately; without it the compiler's own lints are what is left.
    let mut flags = vec![CPU_CFG];
    let clippy = bin.join("cargo-clippy").is_file();
    if clippy {
        command.args(["clippy", "--no-deps"]);
    } else {
        println!(
            "check: {} has no clippy: the eBPF programs get the compiler's lints only",
            toolchain.kind
        );
        command.arg("check");
        flags.push("-Dwarnings");
    }
    command
        .args([
            "--locked",
            "-p",
            "netd-ebpf",
            "--bins",
            "--target",
            BPF_TARGET,
            "-Z",
            "build-std=core",
        ])
        .arg("--target-dir")
        // Another compiler than the host's: a directory of its own keeps both warm.
        .arg(workspace::target().join("xtask/ebpf"))
        // rustup's proxies would pick the toolchain of the directory instead.
        .env("RUSTC", &toolchain.rustc)
        .env("CARGO", &toolchain.cargo)
        .env_remove("RUSTUP_TOOLCHAIN")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    if toolchain.kind.needs_bootstrap() {
        command.env("RUSTC_BOOTSTRAP", "1");
    }
    let path = std::iter::once(bin).chain(workspace::search_path());
    if let Ok(path) = std::env::join_paths(path) {
        command.env("PATH", path);
    }
    if clippy {
        command.args(["--", "-D", "warnings"]);
    }
    command
}

#[derive(Default)]
struct Report {
    failed: Vec<&'static str>,
}

impl Report {
    fn cargo(&mut self, name: &'static str, command: &mut Command) {
        self.check(name, || exec::run(command));
    }

    fn check(&mut self, name: &'static str, check: impl FnOnce() -> Result<()>) {
        let start = Instant::now();
        match check() {
            Ok(()) => println!("check: {name}: ok ({})", progress::seconds(start.elapsed())),
            Err(error) => {
                println!("check: {name}: FAILED: {error:#}");
                self.failed.push(name);
            }
        }
    }

    fn end(self) -> Result<()> {
        if !self.failed.is_empty() {
            bail!("failed checks: {}", self.failed.join(", "));
        }
        println!("check: all ok");
        Ok(())
    }
}
