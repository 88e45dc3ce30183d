//! Fragments that wait for their first one: frames in the slots of `FRAG_WAIT`, which never move. Whoever
//! makes a slot busy owns it.

use core::ffi::c_void;

use aya_ebpf::bindings::BPF_F_RECOMPUTE_CSUM;
use aya_ebpf::cty::c_long;
use aya_ebpf::helpers::generated::{bpf_loop, bpf_skb_load_bytes, bpf_skb_store_bytes};
use netd_common::maps::fragment::{Frag, KNOWN, LARGEST, LINE, Waiting, line, slot, state, token};
use netd_common::reason::{DropReason, Hook};
use netd_common::trace::Point;
use netd_common::wire::ETH_LEN;

use crate::atomic;
use crate::datagram::{begin, now};
use crate::family::Net;
use crate::maps::{FRAG_NEXT, FRAG_SAVED, FRAG_WAIT};
use crate::skb::Skb;
use crate::trace::trace;
use crate::verdict::{NEXT, Verdict, count};
use crate::work::{self, Work};

/// Compare-and-swaps before one gives up: each one that fails is another CPU's that succeeded.
pub const TRIES: u32 = 8;

/// Shorter than any frame with a fragment in it.
const SHORTEST: usize = ETH_LEN + 20;

/// Lets the fragment in [`Work::packet`] wait. [`Verdict::COPIED`]: it does. [`Verdict::OPEN`]: the first
/// one has just come.
#[inline(never)]
pub fn hold<A: Net>(skb: Skb, owner: u32) -> Verdict {
    Verdict::of(hold_inner::<A>(skb, owner))
}

#[inline(always)]
fn hold_inner<A: Net>(skb: Skb, owner: u32) -> Result<Verdict, DropReason> {
    let Work { datagram, frag, .. } = work::get::<A>()?;
    frag.last = now();
    frag.waiting = 0;
    frag.gone = 0;
    frag.whole = 0;
    frag.first = 0;
    begin::<A>(owner, datagram, frag);
    let entry = A::fragments().get_ptr_mut(datagram);
    let entry = entry.ok_or(DropReason::FragLimit)?;
    let (place, turn) = keep(skb, line(owner))?;
    let waiting = FRAG_WAIT.get_ptr_mut(place).ok_or(DropReason::Helper)?;
    let me = token(place, turn);
    // SAFETY: map values stay mapped for the run of the program. Should the kernel have given the record to
    // another datagram, the frame is put back when that one's first comes, and is judged anew.
    unsafe {
        for _ in 0..TRIES {
            let list = (&raw const (*entry).waiting).read_volatile();
            if list == KNOWN {
                let full = state::of(turn, state::FULL);
                atomic::swap(
                    &raw mut (*waiting).state,
                    full,
                    state::of(turn, state::FREE),
                );
                return Ok(Verdict::OPEN);
            }
            (*waiting).next = list;
            if atomic::swap(&raw mut (*entry).waiting, list, me) {
                trace(Point::Waits, 0, 0);
                return Ok(Verdict::COPIED);
            }
        }
    }
    Err(DropReason::FragLimit)
}

/// Puts the frame into the next slot of a line: its number and turn. What waited there longest is given up.
#[inline(always)]
fn keep(skb: Skb, line: u32) -> Result<(u32, u64), DropReason> {
    let len = skb.bytes() as usize;
    if !(SHORTEST..=LARGEST).contains(&len) {
        return Err(DropReason::FragLimit);
    }
    let next = FRAG_NEXT.get_ptr_mut(line).ok_or(DropReason::Helper)?;
    // SAFETY: an array's value stays mapped; it is only ever changed by atomic addition.
    let n = unsafe { atomic::add(next, 1) };
    let place = line * LINE as u32 + (n & (LINE - 1)) as u32;
    let waiting = FRAG_WAIT.get_ptr_mut(place).ok_or(DropReason::Helper)?;
    let now = now();
    // SAFETY: an array's value stays mapped. `state` is only ever changed by compare-and-swap, and the
    // rest is the program's that made the slot busy.
    unsafe {
        let before = (&raw const (*waiting).state).read_volatile();
        if before & state::MASK == state::BUSY {
            return Err(DropReason::FragLimit);
        }
        let turn = state::turn(before) + 1;
        if !atomic::swap(
            &raw mut (*waiting).state,
            before,
            state::of(turn, state::BUSY),
        ) {
            return Err(DropReason::FragLimit);
        }
        if before & state::MASK == state::FULL {
            give_up(waiting, now);
        }
        let bytes = (&raw mut (*waiting).bytes).cast::<c_void>();
        let rc = bpf_skb_load_bytes(skb.raw().cast(), 0, bytes, bounded(len));
        (*waiting).since = now;
        (*waiting).len = len as u32;
        (*waiting).hook = skb.hook();
        let now_is = if rc == 0 { state::FULL } else { state::FREE };
        let busy = state::of(turn, state::BUSY);
        atomic::swap(&raw mut (*waiting).state, busy, state::of(turn, now_is));
        if rc == 0 {
            Ok((place, turn))
        } else {
            Err(DropReason::Helper)
        }
    }
}

/// Counts a frame that waited in vain.
///
/// # Safety
/// The slot is the caller's.
#[inline(always)]
unsafe fn give_up(waiting: *mut Waiting, now: u64) {
    // SAFETY: by the caller.
    let (since, len, hook) = unsafe { ((*waiting).since, (*waiting).len, (*waiting).hook) };
    let reason = if Frag::is_over(since, now) {
        DropReason::FragTimeout
    } else {
        DropReason::FragLimit
    };
    if let Some(hook) = Hook::from_code(hook as u8) {
        count(hook, Some(reason), len as usize);
    }
}

/// A length of 1 to [`LARGEST`] bytes as the verifiers believe it. LLVM knows these bounds by then, and
/// would leave them out.
#[inline(always)]
fn bounded(len: usize) -> u32 {
    const MASK: u32 = LARGEST as u32 - 1;
    const { assert!(LARGEST.is_power_of_two()) };
    (core::hint::black_box(len as u32).wrapping_sub(1) & MASK) + 1
}

/// Where those that waited go.
#[derive(Clone, Copy)]
#[repr(u32)]
enum Way {
    /// In at the device once more.
    In = 0,
    /// Out of it.
    Out = 1,
    /// Nowhere: the node's stack has them, and the datagram is its own.
    Nowhere = 2,
}

#[inline(always)]
fn way<A: Net>(skb: Skb) -> Result<Way, DropReason> {
    if skb.hook() == Hook::UpOut as u32 {
        return Ok(Way::Out);
    }
    if skb.hook() == Hook::UpIn as u32 && skb.action() == NEXT {
        let tuple = &work::get::<A>()?.packet.tuple;
        if A::flows().get_ptr(tuple).is_none() {
            return Ok(Way::Nowhere);
        }
    }
    Ok(Way::In)
}

/// What the loop over those that wait carries.
struct Release {
    skb: Skb,
    /// The next one.
    token: u64,
    /// [`Way`]
    way: u32,
}

/// Puts those that [`Work::token`] names back where they came in: there they meet the first one's record.
/// The packet at hand serves as their vehicle and is what it was afterwards.
#[inline(never)]
pub fn release<A: Net>(skb: Skb) -> Verdict {
    Verdict::of(release_inner::<A>(skb))
}

#[inline(always)]
fn release_inner<A: Net>(skb: Skb) -> Result<Verdict, DropReason> {
    let len = skb.bytes() as usize;
    if !(SHORTEST..=LARGEST).contains(&len) {
        return Ok(Verdict::NEXT);
    }
    let token = work::get::<A>()?.token;
    let saved = FRAG_SAVED.get_ptr_mut(0).ok_or(DropReason::Helper)?;
    let saved = saved.cast::<c_void>();
    // SAFETY: `saved` has room for them, this CPU's own: what is put back meets no first fragment.
    let rc = unsafe { bpf_skb_load_bytes(skb.raw().cast(), 0, saved, bounded(len)) };
    if rc != 0 {
        return Ok(Verdict::NEXT);
    }
    let mark = skb.mark();
    skb.set_mark(0);
    let mut ctx = Release {
        skb,
        token,
        way: way::<A>(skb)? as u32,
    };
    // SAFETY: the callback takes an index and the context given, which lives through the call.
    unsafe {
        bpf_loop(
            LINE as u32,
            one as *const () as *mut c_void,
            (&raw mut ctx).cast::<c_void>(),
            0,
        );
    }
    skb.set_mark(mark);
    write(skb, saved, len)?;
    Ok(Verdict::NEXT)
}

/// One of those that wait; 1 ends the loop.
extern "C" fn one(_: u32, ctx: *mut c_void) -> c_long {
    // SAFETY: `bpf_loop` hands over the context of `release`.
    let ctx = unsafe { &mut *ctx.cast::<Release>() };
    let Some(waiting) = slot(ctx.token).and_then(|slot| FRAG_WAIT.get_ptr_mut(slot)) else {
        return 1;
    };
    let turn = ctx.token >> 16;
    // SAFETY: an array's value stays mapped; the slot is ours once it is busy.
    unsafe {
        let state = &raw mut (*waiting).state;
        let busy = state::of(turn, state::BUSY);
        if !atomic::swap(state, state::of(turn, state::FULL), busy) {
            // Given up, and those before it were so earlier.
            return 1;
        }
        let bytes = (&raw mut (*waiting).bytes).cast::<c_void>();
        let sent = write(ctx.skb, bytes, (*waiting).len as usize);
        ctx.token = (*waiting).next;
        atomic::swap(state, busy, state::of(turn, state::FREE));
        if sent.is_ok() {
            let device = ctx.skb.ifindex();
            if ctx.way == Way::Out as u32 {
                ctx.skb.copy_out(device);
            } else if ctx.way == Way::In as u32 {
                ctx.skb.copy_receive(device);
            }
        }
    }
    0
}

/// Makes the packet a frame of `len` bytes.
#[inline(always)]
fn write(skb: Skb, bytes: *mut c_void, len: usize) -> Result<(), DropReason> {
    if !(SHORTEST..=LARGEST).contains(&len) {
        return Err(DropReason::Helper);
    }
    skb.resize(len)?;
    // The Ethernet header is not part of what a device has summed.
    let head = ETH_LEN as u32;
    let rest = bounded(len - ETH_LEN);
    // SAFETY: `bytes` has `ROOM` readable bytes, and `len` is at most `LARGEST`.
    let rc = unsafe {
        bpf_skb_store_bytes(skb.raw(), 0, bytes, head, 0)
            | bpf_skb_store_bytes(
                skb.raw(),
                head,
                bytes.byte_add(ETH_LEN),
                rest,
                u64::from(BPF_F_RECOMPUTE_CSUM),
            )
    };
    if rc == 0 {
        Ok(())
    } else {
        Err(DropReason::Helper)
    }
}
