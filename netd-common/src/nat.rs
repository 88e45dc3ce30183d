//! Which outside port a flow gets, and how a packet changes on the way.

use crate::addr::{Addr, Be16};
use crate::checksum::Delta;
use crate::tuple::{Tuple, proto};

/// Outside ports tried for one new flow before it is refused. With 50,000 of 64,512 ports taken a search
/// fails once in 10^28; with all but one in twenty taken, once in half a million.
pub const TRIES: u32 = 256;

/// Outside ports masquerade may take, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortRange {
    /// First.
    pub min: u16,
    /// Last, not below `min`.
    pub max: u16,
}

impl PortRange {
    /// Whether a port is in the range.
    #[inline(always)]
    pub const fn has(self, port: u16) -> bool {
        self.min <= port && port <= self.max
    }

    /// Echo identifiers are no ports: all of them may be taken.
    pub const ALL: Self = Self {
        min: 0,
        max: u16::MAX,
    };

    /// No range at all: a flow keeps its port or is refused.
    pub const NONE: Self = Self { min: 1, max: 0 };
}

/// The `attempt`-th outside port for a flow whose own is `orig`: its own where the range allows it, then
/// any of the range, each attempt for itself: clients take ports in runs, and a search among neighbours
/// would end in such a run. A range of at most [`TRIES`] ports is walked port by port from a random
/// start, wrapping at its end. `random` stays the same over the attempts of one flow.
#[inline(always)]
pub const fn candidate(orig: u16, attempt: u32, random: u32, range: PortRange) -> u16 {
    if attempt == 0 && range.has(orig) {
        return orig;
    }
    let size = (range.max as u32).saturating_sub(range.min as u32) + 1;
    let at = if size > TRIES {
        scale(mix(random.wrapping_add(attempt)), size)
    } else {
        (scale(random, size) + attempt) % size
    };
    range.min.wrapping_add(at as u16)
}

/// Multiply-shift: 32 bits scaled to 0..size without a division.
#[inline(always)]
const fn scale(random: u32, size: u32) -> u32 {
    ((random as u64 * size as u64) >> 32) as u32
}

/// Spreads numbers that lie close together over all 32 bits, one to one (the finalizer of `MurmurHash3`).
#[inline(always)]
const fn mix(n: u32) -> u32 {
    let n = (n ^ (n >> 16)).wrapping_mul(0x85eb_ca6b);
    let n = (n ^ (n >> 13)).wrapping_mul(0xc2b2_ae35);
    n ^ (n >> 16)
}

/// How checksums change when a packet's tuple goes from one to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rewrite {
    /// Change by the addresses: part of the pseudo-header of TCP, UDP and ICMPv6.
    pub addr: Delta,
    /// Change by the ports, or the echo identifier.
    pub port: Delta,
}

impl Rewrite {
    /// The plan that turns `from` into `to`.
    #[inline(always)]
    pub fn plan<A: Addr>(from: &Tuple<A>, to: &Tuple<A>) -> Self {
        Self {
            addr: sub_addr(sub_addr(Delta::new(), from.src, to.src), from.dst, to.dst),
            port: Delta::new()
                .remove(from.sport.0)
                .remove(from.dport.0)
                .add(to.sport.0)
                .add(to.dport.0),
        }
    }
}

#[inline(always)]
fn sub_addr<A: Addr>(delta: Delta, from: A, to: A) -> Delta {
    if A::IS_V4 {
        let (f, t) = (from.to_16(), to.to_16());
        delta
            .remove([f[12], f[13], f[14], f[15]])
            .add([t[12], t[13], t[14], t[15]])
    } else {
        delta.remove(from.to_16()).add(to.to_16())
    }
}

/// The four bytes at the start of a TCP or UDP header.
#[inline(always)]
pub const fn port_bytes(sport: Be16, dport: Be16) -> [u8; 4] {
    [sport.0[0], sport.0[1], dport.0[0], dport.0[1]]
}

/// Whether masquerade and publish can translate a protocol by its ports or identifiers.
#[inline(always)]
pub const fn translates(protocol: u8) -> bool {
    matches!(
        protocol,
        proto::TCP | proto::UDP | proto::ICMP | proto::ICMPV6
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::addr::{V4, V6};
    use crate::checksum;

    const R: PortRange = PortRange {
        min: 1024,
        max: 65535,
    };

    #[test]
    fn the_flows_own_port_comes_first() {
        assert_eq!(candidate(5000, 0, 77, R), 5000);
        assert_eq!(candidate(1024, 0, 77, R), 1024);
        assert_eq!(candidate(65535, 0, 77, R), 65535);
        assert_ne!(
            candidate(1023, 0, 0, R),
            1023,
            "outside the range it does not"
        );
        assert_ne!(candidate(5000, 1, 0, R), 5000);
    }

    #[test]
    fn numbers_are_mixed_as_the_reference_does() {
        assert_eq!(mix(0), 0);
        assert_eq!(mix(1), 0x514e_28b7);
        assert_eq!(mix(2), 0x30f4_c306);
    }

    #[test]
    fn attempts_spread_over_the_whole_range() {
        // Sixteen equal parts of the range: over all attempts of a few searches each is met as often.
        for random in [0, 1, 77, u32::MAX] {
            let mut parts = [0; 16];
            for n in 1..TRIES {
                let port = candidate(1, n, random, R);
                assert!(R.has(port));
                parts[usize::from(port - R.min) * 16 / 64_512] += 1;
            }
            assert!(parts.iter().all(|n| (4..40).contains(n)), "{parts:?}");
        }
    }

    /// Searches for `flows` ports, none of which is given back; the attempts of each search.
    fn fill(mut taken: Vec<bool>, flows: u32, wanted: impl Fn(u32) -> u16) -> Vec<Option<u32>> {
        let mut state = 0x2545_f491_u32;
        let search = |flow: u32| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            let free = |n: &u32| !taken[usize::from(candidate(wanted(flow), *n, state, R))];
            let found = (0..TRIES).find(free);
            if let Some(n) = found {
                taken[usize::from(candidate(wanted(flow), n, state, R))] = true;
            }
            found
        };
        (0..flows).map(search).collect()
    }

    #[test]
    fn fifty_thousand_flows_to_one_socket_all_find_a_port() {
        let nobody = || vec![false; 1 << 16];
        // Ports of a run, each wanted by several clients; one port wanted by all; a run taken before.
        let run = |n: u32| 32_768 + (n % 20_000) as u16;
        let mut servers = nobody();
        servers[2_000..10_000].fill(true);
        for (tries, what) in [
            (fill(nobody(), 50_000, run), "runs"),
            (fill(nobody(), 50_000, |_| 40_000), "one port"),
            (fill(servers, 50_000, run), "beside a run that is taken"),
        ] {
            let found: Vec<u32> = tries.iter().flatten().copied().collect();
            assert_eq!(found.len(), 50_000, "{what}");
            let average = found.iter().sum::<u32>() / 50_000;
            assert!(average <= 4, "{what}: {average} attempts");
        }
    }

    #[test]
    fn the_last_ports_are_found_more_often_than_not() {
        let found = fill(vec![false; 1 << 16], 64_000, |_| 1);
        let refused = found.iter().filter(|n| n.is_none()).count();
        assert!(refused < 200, "{refused} of 64,000 flows for 64,512 ports");
    }

    #[test]
    fn a_small_range_is_walked_from_a_random_start_and_wraps() {
        let r = PortRange { min: 10, max: 13 };
        let all: Vec<u16> = (0..4).map(|n| candidate(1, n, u32::MAX, r)).collect();
        assert_eq!(all, [13, 10, 11, 12]);
        assert_eq!(candidate(1, 1, 0, r), 11);
        assert_eq!(candidate(1, 0, 1 << 30, r), 11, "a quarter of the way");
    }

    #[test]
    fn a_range_of_one_and_the_whole_range() {
        let one = PortRange { min: 7, max: 7 };
        assert_eq!(candidate(9, 0, 123, one), 7);
        assert_eq!(candidate(0, 0, 9, PortRange::ALL), 0);
        assert_eq!(candidate(9, 1, 0, PortRange::ALL), 0x514e);
        let sixteen = PortRange { min: 0, max: 15 };
        assert_eq!(candidate(99, 3, 0, sixteen), 3);
        assert!(PortRange::ALL.has(0) && PortRange::ALL.has(65535));
        assert!(R.has(1024) && R.has(65535) && !R.has(1023));
        assert!(!PortRange { min: 1, max: 5 }.has(6));
    }

    #[test]
    fn only_four_protocols_are_translated() {
        let all: Vec<u8> = (0..=255).filter(|p| translates(*p)).collect();
        assert_eq!(all, [1, 6, 17, 58]);
    }

    #[test]
    fn ports_stand_in_wire_order() {
        assert_eq!(
            port_bytes(Be16::new(0x0102), Be16::new(0x0304)),
            [1, 2, 3, 4]
        );
    }

    fn tuple<A: Addr>(a: A, b: A, s: u16, d: u16) -> Tuple<A> {
        Tuple {
            src: a,
            dst: b,
            sport: Be16::new(s),
            dport: Be16::new(d),
            proto: 17,
            pad: [0; 3],
        }
    }

    fn bytes<A: Addr>(t: &Tuple<A>) -> (Vec<u8>, Vec<u8>) {
        let a = [bytemuck::bytes_of(&t.src), bytemuck::bytes_of(&t.dst)].concat();
        (a, port_bytes(t.sport, t.dport).to_vec())
    }

    fn check<A: Addr>(from: Tuple<A>, to: Tuple<A>) {
        let plan = Rewrite::plan(&from, &to);
        let ((fa, fp), (ta, tp)) = (bytes(&from), bytes(&to));
        assert!(checksum::same(
            plan.addr.apply(checksum::of(&fa)),
            checksum::of(&ta)
        ));
        assert!(checksum::same(
            plan.port.apply(checksum::of(&fp)),
            checksum::of(&tp)
        ));
        let undo = Rewrite::plan(&to, &from);
        let c = checksum::of(&[fa, fp].concat());
        let there = plan.port.apply(plan.addr.apply(c));
        assert!(
            checksum::same(undo.port.apply(undo.addr.apply(there)), c),
            "undo is identity"
        );
    }

    proptest! {
        #[test]
        fn a_plan_changes_checksums_as_recomputing_would_and_back(
            a in any::<V6>(), b in any::<V6>(), c in any::<V6>(), d in any::<V6>(), p in any::<[u16; 4]>(),
        ) {
            check(tuple(a, b, p[0], p[1]), tuple(c, d, p[2], p[3]));
            let v = |x: V6| -> V4 { [x[0], x[1], x[2], x[3]] };
            check(tuple(v(a), v(b), p[0], p[1]), tuple(v(c), v(d), p[2], p[3]));
        }

        #[test]
        fn candidates_stay_in_the_range_and_a_small_one_is_tried_whole(min in any::<u16>(), span in 0u16..2000, orig in any::<u16>(), random in any::<u32>()) {
            let r = PortRange { min, max: min.saturating_add(span) };
            let mut seen = std::collections::BTreeSet::new();
            for attempt in 1..=TRIES {
                let port = candidate(orig, attempt, random, r);
                prop_assert!(r.has(port));
                seen.insert(port);
            }
            let size = u32::from(r.max - r.min) + 1;
            if size <= TRIES {
                prop_assert_eq!(seen.len(), size as usize);
            }
            prop_assert!(r.has(candidate(orig, 0, random, r)));
        }
    }
}
