//! `target/xtask/toolchain.toml`: which compiler and linker build the eBPF programs. xtask writes
//! it, netd's build script reads it.

use std::{
    fmt, fs,
    path::{Path as FsPath, PathBuf},
    time::UNIX_EPOCH,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::toolchain::{self, Compiler};
use crate::workspace;

/// Where a compiler came from.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// rustup's nightly.
    RustupNightly,
    /// rustup's stable, told by `RUSTC_BOOTSTRAP=1` to take unstable options.
    RustupStable,
    /// Debian's `rustc-web`, with `RUSTC_BOOTSTRAP=1` as well.
    Debian,
}

impl Kind {
    /// The set-up path that leads to it.
    pub fn path(self) -> toolchain::Path {
        match self {
            Self::RustupNightly | Self::RustupStable => toolchain::Path::Rustup,
            Self::Debian => toolchain::Path::Debian,
        }
    }

    /// Whether unstable options need `RUSTC_BOOTSTRAP=1`.
    pub fn needs_bootstrap(self) -> bool {
        match self {
            Self::RustupNightly => false,
            Self::RustupStable | Self::Debian => true,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RustupNightly => "rustup nightly",
            Self::RustupStable => "rustup stable",
            Self::Debian => "Debian's rustc",
        })
    }
}

/// The compiler, its cargo and the linker for the BPF target.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Toolchain {
    /// Where the compiler came from.
    pub kind: Kind,
    /// The compiler itself, never rustup's proxy.
    pub rustc: PathBuf,
    /// A cargo that fits the compiler.
    pub cargo: PathBuf,
    /// `bpf-linker`.
    pub linker: PathBuf,
    /// The compiler's version.
    pub release: String,
    /// The compiler's LLVM version.
    pub llvm: String,
    /// Modification times in seconds: a changed file is looked at anew.
    rustc_time: u64,
    linker_time: u64,
}

impl Toolchain {
    /// Joins what the set-up found.
    pub fn new(compiler: Compiler, linker: PathBuf) -> Result<Self> {
        let rustc_time = modified(&compiler.rustc)
            .with_context(|| format!("cannot read {}", compiler.rustc.display()))?;
        let linker_time =
            modified(&linker).with_context(|| format!("cannot read {}", linker.display()))?;
        Ok(Self {
            kind: compiler.kind,
            rustc: compiler.rustc,
            cargo: compiler.cargo,
            linker,
            release: compiler.release,
            llvm: compiler.llvm,
            rustc_time,
            linker_time,
        })
    }

    /// What the last set-up found, if it is still there unchanged.
    pub fn remembered() -> Option<Self> {
        let text = fs::read_to_string(file()).ok()?;
        let known: Self = toml::from_str(&text).ok()?;
        known.holds().then_some(known)
    }

    /// Writes it for the next run and for netd's build script.
    pub fn remember(&self) -> Result<()> {
        let file = file();
        let text = toml::to_string(self).context("cannot write the toolchain as TOML")?;
        if let Some(dir) = file.parent() {
            fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        // Renamed into place: a build in another terminal never reads half a file.
        let fresh = file.with_extension("new");
        fs::write(&fresh, text)
            .and_then(|()| fs::rename(&fresh, &file))
            .with_context(|| format!("cannot write {}", file.display()))
    }

    fn holds(&self) -> bool {
        modified(&self.rustc) == Some(self.rustc_time)
            && modified(&self.linker) == Some(self.linker_time)
            && self.cargo.is_file()
            && toolchain::has_core_sources(&self.rustc)
    }
}

fn file() -> PathBuf {
    workspace::target().join("xtask/toolchain.toml")
}

fn modified(path: &FsPath) -> Option<u64> {
    let time = fs::metadata(path).ok()?.modified().ok()?;
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(rustc: &FsPath) -> Toolchain {
        Toolchain {
            kind: Kind::RustupStable,
            rustc: rustc.to_path_buf(),
            cargo: "/opt/rust/bin/cargo".into(),
            linker: "/opt/bin/bpf-linker".into(),
            release: "1.95.0".into(),
            llvm: "22.1.2".into(),
            rustc_time: 1,
            linker_time: 2,
        }
    }

    #[test]
    fn the_file_names_kind_rustc_and_cargo_for_the_build_script() {
        let text = toml::to_string(&example(FsPath::new("/opt/rust/bin/rustc"))).unwrap();
        let table: toml::Table = toml::from_str(&text).unwrap();
        assert_eq!(table["kind"].as_str(), Some("rustup-stable"));
        assert_eq!(table["rustc"].as_str(), Some("/opt/rust/bin/rustc"));
        assert_eq!(table["cargo"].as_str(), Some("/opt/rust/bin/cargo"));
    }

    #[test]
    fn the_file_is_read_back_as_it_was_written() {
        let known = example(FsPath::new("/opt/rust/bin/rustc"));
        let text = toml::to_string(&known).unwrap();
        assert_eq!(toml::from_str::<Toolchain>(&text).unwrap(), known);
    }

    #[test]
    fn a_vanished_compiler_is_not_trusted() {
        assert!(!example(FsPath::new("/nowhere/bin/rustc")).holds());
    }
}
