//! The life of a mapping: who holds it, who may come in by it, when its port is free again.
//!
//! Generation and references are one 64-bit word, changed by compare-and-swap alone. The kernel gives the
//! element of a removed row to the next one at once, under a program that still has a pointer to it: the
//! generation, in the same word, makes such a program's swap fail.

use crate::addr::{Addr, Be16, V6};
use crate::flow::{HALF_MADE, SECOND};
use crate::maps::{Mapping, SentKey, flow_flags, mapping_flags, port_flags};
use crate::tuple::Tuple;

/// How long a freed port of the strict profile stays with its inside socket (RFC 6888 REQ-8).
pub const QUARANTINE: u64 = 120 * SECOND;

/// References of a mapping that is being removed: nobody may take it any more.
const DEAD: u32 = u32::MAX;

/// The word of a new mapping with one flow; `random` becomes its generation.
#[inline(always)]
pub const fn fresh(random: u32) -> u64 {
    ((random as u64) << 32) | 1
}

/// Flows that a word counts; of a mapping being removed, none.
#[inline(always)]
pub const fn flows(word: u64) -> u32 {
    if word as u32 == DEAD { 0 } else { word as u32 }
}

/// Whether the mapping is being removed.
#[inline(always)]
pub const fn is_dead(word: u64) -> bool {
    word as u32 == DEAD
}

/// The word of a mapping that is being removed.
#[inline(always)]
pub const fn dead(word: u64) -> u64 {
    word | DEAD as u64
}

/// The word with one flow more; `None`: it is being removed, or has all the flows that can be counted.
#[inline(always)]
pub const fn held(word: u64) -> Option<u64> {
    if word as u32 >= DEAD - 1 {
        None
    } else {
        Some(word + 1)
    }
}

/// The word with one flow less. A balanced mapping is removed with its last flow, so its word is a dead
/// one then; a strict one stays. `None`: it counts none.
#[inline(always)]
pub const fn released(word: u64, flags: u8) -> Option<u64> {
    match flows(word) {
        0 => None,
        1 if flags & mapping_flags::STRICT == 0 => Some(dead(word)),
        _ => Some(word - 1),
    }
}

/// How long a mapping with these flags stays when its last flow has ended, in nanoseconds.
#[inline(always)]
pub const fn stays(flags: u8) -> u64 {
    if flags & mapping_flags::STRICT != 0 {
        QUARANTINE
    } else {
        HALF_MADE
    }
}

/// Whether a mapping with these flags, idle since then, may go at `now`: a strict one when its quarantine
/// is over, another when whoever ended its last flow cannot still be removing it.
#[inline(always)]
pub const fn is_over(word: u64, flags: u8, idle: u64, now: u64) -> bool {
    flows(word) == 0 && !is_dead(word) && now.saturating_sub(idle) >= stays(flags)
}

/// Whether two rows are the halves of one mapping: each key is the other's `other`, so what is left to
/// tell is that they were made together.
#[inline(always)]
pub const fn is_pair<A: Addr>(inside: &Mapping<A>, outside: &Mapping<A>) -> bool {
    inside.created == outside.created
        && inside.flags & mapping_flags::OUTSIDE == 0
        && outside.flags & mapping_flags::OUTSIDE != 0
}

/// The flags of a mapping of a network with these [`port_flags`].
#[inline(always)]
pub const fn flags(port: u32) -> u8 {
    let mut flags = 0;
    if port & port_flags::STRICT != 0 {
        flags |= mapping_flags::STRICT;
    }
    if port & port_flags::FILTER_ANY != 0 {
        flags |= mapping_flags::FILTER_ANY;
    }
    if port & port_flags::FILTER_ADDRESS != 0 {
        flags |= mapping_flags::FILTER_ADDRESS;
    }
    flags
}

/// Tells the lives of mappings apart, also of one port: generation, outside port, protocol.
#[inline(always)]
pub const fn life(word: u64, outside: u16, proto: u8) -> u64 {
    ((word >> 32) << 32) | ((outside as u64) << 16) | proto as u64
}

/// The key under which `SENT` has a remote address of a mapping, or a port of the node's address.
#[inline(always)]
pub fn sent_key<A: Addr>(m: &Mapping<A>, word: u64, remote: A, port: Be16) -> SentKey {
    SentKey {
        life: life(word, m.other.dport.get(), m.other.proto),
        remote: remote.to_16(),
        port,
        pad: [0; 6],
    }
}

/// What the filter of a mapping says to somebody of whom no flow is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Filter {
    /// Come in.
    Open,
    /// Come in if `SENT` has you.
    IfSent,
    /// No.
    Shut,
}

/// Asks the filter (RFC 4787 section 5). `local`: an endpoint of the node calls, seen with the node's
/// address. All of these have that one address, so it says nothing about who calls, on which network:
/// unless everybody may, the inside socket must have sent to the caller's very mapping.
#[inline(always)]
pub fn filter(flags: u8, first: V6, remote: V6, local: bool) -> Filter {
    if flags & mapping_flags::FILTER_ANY != 0 {
        Filter::Open
    } else if local {
        Filter::IfSent
    } else if flags & mapping_flags::FILTER_ADDRESS == 0 {
        Filter::Shut
    } else if first == remote {
        Filter::Open
    } else {
        Filter::IfSent
    }
}

/// Whether the filter of a mapping ever asks `SENT`: `local` as above.
#[inline(always)]
pub const fn remembers(flags: u8, local: bool) -> bool {
    flags & mapping_flags::FILTER_ANY == 0 && (flags & mapping_flags::FILTER_ADDRESS != 0 || local)
}

/// The key of the inside row of the mapping that a flow has to itself, because its socket's would lead it to a
/// socket of the node: the key of the flow, marked, so that no socket has it. Nobody comes in by such a one.
#[inline(always)]
pub const fn apart<A: Addr>(key: &Tuple<A>) -> Tuple<A> {
    Tuple {
        pad: [1, 0, 0],
        ..*key
    }
}

/// The key of the inside row of the mapping that a flow with these [`flow_flags`] holds for who began it, by
/// its original key and what that becomes.
#[inline(always)]
pub const fn source<A: Addr>(key: &Tuple<A>, to: &Tuple<A>, flags: u8) -> Tuple<A> {
    if flags & flow_flags::APART != 0 {
        apart(key)
    } else {
        Mapping::inside(key.src, key.sport, key.proto, to.src)
    }
}

/// The same of the mapping by which a flow has come to the one it called.
#[inline(always)]
pub const fn called<A: Addr>(key: &Tuple<A>, to: &Tuple<A>) -> Tuple<A> {
    Mapping::inside(to.dst, to.dport, key.proto, key.dst)
}

/// Whether a flow of this kind and with these [`flow_flags`] holds a mapping at all.
#[inline(always)]
pub const fn holds(flags: u8) -> bool {
    flags & (flow_flags::MAPPED | flow_flags::CALLED) != 0
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;
    use mapping_flags::{FILTER_ADDRESS, FILTER_ANY, OUTSIDE, STRICT};
    use proptest::prelude::*;

    use super::*;
    use crate::addr::V4;

    fn mapping(flags: u8) -> Mapping<V4> {
        Mapping {
            flags,
            ..Mapping::zeroed()
        }
    }

    #[test]
    fn the_last_flow_leaves_a_strict_mapping_in_quarantine_and_ends_a_balanced_one() {
        let one = fresh(7);
        assert_eq!((flows(one), one >> 32), (1, 7));
        let two = held(one).unwrap();
        assert_eq!(flows(two), 2);
        for flags in [0, STRICT] {
            assert_eq!(released(two, flags), Some(one));
        }
        let idle = released(one, STRICT).unwrap();
        assert_eq!((flows(idle), is_dead(idle), idle >> 32), (0, false, 7));
        assert_eq!(held(idle), Some(one), "its socket takes it again");
        assert_eq!(released(idle, STRICT), None);
        let gone = released(one, 0).unwrap();
        assert_eq!((flows(gone), is_dead(gone), gone >> 32), (0, true, 7));
        assert_eq!((held(gone), released(gone, 0)), (None, None));
        assert_eq!(gone, dead(one));
    }

    #[test]
    fn references_never_run_into_the_dead_mark_or_the_generation() {
        let most = (9 << 32) | u64::from(DEAD - 2);
        assert_eq!(held(most), Some(most + 1));
        assert_eq!(held(most + 1), None);
        assert!(!is_dead(most + 1) && is_dead(most + 2));
    }

    #[test]
    fn a_mapping_without_flows_is_over_in_its_time() {
        let at = 1_000 * SECOND;
        for (flags, stays) in [(STRICT, QUARANTINE), (0, HALF_MADE)] {
            let over = |now| is_over(7 << 32, flags, at, now);
            assert!(!over(at + stays - 1) && over(at + stays));
            assert!(!over(0), "a clock read a moment earlier");
            assert!(!is_over(fresh(7), flags, at, u64::MAX), "it has a flow");
            assert!(
                !is_over(dead(7 << 32), flags, at, u64::MAX),
                "somebody is at it"
            );
        }
        assert_eq!(QUARANTINE, 120 * SECOND);
    }

    #[test]
    fn halves_of_one_mapping_were_made_together() {
        let inside = mapping(STRICT);
        let outside = mapping(STRICT | OUTSIDE);
        assert!(is_pair(&inside, &outside));
        assert!(!is_pair(&outside, &inside) && !is_pair(&inside, &inside));
        let other = Mapping {
            created: 5,
            ..outside
        };
        assert!(!is_pair(&inside, &other));
    }

    #[test]
    fn filters_admit_as_the_rfc_names_them() {
        let (first, second): (V6, V6) = ([1; 16], [2; 16]);
        for local in [false, true] {
            assert_eq!(filter(FILTER_ANY, first, second, local), Filter::Open);
            assert!(!remembers(FILTER_ANY, local) && remembers(FILTER_ADDRESS, local));
        }
        assert_eq!(filter(FILTER_ADDRESS, first, first, false), Filter::Open);
        assert_eq!(filter(FILTER_ADDRESS, first, second, false), Filter::IfSent);
        assert_eq!(filter(STRICT, first, first, false), Filter::Shut);
        for flags in [0, STRICT, FILTER_ADDRESS] {
            assert_eq!(filter(flags, first, first, true), Filter::IfSent);
        }
        assert!(!remembers(0, false) && remembers(0, true));
    }

    #[test]
    fn a_network_hands_its_options_to_its_mappings() {
        assert_eq!(flags(port_flags::MASQUERADE), 0);
        assert_eq!(flags(port_flags::STRICT), STRICT);
        assert_eq!(flags(port_flags::FILTER_ANY), FILTER_ANY);
        assert_eq!(flags(port_flags::FILTER_ADDRESS), FILTER_ADDRESS);
    }

    #[test]
    fn a_flow_knows_the_mappings_it_holds() {
        let key = Tuple {
            src: [10, 0, 0, 1],
            dst: [192, 0, 2, 1],
            sport: Be16::new(5000),
            dport: Be16::new(6001),
            proto: 17,
            pad: [0; 3],
        };
        // 10.0.0.1 calls 10.0.0.2:6000 by its mapping, 192.0.2.1:6001, and is seen as 192.0.2.1:5001.
        let to = Tuple {
            src: [192, 0, 2, 1],
            dst: [10, 0, 0, 2],
            sport: Be16::new(5001),
            dport: Be16::new(6000),
            ..key
        };
        let node = [192, 0, 2, 1];
        let begun = Mapping::inside([10, 0, 0, 1], Be16::new(5000), 17, node);
        let callee = Mapping::inside([10, 0, 0, 2], Be16::new(6000), 17, node);
        assert_eq!(
            (source(&key, &to, flow_flags::MAPPED), called(&key, &to)),
            (begun, callee)
        );
        let alone = source(&key, &to, flow_flags::MAPPED | flow_flags::APART);
        assert_eq!(alone, apart(&key));
        assert!(alone != begun && alone != key && alone != callee);
        assert_ne!(
            alone,
            apart(&Tuple {
                dport: Be16::new(9),
                ..key
            })
        );
        assert!(holds(flow_flags::MAPPED) && holds(flow_flags::CALLED));
        assert!(!holds(
            flow_flags::TO_ENDPOINT | flow_flags::TO_NODE | flow_flags::STRICT
        ));
    }

    proptest! {
        #[test]
        fn holding_and_releasing_is_identity_and_keeps_the_generation(word in any::<u64>(), flags in any::<u8>()) {
            if let Some(more) = held(word) {
                prop_assert_eq!(more >> 32, word >> 32);
                if flows(more) > 1 || flags & STRICT != 0 {
                    prop_assert_eq!(released(more, flags), Some(word));
                } else {
                    prop_assert_eq!(released(more, flags), Some(dead(word)));
                }
            }
        }

        #[test]
        fn lives_of_one_port_differ_by_their_generation(a in any::<u64>(), b in any::<u64>(), port in any::<u16>(), p in any::<u8>()) {
            prop_assert_eq!(life(a, port, p) == life(b, port, p), a >> 32 == b >> 32);
            prop_assert_ne!(life(a, port, p), life(a, port ^ 1, p));
            prop_assert_ne!(life(a, port, p), life(a, port, p ^ 1));
        }
    }
}
