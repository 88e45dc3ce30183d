//! The node's neighbour entries on its gateway devices.

use std::net::IpAddr;

use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Netlink, Request, Result};

/// Forgets who had addresses on a device: another endpoint may have them soon, with another MAC.
pub fn forget(netlink: &mut Netlink, ifindex: u32, ips: &[IpAddr]) -> Result<()> {
    let entries = ips.iter().map(|ip| {
        let mut m = NeighbourMessage::default();
        m.header.family = match ip {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        };
        m.header.ifindex = ifindex;
        m.attributes
            .push(NeighbourAttribute::Destination((*ip).into()));
        let what = format!("cannot forget the neighbour {ip}");
        Request::new(RouteNetlinkMessage::DelNeighbour(m), 0, what).or(libc::ENOENT)
    });
    netlink.batch(entries.collect())
}
