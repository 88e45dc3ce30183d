//! `netd_up_in` and `netd_up_out`: between the outside and the node. What no netd object claims is
//! the node's own and passes untouched.

use netd_common::addr::{V4, V6};
use netd_common::flow::begins;
use netd_common::maps::{FlowKind, HostKind, Publish, Uplink, flow_flags};
use netd_common::nat::PortRange;
use netd_common::publish;
use netd_common::reason::DropReason;
use netd_common::tuple::Tuple;
use netd_common::wire::{Eth, L4, Packet, Window, ethertype};

use crate::family::Net;
use crate::flows::{self, Hop, Leg};
use crate::maps::{PORT, UPLINK};
use crate::skb::Skb;
use crate::sockets::{self, Owner};
use crate::verdict::{SENT_BY_NETD, Verdict};
use crate::{rewrite, route, work};

/// A frame from the outside.
#[inline(always)]
pub fn r#in(skb: Skb) -> Verdict {
    if !skb.is_for_host() || skb.vlan_present() != 0 {
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

#[inline(never)]
fn packet_in<A: Net>(skb: Skb) -> Verdict {
    Verdict::of(packet_in_inner::<A>(skb))
}

#[inline(always)]
#[expect(clippy::collapsible_if, reason = "see the comment inside")]
fn packet_in_inner<A: Net>(skb: Skb) -> Result<Verdict, DropReason> {
    let Some(p) = parse::<A>(skb) else {
        return Ok(Verdict::NEXT);
    };
    if let Some(hop) = flows::follow(p, skb.len())? {
        return along_in(skb, p, hop);
    }
    // SAFETY: a map value stays readable for the run of the program.
    let Some(uplink) = (unsafe { UPLINK.get(&skb.ifindex()) }) else {
        return Ok(Verdict::NEXT);
    };
    publish::from_wire(p.ip.src, p.ip.dst)?;
    // Plain nested conditions: LLVM turns a chain of them into flags that the verifier takes for
    // arithmetic on pointers.
    if matches!(p.l4, L4::Tcp(_) | L4::Udp) {
        if let Some(publish) = sockets::published(&p.tuple) {
            if is_new(skb, p) {
                if is_node(p, uplink) {
                    let hop = open_published(skb, p, publish)?;
                    return route::to_endpoint(skb, p, hop);
                }
            }
        }
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

/// Whether the packet may begin a flow to a published port: a conversation of the node's own, with
/// these very sockets, goes on.
#[inline(always)]
fn is_new<A: Net>(skb: Skb, p: &Packet<A>) -> bool {
    if let L4::Tcp(flags) = p.l4
        && !begins(flags)
    {
        return false;
    }
    sockets::owner(skb, p.l4, &p.tuple) != Owner::Connected
}

/// Whether the destination is an address of the node: a port published on all addresses must not
/// catch what is only passing through.
#[inline(always)]
fn is_node<A: Net>(p: &Packet<A>, uplink: &Uplink) -> bool {
    p.ip.dst == A::outside(uplink) || p.ip.dst.is_local()
}

/// Begins a flow from the outside to a published endpoint port. The client keeps its address, and its
/// port too unless two published ports of one endpoint port would make two conversations look alike.
#[inline(always)]
fn open_published<A: Net>(
    skb: Skb,
    p: &Packet<A>,
    publish: &Publish,
) -> Result<&'static Hop<A>, DropReason> {
    let wish = &mut work::get::<A>()?.wish;
    wish.kind = FlowKind::Publish;
    wish.to = p.tuple;
    wish.to.dst = A::from_16(publish.addr);
    wish.to.dport = publish.port;
    wish.ports = CLIENT_PORTS;
    wish.leg = Leg {
        device: publish.device,
        mac: publish.mac,
        gateway_mac: publish.gateway_mac,
        endpoint: publish.endpoint,
        network: publish.network,
    };
    wish.exit = 0;
    wish.publish = publish.number;
    wish.client = 0;
    flows::begin::<A>(skb)
}

/// What a client's source port may become.
const CLIENT_PORTS: PortRange = PortRange {
    min: 1,
    max: u16::MAX,
};

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
    if let Some(hop) = flows::follow(p, skb.len())? {
        // A flow of the node that had to change its port, or an endpoint's that took the stack.
        rewrite::apply(skb, p, &hop.to, 0)?;
        return Ok(Verdict::NEXT);
    }
    // SAFETY: a map value stays readable for the run of the program.
    let Some(uplink) = (unsafe { UPLINK.get(&skb.ifindex()) }) else {
        return Ok(Verdict::NEXT);
    };
    if p.ip.src == A::outside(uplink) {
        return own(skb, p, uplink);
    }
    match p.ip.src.host() {
        Some(host) if HostKind::from_code(host.kind) == HostKind::Endpoint => {
            through_stack(skb, p, host.device)
        }
        Some(_) | None => Ok(Verdict::NEXT),
    }
}

/// A new conversation of the node: if a mapping holds its port towards the same remote socket, the
/// replies would go to an endpoint, so it leaves by another port.
#[inline(always)]
fn own<A: Net>(skb: Skb, p: &Packet<A>, uplink: &Uplink) -> Result<Verdict, DropReason> {
    let begins = match p.l4 {
        L4::Tcp(flags) => begins(flags),
        L4::Udp | L4::EchoRequest => true,
        L4::EchoReply | L4::Icmp(_) | L4::Other | L4::Fragment => false,
    };
    let reply: Tuple<A> = p.tuple.reverse();
    if !begins || A::flows().get_ptr(&reply).is_none() {
        return Ok(Verdict::NEXT);
    }
    let wish = &mut work::get::<A>()?.wish;
    wish.kind = FlowKind::Node;
    wish.to = p.tuple;
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
