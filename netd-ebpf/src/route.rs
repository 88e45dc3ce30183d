//! L3 for what an endpoint sends to its gateway: the node, another endpoint, or the outside.

use netd_common::addr::Mac;
use netd_common::guard::martian;
use netd_common::learn::learns;
use netd_common::maps::{FlowKind, HostEntry, HostKind, Port, Range, flow_flags, port_flags};
use netd_common::nat::{PortRange, by_address};
use netd_common::reason::DropReason;
use netd_common::stage::Stage;
use netd_common::trace::Point;
use netd_common::tuple::Tuple;
use netd_common::wire::{ETH_LEN, L4, Packet, Window};

use crate::family::Net;
use crate::fib::Route;
use crate::flows::Hop;
use crate::maps::UPLINK;
use crate::skb::{Skb, receive};
use crate::trace::trace;
use crate::verdict::Verdict;
use crate::wish::Leg;
use crate::{answer, fib, floating, flows, publish, rewrite, work};

/// A packet an endpoint sent to its gateway's MAC. [`Verdict::OPEN`]: of no flow netd knows, for
/// [`new_from_endpoint`]; the two stand side by side, not one in the other: stack.
#[inline(never)]
pub fn from_endpoint<A: Net>(skb: Skb, port: &'static Port) -> Verdict {
    Verdict::of(from_endpoint_inner::<A>(skb, port))
}

#[inline(always)]
fn from_endpoint_inner<A: Net>(skb: Skb, port: &'static Port) -> Result<Verdict, DropReason> {
    let p = work::packet::<A>(skb)?;
    if p.ip.dst.is_of_the_link() {
        return Ok(Verdict::redirect(receive(port.outer)));
    }
    if p.l4 == L4::Fragment {
        return Ok(Verdict::stage(Stage::EpFrag));
    }
    known(skb, port, p)
}

/// The same of a packet that has been read, and that may be a fragment whose ports are known.
#[inline(never)]
pub fn known_from_endpoint<A: Net>(skb: Skb, port: &'static Port) -> Verdict {
    Verdict::of(match work::get::<A>() {
        Ok(work) => known(skb, port, &work.packet),
        Err(reason) => Err(reason),
    })
}

#[inline(always)]
fn known<A: Net>(skb: Skb, port: &'static Port, p: &Packet<A>) -> Result<Verdict, DropReason> {
    if p.ip.dst == A::gateway(port) && !publish::concerns(p) {
        return Ok(Verdict::redirect(receive(port.outer)));
    }
    match flows::follow(p, skb.len())? {
        Some(hop) => along(skb, port, p, hop),
        None => Ok(Verdict::OPEN),
    }
}

/// A packet of no flow, which [`from_endpoint`] has read. [`Verdict::NODE`]: for an address of the node.
#[inline(never)]
pub fn new_from_endpoint<A: Net>(skb: Skb, port: &'static Port) -> Verdict {
    Verdict::of(new_from_endpoint_inner::<A>(skb, port))
}

#[inline(always)]
fn new_from_endpoint_inner<A: Net>(skb: Skb, port: &'static Port) -> Result<Verdict, DropReason> {
    let p = &work::get::<A>()?.packet;
    let ip = &p.ip;
    if ip.dst == A::gateway(port) {
        return Ok(Verdict::NODE);
    }
    martian(ip.src, ip.dst)?;
    if let Some(host) = ip.dst.host() {
        return to_host(skb, port, p, host);
    }
    if floating::has(ip.dst) {
        return Ok(Verdict::stage(Stage::EpFloat));
    }
    let exit = match fib::route(skb, port.inner, ip, &p.tuple)? {
        Route::Node if ip.dst.is_local() || fib::is_at_hand::<A>(skb) => return Ok(Verdict::NODE),
        Route::Node => return Err(DropReason::NoRoute),
        // The way into the network itself: its addresses that endpoints have are known.
        Route::Out(exit) if exit == port.outer => return Err(DropReason::UnknownHost),
        Route::Out(exit) => exit,
    };
    if port.flags & port_flags::INTERNAL != 0 {
        return Err(DropReason::Internal);
    }
    let hop = open_outward(skb, port, p, exit)?;
    leave(skb, p, &hop.to, exit)
}

/// A packet of a flow netd knows.
#[inline(always)]
fn along<A: Net>(
    skb: Skb,
    port: &Port,
    p: &Packet<A>,
    hop: &Hop<A>,
) -> Result<Verdict, DropReason> {
    if hop.flags & flow_flags::TO_ENDPOINT != 0 {
        return to_endpoint(skb, p, hop);
    }
    if hop.flags & flow_flags::TO_NODE != 0 {
        // The node called by way of an uplink; the answer comes in where its other ones do.
        rewrite::apply(skb, p, &hop.to, 0)?;
        return Ok(Verdict::redirect(receive(port.outer)));
    }
    match fib::route(skb, port.inner, &p.ip, routed_by(p, hop, &hop.to))? {
        // Another uplink has another address: the flow cannot move there.
        Route::Out(exit) if hop.device != 0 && hop.device != exit => Err(DropReason::NotUplink),
        Route::Out(exit) => leave(skb, p, &hop.to, exit),
        // The remote address has become the node's own.
        Route::Node => Err(DropReason::NoRoute),
    }
}

/// The tuple a packet of a flow is routed by: one that leaves by an uplink with another address, by its own,
/// as the first of its flow was, else by the one it gets, `to`. Rules and multipath routes would part the
/// flow's packets otherwise.
#[inline(always)]
pub const fn routed_by<'a, A>(p: &'a Packet<A>, hop: &Hop<A>, to: &'a Tuple<A>) -> &'a Tuple<A> {
    if hop.device != 0 { &p.tuple } else { to }
}

/// To an address of a netd network: the sender's own, another one, or a gateway.
#[inline(always)]
fn to_host<A: Net>(
    skb: Skb,
    port: &Port,
    p: &Packet<A>,
    host: &HostEntry,
) -> Result<Verdict, DropReason> {
    trace(Point::Host, host.endpoint, host.network);
    if HostKind::from_code(host.kind) == HostKind::Gateway {
        // An address of the node, on whichever network.
        return Ok(Verdict::NODE);
    }
    if host.network != port.network {
        // Both networks have to agree.
        if port.flags & host.flags & port_flags::NO_ISOLATION == 0 {
            return Err(DropReason::Isolated);
        }
    }
    ttl(p)?;
    fits::<A>(skb, host.device)?;
    rewrite::apply(skb, p, &p.tuple, 1)?;
    rewrite::ethernet(skb, host.mac, host.gateway_mac, A::ETHERTYPE)?;
    Ok(Verdict::redirect(skb.peer(host.device)))
}

/// Begins a flow from an endpoint to the outside, leaving by `exit`: with the endpoint's floating address and
/// its own ports, masqueraded, or as it is on a network without masquerade.
#[inline(always)]
fn open_outward<A: Net>(
    skb: Skb,
    port: &Port,
    p: &Packet<A>,
    exit: u32,
) -> Result<&'static Hop<A>, DropReason> {
    open_outward_from(skb, port, skb.ifindex(), p, exit)
}

/// Whether a packet may begin a flow; `translated`: that masquerades it.
#[inline(always)]
pub fn begins<A: Net>(p: &Packet<A>, translated: bool) -> Result<(), DropReason> {
    match p.l4 {
        L4::Udp | L4::EchoRequest => Ok(()),
        L4::Tcp(flags) if netd_common::flow::begins(flags) => Ok(()),
        L4::Tcp(_) => Err(DropReason::TcpNoFlow),
        L4::EchoReply | L4::Icmp(_) => Err(DropReason::NatIcmp),
        L4::Other if !translated || by_address(p.tuple.proto, A::IS_V4) => Ok(()),
        L4::Other => Err(DropReason::NatProtocol),
        L4::Fragment => Err(DropReason::NatFragment),
    }
}

/// The outside ports a network asks for.
#[inline(always)]
pub const fn network_ports(port: &Port) -> Range {
    Range {
        min: port.masq_min,
        max: port.masq_max,
    }
}

/// The same for a packet that is no longer on the endpoint's `device`.
#[inline(always)]
pub fn open_outward_from<A: Net>(
    skb: Skb,
    port: &Port,
    device: u32,
    p: &Packet<A>,
    exit: u32,
) -> Result<&'static Hop<A>, DropReason> {
    // SAFETY: a map value stays readable for the run of the program.
    let uplink = unsafe { UPLINK.get(&exit) }.ok_or(DropReason::NotUplink)?;
    let floats = floating::leaves_with(port, p);
    let masquerade = port.flags & port_flags::MASQUERADE != 0;
    begins(p, masquerade || floats)?;
    let wish = &mut work::get::<A>()?.wish;
    wish.reset(FlowKind::Forward, p.tuple);
    wish.leg = Leg {
        device,
        mac: behind(skb, port, device)?,
        gateway_mac: port.gateway_mac,
        endpoint: port.endpoint,
        network: port.network,
    };
    if floats {
        wish.kind = FlowKind::Floating;
        wish.exit = exit;
        wish.to.src = A::float(port);
    } else if masquerade {
        let outside = A::outside(uplink);
        if outside.is_unspecified() {
            return Err(DropReason::NoUplinkAddress);
        }
        wish.kind = FlowKind::Masquerade;
        wish.exit = exit;
        wish.to.src = outside;
        wish.ports = flows::outside_ports(p.l4, uplink, network_ports(port));
        wish.options = port.flags;
        wish.maps = wish.ports != PortRange::NONE;
    }
    flows::begin::<A>(skb)
}

/// The MAC replies go to: the endpoint's, or that of whoever sent the packet from behind it.
#[inline(always)]
pub fn behind(skb: Skb, port: &Port, device: u32) -> Result<Mac, DropReason> {
    if learns(port) && skb.ifindex() == device {
        return skb.load::<6>(6).ok_or(DropReason::Truncated);
    }
    Ok(port.mac)
}

/// Rewrites a packet and hands it to an endpoint.
#[inline(always)]
pub fn to_endpoint<A: Net>(skb: Skb, p: &Packet<A>, hop: &Hop<A>) -> Result<Verdict, DropReason> {
    deliver(skb, p, &hop.to, hop)
}

/// The same with another tuple than the flow's.
#[inline(always)]
pub fn deliver<A: Net>(
    skb: Skb,
    p: &Packet<A>,
    to: &Tuple<A>,
    hop: &Hop<A>,
) -> Result<Verdict, DropReason> {
    ttl(p)?;
    fits::<A>(skb, hop.device)?;
    rewrite::apply(skb, p, to, 1)?;
    rewrite::ethernet(skb, hop.dst_mac, hop.src_mac, A::ETHERTYPE)?;
    Ok(Verdict::redirect(skb.peer(hop.device)))
}

/// Rewrites a packet and sends it outside.
#[inline(always)]
pub fn leave<A: Net>(
    skb: Skb,
    p: &Packet<A>,
    to: &Tuple<A>,
    exit: u32,
) -> Result<Verdict, DropReason> {
    ttl(p)?;
    rewrite::apply(skb, p, to, 1)?;
    Ok(Verdict::redirect(fib::send::<A>(skb, exit)?))
}

/// Refuses a packet that is larger than an endpoint's device takes and must not be cut to pieces.
#[inline(always)]
pub fn fits<A: Net>(skb: Skb, device: u32) -> Result<(), DropReason> {
    /// Below that every device takes it (RFC 791 section 3.1: what every host accepts), and nobody asks.
    const SMALL: usize = 576 + ETH_LEN;
    if skb.len() <= SMALL {
        return Ok(());
    }
    too_big::<A>(skb, device)
}

#[inline(never)]
fn too_big<A: Net>(skb: Skb, device: u32) -> Result<(), DropReason> {
    if A::IS_V4 && answer::fragmentable(skb) {
        return Ok(());
    }
    goes_whole::<A>(skb, device)
}

/// Refuses a packet that is larger than an endpoint's device takes, where nobody can cut it.
#[inline(always)]
pub fn goes_whole<A: Net>(skb: Skb, device: u32) -> Result<(), DropReason> {
    let mtu = skb.too_big_for(device);
    if mtu == 0 {
        return Ok(());
    }
    work::get::<A>()?.detail = mtu;
    Err(DropReason::TooBig)
}

/// Refuses a packet that has no hop left for this router.
#[inline(always)]
pub fn ttl<A: Net>(p: &Packet<A>) -> Result<(), DropReason> {
    if p.ip.ttl > 1 {
        Ok(())
    } else {
        Err(DropReason::TtlExceeded)
    }
}
