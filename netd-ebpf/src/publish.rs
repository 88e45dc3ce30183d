//! Published ports: a packet for one of the node's sockets begins a flow to the endpoint behind it.

use aya_ebpf::maps::lpm_trie::Key;
use netd_common::maps::{FlowKind, FromKey, Port, Publish, Uplink, port_flags};
use netd_common::nat::{PortRange, translates};
use netd_common::reason::DropReason;
use netd_common::trace::Point;
use netd_common::wire::{L4, Packet, icmp_error};

use crate::family::Net;
use crate::flows::{self, Hop};
use crate::maps::{FROM, LOCAL, NODE, UPLINK};
use crate::skb::{Skb, receive};
use crate::sockets::{self, Owner};
use crate::trace::trace;
use crate::verdict::Verdict;
use crate::wish::Leg;
use crate::{floating, mapping, route, work};

/// What a client's source port may become where the client keeps its address.
const CLIENT_PORTS: PortRange = PortRange {
    min: 1,
    max: u16::MAX,
};

/// What it may become where the node's address takes its place.
const NODE_PORTS: PortRange = PortRange {
    min: 1024,
    max: u16::MAX,
};

/// What its source port, or identifier, may become where a client keeps its address, or has one that is its
/// alone.
#[inline(always)]
pub const fn client_ports(l4: L4) -> PortRange {
    match l4 {
        L4::Tcp(_) | L4::Udp => CLIENT_PORTS,
        L4::EchoRequest => PortRange::ALL,
        L4::EchoReply | L4::Icmp(_) | L4::Other | L4::Fragment => PortRange::NONE,
    }
}

/// A new packet from outside: its flow to the endpoint, if it is for a published port. The client keeps
/// its address, and its port too unless two published ports of one endpoint port would make two
/// conversations look alike.
#[inline(always)]
#[expect(clippy::collapsible_if, reason = "see the comment inside")]
pub fn from_outside<A: Net>(
    skb: Skb,
    p: &Packet<A>,
    uplink: &Uplink,
) -> Result<Option<&'static Hop<A>>, DropReason> {
    // Plain nested conditions: LLVM turns a chain of them into flags that the verifier takes for
    // arithmetic on pointers.
    if let Some(publish) = sockets::published(p) {
        if is_new(skb, p) {
            if p.ip.dst == A::outside(uplink) || p.ip.dst.is_local() {
                admit(publish, p.ip.src)?;
                return open::<A>(skb, p, publish, None).map(Some);
            }
        }
    }
    Ok(None)
}

/// A packet of an endpoint for an address of the node, already read: to the endpoint behind a
/// published port. [`Verdict::OPEN`]: it is for none, so [`mapped`] goes on. Isolation keeps networks apart, not from what the node
/// offers to everybody; an internal network has no way out, and a published port of another network
/// would be one. It stands beside [`route::new_from_endpoint`], not in it: stack.
#[inline(never)]
pub fn from_endpoint<A: Net>(skb: Skb, port: &'static Port) -> Verdict {
    Verdict::of(from_endpoint_inner::<A>(skb, port))
}

#[inline(always)]
#[expect(clippy::collapsible_if, reason = "as above")]
fn from_endpoint_inner<A: Net>(skb: Skb, port: &'static Port) -> Result<Verdict, DropReason> {
    let p = &work::get::<A>()?.packet;
    if let Some(publish) = sockets::published(p) {
        if is_new(skb, p) {
            // Not all the routing table keeps from being forwarded is the node's own.
            if p.ip.dst == A::gateway(port) || p.ip.dst.is_local() {
                if port.flags & port_flags::INTERNAL != 0 {
                    return Err(DropReason::Internal);
                }
                admit(publish, p.ip.src)?;
                let hop = open::<A>(skb, p, publish, Some(port))?;
                return route::to_endpoint(skb, p, hop);
            }
        }
    }
    Ok(Verdict::OPEN)
}

/// A packet of an endpoint for an address of the node that is not for a published port: to the endpoint whose
/// mapping it is for, else to the node's stack.
#[inline(never)]
pub fn mapped<A: Net>(skb: Skb, port: &'static Port) -> Verdict {
    Verdict::of(mapped_inner::<A>(skb, port))
}

#[inline(always)]
#[expect(clippy::collapsible_if, reason = "as above")]
fn mapped_inner<A: Net>(skb: Skb, port: &'static Port) -> Result<Verdict, DropReason> {
    let work = work::get::<A>()?;
    let p = &work.packet;
    if let Some(called) = mapping::find(p) {
        if called.endpoint != 0 && sockets::owner(skb, p.l4, &p.tuple) == Owner::Nobody {
            if port.flags & port_flags::INTERNAL != 0 {
                return Err(DropReason::Internal);
            }
            mapping::lead_in(&mut work.wish, p, called);
            calls(skb, p, port)?;
            let hop = flows::begin::<A>(skb)?;
            return route::to_endpoint(skb, p, hop);
        }
    }
    trace(Point::Node, 0, 0);
    Ok(Verdict::redirect(receive(port.outer)))
}

/// An endpoint calls another one: it is seen as the outside would see it (RFC 4787 REQ-9a), with its floating
/// address, else with the node's and with the port of its mapping where it has such.
#[inline(always)]
pub fn calls<A: Net>(skb: Skb, p: &Packet<A>, port: &Port) -> Result<(), DropReason> {
    let wish = &mut work::get::<A>()?.wish;
    wish.kind = FlowKind::Hairpin;
    wish.client = port.endpoint;
    wish.caller = Leg {
        device: skb.ifindex(),
        mac: route::behind(skb, port, skb.ifindex())?,
        gateway_mac: port.gateway_mac,
        endpoint: port.endpoint,
        network: port.network,
    };
    wish.keeps = floating::leaves_with(port, p);
    if wish.keeps {
        wish.to.src = A::float(port);
        wish.ports = client_ports(p.l4);
        return Ok(());
    }
    wish.to.src = node_address(p.ip.dst);
    wish.ports = if translates(p.tuple.proto) {
        NODE_PORTS
    } else {
        PortRange::NONE
    };
    if port.flags & port_flags::MASQUERADE == 0 {
        return Ok(());
    }
    if let Some(uplink) = uplink_of(wish.to.src) {
        wish.ports = flows::outside_ports(p.l4, uplink, route::network_ports(port));
        wish.options = port.flags;
        wish.maps = wish.ports != PortRange::NONE;
    }
    Ok(())
}

/// The uplink whose masquerade address this is.
#[inline(always)]
fn uplink_of<A: Net>(addr: A) -> Option<&'static Uplink> {
    // SAFETY: map values stay readable for the run of the program.
    let device = unsafe { LOCAL.get(&addr.to_16()) }?;
    // SAFETY: as above.
    let uplink = unsafe { UPLINK.get(device) }?;
    (A::outside(uplink) == addr).then_some(uplink)
}

/// Whether a packet to an endpoint's own gateway needs a look: it is for a port that is published, an ICMP
/// error, which may be about an answer from one, or
/// callers are seen with gateway addresses, so that any may be an answer to one.
#[inline(always)]
pub fn concerns<A: Net>(p: &Packet<A>) -> bool {
    if icmp_error::of::<A>(p.l4) {
        return true;
    }
    match NODE.get(0) {
        Some(node) if !A::node(node).is_unspecified() => sockets::serves(p),
        Some(_) | None => true,
    }
}

/// Whether the packet may begin a flow to a published port: a conversation of the node's own, with
/// these very sockets, goes on.
#[inline(always)]
fn is_new<A: Net>(skb: Skb, p: &Packet<A>) -> bool {
    let new = sockets::owner(skb, p.l4, &p.tuple) != Owner::Connected;
    if !new {
        trace(Point::Socket, 0, 0);
    }
    new
}

/// Refuses a source a publish is not for.
#[inline(always)]
pub fn admit<A: Net>(publish: &Publish, src: A) -> Result<(), DropReason> {
    trace(Point::Publish, publish.number, publish.endpoint);
    if publish.limited == 0 {
        return Ok(());
    }
    let key = FromKey::lookup(publish.number, src);
    match FROM.get(Key::new(key.prefix_len, key.source)) {
        Some(_) => Ok(()),
        None => Err(DropReason::SourceRefused),
    }
}

/// Begins the flow. `caller`: the port of the endpoint that calls. It is seen with the node's address,
/// as outside (RFC 4787 REQ-9a): from its own one the server, on the same segment or the caller itself,
/// would answer straight to it, and the caller would not know the answer.
#[inline(always)]
fn open<A: Net>(
    skb: Skb,
    p: &Packet<A>,
    publish: &Publish,
    caller: Option<&Port>,
) -> Result<&'static Hop<A>, DropReason> {
    let wish = &mut work::get::<A>()?.wish;
    wish.reset(FlowKind::Publish, p.tuple);
    aim::<A>(publish)?;
    if let Some(port) = caller {
        calls(skb, p, port)?;
    } else {
        wish.ports = CLIENT_PORTS;
        wish.keeps = true;
    }
    flows::begin::<A>(skb)
}

/// Lets the wish go to the endpoint behind a published port.
#[inline(always)]
pub fn aim<A: Net>(publish: &Publish) -> Result<(), DropReason> {
    let wish = &mut work::get::<A>()?.wish;
    wish.to.dst = A::from_16(publish.addr);
    wish.to.dport = publish.port;
    wish.publish = publish.number;
    wish.leg = Leg {
        device: publish.device,
        mac: publish.mac,
        gateway_mac: publish.gateway_mac,
        endpoint: publish.endpoint,
        network: publish.network,
    };
    Ok(())
}

/// The address callers are seen with: the uplink's, which the node itself does not use towards
/// endpoints, so that their ports and the node's do not meet. A node without one has the called address.
#[inline(always)]
pub fn node_address<A: Net>(called: A) -> A {
    match NODE.get(0) {
        Some(node) if !A::node(node).is_unspecified() => A::node(node),
        Some(_) | None => called,
    }
}
