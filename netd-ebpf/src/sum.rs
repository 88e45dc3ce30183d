//! Sums of a packet's bytes, where all of them are needed: for messages that netd judges or makes as a whole.

use core::ffi::c_void;
use core::hint::black_box;

use aya_ebpf::cty::c_long;
use aya_ebpf::helpers::generated::{bpf_csum_diff, bpf_loop, bpf_skb_load_bytes};
use netd_common::checksum::Delta;
use netd_common::reason::DropReason;

use crate::maps::CHUNK;
use crate::skb::Skb;

/// Bytes `bpf_csum_diff` takes at once.
pub const CHUNK_LEN: usize = 512;

/// As many chunks as the largest packet has.
const CHUNKS: u32 = 65_536 / CHUNK_LEN as u32;

/// How far a sum has come.
struct Job {
    skb: Skb,
    at: u32,
    end: u32,
    sum: u32,
    failed: u32,
}

/// Adds the bytes from offset `at` to `end` of a packet to a sum.
#[inline(always)]
pub fn bytes(skb: Skb, at: u32, end: u32, start: Delta) -> Result<Delta, DropReason> {
    let mut job = Job {
        skb,
        at,
        end,
        sum: start.wsum(),
        failed: 0,
    };
    // SAFETY: the callback takes an index and the context given, which lives through the call.
    unsafe {
        bpf_loop(
            CHUNKS,
            chunk as *const () as *mut c_void,
            (&raw mut job).cast::<c_void>(),
            0,
        );
    }
    if job.failed == 0 {
        Ok(Delta::of_sum(job.sum))
    } else {
        Err(DropReason::Helper)
    }
}

/// One chunk; 1 ends the loop.
extern "C" fn chunk(_: u32, ctx: *mut c_void) -> c_long {
    // SAFETY: `bpf_loop` hands over the context of `bytes`.
    let job = unsafe { &mut *ctx.cast::<Job>() };
    if job.at >= job.end {
        return 1;
    }
    let left = (job.end - job.at) as usize;
    // Bounded so that the verifier of Linux 6.1 sees it: from one byte to a chunk.
    let below = if left < CHUNK_LEN {
        left - 1
    } else {
        CHUNK_LEN - 1
    };
    let len = (black_box(below) & (CHUNK_LEN - 1)) + 1;
    let Some(buffer) = CHUNK.get_ptr_mut(0) else {
        return 1;
    };
    let buffer = buffer.cast::<u32>();
    // Whole words are added: what is missing in the last one is zero.
    let last = (black_box(below) & (CHUNK_LEN - 1)) / 4;
    // SAFETY: the value has `CHUNK_LEN` bytes, of which `last` is a word, and `len` is at most that.
    let rc = unsafe {
        buffer.add(last).write(0);
        bpf_skb_load_bytes(
            job.skb.raw().cast(),
            job.at,
            buffer.cast::<c_void>(),
            len as u32,
        )
    };
    if rc != 0 {
        job.failed = 1;
        return 1;
    }
    let words = (black_box(below) & (CHUNK_LEN - 4)) + 4;
    // SAFETY: `words` bytes of the value are readable.
    let sum = unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, buffer, words as u32, job.sum) };
    job.sum = sum.cast_unsigned() as u32;
    job.at += len as u32;
    0
}
