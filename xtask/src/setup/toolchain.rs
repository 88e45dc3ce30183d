//! A compiler for `bpfel-unknown-none`. The target has no prebuilt `core`, so it takes a compiler
//! that accepts `-Z build-std` and the sources of `core`: rustup's where its server is in reach,
//! else Debian's packages.

use std::{
    env,
    path::{Path as FsPath, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};

use super::{apt, linker, toolchain_file::Kind};
use crate::{exec, progress, workspace};

/// Oldest compiler that builds the workspace (`rust-version` in Cargo.toml).
const OLDEST: (u32, u32) = (1, 95);

/// Debian's compiler, the sources of its `core`, and a cargo that fits.
const DEBIAN_PACKAGES: &[&str] = &["rustc-web", "rust-web-src", "cargo-web"];

/// The two ways to a compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// `rustup component add rust-src`.
    Rustup,
    /// Debian's packages.
    Debian,
}

impl Path {
    /// `NETD_SETUP_PATH` forces one way, for machines where the other half-works.
    pub fn forced() -> Result<Option<Self>> {
        match env::var("NETD_SETUP_PATH").as_deref() {
            Err(_) | Ok("") => Ok(None),
            Ok("rustup") => Ok(Some(Self::Rustup)),
            Ok("debian") => Ok(Some(Self::Debian)),
            Ok(other) => bail!("NETD_SETUP_PATH is `{other}`; it takes `rustup` or `debian`"),
        }
    }
}

/// A compiler that can build the eBPF programs once the linker is there.
pub struct Compiler {
    /// Where it came from.
    pub kind: Kind,
    /// The compiler itself, never rustup's proxy.
    pub rustc: PathBuf,
    /// A cargo that fits it.
    pub cargo: PathBuf,
    /// Its version.
    pub release: String,
    /// Its LLVM version.
    pub llvm: String,
}

/// Finds a compiler with the sources of `core`, or gets them.
pub fn ensure(forced: Option<Path>) -> Result<Compiler> {
    match forced {
        Some(Path::Rustup) => rustup(),
        Some(Path::Debian) => debian(),
        None => rustup().or_else(|no_rustup| {
            eprintln!("xtask: {no_rustup:#}; taking Debian's compiler instead");
            debian().with_context(|| {
                format!(
                    "no compiler for the eBPF programs; get one with `rustup toolchain install nightly \
                     --component rust-src` or `apt-get install {}` ({no_rustup:#})",
                    DEBIAN_PACKAGES.join(" ")
                )
            })
        }),
    }
}

/// Whether the sources of `core` are where this compiler looks for them.
pub fn has_core_sources(rustc: &FsPath) -> bool {
    rustc.ancestors().nth(2).is_some_and(|sysroot| {
        sysroot
            .join("lib/rustlib/src/rust/library/core/src/lib.rs")
            .is_file()
    })
}

fn rustup() -> Result<Compiler> {
    if workspace::which("rustup").is_none() {
        bail!("rustup is not installed");
    }
    let mut found = Vec::new();
    let mut refused = Vec::new();
    for (kind, toolchain) in [
        (Kind::RustupNightly, "nightly"),
        (Kind::RustupStable, "stable"),
    ] {
        match rustup_toolchain(kind, toolchain) {
            Ok(compiler) => found.push((toolchain, compiler)),
            Err(error) => refused.push(format!("{error:#}")),
        }
    }
    if let Some(ready) = found
        .iter()
        .position(|(_, compiler)| has_core_sources(&compiler.rustc))
    {
        return Ok(found.swap_remove(ready).1);
    }
    for (toolchain, compiler) in found {
        let mut add = exec::command("rustup");
        add.args(["component", "add", "rust-src", "--toolchain", toolchain]);
        let label = format!("adding the sources of core to rustup's {toolchain}");
        match progress::step(&label, &mut add) {
            Ok(()) if has_core_sources(&compiler.rustc) => return Ok(compiler),
            Ok(()) => refused.push(format!("{label}: still not there")),
            Err(error) => refused.push(format!("{error:#}")),
        }
    }
    Err(anyhow!(
        "rustup has no compiler for the eBPF programs: {}",
        refused.join("; ")
    ))
}

fn rustup_toolchain(kind: Kind, toolchain: &str) -> Result<Compiler> {
    let mut which = exec::command("rustup");
    // Asking for a toolchain must not download it.
    which
        .env("RUSTUP_AUTO_INSTALL", "0")
        .args(["which", "rustc", "--toolchain", toolchain]);
    let rustc = PathBuf::from(exec::capture(&mut which)?.trim());
    let cargo = rustc.with_file_name("cargo");
    probe(kind, rustc, cargo)
}

fn debian() -> Result<Compiler> {
    let rustc = PathBuf::from("/usr/bin/rustc");
    let cargo = PathBuf::from("/usr/bin/cargo");
    if let Ok(compiler) = probe(Kind::Debian, rustc.clone(), cargo.clone())
        && has_core_sources(&compiler.rustc)
    {
        return Ok(compiler);
    }
    apt::ensure_packages("building the eBPF programs", DEBIAN_PACKAGES)?;
    if !has_core_sources(&rustc) {
        bail!(
            "Debian's rust-web-src is installed, yet {} finds no sources of core",
            rustc.display()
        );
    }
    probe(Kind::Debian, rustc, cargo)
}

/// Asks the compiler for its versions and refuses one that cannot do the job.
fn probe(kind: Kind, rustc: PathBuf, cargo: PathBuf) -> Result<Compiler> {
    let said = exec::capture(exec::command(&rustc).arg("-vV"))?;
    let field = |name: &str| {
        let value = said.lines().find_map(|line| line.strip_prefix(name));
        value
            .map(|value| value.trim().to_owned())
            .unwrap_or_default()
    };
    let (release, llvm) = (field("release:"), field("LLVM version:"));
    if version(&release) < OLDEST {
        bail!("{kind} is {release}, older than {}.{}", OLDEST.0, OLDEST.1);
    }
    // bpf-linker reads the bitcode of its own LLVM and of older ones.
    if version(&llvm).0 > linker::LLVM {
        bail!(
            "{kind} {release} has LLVM {llvm}, newer than bpf-linker's LLVM {}",
            linker::LLVM
        );
    }
    if !cargo.is_file() {
        bail!("{kind} {release} has no {}", cargo.display());
    }
    Ok(Compiler {
        kind,
        rustc,
        cargo,
        release,
        llvm,
    })
}

/// Major and minor of `1.97.0-nightly` or `22.1.4`.
fn version(text: &str) -> (u32, u32) {
    let mut parts = text.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number_not_by_text() {
        assert_eq!(version("1.97.0-nightly"), (1, 97));
        assert!(version("1.100.0") > OLDEST);
        assert!(version("1.85.1") < OLDEST);
        assert_eq!(version("22.1.4").0, 22);
        assert_eq!(version(""), (0, 0));
    }
}
