//! The flow table: finding a flow, noting a packet on it, and making a new one.

use core::ffi::c_void;

use aya_ebpf::cty::c_long;
use aya_ebpf::helpers::generated::{
    bpf_get_prandom_u32, bpf_ktime_get_coarse_ns, bpf_ktime_get_ns, bpf_loop,
};
use netd_common::addr::{Be16, Mac};
use netd_common::flow::{State, begins, note, tcp_state};
use netd_common::maps::{
    Dir, Flow, FlowKind, Mapping, Range, Uplink, flow_flags, is_called, mapping_flags, payer,
    port_flags,
};
use netd_common::nat::{PortRange, TRIES, candidate, translates};
use netd_common::reason::DropReason;
use netd_common::tcp::Said;
use netd_common::trace::{Point, taken};
use netd_common::tuple::Tuple;
use netd_common::wire::{L4, Packet, Window, tcp_flag};

use crate::family::Net;
use crate::mapping::{self, Found};
use crate::skb::Skb;
use crate::trace::trace;
use crate::work::{self, Work};
use crate::{limits, sockets, watch};

/// `-EEXIST` as the map helpers return it.
const EEXIST: i32 = -17;
/// Insert only if the key is not there.
const BPF_NOEXIST: u64 = 1;

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
                let said = said(flow).and(flags, p.segment);
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

/// Ends of a new flow that are an endpoint, and where its packets go.
#[derive(Clone, Copy)]
pub struct Leg {
    /// ifindex of the node-side device.
    pub device: u32,
    /// MAC of the endpoint.
    pub mac: Mac,
    /// MAC of its gateway.
    pub gateway_mac: Mac,
    /// Its number.
    pub endpoint: u32,
    /// Number of its network.
    pub network: u32,
}

impl Leg {
    /// No endpoint.
    pub const NODE: Self = Self {
        device: 0,
        mac: [0; 6],
        gateway_mac: [0; 6],
        endpoint: 0,
        network: 0,
    };
}

/// What a new flow is to be.
#[derive(Clone, Copy)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each answers a question of its own, in any combination"
)]
pub struct Wish<A> {
    /// Why it is tracked.
    pub kind: FlowKind,
    /// The tuple packets of the original direction leave with; its `sport` is the first choice.
    pub to: Tuple<A>,
    /// `to.sport` may be another port of this range; [`PortRange::NONE`]: it must stay.
    pub ports: PortRange,
    /// The endpoint; [`Leg::NODE`]: the node itself.
    pub leg: Leg,
    /// Hairpin: the endpoint that calls; else unused.
    pub caller: Leg,
    /// Masquerade, and Floating on its way out: ifindex of the uplink it leaves by; else 0.
    pub exit: u32,
    /// Floating: the node itself begins it, so that the replies are its own.
    pub from_node: bool,
    /// Number of the publish it comes in by; 0: none.
    pub publish: u32,
    /// Number of the endpoint that begins it, where the leg's is the one that is called; 0: none.
    pub client: u32,
    /// [`port_flags`] of the network that masquerades it: profile and filter; else 0.
    pub options: u32,
    /// The socket that begins it gets a mapping.
    pub maps: bool,
    /// It comes in by the mapping at `Work::callee`.
    pub calls: bool,
    /// Its source is no address of the node but the client's own, or its floating one: neither sockets nor
    /// mappings of the node have ports there.
    pub keeps: bool,
}

impl<A: Net> Wish<A> {
    /// Whether an endpoint calls another one.
    #[inline(always)]
    pub const fn hairpin(&self) -> bool {
        matches!(self.kind, FlowKind::Hairpin)
    }

    /// Who begins it, as far as that is an endpoint.
    #[inline(always)]
    pub const fn beginner(&self) -> &Leg {
        if self.hairpin() {
            &self.caller
        } else {
            &self.leg
        }
    }

    /// Whether it has neither ports nor identifiers.
    #[inline(always)]
    const fn is_by_address(&self) -> bool {
        !translates(self.to.proto)
    }

    /// Whether the node's own flow asks for the very port it has.
    #[inline(always)]
    pub fn own(&self, p: &Packet<A>, port: Be16) -> bool {
        matches!(self.kind, FlowKind::Node) && port == p.tuple.sport
    }

    /// Whether the first packet goes from the inside to the outside.
    #[inline(always)]
    const fn outward(&self) -> bool {
        match self.kind {
            FlowKind::Masquerade | FlowKind::Forward | FlowKind::Node => true,
            FlowKind::Publish | FlowKind::Hairpin | FlowKind::Inbound => false,
            FlowKind::Floating => self.exit != 0,
        }
    }
}

/// Makes the flow that [`Work::wish`] asks for, with the mappings it needs.
#[inline(always)]
pub fn begin<A: Net>(skb: Skb) -> Result<&'static Hop<A>, DropReason> {
    mapped::<A>(skb)?;
    if let Err(reason) = open::<A>(skb) {
        let_go::<A>();
        return Err(reason);
    }
    begun::<A>()
}

/// The same for a flow that needs no mapping.
#[inline(always)]
pub fn begin_alone<A: Net>(skb: Skb) -> Result<&'static Hop<A>, DropReason> {
    work::get::<A>()?.held = 0;
    open::<A>(skb)?;
    begun::<A>()
}

#[inline(always)]
fn begun<A: Net>() -> Result<&'static Hop<A>, DropReason> {
    let Work { hop, flow, .. } = work::get::<A>()?;
    // `open` has left the original direction's entry there.
    *hop = Hop::of(flow);
    Ok(hop)
}

/// Holds the mappings of a new flow. Where the port of its socket's mapping would lead this one flow astray, it
/// gets a mapping to itself. Without a free port a strict network refuses and a balanced one shares a port that
/// is in use towards other remote sockets.
#[inline(never)]
fn mapped<A: Net>(skb: Skb) -> Result<(), DropReason> {
    let work = work::get::<A>()?;
    work.held = 0;
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
            let_go::<A>();
            return Err(DropReason::Filtered);
        }
        work::get::<A>()?.held |= u32::from(flow_flags::CALLED);
    }
    Ok(())
}

/// Lets go of the mappings of a flow that is not to be.
#[inline(never)]
fn let_go<A: Net>() {
    let Ok(Work {
        held,
        inside,
        callee,
        ..
    }) = work::get::<A>()
    else {
        return;
    };
    if *held & u32::from(flow_flags::MAPPED) != 0 {
        mapping::release::<A>(inside);
    }
    if *held & u32::from(flow_flags::CALLED) != 0 {
        mapping::release::<A>(callee);
    }
    *held = 0;
}

/// Makes the two entries of a new flow as [`Work::wish`] says. Inserting the reply's entry is what keeps two
/// flows from ever sharing an outside port towards the same remote socket, mapped or not.
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
    let called = is_called(wish.kind.code(), inward);
    limits::may_begin(payer(wish.leg.endpoint, wish.client), called)?;
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
    let mut traits = *held as u8;
    if wish.options & port_flags::STRICT != 0 {
        traits |= flow_flags::STRICT;
    }
    flow.flags = traits
        | match wish.kind {
            FlowKind::Masquerade | FlowKind::Forward | FlowKind::Hairpin => flow_flags::TO_ENDPOINT,
            FlowKind::Node => flow_flags::TO_NODE,
            FlowKind::Floating if outward => flow_flags::TO_ENDPOINT,
            FlowKind::Floating if wish.from_node => flow_flags::TO_NODE,
            FlowKind::Publish | FlowKind::Inbound | FlowKind::Floating => 0,
        };
    *to = wish.to;
    reserve(skb, wish, flow, to, key)?;

    // The other direction.
    flow.to = *to;
    flow.packets = 1;
    flow.bytes = skb.len() as u64;
    flow.tag = p.tuple.tag();
    flow.dir = Dir::Original.code();
    lead(flow, &wish.leg);
    if outward {
        flow.device = wish.exit;
    }
    flow.flags = traits | inward;
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

/// Finds a source port for the original direction and inserts the reply's entry under it.
#[inline(always)]
fn reserve<A: Net>(
    skb: Skb,
    wish: &Wish<A>,
    reply: &mut Flow<A>,
    to: &mut Tuple<A>,
    key: &mut Tuple<A>,
) -> Result<(), DropReason> {
    let work = work::get::<A>()?;
    let mapped = work.held & u32::from(flow_flags::MAPPED) != 0;
    if mapped || wish.ports == PortRange::NONE {
        *key = to.reverse();
        return match insert_reply(key, reply) {
            Ok(()) => Ok(()),
            // Nobody but this socket takes its mapping's port towards somebody: another CPU has.
            Err(EEXIST) if mapped => Err(DropReason::FlowRace),
            Err(EEXIST) if wish.is_by_address() => Err(DropReason::NatAmbiguous),
            Err(EEXIST) => Err(DropReason::NoPortFree),
            Err(_) => Err(DropReason::FlowTableFull),
        };
    }
    // SAFETY: plain helper call.
    work.random = unsafe { bpf_get_prandom_u32() };
    work.reserved = Reserved::No as u32;
    let mut skb = skb;
    // A loop of the kernel's: unrolled, the verifier would walk each of the tries.
    // SAFETY: the callback takes an index and the context given, which lives through the call.
    unsafe {
        bpf_loop(
            TRIES,
            attempt::<A> as *const () as *mut c_void,
            (&raw mut skb).cast::<c_void>(),
            0,
        );
    }
    match work::get::<A>()?.reserved {
        1 => Ok(()),
        2 => Err(DropReason::FlowTableFull),
        _ => Err(DropReason::NoPortFree),
    }
}

/// How far [`reserve`] has come, as `Work::reserved` has it.
#[repr(u32)]
enum Reserved {
    No = 0,
    Yes = 1,
    Full = 2,
}

/// Tries one source port; 1 ends the loop.
extern "C" fn attempt<A: Net>(n: u32, ctx: *mut c_void) -> c_long {
    // SAFETY: `bpf_loop` hands over the context of `reserve`.
    let skb = unsafe { *ctx.cast::<Skb>() };
    let Ok(Work {
        packet,
        wish,
        flow,
        to,
        key,
        outside,
        random,
        reserved,
        ..
    }) = work::get::<A>()
    else {
        return 1;
    };
    to.sport = Be16::new(candidate(wish.to.sport.get(), n, *random, wish.ports));
    *key = to.reverse();
    // Most ports of a search are another flow's: one look-up tells, before the others are made.
    if n > 0 && A::flows().get_ptr(&*key).is_some() {
        return 0;
    }
    // A client's port is no port of the node; the node's own flow holds its own first choice.
    // A client's port is no port of the node; the node's own flow holds its own first choice.
    if !wish.keeps {
        if sockets::held(skb, packet.l4, key, wish.own(packet, to.sport)) {
            if n == 0 {
                trace(Point::Taken, u32::from(to.sport.get()), taken::HELD);
            }
            return 0;
        }
        *outside = Mapping::outside(to.src, to.sport, to.proto);
        if is_strict::<A>(outside) {
            return 0;
        }
    }
    match insert_reply(key, flow) {
        Ok(()) => *reserved = Reserved::Yes as u32,
        Err(EEXIST) => {
            if n == 0 {
                trace(Point::Taken, u32::from(to.sport.get()), taken::FLOW);
            }
            return 0;
        }
        Err(_) => *reserved = Reserved::Full as u32,
    }
    1
}

/// Whether an outside socket is a mapping's that is shared with nobody.
#[inline(always)]
fn is_strict<A: Net>(outside: &Tuple<A>) -> bool {
    let row = A::mappings().get_ptr(outside);
    // SAFETY: a map value stays mapped for the run of the program.
    row.is_some_and(|row| unsafe { (*row).flags } & mapping_flags::STRICT != 0)
}

#[inline(always)]
fn insert_reply<A: Net>(key: &Tuple<A>, reply: &mut Flow<A>) -> Result<(), i32> {
    reply.tag = key.tag();
    A::flows().insert(key, &*reply, BPF_NOEXIST)
}
