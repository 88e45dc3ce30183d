//! Notes on what is decided, for `netd trace`. The daemon traces with a second load of the programs, on
//! copies of the maps; in the load that is hooked `WATCH` is 0, and the verifier takes the code away.

use netd_common::maps::watch;
use netd_common::trace::{NOTES, Note, Point};

use crate::maps::TRACE;
use crate::watch::on;

/// Whether the packet is only traced: what helpers would send for good must not be sent.
#[inline(always)]
pub fn tracing() -> bool {
    on(watch::TRACE)
}

/// Notes a decision.
#[inline(always)]
pub fn trace(point: Point, a: u32, b: u32) {
    if tracing() {
        write(point as u32, a, b);
    }
}

/// Beyond the last place the last note is written over: that way the verdict is always there.
#[inline(never)]
fn write(point: u32, a: u32, b: u32) {
    let Some(trace) = TRACE.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: a map value stays mapped for the run of the program, and the one run at a time is the only
    // writer. `at` is below `NOTES`.
    unsafe {
        let count = (*trace).count;
        (*trace).count = count + 1;
        let at = if count < NOTES as u32 - 1 {
            count as usize
        } else {
            NOTES - 1
        };
        let note = (&raw mut (*trace).notes).cast::<Note>().add(at);
        (*note).point = point;
        (*note).a = a;
        (*note).b = b;
    }
}
