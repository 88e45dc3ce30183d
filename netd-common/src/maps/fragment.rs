//! Fragments of datagrams that are translated: what their first one has told, and those that wait for it.

use super::pod;
use crate::addr::{Addr, Be16};

/// Nanoseconds without a further fragment after which a datagram is given up, and its identification may
/// be another one's.
pub const PATIENCE: u64 = 2_000_000_000;

/// Unfinished datagrams that an owner may have: beyond, its oldest is given up for the newest.
pub const DATAGRAMS: u64 = 64;

/// Owners that are told apart: the lower half for endpoints, by their numbers, the upper one for sources
/// outside, by a hash of the address.
pub const OWNERS: u32 = 512;

/// Owners whose waiting fragments are told apart, in halves as [`OWNERS`].
pub const LINES: u32 = 32;

/// Fragments that may wait in a line: beyond, its oldest is given up for the newest.
pub const LINE: u64 = 64;

/// Bytes of the largest frame that may wait.
pub const LARGEST: usize = 2_048;

/// Room for it; verifiers do not follow that a frame's payload is shorter than the frame.
pub const ROOM: usize = LARGEST + 32;

/// Counters from which new identifications are taken; destinations share them by a hash of the address.
pub const COUNTERS: u32 = 1_024;

/// Entries of `FRAG4` and `FRAG6`.
pub const RECORDS: u32 = 16_384;

/// The owner of what an endpoint sends.
#[inline(always)]
pub const fn of_endpoint(number: u32) -> u32 {
    number % (OWNERS / 2)
}

/// The owner of what comes from outside.
#[inline(always)]
pub fn of_source<A: Addr>(src: A) -> u32 {
    OWNERS / 2 + spread(src) % (OWNERS / 2)
}

/// The line in which an owner's fragments wait.
#[inline(always)]
pub const fn line(owner: u32) -> u32 {
    let half = LINES / 2;
    if owner < OWNERS / 2 {
        owner % half
    } else {
        half + owner % half
    }
}

/// The counter for a destination's identifications.
#[inline(always)]
pub fn counter<A: Addr>(dst: A) -> u32 {
    spread(dst) % COUNTERS
}

/// A hash of an address.
#[inline(always)]
fn spread<A: Addr>(addr: A) -> u32 {
    let n = u128::from_ne_bytes(addr.to_16());
    let n = (n as u64) ^ ((n >> 64) as u64).rotate_left(29);
    (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

/// Key of `FRAG4` and `FRAG6`: a datagram, where its fragments come in.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FragKey<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Identification, as [`Fragment::id`](crate::wire::Fragment::id) has it.
    pub id: [u8; 4],
    /// ifindex of the device its fragments come in on, or leave by.
    pub device: u32,
    /// IP protocol number.
    pub proto: u8,
    /// Zero.
    pub pad: [u8; 3],
}

pod!(FragKey, 8 + 12, 32 + 12);

impl<A: Addr> FragKey<A> {
    /// A number that differs, with high odds, between two keys: see [`Tuple::tag`](crate::tuple::Tuple::tag).
    #[inline(always)]
    pub fn tag(&self) -> u32 {
        let id = u32::from_ne_bytes(self.id);
        spread(self.src)
            ^ spread(self.dst).rotate_left(7)
            ^ id.wrapping_mul(0x9e37_79b1)
            ^ self.device.rotate_left(16)
            ^ (u32::from(self.proto) << 24)
    }
}

/// Value of `FRAG4` and `FRAG6`. The fields that the first fragment tells are valid once
/// [`Self::waiting`] is [`KNOWN`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frag {
    /// When its last fragment came, `bpf_ktime_get_ns`.
    pub last: u64,
    /// [`KNOWN`]: the first fragment has come. Else the newest of those that wait for it, as
    /// [`token`]; 0: none. Changed by compare-and-swap only.
    pub waiting: u64,
    /// Bytes of payload that have gone on, changed by atomic addition.
    pub gone: u64,
    /// Bytes of payload of the whole datagram; 0: its last fragment has not come.
    pub whole: u32,
    /// Which of its owner's datagrams it is, counted from 0 and cut to 32 bits.
    pub turn: u32,
    /// Bytes of payload of the first fragment.
    pub first: u32,
    /// The identification it goes on with.
    pub id: [u8; 4],
    /// Source port, or identifier of an echo request.
    pub sport: Be16,
    /// Destination port, or identifier of an echo reply.
    pub dport: Be16,
    /// [`FragKey::tag`] of the entry's own key: tells a reader that the kernel reused the element.
    pub tag: u32,
}

/// [`Frag::waiting`] once the first fragment has come.
pub const KNOWN: u64 = u64::MAX;

impl Frag {
    /// Nothing has been heard of the datagram for so long that the next fragment is another one's.
    #[inline(always)]
    pub const fn is_over(last: u64, now: u64) -> bool {
        now.saturating_sub(last) > PATIENCE
    }
}

/// How the place of a waiting fragment is named: its slot, and which of the fragments that were there.
#[inline(always)]
pub const fn token(slot: u32, turn: u64) -> u64 {
    (turn << 16) | (slot as u64 + 1)
}

/// The slot that a [`token`] names; `None`: it names none.
#[inline(always)]
pub const fn slot(token: u64) -> Option<u32> {
    match (token & 0xffff) as u32 {
        0 => None,
        n => Some(n - 1),
    }
}

/// States of a slot, [`Waiting::state`]: the lowest two bits. The others say which of the fragments that
/// were there it is.
pub mod state {
    /// Nobody's.
    pub const FREE: u64 = 0;
    /// A program writes or reads it.
    pub const BUSY: u64 = 1;
    /// A fragment waits there.
    pub const FULL: u64 = 2;
    /// The bits.
    pub const MASK: u64 = 3;

    /// The turn of a state.
    #[inline(always)]
    pub const fn turn(state: u64) -> u64 {
        state >> 2
    }

    /// A state of that turn, cut to the bits a [`token`](super::token) has for it.
    #[inline(always)]
    pub const fn of(turn: u64, state: u64) -> u64 {
        ((turn & (u64::MAX >> 17)) << 2) | state
    }
}

/// Value of `FRAG_WAIT`: a frame that waits for its datagram's first fragment.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Waiting {
    /// [`state`]; changed by compare-and-swap only.
    pub state: u64,
    /// The one that came before it, as [`token`]; 0: none.
    pub next: u64,
    /// When it came, `bpf_ktime_get_ns`.
    pub since: u64,
    /// Bytes of the frame, at most [`LARGEST`].
    pub len: u32,
    /// The hook it came to, as `Hook` has it.
    pub hook: u32,
    /// The frame.
    pub bytes: [u8; ROOM],
}

const _: () = assert!(size_of::<Waiting>() == 2_112);

/// Value of `FRAG_RING4` and `FRAG_RING6`: the datagrams an owner has begun last.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ring<A> {
    /// How many it has begun, changed by atomic addition.
    pub next: u64,
    /// The keys, that of datagram n in place n modulo [`DATAGRAMS`].
    pub keys: [FragKey<A>; DATAGRAMS as usize],
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::addr::{V4, V6};

    #[test]
    fn endpoints_and_the_outside_share_nothing() {
        for number in 0..2 * OWNERS {
            let owner = of_endpoint(number);
            assert!(owner < OWNERS / 2 && line(owner) < LINES / 2);
        }
        let used: std::collections::BTreeSet<u32> = (0..=255u8)
            .map(|n| of_source::<V4>([192, 0, 2, n]))
            .collect();
        assert!(used.iter().all(|o| (OWNERS / 2..OWNERS).contains(o)));
        assert!(used.iter().all(|o| (LINES / 2..LINES).contains(&line(*o))));
        assert!(
            used.len() > 100,
            "neighbours are told apart: {}",
            used.len()
        );
        let lines: std::collections::BTreeSet<u32> = used.iter().map(|o| line(*o)).collect();
        assert_eq!(lines.len() as u32, LINES / 2);
        assert_ne!(of_endpoint(1), of_endpoint(2));
        assert_ne!(line(of_endpoint(1)), line(of_endpoint(2)));
    }

    #[test]
    fn patience_ends_after_two_seconds() {
        assert!(!Frag::is_over(5, 5 + PATIENCE));
        assert!(Frag::is_over(5, 6 + PATIENCE));
        assert!(
            !Frag::is_over(9, 5),
            "another CPU's clock is a little ahead"
        );
    }

    proptest! {
        #[test]
        fn a_token_names_its_slot_and_turn(slot_no in 0u32..2048, turn in any::<u64>()) {
            let full = state::of(turn, state::FULL);
            let t = token(slot_no, state::turn(full));
            prop_assert_eq!(slot(t), Some(slot_no));
            prop_assert_eq!(t >> 16, state::turn(full));
            prop_assert_ne!(t, KNOWN);
            prop_assert_ne!(t, 0);
            prop_assert_eq!(full & state::MASK, state::FULL);
            prop_assert_eq!(slot(0), None);
        }

        #[test]
        fn a_tag_sees_each_field(a in any::<V6>(), b in any::<V6>(), id in any::<[u8; 4]>(), device in any::<u32>(), n in 1u8.., byte in 0usize..16) {
            let key = FragKey { src: a, dst: b, id, device, proto: 17, pad: [0; 3] };
            let mut others = [key; 5];
            others[0].src[byte] ^= n;
            others[1].dst[byte] ^= n;
            others[2].id[byte / 4] ^= n;
            others[3].device ^= u32::from(n);
            others[4].proto ^= n;
            for other in others {
                prop_assert_ne!(other.tag(), key.tag());
            }
        }
    }
}
