//! Addresses as the wire has them: plain byte arrays in network order.

use bytemuck::{Pod, Zeroable};

/// An Ethernet address, in wire order.
pub type Mac = [u8; 6];
/// An IPv4 address, in network order.
pub type V4 = [u8; 4];
/// An IPv6 address, in network order.
pub type V6 = [u8; 16];

/// `ff:ff:ff:ff:ff:ff`.
pub const BROADCAST: Mac = [0xff; 6];

/// Whether the group bit of a MAC is set (multicast or broadcast; IEEE 802.3 section 3.2.3).
#[inline(always)]
pub const fn is_group(mac: Mac) -> bool {
    mac[0] & 1 == 1
}

/// A 16-bit number in network order (a port, an echo identifier). Never a host-order integer.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Pod, Zeroable)]
pub struct Be16(pub [u8; 2]);

impl Be16 {
    /// From a host-order number.
    #[inline(always)]
    pub const fn new(host: u16) -> Self {
        Self(host.to_be_bytes())
    }

    /// As a host-order number.
    #[inline(always)]
    pub const fn get(self) -> u16 {
        u16::from_be_bytes(self.0)
    }
}

impl core::fmt::Debug for Be16 {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}", self.get())
    }
}

/// An address family's address type: 4 bytes ([`V4`]) or 16 bytes ([`V6`]); there are no others.
pub trait Addr: Pod + Eq + core::fmt::Debug {
    /// The address of the family with all bytes zero.
    const ZERO: Self;
    /// True for IPv4.
    const IS_V4: bool;

    /// 16-byte form: IPv6 as it is, IPv4 as `::ffff:a.b.c.d` (RFC 4291 section 2.5.5.2).
    fn to_16(self) -> V6;
    /// The address back from its 16-byte form; the other family's addresses give garbage.
    fn from_16(a: V6) -> Self;
    /// Multicast, or the IPv4 limited broadcast address.
    fn is_multicast(self) -> bool;
    /// Loopback (127/8, `::1`).
    fn is_loopback(self) -> bool;
    /// The unspecified address (0.0.0.0, `::`).
    fn is_unspecified(self) -> bool;
    /// Never the source or destination of a packet on a wire: 0/8, 127/8, 240/4; `::`, `::1`,
    /// `::ffff:0:0/96` (RFC 6890 section 2.2). The IPv4 limited broadcast address is one too: it is
    /// never routed.
    fn is_never_sent(self) -> bool;
    /// An IPv6 address that stands for an IPv4 one (`::ffff:0:0/96`): programs use it among themselves,
    /// no packet may (RFC 4291 section 2.5.5.2, RFC 6890).
    fn is_mapped(self) -> bool;
}

impl Addr for V4 {
    const ZERO: Self = [0; 4];
    const IS_V4: bool = true;

    #[inline(always)]
    fn to_16(self) -> V6 {
        let [a, b, c, d] = self;
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
    }
    #[inline(always)]
    fn from_16(a: V6) -> Self {
        [a[12], a[13], a[14], a[15]]
    }
    #[inline(always)]
    fn is_multicast(self) -> bool {
        self[0] & 0xf0 == 0xe0 || self == [255; 4]
    }
    #[inline(always)]
    fn is_loopback(self) -> bool {
        self[0] == 127
    }
    #[inline(always)]
    fn is_unspecified(self) -> bool {
        self == Self::ZERO
    }
    #[inline(always)]
    fn is_never_sent(self) -> bool {
        self[0] == 0 || self[0] == 127 || self[0] >= 240
    }
    #[inline(always)]
    fn is_mapped(self) -> bool {
        false
    }
}

impl Addr for V6 {
    const ZERO: Self = [0; 16];
    const IS_V4: bool = false;

    #[inline(always)]
    fn to_16(self) -> V6 {
        self
    }
    #[inline(always)]
    fn from_16(a: V6) -> Self {
        a
    }
    #[inline(always)]
    fn is_multicast(self) -> bool {
        self[0] == 0xff
    }
    #[inline(always)]
    fn is_loopback(self) -> bool {
        u128::from_be_bytes(self) == 1
    }
    #[inline(always)]
    fn is_unspecified(self) -> bool {
        u128::from_be_bytes(self) == 0
    }
    #[inline(always)]
    fn is_never_sent(self) -> bool {
        let high = u128::from_be_bytes(self) >> 1;
        high == 0 || self.is_mapped()
    }
    #[inline(always)]
    fn is_mapped(self) -> bool {
        u128::from_be_bytes(self) >> 32 == 0xffff
    }
}

/// Whether an IPv6 address is link-local unicast (`fe80::/10`; RFC 4291 section 2.5.6).
#[inline(always)]
pub const fn is_link_local(a: V6) -> bool {
    a[0] == 0xfe && a[1] & 0xc0 == 0x80
}

/// The link-local address a kernel derives from a MAC (modified EUI-64; RFC 4291 appendix A).
#[inline(always)]
pub const fn link_local(mac: Mac) -> V6 {
    [
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        mac[0] ^ 2,
        mac[1],
        mac[2],
        0xff,
        0xfe,
        mac[3],
        mac[4],
        mac[5],
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_is_modified_eui64() {
        assert_eq!(
            link_local([0x02, 0x11, 0x22, 0x33, 0x44, 0x55]),
            [
                0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0x00, 0x11, 0x22, 0xff, 0xfe, 0x33, 0x44, 0x55
            ]
        );
        assert!(is_link_local(link_local([2, 0, 0, 0, 0, 1])));
        assert!(is_link_local([
            0xfe, 0xbf, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1
        ]));
        assert!(!is_link_local([
            0xfe, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1
        ]));
        assert!(!is_link_local([
            0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1
        ]));
    }

    #[test]
    fn v4_maps_into_16_bytes_and_back() {
        let a: V4 = [192, 0, 2, 7];
        assert_eq!(
            a.to_16(),
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 0, 2, 7]
        );
        assert_eq!(V4::from_16(a.to_16()), a);
    }

    #[test]
    fn classes_of_addresses() {
        assert!([224, 0, 0, 1].is_multicast() && [239, 255, 255, 255].is_multicast());
        assert!([255; 4].is_multicast() && ![240, 0, 0, 1].is_multicast());
        assert!(![223, 0, 0, 1].is_multicast());
        assert!([127, 9, 9, 9].is_loopback() && ![126, 0, 0, 1].is_loopback());
        assert!(V4::ZERO.is_unspecified() && V6::ZERO.is_unspecified());
        assert!(![0, 0, 0, 1].is_unspecified());
        let mut one = V6::ZERO;
        one[15] = 1;
        assert!(one.is_loopback() && !one.is_unspecified() && !V6::ZERO.is_loopback());
        one[0] = 0xff;
        assert!(one.is_multicast());
        for never in [[0, 1, 2, 3], [127, 0, 0, 1], [240, 0, 0, 1], [255; 4]] {
            assert!(never.is_never_sent(), "{never:?}");
        }
        for fine in [[1, 0, 0, 0], [126, 0, 0, 1], [128, 0, 0, 1], [239, 0, 0, 1]] {
            assert!(!fine.is_never_sent(), "{fine:?}");
        }
        let mut low = V6::ZERO;
        assert!(low.is_never_sent());
        low[15] = 1;
        assert!(low.is_never_sent());
        low[15] = 2;
        assert!(!low.is_never_sent());
        assert!([192, 0, 2, 7].to_16().is_never_sent());
        let mapped: V6 = [192, 0, 2, 7].to_16();
        assert!(mapped.is_mapped() && ![192, 0, 2, 7].is_mapped() && !V6::ZERO.is_mapped());
        for byte in 0..12 {
            let mut other = mapped;
            other[byte] ^= 1;
            assert!(!other.is_mapped(), "{other:?}");
        }
    }

    #[test]
    fn group_bit() {
        assert!(
            is_group(BROADCAST) && is_group([1, 0, 0x5e, 0, 0, 1]) && !is_group([2, 0, 0, 0, 0, 1])
        );
    }

    #[test]
    fn be16_keeps_wire_order() {
        assert_eq!(Be16::new(0x1234).0, [0x12, 0x34]);
        assert_eq!(Be16([0x12, 0x34]).get(), 0x1234);
    }
}
