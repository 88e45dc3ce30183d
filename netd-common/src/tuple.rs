//! Flow keys: who talks to whom, as the packet says it at one place.

use crate::addr::{Addr, Be16, V6};
use crate::maps::pod;

/// IP protocol numbers netd looks into.
pub mod proto {
    /// ICMP (RFC 792).
    pub const ICMP: u8 = 1;
    /// TCP (RFC 9293).
    pub const TCP: u8 = 6;
    /// UDP (RFC 768).
    pub const UDP: u8 = 17;
    /// ICMPv6 (RFC 4443).
    pub const ICMPV6: u8 = 58;
    /// SCTP (RFC 9260).
    pub const SCTP: u8 = 132;
}

/// Addresses, ports and protocol of a packet. For an echo request `sport` is the identifier and
/// `dport` is 0, for an echo reply the other way round: so the reply's tuple is the reverse of the
/// request's.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Tuple<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Source port, or the identifier of an echo request.
    pub sport: Be16,
    /// Destination port, or the identifier of an echo reply.
    pub dport: Be16,
    /// IP protocol number.
    pub proto: u8,
    /// Zero.
    pub pad: [u8; 3],
}

pod!(Tuple, 4 + 4 + 8, 16 + 16 + 8);

impl<A: Addr> Tuple<A> {
    /// The tuple of a packet in the other direction of the same conversation.
    #[inline(always)]
    #[must_use]
    pub fn reverse(self) -> Self {
        Self {
            src: self.dst,
            dst: self.src,
            sport: self.dport,
            dport: self.sport,
            proto: self.proto,
            pad: [0; 3],
        }
    }

    /// The same with 16-byte addresses.
    #[inline(always)]
    #[must_use]
    pub fn to_16(&self) -> Tuple<V6> {
        Tuple {
            src: self.src.to_16(),
            dst: self.dst.to_16(),
            sport: self.sport,
            dport: self.dport,
            proto: self.proto,
            pad: [0; 3],
        }
    }

    /// A number that differs, with high odds, between the keys of two flows: it is stored in the
    /// value, so that a reader sees when the kernel gave the element to another key.
    #[inline(always)]
    pub fn tag(&self) -> u32 {
        let fold = |a: V6| {
            let n = u128::from_ne_bytes(a);
            let n = (n as u64) ^ ((n >> 64) as u64).rotate_left(23);
            (n as u32) ^ ((n >> 32) as u32).rotate_left(11)
        };
        let ([a, b], [c, d]) = (self.sport.0, self.dport.0);
        let ports = u32::from_be_bytes([a, b, c, d]);
        fold(self.src.to_16())
            ^ fold(self.dst.to_16()).rotate_left(7)
            ^ ports.wrapping_mul(0x9e37_79b1)
            ^ (u32::from(self.proto) << 24)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn tuple6() -> impl Strategy<Value = Tuple<V6>> {
        (
            any::<V6>(),
            any::<V6>(),
            any::<u16>(),
            any::<u16>(),
            any::<u8>(),
        )
            .prop_map(|(src, dst, sport, dport, proto)| Tuple {
                src,
                dst,
                sport: Be16::new(sport),
                dport: Be16::new(dport),
                proto,
                pad: [0; 3],
            })
    }

    proptest! {
        #[test]
        fn reversing_twice_is_identity(t in tuple6()) {
            prop_assert_eq!(t.reverse().reverse(), t);
            prop_assert_eq!(t.reverse().src, t.dst);
            prop_assert_eq!(t.reverse().sport, t.dport);
            prop_assert_eq!(t.reverse().proto, t.proto);
        }

        #[test]
        fn tag_sees_each_field(t in tuple6(), n in 1u16.., byte in 0usize..16) {
            let mut o = t;
            o.sport = Be16::new(t.sport.get() ^ n);
            prop_assert_ne!(o.tag(), t.tag());
            let mut o = t;
            o.dport = Be16::new(t.dport.get() ^ n);
            prop_assert_ne!(o.tag(), t.tag());
            let mut o = t;
            o.src[byte] ^= n as u8 | 1;
            prop_assert_ne!(o.tag(), t.tag());
            let mut o = t;
            o.dst[byte] ^= n as u8 | 1;
            prop_assert_ne!(o.tag(), t.tag());
            let mut o = t;
            o.proto ^= n as u8 | 1;
            prop_assert_ne!(o.tag(), t.tag());
        }

        #[test]
        fn a_flow_and_its_replies_have_different_tags_unless_symmetric(t in tuple6()) {
            prop_assume!(t != t.reverse());
            prop_assert_ne!(t.tag(), t.reverse().tag());
        }
    }
}
