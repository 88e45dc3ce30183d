//! Mappings: finding or making the outside port of an inside socket, holding it for a flow, and letting
//! it go. Removing the rows is here too, and called by [`crate::ending`] alone, but for a mapping whose last
//! flow has just ended.

use core::ffi::c_void;

use aya_ebpf::cty::c_long;
use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_ktime_get_ns, bpf_loop};
use netd_common::addr::Be16;
use netd_common::flow::{HALF_MADE, begins};
use netd_common::mapping::{
    Filter, dead, filter, flags, flows, fresh, held, is_dead, is_over, is_pair, released,
    remembers, sent_key, source,
};
use netd_common::maps::{FlowKind, Mapping, flow_flags, mapping_flags};
use netd_common::nat::{TRIES, candidate};
use netd_common::tuple::Tuple;
use netd_common::wire::{L4, Packet};

use crate::atomic;
use crate::family::Net;
use crate::flows::entry;
use crate::maps::{BPF_NOEXIST, EEXIST, SENT};
use crate::skb::Skb;
use crate::sockets;
use crate::wish::{Leg, Wish};
use crate::work::{self, Work};

/// Compare-and-swaps tried in a row: each that fails has let another CPU's succeed.
const SWAPS: u32 = 3;

/// What came of a search. A plain number: see [`crate::verdict::Verdict`].
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Found(u32);

impl Found {
    /// There is none.
    pub const NONE: Self = Self(0);
    /// The mapping is held for the flow.
    pub const HELD: Self = Self(1);
    /// The port would lead this flow astray: a socket of the node, or another flow, has it towards the
    /// remote socket.
    pub const CLASH: Self = Self(2);
    /// All ports are taken.
    pub const NO_PORT: Self = Self(3);
    /// The table is full.
    pub const FULL: Self = Self(4);
    /// Another CPU was quicker.
    pub const RACE: Self = Self(5);
}

/// Takes one flow more, or less, onto a mapping; what was there before, if it was done. `key` is the row's.
///
/// # Safety
/// `m` points to a live map value.
#[inline(always)]
unsafe fn count<A: Net>(
    m: *mut Mapping<A>,
    key: &Tuple<A>,
    step: impl Fn(u64, u8) -> Option<u64>,
) -> Option<u64> {
    let mut n = 0;
    while n < SWAPS {
        n += 1;
        // SAFETY: by the caller. The word is read first: whose it is, is told by what is read after it.
        let (word, tag, flags) = unsafe {
            let word = core::ptr::read_volatile(&raw const (*m).word);
            let tag = core::ptr::read_volatile(&raw const (*m).tag);
            (word, tag, core::ptr::read_volatile(&raw const (*m).flags))
        };
        if tag != key.tag() {
            return None;
        }
        let next = step(word, flags)?;
        // SAFETY: by the caller; the word is changed only so.
        if unsafe { atomic::swap(&raw mut (*m).word, word, next) } {
            return Some(word);
        }
    }
    None
}

/// Finds the mapping of the socket that sent the packet at hand, or makes one, and holds it for the flow
/// that `Work::wish` asks for: the wish's source port becomes the outside one. `traits`: [`flow_flags`] of the
/// flow; with `APART` the mapping is its own.
#[inline(always)]
pub fn secure<A: Net>(skb: Skb, traits: u32) -> Found {
    let Ok(work) = work::get::<A>() else {
        return Found::RACE;
    };
    work.held = traits;
    Found(core::hint::black_box(A::map(skb.raw())) as u32)
}

/// [`secure`], behind its global function.
#[inline(always)]
pub fn find_or_make<A: Net>(skb: Skb) -> u64 {
    u64::from(search::<A>(skb).0)
}

#[inline(always)]
fn search<A: Net>(skb: Skb) -> Found {
    let Ok(work) = work::get::<A>() else {
        return Found::RACE;
    };
    work.inside = source(&work.packet.tuple, &work.wish.to, work.held as u8);
    let mut found = take::<A>();
    if found == Found::NONE {
        match reserve::<A>(skb) {
            Found::HELD => {}
            other => return other,
        }
        match enter::<A>() {
            // Another CPU has mapped this very socket a moment ago.
            Found::RACE => found = take::<A>(),
            Found::HELD => {
                remember::<A>();
                return Found::HELD;
            }
            other => return other,
        }
    }
    if found != Found::HELD {
        return Found::RACE;
    }
    remember::<A>();
    usable::<A>(skb)
}

/// Remembers, where the filter of the mapping at `Work::inside` will ask for it, whom its socket sends to.
#[inline(never)]
fn remember<A: Net>() {
    let Ok(Work {
        inside,
        wish,
        packet,
        held,
        ..
    }) = work::get::<A>()
    else {
        return;
    };
    let local = wish.hairpin();
    if *held & u32::from(flow_flags::APART) != 0 || !remembers(flags(wish.options), local) {
        return;
    }
    let Some(m) = A::mappings().get_ptr(&*inside) else {
        return;
    };
    // SAFETY: a map value stays mapped for the run of the program, and the mapping is held.
    let m = unsafe { &*m };
    let remote = packet.tuple.dst;
    if !local && m.first == remote.to_16() {
        return;
    }
    let port = if local {
        packet.tuple.dport
    } else {
        Be16([0; 2])
    };
    let key = sent_key(m, m.word, remote, port);
    // SAFETY: as above.
    if unsafe { SENT.get(&key) }.is_none() {
        let nothing = core::hint::black_box(0_u32);
        // Where it fails the address is not let in: it can be sent to again.
        let _ = SENT.insert(&key, &nothing, 0);
    }
}

/// Holds the mapping of `Work::inside`, if there is one.
#[inline(never)]
fn take<A: Net>() -> Found {
    let Ok(Work { inside, wish, .. }) = work::get::<A>() else {
        return Found::RACE;
    };
    let Some(m) = A::mappings().get_ptr_mut(&*inside) else {
        return Found::NONE;
    };
    // SAFETY: a map value stays mapped for the run of the program. Once it is held, the row stays this
    // mapping's; where the endpoint was attached anew it is led there.
    if unsafe { count(m, inside, |word, _| held(word)) }.is_none() {
        return Found::RACE;
    }
    // SAFETY: as above.
    unsafe {
        wish.to.sport = (*m).other.dport;
        let leg = wish.beginner();
        if leg.device != (*m).device || leg.mac != (*m).dst_mac {
            lead(&mut *m, leg);
        }
    }
    Found::HELD
}

/// Whether the mapping that is held will do for this flow; else it is let go.
#[inline(always)]
fn usable<A: Net>(skb: Skb) -> Found {
    let Ok(Work {
        packet,
        wish,
        inside,
        key,
        ..
    }) = work::get::<A>()
    else {
        return Found::RACE;
    };
    *key = wish.to.reverse();
    if sockets::held::<A>(skb) || entry::<A>(key).is_some() {
        release::<A>(inside, true);
        wish.to.sport = packet.tuple.sport;
        return Found::CLASH;
    }
    Found::HELD
}

/// Reserves an outside port: inserts the row under it.
#[inline(always)]
fn reserve<A: Net>(skb: Skb) -> Found {
    let Ok(work) = work::get::<A>() else {
        return Found::RACE;
    };
    let m = &mut work.mapping;
    // SAFETY: plain helper calls.
    unsafe {
        work.random = bpf_get_prandom_u32();
        m.created = bpf_ktime_get_ns();
    }
    m.other = work.inside;
    m.first = work.packet.tuple.dst.to_16();
    m.flags = flags(work.wish.options) | mapping_flags::OUTSIDE;
    if work.held & u32::from(flow_flags::APART) != 0 {
        m.flags &= mapping_flags::OUTSIDE | mapping_flags::STRICT;
    }
    m.idle = m.created;
    m.word = 0;
    lead(m, work.wish.beginner());
    work.found = Found::NO_PORT;
    let mut skb = skb;
    // SAFETY: the callback takes an index and the context given, which lives through the call.
    unsafe {
        bpf_loop(
            TRIES,
            attempt::<A> as *const () as *mut c_void,
            (&raw mut skb).cast::<c_void>(),
            0,
        );
    }
    match work::get::<A>() {
        Ok(work) => work.found,
        Err(_) => Found::RACE,
    }
}

/// Tries one outside port; 1 ends the loop.
extern "C" fn attempt<A: Net>(n: u32, ctx: *mut c_void) -> c_long {
    // SAFETY: `bpf_loop` hands over the context of `reserve`.
    let skb = unsafe { *ctx.cast::<Skb>() };
    let Ok(Work {
        packet,
        wish,
        to,
        key,
        outside,
        mapping,
        random,
        found,
        ..
    }) = work::get::<A>()
    else {
        return 1;
    };
    let port = Be16::new(candidate(packet.tuple.sport.get(), n, *random, wish.ports));
    *outside = Mapping::outside(wish.to.src, port, wish.to.proto);
    if A::mappings().get_ptr(&*outside).is_some() {
        return 0;
    }
    *to = wish.to;
    to.sport = port;
    *key = to.reverse();
    if sockets::held::<A>(skb) || entry::<A>(key).is_some() {
        return 0;
    }
    mapping.tag = outside.tag();
    match A::mappings().insert(&*outside, &*mapping, BPF_NOEXIST) {
        Ok(()) => *found = Found::HELD,
        Err(EEXIST) => return 0,
        Err(_) => *found = Found::FULL,
    }
    1
}

/// The port is reserved: enters the mapping itself, with one flow.
#[inline(always)]
fn enter<A: Net>() -> Found {
    let Ok(Work {
        wish,
        inside,
        outside,
        mapping: m,
        random,
        made,
        ..
    }) = work::get::<A>()
    else {
        return Found::RACE;
    };
    m.other = *outside;
    m.flags &= !mapping_flags::OUTSIDE;
    m.tag = inside.tag();
    m.word = fresh(*random);
    match A::mappings().insert(&*inside, &*m, BPF_NOEXIST) {
        Ok(()) => {
            wish.to.sport = outside.dport;
            *made = 1;
            Found::HELD
        }
        Err(rc) => {
            // Both or none.
            let _ = A::mappings().remove(&*outside);
            if rc == EEXIST {
                Found::RACE
            } else {
                Found::FULL
            }
        }
    }
}

/// Leads a mapping to an endpoint.
#[inline(always)]
const fn lead<A: Net>(m: &mut Mapping<A>, leg: &Leg) {
    m.device = leg.device;
    m.dst_mac = leg.mac;
    m.src_mac = leg.gateway_mac;
    m.endpoint = leg.endpoint;
    m.network = leg.network;
}

/// The mapping that a packet without a flow is for, its row under the inside socket; that socket's key is
/// left in `Work::callee`.
#[inline(always)]
pub fn find<A: Net>(p: &Packet<A>) -> Option<&'static Mapping<A>> {
    match p.l4 {
        L4::Tcp(flags) if begins(flags) => {}
        L4::Udp => {}
        L4::Tcp(_) | L4::EchoRequest | L4::EchoReply | L4::Icmp(_) | L4::Other | L4::Fragment => {
            return None;
        }
    }
    let work = work::get::<A>().ok()?;
    work.outside = Mapping::outside(p.tuple.dst, p.tuple.dport, p.tuple.proto);
    let outside = A::mappings().get_ptr(&work.outside)?;
    // SAFETY: a map value stays mapped for the run of the program; what was read is checked below.
    work.callee = unsafe { (*outside).other };
    let inside = A::mappings().get_ptr(&work.callee)?;
    // SAFETY: as above. Should the row be another mapping's by now, [`admit`] finds out.
    let (inside, outside) = unsafe { (&*inside, &*outside) };
    (is_pair(inside, outside) && inside.other == work.outside).then_some(inside)
}

/// What a flow that comes in by a mapping is to be, as far as that says it.
#[inline(always)]
pub fn lead_in<A: Net>(wish: &mut Wish<A>, p: &Packet<A>, called: &Mapping<A>) {
    wish.reset(FlowKind::Inbound, p.tuple);
    if let Ok(Work { callee, .. }) = work::get::<A>() {
        wish.to.dst = callee.src;
        wish.to.dport = callee.sport;
    }
    wish.leg = Leg {
        device: called.device,
        mac: called.dst_mac,
        gateway_mac: called.src_mac,
        endpoint: called.endpoint,
        network: called.network,
    };
    wish.calls = true;
}

/// Whether an outside socket is the mapping of an endpoint.
#[inline(always)]
pub fn is_of_endpoint<A: Net>(addr: A, port: Be16, proto: u8) -> bool {
    let Ok(Work { outside, .. }) = work::get::<A>() else {
        return false;
    };
    *outside = Mapping::outside(addr, port, proto);
    let row = A::mappings().get_ptr(&*outside);
    // SAFETY: a map value stays mapped for the run of the program.
    row.is_some_and(|row| unsafe { (*row).endpoint } != 0)
}

/// Whether the filter of the mapping at `Work::callee` admits who is seen as `Work::wish.to.src`; it is held
/// then.
#[inline(never)]
pub fn admit<A: Net>() -> Found {
    let Ok(Work {
        callee,
        wish,
        held: caller,
        ..
    }) = work::get::<A>()
    else {
        return Found::RACE;
    };
    let Some(m) = A::mappings().get_ptr_mut(&*callee) else {
        return Found::NONE;
    };
    // SAFETY: a map value stays mapped for the run of the program. Nobody comes in by a mapping in
    // quarantine: only the inside socket may take that again.
    let held = unsafe {
        count(
            m,
            callee,
            |word, _| {
                if flows(word) == 0 { None } else { held(word) }
            },
        )
    };
    let Some(word) = held else {
        return Found::NONE;
    };
    // SAFETY: as above, and the row is held.
    let m = unsafe { &*m };
    let remote = wish.to.src;
    let port = if wish.hairpin() {
        wish.to.sport
    } else {
        Be16([0; 2])
    };
    // Whom it has sent to among endpoints is known by their mappings, so who calls without one is nobody of
    // them, whatever its port.
    let unknown = wish.hairpin() && !wish.keeps && *caller & u32::from(flow_flags::MAPPED) == 0;
    let admitted = match filter(m.flags, m.first, remote.to_16(), wish.hairpin()) {
        Filter::Open => true,
        Filter::Shut => false,
        Filter::IfSent if unknown => false,
        // SAFETY: a map value stays readable for the run of the program.
        Filter::IfSent => unsafe { SENT.get(&sent_key(m, word, remote, port)) }.is_some(),
    };
    if admitted {
        Found::HELD
    } else {
        release::<A>(callee, true);
        Found::NONE
    }
}

/// A flow lets go of the mapping with this inside row. `rests`: a strict one keeps its port from others for a
/// while if it was the last.
#[inline(never)]
pub fn release<A: Net>(inside: &Tuple<A>, rests: bool) {
    let Some(m) = A::mappings().get_ptr_mut(inside) else {
        return;
    };
    // SAFETY: a map value stays mapped for the run of the program, and the flow still holds this one. Until
    // its last flow has ended `idle` means nothing.
    let (before, flags) = unsafe {
        (*m).idle = bpf_ktime_get_ns();
        let strict = if rests { mapping_flags::STRICT } else { 0 };
        let step = |word, flags| released(word, flags & strict);
        (count(m, inside, step), (*m).flags & strict)
    };
    if before.is_some_and(|word| flows(word) == 1) && flags == 0 {
        // SAFETY: as above: its word is a dead one now, so it is ours to remove.
        unsafe { remove(m, inside) };
    }
}

/// Removes both rows of a mapping whose word is a dead one: the port is free again.
///
/// # Safety
/// `m` points to the live value of `inside`.
#[inline(always)]
unsafe fn remove<A: Net>(m: *mut Mapping<A>, inside: &Tuple<A>) {
    // SAFETY: by the caller.
    let outside = unsafe { (*m).other };
    let _ = A::mappings().remove(&outside);
    let _ = A::mappings().remove(inside);
}

/// Frees a mapping that was made at `created`, by the key of either row: true. `over_at`: only if it is
/// over then; 0: whatever it holds. Of a row under an outside socket only what has lost its mapping goes.
#[inline(always)]
pub fn free<A: Net>(key: &Tuple<A>, created: u64, over_at: u64) -> bool {
    let Some(m) = A::mappings().get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: a map value stays mapped for the run of the program; `created` tells whether it is still the
    // mapping that is meant.
    let (made, row, idle) = unsafe { ((*m).created, (*m).flags, (*m).idle) };
    if made != created {
        return false;
    }
    if row & mapping_flags::OUTSIDE != 0 {
        // SAFETY: as above.
        let inside = unsafe { (*m).other };
        if let Some(inside) = A::mappings().get_ptr(&inside) {
            // SAFETY: as above.
            if unsafe { is_pair(&*inside, &*m) } {
                return false;
            }
        }
        let old = over_at == 0 || over_at.saturating_sub(created) > HALF_MADE;
        return old && A::mappings().remove(key).is_ok();
    }
    // SAFETY: as above.
    let done = unsafe {
        count(m, key, |word, flags| {
            let over = over_at == 0 || is_over(word, flags, idle, over_at);
            if over && !is_dead(word) {
                Some(dead(word))
            } else {
                None
            }
        })
    };
    if done.is_none() {
        return false;
    }
    // SAFETY: its word is a dead one now, so it is ours to remove.
    unsafe { remove(m, key) };
    true
}
