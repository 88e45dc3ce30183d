//! `netd_up_in` and `netd_up_out`: between the outside and the node. What no netd object claims is
//! the node's own and passes untouched.

use netd_common::addr::{V4, V6};
use netd_common::maps::{FlowKind, HostKind, Uplink, flow_flags, port_flags};
use netd_common::publish::from_wire;
use netd_common::reason::DropReason;
use netd_common::stage::{self, Stage};
use netd_common::tuple::Tuple;
use netd_common::wire::{Eth, L4, Packet, Window, ethertype};

use crate::L3;
use crate::family::Net;
use crate::flows::{self, Hop, Leg};
use crate::maps::{PORT, UPLINK};
use crate::skb::Skb;
use crate::verdict::{SENT_BY_NETD, Verdict};
use crate::{publish, rewrite, route, sockets, work};

/// A frame from the outside.
#[inline(always)]
pub fn r#in(skb: Skb) -> Verdict {
    // The stack takes a frame with a priority tag for the device's own.
    if !skb.is_for_host() || (skb.vlan_present() != 0 && skb.vlan_id() != 0) {
        return Verdict::NEXT;
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
        Ok(_) | Err(_) => Verdict::NEXT,
    }
}

/// The node's stack judges what cannot be parsed.
#[inline(always)]
fn parse<A: Net>(skb: Skb) -> Option<&'static Packet<A>> {
    work::ip::<A>(skb).ok()?;
    work::packet::<A>(skb).ok()
}

/// A packet from the outside; of no flow netd knows: [`Stage::UpNew`].
#[inline(never)]
fn packet_in<A: Net>(skb: Skb) -> Verdict {
    Verdict::of(packet_in_inner::<A>(skb))
}

#[inline(always)]
fn packet_in_inner<A: Net>(skb: Skb) -> Result<Verdict, DropReason> {
    let Some(p) = parse::<A>(skb) else {
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

/// A packet that cannot be parsed. The stack would route what it can read, to an endpoint too.
#[inline(always)]
fn unread<A: Net>(skb: Skb) -> Result<Verdict, DropReason> {
    let dst = A::destination(&skb, L3);
    match dst.and_then(Net::host) {
        Some(host) if HostKind::from_code(host.kind) == HostKind::Endpoint => {
            Err(DropReason::Unpublished)
        }
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
        }) => new_in::<V4>(skb),
        Ok(_) => new_in::<V6>(skb),
        Err(reason) => Verdict::of(Err(reason)),
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
    if let Some(hop) = publish::from_outside(skb, p, uplink)? {
        return route::to_endpoint(skb, p, hop);
    }
    if p.ip.dst == A::outside(uplink) {
        return Ok(Verdict::NEXT);
    }
    match p.ip.dst.host() {
        Some(host) if HostKind::from_code(host.kind) == HostKind::Endpoint => {
            Err(DropReason::Unpublished)
        }
        Some(_) | None => Ok(Verdict::NEXT),
    }
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
        Ok(_) | Err(_) => Verdict::NEXT,
    }
}

#[inline(never)]
fn packet_out<A: Net>(skb: Skb) -> Verdict {
    Verdict::of(packet_out_inner::<A>(skb))
}

#[inline(always)]
fn packet_out_inner<A: Net>(skb: Skb) -> Result<Verdict, DropReason> {
    let Some(p) = parse::<A>(skb) else {
        return Ok(Verdict::NEXT);
    };
    if p.l4 == L4::Fragment {
        return Ok(Verdict::stage(Stage::OwnFrag));
    }
    known_out(skb, p)
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
        }) => new_out::<V4>(skb),
        Ok(_) => new_out::<V6>(skb),
        Err(reason) => Verdict::of(Err(reason)),
    }
}

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
    if p.ip.src == A::outside(uplink) {
        return of_itself(skb, p, uplink);
    }
    match p.ip.src.host() {
        Some(host) if HostKind::from_code(host.kind) == HostKind::Endpoint => {
            through_stack(skb, p, host.device)
        }
        // The node speaks with the address of a gateway, which the outside cannot answer.
        Some(host) if host.flags & port_flags::MASQUERADE != 0 => {
            route::begins(p.l4)?;
            let outside = A::outside(uplink);
            if outside.is_unspecified() {
                return Err(DropReason::NoUplinkAddress);
            }
            of_node(skb, p, uplink, outside)
        }
        Some(_) | None => Ok(Verdict::NEXT),
    }
}

/// A new conversation of the node: if a mapping holds its port towards the same remote socket, or the
/// port is a published one, the replies would go to an endpoint, so it leaves by another port.
#[inline(always)]
fn of_itself<A: Net>(skb: Skb, p: &Packet<A>, uplink: &Uplink) -> Result<Verdict, DropReason> {
    let reply: Tuple<A> = p.tuple.reverse();
    if route::begins(p.l4).is_err() {
        return Ok(Verdict::NEXT);
    }
    if A::flows().get_ptr(&reply).is_none() && !sockets::looks_published(p.l4, &reply) {
        return Ok(Verdict::NEXT);
    }
    of_node(skb, p, uplink, p.tuple.src)
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
    wish.kind = FlowKind::Node;
    wish.to = p.tuple;
    wish.to.src = src;
    wish.ports = flows::outside_ports(p.l4, uplink);
    wish.leg = Leg::NODE;
    wish.exit = 0;
    wish.publish = 0;
    wish.client = 0;
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
