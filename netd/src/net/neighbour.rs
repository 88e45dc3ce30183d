//! The node's neighbour entries: on its gateway devices, and those by which it joins the multicast groups of
//! IPv6 addresses that netd answers for.

use std::net::{IpAddr, Ipv6Addr};

use rtnetlink::packet_core::NLM_F_CREATE;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::RouteProtocol;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Netlink, PUT_BY_NETD, Request, Result};

/// Says that netd has put an entry there (Linux 5.0).
const OURS: NeighbourAttribute = NeighbourAttribute::Protocol(RouteProtocol::Other(PUT_BY_NETD));

fn entry(ifindex: u32, ip: IpAddr) -> NeighbourMessage {
    let mut m = NeighbourMessage::default();
    m.header.family = match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    m.header.ifindex = ifindex;
    m.attributes
        .push(NeighbourAttribute::Destination(ip.into()));
    m
}

/// Forgets who had addresses on a device: another endpoint may have them soon, with another MAC.
pub fn forget(netlink: &mut Netlink, ifindex: u32, ips: &[IpAddr]) -> Result<()> {
    let entries = ips.iter().map(|ip| {
        let what = format!("cannot forget the neighbour {ip}");
        let m = RouteNetlinkMessage::DelNeighbour(entry(ifindex, *ip));
        Request::new(m, 0, what).or(libc::ENOENT)
    });
    netlink.batch(entries.collect())
}

fn proxy(ifindex: u32, ip: Ipv6Addr) -> NeighbourMessage {
    let mut m = entry(ifindex, ip.into());
    m.header.flags = NeighbourFlags::Proxy;
    // As `ip neigh add proxy`: it stays while the device has no carrier.
    m.header.state = NeighbourState::Permanent;
    m
}

/// Joins the solicited-node multicast group of an address (RFC 4291 section 2.7.1): the kernel does so for whom
/// it is a proxy, and answers nobody itself unless its `proxy_ndp` says so. A device that is gone is fine.
pub fn join(ifindex: u32, ip: Ipv6Addr) -> Request {
    let mut m = proxy(ifindex, ip);
    m.attributes.push(OURS);
    let what = format!("cannot join the multicast group of {ip}");
    let m = RouteNetlinkMessage::NewNeighbour(m);
    Request::new(m, NLM_F_CREATE, what).or(libc::ENODEV)
}

/// Leaves it; one that is left already is fine, and a device that is gone.
pub fn leave(ifindex: u32, ip: Ipv6Addr) -> Request {
    let what = format!("cannot leave the multicast group of {ip}");
    let m = RouteNetlinkMessage::DelNeighbour(proxy(ifindex, ip));
    Request::new(m, 0, what).or(libc::ENOENT).or(libc::ENODEV)
}

/// For which addresses netd has joined: ifindex and address.
pub fn joined(netlink: &mut Netlink) -> Result<Vec<(u32, Ipv6Addr)>> {
    let mut ask = NeighbourMessage::default();
    ask.header.family = AddressFamily::Inet6;
    ask.header.flags = NeighbourFlags::Proxy;
    let all = netlink.dump(RouteNetlinkMessage::GetNeighbour(ask))?;
    let ours = all.into_iter().filter_map(|m| {
        let RouteNetlinkMessage::NewNeighbour(m) = m else {
            return None;
        };
        let ip = m.attributes.iter().find_map(|a| match a {
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => Some(*ip),
            _ => None,
        });
        let proxy = m.header.flags.contains(NeighbourFlags::Proxy);
        ip.filter(|_| proxy && m.attributes.contains(&OURS))
            .map(|ip| (m.header.ifindex, ip))
    });
    Ok(ours.collect())
}
