//! What is known of a datagram while its fragments come: the records of `FRAG4` and `FRAG6`.

use aya_ebpf::bindings::BPF_F_RECOMPUTE_CSUM;
use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_ktime_get_ns};
use netd_common::addr::Be16;
use netd_common::checksum::Delta;
use netd_common::maps::fragment::{DATAGRAMS, Frag, FragKey, KNOWN, counter};
use netd_common::reason::DropReason;
use netd_common::wire::{Fragment, Window};

use crate::family::Net;
use crate::maps::{BPF_NOEXIST, FRAG_ID};
use crate::skb::Skb;
use crate::verdict::Verdict;
use crate::work::{self, Work};
use crate::{L3, atomic, waiting};

/// What the first fragment of a datagram has told.
pub struct Told {
    /// Its source port.
    pub sport: Be16,
    /// Its destination port.
    pub dport: Be16,
    /// Bytes of its payload.
    pub first: u32,
    /// The identification the datagram goes on with.
    pub id: [u8; 4],
}

/// A datagram of which the first fragment has come, not long ago.
#[inline(always)]
pub fn find<A: Net>(key: &FragKey<A>) -> Option<Told> {
    let entry = A::fragments().get_ptr(key)?;
    // SAFETY: a map value stays mapped for the run of the program. The tag, read last, tells whether the
    // element still belongs to our key.
    unsafe {
        if (&raw const (*entry).waiting).read_volatile() != KNOWN {
            return None;
        }
        let told = Told {
            sport: (*entry).sport,
            dport: (*entry).dport,
            first: (*entry).first,
            id: (*entry).id,
        };
        let last = (&raw const (*entry).last).read_volatile();
        let tag = (&raw const (*entry).tag).read_volatile();
        if tag != key.tag() || Frag::is_over(last, now()) {
            return None;
        }
        Some(told)
    }
}

/// Notes a fragment that goes on. With the last one the datagram is over, and its identification may be
/// used again.
#[inline(always)]
pub fn gone<A: Net>(key: &FragKey<A>, fragment: &Fragment) {
    let Some(entry) = A::fragments().get_ptr_mut(key) else {
        return;
    };
    // SAFETY: as in `find`; `gone` is only ever changed by atomic addition.
    let over = unsafe {
        (*entry).last = now();
        if fragment.more == 0 {
            (&raw mut (*entry).whole).write_volatile(fragment.end());
        }
        let len = u64::from(fragment.len);
        let gone = atomic::add(&raw mut (*entry).gone, len) + len;
        let whole = (&raw const (*entry).whole).read_volatile();
        whole != 0 && gone >= u64::from(whole)
    };
    if over {
        let _ = A::fragments().remove(key);
    }
}

/// Gives the packet another identification.
#[inline(always)]
pub fn rename<A: Net>(skb: Skb, fragment: &Fragment, id: [u8; 4]) -> Result<(), DropReason> {
    if A::IS_V4 {
        let old = skb.load::<8>(L3 + 4).ok_or(DropReason::Helper)?;
        let [_, _, a, b] = id;
        // The checksum stands six bytes behind the identification.
        let field = skb.load::<2>(L3 + 10).ok_or(DropReason::Helper)?;
        let csum = Delta::new()
            .remove([old[0], old[1]])
            .add([a, b])
            .apply(field);
        skb.store(L3 + 4, &[a, b])?;
        skb.store(L3 + 10, &csum)
    } else {
        skb.store_with(
            usize::from(fragment.at),
            &id,
            u64::from(BPF_F_RECOMPUTE_CSUM),
        )
    }
}

/// The clock of datagrams.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: a plain helper call.
    unsafe { bpf_ktime_get_ns() }
}

/// Keeps what the first fragment told. [`Verdict::OPEN`]: [`Work::token`] names those that wait.
#[inline(never)]
pub fn tell<A: Net>(skb: Skb) -> Verdict {
    Verdict::of(tell_inner::<A>(skb))
}

#[inline(always)]
fn tell_inner<A: Net>(skb: Skb) -> Result<Verdict, DropReason> {
    let Work {
        packet,
        fragment,
        datagram,
        frag,
        token,
        owner,
        ..
    } = work::get::<A>()?;
    *token = 0;
    frag.id = fragment.id;
    if let Some(known) = find::<A>(datagram) {
        // A copy of the first one.
        frag.id = known.id;
    } else {
        // Datagrams of several senders leave with one source address: what told them apart is gone
        // (RFC 6864 section 5.2).
        if A::source(&skb, L3) != Some(packet.tuple.src) {
            frag.id = unused::<A>(packet.tuple.dst);
        }
        frag.last = now();
        frag.waiting = KNOWN;
        frag.gone = u64::from(fragment.len);
        frag.whole = 0;
        frag.first = u32::from(fragment.len);
        frag.sport = packet.tuple.sport;
        frag.dport = packet.tuple.dport;
        enter::<A>(*owner, datagram, frag, token);
    }
    if frag.id != fragment.id {
        rename::<A>(skb, fragment, frag.id)?;
    }
    Ok(if *token == 0 {
        Verdict::NEXT
    } else {
        Verdict::OPEN
    })
}

/// Writes the record of a datagram whose first fragment has come, and takes the list of those that wait.
#[inline(always)]
fn enter<A: Net>(owner: u32, key: &FragKey<A>, frag: &mut Frag, token: &mut u64) {
    if !begin::<A>(owner, key, frag) {
        return;
    }
    let Some(entry) = A::fragments().get_ptr_mut(key) else {
        return;
    };
    // SAFETY: a map value stays mapped for the run of the program. Those that wait read the other fields
    // only when `waiting` says that they are there, and change that by compare-and-swap alone.
    unsafe {
        (*entry).sport = frag.sport;
        (*entry).dport = frag.dport;
        (*entry).first = frag.first;
        (*entry).id = frag.id;
        (*entry).last = frag.last;
        atomic::add(&raw mut (*entry).gone, u64::from(frag.first));
        for _ in 0..waiting::TRIES {
            let list = (&raw const (*entry).waiting).read_volatile();
            if list == KNOWN {
                return;
            }
            if atomic::swap(&raw mut (*entry).waiting, list, KNOWN) {
                *token = list;
                return;
            }
        }
    }
}

/// Makes the record of a datagram; what was there of one that is over goes. True: there is one already.
#[inline(always)]
pub fn begin<A: Net>(owner: u32, key: &FragKey<A>, frag: &mut Frag) -> bool {
    if let Some(entry) = A::fragments().get_ptr(key) {
        // SAFETY: as above.
        let last = unsafe { (&raw const (*entry).last).read_volatile() };
        if !Frag::is_over(last, now()) {
            return true;
        }
        let _ = A::fragments().remove(key);
    }
    frag.tag = key.tag();
    frag.turn = turn::<A>(owner, key);
    A::fragments().insert(key, &*frag, BPF_NOEXIST).is_err()
}

/// Gives a datagram its place among its owner's; the one that had it is given up, if it is still there.
#[inline(always)]
fn turn<A: Net>(owner: u32, key: &FragKey<A>) -> u32 {
    let Some(ring) = A::rings().get_ptr_mut(owner) else {
        return 0;
    };
    let Ok(Work { replaced, .. }) = work::get::<A>() else {
        return 0;
    };
    // SAFETY: an array's value stays mapped. Another CPU may be at the same place only 64 datagrams later.
    let n = unsafe {
        let n = atomic::add(&raw mut (*ring).next, 1);
        let place = (&raw mut (*ring).keys).cast::<FragKey<A>>();
        let place = place.add(core::hint::black_box(n as usize) & (DATAGRAMS as usize - 1));
        *replaced = *place;
        *place = *key;
        n
    };
    if n < DATAGRAMS {
        return n as u32;
    }
    if let Some(entry) = A::fragments().get_ptr(&*replaced) {
        // SAFETY: as in `find`.
        let turn = unsafe { (&raw const (*entry).turn).read_volatile() };
        if turn == (n - DATAGRAMS) as u32 {
            let _ = A::fragments().remove(&*replaced);
        }
    }
    n as u32
}

/// An identification that no other datagram to this destination had lately.
#[inline(always)]
fn unused<A: Net>(dst: A) -> [u8; 4] {
    // SAFETY: a plain helper call.
    let random = unsafe { bpf_get_prandom_u32() };
    if !A::IS_V4 {
        // Of 32 bits: two that meet within a minute are not to be expected (RFC 7739 section 5.3).
        return random.to_ne_bytes();
    }
    let Some(next) = FRAG_ID.get_ptr_mut(counter(dst)) else {
        return random.to_ne_bytes();
    };
    // SAFETY: an array's value stays mapped; it is only ever changed by atomic addition.
    let mut n = unsafe { atomic::add(next, 1) };
    if n == 0 {
        // The first one of all: nobody shall know where the numbers begin (RFC 7739 section 5.3).
        let start = u64::from(random & 0xffff) + 1;
        // SAFETY: as above.
        unsafe { atomic::add(next, start) };
        n = start;
    }
    let [a, b] = (n as u16).to_be_bytes();
    [0, 0, a, b]
}
