//! What each switch port has learned and flooded, counted for its limits.

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use netd_common::learn::has_room;
use netd_common::maps::{Meter, Port};
use netd_common::reason::DropReason;
use netd_common::storm::take;

use crate::atomic;
use crate::maps::{AGED, BPF_NOEXIST, METER};

/// Compare-and-swaps before a frame is refused: each one that fails is another CPU's that succeeded.
const TRIES: u32 = 4;

/// The clock of everything that ages here: a few ms coarse, and cheap.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: a plain helper call.
    unsafe { bpf_ktime_get_coarse_ns() }
}

/// Takes a place for one more learned MAC at a switch port.
#[inline(always)]
pub fn enter(device: u32, port: &Port) -> Result<(), DropReason> {
    let meter = of(device).ok_or(DropReason::Helper)?;
    // SAFETY: a map value stays mapped for the run of the program; the field is only ever changed by
    // atomic instructions.
    let before = unsafe { atomic::add(&raw mut (*meter).gained, 1) };
    // SAFETY: as above.
    let lost = unsafe { core::ptr::read_volatile(&raw const (*meter).lost) };
    // SAFETY: as above.
    let aged = unsafe { AGED.get(&device) }.map_or(0, |n| *n);
    if has_room(port, before, lost, aged) {
        return Ok(());
    }
    leave(device);
    Err(DropReason::MacLimit)
}

/// Gives a place at a switch port back.
#[inline(always)]
pub fn leave(device: u32) {
    if let Some(meter) = METER.get_ptr_mut(&device) {
        // SAFETY: as in `enter`.
        unsafe { atomic::add(&raw mut (*meter).lost, 1) };
    }
}

/// Whether a switch port may have one more frame flooded.
#[inline(never)]
pub fn may_flood(device: u32, port: &'static Port) -> bool {
    if port.storm == 0 {
        return true;
    }
    let Some(meter) = of(device) else {
        // No memory: better a flood too many than none.
        return true;
    };
    let now = now();
    for _ in 0..TRIES {
        // SAFETY: as in `enter`.
        let full = unsafe { core::ptr::read_volatile(&raw const (*meter).flood) };
        let Some(next) = take(full, now, port.storm) else {
            return false;
        };
        // SAFETY: as in `enter`.
        if unsafe { atomic::swap(&raw mut (*meter).flood, full, next) } {
            return true;
        }
    }
    false
}

/// A switch port's row, made where there is none yet.
#[inline(always)]
fn of(device: u32) -> Option<*mut Meter> {
    if let Some(meter) = METER.get_ptr_mut(&device) {
        return Some(meter);
    }
    let zero = Meter {
        gained: 0,
        lost: 0,
        flood: 0,
    };
    // Another CPU may have been faster: then its row is the one.
    let _ = METER.insert(&device, &zero, BPF_NOEXIST);
    METER.get_ptr_mut(&device)
}
