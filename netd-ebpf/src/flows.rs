//! The flow table: finding a flow, noting a packet on it, and making a new one.

use aya_ebpf::helpers::generated::{bpf_ktime_get_coarse_ns, bpf_ktime_get_ns};
use netd_common::addr::Mac;
use netd_common::flow::{State, begins, note, tcp_state};
use netd_common::maps::{
    Dir, Flow, FlowKind, Range, Uplink, flow_flags, is_called, payer, port_flags,
};
use netd_common::nat::PortRange;
use netd_common::reason::DropReason;
use netd_common::tcp::Said;
use netd_common::trace::Point;
use netd_common::tuple::Tuple;
use netd_common::wire::{L4, Packet, Window, tcp_flag};

use crate::family::Net;
use crate::mapping::{self, Found};
use crate::maps::{BPF_NOEXIST, EEXIST};
use crate::reserve::reserve;
use crate::skb::Skb;
use crate::trace::trace;
use crate::wish::Leg;
use crate::work::{self, Work};
use crate::{limits, watch};

/// What a packet of a known flow turns into, and where it goes.
#[derive(Clone, Copy)]
pub struct Hop<A> {
    /// The tuple it leaves with.
    pub to: Tuple<A>,
    /// [`flow_flags`].
    pub flags: u8,
    /// With `TO_ENDPOINT`: the device and the MACs.
    pub device: u32,
    /// Destination MAC.
    pub dst_mac: Mac,
    /// Source MAC.
    pub src_mac: Mac,
}

impl<A: Net> Hop<A> {
    #[inline(always)]
    const fn of(flow: &Flow<A>) -> Self {
        Self {
            to: flow.to,
            flags: flow.flags,
            device: flow.device,
            dst_mac: flow.dst_mac,
            src_mac: flow.src_mac,
        }
    }
}

/// Finds the flow of packets with tuple `t`, and notes nothing on it.
#[inline(always)]
pub fn peek<A: Net>(t: &Tuple<A>) -> Result<Option<&'static Hop<A>>, DropReason> {
    let Some(flow) = A::flows().get_ptr(t) else {
        trace(Point::NoFlow, 0, 0);
        return Ok(None);
    };
    let hop = &mut work::get::<A>()?.hop;
    // SAFETY: as in `follow`.
    let tag = unsafe {
        *hop = Hop::of(&*flow);
        trace(Point::Flow, u32::from((*flow).kind), u32::from((*flow).dir));
        core::ptr::read_volatile(&raw const (*flow).tag)
    };
    if tag == t.tag() {
        Ok(Some(hop))
    } else {
        Err(DropReason::FlowRace)
    }
}

/// Finds the flow of a packet and notes the packet on it. `Ok(None)`: netd knows no such flow.
#[inline(always)]
pub fn follow<A: Net>(p: &Packet<A>, bytes: usize) -> Result<Option<&'static Hop<A>>, DropReason> {
    if matches!(p.l4, L4::Icmp(_)) {
        // It has no ports, which looks like an echo with identifier 0.
        return Ok(None);
    }
    let Some(flow) = A::flows().get_ptr_mut(&p.tuple) else {
        trace(Point::NoFlow, 0, 0);
        return Ok(None);
    };
    let hop = &mut work::get::<A>()?.hop;
    // SAFETY: a map value stays mapped for the run of the program. Other CPUs may write it: fields
    // are read one by one, and the tag, read last, tells whether the element still belongs to our key.
    let tag = unsafe {
        *hop = Hop::of(&*flow);
        core::ptr::read_volatile(&raw const (*flow).tag)
    };
    if tag != p.tuple.tag() {
        return Err(DropReason::FlowRace);
    }
    // SAFETY: as above.
    unsafe { trace(Point::Flow, u32::from((*flow).kind), u32::from((*flow).dir)) };
    // SAFETY: as above. Packets of one direction are seldom on two CPUs at once; a lost count is
    // accepted there.
    unsafe {
        (*flow).packets += 1;
        (*flow).bytes += bytes as u64;
        if let L4::Tcp(flags) = p.l4 {
            if flags & tcp_flag::RST != 0 {
                if !may_reset(flow, p, flags) {
                    // It is passed on, for the receiver to judge.
                    return Ok(Some(hop));
                }
                (*flow).seen = note((*flow).seen, flags);
            } else {
                if begins(flags) && (*flow).dir == Dir::Original.code() {
                    reopen::<A>(flow);
                }
                let said = said(flow).and(meant(flow, p, flags), p.segment);
                (*flow).seen = said.seen;
                (*flow).next = said.next;
                (*flow).ack = said.ack;
            }
        }
        (*flow).last_seen = bpf_ktime_get_coarse_ns();
    }
    Ok(Some(hop))
}

/// The entry of a tuple, nothing noted on it. An entry that changes hands is taken for absent.
#[inline(always)]
pub fn entry<A: Net>(key: &Tuple<A>) -> Option<&'static Flow<A>> {
    let flow = A::flows().get_ptr(key)?;
    // SAFETY: a map value stays mapped for the run of the program. Other CPUs may write it; whose it is,
    // is told by its tag.
    let flow = unsafe { &*flow };
    (flow.tag == key.tag()).then_some(flow)
}

/// # Safety
/// `flow` points to a live map value.
#[inline(always)]
unsafe fn said<A: Net>(flow: *const Flow<A>) -> Said {
    // SAFETY: by the caller.
    unsafe {
        Said {
            seen: (*flow).seen,
            next: (*flow).next,
            ack: (*flow).ack,
        }
    }
}

/// Whether a RST of a flow counts.
///
/// # Safety
/// As [`said`].
#[inline(always)]
unsafe fn may_reset<A: Net>(flow: *const Flow<A>, p: &Packet<A>, flags: u8) -> bool {
    // SAFETY: by the caller.
    unsafe {
        let other = A::flows().get_ptr(&(*flow).to.reverse());
        match other {
            Some(other) => said(flow).may_reset(said(other), flags, p.segment),
            None => false,
        }
    }
}

/// The flags of a segment, without a FIN that does not count.
///
/// # Safety
/// As [`said`].
#[inline(always)]
unsafe fn meant<A: Net>(flow: *const Flow<A>, p: &Packet<A>, flags: u8) -> u8 {
    if flags & tcp_flag::FIN == 0 {
        return flags;
    }
    // SAFETY: by the caller.
    unsafe {
        let other = A::flows().get_ptr(&(*flow).to.reverse());
        match other {
            Some(other) if said(flow).may_finish(said(other), p.segment) => flags,
            _ => flags & !tcp_flag::FIN,
        }
    }
}

/// A SYN on a connection that is over begins the next one with the same ports (RFC 9293 section 3.6.1).
///
/// # Safety
/// `flow` points to a live map value.
#[inline(always)]
unsafe fn reopen<A: Net>(flow: *mut Flow<A>) {
    // SAFETY: by the caller.
    unsafe {
        if let Some(other) = A::flows().get_ptr_mut(&(*flow).to.reverse())
            && tcp_state((*flow).seen, (*other).seen) == State::Closed
        {
            (*flow).seen = 0;
            (*other).seen = 0;
        }
    }
}

/// Makes the flow that [`Work::wish`] asks for, with the mappings it needs.
#[inline(always)]
pub fn begin<A: Net>(skb: Skb) -> Result<&'static Hop<A>, DropReason> {
    let code = core::hint::black_box(A::begin(skb.raw()));
    if let Some(reason) = DropReason::from_code(code as u8) {
        return Err(reason);
    }
    let Work { hop, flow, .. } = work::get::<A>()?;
    // `open` has left the original direction's entry there.
    *hop = Hop::of(flow);
    Ok(hop)
}

/// [`begin`], behind its global function. The functions stand side by side, not one in the other: stack.
#[inline(always)]
pub fn make<A: Net>(skb: Skb) -> u64 {
    match may_begin::<A>()
        .and_then(|()| mapped::<A>(skb))
        .and_then(|()| prepare::<A>())
        .and_then(|()| reserve::<A>(skb))
        .and_then(|()| open::<A>(skb))
    {
        Ok(()) => 0,
        Err(reason) => {
            let_go::<A>();
            reason as u64
        }
    }
}

/// Whether who pays for the flow may have one more. Before anything is made for it: what an endpoint has no
/// flow for, it must not hold a port for either.
#[inline(always)]
fn may_begin<A: Net>() -> Result<(), DropReason> {
    let Work {
        wish, held, made, ..
    } = work::get::<A>()?;
    *held = 0;
    *made = 0;
    let inward = if wish.outward() {
        0
    } else {
        flow_flags::TO_ENDPOINT
    };
    limits::may_begin(
        payer(wish.leg.endpoint, wish.client),
        is_called(wish.kind.code(), inward),
    )
}

/// Holds the mappings of a new flow. Where the port of its socket's mapping would lead this one flow astray, it
/// gets a mapping to itself. Without a free port a strict network refuses and a balanced one shares a port that
/// is in use towards other remote sockets.
#[inline(always)]
fn mapped<A: Net>(skb: Skb) -> Result<(), DropReason> {
    let work = work::get::<A>()?;
    if work.wish.maps {
        let strict = work.wish.options & port_flags::STRICT != 0;
        let mut found = mapping::secure::<A>(skb, u32::from(flow_flags::MAPPED));
        if found == Found::CLASH {
            let apart = flow_flags::MAPPED | flow_flags::APART;
            found = mapping::secure::<A>(skb, u32::from(apart));
        }
        if found != Found::HELD {
            work::get::<A>()?.held = 0;
        }
        match found {
            Found::NO_PORT | Found::CLASH if strict => return Err(DropReason::NoPortFree),
            Found::FULL if strict => return Err(DropReason::FlowTableFull),
            Found::HELD | Found::NO_PORT | Found::FULL | Found::CLASH => {}
            _ => return Err(DropReason::FlowRace),
        }
    }
    if work::get::<A>()?.wish.calls {
        if mapping::admit::<A>() != Found::HELD {
            return Err(DropReason::Filtered);
        }
        work::get::<A>()?.held |= u32::from(flow_flags::CALLED);
    }
    Ok(())
}

/// Lets go of the mappings of a flow that is not to be. One that was made for it was never of any use, and
/// does not rest.
#[inline(never)]
fn let_go<A: Net>() {
    let Ok(Work {
        held,
        made,
        inside,
        callee,
        ..
    }) = work::get::<A>()
    else {
        return;
    };
    if *held & u32::from(flow_flags::MAPPED) != 0 {
        mapping::release::<A>(inside, *made == 0);
    }
    if *held & u32::from(flow_flags::CALLED) != 0 {
        mapping::release::<A>(callee, true);
    }
    *held = 0;
}

/// Makes the reply's entry of a new flow as [`Work::wish`] says. Inserting it ([`reserve`]) is what keeps two
/// flows from ever sharing an outside port towards the same remote socket, mapped or not.
#[inline(never)]
fn prepare<A: Net>() -> Result<(), DropReason> {
    let Work {
        packet: p,
        wish,
        flow,
        to,
        held,
        ..
    } = work::get::<A>()?;
    let outward = wish.outward();
    // SAFETY: plain helper call.
    let now = unsafe { bpf_ktime_get_ns() };
    flow.to = p.tuple.reverse();
    flow.created = now;
    flow.last_seen = now;
    flow.packets = 0;
    flow.bytes = 0;
    let hairpin = matches!(wish.kind, FlowKind::Hairpin);
    lead(flow, if hairpin { &wish.caller } else { &wish.leg });
    if !outward && !hairpin {
        flow.device = 0;
    }
    flow.endpoint = wish.leg.endpoint;
    flow.network = wish.leg.network;
    flow.publish = wish.publish;
    flow.client = wish.client;
    flow.kind = wish.kind.code();
    flow.dir = Dir::Reply.code();
    flow.seen = 0;
    flow.next = 0;
    flow.ack = 0;
    flow.flags = traits(*held, wish.options)
        | match wish.kind {
            FlowKind::Masquerade | FlowKind::Forward | FlowKind::Hairpin => flow_flags::TO_ENDPOINT,
            FlowKind::Node => flow_flags::TO_NODE,
            FlowKind::Floating if outward => flow_flags::TO_ENDPOINT,
            FlowKind::Floating if wish.from_node => flow_flags::TO_NODE,
            FlowKind::Publish | FlowKind::Inbound | FlowKind::Floating => 0,
        };
    *to = wish.to;
    Ok(())
}

/// What both entries of a flow have in common.
#[inline(always)]
const fn traits(held: u32, options: u32) -> u8 {
    let strict = if options & port_flags::STRICT != 0 {
        flow_flags::STRICT
    } else {
        0
    };
    held as u8 | strict
}

/// Makes and inserts the other direction's entry.
#[inline(never)]
fn open<A: Net>(skb: Skb) -> Result<(), DropReason> {
    let Work {
        packet: p,
        wish,
        flow,
        to,
        key,
        held,
        ..
    } = work::get::<A>()?;
    let outward = wish.outward();
    let inward = if outward { 0 } else { flow_flags::TO_ENDPOINT };
    flow.to = *to;
    flow.packets = 1;
    flow.bytes = skb.len() as u64;
    flow.tag = p.tuple.tag();
    flow.dir = Dir::Original.code();
    lead(flow, &wish.leg);
    if outward {
        flow.device = wish.exit;
    }
    flow.flags = traits(*held, wish.options) | inward;
    if let L4::Tcp(flags) = p.l4 {
        let said = Said::default().and(flags, p.segment);
        flow.seen = said.seen;
        flow.next = said.next;
        flow.ack = said.ack;
    }
    match A::flows().insert(&p.tuple, &*flow, BPF_NOEXIST) {
        Ok(()) => {
            trace(
                Point::Begun,
                u32::from(flow.kind),
                u32::from(flow.to.sport.get()),
            );
            let called = is_called(flow.kind, flow.flags);
            limits::began(payer(wish.leg.endpoint, wish.client), called);
            watch::opened::<A>();
            Ok(())
        }
        Err(rc) => {
            // Both or none. EEXIST: another CPU has made this very flow a moment ago; its packet won.
            let _ = A::flows().remove(&*key);
            Err(if rc == EEXIST {
                DropReason::FlowRace
            } else {
                DropReason::FlowTableFull
            })
        }
    }
}

/// Lets an entry lead to an endpoint.
#[inline(always)]
const fn lead<A: Net>(flow: &mut Flow<A>, leg: &Leg) {
    flow.device = leg.device;
    flow.dst_mac = leg.mac;
    flow.src_mac = leg.gateway_mac;
}

/// The outside ports, or identifiers, that traffic through an uplink may take; `network`: the range its
/// network asks for, if any.
#[inline(always)]
pub fn outside_ports(l4: L4, uplink: &Uplink, network: Range) -> PortRange {
    match l4 {
        // Identifiers are no ports: all of them may be taken.
        L4::EchoRequest | L4::EchoReply => PortRange::ALL,
        L4::Icmp(_) | L4::Other | L4::Fragment => PortRange::NONE,
        L4::Tcp(_) | L4::Udp if network.max != 0 => PortRange {
            min: network.min,
            max: network.max,
        },
        L4::Tcp(_) | L4::Udp => PortRange {
            min: uplink.port_min.get(),
            max: uplink.port_max.get(),
        },
    }
}
