//! Floating IPs: packets for one, from outside, from endpoints and from the node; what its endpoint sends
//! to the outside; ARP and neighbour discovery for it on the uplink. All of it concerns packets of no flow:
//! those that follow are any flow's.

use netd_common::addr::{Mac, V4, V6};
use netd_common::maps::{Float, FlowKind, Port, node_flags, port_flags};
use netd_common::reason::DropReason;
use netd_common::stage::Stage;
use netd_common::trace::Point;
use netd_common::tuple::Tuple;
use netd_common::wire::arp::{Arp, Op};
use netd_common::wire::nd::{self, Kind};
use netd_common::wire::{Eth, Family, L4, Packet, Window, ethertype};

use crate::L3;
use crate::family::Net;
use crate::flows::{self, Hop};
use crate::maps::{FLOAT, NODE, PORT};
use crate::skb::{Skb, receive, send};
use crate::trace::trace;
use crate::verdict::{SENT_BY_NETD, Verdict};
use crate::wish::Leg;
use crate::work::{self, Answer};
use crate::{neighbour, publish, rewrite, route, sockets};

/// Whether the node has floating IPs at all: nothing is looked up where it has none.
#[inline(always)]
fn any() -> bool {
    match NODE.get(0) {
        Some(node) => node.flags & node_flags::FLOATS != 0,
        None => false,
    }
}

/// The endpoint behind an address.
#[inline(always)]
fn holder<A: Net>(addr: A) -> Option<&'static Float> {
    // SAFETY: a map value stays readable for the run of the program.
    unsafe { FLOAT.get(&addr.to_16()) }
}

/// Whether an address is a floating one.
#[inline(always)]
pub fn has<A: Net>(addr: A) -> bool {
    any() && holder(addr).is_some()
}

/// Whether a packet of the node's own, of no flow, is for a floating address or may ask who has one.
#[inline(always)]
pub fn concerns<A: Net>(p: &Packet<A>) -> bool {
    let question = !A::IS_V4 && p.l4 == L4::Icmp(nd::kind::SOLICITATION);
    any() && (question || holder(p.ip.dst).is_some())
}

/// A frame of an uplink that is no IP packet for this host: a question about a floating address goes on in
/// `stage`, anything else is the node's.
#[inline(never)]
pub fn asked(skb: Skb, stage: Stage) -> Verdict {
    /// `pkt_type` of broadcasts and multicasts; above are frames for other hosts.
    const GROUP: u32 = 2;
    if skb.pkt_type() > GROUP && stage == Stage::UpFloat {
        return Verdict::NEXT;
    }
    if !any() {
        return Verdict::NEXT;
    }
    skb.pull(V6::HEADERS);
    match Eth::parse(&skb) {
        Ok(Eth {
            ethertype: ethertype::ARP,
            ..
        }) => Verdict::stage(stage),
        Ok(Eth {
            ethertype: ethertype::IPV6,
            ..
        }) if skb.load::<1>(L3 + 6) == Some([V6::ICMP]) => Verdict::stage(stage),
        Ok(_) | Err(_) => Verdict::NEXT,
    }
}

/// [`Stage::UpFloat`]: a question from outside, or a packet for a floating address that [`asked`] or
/// `netd_up_new` has read.
#[inline(always)]
pub fn from_outside(skb: Skb) -> Verdict {
    match Eth::parse(&skb) {
        Ok(Eth {
            ethertype: ethertype::ARP,
            ..
        }) => arp(skb, false),
        Ok(Eth {
            ethertype: ethertype::IPV4,
            ..
        }) => packet_in::<V4>(skb),
        Ok(_) => match solicited(skb, false) {
            Verdict::ASKED => advertise(skb, false),
            Verdict::OPEN if skb.is_for_host() => packet_in::<V6>(skb),
            Verdict::OPEN => Verdict::NEXT,
            decided => decided,
        },
        Err(reason) => Verdict::of(Err(reason)),
    }
}

/// [`Stage::OwnFloat`]: the same on the way out of an uplink, from the node itself.
#[inline(always)]
pub fn from_node(skb: Skb) -> Verdict {
    match Eth::parse(&skb) {
        Ok(Eth {
            ethertype: ethertype::ARP,
            ..
        }) => arp(skb, true),
        Ok(Eth {
            ethertype: ethertype::IPV4,
            ..
        }) => packet_out::<V4>(skb),
        Ok(_) => match solicited(skb, true) {
            Verdict::ASKED => advertise(skb, true),
            Verdict::OPEN => packet_out::<V6>(skb),
            decided => decided,
        },
        Err(reason) => Verdict::of(Err(reason)),
    }
}

/// [`Stage::EpFloat`]: a packet of an endpoint for a floating address, already read.
#[inline(always)]
pub fn from_endpoint(skb: Skb) -> Result<Verdict, DropReason> {
    // SAFETY: a map value stays readable for the run of the program.
    let port = unsafe { PORT.get(&skb.ifindex()) }.ok_or(DropReason::NoPort)?;
    Ok(match Eth::parse(&skb)?.ethertype {
        ethertype::IPV4 => packet_of::<V4>(skb, port),
        _ => packet_of::<V6>(skb, port),
    })
}

/// Answers who has a floating address. Announcements are no questions.
#[inline(never)]
fn arp(skb: Skb, node_asks: bool) -> Verdict {
    let Ok(arp) = Arp::parse(&skb) else {
        return Verdict::NEXT;
    };
    if arp.op != Op::Request || arp.sender_ip == arp.target_ip {
        return Verdict::NEXT;
    }
    let Some(mac) = answer_with(skb, holder(arp.target_ip), node_asks) else {
        return Verdict::NEXT;
    };
    trace(Point::Answer, 4, 0);
    match skb.store(0, &arp.answer(mac)) {
        Ok(()) => back(skb, node_asks),
        Err(reason) => Verdict::of(Err(reason)),
    }
}

/// The MAC that floating addresses have: the uplink's for whoever is on its link; for the node itself the
/// gateway's of the network, so that its packets come to this uplink and are taken from it.
#[inline(always)]
fn answer_with(skb: Skb, float: Option<&'static Float>, node_asks: bool) -> Option<Mac> {
    let float = float?;
    if node_asks {
        Some(float.gateway_mac)
    } else if float.uplink == skb.ifindex() {
        Some(float.uplink_mac)
    } else {
        None
    }
}

/// Back to the one who asked.
#[inline(always)]
fn back(skb: Skb, node_asks: bool) -> Verdict {
    if node_asks {
        return Verdict::redirect(receive(skb.ifindex()));
    }
    skb.set_mark(SENT_BY_NETD);
    Verdict::redirect(send(skb.ifindex()))
}

/// [`Verdict::ASKED`]: a neighbour solicitation that [`advertise`] has the answer to. [`Verdict::OPEN`]: it
/// is none.
#[inline(never)]
fn solicited(skb: Skb, node_asks: bool) -> Verdict {
    let Ok(ip) = work::ip::<V6>(skb) else {
        return Verdict::NEXT;
    };
    let Ok(message) = nd::parse(&skb, ip) else {
        return Verdict::NEXT;
    };
    match message.kind {
        Kind::Solicitation => {}
        Kind::Advertisement | Kind::Router => return Verdict::NEXT,
        Kind::Other => return Verdict::OPEN,
    }
    let Some(mac) = answer_with(skb, holder(message.target), node_asks) else {
        return Verdict::NEXT;
    };
    let Ok(work) = work::get::<V6>() else {
        return Verdict::NEXT;
    };
    work.answer = Answer {
        target: message.target,
        mac,
        router: 0,
    };
    Verdict::ASKED
}

#[inline(never)]
fn advertise(skb: Skb, node_asks: bool) -> Verdict {
    match neighbour::write_advertisement(skb) {
        Ok(()) => back(skb, node_asks),
        Err(reason) => Verdict::of(Err(reason)),
    }
}

/// What of a floating address is a published port goes to its endpoint, the rest to the endpoint the
/// address is of: fills in where the wish goes. The node itself is let in everywhere.
#[inline(always)]
fn aim<A: Net>(p: &Packet<A>, from_node: bool) -> Result<FlowKind, DropReason> {
    let wish = &mut work::get::<A>()?.wish;
    wish.reset(FlowKind::Floating, p.tuple);
    wish.from_node = from_node;
    wish.keeps = true;
    wish.ports = publish::client_ports(p.l4);
    if let Some(publish) = sockets::published_there(p) {
        if !from_node {
            publish::admit(publish, p.ip.src)?;
        }
        publish::aim::<A>(publish)?;
        return Ok(FlowKind::Publish);
    }
    let float = holder(p.ip.dst).ok_or(DropReason::Unpublished)?;
    trace(Point::Float, float.endpoint, float.network);
    route::begins(p, true)?;
    wish.to.dst = A::from_16(float.addr);
    wish.leg = Leg {
        device: float.device,
        mac: float.mac,
        gateway_mac: float.gateway_mac,
        endpoint: float.endpoint,
        network: float.network,
    };
    Ok(FlowKind::Floating)
}

#[inline(never)]
fn packet_in<A: Net>(skb: Skb) -> Verdict {
    Verdict::of(packet_in_inner::<A>(skb))
}

#[inline(always)]
fn packet_in_inner<A: Net>(skb: Skb) -> Result<Verdict, DropReason> {
    let p = &work::get::<A>()?.packet;
    let kind = aim(p, false)?;
    work::get::<A>()?.wish.kind = kind;
    let hop = flows::begin::<A>(skb)?;
    route::to_endpoint(skb, p, hop)
}

#[inline(never)]
fn packet_out<A: Net>(skb: Skb) -> Verdict {
    Verdict::of(packet_out_inner::<A>(skb))
}

#[inline(always)]
fn packet_out_inner<A: Net>(skb: Skb) -> Result<Verdict, DropReason> {
    let p = &work::get::<A>()?.packet;
    if !has(p.ip.dst) {
        return Ok(Verdict::NEXT);
    }
    aim(p, true)?;
    let hop = flows::begin::<A>(skb)?;
    hand_over(skb, p, &hop.to, hop)
}

/// A packet of the node's own, on its way out of an uplink, to the endpoint behind a floating address.
#[inline(always)]
pub fn hand_over<A: Net>(
    skb: Skb,
    p: &Packet<A>,
    to: &Tuple<A>,
    hop: &Hop<A>,
) -> Result<Verdict, DropReason> {
    // It is sent, not received, and the device would drop it without a word.
    route::goes_whole::<A>(skb, hop.device)?;
    rewrite::apply(skb, p, to, 0)?;
    Ok(pass_on(skb, hop))
}

/// Sends a packet to its endpoint from where it cannot be redirected to the inner end: a peer redirect is for
/// ingress only. A function of its own: stack.
#[inline(never)]
fn pass_on<A: Net>(skb: Skb, hop: &Hop<A>) -> Verdict {
    if let Err(reason) = rewrite::ethernet(skb, hop.dst_mac, hop.src_mac, A::ETHERTYPE) {
        return Verdict::of(Err(reason));
    }
    skb.set_mark(SENT_BY_NETD);
    Verdict::redirect(send(hop.device))
}

#[inline(never)]
fn packet_of<A: Net>(skb: Skb, port: &'static Port) -> Verdict {
    Verdict::of(packet_of_inner::<A>(skb, port))
}

#[inline(always)]
fn packet_of_inner<A: Net>(skb: Skb, port: &'static Port) -> Result<Verdict, DropReason> {
    let p = &work::get::<A>()?.packet;
    if port.flags & port_flags::INTERNAL != 0 {
        return Err(DropReason::Internal);
    }
    aim(p, false)?;
    publish::calls(skb, p, port)?;
    let hop = flows::begin::<A>(skb)?;
    route::to_endpoint(skb, p, hop)
}

/// Whether what an endpoint sends leaves with a floating address: its own first address does.
#[inline(always)]
pub fn leaves_with<A: Net>(port: &Port, p: &Packet<A>) -> bool {
    !A::float(port).is_unspecified() && p.ip.src == A::first(port)
}
