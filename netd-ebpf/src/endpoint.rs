//! `netd_ep_out` and `netd_ep_in`: what leaves an endpoint, and what reaches it the slow way.

use netd_common::addr::{Mac, V4, V6, is_group};
use netd_common::guard::{self, Source};
use netd_common::learn::learns;
use netd_common::maps::{Port, port_flags};
use netd_common::planted::SOURCE;
use netd_common::reason::DropReason;
use netd_common::stage::{self, Stage};
use netd_common::wire::group::{is_spanning_tree, stays_on_its_link};
use netd_common::wire::{Eth, Window, ethertype};

use crate::L3;
use crate::family::Net;
use crate::maps::PORT;
use crate::skb::Skb;
use crate::verdict::{SENT_BY_NETD, Verdict};
use crate::{learn, neighbour, planted, publish, route, switch, work};

/// A frame from an endpoint.
#[inline(always)]
pub fn out(skb: Skb) -> Result<Verdict, DropReason> {
    // SAFETY: a map value stays readable for the run of the program.
    let port = unsafe { PORT.get(&skb.ifindex()) }.ok_or(DropReason::NoPort)?;
    skb.pull(V4::HEADERS);
    let mut eth = Eth::parse(&skb)?;
    if guard::mac(port, eth.src).is_err() {
        let verdict = learn::source(skb, port);
        if verdict != Verdict::OPEN {
            return Ok(verdict);
        }
        // Read again, so that nothing of it has to be kept on the stack meanwhile.
        eth = Eth::parse(&skb)?;
    }
    if skb.vlan_present() != 0 {
        return Ok(other(skb, port));
    }
    match eth.ethertype {
        ethertype::IPV4 => match near::<V4>(skb, port) {
            Verdict::OPEN => Ok(ip::<V4>(skb, port)),
            decided => Ok(decided),
        },
        ethertype::IPV6 => match near::<V6>(skb, port) {
            Verdict::OPEN => match neighbour::nd(skb, port) {
                Verdict::OPEN => Ok(ip::<V6>(skb, port)),
                Verdict::ASKED => Ok(neighbour::advertise(skb, port)),
                decided => Ok(decided),
            },
            decided => Ok(decided),
        },
        ethertype::ARP => match neighbour::arp(skb, port) {
            Verdict::OPEN => Ok(unanswered(skb, port)),
            decided => Ok(decided),
        },
        _ => Ok(other(skb, port)),
    }
}

/// Neither IP nor ARP, or VLAN-tagged: netd cannot tell what it says, so it could say anything. Where
/// the network does not ask for all of it, the one exception are spanning tree messages of bridges
/// behind the switch port: they find loops that netd cannot see.
#[inline(never)]
fn other(skb: Skb, port: &'static Port) -> Verdict {
    let eth = match Eth::parse(&skb) {
        Ok(eth) => eth,
        Err(reason) => return Verdict::of(Err(reason)),
    };
    // VLAN 0 is a priority only: the receiver takes what is behind the tag as it stands, unguarded.
    let priority = skb.vlan_present() != 0 && skb.vlan_id() == 0;
    if port.flags & port_flags::ANY_ETHERTYPE != 0 && !priority {
        return Verdict::of(if stays_on_its_link(eth.dst) {
            Err(DropReason::ReservedGroup)
        } else {
            deliver(skb, port, eth.dst)
        });
    }
    if skb.vlan_present() != 0 || !learns(port) {
        return Verdict::of(Err(DropReason::EtherType));
    }
    if is_spanning_tree(&skb, &eth) {
        return switch::flood(skb, port);
    }
    Verdict::of(Err(if stays_on_its_link(eth.dst) {
        DropReason::ReservedGroup
    } else {
        DropReason::EtherType
    }))
}

/// An ARP packet for others. A function of its own, which reads the destination again: the entry's
/// frame is below every other one, and Linux 6.1 rounds it up.
#[inline(never)]
fn unanswered(skb: Skb, port: &'static Port) -> Verdict {
    let dst = skb.load::<6>(0).ok_or(DropReason::Truncated);
    Verdict::of(dst.and_then(|dst| deliver(skb, port, dst)))
}

/// The common case in one go, nothing written and nothing called: from the port's first address to a
/// known MAC of the segment. [`Verdict::OPEN`]: anything else, which the stages below judge in full.
#[inline(never)]
fn near<A: Net>(skb: Skb, port: &'static Port) -> Verdict {
    let Some(dst) = skb.load::<6>(0) else {
        return Verdict::OPEN;
    };
    if is_group(dst) || dst == port.gateway_mac {
        return Verdict::OPEN;
    }
    let Ok(ip) = A::parse(&skb, L3) else {
        return Verdict::OPEN;
    };
    // Neighbour discovery, options and what DHCP clients hear are looked into.
    if !A::IS_V4 && ip.proto == A::ICMP {
        return Verdict::OPEN;
    }
    if A::IS_V4 && usize::from(ip.l4) != L3 + A::HEADER {
        return Verdict::OPEN;
    }
    if ip.dst.is_loopback() || guard::dhcp(port, &skb, &ip).is_err() {
        return Verdict::OPEN;
    }
    if guard::source(port, ip.src, ip.dst) != Source::Own {
        return Verdict::OPEN;
    }
    switch::to_endpoint(skb, port, dst)
}

/// An IP packet from an endpoint. The functions stand side by side, not one in the other: stack.
#[inline(always)]
fn ip<A: Net>(skb: Skb, port: &'static Port) -> Verdict {
    match packet::<A>(skb, port) {
        Verdict::OPEN => match route::from_endpoint::<A>(skb, port) {
            Verdict::OPEN => match work::get::<A>() {
                Ok(work) => Verdict::stage(stage::without_flow::<A>(work.packet.l4, Stage::EpNew)),
                Err(reason) => Verdict::of(Err(reason)),
            },
            decided => decided,
        },
        decided => decided,
    }
}

/// [`Stage::EpNew`]: a packet for the gateway's MAC, already read, and of no flow.
#[inline(always)]
pub fn new(skb: Skb) -> Result<Verdict, DropReason> {
    // SAFETY: a map value stays readable for the run of the program.
    let port = unsafe { PORT.get(&skb.ifindex()) }.ok_or(DropReason::NoPort)?;
    Ok(match Eth::parse(&skb)?.ethertype {
        ethertype::IPV4 => new_ip::<V4>(skb, port),
        _ => new_ip::<V6>(skb, port),
    })
}

#[inline(always)]
fn new_ip<A: Net>(skb: Skb, port: &'static Port) -> Verdict {
    match route::new_from_endpoint::<A>(skb, port) {
        Verdict::NODE => match publish::from_endpoint::<A>(skb, port) {
            Verdict::OPEN => publish::mapped::<A>(skb, port),
            decided => decided,
        },
        decided => decided,
    }
}

/// Its source must be the endpoint's. [`Verdict::OPEN`]: for the gateway's MAC, so route it.
#[inline(never)]
fn packet<A: Net>(skb: Skb, port: &'static Port) -> Verdict {
    Verdict::of(packet_inner::<A>(skb, port))
}

#[inline(always)]
fn packet_inner<A: Net>(skb: Skb, port: &'static Port) -> Result<Verdict, DropReason> {
    // `neighbour::nd` has read the header of an IPv6 packet already.
    let ip = if A::IS_V4 {
        work::ip::<A>(skb)?
    } else {
        &work::get::<A>()?.packet.ip
    };
    if !(planted::is(SOURCE) && ip.later && usize::from(ip.l4) != L3 + A::HEADER) {
        neighbour::owned(
            guard::source(port, ip.src, ip.dst),
            port,
            ip.src,
            DropReason::SpoofedIp,
        )?;
    }
    if usize::from(ip.l4) != L3 + A::HEADER {
        skb.pull(u32::from(ip.l4) + 4);
        A::options(&skb, L3, ip)?;
    }
    guard::dhcp(port, &skb, ip)?;
    if ip.dst.is_loopback() {
        return Err(DropReason::Martian);
    }
    let dst = skb.load::<6>(0).ok_or(DropReason::Truncated)?;
    if port.outer != 0 && dst == port.gateway_mac {
        return Ok(Verdict::OPEN);
    }
    deliver(skb, port, dst)
}

/// By MAC, inside the segment.
#[inline(always)]
fn deliver(skb: Skb, port: &'static Port, dst: Mac) -> Result<Verdict, DropReason> {
    if is_group(dst) {
        Ok(switch::group(skb, port, dst))
    } else {
        switch::forward(skb, port, dst)
    }
}

/// A frame on its way out of an endpoint's node-side device. Only netd's programs send there.
#[inline(always)]
pub fn r#in(skb: Skb) -> Result<Verdict, DropReason> {
    if skb.mark() != SENT_BY_NETD {
        return Err(DropReason::NotOurs);
    }
    skb.set_mark(0);
    Ok(Verdict::NEXT)
}
