//! Atomic changes of a map value's fields. `core`'s atomics stop at load and store on this target, so
//! the two instructions (Linux 5.12, commits 5ca419f2864a and 5ffa25502b5a) are written out.

use core::arch::asm;

/// Adds to a number and returns what it was before.
///
/// # Safety
/// `at` points to an aligned number in a live map value that others change only by this module.
#[inline(always)]
pub unsafe fn add(at: *mut u64, n: u64) -> u64 {
    let before: u64;
    // SAFETY: by the caller.
    unsafe {
        asm!(
            "r0 = atomic_fetch_add((u64 *)(r1 + 0), r0)",
            in("r1") at,
            inlateout("r0") n => before,
            options(nostack),
        );
    }
    before
}

/// Puts `new` where `old` is; false: something else was there.
///
/// # Safety
/// As [`add`].
#[inline(always)]
pub unsafe fn swap(at: *mut u64, old: u64, new: u64) -> bool {
    let before: u64;
    // SAFETY: by the caller.
    unsafe {
        asm!(
            "r0 = cmpxchg_64(r1 + 0, r0, r2)",
            in("r1") at,
            in("r2") new,
            inlateout("r0") old => before,
            options(nostack),
        );
    }
    before == old
}
