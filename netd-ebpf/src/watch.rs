//! What the programs tell while somebody watches. While nobody does, `WATCH` is 0 and the verifier, which
//! knows that, takes it all out.
//!
//! A packet is noted when it comes to a hook, before a byte of it is changed, and told when its way ends
//! there, with what became of it.

use core::ffi::c_void;
use core::hint::black_box;

use aya_ebpf::Global;
use aya_ebpf::helpers::generated::{
    bpf_ktime_get_ns, bpf_ringbuf_discard, bpf_ringbuf_output, bpf_ringbuf_reserve,
    bpf_ringbuf_submit, bpf_skb_load_bytes, bpf_xdp_load_bytes,
};
use aya_ebpf::programs::XdpContext;
use netd_common::addr::Be16;
use netd_common::maps::{
    Closed, Event, EventKind, Flow, HEADERS, MAX_SNAPLEN, Outcome, event_flags, size, watch,
};
use netd_common::reason::Hook;
use netd_common::trace::Point;
use netd_common::tuple::Tuple;

use crate::family::Net;
use crate::maps::{EVENTS, LOST, SEEN, WATCHED};
use crate::skb::Skb;
use crate::trace::trace;
use crate::verdict::Verdict;
use crate::work;

/// What is told, [`netd_common::maps::watch`]; set by the loader.
#[unsafe(no_mangle)]
static WATCH: Global<u32> = Global::new(0);

/// Whether one of `bits` is told. What it guards costs nothing where it is not.
#[inline(always)]
pub fn on(bits: u32) -> bool {
    WATCH.load() & bits != 0
}

/// A watcher of live traffic.
const LIVE: u32 = watch::EVENTS | watch::PACKETS;

/// The packet at hand as it came to a hook: value of `SEEN`. A copy of a packet goes through the egress
/// hook of another device while the packet itself is still at its own, so each of the three has a place.
#[repr(C)]
pub struct Seen {
    /// What is told of it.
    event: Event,
    /// Its first bytes.
    frame: [u8; MAX_SNAPLEN],
}

/// The loader gives `SEEN` so many where it is used.
const _: () = assert!(place(Hook::UpOut) < size::SEEN_WATCHED);

/// The place of a hook.
#[inline(always)]
const fn place(hook: Hook) -> u32 {
    match hook {
        Hook::EpOut | Hook::GwOut | Hook::UpIn | Hook::Xdp => 0,
        Hook::EpIn => 1,
        Hook::UpOut => 2,
    }
}

#[inline(always)]
fn seen(place: u32) -> Option<&'static mut Seen> {
    let seen = SEEN.get_ptr_mut(place)?;
    // SAFETY: a per-CPU map value, valid for the run of the program; nobody else has this place of this
    // CPU meanwhile, and no reference to it is held over another call of this function.
    Some(unsafe { &mut *seen })
}

/// A packet comes to a hook.
#[inline(always)]
pub fn arrives(skb: Skb, hook: Hook) {
    if on(LIVE) {
        skb.set_place(place(hook));
        note_skb(skb, hook as u32);
    }
}

#[inline(never)]
fn note_skb(skb: Skb, hook: u32) -> u32 {
    let Some(seen) = seen(skb.place()) else {
        return 0;
    };
    begin(&mut seen.event, hook, skb.ifindex(), skb.bytes());
    if skb.gso_size() != 0 {
        seen.event.flags |= event_flags::SEGMENTS;
    }
    if skb.vlan_present() != 0 {
        seen.event.flags |= event_flags::VLAN;
        seen.event.vlan_tci = skb.vlan_tci() as u16;
        // The kernel's field is in network order, in the low half of a `u32`.
        seen.event.vlan_proto = Be16((skb.vlan_proto() as u16).to_ne_bytes());
    }
    let bytes = bytes_of(skb.bytes());
    // SAFETY: `raw` is the context; `frame` has room for `bytes`.
    let rc = unsafe {
        bpf_skb_load_bytes(
            skb.raw().cast::<c_void>(),
            0,
            seen.frame.as_mut_ptr().cast::<c_void>(),
            bytes,
        )
    };
    seen.event.captured = if rc == 0 { bytes } else { 0 };
    0
}

/// A frame comes to the XDP hook.
#[inline(always)]
pub fn arrives_xdp(ctx: &XdpContext) {
    if on(LIVE) {
        note_xdp(ctx);
    }
}

#[inline(always)]
fn note_xdp(ctx: &XdpContext) {
    let Some(seen) = seen(place(Hook::Xdp)) else {
        return;
    };
    let len = (ctx.data_end() - ctx.data()) as u32;
    // SAFETY: `ctx` is the context the kernel called the program with.
    let ifindex = unsafe { core::ptr::read_volatile(&raw const (*ctx.ctx).ingress_ifindex) };
    begin(&mut seen.event, Hook::Xdp as u32, ifindex, len);
    let bytes = bytes_of(len);
    // SAFETY: as in `note_skb`.
    let rc =
        unsafe { bpf_xdp_load_bytes(ctx.ctx, 0, seen.frame.as_mut_ptr().cast::<c_void>(), bytes) };
    seen.event.captured = if rc == 0 { bytes } else { 0 };
}

#[inline(always)]
fn begin(event: &mut Event, hook: u32, ifindex: u32, len: u32) {
    // SAFETY: a plain helper call.
    event.time = unsafe { bpf_ktime_get_ns() };
    event.ifindex = ifindex;
    event.device = 0;
    event.len = len;
    event.kind = EventKind::Packet.code();
    event.hook = hook as u8;
    event.flags = 0;
    event.vlan_tci = 0;
    event.vlan_proto = Be16([0; 2]);
}

/// How many bytes of a packet are noted: the headers, or what a capture asks for.
#[inline(always)]
fn bytes_of(len: u32) -> u32 {
    let asked = if on(watch::PACKETS) { asked(0) } else { 0 };
    bounded(asked.max(HEADERS as u32).min(len))
}

/// The same number, in a form that shows each verifier its bounds: 1 to [`MAX_SNAPLEN`].
#[inline(always)]
fn bounded(bytes: u32) -> u32 {
    (black_box(bytes.wrapping_sub(1)) & (MAX_SNAPLEN as u32 - 1)) + 1
}

const _: () = assert!(MAX_SNAPLEN.is_power_of_two());

/// Bytes to capture of each packet at a device; 0: it is not captured.
#[inline(always)]
fn asked(ifindex: u32) -> u32 {
    // SAFETY: a map value stays readable for the run of the program.
    unsafe { WATCHED.get(&ifindex) }.copied().unwrap_or(0)
}

/// The packet is sent to a device: what `point` says of it.
#[inline(always)]
pub fn goes(point: Point, device: u32) {
    if on(LIVE | watch::TRACE) {
        trace(point, device, 0);
        if on(LIVE)
            && let Some(seen) = seen(0)
        {
            // Only the hooks of the first place send packets on.
            seen.event.device = device;
        }
    }
}

/// The packet is rewritten from one tuple to another.
#[inline(always)]
pub fn rewritten<A: Net>(skb: Skb, from: &Tuple<A>, to: &Tuple<A>) {
    if on(LIVE)
        && let Some(seen) = seen(skb.place())
    {
        tuples(&mut seen.event, from, to);
        seen.event.flags |= event_flags::REWRITTEN;
    }
}

#[inline(always)]
fn tuples<A: Net>(event: &mut Event, from: &Tuple<A>, to: &Tuple<A>) {
    event.tuple = from.to_16();
    event.to = to.to_16();
    if A::IS_V4 {
        event.flags |= event_flags::V4;
    }
}

/// The packet's way ends at this hook.
#[inline(always)]
pub fn ends(skb: Skb, hook: Hook, verdict: Verdict) {
    if on(LIVE | watch::TRACE) {
        let reason = verdict.dropped().unwrap_or(0);
        trace(Point::Verdict, hook as u32, u32::from(reason));
        if on(LIVE) {
            tell(skb.place(), verdict.outcome().code().into(), reason.into());
        }
    }
}

/// The same for a frame at the XDP hook.
#[inline(always)]
pub fn ends_xdp(reason: u8) {
    if on(LIVE | watch::TRACE) {
        trace(Point::Verdict, Hook::Xdp as u32, u32::from(reason));
        if on(LIVE) {
            let outcome = if reason == 0 {
                Outcome::Passed
            } else {
                Outcome::Dropped
            };
            tell(place(Hook::Xdp), outcome.code().into(), reason.into());
        }
    }
}

#[inline(never)]
fn tell(place: u32, outcome: u32, reason: u32) -> u32 {
    let Some(seen) = seen(place) else {
        return 0;
    };
    seen.event.outcome = outcome as u8;
    seen.event.reason = reason as u8;
    if outcome as u8 != Outcome::Redirected.code() {
        seen.event.device = 0;
    }
    let mut wanted = 0;
    if on(watch::PACKETS) {
        wanted = asked(seen.event.ifindex).max(asked(seen.event.device));
        // The key 0 is no device.
        if seen.event.device == 0 {
            wanted = asked(seen.event.ifindex);
        }
    }
    if wanted == 0 {
        if reason == 0 || !on(watch::EVENTS) {
            return 0;
        }
        wanted = HEADERS as u32;
    }
    let bytes = wanted.min(seen.event.captured);
    seen.event.captured = bytes;
    let size = size_of::<Event>() as u64 + u64::from(bounded(bytes.max(1)));
    // SAFETY: `seen` has at least `size` bytes: a head and 1 to `MAX_SNAPLEN` of a frame.
    let rc =
        unsafe { bpf_ringbuf_output(ring(), core::ptr::from_mut(seen).cast::<c_void>(), size, 0) };
    if rc != 0 {
        lose();
    }
    0
}

/// An event for which there was no room.
#[inline(always)]
fn lose() {
    if let Some(lost) = LOST.get_ptr_mut(0) {
        // SAFETY: this CPU's value. Should an interrupt count in between, one is missing.
        unsafe { *lost += 1 };
    }
}

/// A flow has begun: [`work::Work`] has it, the original direction's entry in `flow`.
#[inline(always)]
pub fn opened<A: Net>() {
    if on(watch::EVENTS) {
        tell_opened::<A>();
    }
}

#[inline(never)]
fn tell_opened<A: Net>() -> u32 {
    let Ok(work) = work::get::<A>() else {
        return 0;
    };
    let Some(room) = room() else {
        return 0;
    };
    // SAFETY: `room` is an event in the ring buffer that nobody else has; `flow` writes all of it. It is
    // given back once.
    unsafe {
        let key = &work.packet.tuple;
        flow(&mut *room, key, &work.flow, EventKind::FlowOpened);
        bpf_ringbuf_submit(room.cast::<c_void>(), 0);
    }
    0
}

/// Room for an event about a flow; it has to be given back.
#[inline(always)]
fn room() -> Option<*mut Event> {
    // SAFETY: the map is a ring buffer.
    let room = unsafe { bpf_ringbuf_reserve(ring(), size_of::<Event>() as u64, 0) };
    if room.is_null() {
        lose();
        return None;
    }
    Some(room.cast())
}

#[inline(always)]
fn ring() -> *mut c_void {
    (&raw const EVENTS).cast_mut().cast::<c_void>()
}

/// Writes a whole event about a flow; what is only known at its end is 0.
#[inline(always)]
fn flow<A: Net>(event: &mut Event, key: &Tuple<A>, entry: &Flow<A>, kind: EventKind) {
    // SAFETY: a plain helper call.
    event.time = unsafe { bpf_ktime_get_ns() };
    event.created = entry.created;
    event.packets = 0;
    event.bytes = 0;
    event.reply_packets = 0;
    event.reply_bytes = 0;
    event.ifindex = 0;
    event.device = 0;
    event.endpoint = entry.endpoint;
    event.network = entry.network;
    event.publish = entry.publish;
    event.client = entry.client;
    event.len = 0;
    event.captured = 0;
    event.kind = kind.code();
    event.hook = 0;
    event.outcome = 0;
    event.reason = 0;
    event.flags = 0;
    event.flow_kind = entry.kind;
    event.closed = 0;
    event.seen = 0;
    event.reply_seen = 0;
    event.pad = [0; 3];
    event.vlan_tci = 0;
    event.vlan_proto = Be16([0; 2]);
    tuples(event, key, &entry.to);
}

/// An event that is told or taken back.
pub struct Closing {
    room: *mut Event,
    /// 1: there is one. Linux 6.1 does not see that a pointer into the ring buffer is not null once it was
    /// copied, so it is not asked.
    told: u64,
}

/// A flow is about to end: its original and its reply entry, while they are whole.
#[inline(always)]
pub fn closing<A: Net>(key: &Tuple<A>, entry: &Flow<A>, half: &Flow<A>, why: Closed) -> Closing {
    if !on(watch::EVENTS) {
        return Closing::NOTHING;
    }
    let Some(room) = room() else {
        return Closing::NOTHING;
    };
    // SAFETY: `room` is an event in the ring buffer that nobody else has; `flow` writes all of it.
    let event = unsafe { &mut *room };
    flow(event, key, entry, EventKind::FlowClosed);
    event.packets = entry.packets;
    event.bytes = entry.bytes;
    event.reply_packets = half.packets;
    event.reply_bytes = half.bytes;
    event.closed = why.code();
    event.seen = entry.seen;
    event.reply_seen = half.seen;
    Closing { room, told: 1 }
}

impl Closing {
    /// Nothing is told.
    pub const NOTHING: Self = Self {
        room: core::ptr::null_mut(),
        told: 0,
    };

    /// It has ended, or has not.
    #[inline(always)]
    pub fn settle(self, ended: bool) {
        if !on(watch::EVENTS) || black_box(self.told) == 0 {
            return;
        }
        let room = self.room.cast::<c_void>();
        // SAFETY: `room` was reserved, and is given back once.
        unsafe {
            if ended {
                bpf_ringbuf_submit(room, 0);
            } else {
                bpf_ringbuf_discard(room, 0);
            }
        }
    }
}
