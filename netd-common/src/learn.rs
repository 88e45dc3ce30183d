//! What a switch port with more than one MAC may do: which MACs it may bring, how many, for how long
//! they are known, and which addresses may be behind them.

use crate::addr::{Addr, Mac, V4, V6, is_group, is_link_local};
use crate::maps::Port;
use crate::reason::DropReason;

const SECOND: u64 = 1_000_000_000;

/// Whether MACs beyond its own may be behind the switch port.
#[inline(always)]
pub const fn learns(port: &Port) -> bool {
    port.macs > 0
}

/// Checks a source MAC that is not the endpoint's own. That it is nobody else's is for the caller to
/// ask `FDB`.
#[inline(always)]
pub fn admit(port: &Port, src: Mac) -> Result<(), DropReason> {
    if !learns(port) {
        return Err(DropReason::SpoofedMac);
    }
    // IEEE 802.3 section 3.2.3: a source is an individual address; all zero is Linux's "none".
    if is_group(src) || src == [0; 6] {
        return Err(DropReason::InvalidMac);
    }
    Ok(())
}

/// Whether a switch port may have one more learned MAC. `gained` counts those before it, `lost` and
/// `aged` what of them is gone again: moved away, and removed by the daemon.
#[inline(always)]
pub const fn has_room(port: &Port, gained: u64, lost: u64, aged: u64) -> bool {
    // The three are read one after the other: what is gone may be ahead of what came.
    let now = gained.wrapping_sub(lost).wrapping_sub(aged).cast_signed();
    now < port.macs as i64
}

/// Whether a MAC that was last seen then is still known now, in ns of the same clock. The daemon
/// removes what is not; until it does, the programs take such an entry for absent.
#[inline(always)]
pub const fn is_fresh(port: &Port, last_seen: u64, now: u64) -> bool {
    now.saturating_sub(last_seen) < port.aging as u64 * SECOND
}

/// Whether it is time to note again that a MAC was seen: not at each frame, since every note takes the
/// cache line away from the other CPUs.
#[inline(always)]
pub const fn refresh_due(port: &Port, last_seen: u64, now: u64) -> bool {
    let eighth = port.aging as u64 * (SECOND / 8);
    let pause = if eighth < SECOND { eighth } else { SECOND };
    now.saturating_sub(last_seen) >= pause
}

/// Whether `said`, a MAC inside an ARP packet or a neighbour message, may be there: the endpoint's own,
/// or that of the frame's sender where there may be several.
#[inline(always)]
pub fn speaks_for_itself(port: &Port, from: Mac, said: Mac) -> bool {
    said == port.mac || (learns(port) && said == from)
}

/// The addresses of the link a port is on.
pub trait OnLink: Addr {
    /// Whether an address may be some host's of the port's network: in its subnet, or link-local.
    fn is_on_link(self, port: &Port) -> bool;
    /// The MAC an address was made from, if it was.
    fn made_from(self) -> Option<Mac>;
}

impl OnLink for V4 {
    #[inline(always)]
    fn is_on_link(self, port: &Port) -> bool {
        let base = if port.v4 == Self::ZERO {
            port.gateway_v4
        } else {
            port.v4
        };
        let differ = u32::from_be_bytes(self) ^ u32::from_be_bytes(base);
        base != Self::ZERO && matches!(port.bits4, 1..=32) && differ >> (32 - port.bits4) == 0
    }

    #[inline(always)]
    fn made_from(self) -> Option<Mac> {
        None
    }
}

impl OnLink for V6 {
    #[inline(always)]
    fn is_on_link(self, port: &Port) -> bool {
        if is_link_local(self) {
            return true;
        }
        let base = if port.v6 == Self::ZERO {
            port.gateway_v6
        } else {
            port.v6
        };
        let (a, b) = halves(self);
        let (c, d) = halves(base);
        let same = match port.bits6 {
            bits @ 1..=64 => (a ^ c) >> (64 - bits) == 0,
            bits @ 65..=128 => a == c && (b ^ d) >> (128 - bits) == 0,
            _ => false,
        };
        base != Self::ZERO && same
    }

    /// Modified EUI-64 (RFC 4291 appendix A), link-local.
    #[inline(always)]
    fn made_from(self) -> Option<Mac> {
        let [.., flipped, o1, o2, 0xff, 0xfe, n0, n1, n2] = self else {
            return None;
        };
        is_link_local(self).then_some([flipped ^ 2, o1, o2, n0, n1, n2])
    }
}

/// Two numbers, since shifts of 128 bits are a library call that eBPF has not.
#[inline(always)]
const fn halves(a: V6) -> (u64, u64) {
    let n = u128::from_be_bytes(a);
    ((n >> 64) as u64, n as u64)
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;
    use proptest::prelude::*;

    use super::*;
    use crate::addr::link_local;

    const OWN: Mac = [2, 0, 0, 0, 0, 1];
    const GUEST: Mac = [2, 0, 0, 0, 0, 2];
    const OTHER: Mac = [2, 0, 0, 0, 0, 3];

    fn port(macs: u32) -> Port {
        Port {
            mac: OWN,
            macs,
            aging: 300,
            v4: [10, 0, 0, 5],
            bits4: 24,
            v6: "fd00::5".parse::<std::net::Ipv6Addr>().unwrap().octets(),
            bits6: 64,
            ..Port::zeroed()
        }
    }

    fn v6(text: &str) -> V6 {
        text.parse::<std::net::Ipv6Addr>().unwrap().octets()
    }

    #[test]
    fn only_individual_macs_and_only_where_there_may_be_several() {
        assert_eq!(admit(&port(1), GUEST), Ok(()));
        assert_eq!(admit(&port(0), GUEST), Err(DropReason::SpoofedMac));
        assert_eq!(admit(&port(0), [0; 6]), Err(DropReason::SpoofedMac));
        for bad in [[0; 6], [0xff; 6], [3, 0, 0, 0, 0, 1]] {
            assert_eq!(admit(&port(1), bad), Err(DropReason::InvalidMac));
        }
    }

    #[test]
    fn a_mac_is_known_for_the_aging_time_and_noted_about_once_a_second() {
        let p = port(1);
        assert!(is_fresh(&p, 5, 5));
        assert!(is_fresh(&p, 5, 5 + 300 * SECOND - 1));
        assert!(!is_fresh(&p, 5, 5 + 300 * SECOND));
        // The clocks of two CPUs may disagree a little.
        assert!(is_fresh(&p, 9, 5));
        assert!(!refresh_due(&p, 5, 4 + SECOND));
        assert!(refresh_due(&p, 5, 5 + SECOND));
        let short = Port { aging: 1, ..p };
        assert!(!refresh_due(&short, 5, 4 + SECOND / 8));
        assert!(refresh_due(&short, 5, 5 + SECOND / 8));
    }

    #[test]
    fn a_speaker_names_itself() {
        assert!(speaks_for_itself(&port(0), GUEST, OWN));
        assert!(!speaks_for_itself(&port(0), GUEST, GUEST));
        assert!(speaks_for_itself(&port(1), GUEST, GUEST));
        assert!(speaks_for_itself(&port(1), GUEST, OWN));
        assert!(!speaks_for_itself(&port(1), GUEST, OTHER));
    }

    #[test]
    fn hosts_of_the_link_are_in_its_subnet() {
        let p = port(1);
        assert!([10, 0, 0, 200].is_on_link(&p));
        assert!(![10, 0, 1, 5].is_on_link(&p));
        assert!(![0, 0, 0, 0].is_on_link(&p));
        assert!(v6("fd00::77").is_on_link(&p));
        assert!(!v6("fd00:0:0:1::5").is_on_link(&p));
        assert!(v6("fe80::1").is_on_link(&p));
        assert!(!v6("ff02::1").is_on_link(&p) && !V6::ZERO.is_on_link(&p));
        let only_gateway = Port {
            v4: [0; 4],
            v6: V6::ZERO,
            gateway_v4: [10, 0, 0, 1],
            gateway_v6: v6("fd00::1"),
            ..p
        };
        assert!([10, 0, 0, 200].is_on_link(&only_gateway));
        assert!(v6("fd00::77").is_on_link(&only_gateway));
        let nothing = Port {
            macs: 1,
            ..Port::zeroed()
        };
        assert!(![0, 0, 0, 0].is_on_link(&nothing) && !v6("fd00::5").is_on_link(&nothing));
    }

    #[test]
    fn a_link_local_address_tells_its_mac() {
        assert_eq!(link_local(GUEST).made_from(), Some(GUEST));
        assert_eq!(v6("fe80::1").made_from(), None);
        assert_eq!(v6("fd00::ff:fe00:1").made_from(), None);
        assert_eq!([10, 0, 0, 1].made_from(), None);
    }

    proptest! {
        #[test]
        fn room_is_what_the_limit_leaves(macs in 1u32..5000, came in 0u64..10_000, lost in 0u64..5_000, aged in 0u64..5_000) {
            let there = i128::from(came) - i128::from(lost) - i128::from(aged);
            prop_assert_eq!(has_room(&port(macs), came, lost, aged), there < i128::from(macs));
        }

        #[test]
        fn a_prefix_is_what_its_bits_say(a: [u8; 16], b: [u8; 16], bits in 1u8..=128, flip in 0u8..128) {
            let p = Port { v6: b, bits6: bits, ..port(1) };
            let mask = u128::MAX << (128 - bits);
            let same = (u128::from_be_bytes(a) ^ u128::from_be_bytes(b)) & mask == 0;
            prop_assert_eq!(a.is_on_link(&p), b != V6::ZERO && same || is_link_local(a));
            // Close ones, too: one bit differs.
            let near = (u128::from_be_bytes(b) ^ 1 << flip).to_be_bytes();
            let inside = flip < 128 - bits;
            prop_assert_eq!(near.is_on_link(&p), b != V6::ZERO && inside || is_link_local(near));
        }

        #[test]
        fn an_ipv4_prefix_as_well(a: [u8; 4], b: [u8; 4], bits in 1u8..=32) {
            let p = Port { v4: b, bits4: bits, ..port(1) };
            let mask = u32::MAX << (32 - bits);
            let same = (u32::from_be_bytes(a) ^ u32::from_be_bytes(b)) & mask == 0;
            prop_assert_eq!(a.is_on_link(&p), b != V4::ZERO && same);
        }
    }
}
