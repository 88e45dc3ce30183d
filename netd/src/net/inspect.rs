//! What a namespace has for itself: devices, addresses, routes, neighbours. Reads only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netd_common::addr::Mac;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::route::{self, Address};
use super::veth::{self, Device};
use super::{Netlink, Result};

/// The routing table of a namespace's own addresses: of no interest to people.
const LOCAL: u32 = 255;

/// A route, hop by hop: one of several next hops is a line of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Where to.
    pub to: IpNet,
    /// `unicast`, `blackhole`, ...
    pub kind: &'static str,
    /// Next hop; none: the destination itself.
    pub via: Option<IpAddr>,
    /// ifindex of the device; 0: none.
    pub device: u32,
    /// Preferred source.
    pub source: Option<IpAddr>,
    /// Priority; the lowest wins.
    pub metric: u32,
    /// Routing table.
    pub table: u32,
}

/// A neighbour entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its address.
    pub ip: IpAddr,
    /// Its MAC; none: not known.
    pub mac: Option<Mac>,
    /// ifindex of the device.
    pub device: u32,
    /// `reachable`, `stale`, ...
    pub state: &'static str,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inside {
    /// Devices.
    pub devices: Vec<Device>,
    /// Addresses.
    pub addresses: Vec<Address>,
    /// Routes, the local table left out.
    pub routes: Vec<Hop>,
    /// Neighbours, those the kernel makes up for groups left out.
    pub neighbours: Vec<Neighbour>,
}

/// Reads the socket's namespace.
pub fn read(netlink: &mut Netlink) -> Result<Inside> {
    let mut routes = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut ask = RouteMessage::default();
        ask.header.address_family = family;
        let all = netlink.dump(RouteNetlinkMessage::GetRoute(ask))?;
        routes.extend(all.iter().filter_map(hops).flatten());
    }
    let neighbours = netlink.dump(RouteNetlinkMessage::GetNeighbour(
        NeighbourMessage::default(),
    ))?;
    Ok(Inside {
        devices: veth::devices(netlink)?,
        addresses: route::addresses(netlink)?,
        routes,
        neighbours: neighbours.iter().filter_map(neighbour).collect(),
    })
}

fn hops(message: &RouteNetlinkMessage) -> Option<Vec<Hop>> {
    let RouteNetlinkMessage::NewRoute(m) = message else {
        return None;
    };
    let kind = match m.header.kind {
        RouteType::Unicast => "unicast",
        RouteType::BlackHole => "blackhole",
        RouteType::Unreachable => "unreachable",
        RouteType::Prohibit => "prohibit",
        RouteType::Throw => "throw",
        _ => return None,
    };
    let zero: IpAddr = match m.header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let mut to = zero;
    let mut hop = Hop {
        to: IpNet::from(zero),
        kind,
        via: None,
        device: 0,
        source: None,
        metric: 0,
        table: u32::from(m.header.table),
    };
    let mut several = Vec::new();
    for attribute in &m.attributes {
        if let RouteAttribute::Destination(a) = attribute {
            to = ip(a)?;
        } else if let RouteAttribute::Gateway(a) = attribute {
            hop.via = ip(a);
        } else if let RouteAttribute::Oif(i) = attribute {
            hop.device = *i;
        } else if let RouteAttribute::PrefSource(a) = attribute {
            hop.source = ip(a);
        } else if let RouteAttribute::Priority(p) = attribute {
            hop.metric = *p;
        } else if let RouteAttribute::Table(t) = attribute {
            hop.table = *t;
        } else if let RouteAttribute::MultiPath(hops) = attribute {
            several.extend(hops.iter().map(|h| {
                let via = h.attributes.iter().find_map(|a| match a {
                    RouteAttribute::Gateway(a) => ip(a),
                    _ => None,
                });
                (via, h.interface_index)
            }));
        }
    }
    hop.to = IpNet::new(to, m.header.destination_prefix_length).ok()?;
    let group = hop.to.addr().is_multicast();
    if hop.table == LOCAL || group {
        return None;
    }
    if several.is_empty() {
        return Some(vec![hop]);
    }
    let each = several.into_iter().map(|(via, device)| Hop {
        via,
        device,
        ..hop.clone()
    });
    Some(each.collect())
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

fn neighbour(message: &RouteNetlinkMessage) -> Option<Neighbour> {
    let RouteNetlinkMessage::NewNeighbour(m) = message else {
        return None;
    };
    let state = match m.header.state {
        NeighbourState::Incomplete => "incomplete",
        NeighbourState::Reachable => "reachable",
        NeighbourState::Stale => "stale",
        NeighbourState::Delay => "delay",
        NeighbourState::Probe => "probe",
        NeighbourState::Failed => "failed",
        NeighbourState::Permanent => "permanent",
        // What the kernel makes up for groups and for lo.
        NeighbourState::Noarp => return None,
        _ => "none",
    };
    let mut neighbour = Neighbour {
        ip: Ipv4Addr::UNSPECIFIED.into(),
        mac: None,
        device: m.header.ifindex,
        state,
    };
    let mut known = false;
    for attribute in &m.attributes {
        if let NeighbourAttribute::Destination(a) = attribute {
            neighbour.ip = match a {
                NeighbourAddress::Inet(ip) => (*ip).into(),
                NeighbourAddress::Inet6(ip) => (*ip).into(),
                _ => return None,
            };
            known = true;
        } else if let NeighbourAttribute::LinkLayerAddress(mac) = attribute {
            neighbour.mac = mac.as_slice().try_into().ok();
        }
    }
    known.then_some(neighbour)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtnetlink::packet_route::route::RouteNextHop;

    fn route(kind: RouteType, attributes: Vec<RouteAttribute>) -> RouteNetlinkMessage {
        let mut m = RouteMessage::default();
        m.header.address_family = AddressFamily::Inet;
        m.header.kind = kind;
        m.header.table = 254;
        m.attributes = attributes;
        RouteNetlinkMessage::NewRoute(m)
    }

    fn via(ip: [u8; 4]) -> RouteAttribute {
        RouteAttribute::Gateway(RouteAddress::Inet(ip.into()))
    }

    #[test]
    fn each_next_hop_is_a_line() {
        let hop = |device, ip| {
            let mut hop = RouteNextHop::default();
            hop.interface_index = device;
            hop.attributes.push(via(ip));
            hop
        };
        let two = RouteAttribute::MultiPath(vec![hop(3, [10, 0, 0, 1]), hop(4, [10, 0, 1, 1])]);
        let lines = hops(&route(
            RouteType::Unicast,
            vec![two, RouteAttribute::Priority(7)],
        ))
        .unwrap();
        let seen: Vec<_> = lines
            .iter()
            .map(|h| (h.device, h.via.unwrap().to_string(), h.metric))
            .collect();
        assert_eq!(seen, [(3, "10.0.0.1".into(), 7), (4, "10.0.1.1".into(), 7)]);
        assert_eq!(lines[0].to.to_string(), "0.0.0.0/0");
    }

    #[test]
    fn what_the_kernel_keeps_for_itself_is_left_out() {
        let local = route(RouteType::Unicast, vec![RouteAttribute::Table(LOCAL)]);
        assert_eq!(hops(&local), None);
        assert_eq!(hops(&route(RouteType::Broadcast, vec![])), None);
        let refuses = hops(&route(RouteType::BlackHole, vec![])).unwrap();
        assert_eq!((refuses[0].kind, refuses[0].device), ("blackhole", 0));
    }
}
