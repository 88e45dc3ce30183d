//! netd's side of the benchmark: a lab node with the real daemon, two endpoints, a published port.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};

use super::load::PORT;
use super::options::Options;
use super::peers::{IpVersion, PUBLISHED, Route};
use super::scenario::Scenario;
use crate::lab::Lab;

/// Name of the network endpoints are attached to.
pub const NETWORK: &str = "bench";
/// Name of the endpoint that serves.
pub const SERVER: &str = "b";

/// A node with the daemon; none when only peers are measured.
pub fn lab(options: &Options) -> Result<Option<Lab>> {
    if options.peers_only {
        return Ok(None);
    }
    let mut builder = Lab::builder("bench")
        .quiet()
        .attach_mode(options.attach_mode.into());
    if let Some(netd) = &options.netd {
        builder = builder.netd(std::path::absolute(netd)?);
    }
    builder.build().map(Some)
}

/// Sets up the network and its endpoints, and names the ways loads take through them.
pub fn routes(lab: &Lab, ip: IpVersion) -> Result<[(Scenario, Route); 3]> {
    let network = lab.network(NETWORK)?;
    let client = lab.endpoint("a", &network)?;
    let server = lab.endpoint(SERVER, &network)?;
    lab.publish(SERVER, &format!("{PUBLISHED}:{PORT}"))?;
    let at = |host: &crate::lab::Host, port: u16| -> Result<SocketAddr> {
        let address = ip.pick(&host.addresses());
        let address =
            address.with_context(|| format!("{} has no address of IP{ip:?}", host.name))?;
        Ok(SocketAddr::new(address, port))
    };
    let route = |client: &crate::lab::Host, server: &crate::lab::Host, to: SocketAddr| Route {
        client: client.ns.clone(),
        server: server.ns.clone(),
        to,
    };
    Ok([
        (
            Scenario::SameNode,
            route(&client, &server, at(&server, PORT)?),
        ),
        (
            Scenario::Outside,
            route(&client, &lab.outside, at(&lab.outside, PORT)?),
        ),
        (
            Scenario::Published,
            route(&lab.outside, &server, at(&lab.node, PUBLISHED)?),
        ),
    ])
}
