//! Reserving the outside port of a new flow: inserting the reply's entry under it.

use core::ffi::c_void;

use aya_ebpf::cty::c_long;
use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_loop};
use netd_common::addr::Be16;
use netd_common::maps::{Flow, Mapping, flow_flags, mapping_flags};
use netd_common::nat::{PortRange, TRIES, candidate};
use netd_common::reason::DropReason;
use netd_common::trace::{Point, taken};
use netd_common::tuple::Tuple;

use crate::family::Net;
use crate::maps::{BPF_NOEXIST, EEXIST};
use crate::skb::Skb;
use crate::sockets;
use crate::trace::trace;
use crate::work::{self, Work};

/// Finds a source port for the original direction and inserts the reply's entry, `Work::flow`, under it.
#[inline(never)]
pub fn reserve<A: Net>(skb: Skb) -> Result<(), DropReason> {
    let work = work::get::<A>()?;
    let wish = &work.wish;
    let mapped = work.held & u32::from(flow_flags::MAPPED) != 0;
    if mapped || wish.ports == PortRange::NONE {
        work.key = work.to.reverse();
        return match insert_reply(&work.key, &mut work.flow) {
            Ok(()) => Ok(()),
            // Nobody but this socket takes its mapping's port towards somebody: another CPU has.
            Err(EEXIST) if mapped => Err(DropReason::FlowRace),
            Err(EEXIST) if wish.is_by_address() => Err(DropReason::NatAmbiguous),
            Err(EEXIST) => Err(DropReason::NoPortFree),
            Err(_) => Err(DropReason::FlowTableFull),
        };
    }
    // SAFETY: plain helper call.
    work.random = unsafe { bpf_get_prandom_u32() };
    work.reserved = Reserved::No as u32;
    let mut skb = skb;
    // A loop of the kernel's: unrolled, the verifier would walk each of the tries.
    // SAFETY: the callback takes an index and the context given, which lives through the call.
    unsafe {
        bpf_loop(
            TRIES,
            attempt::<A> as *const () as *mut c_void,
            (&raw mut skb).cast::<c_void>(),
            0,
        );
    }
    match work::get::<A>()?.reserved {
        1 => Ok(()),
        2 => Err(DropReason::FlowTableFull),
        _ => Err(DropReason::NoPortFree),
    }
}

/// How far [`reserve`] has come, as `Work::reserved` has it.
#[repr(u32)]
enum Reserved {
    No = 0,
    Yes = 1,
    Full = 2,
}

/// Tries one source port; 1 ends the loop.
extern "C" fn attempt<A: Net>(n: u32, ctx: *mut c_void) -> c_long {
    // SAFETY: `bpf_loop` hands over the context of `reserve`.
    let skb = unsafe { *ctx.cast::<Skb>() };
    let Ok(Work {
        wish,
        flow,
        to,
        key,
        outside,
        random,
        reserved,
        ..
    }) = work::get::<A>()
    else {
        return 1;
    };
    to.sport = Be16::new(candidate(wish.to.sport.get(), n, *random, wish.ports));
    *key = to.reverse();
    // Most ports of a search are another flow's: one look-up tells, before the others are made.
    if n > 0 && A::flows().get_ptr(&*key).is_some() {
        return 0;
    }
    if sockets::held::<A>(skb) {
        if n == 0 {
            trace(Point::Taken, u32::from(to.sport.get()), taken::HELD);
        }
        return 0;
    }
    // A client's port is no port of the node.
    if !wish.keeps {
        *outside = Mapping::outside(to.src, to.sport, to.proto);
        if is_taken::<A>(outside, wish.maps) {
            return 0;
        }
    }
    match insert_reply(key, flow) {
        Ok(()) => *reserved = Reserved::Yes as u32,
        Err(EEXIST) => {
            if n == 0 {
                trace(Point::Taken, u32::from(to.sport.get()), taken::FLOW);
            }
            return 0;
        }
        Err(_) => *reserved = Reserved::Full as u32,
    }
    1
}

/// Whether an outside socket is a mapping's. One that is not strict is shared, but only by flows that have
/// found none for themselves (`shares`): who has no mapping at all may have any port.
#[inline(always)]
fn is_taken<A: Net>(outside: &Tuple<A>, shares: bool) -> bool {
    let row = A::mappings().get_ptr(outside);
    // SAFETY: a map value stays mapped for the run of the program.
    row.is_some_and(|row| !shares || unsafe { (*row).flags } & mapping_flags::STRICT != 0)
}

#[inline(always)]
fn insert_reply<A: Net>(key: &Tuple<A>, reply: &mut Flow<A>) -> Result<(), i32> {
    reply.tag = key.tag();
    A::flows().insert(key, &*reply, BPF_NOEXIST)
}
