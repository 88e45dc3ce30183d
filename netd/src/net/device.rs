//! netd's own devices on the node: gateway pairs and the node side of endpoints.

use std::io;
use std::os::fd::AsRawFd;

use netd_common::addr::Mac;

use super::link::{self, End, Link, Set};
use super::netns::NetnsFile;
use super::{NetError, Netlink, Result, route, sysctl};
use crate::plan::{Alias, EndpointPlan, GatewayPlan};

/// Makes a gateway pair or brings one that is there into order; ifindexes of outer and inner end.
pub fn make_gateway(
    netlink: &mut Netlink,
    instance: &str,
    plan: &GatewayPlan,
) -> Result<(u32, u32)> {
    let alias = Alias::Network(plan.network.clone()).text(instance);
    let fresh = link::ifindex(&plan.outer).is_none();
    let mut mac = None;
    if fresh {
        let end = |name, mac| End {
            name,
            mac,
            mtu: plan.mtu,
            netns: None,
            up: false,
        };
        // In one message with the aliases: nobody can be killed between the two.
        let alias = |name| Set::new(name).alias(alias.clone()).request();
        netlink.batch(vec![
            link::veth(&end(&plan.outer, Some(plan.mac)), &end(&plan.inner, None)),
            alias(&plan.outer),
            alias(&plan.inner),
        ])?;
    } else if let Some(outer) = ours(netlink, &plan.outer, &alias)? {
        // Only where it is another one: setting it makes the node forget whom it knows there.
        mac = Some(plan.mac).filter(|mac| *mac != outer.mac);
    } else {
        return Err(NetError::Io {
            what: format!(
                "cannot make the gateway of network {}: device {} is somebody else's; delete it or choose another name",
                plan.network, plan.outer
            ),
            source: io::Error::from_raw_os_error(libc::EEXIST),
        });
    }
    let made = configure_gateway(netlink, plan, &alias, mac);
    // One that is in use stays whatever is wrong with it.
    if fresh
        && made.is_err()
        && let Some(ifindex) = link::ifindex(&plan.outer)
    {
        netlink.batch(vec![link::delete(&plan.outer, ifindex)])?;
    }
    made
}

fn ours(netlink: &mut Netlink, name: &str, alias: &str) -> Result<Option<Link>> {
    let links = link::all(netlink)?;
    let ours = |l: &Link| l.name == name && l.alias.as_deref() == Some(alias);
    Ok(links.into_iter().find(ours))
}

fn configure_gateway(
    netlink: &mut Netlink,
    plan: &GatewayPlan,
    alias: &str,
    mac: Option<Mac>,
) -> Result<(u32, u32)> {
    let (outer, inner) = (
        link::must_ifindex(&plan.outer)?,
        link::must_ifindex(&plan.inner)?,
    );
    // The outer end must not route by itself: the kernel would let private sources out.
    for (device, forwarding) in [(&plan.outer, "0"), (&plan.inner, "1")] {
        sysctl::set("ipv4", device, "rp_filter", "0")?;
        sysctl::set("ipv4", device, "forwarding", forwarding)?;
        sysctl::set("ipv6", device, "accept_ra", "0")?;
        sysctl::set("ipv6", device, "accept_dad", "0")?;
        sysctl::set("ipv6", device, "forwarding", forwarding)?;
    }
    let mut batch = vec![
        Set::new(&plan.inner)
            .alias(alias.to_owned())
            .mtu(plan.mtu)
            .link_local(false)
            .request(),
        Set::new(&plan.outer)
            .alias(alias.to_owned())
            .mtu(plan.mtu)
            .link_local(true)
            .request(),
    ];
    batch.extend(
        plan.addresses
            .iter()
            .map(|net| route::add_gateway_address(&plan.outer, outer, *net)),
    );
    batch.extend(mac.map(|mac| Set::new(&plan.outer).mac(mac).request()));
    batch.push(Set::new(&plan.inner).up().request());
    batch.push(Set::new(&plan.outer).up().request());
    netlink.batch(batch)?;
    forget_addresses(netlink, plan, outer)?;
    Ok((outer, inner))
}

/// Takes addresses away that netd has put on an outer end before: a network of the same name may have been
/// made anew while nobody looked. Those that somebody else has put there are theirs.
fn forget_addresses(netlink: &mut Netlink, plan: &GatewayPlan, outer: u32) -> Result<()> {
    let all = route::addresses(netlink)?;
    let stale = all
        .iter()
        .filter(|a| a.ifindex == outer && a.own && !plan.addresses.contains(&a.net));
    let gone = stale.map(|a| route::remove_address(&plan.outer, outer, a.net));
    let gone: Vec<_> = gone.collect();
    if gone.is_empty() {
        return Ok(());
    }
    netlink.batch(gone)
}

/// Makes the veth of an endpoint, node side up, inside down; the ifindex of the node side.
pub fn make_endpoint(
    netlink: &mut Netlink,
    instance: &str,
    plan: &EndpointPlan,
    ns: &NetnsFile,
) -> Result<u32> {
    let outside = End {
        name: &plan.device,
        mac: None,
        mtu: plan.mtu,
        netns: None,
        up: true,
    };
    let inside = End {
        name: &plan.ifname,
        mac: Some(plan.mac),
        mtu: plan.mtu,
        netns: Some(ns.raw_fd()),
        up: false,
    };
    let alias = Alias::Making(plan.id.clone()).text(instance);
    // Until the peer is up there is no carrier, so IPv6 on the node side has not begun yet.
    let set = Set::new(&plan.device).alias(alias).link_local(false);
    netlink
        .batch(vec![link::veth(&outside, &inside), set.request()])
        .map_err(|e| match e.errno() {
            Some(libc::EEXIST) => NetError::DeviceTaken {
                target: plan.target.clone(),
                device: plan.ifname.clone(),
            },
            _ => e,
        })?;
    link::must_ifindex(&plan.device)
}

/// Says by the alias that an endpoint is whole.
pub fn mark_whole(netlink: &mut Netlink, instance: &str, plan: &EndpointPlan) -> Result<()> {
    let alias = Alias::Endpoint(plan.id.clone()).text(instance);
    netlink.batch(vec![Set::new(&plan.device).alias(alias).request()])
}

impl NetnsFile {
    /// Its descriptor, for a message that moves a device there.
    pub fn raw_fd(&self) -> std::os::fd::RawFd {
        self.as_file().as_raw_fd()
    }
}
