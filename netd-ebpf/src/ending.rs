//! Ending flows and freeing mappings. Both entries of a flow are removed here and nowhere else: for the daemon, which runs
//! `netd_flow_end` on a list of flows, and for the data path itself, when there is no room for a new one
//! and the daemon has made none. What is open is never ended for something new.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::cty::c_long;
use aya_ebpf::helpers::generated::{
    bpf_for_each_map_elem, bpf_ktime_get_ns, bpf_loop, bpf_skb_load_bytes,
};
use netd_common::addr::{V4, V6};
use netd_common::flow::{SWEEP_EVERY, is_left_over, is_pair, life, silent_since};
use netd_common::mapping as mapping_of;
use netd_common::maps::{
    Closed, Dir, Ending, Flow, Mapping, ending, flow_flags, is_called, mapping_flags, payer,
};
use netd_common::tuple::Tuple;
use netd_common::wire::Window;

use crate::family::Net;
use crate::maps::SWEPT;
use crate::skb::Skb;
use crate::watch::{self, Closing};
use crate::{limits, mapping, work};

/// Ends the flow with `key` as its original key that began at `created`: true. Or removes an entry there
/// without its other half: false. `over_at`: only if it is over then; 0: whatever its state. `other` is room for the other
/// key: the stack is small, and not every caller may use the CPU's work value.
#[inline(always)]
fn end<A: Net>(
    key: &Tuple<A>,
    created: u64,
    over_at: u64,
    other: &mut Tuple<A>,
    why: Closed,
) -> bool {
    let Some(entry) = A::flows().get_ptr(key) else {
        return false;
    };
    // SAFETY: a map value stays mapped for the run of the program. Packets note themselves on it
    // meanwhile; `created` tells whether it is still the flow that is meant.
    let entry = unsafe { &*entry };
    if entry.created != created {
        return false;
    }
    let original = entry.dir == Dir::Original.code();
    let endpoint = payer(entry.endpoint, entry.client);
    let held = entry.flags;
    let called = is_called(entry.kind, entry.flags);
    *other = entry.to.reverse();
    let mut whole = false;
    let mut closing = Closing::NOTHING;
    if let Some(half) = A::flows().get_ptr(&*other) {
        // SAFETY: as above.
        let half = unsafe { &*half };
        if is_pair(half, entry) {
            // A reply's key was given, and its original is there: not an entry without its half.
            return false;
        }
        if is_pair(entry, half) {
            whole = true;
            if over_at != 0 {
                let Some(limits) = limits::limits() else {
                    return false;
                };
                if life(entry, half, over_at, &limits.timeouts).left > 0 {
                    return false;
                }
            }
            closing = watch::closing(key, entry, half, why);
        }
    }
    if !whole && over_at != 0 && !is_left_over(entry, over_at) {
        return false;
    }
    let removed = A::flows().remove(key).is_ok();
    closing.settle(removed);
    if !removed {
        // Somebody else was quicker, and counts.
        return false;
    }
    if whole {
        let _ = A::flows().remove(&*other);
    }
    if original {
        if endpoint != 0 {
            limits::ended(endpoint, called);
        }
        let_go(key, other, held);
    }
    whole
}

/// Ends the flow of an endpoint whose replies have the key at `Work::key`, if there is one.
#[inline(never)]
pub fn give_way<A: Net>() {
    let Ok(work) = work::get::<A>() else {
        return;
    };
    let Some(entry) = A::flows().get_ptr(&work.key) else {
        return;
    };
    // SAFETY: a map value stays mapped for the run of the program. Should it change hands meanwhile, `end`
    // finds out by `created`.
    let (endpoint, created) = unsafe {
        work.to = (*entry).to.reverse();
        ((*entry).endpoint, (*entry).created)
    };
    if endpoint != 0 {
        end(&work.to, created, 0, &mut work.key, Closed::Ended);
    }
}

/// Lets go of the mappings that a flow held, by its two keys and [`flow_flags`]. A function of its own, which
/// makes their keys where the flow's were: stack.
#[inline(never)]
fn let_go<A: Net>(key: &Tuple<A>, other: &Tuple<A>, held: u8) {
    if held & flow_flags::MAPPED != 0 {
        let inside = mapping_of::source(key, &other.reverse(), held);
        mapping::release::<A>(&inside, true);
    }
    if held & flow_flags::CALLED != 0 {
        let inside = mapping_of::called(key, &other.reverse());
        mapping::release::<A>(&inside, true);
    }
}

/// The list `netd_flow_end` was given, while it is worked off.
struct Batch {
    skb: Skb,
    over_at: u64,
    ended: u32,
    mappings: bool,
}

/// Ends the flows of a list ([`ending`]); how many ended.
#[inline(always)]
pub fn list(skb: Skb) -> i32 {
    let Some([family, mode]) = skb.load::<2>(ending::FAMILY) else {
        return 0;
    };
    let over_at = if matches!(mode, ending::END | ending::FREE) {
        0
    } else {
        // SAFETY: a plain helper call.
        unsafe { bpf_ktime_get_ns() }
    };
    let mut batch = Batch {
        skb,
        over_at,
        ended: 0,
        mappings: matches!(mode, ending::FREE | ending::FREE_IF_OVER),
    };
    if family == 4 {
        each::<V4>(&mut batch);
    } else {
        each::<V6>(&mut batch);
    }
    batch.ended.cast_signed()
}

#[inline(never)]
fn each<A: Net>(batch: &mut Batch) {
    // SAFETY: the callback takes an index and the context given; both live through the call.
    unsafe {
        bpf_loop(
            ending::MOST as u32,
            one::<A> as *const () as *mut c_void,
            core::ptr::from_mut(batch).cast::<c_void>(),
            0,
        );
    }
}

/// One flow of the list; 1 ends it.
extern "C" fn one<A: Net>(n: u32, ctx: *mut c_void) -> c_long {
    // SAFETY: `bpf_loop` hands over the context of `each`.
    let batch = unsafe { &mut *ctx.cast::<Batch>() };
    let size = size_of::<Ending<A>>() as u32;
    let mut flow = MaybeUninit::<Ending<A>>::uninit();
    // SAFETY: `raw` is the program's context, and `flow` has room for `size` bytes.
    let flow = unsafe {
        let at = ending::HEAD as u32 + n * size;
        if bpf_skb_load_bytes(batch.skb.raw().cast(), at, flow.as_mut_ptr().cast(), size) != 0 {
            return 1;
        }
        flow.assume_init()
    };
    if batch.mappings {
        if mapping::free(&flow.key, flow.created, batch.over_at) {
            batch.ended += 1;
        }
        return 0;
    }
    let mut other = MaybeUninit::<Tuple<A>>::uninit();
    // SAFETY: `end` writes it before it reads it; any bytes are a tuple.
    let other = unsafe { &mut *other.as_mut_ptr() };
    let why = if batch.over_at == 0 {
        Closed::Ended
    } else {
        Closed::Over
    };
    if end(&flow.key, flow.created, batch.over_at, other, why) {
        batch.ended += 1;
    }
    0
}

/// Ends all flows that are over, unless that was done a moment ago: the daemon does it all the time, so
/// this finds something only while there is none. It walks the whole table (some milliseconds for a
/// large one), so the packet for which there was no room is not tried again: its sender will.
#[inline(always)]
pub fn make_room() {
    // SAFETY: a plain helper call.
    let now = unsafe { bpf_ktime_get_ns() };
    let Some(swept) = SWEPT.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: a map value stays mapped for the run of the program. Two CPUs that read it at once both
    // sweep, which does no harm.
    unsafe {
        if now.saturating_sub(*swept) < SWEEP_EVERY {
            return;
        }
        *swept = now;
    }
    sweep::<V4>(now);
    sweep::<V6>(now);
    sweep_mappings::<V4>(now);
    sweep_mappings::<V6>(now);
}

#[inline(never)]
fn sweep<A: Net>(now: u64) {
    let mut now = now;
    let table = core::ptr::from_ref(A::flows()).cast::<c_void>().cast_mut();
    // SAFETY: the callback takes a key, a value and the context given, which lives through the call. It
    // may remove elements of the table it walks.
    unsafe {
        bpf_for_each_map_elem(
            table,
            visit::<A> as *const () as *mut c_void,
            (&raw mut now).cast::<c_void>(),
            0,
        );
    }
}

/// One entry of the table.
extern "C" fn visit<A: Net>(
    _table: *mut c_void,
    key: *const Tuple<A>,
    flow: *const Flow<A>,
    now: *mut c_void,
) -> c_long {
    // SAFETY: the kernel hands over a key and a value of the table, and the context of `sweep`.
    let (key, flow, now) = unsafe { (&*key, &*flow, *now.cast::<u64>()) };
    if flow.dir != Dir::Original.code() {
        return 0;
    }
    let (Some(limits), Ok(work)) = (limits::limits(), work::get::<A>()) else {
        return 1;
    };
    // Young by this entry alone: nothing has to be looked up.
    if now.saturating_sub(silent_since(flow)) < limits.timeouts.shortest(key.proto) {
        return 0;
    }
    work.key = *key;
    end(&work.key, flow.created, now, &mut work.to, Closed::MadeRoom);
    0
}

#[inline(never)]
fn sweep_mappings<A: Net>(now: u64) {
    let mut now = now;
    let table = core::ptr::from_ref(A::mappings())
        .cast::<c_void>()
        .cast_mut();
    // SAFETY: as in `sweep`.
    unsafe {
        bpf_for_each_map_elem(
            table,
            visit_mapping::<A> as *const () as *mut c_void,
            (&raw mut now).cast::<c_void>(),
            0,
        );
    }
}

/// One row of the table of mappings.
extern "C" fn visit_mapping<A: Net>(
    _table: *mut c_void,
    key: *const Tuple<A>,
    m: *const Mapping<A>,
    now: *mut c_void,
) -> c_long {
    // SAFETY: the kernel hands over a key and a value of the table, and the context of `sweep_mappings`.
    let (key, m, now) = unsafe { (&*key, &*m, *now.cast::<u64>()) };
    let idle = mapping_of::is_over(m.word, m.flags, m.idle, now);
    if m.flags & mapping_flags::OUTSIDE == 0 && idle {
        let Ok(work) = work::get::<A>() else {
            return 1;
        };
        work.key = *key;
        mapping::free(&work.key, m.created, now);
    }
    0
}
