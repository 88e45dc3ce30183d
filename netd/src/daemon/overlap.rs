//! The subnets of the uplinks, as networks may come to clash with them.

use super::core::Core;
use crate::model::overlap::Outside;
use crate::net::link::Link;
use crate::net::route::Address;

impl Core {
    /// Follows the addresses of the uplinks. A clash is among the problems for as long as it is there.
    pub(super) fn follow_outside(&mut self, uplinks: &[Link], addresses: &[Address]) {
        let outside = outside(uplinks, addresses);
        self.desired.outside = outside;
    }
}

/// The addresses of the uplinks, link-local ones left out: no network has those.
fn outside(uplinks: &[Link], addresses: &[Address]) -> Vec<Outside> {
    let of = |link: &Link| {
        let ifindex = link.ifindex;
        let uplink = link.name.clone();
        let on = move |a: &&Address| a.ifindex == ifindex && !a.is_link_local();
        let entry = move |a: &Address| Outside {
            uplink: uplink.clone(),
            address: a.net,
        };
        addresses.iter().filter(on).map(entry).collect::<Vec<_>>()
    };
    uplinks.iter().flat_map(of).collect()
}
