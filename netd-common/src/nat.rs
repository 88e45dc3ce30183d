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

/// Attempts that look for a port of the same parity in a large range, before any port of the class will do:
/// with 30,000 of its 32,256 ports taken, one search in ten goes on to the others.
const PARITY_TRIES: u32 = 32;

/// First port of the upper class (RFC 4787 REQ-3a): ports below are the privileged ones.
const UPPER: u16 = 1024;

/// Every other port from `first` on.
#[derive(Clone, Copy)]
struct Half {
    first: u16,
    count: u32,
}

impl Half {
    /// The ports of a range, none of which may be one, with this parity.
    #[inline(always)]
    const fn of(range: PortRange, parity: u16) -> Self {
        let first = range.min as u32 + ((range.min ^ parity) & 1) as u32;
        let count = (range.max as u32 + 2).saturating_sub(first) / 2;
        Self {
            first: first as u16,
            count,
        }
    }

    /// The port at a place; 0: the first.
    #[inline(always)]
    const fn at(self, place: u32) -> u16 {
        self.first.wrapping_add(2 * place as u16)
    }

    /// The `n`-th port of a walk that begins at a random place and wraps.
    #[inline(always)]
    const fn walk(self, random: u32, n: u32) -> u16 {
        if self.count == 0 {
            // Never so: it is said for the sake of the division.
            return self.first;
        }
        self.at((scale(random, self.count) + n) % self.count)
    }
}

impl PortRange {
    /// The ports of the range in the class of `port`, 0 to 1023 or 1024 to 65535; where the range has none,
    /// all of it.
    #[inline(always)]
    const fn class(self, port: u16) -> Self {
        if port < UPPER && self.min < UPPER {
            let max = if self.max < UPPER {
                self.max
            } else {
                UPPER - 1
            };
            Self { min: self.min, max }
        } else if port >= UPPER && self.max >= UPPER {
            let min = if self.min < UPPER { UPPER } else { self.min };
            Self { min, max: self.max }
        } else {
            self
        }
    }

    /// Ports in the range, of which there is at least one.
    #[inline(always)]
    const fn len(self) -> u32 {
        (self.max as u32).saturating_sub(self.min as u32) + 1
    }
}

/// The `attempt`-th outside port for a socket whose own is `orig`: its own where the range allows it, then
/// ports of its class and parity (RFC 4787 REQ-3a, REQ-4), then any of its class. Each attempt is a draw for
/// itself: clients take ports in runs, and a search among neighbours would end in such a run. Less than
/// [`TRIES`] ports are walked, each once, from a random start. `random` stays the same over the attempts of
/// one search. Identifiers, [`PortRange::ALL`], have neither class nor parity.
#[inline(always)]
pub const fn candidate(orig: u16, attempt: u32, random: u32, range: PortRange) -> u16 {
    if attempt == 0 && range.has(orig) {
        return orig;
    }
    if range.min == 0 {
        return range
            .min
            .wrapping_add(scale(mix(random.wrapping_add(attempt)), range.len()) as u16);
    }
    let class = range.class(orig);
    let same = Half::of(class, orig);
    let n = attempt.saturating_sub(1);
    if class.len() < TRIES {
        if n < same.count {
            return same.walk(random, n);
        }
        let other = Half::of(class, orig ^ 1);
        if other.count == 0 {
            return same.walk(random, n);
        }
        return other.walk(random, n - same.count);
    }
    let draw = mix(random.wrapping_add(attempt));
    if n < PARITY_TRIES {
        same.at(scale(draw, same.count))
    } else {
        class.min.wrapping_add(scale(draw, class.len()) as u16)
    }
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

/// Whether masquerade can translate a protocol by the address alone, though it knows nothing of what is
/// inside. Not those whose checksum covers the addresses (DCCP, UDP-Lite; of IPv6 also OSPF, PIM, VRRP, the
/// mobility header and HIP), nor what cannot survive (AH), belongs to the link (IGMP, and the other family's
/// ICMP) or is no protocol but an extension header that was not followed.
#[inline(always)]
pub const fn by_address(protocol: u8, v4: bool) -> bool {
    match protocol {
        // Those above by their ports or identifiers; IGMP, DCCP, AH, UDP-Lite.
        proto::TCP | proto::UDP | proto::ICMP | proto::ICMPV6 | 2 | 33 | 51 | 136 => false,
        // Hop-by-hop, routing, fragment, no next header, destination options, mobility header, HIP, shim6;
        // OSPF, PIM, VRRP.
        0 | 43 | 44 | 59 | 60 | 135 | 139 | 140 | 89 | 103 | 112 => v4,
        _ => true,
    }
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
            // Where all want ports of one parity, the last ones look for one in vain first.
            let most = if what == "one port" {
                PARITY_TRIES / 2
            } else {
                4
            };
            assert!(average <= most, "{what}: {average} attempts");
        }
    }

    #[test]
    fn the_last_ports_are_found_more_often_than_not() {
        let found = fill(vec![false; 1 << 16], 64_000, |_| 1);
        let refused = found.iter().filter(|n| n.is_none()).count();
        assert!(refused < 200, "{refused} of 64,000 flows for 64,512 ports");
    }

    #[test]
    fn a_small_range_is_walked_by_parity_from_a_random_start_and_wraps() {
        let r = PortRange { min: 10, max: 15 };
        let walk =
            |orig, random| -> Vec<u16> { (1..7).map(|n| candidate(orig, n, random, r)).collect() };
        assert_eq!(walk(1, 0), [11, 13, 15, 10, 12, 14]);
        assert_eq!(walk(1, u32::MAX), [15, 11, 13, 14, 10, 12]);
        assert_eq!(
            walk(2, 1 << 31),
            [12, 14, 10, 13, 15, 11],
            "half of the way"
        );
        assert_eq!(candidate(1, 0, 0, r), 11, "its own is not in the range");
        assert_eq!(candidate(12, 0, 0, r), 12);
    }

    /// A range of which both classes have ports.
    const BOTH: PortRange = PortRange { min: 1, max: 65535 };

    #[test]
    fn class_and_parity_are_kept_while_there_is_a_choice() {
        for orig in [7, 8, 1022, 1023, 1024, 1025, 40_000, 65_535_u16] {
            for random in [0, 77, u32::MAX] {
                for n in 0..TRIES {
                    let port = candidate(orig, n, random, BOTH);
                    assert_eq!(port < 1024, orig < 1024, "{orig} {n}: {port}");
                    assert!(port > 0);
                    if n <= PARITY_TRIES {
                        assert_eq!(port % 2, orig % 2, "{orig} {n}: {port}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_range_without_the_class_gives_what_it_has() {
        let high = PortRange {
            min: 2000,
            max: 2003,
        };
        let low = PortRange { min: 500, max: 503 };
        for n in 0..TRIES {
            assert!(high.has(candidate(80, n, 9, high)));
            assert!(low.has(candidate(8080, n, 9, low)));
        }
        assert_eq!(candidate(80, 1, 0, high), 2000);
        assert_eq!(candidate(81, 1, 0, high), 2001);
        let across = PortRange {
            min: 1022,
            max: 1025,
        };
        let of = |orig| -> Vec<u16> { (1..3).map(|n| candidate(orig, n, 0, across)).collect() };
        assert_eq!((of(10), of(5000)), (vec![1022, 1023], vec![1024, 1025]));
    }

    #[test]
    fn draws_of_other_searches_cannot_be_told_from_one() {
        // Ports of 64 parts of the range over 40,000 searches, one try each: chi-square with 63 degrees of
        // freedom stays below 120 with odds of one in 30,000; the numbers are seeded, so it always does.
        let mut state = 0x9e37_79b9_u32;
        let mut parts = [0_u32; 64];
        let (mut last, mut neighbours) = (0_u16, 0);
        for _ in 0..40_000 {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            let port = candidate(9, 1, state, R);
            parts[usize::from(port - R.min) * 64 / 64_512] += 1;
            neighbours += u32::from(port.abs_diff(last) <= 2);
            last = port;
        }
        let mean = 40_000.0 / 64.0;
        let chi: f64 = parts
            .iter()
            .map(|n| (f64::from(*n) - mean).powi(2) / mean)
            .sum();
        assert!(chi < 120.0, "{chi}");
        assert!(neighbours < 20, "{neighbours} beside the one before");
    }

    #[test]
    fn a_range_of_one_and_the_whole_range() {
        let one = PortRange { min: 7, max: 7 };
        assert_eq!(candidate(9, 0, 123, one), 7);
        assert_eq!(candidate(8, 5, 123, one), 7, "no parity to keep");
        assert_eq!(candidate(0, 0, 9, PortRange::ALL), 0);
        assert_eq!(candidate(9, 1, 0, PortRange::ALL), 0x514e);
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
    fn protocols_that_the_address_is_no_part_of_are_translated_by_it() {
        for p in [4, 41, 47, 50, 94, 132, 253] {
            assert!(by_address(p, true) && by_address(p, false), "{p}");
        }
        for p in [1, 2, 6, 17, 33, 51, 58, 136] {
            assert!(!by_address(p, true) && !by_address(p, false), "{p}");
        }
        for p in [0, 43, 44, 59, 60, 89, 103, 112, 135, 139, 140] {
            assert!(by_address(p, true) && !by_address(p, false), "{p}");
        }
        for p in 0..=255 {
            assert!(!(translates(p) && by_address(p, true)), "{p}");
        }
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
        fn candidates_stay_in_the_range_and_a_small_one_is_tried_whole(min in 1..=u16::MAX, span in 0u16..2000, orig in any::<u16>(), random in any::<u32>()) {
            let r = PortRange { min, max: min.saturating_add(span) };
            let mut seen = std::collections::BTreeSet::new();
            for attempt in 1..=TRIES {
                let port = candidate(orig, attempt, random, r);
                prop_assert!(r.has(port));
                seen.insert(port);
            }
            let size = u32::from(r.max - r.min) + 1;
            if r.class(orig) == r && size < TRIES {
                prop_assert_eq!(seen.len(), size as usize);
            }
            prop_assert!(r.has(candidate(orig, 0, random, r)));
        }
    }
}
