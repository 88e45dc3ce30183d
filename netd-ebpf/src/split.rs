//! `netd_split`: cuts an IPv4 packet that is too big for its exit, and may be cut, to fragments. They come in
//! again by the endpoint's device, as if the endpoint had cut it itself, and are translated as those are. Of TCP, many
//! segments in one are made smaller instead.

use core::ffi::c_void;
use core::hint::black_box;

use aya_ebpf::cty::c_long;
use aya_ebpf::helpers::generated::bpf_loop;
use netd_common::addr::V4;
use netd_common::reason::{DropReason, Hook};
use netd_common::split::{self, LARGEST, OPTIONS, PIECE};
use netd_common::trace::Point;
use netd_common::tuple::proto;
use netd_common::wire::{Eth, V4_LEN, Window, ethertype};

use crate::answer::fragmentable;
use crate::maps::SPLIT;
use crate::options::{self, Options};
use crate::skb::{Skb, receive};
use crate::trace::trace;
use crate::verdict::Verdict;
use crate::{L3, fib, sum, work};

/// Bytes that are cut off behind the Ethernet header for a moment, so that the kernel forgets that a
/// checksum is to be finished there: more than the Ethernet and the longest IP header, where that one begins.
const FORGET: i32 = 76;

/// Bytes a packet must have for that: the kernel wants an IP header behind what is cut off.
const LEAST: usize = L3 + FORGET as usize + V4_LEN;

/// What is kept of a packet while it is cut: value of `SPLIT`.
#[repr(C, align(8))]
pub struct Saved {
    /// Behind the header. Its end is for the verifiers, which see that a piece begins before [`LARGEST`].
    payload: [u8; (LARGEST + PIECE) as usize],
    /// The options.
    pub options: Options,
    /// How much of the payload has gone. What a loop counts is here and not on the stack: there a verifier would follow
    /// it through each round.
    at: u32,
    pad: u32,
}

/// Whether a packet that is dropped for `reason` is cut instead. Many segments in one are if they are of TCP: UDP's
/// are datagrams, whose size means something.
#[inline(never)]
pub fn is_wanted(skb: Skb, hook: Hook, reason: u8) -> bool {
    if hook != Hook::EpOut || reason != DropReason::TooBig as u8 {
        return false;
    }
    match Eth::parse(&skb) {
        Ok(eth) => eth.ethertype == ethertype::IPV4 && fragmentable(skb) && is_stream(skb),
        Err(_) => false,
    }
}

#[inline(always)]
fn is_stream(skb: Skb) -> bool {
    match work::get::<V4>() {
        Ok(work) => skb.gso_size() == 0 || work.packet.ip.proto == proto::TCP,
        Err(_) => false,
    }
}

/// [`netd_common::stage::Stage::Split`]: cuts the packet. [`Verdict::COPIED`]: all of it has gone on.
#[inline(always)]
pub fn cut(skb: Skb) -> Verdict {
    if skb.gso_size() != 0 {
        return segments(skb);
    }
    match finish(skb) {
        Verdict::OPEN => pieces(skb),
        decided => decided,
    }
}

/// Makes the segments of a packet of TCP smaller, so that they fit the exit, and lets it come in again. A stream is
/// the same however it is cut.
#[inline(never)]
fn segments(skb: Skb) -> Verdict {
    Verdict::of(segments_inner(skb))
}

#[inline(always)]
fn segments_inner(skb: Skb) -> Result<Verdict, DropReason> {
    /// The largest segment divided by what goes at once.
    const STEPS: u32 = 0xffff / Skb::STEP + 1;
    let work = work::get::<V4>()?;
    let headers = fib::headers(skb, &work.packet.ip);
    let by = split::less(skb.gso_size(), headers, work.detail);
    let mut left = by.ok_or(DropReason::TooBig)?;
    for _ in 0..STEPS {
        if left == 0 {
            break;
        }
        let step = if left < Skb::STEP { left } else { Skb::STEP };
        if !skb.less(step.cast_signed()) {
            return Err(DropReason::TooBig);
        }
        left -= step;
    }
    Ok(Verdict::redirect(receive(skb.ifindex())))
}

/// Where the payload of the packet in [`work::Work`] starts, and its length, where it is one that can be cut.
#[inline(always)]
fn payload() -> Result<(usize, u32), DropReason> {
    let ip = &work::get::<V4>()?.packet.ip;
    // A header ends before offset 128. LLVM sees below that the options are not too long, and would leave out what
    // tells the verifiers.
    let l4 = black_box(usize::from(ip.l4)) & 0x7f;
    let len = ip.end.wrapping_sub(l4 as u32);
    if l4 < L3 + V4_LEN || l4 - L3 - V4_LEN > OPTIONS || len == 0 || len > LARGEST {
        return Err(DropReason::TooBig);
    }
    Ok((l4, len))
}

/// Finishes a checksum over the whole, which no device can once it is in pieces.
#[inline(never)]
fn finish(skb: Skb) -> Verdict {
    Verdict::of(finish_inner(skb))
}

#[inline(always)]
fn finish_inner(skb: Skb) -> Result<Verdict, DropReason> {
    let (l4, len) = payload()?;
    let ip = &work::get::<V4>()?.packet.ip;
    if ip.fragment {
        return Ok(Verdict::OPEN);
    }
    match ip.proto {
        proto::TCP => finish_at::<16>(skb, proto::TCP, l4, len),
        proto::UDP => finish_at::<6>(skb, proto::UDP, l4, len),
        _ => Ok(Verdict::OPEN),
    }
}

#[inline(always)]
fn finish_at<const AT: usize>(
    skb: Skb,
    proto: u8,
    l4: usize,
    len: u32,
) -> Result<Verdict, DropReason> {
    const { assert!(AT == 6 || AT == 16) };
    let ip = &work::get::<V4>()?.packet.ip;
    let pseudo = split::pseudo_header(ip.src, ip.dst, proto, len);
    let field = skb.load::<2>(l4 + AT).ok_or(DropReason::TooBig)?;
    if !split::is_unfinished(field, pseudo) {
        return Ok(Verdict::OPEN);
    }
    skb.put(l4 + AT, &[0; 2])?;
    let sum = sum::bytes(skb, l4 as u32, l4 as u32 + len, pseudo)?.field();
    // Of UDP zero says that there is none (RFC 768).
    let sum = if AT == 6 && sum == [0; 2] {
        [0xff; 2]
    } else {
        sum
    };
    skb.put(l4 + AT, &sum)?;
    Ok(Verdict::OPEN)
}

/// A packet that is cut.
struct Job {
    skb: Skb,
    len: u32,
    size: u32,
    /// Bytes of options.
    options: u32,
    header: [u8; V4_LEN],
    failed: u32,
}

/// Keeps the payload, and sends it in pieces.
#[inline(never)]
fn pieces(skb: Skb) -> Verdict {
    Verdict::of(pieces_inner(skb))
}

#[inline(always)]
fn pieces_inner(skb: Skb) -> Result<Verdict, DropReason> {
    let (l4, len) = payload()?;
    let options = (l4 - L3 - V4_LEN) as u32;
    let work = work::get::<V4>()?;
    let size = split::piece(work.detail, V4_LEN as u32 + options).ok_or(DropReason::TooBig)?;
    let mut header = skb.load::<V4_LEN>(L3).ok_or(DropReason::TooBig)?;
    if work.packet.ip.later {
        // By the identification it came with it is found again.
        let [_, _, a, b] = work.datagram.id;
        (header[4], header[5]) = (a, b);
    }
    let saved = SPLIT.get_ptr_mut(0).ok_or(DropReason::Helper)?;
    let kept = skb.read(l4, saved.cast(), bounded::<LARGEST>(len) as usize)
        && options::keep(skb, options)
        && skb.reduce(LEAST)
        && skb.shift(-FORGET)
        && skb.shift(FORGET);
    if !kept {
        return Err(DropReason::TooBig);
    }
    trace(Point::Cut, size, 0);
    // SAFETY: a per-CPU map value, valid for the run of the program.
    unsafe { (*saved).at = 0 };
    let mut job = Job {
        skb,
        len,
        size,
        options,
        header,
        failed: 0,
    };
    // SAFETY: the callback takes an index and the context given, which lives through the call.
    unsafe {
        bpf_loop(
            LARGEST / 8 + 1,
            one as *const () as *mut c_void,
            (&raw mut job).cast::<c_void>(),
            0,
        );
    }
    if job.failed == 0 {
        Ok(Verdict::COPIED)
    } else {
        Err(DropReason::TooBig)
    }
}

/// One fragment; 1 ends the loop.
extern "C" fn one(_: u32, ctx: *mut c_void) -> c_long {
    // SAFETY: `bpf_loop` hands over the context of `pieces`.
    let job = unsafe { &mut *ctx.cast::<Job>() };
    let Some(saved) = SPLIT.get_ptr_mut(0) else {
        return 1;
    };
    // SAFETY: a per-CPU map value, valid for the run of the program.
    let saved = unsafe { &mut *saved };
    let at = saved.at;
    if at >= job.len {
        return 1;
    }
    let left = job.len - at;
    let len = if left < job.size { left } else { job.size };
    let (options, sum) = saved.options.of(at == 0);
    let from = (black_box(at) & (LARGEST - 1)) as usize;
    // SAFETY: `from` is below `LARGEST`, behind which the payload has `PIECE` bytes more.
    let bytes = unsafe { saved.payload.as_ptr().add(from) };
    let header = split::header(job.header, at, len, len == left, sum);
    let skb = job.skb;
    let l4 = L3 + V4_LEN + job.options as usize;
    let made = skb.reduce(l4 + len as usize)
        && skb.put(L3, &header).is_ok()
        && (job.options == 0
            || skb.write(
                L3 + V4_LEN,
                options,
                bounded::<{ options::ROOM }>(job.options) as usize,
            ))
        && skb.write(l4, bytes, bounded::<PIECE>(len) as usize);
    if !made {
        job.failed = 1;
        return 1;
    }
    skb.copy_receive(skb.ifindex());
    saved.at = at + len;
    0
}

/// A length of 1 to `MOST` bytes as the verifiers believe it.
#[inline(always)]
pub fn bounded<const MOST: u32>(len: u32) -> u32 {
    const { assert!(MOST.is_power_of_two()) };
    (black_box(len).wrapping_sub(1) & (MOST - 1)) + 1
}
