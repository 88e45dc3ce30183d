//! Source learning, for switch ports that may have more than one MAC behind them. What the control
//! plane has written into `FDB` is never learned over: it is another map.

use netd_common::learn::{OnLink, admit, is_fresh, learns, refresh_due};
use netd_common::maps::{FdbKey, Learned, Port};
use netd_common::reason::DropReason;
use netd_common::trace::{Point, source};
use netd_common::wire::Window;

use crate::atomic;
use crate::maps::{BPF_NOEXIST, FDB, LEARNED, PORT};
use crate::meter;
use crate::skb::Skb;
use crate::trace::trace;
use crate::verdict::Verdict;

/// A frame whose source MAC is not the endpoint's own. [`Verdict::OPEN`]: it may pass, and frames to
/// that MAC find the way back.
#[inline(never)]
pub fn source(skb: Skb, port: &'static Port) -> Verdict {
    Verdict::of(source_inner(skb, port))
}

#[inline(always)]
fn source_inner(skb: Skb, port: &'static Port) -> Result<Verdict, DropReason> {
    let src = skb.load::<6>(6).ok_or(DropReason::Truncated)?;
    admit(port, src)?;
    let device = skb.ifindex();
    let key = FdbKey::new(port.network, src);
    let entry = Learned {
        owner: Learned::owned_by(device, &key),
        last_seen: meter::now(),
    };
    let known = LEARNED.get_ptr_mut(&key);
    if let Some(known) = known {
        // SAFETY: a map value stays mapped for the run of the program; the owner is read whole.
        let (owner, seen) = unsafe {
            (
                core::ptr::read_volatile(&raw const (*known).owner),
                core::ptr::read_volatile(&raw const (*known).last_seen),
            )
        };
        if owner == entry.owner {
            if refresh_due(port, seen, entry.last_seen) {
                // Should the kernel have given the element away, another MAC lives a little longer.
                // SAFETY: as above.
                unsafe { core::ptr::write_volatile(&raw mut (*known).last_seen, entry.last_seen) };
            }
            trace(Point::Source, device, source::KNOWN);
            return Ok(Verdict::OPEN);
        }
    }
    // SAFETY: as above.
    if unsafe { FDB.get(&key) }.is_some() {
        return Err(DropReason::SpoofedMac);
    }
    meter::enter(device, port)?;
    let stays = match known {
        Some(known) => take_over(known, &key, &entry),
        // A full table learns no more: frames to such a MAC are flooded.
        None => LEARNED.insert(&key, &entry, BPF_NOEXIST).is_ok(),
    };
    if !stays {
        trace(Point::Source, device, source::FORGOTTEN);
        meter::leave(device);
    } else if known.is_some() {
        trace(Point::Source, device, source::MOVED);
    } else {
        trace(Point::Source, device, source::LEARNED);
    }
    Ok(Verdict::OPEN)
}

/// Moves a MAC from another switch port to this one. Of several CPUs that try, one succeeds: so the
/// counts of both switch ports stay right.
#[inline(always)]
fn take_over(known: *mut Learned, key: &FdbKey, entry: &Learned) -> bool {
    // SAFETY: a map value stays mapped for the run of the program; programs change the field only by
    // atomic instructions.
    let old = unsafe { core::ptr::read_volatile(&raw const (*known).owner) };
    let Some(from) = Learned::device(old, key) else {
        return false;
    };
    // SAFETY: as above.
    if !unsafe { atomic::swap(&raw mut (*known).owner, old, entry.owner) } {
        return false;
    }
    // SAFETY: as above.
    unsafe { core::ptr::write_volatile(&raw mut (*known).last_seen, entry.last_seen) };
    meter::leave(from);
    true
}

/// The switch port a MAC was learned at, if it is still known and the switch port still there.
#[inline(always)]
pub fn device(port: &Port, key: &FdbKey) -> Option<u32> {
    let known = LEARNED.get_ptr(key)?;
    // SAFETY: a map value stays mapped for the run of the program; each field is read whole.
    let (owner, seen) = unsafe {
        (
            core::ptr::read_volatile(&raw const (*known).owner),
            core::ptr::read_volatile(&raw const (*known).last_seen),
        )
    };
    let device = Learned::device(owner, key)?;
    if !is_fresh(port, seen, meter::now()) {
        return None;
    }
    // A device that is gone has no row any more, whoever got its number has another network's.
    // SAFETY: as above.
    let there = unsafe { PORT.get(&device) }?;
    (there.network == port.network && learns(there)).then_some(device)
}

/// Whether an address that netd gave to nobody may be somebody's behind this switch port: it is of the
/// link, and not made from the MAC of the gateway or of another endpoint.
#[inline(never)]
pub fn unclaimed<A: OnLink>(port: &'static Port, addr: &A) -> bool {
    if !learns(port) || !addr.is_on_link(port) {
        return false;
    }
    let Some(mac) = addr.made_from() else {
        return true;
    };
    // SAFETY: a map value stays readable for the run of the program.
    match unsafe { FDB.get(&FdbKey::new(port.network, mac)) } {
        Some(entry) => entry.endpoint == port.endpoint,
        None => true,
    }
}
