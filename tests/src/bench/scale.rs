//! Nodes with much on them: many published ports, many endpoints. Each count has a node of its own, so
//! that all of them can be measured in turns.

use std::ops::RangeInclusive;

use anyhow::{Context as _, Result};
use netd_api::{Attach, Client};

use super::load::PORT;
use super::node::{self, CLIENT, NETWORK, SERVER};
use super::options::Options;
use super::peers::{IpVersion, Route};
use super::scenario::Scenario;
use crate::lab::Lab;

/// Numbers of published ports that are measured.
pub const PORTS: [u32; 4] = [1, 100, 1_000, 10_000];
/// Numbers of endpoints on a network that are measured; the least is a pair.
pub const ENDPOINTS: [u32; 3] = [2, 100, 1_000];
/// The highest published port, and the one that is asked for: the last rule of a list.
pub const ASKED: u16 = 20_000;
/// Subnets with room for all of them.
const SUBNETS: [&str; 4] = ["--subnet", "10.240.0.0/20", "--subnet", "fd24::/64"];

/// A node with `level` ports or endpoints.
pub struct Node {
    /// Ports or endpoints.
    pub scenario: Scenario,
    /// How many.
    pub level: u32,
    /// Its lab.
    pub lab: Lab,
}

/// The published ports of a level; the last one is [`ASKED`].
pub fn published(level: u32) -> RangeInclusive<u16> {
    let before = u16::try_from(level.saturating_sub(1)).unwrap_or(u16::MAX);
    ASKED.saturating_sub(before)..=ASKED
}

/// The endpoint's port behind a published one: that of the load's server behind [`ASKED`].
pub const fn behind(published: u16) -> u16 {
    published - (ASKED - PORT)
}

/// netd's nodes of all levels that are asked for.
pub fn nodes(options: &Options) -> Result<Vec<Node>> {
    let mut nodes = Vec::new();
    if options.peers_only {
        return Ok(nodes);
    }
    for scenario in [Scenario::PublishedScale, Scenario::EndpointScale] {
        for level in options.levels(scenario) {
            eprintln!("bench: building a node with {level} {}", scenario.unit());
            let node = Node::build(scenario, level, options)
                .with_context(|| format!("cannot build a node with {level} {}", scenario.unit()))?;
            nodes.push(node);
        }
    }
    Ok(nodes)
}

impl Node {
    fn build(scenario: Scenario, level: u32, options: &Options) -> Result<Self> {
        let lab = node::start(options)?;
        if scenario == Scenario::PublishedScale {
            let network = lab.network(NETWORK)?;
            lab.endpoint(SERVER, &network)?;
            let ports = published(level);
            let (first, last) = (*ports.start(), *ports.end());
            let spec = format!("{first}-{last}:{}-{}", behind(first), behind(last));
            lab.publish(SERVER, &spec)?;
        } else {
            let network = lab.network_with(NETWORK, &SUBNETS)?;
            lab.endpoint(CLIENT, &network)?;
            lab.endpoint(SERVER, &network)?;
            crowd(&lab, level.saturating_sub(2))?;
        }
        Ok(Self {
            scenario,
            level,
            lab,
        })
    }

    /// The way the load takes.
    pub fn route(&self, ip: IpVersion) -> Result<Route> {
        let lab = &self.lab;
        let server = node::namespace(lab, SERVER)?;
        if self.scenario == Scenario::PublishedScale {
            return Ok(Route {
                client: lab.outside.ns.clone(),
                server,
                to: node::at(lab.node.addresses(), ip, ASKED)?,
            });
        }
        let info: netd_api::Endpoint = lab.node.netd_json(&["endpoint", "inspect", SERVER])?;
        let addresses: Vec<_> = info.addresses.iter().map(ipnet::IpNet::addr).collect();
        Ok(Route {
            client: node::namespace(lab, CLIENT)?,
            server,
            to: node::at(addresses, ip, PORT)?,
        })
    }
}

/// Attaches `count` endpoints that do nothing, each a namespace of its own.
fn crowd(lab: &Lab, count: u32) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let client = Client::new(lab.node.socket());
    for number in 0..count {
        let ns = lab.namespace(&format!("c{number}"))?;
        let request = Attach {
            target: ns.name().to_owned(),
            network: NETWORK.to_owned(),
            name: Some(format!("crowd-{number}")),
            ..Attach::default()
        };
        runtime
            .block_on(client.attach(&request))
            .with_context(|| format!("endpoint {number} of {count}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_that_is_asked_for_is_the_last_of_every_level_and_leads_to_the_server() {
        for level in PORTS {
            let ports = published(level);
            assert_eq!(ports.len(), level as usize);
            assert_eq!(*ports.end(), ASKED);
            assert!(behind(*ports.start()) > 1024);
        }
        assert_eq!(behind(ASKED), PORT);
    }
}
