//! Errors of the data path, one line each.

use std::io;
use std::path::PathBuf;

/// What can go wrong below the control plane.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel's verifier, or a missing feature, refused a program.
    #[error("program {program} was refused by the kernel: {why}")]
    Program {
        /// Its name.
        program: String,
        /// The kernel's words.
        why: String,
    },
    /// The object could not be loaded as a whole.
    #[error("the eBPF object could not be loaded: {0}")]
    Load(String),
    /// A pinned map has another layout than this netd's.
    #[error(
        "pinned map {path} has {found}, this netd wants {wanted}: it belongs to another version; \
         run that version, or `netd cleanup --force` and start again"
    )]
    Layout {
        /// Its pin.
        path: PathBuf,
        /// What is there.
        found: String,
        /// What is wanted.
        wanted: String,
    },
    /// Another generation has maps and programs there.
    #[error(
        "{path} has what a netd with maps of generation {found} has pinned, this one has {wanted} and cannot take \
         that over; nothing was changed: run that version, or `netd cleanup --force` and start again",
        wanted = super::GENERATION
    )]
    Generation {
        /// The generation found.
        found: String,
        /// Its directory.
        path: PathBuf,
    },
    /// A map operation failed.
    #[error("map {map}: {op} failed: {why}")]
    Map {
        /// Its name.
        map: &'static str,
        /// The operation.
        op: &'static str,
        /// The kernel's words.
        why: String,
    },
    /// A table is full.
    #[error("map {map} is full")]
    Full {
        /// Its name.
        map: &'static str,
    },
    /// A program could not be hooked.
    #[error("device {device}: {hook} could not be hooked: {why}")]
    Hook {
        /// The device.
        device: String,
        /// The hook.
        hook: &'static str,
        /// The kernel's words.
        why: String,
    },
    /// A frame could not be given to a program.
    #[error("no frame could be sent from device {ifindex}: {why}")]
    Inject {
        /// ifindex of the device.
        ifindex: u32,
        /// The kernel's words.
        why: String,
    },
    /// A program could not be hooked on a cgroup.
    #[error("cgroup {cgroup}: {hook} could not be hooked: {why}")]
    Cgroup {
        /// The cgroup's directory.
        cgroup: PathBuf,
        /// The program.
        hook: &'static str,
        /// The kernel's words.
        why: String,
    },
    /// A file operation on the pin directory failed.
    #[error("{path}: {why}")]
    Pin {
        /// The path.
        path: PathBuf,
        /// What went wrong.
        why: io::Error,
    },
}

/// Result of the data path.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A file operation on `path` failed.
    pub(super) fn pin(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |why| Self::Pin { path, why }
    }
}

/// An error and all of its causes, on one line.
pub(super) fn chain(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut cause = e.source();
    while let Some(c) = cause {
        let c_text = c.to_string();
        if !text.contains(&c_text) {
            text.push_str(": ");
            text.push_str(&c_text);
        }
        cause = c.source();
    }
    text.replace('\n', " ")
}
