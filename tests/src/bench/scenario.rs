//! What is compared with what: the paths, the contenders on each, and the bed they all live in.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::load::{Kind, Sample};
use super::node;
use super::options::Options;
use super::peers::{self, Attached, BridgeNetfilter, Route};
use super::worker::Worker;
use crate::lab::Lab;
use crate::lab::names::LabId;
use crate::lab::netns::Ns;

/// A path packets take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// Endpoint to endpoint on one node
    SameNode,
    /// Endpoint to outside, masqueraded
    Outside,
    /// Outside to a published port
    Published,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::SameNode, Self::Outside, Self::Published];

    /// For people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::SameNode => "endpoint - endpoint",
            Self::Outside => "endpoint - outside",
            Self::Published => "outside - published port",
        }
    }

    /// What netd is compared with on this path.
    pub const fn peer(self) -> Variant {
        match self {
            Self::SameNode => Variant::Bridge,
            Self::Outside | Self::Published => Variant::Iptables,
        }
    }
}

/// A contender on a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// netd.
    Netd,
    /// Kernel bridge with two veths.
    Bridge,
    /// The very same bridge once more: the negative control.
    BridgeAgain,
    /// Kernel bridge that shows its frames to netfilter, as Docker and Kubernetes set it up.
    BridgeNetfilter,
    /// A veth pair: the ceiling.
    Veth,
    /// veth, routing, iptables NAT.
    Iptables,
    /// veth, bridge, routing, iptables NAT.
    BridgeIptables,
}

impl Variant {
    /// For people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Netd => "netd",
            Self::Bridge => "kernel bridge",
            Self::BridgeAgain => "kernel bridge again",
            Self::BridgeNetfilter => "bridge + br_netfilter",
            Self::Veth => "veth pair",
            Self::Iptables => "iptables",
            Self::BridgeIptables => "bridge + iptables",
        }
    }
}

/// Where the two ends of the load run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// Both on one CPU: what counts is the work done.
    One,
    /// One CPU each: wake-ups across CPUs count too.
    Two,
}

impl Placement {
    /// CPUs of the client and the server, on a machine with `cpus`; `None`: not possible there.
    pub fn cpus(self, cpus: usize) -> Option<[usize; 2]> {
        // The last CPUs: the first one gets most interrupts.
        let last = cpus.checked_sub(1)?;
        match self {
            Self::One => Some([last, last]),
            Self::Two => last.checked_sub(1).map(|before| [before, last]),
        }
    }

    /// Number of CPUs.
    pub const fn count(self) -> u8 {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }
}

/// One contender on one path.
#[derive(Clone, Debug)]
pub struct Contender {
    /// The path.
    pub scenario: Scenario,
    /// Who.
    pub variant: Variant,
    route: Route,
}

/// Everything that is measured, built and idle.
pub struct Bed {
    contenders: Vec<Contender>,
    workers: BTreeMap<String, Worker>,
}

impl Bed {
    /// Builds all contenders that are asked for, and starts a load process in each end.
    pub fn build(id: &LabId, lab: Option<&Lab>, options: &Options) -> Result<Self> {
        let mut contenders = Vec::new();
        let mut add = |scenario, variant, route: &Route| {
            if options.wants(scenario) {
                contenders.push(Contender {
                    scenario,
                    variant,
                    route: route.clone(),
                });
            }
        };
        if let Some(lab) = lab {
            for (scenario, route) in
                node::routes(lab, options.ip).context("cannot set up netd's side")?
            {
                add(scenario, Variant::Netd, &route);
            }
        }
        if options.wants(Scenario::SameNode) {
            let bridge = peers::bridge(id, options.ip, BridgeNetfilter::Off)?;
            add(Scenario::SameNode, Variant::Bridge, &bridge);
            if peers::has_bridge_netfilter() {
                let route = peers::bridge(id, options.ip, BridgeNetfilter::On)?;
                add(Scenario::SameNode, Variant::BridgeNetfilter, &route);
            }
            let veth = peers::veth(id, options.ip)?;
            add(Scenario::SameNode, Variant::Veth, &veth);
            add(Scenario::SameNode, Variant::BridgeAgain, &bridge);
        }
        if options.wants(Scenario::Outside) || options.wants(Scenario::Published) {
            for (variant, attached) in [
                (Variant::Iptables, Attached::Routed),
                (Variant::BridgeIptables, Attached::Bridged),
            ] {
                let nat = peers::iptables(id, options.ip, attached)?;
                add(Scenario::Outside, variant, &nat.outward);
                add(Scenario::Published, variant, &nat.inward);
            }
        }
        let mut bed = Self {
            contenders,
            workers: BTreeMap::new(),
        };
        let ends: Vec<Ns> = bed
            .contenders
            .iter()
            .flat_map(|c| [c.route.client.clone(), c.route.server.clone()])
            .collect();
        for ns in ends {
            if !bed.workers.contains_key(ns.name()) {
                bed.workers
                    .insert(ns.name().to_owned(), Worker::start(&ns)?);
            }
        }
        Ok(bed)
    }

    /// The contenders on a path.
    pub fn on(&self, scenario: Scenario) -> Vec<Contender> {
        self.contenders
            .iter()
            .filter(|c| c.scenario == scenario)
            .cloned()
            .collect()
    }

    /// Runs one cell.
    pub fn run(
        &mut self,
        contender: &Contender,
        kind: Kind,
        [client_cpu, server_cpu]: [usize; 2],
        length: std::time::Duration,
    ) -> Result<Sample> {
        self.worker(&contender.route.server)?.place(server_cpu)?;
        let to = contender.route.to;
        let client = self.worker(&contender.route.client)?;
        client.place(client_cpu)?;
        client.run(kind, to, length).with_context(|| {
            format!(
                "{} of {} on {}",
                kind.name(),
                contender.variant.title(),
                contender.scenario.title()
            )
        })
    }

    fn worker(&mut self, ns: &Ns) -> Result<&mut Worker> {
        self.workers
            .get_mut(ns.name())
            .with_context(|| format!("no load process runs in {}", ns.name()))
    }
}
