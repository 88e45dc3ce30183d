//! Routes and rules of a namespace as messages that make the same ones in another: the kernel's own words,
//! with all they can say (several next hops, metrics, encapsulations). Devices keep their ifindexes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rtnetlink::packet_core::{Emitable, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, Parseable as _};
use rtnetlink::packet_route::route::{
    RouteAttribute, RouteFlags, RouteMessage, RouteNextHop, RouteNextHopFlags, RouteType,
};
use rtnetlink::packet_route::rule::RuleMessage;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::route::ip;
use super::{NetError, Netlink, Request, Result};

/// A route or a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recorded {
    /// A rule, not a route.
    pub is_rule: bool,
    /// In words.
    pub words: String,
    /// The message: header and attributes.
    pub bytes: Vec<u8>,
    /// Devices it names, by ifindex.
    pub devices: Vec<u32>,
}

/// All rules, and the routes that say something of one of these addresses, in an order in which they can be
/// made.
pub fn record(netlink: &mut Netlink, about: &[IpAddr]) -> Result<Vec<Recorded>> {
    let mut all = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut ask = RuleMessage::default();
        ask.header.family = family;
        for message in netlink.dump(RouteNetlinkMessage::GetRule(ask))? {
            if let RouteNetlinkMessage::NewRule(rule) = message {
                all.push(recorded_rule(&rule));
            }
        }
        let mut ask = RouteMessage::default();
        ask.header.address_family = family;
        let mut routes = Vec::new();
        for message in netlink.dump(RouteNetlinkMessage::GetRoute(ask))? {
            if let RouteNetlinkMessage::NewRoute(route) = message {
                routes.extend(recorded_route(route, about));
            }
        }
        // What has a gateway needs a way to it first.
        routes.sort_by_key(|(by_gateway, _)| *by_gateway);
        all.extend(routes.into_iter().map(|(_, route)| route));
    }
    Ok(all)
}

fn emitted(message: &impl Emitable) -> Vec<u8> {
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut bytes);
    bytes
}

fn recorded_rule(rule: &RuleMessage) -> Recorded {
    Recorded {
        is_rule: true,
        words: format!(
            "{}: {:?}, table {}",
            family_name(rule.header.family),
            rule.header.action,
            rule.header.table
        ),
        bytes: emitted(rule),
        devices: vec![],
    }
}

fn family_name(family: AddressFamily) -> &'static str {
    if family == AddressFamily::Inet {
        "IPv4"
    } else {
        "IPv6"
    }
}

/// A route that says something of one of these addresses, and whether it has a gateway. The data path also
/// asks for the addresses next to one, to tell links from strangers.
fn recorded_route(mut route: RouteMessage, about: &[IpAddr]) -> Option<(bool, Recorded)> {
    if route.header.flags.contains(RouteFlags::Dead) {
        return None;
    }
    let zero: IpAddr = match route.header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let (mut to, mut table) = (zero, u32::from(route.header.table));
    let (mut devices, mut by_gateway) = (Vec::new(), false);
    for attribute in &mut route.attributes {
        if let RouteAttribute::Destination(address) = attribute {
            to = ip(address)?;
        } else if let RouteAttribute::Table(number) = attribute {
            table = *number;
        } else if let RouteAttribute::Oif(device) = attribute {
            devices.push(*device);
        } else if let RouteAttribute::MultiPath(hops) = attribute {
            by_gateway = true;
            hops.iter_mut().for_each(on_link);
            devices.extend(hops.iter().map(|hop| hop.interface_index));
        } else {
            by_gateway |= is_gateway(attribute);
        }
    }
    let net = IpNet::new(to, route.header.destination_prefix_length).ok()?;
    let near = |a: &IpAddr| {
        net.contains(a) || net.contains(&beside(*a, 1)) || net.contains(&beside(*a, 3))
    };
    if !about.iter().any(near) {
        return None;
    }
    // A preferred source must be an address of the node, which the other namespace has none of; the rest is
    // the kernel's to say. A gateway is on the link without an address next to it.
    route.attributes.retain(|attribute| {
        !matches!(
            attribute,
            RouteAttribute::PrefSource(_)
                | RouteAttribute::CacheInfo(_)
                | RouteAttribute::Expires(_)
                | RouteAttribute::NhId(_)
        )
    });
    route.header.flags = if by_gateway {
        RouteFlags::Onlink
    } else {
        RouteFlags::empty()
    };
    let kind = match route.header.kind {
        RouteType::Unicast => String::new(),
        other => format!(" {other:?}"),
    };
    let by: Vec<String> = devices.iter().map(|d| format!(" by device {d}")).collect();
    let words = format!("{net}{kind}, table {table}{}", by.concat());
    Some((
        by_gateway,
        Recorded {
            is_rule: false,
            words,
            bytes: emitted(&route),
            devices,
        },
    ))
}

fn is_gateway(attribute: &RouteAttribute) -> bool {
    matches!(
        attribute,
        RouteAttribute::Gateway(_) | RouteAttribute::Via(_)
    )
}

fn on_link(hop: &mut RouteNextHop) {
    hop.flags = if hop.attributes.iter().any(is_gateway) {
        RouteNextHopFlags::Onlink
    } else {
        RouteNextHopFlags::empty()
    };
}

/// An address with its last bits turned over.
fn beside(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(a) => Ipv4Addr::from_bits(a.to_bits() ^ u32::from(bits)).into(),
        IpAddr::V6(a) => Ipv6Addr::from_bits(a.to_bits() ^ u128::from(bits)).into(),
    }
}

/// The request that makes what was recorded. What a fresh namespace has already is fine.
pub fn replay(is_rule: bool, bytes: &[u8]) -> Result<Request> {
    let wrong = |e: rtnetlink::packet_core::DecodeError| NetError::Decode(e.to_string());
    // The parsers take the header's size for granted.
    if bytes.len() < 12 {
        return Err(NetError::Decode("a route or rule that is cut short".into()));
    }
    let (message, flags) = if is_rule {
        let rule = RuleMessage::parse(bytes).map_err(wrong)?;
        (RouteNetlinkMessage::NewRule(rule), NLM_F_EXCL)
    } else {
        let route = RouteMessage::parse(bytes).map_err(wrong)?;
        (RouteNetlinkMessage::NewRoute(route), NLM_F_APPEND)
    };
    let what = if is_rule { "rule" } else { "route" };
    let request = Request::new(
        message,
        NLM_F_CREATE | flags,
        format!("cannot make a {what}"),
    );
    Ok(request.or(libc::EEXIST))
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::route::RouteAddress;

    use super::*;

    fn route(to: [u8; 4], len: u8) -> RouteMessage {
        let mut m = RouteMessage::default();
        m.header.address_family = AddressFamily::Inet;
        m.header.destination_prefix_length = len;
        m.header.kind = RouteType::Unicast;
        m.attributes = vec![
            RouteAttribute::Destination(RouteAddress::Inet(to.into())),
            RouteAttribute::PrefSource(RouteAddress::Inet([192, 0, 2, 2].into())),
            RouteAttribute::Oif(7),
        ];
        m
    }

    #[test]
    fn a_route_is_recorded_if_it_says_something_of_the_addresses_or_those_next_to_them() {
        let about = [IpAddr::from([192, 0, 2, 1])];
        for (to, len, is) in [
            ([192, 0, 2, 0], 24, true),
            ([0, 0, 0, 0], 0, true),
            ([192, 0, 2, 2], 32, true),
            ([192, 0, 3, 0], 24, false),
        ] {
            let found = recorded_route(route(to, len), &about);
            assert_eq!(found.is_some(), is, "{to:?}/{len}");
        }
    }

    #[test]
    fn what_was_recorded_is_replayed_without_what_belongs_to_the_node() {
        let mut m = route([0; 4], 0);
        let gateway = RouteAddress::Inet([192, 0, 2, 1].into());
        m.attributes.push(RouteAttribute::Gateway(gateway));
        let about = [IpAddr::from([9, 9, 9, 9])];
        let (by_gateway, recorded) = recorded_route(m.clone(), &about).unwrap();
        assert!(by_gateway);
        assert_eq!(recorded.devices, [7]);
        let request = replay(false, &recorded.bytes).unwrap();
        m.attributes.remove(1);
        m.header.flags = RouteFlags::Onlink;
        assert_eq!(request.message, RouteNetlinkMessage::NewRoute(m));
        assert!(replay(false, &recorded.bytes[..5]).is_err());
        assert!(replay(true, &[]).is_err());
    }
}
