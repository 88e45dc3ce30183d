//! netd's side of the benchmark: lab nodes with the real daemon, two endpoints, a published port.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::load::PORT;
use super::options::Options;
use super::peers::{IpVersion, PUBLISHED, Route};
use super::scenario::Scenario;
use crate::lab::Lab;
use crate::lab::netns::Ns;
use crate::lab::wait::PATIENCE;

/// Name of the network endpoints are attached to.
pub const NETWORK: &str = "bench";
/// Name of the endpoint that asks.
pub const CLIENT: &str = "a";
/// Name of the endpoint that serves.
pub const SERVER: &str = "b";

/// A node with the daemon; none when only peers are measured.
pub fn lab(options: &Options) -> Result<Option<Lab>> {
    if options.peers_only {
        return Ok(None);
    }
    start(options).map(Some)
}

/// A node with the daemon.
pub fn start(options: &Options) -> Result<Lab> {
    let mut builder = Lab::builder("bench")
        .quiet()
        .attach_mode(options.attach_mode.into());
    if let Some(netd) = &options.netd {
        builder = builder.netd(std::path::absolute(netd)?);
    }
    builder.build()
}

/// The address of one version among some, with a port.
pub fn at(addresses: impl AsRef<[IpAddr]>, ip: IpVersion, port: u16) -> Result<SocketAddr> {
    let address = ip.pick(addresses.as_ref());
    let address = address.with_context(|| format!("there is no address of IP{ip:?}"))?;
    Ok(SocketAddr::new(address, port))
}

/// The namespace of a host of a lab.
pub fn namespace(lab: &Lab, host: &str) -> Result<Ns> {
    Ns::open(&lab.id().ns(host))
}

/// Sets up the network and its endpoints, and names the ways loads take through them.
pub fn routes(lab: &Lab, ip: IpVersion) -> Result<[(Scenario, Route); 5]> {
    let network = lab.network(NETWORK)?;
    let client = lab.endpoint(CLIENT, &network)?;
    let server = lab.endpoint(SERVER, &network)?;
    lab.publish(SERVER, &format!("{PUBLISHED}:{PORT}"))?;
    let route = |client: &crate::lab::Host, server: &crate::lab::Host, to: SocketAddr| Route {
        client: client.ns.clone(),
        server: server.ns.clone(),
        to,
    };
    let inside = route(&client, &server, at(server.addresses(), ip, PORT)?);
    let outward = route(
        &client,
        &lab.outside,
        at(lab.outside.addresses(), ip, PORT)?,
    );
    let inward = route(
        &lab.outside,
        &server,
        at(lab.node.addresses(), ip, PUBLISHED)?,
    );
    Ok([
        (Scenario::SameNode, inside.clone()),
        (Scenario::Outside, outward.clone()),
        (Scenario::Published, inward),
        (Scenario::UdpSameNode, inside),
        (Scenario::UdpOutside, outward),
    ])
}

/// Waits until the node is as it will stay: netd moves what its endpoints send on to TCX links when
/// nobody asks it for anything, one endpoint after the other.
pub fn settled(lab: &Lab) -> Result<()> {
    // What hooks a gateway tells how endpoints will be hooked, and whether they move: they do not
    // where clsact was asked for or is all there is.
    let to_tcx = pins(lab)?
        .iter()
        .any(|pin| pin.file_name().is_some_and(|name| name == "netd_gw_out"));
    if !to_tcx {
        return Ok(());
    }
    let (mut before, mut since) = (usize::MAX, Instant::now());
    loop {
        let pins = pins(lab)?;
        let left = pins
            .iter()
            .filter(|pin| pin.ends_with("netd_ep_out_filter"));
        let left = left.count();
        if left == 0 {
            return Ok(());
        }
        if left < before {
            (before, since) = (left, Instant::now());
        }
        ensure!(
            since.elapsed() < PATIENCE,
            "{left} endpoints have not moved on to TCX for {} s; the daemon's log:\n{}",
            PATIENCE.as_secs(),
            lab.node.log()
        );
        thread::sleep(Duration::from_millis(20));
    }
}

/// Pins of all links and filters of a node.
fn pins(lab: &Lab) -> Result<Vec<PathBuf>> {
    let list = |dir: PathBuf| -> Result<Vec<PathBuf>> {
        let entries =
            fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
        Ok(entries.flatten().map(|e| e.path()).collect())
    };
    let mut pins = Vec::new();
    // Beside the generations, the file system has files of its own.
    let generations = list(lab.node.bpf_dir())?
        .into_iter()
        .map(|dir| dir.join("links"));
    for links in generations.filter(|dir| dir.is_dir()) {
        for device in list(links)? {
            // A device may go while one looks.
            pins.extend(list(device).unwrap_or_default());
        }
    }
    Ok(pins)
}
