//! Addresses the node has no more: the flows and mappings that stood on them end, so that what comes next begins
//! with another address.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::core::Core;
use super::uplink::Uplink;
use crate::datapath::FlowRecord;
use netd_common::maps::FlowKind;

/// An uplink, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    /// Administratively up, or the only way out.
    usable: bool,
    /// What it has now, in each family.
    now: [Option<IpAddr>; 2],
    /// What it had last, in each family.
    last: [Option<IpAddr>; 2],
}

impl Core {
    /// Compares the addresses traffic can stand on with those of the last time.
    pub(super) fn end_flows_of_lost_addresses(&mut self, locals: &BTreeSet<IpAddr>) {
        let another_way = self.uplinks.values().any(|u| u.up && u.has_default);
        let seen = |u: &Uplink| Seen {
            usable: u.up || !another_way,
            now: [u.v4(), u.v6()],
            last: u.last,
        };
        let uplinks: Vec<Seen> = self.uplinks.values().map(seen).collect();
        let standing = standing(&uplinks, locals);
        let before = std::mem::replace(&mut self.standing, standing);
        let lost: BTreeSet<IpAddr> = before.difference(&self.standing).copied().collect();
        self.end_flows_on(&lost);
    }

    /// Ends what stands on these addresses, and frees the mappings.
    pub(super) fn end_flows_on(&mut self, lost: &BTreeSet<IpAddr>) {
        if lost.is_empty() {
            return;
        }
        let datapath = &mut self.node.datapath;
        let ended = datapath.flows_remove(&|flow| stands_on(flow, lost));
        let ended = ended.and_then(|flows| Ok((flows, datapath.mappings_free(lost)?)));
        match ended {
            Ok((0, 0)) => {}
            Ok((flows, mappings)) => {
                let all: Vec<String> = lost.iter().map(ToString::to_string).collect();
                let all = all.join(", ");
                tracing::info!("{flows} flows ended and {mappings} mappings freed with {all}");
            }
            Err(e) => tracing::warn!("{e}"),
        }
    }
}

/// The addresses that traffic can stand on: those of the node, but not of an uplink that is down while there is
/// another way out, and those that an uplink had last and nothing has taken the place of: a device that goes down
/// and comes up again loses its IPv6 addresses for that time.
fn standing(uplinks: &[Seen], locals: &BTreeSet<IpAddr>) -> BTreeSet<IpAddr> {
    let mut all = locals.clone();
    for uplink in uplinks {
        let addresses = uplink.now.iter().zip(&uplink.last);
        for (now, last) in addresses {
            let stands = now.or(*last);
            if uplink.usable {
                all.extend(stands);
            } else if let Some(address) = stands {
                all.remove(&address);
            }
        }
    }
    all
}

/// Whether the outside knows a flow by one of these addresses. What is called by a floating address is another
/// matter: that is nobody's on the node.
fn stands_on(flow: &FlowRecord, addresses: &BTreeSet<IpAddr>) -> bool {
    match flow.kind {
        FlowKind::Masquerade | FlowKind::Node => addresses.contains(&flow.nat_src.0),
        FlowKind::Publish | FlowKind::Inbound => addresses.contains(&flow.dst.0),
        FlowKind::Hairpin => addresses.contains(&flow.nat_src.0) || addresses.contains(&flow.dst.0),
        FlowKind::Forward | FlowKind::Floating => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn locals(all: &[&str]) -> BTreeSet<IpAddr> {
        all.iter().map(|a| a.parse().unwrap()).collect()
    }

    fn uplink(now: [Option<IpAddr>; 2], last: [Option<IpAddr>; 2]) -> Seen {
        Seen {
            usable: true,
            now,
            last,
        }
    }

    #[test]
    fn an_address_that_went_stands_until_another_takes_its_place() {
        let last = [Some(ip("192.0.2.2")), Some(ip("2001:db8::2"))];
        let flapped = uplink([Some(ip("192.0.2.2")), None], last);
        let all = standing(&[flapped], &locals(&["192.0.2.2"]));
        assert_eq!(all, locals(&["192.0.2.2", "2001:db8::2"]));
        let new = uplink([Some(ip("192.0.2.9")), None], [Some(ip("192.0.2.9")), None]);
        let all = standing(&[new], &locals(&["192.0.2.9"]));
        assert_eq!(all, locals(&["192.0.2.9"]));
    }

    #[test]
    fn an_uplink_that_is_down_is_none_while_there_is_another_way() {
        let mut down = uplink(
            [Some(ip("192.0.2.2")), None],
            [Some(ip("192.0.2.2")), Some(ip("2001:db8::2"))],
        );
        let up = uplink(
            [Some(ip("198.51.100.2")), None],
            [Some(ip("198.51.100.2")), None],
        );
        let there = locals(&["192.0.2.2", "198.51.100.2"]);
        let all = standing(&[down.clone(), up.clone()], &there);
        assert_eq!(all.len(), 3);
        down.usable = false;
        assert_eq!(standing(&[down, up], &there), locals(&["198.51.100.2"]));
    }

    #[test]
    fn flows_stand_on_the_address_the_outside_knows_them_by() {
        let end = |a: &str| (a.parse().unwrap(), 1);
        let flow = |kind| FlowRecord {
            kind,
            proto: 17,
            endpoint: 1,
            network: 1,
            publish: 0,
            client: 0,
            src: end("10.0.0.2"),
            dst: end("192.0.2.1"),
            nat_src: end("192.0.2.2"),
            nat_dst: end("10.0.0.3"),
            original: (0, 0),
            reply: (0, 0),
            state: "",
            idle_ns: 0,
            expires_ns: 0,
        };
        let stands = |kind, address: &str| stands_on(&flow(kind), &locals(&[address]));
        let kinds = |address| {
            let all = [
                FlowKind::Masquerade,
                FlowKind::Publish,
                FlowKind::Node,
                FlowKind::Forward,
                FlowKind::Hairpin,
                FlowKind::Inbound,
                FlowKind::Floating,
            ];
            all.map(|kind| stands(kind, address))
        };
        let by_source = [true, false, true, false, true, false, false];
        let by_destination = [false, true, false, false, true, true, false];
        assert_eq!(kinds("192.0.2.2"), by_source);
        assert_eq!(kinds("192.0.2.1"), by_destination);
        assert_eq!(kinds("10.0.0.2"), [false; 7]);
    }
}
