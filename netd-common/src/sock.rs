//! Sockets of the node's own processes and published ports: what a call to an address means, and which
//! binds are refused. Addresses are in their 16-byte form, IPv4 as `::ffff:a.b.c.d`, which is also how
//! a process names IPv4 on an IPv6 socket. Touches no map.

use crate::addr::{Addr, Be16, V4, V6};
use crate::maps::Held;

/// IP protocol number of TCP.
const TCP: u8 = 6;
/// IP protocol number of UDP.
const UDP: u8 = 17;
/// `IPPROTO_MPTCP`: to others such a socket is TCP.
const MPTCP: u32 = 262;

/// Mark (`SO_MARK`) of the daemon's own sockets that try whether a port is free.
pub const PROBE_MARK: u32 = 0x6e64_0002;

/// The protocol of a published port that a socket's protocol is; `None`: none can be published.
#[inline(always)]
pub const fn proto(protocol: u32) -> Option<u8> {
    match protocol {
        6 | MPTCP => Some(TCP),
        17 => Some(UDP),
        _ => None,
    }
}

/// Index of a protocol's port in `HELD`.
#[inline(always)]
pub const fn held_index(proto: u8, port: Be16) -> u32 {
    let protocol = if proto == UDP { 1 << 16 } else { 0 };
    protocol | port.get() as u32
}

/// An address as two numbers: as one of 128 bits it would need arithmetic the BPF target has not.
#[inline(always)]
const fn halves(a: V6) -> (u64, u64) {
    let [h0, h1, h2, h3, h4, h5, h6, h7, low @ ..] = a;
    (
        u64::from_be_bytes([h0, h1, h2, h3, h4, h5, h6, h7]),
        u64::from_be_bytes(low),
    )
}

/// Whether a 16-byte address is IPv4's.
#[inline(always)]
pub const fn is_v4(a: V6) -> bool {
    let (high, low) = halves(a);
    high == 0 && low >> 32 == 0xffff
}

/// The address that stands for every address of the family in `PUBLISH`.
#[inline(always)]
pub fn every(a: V6) -> V6 {
    if is_v4(a) { V4::ZERO.to_16() } else { V6::ZERO }
}

/// Loopback (127/8, `::1`).
#[inline(always)]
pub fn is_loopback(a: V6) -> bool {
    let (high, low) = halves(a);
    high == 0 && (low == 1 || low >> 24 == 0x00ff_ff7f)
}

/// The unspecified address of either family.
#[inline(always)]
pub fn is_unspecified(a: V6) -> bool {
    let (high, low) = halves(a);
    high == 0 && (low == 0 || low == 0xffff << 32)
}

/// The address a call goes to: the kernel takes the unspecified one for loopback (`ip_route_output_key`,
/// `tcp_v6_connect`).
#[inline(always)]
pub fn destination(a: V6) -> V6 {
    if !is_unspecified(a) {
        a
    } else if is_v4(a) {
        [127, 0, 0, 1].to_16()
    } else {
        1u128.to_be_bytes()
    }
}

/// What is known about a bind by its port and address alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bind {
    /// Nothing is published there.
    Free,
    /// It would take something that is published.
    Taken,
    /// It depends on whether this very address, or every address of its family, is published.
    Ask,
}

/// Judges a bind to an address, by what is held on its protocol and port. An IPv6 socket bound to `::`
/// is taken for one that accepts IPv4 too: a program cannot see whether it does.
#[inline(always)]
pub fn bind(held: &Held, addr: V6) -> Bind {
    let taken = if held.claims > 0 {
        true
    } else if !is_unspecified(addr) {
        return if held.of(addr) { Bind::Ask } else { Bind::Free };
    } else if is_v4(addr) {
        held.v4 > 0
    } else {
        held.v4 > 0 || held.v6 > 0
    };
    if taken { Bind::Taken } else { Bind::Free }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ANY4: V6 = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 0, 0];

    fn v4(a: V4) -> V6 {
        a.to_16()
    }

    fn held(v4: u16, v6: u16, claims: u32) -> Held {
        Held { v4, v6, claims }
    }

    #[test]
    fn tcp_mptcp_and_udp_can_be_published() {
        assert_eq!(
            [1, 6, 17, 58, 132, 136, 262].map(proto),
            [None, Some(6), Some(17), None, None, None, Some(6)]
        );
    }

    #[test]
    fn each_protocol_and_port_has_an_index_of_its_own() {
        assert_eq!(held_index(6, Be16::new(8080)), 8080);
        assert_eq!(held_index(17, Be16::new(8080)), 65536 + 8080);
        assert_eq!(held_index(17, Be16::new(65535)), 131_071);
    }

    #[test]
    fn unspecified_destinations_are_loopback() {
        assert_eq!(destination(ANY4), v4([127, 0, 0, 1]));
        assert!(destination(V6::ZERO).is_loopback());
        assert!(is_loopback(destination(ANY4)) && is_loopback(destination(V6::ZERO)));
        assert_eq!(destination(v4([192, 0, 2, 1])), v4([192, 0, 2, 1]));
    }

    #[test]
    fn loopback_of_both_families() {
        assert!(is_loopback(v4([127, 9, 9, 9])) && !is_loopback(v4([126, 0, 0, 1])));
        let mut one = V6::ZERO;
        one[15] = 1;
        assert!(is_loopback(one) && !is_loopback(V6::ZERO) && !is_loopback(ANY4));
        // Not mapped: ::127.0.0.1 is nobody's loopback.
        one[12] = 127;
        assert!(!is_loopback(one));
    }

    #[test]
    fn a_bind_to_every_address_collides_with_any_of_its_family() {
        for (on_port, to_any4, to_any6) in [
            (held(0, 0, 0), Bind::Free, Bind::Free),
            (held(1, 0, 0), Bind::Taken, Bind::Taken),
            (held(0, 1, 0), Bind::Free, Bind::Taken),
            (held(0, 0, 1), Bind::Taken, Bind::Taken),
        ] {
            assert_eq!(bind(&on_port, ANY4), to_any4, "{on_port:?}");
            assert_eq!(bind(&on_port, V6::ZERO), to_any6, "{on_port:?}");
        }
    }

    #[test]
    fn a_bind_to_one_address_asks_for_that_address() {
        let six = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        for (on_port, to4, to6) in [
            (held(0, 0, 0), Bind::Free, Bind::Free),
            (held(2, 0, 0), Bind::Ask, Bind::Free),
            (held(0, 2, 0), Bind::Free, Bind::Ask),
            (held(1, 1, 3), Bind::Taken, Bind::Taken),
        ] {
            assert_eq!(bind(&on_port, v4([127, 0, 0, 1])), to4, "{on_port:?}");
            assert_eq!(bind(&on_port, six), to6, "{on_port:?}");
        }
    }

    proptest! {
        #[test]
        fn a_destination_is_never_unspecified_and_keeps_its_family(a: V6, mapped: bool, zero: bool) {
            let a = if zero { V6::ZERO } else { a };
            let a = if mapped { V4::from_16(a).to_16() } else { a };
            let to = destination(a);
            prop_assert!(!is_unspecified(to));
            prop_assert_eq!(is_v4(to), is_v4(a));
            prop_assert!(to == a || is_unspecified(a) && is_loopback(to));
            prop_assert_eq!(every(to), every(a));
        }

        #[test]
        fn what_nobody_holds_is_free(a: V6) {
            prop_assert_eq!(bind(&held(0, 0, 0), a), Bind::Free);
            prop_assert_eq!(bind(&held(0, 0, 1), a), Bind::Taken);
        }
    }
}
