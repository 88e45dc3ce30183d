//! How many flows an endpoint may have, and how many it has, of all and of those that were begun from
//! outside. The programs alone count: one more when a flow's original entry is inserted, one less when it is
//! removed.

use netd_common::flow::has_room;
use netd_common::maps::{Limits, Usage};
use netd_common::reason::DropReason;

use crate::atomic;
use crate::maps::{BPF_NOEXIST, LIMITS, USAGE};

/// Time-outs and limits.
#[inline(always)]
pub fn limits() -> Option<&'static Limits> {
    LIMITS.get(0)
}

/// An endpoint's counter.
#[inline(always)]
fn counter(endpoint: u32) -> Option<*mut Usage> {
    USAGE.get_ptr_mut(&endpoint)
}

/// Whether an endpoint may have one more flow, that it begins or (`called`) somebody outside; 0, the node,
/// always may. Several CPUs may ask at once: a limit may be passed by as many flows as there are CPUs.
#[inline(always)]
pub fn may_begin(endpoint: u32, called: bool) -> Result<(), DropReason> {
    if endpoint == 0 || is_within(endpoint, called) {
        Ok(())
    } else {
        Err(DropReason::FlowLimit)
    }
}

/// A function of its own, as is [`began`], so that what it keeps on the stack is gone when the search
/// for a port begins.
#[inline(never)]
fn is_within(endpoint: u32, called: bool) -> bool {
    let Some(limits) = limits() else {
        return true;
    };
    let Some(count) = counter(endpoint) else {
        return has_room(Usage::default(), limits.per_endpoint, called);
    };
    // SAFETY: a map value stays mapped for the run of the program; other CPUs write each count as a whole.
    let used = unsafe {
        Usage {
            flows: (&raw const (*count).flows).read_volatile(),
            called: (&raw const (*count).called).read_volatile(),
        }
    };
    has_room(used, limits.per_endpoint, called)
}

/// An endpoint has one more flow.
#[inline(never)]
pub fn began(endpoint: u32, called: bool) {
    if endpoint == 0 {
        return;
    }
    if counter(endpoint).is_none() {
        // A zero of this run: a constant would lie in the object's read-only data, where the loader takes
        // an address without a name for the beginning of it.
        let none = core::hint::black_box(Usage::default());
        // Another CPU may just do the same.
        let _ = USAGE.insert(&endpoint, &none, BPF_NOEXIST);
    }
    add(endpoint, called, 1);
}

/// An endpoint has one flow less.
#[inline(always)]
pub fn ended(endpoint: u32, called: bool) {
    add(endpoint, called, 1_u64.wrapping_neg());
}

#[inline(always)]
fn add(endpoint: u32, called: bool, change: u64) {
    if let Some(count) = counter(endpoint) {
        // SAFETY: an aligned map value, which the programs change only so.
        unsafe {
            atomic::add(&raw mut (*count).flows, change);
            if called {
                atomic::add(&raw mut (*count).called, change);
            }
        }
    }
}
