//! What a run of the benchmark is told.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use serde::Serialize;

use super::peers::IpVersion;
use super::scale;
use super::scenario::Scenario;
use crate::lab::AttachMode;

/// Measures netd beside a veth pair, the kernel bridge and iptables, interleaved in one run.
#[derive(Clone, Debug, Parser, Serialize)]
#[command(name = "bench", bin_name = "cargo xtask bench")]
pub struct Options {
    /// Rounds; in each round every path is measured twice, there and back (ABBA)
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Length of a cell in milliseconds
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(20..=60_000))]
    pub cell_ms: u64,
    /// Namespaces to attach, to netd and by bare netlink each; 0: do not measure attaching
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(0..=200))]
    pub attach: u32,
    /// A smoke run of seconds: it shows that everything works, its figures mean nothing
    #[arg(long)]
    pub quick: bool,
    /// IP version the load uses
    #[arg(long, default_value = "v4")]
    pub ip: IpVersion,
    /// Only these paths; left out: all
    #[arg(long = "path", value_name = "PATH")]
    pub paths: Vec<Path>,
    /// Leave out of the scale paths what has more ports or endpoints than this
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub largest: u32,
    /// Without netd: only what it is compared with
    #[arg(long)]
    pub peers_only: bool,
    /// Exit status 1 when a target is missed
    #[arg(long)]
    pub strict: bool,
    /// The netd binary; left out: the one beside this program
    #[arg(long, value_name = "FILE")]
    pub netd: Option<PathBuf>,
    /// How netd hooks its TC programs
    #[arg(long, default_value = "auto")]
    pub attach_mode: Mode,
    /// Where results go; left out: target/bench
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// What `--path` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Path {
    /// Endpoint to endpoint on one node
    SameNode,
    /// Endpoint to outside, masqueraded
    Outside,
    /// Outside to a published port
    Published,
    /// Outside to one of 1 to 10,000 published ports
    PublishedScale,
    /// Endpoint to endpoint among 2 to 1,000, and attaching one more
    EndpointScale,
    /// Small packets one way, endpoint to endpoint and to outside
    Udp,
    /// The programs by themselves: nanoseconds for a packet, verified instructions
    Programs,
}

/// How netd hooks its TC programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// As netd chooses
    Auto,
    /// TCX links
    Tcx,
    /// clsact filters
    Clsact,
}

impl From<Mode> for AttachMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Auto => Self::Auto,
            Mode::Tcx => Self::Tcx,
            Mode::Clsact => Self::Clsact,
        }
    }
}

impl Options {
    /// Rounds to run.
    pub fn rounds(&self) -> u32 {
        if self.quick {
            self.rounds.min(2)
        } else {
            self.rounds
        }
    }

    /// Length of a cell of a path: the newer ones have many contenders and half the time.
    pub fn cell_of(&self, scenario: Scenario) -> Duration {
        match scenario {
            Scenario::SameNode | Scenario::Outside | Scenario::Published => self.cell(),
            Scenario::PublishedScale
            | Scenario::EndpointScale
            | Scenario::UdpSameNode
            | Scenario::UdpOutside => self.cell() / 2,
        }
    }

    /// The counts of a scale path that are measured; of other paths none.
    pub fn levels(&self, scenario: Scenario) -> Vec<u32> {
        let (levels, largest): (&[u32], u32) = match scenario {
            Scenario::PublishedScale => (&scale::PORTS, self.largest.max(1)),
            Scenario::EndpointScale if self.quick => {
                (&scale::ENDPOINTS, self.largest.clamp(2, 100))
            }
            Scenario::EndpointScale => (&scale::ENDPOINTS, self.largest.max(2)),
            Scenario::SameNode
            | Scenario::Outside
            | Scenario::Published
            | Scenario::UdpSameNode
            | Scenario::UdpOutside => (&[], 0),
        };
        let wanted = levels.iter().copied().filter(|level| *level <= largest);
        if self.wants(scenario) {
            wanted.collect()
        } else {
            Vec::new()
        }
    }

    /// Length of a cell of the paths with one contender of a kind.
    pub fn cell(&self) -> Duration {
        Duration::from_millis(if self.quick {
            self.cell_ms.min(100)
        } else {
            self.cell_ms
        })
    }

    /// Namespaces to attach each way.
    pub fn attach(&self) -> u32 {
        if self.quick {
            self.attach.min(6)
        } else {
            self.attach
        }
    }

    /// Whether a path is asked for.
    pub fn wants(&self, scenario: Scenario) -> bool {
        self.paths.is_empty() || self.paths.contains(&scenario.path())
    }

    /// Whether the programs by themselves are asked for.
    pub fn wants_programs(&self) -> bool {
        !self.peers_only && (self.paths.is_empty() || self.paths.contains(&Path::Programs))
    }

    /// The directory results go to.
    pub fn out_dir(&self) -> Result<PathBuf> {
        if let Some(dir) = &self.out {
            return Ok(dir.clone());
        }
        let me = std::env::current_exe().context("cannot tell where this program is")?;
        // target/release/netd-lab -> target/bench
        let target = me
            .parent()
            .and_then(|p| p.parent())
            .context("this program has no directory")?;
        Ok(target.join("bench"))
    }
}
