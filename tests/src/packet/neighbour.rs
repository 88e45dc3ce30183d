//! ARP packets and neighbour discovery messages.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::ArpOperation;

use super::hosts::Host;
use crate::lab::frames;

/// `::`.
pub const NOBODY6: Ipv6Addr = Ipv6Addr::UNSPECIFIED;

/// An ARP request of `from` for an address, broadcast.
pub fn arp_request(from: &Host, target: Ipv4Addr) -> Vec<u8> {
    arp_said(from.mac, (from.mac, from.v4), target)
}

/// An ARP request whose frame comes from `mac` and which speaks for `sender`.
pub fn arp_said(mac: [u8; 6], sender: ([u8; 6], Ipv4Addr), target: Ipv4Addr) -> Vec<u8> {
    let ask = ArpOperation::REQUEST;
    frames::arp(mac, frames::BROADCAST, ask, sender, ([0; 6], target)).expect("a frame")
}

/// An ARP reply: `who` tells `asker` its MAC.
pub fn arp_reply(who: &Host, asker: &Host) -> Vec<u8> {
    let sender = (who.mac, who.v4);
    let target = (asker.mac, asker.v4);
    frames::arp(who.mac, asker.mac, ArpOperation::REPLY, sender, target).expect("a frame")
}

/// The group a solicitation for an address goes to (RFC 4291 section 2.7.1).
pub fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    let t = target.octets();
    Ipv6Addr::from([
        0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, t[13], t[14], t[15],
    ])
}

/// The MAC of an IPv6 group (RFC 2464 section 7).
pub fn group_mac(group: Ipv6Addr) -> [u8; 6] {
    let g = group.octets();
    [0x33, 0x33, g[12], g[13], g[14], g[15]]
}

/// A neighbour solicitation from `mac` and `src` for `target`, with this link-layer address option.
pub fn solicitation(
    mac: [u8; 6],
    src: Ipv6Addr,
    target: Ipv6Addr,
    option: Option<[u8; 6]>,
) -> Vec<u8> {
    let group = solicited_node(target);
    let mut rest = target.octets().to_vec();
    if let Some(said) = option {
        rest.extend([1, 1]);
        rest.extend(said);
    }
    frames::icmpv6(mac, group_mac(group), (src, group), 135, [0; 4], &rest).expect("a frame")
}

/// The answer to a solicitation: `who` tells `asker` its MAC; `flags` are router, solicited, override.
pub fn advertisement_to(asker: ([u8; 6], Ipv6Addr), who: &Host, flags: u8) -> Vec<u8> {
    let rest = [&who.v6.octets()[..], &[2, 1], &who.mac].concat();
    let (mac, ip) = asker;
    frames::icmpv6(who.mac, mac, (who.v6, ip), 136, [flags, 0, 0, 0], &rest).expect("a frame")
}
