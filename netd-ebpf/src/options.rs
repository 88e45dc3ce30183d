//! The IPv4 options of a packet that is cut: those of its first fragment, and those of the others.

use core::ffi::c_void;
use core::hint::black_box;

use aya_ebpf::cty::c_long;
use aya_ebpf::helpers::generated::{bpf_csum_diff, bpf_loop};
use netd_common::checksum::Delta;
use netd_common::split::{self, OPTIONS};
use netd_common::wire::{V4_LEN, Window};

use crate::L3;
use crate::maps::SPLIT;
use crate::skb::Skb;
use crate::split::bounded;

/// Options have at most as many bytes, rounded up for the verifiers.
pub const ROOM: u32 = 64;

/// What is kept of them.
#[repr(C)]
pub struct Options {
    /// As the packet has them, behind which there are zeros: the end of options.
    all: [u8; ROOM as usize],
    /// Those of the fragments behind the first one. Twice the room: an option begins in the first half.
    later: [u8; 2 * ROOM as usize],
    /// The sums of both.
    sums: [u32; 2],
    /// How much has been looked through, not on the stack, as that of [`crate::split::Saved`].
    at: u32,
    /// How much of `later` has been written.
    out: u32,
}

impl Options {
    /// The options of a fragment, and their sum.
    #[inline(always)]
    pub fn of(&self, first: bool) -> (*const u8, Delta) {
        let [all, later] = self.sums;
        if first {
            (self.all.as_ptr(), Delta::of_sum(all))
        } else {
            (self.later.as_ptr(), Delta::of_sum(later))
        }
    }
}

/// Options that are looked through.
struct Look {
    skb: Skb,
    len: u32,
}

/// Keeps the options of the packet, `len` bytes.
#[inline(never)]
pub fn keep(skb: Skb, len: u32) -> bool {
    let Some(saved) = SPLIT.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: a per-CPU map value, valid for the run of the program.
    let kept = unsafe { &mut (*saved).options };
    kept.all = [0; ROOM as usize];
    kept.later = [0; 2 * ROOM as usize];
    kept.sums = [0; 2];
    (kept.at, kept.out) = (0, 0);
    if len == 0 {
        return true;
    }
    let all = kept.all.as_mut_ptr();
    if !skb.read(L3 + V4_LEN, all, bounded::<ROOM>(len) as usize) {
        return false;
    }
    let mut look = Look { skb, len };
    // SAFETY: the callback takes an index and the context given, which lives through the call.
    unsafe {
        bpf_loop(
            OPTIONS as u32,
            one as *const () as *mut c_void,
            (&raw mut look).cast::<c_void>(),
            0,
        );
    }
    kept.sums = [
        sum_of(&raw mut kept.all),
        sum_of((&raw mut kept.later).cast()),
    ];
    true
}

#[inline(always)]
fn sum_of(options: *mut [u8; ROOM as usize]) -> u32 {
    // SAFETY: that many bytes of a map value, whose fields before it are whole words.
    let sum = unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, options.cast(), ROOM, 0) };
    sum.cast_unsigned() as u32
}

/// One option; 1 ends the loop.
extern "C" fn one(_: u32, ctx: *mut c_void) -> c_long {
    // SAFETY: `bpf_loop` hands over the context of `keep`.
    let look = unsafe { &mut *ctx.cast::<Look>() };
    let Some(saved) = SPLIT.get_ptr_mut(0) else {
        return 1;
    };
    // SAFETY: a per-CPU map value, valid for the run of the program.
    let kept = unsafe { &mut (*saved).options };
    if kept.at >= look.len {
        return 1;
    }
    let at = L3 + V4_LEN + (black_box(kept.at) & (ROOM - 1)) as usize;
    // Behind the last one there is payload.
    let Some([kind, length]) = look.skb.load::<2>(at) else {
        return 1;
    };
    let Some(opt) = split::option(kind, length, look.len - kept.at) else {
        return 1;
    };
    kept.at += opt.len;
    if opt.copied {
        let out = (black_box(kept.out) & (ROOM - 1)) as usize;
        // SAFETY: `out` is in the first half of `later`, and an option is not longer than that.
        let to = unsafe { kept.later.as_mut_ptr().add(out) };
        look.skb.read(at, to, bounded::<ROOM>(opt.len) as usize);
        kept.out += opt.len;
    }
    0
}
