//! How many flows an endpoint may have, and how many it has. The programs alone count: one more when a
//! flow's original entry is inserted, one less when it is removed.

use netd_common::maps::Limits;
use netd_common::reason::DropReason;

use crate::atomic;
use crate::maps::{LIMITS, USAGE};

/// Insert only if the key is not there.
const BPF_NOEXIST: u64 = 1;

/// Time-outs and limits.
#[inline(always)]
pub fn limits() -> Option<&'static Limits> {
    LIMITS.get(0)
}

/// An endpoint's counter.
#[inline(always)]
fn counter(endpoint: u32) -> Option<*mut u64> {
    USAGE.get_ptr_mut(&endpoint)
}

/// Whether an endpoint may have one more flow; 0, the node, always may. Several CPUs may ask at once: a
/// limit may be passed by as many flows as there are CPUs.
#[inline(always)]
pub fn may_begin(endpoint: u32) -> Result<(), DropReason> {
    if endpoint == 0 || has_room(endpoint) {
        Ok(())
    } else {
        Err(DropReason::FlowLimit)
    }
}

/// A function of its own, as is [`began`], so that what it keeps on the stack is gone when the search
/// for a port begins.
#[inline(never)]
fn has_room(endpoint: u32) -> bool {
    // SAFETY: a map value stays mapped for the run of the program; other CPUs write it as a whole.
    let used = counter(endpoint).map_or(0, |count| unsafe { count.read_volatile() });
    limits().is_none_or(|limits| used < limits.per_endpoint)
}

/// An endpoint has one more flow.
#[inline(never)]
pub fn began(endpoint: u32) {
    if endpoint == 0 {
        return;
    }
    if counter(endpoint).is_none() {
        // A zero of this run: a constant would lie in the object's read-only data, where the loader takes
        // an address without a name for the beginning of it.
        let none = core::hint::black_box(0_u64);
        // Another CPU may just do the same.
        let _ = USAGE.insert(&endpoint, &none, BPF_NOEXIST);
    }
    add(endpoint, 1);
}

/// An endpoint has one flow less.
#[inline(always)]
pub fn ended(endpoint: u32) {
    add(endpoint, 1_u64.wrapping_neg());
}

#[inline(always)]
fn add(endpoint: u32, change: u64) {
    if let Some(count) = counter(endpoint) {
        // SAFETY: an aligned map value, which the programs change only so.
        unsafe { atomic::add(count, change) };
    }
}
