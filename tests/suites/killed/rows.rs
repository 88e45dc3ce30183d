//! What is in the rows of the maps, in words that are the same each time: devices by name, objects by theirs.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use netd_api::{Endpoint, Network};
use netd_common::addr::V6;
use netd_common::maps::{self, Float, Port, Publish, PublishKey, name, port_flags};
use netd_tests::lab::Lab;
use serde_json::Value;

/// What numbers stand for.
struct Names {
    devices: BTreeMap<u32, String>,
    networks: BTreeMap<u32, String>,
    endpoints: BTreeMap<u32, String>,
}

impl Names {
    fn of(lab: &Lab) -> Result<Self> {
        let links: Vec<Value> = serde_json::from_str(&lab.node.ok("ip", &["-j", "link"])?)?;
        let device = |link: &Value| {
            let index = u32::try_from(link.get("ifindex")?.as_u64()?).ok()?;
            Some((index, link.get("ifname")?.as_str()?.to_owned()))
        };
        let networks: Vec<Network> = lab.node.netd_json(&["network", "ls"])?;
        let endpoints: Vec<Endpoint> = lab.node.netd_json(&["endpoint", "ls"])?;
        Ok(Self {
            devices: links.iter().filter_map(device).collect(),
            networks: networks.into_iter().map(|n| (n.id, n.name)).collect(),
            endpoints: endpoints.into_iter().map(|e| (e.number, e.name)).collect(),
        })
    }
}

/// A number by its name; one that has none shows as what it is.
fn of(names: &BTreeMap<u32, String>, number: u32) -> String {
    match names.get(&number) {
        Some(name) => name.clone(),
        None if number == 0 => "-".into(),
        None => format!("unknown {number}"),
    }
}

fn ip(addr: V6) -> String {
    IpAddr::from(addr).to_canonical().to_string()
}

/// A MAC that nobody asked for: whether there is one.
fn some(mac: [u8; 6]) -> &'static str {
    if mac == [0; 6] { "no MAC" } else { "a MAC" }
}

/// The rows of `PORT`, `PUBLISH`, `FLOAT` and `NODE`, a line each.
pub fn values(lab: &Lab) -> Result<Vec<String>> {
    let names = Names::of(lab).context("names")?;
    let (device, network) = (|n| of(&names.devices, n), |n| of(&names.networks, n));
    let endpoint = |n| of(&names.endpoints, n);
    let mut all = Vec::new();
    for (ifindex, p) in lab.node.rows::<u32, Port>(name::PORT)? {
        let gateway = p.flags & port_flags::GATEWAY != 0;
        let mac = if gateway {
            some(p.mac).to_owned()
        } else {
            format!("{:02x?}", p.mac)
        };
        let place = format!(
            "PORT {}: {} of {}, outer {}, inner {}, {mac}, gateway {}",
            device(ifindex),
            endpoint(p.endpoint),
            network(p.network),
            device(p.outer),
            device(p.inner),
            some(p.gateway_mac),
        );
        // The rest is the same whenever it is made.
        let rest = Port {
            network: 0,
            endpoint: 0,
            outer: 0,
            inner: 0,
            mac: [0; 6],
            gateway_mac: [0; 6],
            ..p
        };
        all.push(format!("{place}, {rest:?}"));
    }
    for (key, p) in lab.node.rows::<PublishKey, Publish>(name::PUBLISH)? {
        all.push(format!(
            "PUBLISH {}:{}/{}: {}:{} of {} of {}, {}, {:02x?}, gateway {}, limited {}, numbered {}",
            ip(key.addr),
            key.port.get(),
            key.proto,
            ip(p.addr),
            p.port.get(),
            endpoint(p.endpoint),
            network(p.network),
            device(p.device),
            p.mac,
            some(p.gateway_mac),
            p.limited,
            p.number != 0,
        ));
    }
    for (address, f) in lab.node.rows::<V6, Float>(name::FLOAT)? {
        all.push(format!(
            "FLOAT {}: {} of {} of {}, {}, {:02x?}, gateway {}, uplink {} with {}",
            ip(address),
            ip(f.addr),
            endpoint(f.endpoint),
            network(f.network),
            device(f.device),
            f.mac,
            some(f.gateway_mac),
            device(f.uplink),
            some(f.uplink_mac),
        ));
    }
    let node: maps::Node = lab.node.node_row()?;
    all.push(format!("NODE {node:?}"));
    Ok(all)
}
