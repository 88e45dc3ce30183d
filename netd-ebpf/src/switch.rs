//! The segment: frames to a known MAC go to its switch port, the others to all.

use core::ffi::c_void;

use aya_ebpf::cty::c_long;
use aya_ebpf::helpers::generated::bpf_loop;
use netd_common::addr::Mac;
use netd_common::maps::{FdbKey, HostKind, Port, SegmentKey, size};
use netd_common::reason::DropReason;
use netd_common::trace::Point;
use netd_common::wire::Window;
use netd_common::wire::group::stays_on_its_link;

use crate::maps::{FDB, SEGMENT};
use crate::skb::{Skb, receive};
use crate::trace::trace;
use crate::verdict::{SENT_BY_NETD, Verdict};
use crate::{learn, meter};

/// Sends a unicast frame to the switch port its destination is behind.
#[inline(always)]
pub fn forward(skb: Skb, port: &'static Port, dst: Mac) -> Result<Verdict, DropReason> {
    // SAFETY: a map value stays readable for the run of the program.
    let Some(entry) = (unsafe { FDB.get(&FdbKey::new(port.network, dst)) }) else {
        return Ok(unwritten(skb, port));
    };
    trace(Point::Fdb, entry.device, entry.kind);
    if entry.device == skb.ifindex() {
        return Err(DropReason::Reflected);
    }
    Ok(Verdict::redirect(match HostKind::from_code(entry.kind) {
        HostKind::Endpoint => skb.peer(entry.device),
        HostKind::Gateway => receive(entry.device),
    }))
}

/// Hands a frame to the endpoint its destination is behind. [`Verdict::OPEN`]: there is none, or it is
/// the one the frame came from.
#[inline(always)]
pub fn to_endpoint(skb: Skb, port: &Port, dst: Mac) -> Verdict {
    // SAFETY: a map value stays readable for the run of the program.
    let Some(entry) = (unsafe { FDB.get(&FdbKey::new(port.network, dst)) }) else {
        return Verdict::OPEN;
    };
    if entry.device == skb.ifindex() || entry.kind != HostKind::Endpoint.code() {
        return Verdict::OPEN;
    }
    trace(Point::Fdb, entry.device, entry.kind);
    Verdict::redirect(skb.peer(entry.device))
}

/// To a MAC the control plane has not written: one that was learned, or nobody's. It reads the
/// destination again, as `endpoint::unanswered` does, and for the same reason.
#[inline(never)]
fn unwritten(skb: Skb, port: &'static Port) -> Verdict {
    let Some(dst) = skb.load::<6>(0) else {
        return Verdict::of(Err(DropReason::Truncated));
    };
    match learn::device(port, &FdbKey::new(port.network, dst)) {
        Some(device) if device == skb.ifindex() => Verdict::of(Err(DropReason::Reflected)),
        Some(device) => {
            trace(Point::Learned, device, 0);
            Verdict::redirect(skb.peer(device))
        }
        None => {
            trace(Point::Unknown, 0, 0);
            flood(skb, port)
        }
    }
}

/// A frame to a group.
#[inline(always)]
pub fn group(skb: Skb, port: &'static Port, dst: Mac) -> Verdict {
    if stays_on_its_link(dst) {
        return Verdict::of(Err(DropReason::ReservedGroup));
    }
    flood(skb, port)
}

/// What the loop over a segment's switch ports carries.
struct Flood {
    skb: Skb,
    network: u32,
    /// Device the frame came from: it does not go back there.
    from: u32,
}

/// Sends a copy to every switch port of the network but the one it came from.
#[inline(never)]
pub fn flood(skb: Skb, port: &'static Port) -> Verdict {
    if !meter::may_flood(skb.ifindex(), port) {
        return Verdict::of(Err(DropReason::Storm));
    }
    trace(Point::Flood, port.network, 0);
    // From the gateway's inner end a frame must not go to its outer end.
    let from = if port.endpoint == 0 {
        port.outer
    } else {
        skb.ifindex()
    };
    let mut ctx = Flood {
        skb,
        network: port.network,
        from,
    };
    // SAFETY: the callback takes an index and the context given; both live through the call.
    unsafe {
        bpf_loop(
            size::SEGMENT,
            copy as *const () as *mut c_void,
            (&raw mut ctx).cast::<c_void>(),
            0,
        );
    }
    Verdict::COPIED
}

/// One switch port; 1 behind the last.
extern "C" fn copy(slot: u32, ctx: *mut c_void) -> c_long {
    // SAFETY: `bpf_loop` hands over the context of `flood`.
    let Flood { skb, network, from } = unsafe { &*ctx.cast::<Flood>() };
    // SAFETY: a map value stays readable for the run of the program.
    let Some(target) = (unsafe {
        SEGMENT.get(&SegmentKey {
            network: *network,
            slot,
        })
    }) else {
        return 1;
    };
    if target.device == *from {
        return 0;
    }
    match HostKind::from_code(target.kind) {
        HostKind::Endpoint => {
            skb.set_mark(SENT_BY_NETD);
            skb.copy_out(target.device);
        }
        HostKind::Gateway => {
            skb.set_mark(0);
            skb.copy_receive(target.device);
        }
    }
    0
}
