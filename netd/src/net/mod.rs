//! The node's network as the kernel has it: netlink, namespaces, sysctls, sockets. Never imports
//! `datapath`, never runs a program.

mod answer;
pub mod device;
pub mod events;
pub mod hooked;
pub mod inside;
pub mod inspect;
pub mod link;
pub mod neighbour;
pub mod netlink;
pub mod netns;
pub mod ports;
pub mod qdisc;
pub mod raw;
pub mod reaper;
pub mod replay;
pub mod route;
pub mod scratch;
pub mod survey;
pub mod sysctl;
pub mod veth;
pub mod xdp_features;

pub use netlink::{Netlink, Request};
pub use netns::NetnsFile;

use std::io;
use std::path::PathBuf;

/// Says of an address (`IFA_PROTO`) or a neighbour entry (`NDA_PROTOCOL`) that netd has put it there.
const PUT_BY_NETD: u8 = b'n';

/// Why the kernel's network could not be read or changed: one line each.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// A netlink request was refused.
    #[error("{what}: {source}{hint}")]
    Netlink {
        /// What was asked for, in words.
        what: String,
        /// The kernel's answer.
        source: io::Error,
        /// The kernel's own words, where it gave some.
        hint: String,
    },
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, in words.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A message of the kernel cannot be read.
    #[error("cannot read an answer of the kernel: {0}")]
    Decode(String),
    /// A target that names no namespace.
    #[error("target {target:?} is refused: {why}")]
    Target {
        /// The target.
        target: String,
        /// What is wrong.
        why: String,
    },
    /// A target that is not there.
    #[error("target {target:?}: there is no {path}; {help}", path = path.display())]
    NoTarget {
        /// The target.
        target: String,
        /// Where it was looked for.
        path: PathBuf,
        /// What to do.
        help: String,
    },
    /// A device name that is in use inside a target.
    #[error("target {target} has a device {device} already; give another --ifname or leave it out")]
    DeviceTaken {
        /// The target.
        target: String,
        /// The device.
        device: String,
    },
}

impl NetError {
    /// A failed system call.
    pub fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io {
            what: what.into(),
            source,
        }
    }

    /// The kernel's error number, where there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Netlink { source, .. } | Self::Io { source, .. } => source.raw_os_error(),
            Self::Decode(_)
            | Self::Target { .. }
            | Self::NoTarget { .. }
            | Self::DeviceTaken { .. } => None,
        }
    }
}

/// Result of this module.
pub type Result<T> = std::result::Result<T, NetError>;
