//! `netd_up_in` and `netd_up_out`: between the outside and the node. What no netd object claims is
//! the node's own and passes untouched.

use netd_common::addr::{V4, V6};
use netd_common::flow::begins;
use netd_common::maps::{FlowKind, HostKind, Range, Uplink, flow_flags, mapping_flags, port_flags};
use netd_common::nat::PortRange;
use netd_common::planted::UNREAD;
use netd_common::publish::from_wire;
use netd_common::reason::DropReason;
use netd_common::stage::{self, Stage};
use netd_common::wire::{Eth, L4, Packet, Window, ethertype};

use crate::L3;
use crate::family::Net;
use crate::flows::{self, Hop};
use crate::maps::{NODE, PORT, UPLINK};
use crate::skb::Skb;
use crate::sockets::Owner;
use crate::verdict::{SENT_BY_NETD, Verdict};
use crate::{ending, floating, mapping, planted, publish, rewrite, route, sockets, work};

/// A frame from the outside.
#[inline(always)]
pub fn r#in(skb: Skb) -> Verdict {
    // The stack takes a frame with a priority tag for the device's own.
    if skb.vlan_present() != 0 && skb.vlan_id() != 0 {
        return Verdict::NEXT;
    }
    if !skb.is_for_host() {
        return floating::asked(skb, Stage::UpFloat);
    }
    skb.pull(V4::HEADERS);
    match Eth::parse(&skb) {
        Ok(Eth {
            ethertype: ethertype::IPV4,
            ..
        }) => packet_in::<V4>(skb),
        Ok(Eth {
            ethertype: ethertype::IPV6,
            ..
        }) => packet_in::<V6>(skb),
        Ok(Eth {
            ethertype: ethertype::ARP,
            ..
        }) => floating::asked(skb, Stage::UpFloat),
        Ok(_) | Err(_) => Verdict::NEXT,
    }
}

#[inline(always)]
fn parse<A: Net>(skb: Skb) -> Result<&'static Packet<A>, DropReason> {
    work::ip::<A>(skb)?;
    work::packet::<A>(skb)
}

/// A packet from the outside; of no flow netd knows: [`Stage::UpNew`].
#[inline(never)]
fn packet_in<A: Net>(skb: Skb) -> Verdict {
    Verdict::of(packet_in_inner::<A>(skb))
}

#[inline(always)]
fn packet_in_inner<A: Net>(skb: Skb) -> Result<Verdict, DropReason> {
    let Ok(p) = parse::<A>(skb) else {
        return unread::<A>(skb);
    };
    if p.l4 == L4::Fragment {
        return Ok(Verdict::stage(Stage::UpFrag));
    }
    known_in(skb, p)
}

/// A fragment from the outside whose ports are known.
#[inline(never)]
pub fn fragment_in<A: Net>(skb: Skb) -> Verdict {
    let work = work::get::<A>();
    Verdict::of(work.and_then(|work| known_in(skb, &work.packet)))
}

#[inline(always)]
fn known_in<A: Net>(skb: Skb, p: &Packet<A>) -> Result<Verdict, DropReason> {
    match flows::follow(p, skb.len())? {
        Some(hop) => along_in(skb, p, hop),
        None => Ok(Verdict::stage(stage::without_flow::<A>(p.l4, Stage::UpNew))),
    }
}

/// A packet that cannot be parsed: the node's stack judges it. It would route what it can read, to an endpoint
/// too.
#[inline(always)]
fn unread<A: Net>(skb: Skb) -> Result<Verdict, DropReason> {
    if planted::is(UNREAD) {
        return Ok(Verdict::NEXT);
    }
    match A::destination(&skb, L3) {
        Some(dst) if dst.endpoint().is_some() => Err(DropReason::Unpublished),
        Some(_) | None => Ok(Verdict::NEXT),
    }
}

/// [`Stage::UpNew`]: a packet of no flow, already read.
#[inline(always)]
pub fn new(skb: Skb) -> Verdict {
    match Eth::parse(&skb) {
        Ok(Eth {
            ethertype: ethertype::IPV4,
            ..
        }) => new_ip::<V4>(skb),
        Ok(_) => new_ip::<V6>(skb),
        Err(reason) => Verdict::of(Err(reason)),
    }
}

/// A published port, a mapping, or neither. The functions stand side by side, not one in the other: stack.
#[inline(always)]
fn new_ip<A: Net>(skb: Skb) -> Verdict {
    match new_in::<A>(skb) {
        Verdict::OPEN => match mapped::<A>(skb) {
            Verdict::OPEN => Verdict::of(for_nobody::<A>(skb)),
            decided => decided,
        },
        decided => decided,
    }
}

#[inline(never)]
fn new_in<A: Net>(skb: Skb) -> Verdict {
    Verdict::of(new_in_inner::<A>(skb))
}

#[inline(always)]
fn new_in_inner<A: Net>(skb: Skb) -> Result<Verdict, DropReason> {
    let p = &work::get::<A>()?.packet;
    // SAFETY: a map value stays readable for the run of the program.
    let Some(uplink) = (unsafe { UPLINK.get(&skb.ifindex()) }) else {
        return Ok(Verdict::NEXT);
    };
    from_wire(p.ip.src, p.ip.dst)?;
    if floating::has(p.ip.dst) {
        return Ok(Verdict::stage(Stage::UpFloat));
    }
    if let Some(hop) = publish::from_outside(skb, p, uplink)? {
        return route::to_endpoint(skb, p, hop);
    }
    Ok(Verdict::OPEN)
}

/// A packet for a mapping that begins a conversation, or may: to the endpoint, if the filter admits it. What
/// a socket of the node waits for is the node's, also where that socket is younger than the mapping.
#[inline(never)]
fn mapped<A: Net>(skb: Skb) -> Verdict {
    Verdict::of(mapped_inner::<A>(skb))
}

#[inline(always)]
fn mapped_inner<A: Net>(skb: Skb) -> Result<Verdict, DropReason> {
    let work = work::get::<A>()?;
    let p = &work.packet;
    let Some(called) = mapping::find(p) else {
        return Ok(Verdict::OPEN);
    };
    if called.endpoint == 0 || sockets::owner(skb, p.l4, &p.tuple) != Owner::Nobody {
        return Ok(Verdict::NEXT);
    }
    let wish = &mut work.wish;
    mapping::lead_in(wish, p, called);
    if called.flags & mapping_flags::STRICT != 0 {
        wish.options = port_flags::STRICT;
    }
    let hop = flows::begin::<A>(skb)?;
    route::to_endpoint(skb, p, hop)
}

/// A packet that is nothing of netd's: the node's. Only where a SYN to a port that masquerade uses finds no
/// socket, nobody answers: the caller may be about to be called by an endpoint, and a RST would end that
/// (RFC 5382 REQ-4).
#[inline(always)]
fn for_nobody<A: Net>(skb: Skb) -> Result<Verdict, DropReason> {
    let p = &work::get::<A>()?.packet;
    if p.ip.dst.endpoint().is_some() {
        return Err(DropReason::Unpublished);
    }
    if let L4::Tcp(flags) = p.l4 {
        let silent = NODE.get(0).is_some_and(|n| n.silent(p.tuple.dport.get()));
        if silent && begins(flags) && p.ip.dst.is_local() && !served(skb, p) {
            return Err(DropReason::UnsolicitedSyn);
        }
    }
    Ok(Verdict::NEXT)
}

/// Whether a socket of the node waits for a packet.
#[inline(never)]
fn served<A: Net>(skb: Skb, p: &Packet<A>) -> bool {
    sockets::owner(skb, p.l4, &p.tuple) != Owner::Nobody
}

/// A packet of a flow netd knows.
#[inline(always)]
fn along_in<A: Net>(skb: Skb, p: &Packet<A>, hop: &Hop<A>) -> Result<Verdict, DropReason> {
    if hop.flags & flow_flags::TO_ENDPOINT != 0 {
        return route::to_endpoint(skb, p, hop);
    }
    if hop.flags & flow_flags::TO_NODE != 0 {
        rewrite::apply(skb, p, &hop.to, 0)?;
    }
    Ok(Verdict::NEXT)
}

/// A frame to the outside.
#[inline(always)]
pub fn out(skb: Skb) -> Verdict {
    if skb.mark() == SENT_BY_NETD {
        skb.set_mark(0);
        return Verdict::NEXT;
    }
    if skb.vlan_present() != 0 {
        return Verdict::NEXT;
    }
    skb.pull(V4::HEADERS);
    match Eth::parse(&skb) {
        Ok(Eth {
            ethertype: ethertype::IPV4,
            ..
        }) => packet_out::<V4>(skb),
        Ok(Eth {
            ethertype: ethertype::IPV6,
            ..
        }) => packet_out::<V6>(skb),
        Ok(Eth {
            ethertype: ethertype::ARP,
            ..
        }) => floating::asked(skb, Stage::OwnFloat),
        Ok(_) | Err(_) => Verdict::NEXT,
    }
}

#[inline(never)]
fn packet_out<A: Net>(skb: Skb) -> Verdict {
    Verdict::of(packet_out_inner::<A>(skb))
}

#[inline(always)]
fn packet_out_inner<A: Net>(skb: Skb) -> Result<Verdict, DropReason> {
    let Ok(p) = parse::<A>(skb) else {
        return Ok(unread_out::<A>(skb));
    };
    if p.l4 == L4::Fragment {
        return Ok(Verdict::stage(Stage::OwnFrag));
    }
    known_out(skb, p)
}

/// What cannot be read cannot be translated either: nothing with the address of an endpoint that the outside
/// does not know leaves so.
#[inline(never)]
fn unread_out<A: Net>(skb: Skb) -> Verdict {
    let host = A::source(&skb, L3).and_then(Net::endpoint);
    match host {
        Some(host) if host.flags & port_flags::MASQUERADE != 0 => {
            Verdict::of(Err(DropReason::BadL4))
        }
        Some(_) | None => Verdict::NEXT,
    }
}

/// A fragment to the outside whose ports are known.
#[inline(never)]
pub fn fragment_out<A: Net>(skb: Skb) -> Verdict {
    let work = work::get::<A>();
    Verdict::of(work.and_then(|work| known_out(skb, &work.packet)))
}

#[inline(always)]
fn known_out<A: Net>(skb: Skb, p: &Packet<A>) -> Result<Verdict, DropReason> {
    if let Some(hop) = flows::follow(p, skb.len())? {
        if hop.flags & flow_flags::TO_ENDPOINT != 0 {
            return floating::hand_over(skb, p, &hop.to, hop);
        }
        // A flow of the node that had to change its port, or an endpoint's that took the stack.
        rewrite::apply(skb, p, &hop.to, 0)?;
        return Ok(Verdict::NEXT);
    }
    Ok(Verdict::stage(stage::without_flow::<A>(p.l4, Stage::UpOwn)))
}

/// [`Stage::UpOwn`]: a packet to the outside of no flow, already read.
#[inline(always)]
pub fn own(skb: Skb) -> Verdict {
    match Eth::parse(&skb) {
        Ok(Eth {
            ethertype: ethertype::IPV4,
            ..
        }) => own_ip::<V4>(skb),
        Ok(_) => own_ip::<V6>(skb),
        Err(reason) => Verdict::of(Err(reason)),
    }
}

/// The functions stand side by side, not one in the other: stack.
#[inline(always)]
fn own_ip<A: Net>(skb: Skb) -> Verdict {
    match new_out::<A>(skb) {
        Verdict::OPEN => {
            ending::give_way::<A>();
            without_ports::<A>(skb)
        }
        decided => decided,
    }
}

/// [`Verdict::OPEN`]: the node's own, without ports; who gets the answers is at `Work::key`.
#[inline(never)]
fn new_out<A: Net>(skb: Skb) -> Verdict {
    Verdict::of(new_out_inner::<A>(skb))
}

#[inline(always)]
fn new_out_inner<A: Net>(skb: Skb) -> Result<Verdict, DropReason> {
    let p = &work::get::<A>()?.packet;
    // SAFETY: a map value stays readable for the run of the program.
    let Some(uplink) = (unsafe { UPLINK.get(&skb.ifindex()) }) else {
        return Ok(Verdict::NEXT);
    };
    if floating::concerns(p) {
        return Ok(Verdict::stage(Stage::OwnFloat));
    }
    if p.ip.src == A::outside(uplink) {
        return of_itself(skb, p, uplink);
    }
    if let Some(host) = p.ip.src.endpoint() {
        return through_stack(skb, p, host.device);
    }
    match p.ip.src.host() {
        // The node speaks with the address of a gateway, which the outside cannot answer.
        Some(host)
            if host.kind == HostKind::Gateway.code()
                && host.flags & port_flags::MASQUERADE != 0 =>
        {
            route::begins(p, true)?;
            let outside = A::outside(uplink);
            if outside.is_unspecified() {
                return Err(DropReason::NoUplinkAddress);
            }
            of_node(skb, p, uplink, outside)
        }
        Some(_) | None => Ok(Verdict::NEXT),
    }
}

/// A new conversation of the node. If a flow of an endpoint has its port towards the same remote socket, or
/// the port is a published one, the replies would go to an endpoint, so it leaves by another port. So it does
/// where an endpoint's mapping holds the port, unless a socket of the node waits for the replies: to such a one
/// they go before the mapping is asked, and a service has to answer from the port that was asked.
#[inline(always)]
fn of_itself<A: Net>(skb: Skb, p: &Packet<A>, uplink: &Uplink) -> Result<Verdict, DropReason> {
    if route::begins(p, true).is_err() {
        return Ok(Verdict::NEXT);
    }
    // Not on the stack, which is deep below.
    let work = work::get::<A>()?;
    work.key = p.tuple.reverse();
    let reply = &work.key;
    if p.l4 == L4::Other {
        if p.ip.dst.is_multicast() {
            return Ok(Verdict::NEXT);
        }
        return Ok(Verdict::OPEN);
    }
    let clashes = flows::entry(reply).is_some()
        || sockets::looks_published(p.l4, reply)
        || (mapping::is_of_endpoint(p.tuple.src, p.tuple.sport, p.tuple.proto)
            && sockets::owner_of(skb, p.l4, reply) == Owner::Nobody);
    if !clashes {
        return Ok(Verdict::NEXT);
    }
    of_node(skb, p, uplink, p.tuple.src)
}

/// A packet of the node's own that has no ports, and cannot leave by another one: the endpoint's flow that was
/// in its way has ended, and it is tracked so that none begins while it lasts.
#[inline(never)]
fn without_ports<A: Net>(skb: Skb) -> Verdict {
    let Ok(work) = work::get::<A>() else {
        return Verdict::NEXT;
    };
    let p = &work.packet;
    // SAFETY: a map value stays readable for the run of the program.
    let Some(uplink) = (unsafe { UPLINK.get(&skb.ifindex()) }) else {
        return Verdict::NEXT;
    };
    // Untracked where there is no room.
    of_node(skb, p, uplink, p.tuple.src).unwrap_or(Verdict::NEXT)
}

/// Begins a flow of the node that leaves with the address `src` and, if it must, another port.
#[inline(always)]
fn of_node<A: Net>(
    skb: Skb,
    p: &Packet<A>,
    uplink: &Uplink,
    src: A,
) -> Result<Verdict, DropReason> {
    let wish = &mut work::get::<A>()?.wish;
    wish.reset(FlowKind::Node, p.tuple);
    wish.to.src = src;
    wish.ports = flows::outside_ports(p.l4, uplink, Range::default());
    wish.maps = wish.ports != PortRange::NONE;
    let hop = flows::begin::<A>(skb)?;
    rewrite::apply(skb, p, &hop.to, 0)?;
    Ok(Verdict::NEXT)
}

/// A packet of an endpoint that the node's stack has routed: masqueraded here.
#[inline(always)]
fn through_stack<A: Net>(skb: Skb, p: &Packet<A>, device: u32) -> Result<Verdict, DropReason> {
    // SAFETY: a map value stays readable for the run of the program.
    let port = unsafe { PORT.get(&device) }.ok_or(DropReason::NoPort)?;
    let hop = route::open_outward_from(skb, port, device, p, skb.ifindex())?;
    rewrite::apply(skb, p, &hop.to, 0)?;
    Ok(Verdict::NEXT)
}
