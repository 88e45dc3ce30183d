//! Addresses and routes: building requests, and reading what is there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, AddressScope,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Netlink, Request, Result};

/// Says that netd has put an address there (Linux 5.18; the kernel's own end at 3).
const PUT_BY_NETD: AddressProtocol = AddressProtocol::Other(super::PUT_BY_NETD);

/// An address of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// ifindex of the device.
    pub ifindex: u32,
    /// The address and its prefix length.
    pub net: IpNet,
    /// Usable as a source to anywhere: global scope, not tentative, not deprecated, not temporary.
    pub usable: bool,
    /// netd has put it there.
    pub own: bool,
}

impl Address {
    /// Whether it names a host on its link alone.
    pub fn is_link_local(&self) -> bool {
        match self.net.addr() {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        }
    }
}

/// A unicast route, or one that refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub to: IpNet,
    /// ifindexes of the devices it leaves by; empty: it refuses.
    pub devices: Vec<u32>,
    /// Routing table.
    pub table: u32,
}

fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    }
}

/// The metric of routes to the subnets of gateways: behind any that somebody else may set.
const LAST: u32 = 1_000_000;

/// Adds an address without duplicate address detection; one that is there already is fine.
pub fn add_address(device: &str, ifindex: u32, net: IpNet) -> Request {
    add(device, address(ifindex, net), net)
}

/// The same of a gateway: should the node get a route to the same subnet by another device, that one counts.
pub fn add_gateway_address(device: &str, ifindex: u32, net: IpNet) -> Request {
    let mut m = address(ifindex, net);
    m.attributes.push(AddressAttribute::RoutePriority(LAST));
    add(device, m, net)
}

fn address(ifindex: u32, net: IpNet) -> AddressMessage {
    let mut m = AddressMessage::default();
    m.header.family = family(net.addr());
    m.header.prefix_len = net.prefix_len();
    m.header.index = ifindex;
    m.attributes.push(AddressAttribute::Local(net.addr()));
    m.attributes.push(AddressAttribute::Address(net.addr()));
    m.attributes.push(AddressAttribute::Protocol(PUT_BY_NETD));
    match net {
        IpNet::V4(n) => m
            .attributes
            .push(AddressAttribute::Broadcast(n.broadcast())),
        IpNet::V6(_) => m
            .attributes
            .push(AddressAttribute::Flags(AddressFlags::Nodad)),
    }
    m
}

fn add(device: &str, m: AddressMessage, net: IpNet) -> Request {
    let what = format!("cannot add {net} to {device}");
    Request::new(
        RouteNetlinkMessage::NewAddress(m),
        NLM_F_CREATE | NLM_F_EXCL,
        what,
    )
    .or(libc::EEXIST)
}

/// Removes an address; one that is gone is fine.
pub fn remove_address(device: &str, ifindex: u32, net: IpNet) -> Request {
    let mut m = AddressMessage::default();
    m.header.family = family(net.addr());
    m.header.prefix_len = net.prefix_len();
    m.header.index = ifindex;
    m.attributes.push(AddressAttribute::Local(net.addr()));
    let what = format!("cannot remove {net} from {device}");
    Request::new(RouteNetlinkMessage::DelAddress(m), 0, what).or(libc::EADDRNOTAVAIL)
}

/// Adds a default route; a target that has one already keeps it.
pub fn add_default(device: &str, ifindex: u32, gateway: IpAddr) -> Request {
    let what = format!("cannot add a default route by {gateway} on {device}");
    Request::new(
        RouteNetlinkMessage::NewRoute(default_route(ifindex, gateway)),
        NLM_F_CREATE | NLM_F_EXCL,
        what,
    )
    .or(libc::EEXIST)
}

/// Removes a default route; one that is gone is fine.
pub fn remove_default(device: &str, ifindex: u32, gateway: IpAddr) -> Request {
    let what = format!("cannot remove the default route by {gateway} on {device}");
    let message = RouteNetlinkMessage::DelRoute(default_route(ifindex, gateway));
    Request::new(message, 0, what).or(libc::ESRCH)
}

fn default_route(ifindex: u32, gateway: IpAddr) -> RouteMessage {
    let mut m = RouteMessage::default();
    m.header.address_family = family(gateway);
    m.header.table = RouteHeader::RT_TABLE_MAIN;
    m.header.protocol = RouteProtocol::Static;
    m.header.scope = RouteScope::Universe;
    m.header.kind = RouteType::Unicast;
    m.attributes.push(RouteAttribute::Gateway(gateway.into()));
    m.attributes.push(RouteAttribute::Oif(ifindex));
    m
}

/// All addresses of the socket's namespace.
pub fn addresses(netlink: &mut Netlink) -> Result<Vec<Address>> {
    let all = netlink.dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()))?;
    Ok(all.iter().filter_map(read_address).collect())
}

fn read_address(message: &RouteNetlinkMessage) -> Option<Address> {
    let RouteNetlinkMessage::NewAddress(m) = message else {
        return None;
    };
    let mut flags = AddressFlags::from_bits_retain(m.header.flags.bits().into());
    let (mut local, mut address, mut own) = (None, None, false);
    for attribute in &m.attributes {
        if let AddressAttribute::Local(ip) = attribute {
            local = Some(*ip);
        } else if let AddressAttribute::Address(ip) = attribute {
            address = Some(*ip);
        } else if let AddressAttribute::Flags(all) = attribute {
            flags = *all;
        } else if let AddressAttribute::Protocol(by) = attribute {
            own = *by == PUT_BY_NETD;
        }
    }
    let net = IpNet::new(local.or(address)?, m.header.prefix_len).ok()?;
    // IPv4 knows "secondary" as the second of a subnet, IPv6 as temporary (RFC 8981).
    let never = AddressFlags::Tentative | AddressFlags::Deprecated | AddressFlags::Dadfailed;
    let temporary = net.addr().is_ipv6() && flags.contains(AddressFlags::Secondary);
    let usable = m.header.scope == AddressScope::Universe && !flags.intersects(never) && !temporary;
    Some(Address {
        ifindex: m.header.index,
        net,
        usable,
        own,
    })
}

/// All unicast and refusing routes of the socket's namespace.
pub fn routes(netlink: &mut Netlink) -> Result<Vec<Route>> {
    let mut out = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut ask = RouteMessage::default();
        ask.header.address_family = family;
        let all = netlink.dump(RouteNetlinkMessage::GetRoute(ask))?;
        out.extend(all.iter().filter_map(read_route));
    }
    Ok(out)
}

fn read_route(message: &RouteNetlinkMessage) -> Option<Route> {
    let RouteNetlinkMessage::NewRoute(m) = message else {
        return None;
    };
    let refuses = matches!(
        m.header.kind,
        RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit
    );
    if m.header.kind != RouteType::Unicast && !refuses {
        return None;
    }
    let zero: IpAddr = match m.header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let (mut to, mut table, mut devices) = (zero, u32::from(m.header.table), Vec::new());
    for attribute in &m.attributes {
        if let RouteAttribute::Destination(a) = attribute {
            to = ip(a)?;
        } else if let RouteAttribute::Oif(i) = attribute {
            devices.push(*i);
        } else if let RouteAttribute::Table(t) = attribute {
            table = *t;
        } else if let RouteAttribute::MultiPath(hops) = attribute {
            devices.extend(hops.iter().map(|h| h.interface_index));
        }
    }
    let to = IpNet::new(to, m.header.destination_prefix_length).ok()?;
    Some(Route {
        to,
        devices: if refuses { vec![] } else { devices },
        table,
    })
}

pub(super) fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

/// The source address the kernel would take towards `to` by a device; none: no route.
pub fn source(netlink: &mut Netlink, to: IpAddr, ifindex: u32) -> Result<Option<IpAddr>> {
    let mut m = RouteMessage::default();
    m.header.address_family = family(to);
    m.header.destination_prefix_length = if to.is_ipv4() { 32 } else { 128 };
    m.attributes.push(RouteAttribute::Destination(to.into()));
    m.attributes.push(RouteAttribute::Oif(ifindex));
    let Some(RouteNetlinkMessage::NewRoute(m)) = netlink.get(RouteNetlinkMessage::GetRoute(m))?
    else {
        return Ok(None);
    };
    Ok(m.attributes.iter().find_map(|a| {
        if let RouteAttribute::PrefSource(a) = a {
            ip(a)
        } else {
            None
        }
    }))
}
