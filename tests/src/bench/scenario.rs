//! What is compared with what: the paths, the contenders on each, and the bed they all live in.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::load::{Kind, Sample, WARM_UP};
use super::machine::CpuTimes;
use super::node;
use super::options::{Options, Path};
use super::peers::{self, Attached, BridgeNetfilter, Route};
use super::scale;
use super::udp;
use super::worker::Worker;
use crate::lab::Lab;
use crate::lab::names::LabId;
use crate::lab::netns::Ns;

/// A path packets take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// Endpoint to endpoint on one node
    SameNode,
    /// Endpoint to outside, masqueraded
    Outside,
    /// Outside to a published port
    Published,
    /// Outside to one of many published ports
    PublishedScale,
    /// Endpoint to endpoint on a network of many
    EndpointScale,
    /// Packets one way, endpoint to endpoint
    UdpSameNode,
    /// Packets one way, endpoint to outside, masqueraded
    UdpOutside,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::SameNode,
        Self::Outside,
        Self::Published,
        Self::PublishedScale,
        Self::EndpointScale,
        Self::UdpSameNode,
        Self::UdpOutside,
    ];

    /// For people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::SameNode => "endpoint - endpoint",
            Self::Outside => "endpoint - outside",
            Self::Published => "outside - published port",
            Self::PublishedScale => "outside - one of many ports",
            Self::EndpointScale => "endpoint - endpoint of many",
            Self::UdpSameNode => "endpoint > endpoint, UDP",
            Self::UdpOutside => "endpoint > outside, UDP",
        }
    }

    /// What `--path` calls it.
    pub const fn path(self) -> Path {
        match self {
            Self::SameNode => Path::SameNode,
            Self::Outside => Path::Outside,
            Self::Published => Path::Published,
            Self::PublishedScale => Path::PublishedScale,
            Self::EndpointScale => Path::EndpointScale,
            Self::UdpSameNode | Self::UdpOutside => Path::Udp,
        }
    }

    /// What netd is compared with on this path; on one it is only compared with itself.
    pub const fn peer(self) -> Option<Variant> {
        match self {
            Self::SameNode | Self::UdpSameNode => Some(Variant::Bridge),
            Self::Outside | Self::Published | Self::PublishedScale | Self::UdpOutside => {
                Some(Variant::Iptables)
            }
            Self::EndpointScale => None,
        }
    }

    /// The loads it is measured with.
    pub const fn loads(self) -> &'static [Kind] {
        match self {
            Self::SameNode | Self::Outside | Self::Published | Self::EndpointScale => {
                &[Kind::Rr, Kind::Crr]
            }
            Self::PublishedScale => &[Kind::Crr],
            Self::UdpSameNode | Self::UdpOutside => &[Kind::Udp],
        }
    }

    /// Where the ends of its loads run.
    pub const fn placements(self) -> &'static [Placement] {
        match self {
            Self::PublishedScale | Self::EndpointScale => &[Placement::One],
            Self::SameNode
            | Self::Outside
            | Self::Published
            | Self::UdpSameNode
            | Self::UdpOutside => &[Placement::One, Placement::Two],
        }
    }

    /// What a level of it counts; nothing where it has none.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::PublishedScale => "ports",
            Self::EndpointScale => "endpoints",
            Self::SameNode
            | Self::Outside
            | Self::Published
            | Self::UdpSameNode
            | Self::UdpOutside => "",
        }
    }

    /// A contender's name for people, with its level where it has one.
    pub fn who(self, variant: Variant, level: Option<u32>) -> String {
        match level {
            Some(1) => format!(
                "{}, 1 {}",
                variant.title(),
                self.unit().trim_end_matches('s')
            ),
            Some(n) => format!("{}, {} {}", variant.title(), count(n), self.unit()),
            None => variant.title().to_owned(),
        }
    }
}

/// A number for people: 10,000.
pub fn count(n: u32) -> String {
    if n >= 1000 {
        format!("{},{:03}", n / 1000, n % 1000)
    } else {
        n.to_string()
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
    /// How many ports or endpoints its node has, on the paths where that is the question.
    pub level: Option<u32>,
    route: Route,
}

/// Everything that is measured, built and idle.
pub struct Bed {
    contenders: Vec<Contender>,
    workers: BTreeMap<String, Worker>,
    /// Runs of one-way packets so far: each has a number of its own.
    floods: u64,
}

impl Bed {
    /// Builds all contenders that are asked for, and starts a load process in each end.
    pub fn build(
        id: &LabId,
        lab: Option<&Lab>,
        nodes: &[scale::Node],
        options: &Options,
    ) -> Result<Self> {
        let mut contenders = Vec::new();
        let mut add = |scenario: Scenario, variant, route: &Route| {
            if options.wants(scenario) {
                contenders.push(Contender {
                    scenario,
                    variant,
                    level: None,
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
        if options.wants(Scenario::SameNode) || options.wants(Scenario::UdpSameNode) {
            let bridge = peers::bridge(id, options.ip, BridgeNetfilter::Off)?;
            add(Scenario::SameNode, Variant::Bridge, &bridge);
            if peers::has_bridge_netfilter() {
                let route = peers::bridge(id, options.ip, BridgeNetfilter::On)?;
                add(Scenario::SameNode, Variant::BridgeNetfilter, &route);
            }
            let veth = peers::veth(id, options.ip)?;
            add(Scenario::SameNode, Variant::Veth, &veth);
            add(Scenario::SameNode, Variant::BridgeAgain, &bridge);
            add(Scenario::UdpSameNode, Variant::Bridge, &bridge);
            add(Scenario::UdpSameNode, Variant::Veth, &veth);
        }
        let nat = [Scenario::Outside, Scenario::Published, Scenario::UdpOutside];
        if nat.iter().any(|scenario| options.wants(*scenario)) {
            for (variant, attached) in [
                (Variant::Iptables, Attached::Routed),
                (Variant::BridgeIptables, Attached::Bridged),
            ] {
                let nat = peers::iptables(id, options.ip, attached)?;
                add(Scenario::Outside, variant, &nat.outward);
                add(Scenario::Published, variant, &nat.inward);
                add(Scenario::UdpOutside, variant, &nat.outward);
            }
        }
        for node in nodes {
            contenders.push(Contender {
                scenario: node.scenario,
                variant: Variant::Netd,
                level: Some(node.level),
                route: node.route(options.ip)?,
            });
        }
        for level in options.levels(Scenario::PublishedScale) {
            contenders.push(Contender {
                scenario: Scenario::PublishedScale,
                variant: Variant::Iptables,
                level: Some(level),
                route: peers::iptables_ports(id, options.ip, level)?,
            });
        }
        let mut bed = Self {
            contenders,
            workers: BTreeMap::new(),
            floods: 0,
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
        cpus: [usize; 2],
        length: Duration,
    ) -> Result<Sample> {
        let [client_cpu, server_cpu] = cpus;
        self.worker(&contender.route.server)?.place(server_cpu)?;
        let to = contender.route.to;
        let client = self.worker(&contender.route.client)?;
        client.place(client_cpu)?;
        let sample = match kind {
            Kind::Rr | Kind::Crr => client.run(kind, to, length),
            Kind::Udp => self.flood(&contender.route, cpus, length),
        };
        sample.with_context(|| {
            format!(
                "{} of {} on {}",
                kind.name(),
                contender.scenario.who(contender.variant, contender.level),
                contender.scenario.title()
            )
        })
    }

    /// Packets one way, from the client to the sink beside the server.
    fn flood(&mut self, route: &Route, cpus: [usize; 2], length: Duration) -> Result<Sample> {
        let to = SocketAddr::new(route.to.ip(), udp::PORT);
        let mut run = |length| -> Result<_> {
            self.floods += 1;
            let run = self.floods;
            self.worker(&route.server)?.expect(run)?;
            let before = CpuTimes::read();
            let sent = self.worker(&route.client)?.flood(to, run, length)?;
            let received = self.worker(&route.server)?.drained(sent.packets)?;
            let work = CpuTimes::read().worked_since(&before, &cpus);
            Ok((sent, received, work))
        };
        run(WARM_UP)?;
        let (sent, received, work) = run(length)?;
        udp::sample(sent, received, work)
    }

    fn worker(&mut self, ns: &Ns) -> Result<&mut Worker> {
        self.workers
            .get_mut(ns.name())
            .with_context(|| format!("no load process runs in {}", ns.name()))
    }
}
