//! What sits on a device besides TCX links: clsact filters and XDP programs. Reads only.

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage, LinkXdp};
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage};

use super::{Netlink, Result};

/// A clsact filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// `ingress` or `egress`.
    pub side: &'static str,
    /// Its kind, say `bpf`.
    pub kind: String,
    /// Its priority.
    pub priority: u16,
}

/// The filters of a device's clsact qdisc; a device without one has none.
pub fn filters(netlink: &mut Netlink, ifindex: u32) -> Result<Vec<Filter>> {
    let mut found = Vec::new();
    for (side, minor) in [
        ("ingress", TcHandle::MIN_INGRESS),
        ("egress", TcHandle::MIN_EGRESS),
    ] {
        let mut ask = TcMessage::default();
        ask.header.index = ifindex.cast_signed();
        ask.header.parent = TcHandle {
            major: TcHandle::CLSACT.major,
            minor,
        };
        for message in netlink.dump(RouteNetlinkMessage::GetTrafficFilter(ask))? {
            let RouteNetlinkMessage::NewTrafficFilter(m) = message else {
                continue;
            };
            let kind = m.attributes.iter().find_map(|a| match a {
                TcAttribute::Kind(kind) => Some(kind.clone()),
                _ => None,
            });
            let filter = Filter {
                side,
                kind: kind.unwrap_or_default(),
                // TC_H_MAKE(priority << 16, protocol)
                priority: (m.header.info >> 16) as u16,
            };
            // The kernel tells a filter and each of its elements.
            if !found.contains(&filter) {
                found.push(filter);
            }
        }
    }
    Ok(found)
}

/// Ids of the XDP programs of a device.
pub fn xdp(netlink: &mut Netlink, ifindex: u32) -> Result<Vec<u32>> {
    let mut ask = LinkMessage::default();
    ask.header.index = ifindex;
    let Some(RouteNetlinkMessage::NewLink(m)) = netlink.get(RouteNetlinkMessage::GetLink(ask))?
    else {
        return Ok(Vec::new());
    };
    let mut ids = Vec::new();
    for attribute in &m.attributes {
        let LinkAttribute::Xdp(all) = attribute else {
            continue;
        };
        for item in all {
            if let LinkXdp::ProgId(id)
            | LinkXdp::DrvProgId(id)
            | LinkXdp::SkbProgId(id)
            | LinkXdp::HwProgId(id) = item
                && *id != 0
                && !ids.contains(id)
            {
                ids.push(*id);
            }
        }
    }
    Ok(ids)
}
