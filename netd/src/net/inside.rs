//! The inside of an endpoint: its device in the target's namespace.

use std::net::IpAddr;

use super::link::{self, Set};
use super::netns::NetnsFile;
use super::{NetError, Netlink, Result, route, sysctl};
use crate::plan::EndpointPlan;

/// The first free one of eth0, eth1, ... in a namespace; with `wanted` that name, if it is free.
pub fn free_device(ns: &NetnsFile, wanted: Option<&str>) -> Result<String> {
    let found = ns.run(|| match wanted {
        Some(name) => link::ifindex(name).is_none().then(|| name.to_owned()),
        None => (0..4096)
            .map(|i| format!("eth{i}"))
            .find(|n| link::ifindex(n).is_none()),
    })?;
    found.ok_or_else(|| NetError::DeviceTaken {
        target: ns.target.clone(),
        device: wanted.unwrap_or("eth0").to_owned(),
    })
}

/// Whether a device name is free in a namespace.
pub fn is_free(ns: &NetnsFile, device: &str) -> Result<bool> {
    ns.run(|| link::ifindex(device).is_none())
}

/// Gives the device inside another MTU.
pub fn set_mtu(ns: &NetnsFile, ifname: &str, mtu: u32) -> Result<()> {
    ns.run(|| Netlink::open()?.batch(vec![Set::new(ifname).mtu(mtu).request()]))?
}

/// Sets up the device inside: settings, addresses, up, default routes, loopback up. May be run
/// again.
pub fn finish(ns: &NetnsFile, plan: &EndpointPlan) -> Result<()> {
    ns.run(|| {
        let ifindex = link::must_ifindex(&plan.ifname)?;
        let has_v6 = plan.addresses.iter().any(|a| a.addr().is_ipv6());
        let mut netlink = Netlink::open()?;
        let mut batch = vec![Set::new("lo").up().request()];
        // Going up it tells its neighbours who has the addresses now: some may remember a former
        // endpoint.
        if plan.addresses.iter().any(|a| a.addr().is_ipv4()) {
            sysctl::set("ipv4", &plan.ifname, "arp_notify", "1")?;
        }
        if has_v6 {
            sysctl::set("ipv6", &plan.ifname, "ndisc_notify", "1")?;
            // The guard expects the link-local address made from the MAC, at once.
            sysctl::set("ipv6", &plan.ifname, "accept_ra", "0")?;
            sysctl::set("ipv6", &plan.ifname, "accept_dad", "0")?;
            if sysctl::get("ipv6", &plan.ifname, "disable_ipv6").is_ok_and(|v| v != 0) {
                sysctl::set("ipv6", &plan.ifname, "disable_ipv6", "0")?;
            }
            batch.push(Set::new(&plan.ifname).link_local(true).request());
        }
        let nets = plan.addresses.iter();
        batch.extend(nets.map(|net| route::add_address(&plan.ifname, ifindex, *net)));
        batch.push(Set::new(&plan.ifname).up().request());
        let gateways = plan.gateways.iter();
        batch.extend(gateways.map(|ip| route::add_default(&plan.ifname, ifindex, *ip)));
        netlink.batch(batch)
    })?
}

/// Adds default routes by a device inside; says which ones were not there before.
pub fn add_defaults(ns: &NetnsFile, ifname: &str, gateways: &[IpAddr]) -> Result<Vec<IpAddr>> {
    ns.run(|| {
        let ifindex = link::must_ifindex(ifname)?;
        let mut netlink = Netlink::open()?;
        let mut added = Vec::new();
        for gateway in gateways {
            let mut request = route::add_default(ifname, ifindex, *gateway);
            request.fine = Vec::new();
            match netlink.batch(vec![request]) {
                Ok(()) => added.push(*gateway),
                // The namespace has its own way out, or this one already.
                Err(e) if e.errno() == Some(libc::EEXIST) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(added)
    })?
}

/// Removes default routes by a device inside; one that is gone is fine.
pub fn remove_defaults(ns: &NetnsFile, ifname: &str, gateways: &[IpAddr]) -> Result<()> {
    ns.run(|| {
        let ifindex = link::must_ifindex(ifname)?;
        let remove = |gateway: &IpAddr| route::remove_default(ifname, ifindex, *gateway);
        Netlink::open()?.batch(gateways.iter().map(remove).collect())
    })?
}
