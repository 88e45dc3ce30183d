//! What an endpoint may send: its own MAC, its own addresses, no router's words.

use crate::addr::{Addr, Be16, Mac, V4, V6, link_local};
use crate::learn::speaks_for_itself;
use crate::maps::{Port, port_flags};
use crate::reason::DropReason;
use crate::tuple::proto;
use crate::wire::arp::Arp;
use crate::wire::nd::{Kind, Nd};
use crate::wire::{Family, Ip, Window};

/// Whose a source address is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The endpoint may use it.
    Own,
    /// It is not its first address: the endpoint may use it if `HOST4`/`HOST6` gives it to the endpoint.
    Ask,
}

/// An address family as the guard sees it: the endpoint's first address in its `PORT` row.
pub trait Guarded: Family {
    /// The first address of the endpoint; zero: none.
    fn first(port: &Port) -> Self;
    /// Whether the endpoint may use `src` beyond the addresses it was given.
    fn also(port: &Port, src: Self, dst: Self) -> bool;
}

impl Guarded for V4 {
    #[inline(always)]
    fn first(port: &Port) -> Self {
        port.v4
    }

    /// 0.0.0.0 may ask everybody: a DHCP client does (RFC 2131 section 4.1).
    #[inline(always)]
    fn also(_: &Port, src: Self, dst: Self) -> bool {
        src.is_unspecified() && dst == [255; 4]
    }
}

impl Guarded for V6 {
    #[inline(always)]
    fn first(port: &Port) -> Self {
        port.v6
    }

    /// The link-local address made from its MAC; `::` may speak to groups (duplicate address
    /// detection and MLD: RFC 4862 section 5.4.2, RFC 3810 section 5.2.13).
    #[inline(always)]
    fn also(port: &Port, src: Self, dst: Self) -> bool {
        src == link_local(port.mac) || (src.is_unspecified() && dst.is_multicast())
    }
}

/// Checks the source MAC of a frame from an endpoint.
#[inline(always)]
pub fn mac(port: &Port, src: Mac) -> Result<(), DropReason> {
    if src == port.mac || forwards(port) {
        Ok(())
    } else {
        Err(DropReason::SpoofedMac)
    }
}

/// Checks the source address of a packet from an endpoint.
#[inline(always)]
pub fn source<A: Guarded>(port: &Port, src: A, dst: A) -> Source {
    let first = A::first(port);
    if (src == first && !first.is_unspecified()) || A::also(port, src, dst) || forwards(port) {
        Source::Own
    } else {
        Source::Ask
    }
}

/// Checks the speaker of an ARP packet in a frame from `from`. A sender of 0.0.0.0 is a probe.
#[inline(always)]
pub fn arp(port: &Port, from: Mac, arp: &Arp) -> Result<Source, DropReason> {
    if forwards(port) {
        return Ok(Source::Own);
    }
    if !speaks_for_itself(port, from, arp.sender_mac) {
        return Err(DropReason::SpoofedArp);
    }
    let own = arp.sender_ip == port.v4 || arp.sender_ip.is_unspecified();
    Ok(if own { Source::Own } else { Source::Ask })
}

/// Checks a neighbour discovery message in a frame from `from`; its IP source is checked apart. What
/// an advertisement speaks for may be [`Source::Ask`].
#[inline(always)]
pub fn nd(port: &Port, from: Mac, nd: &Nd) -> Result<Source, DropReason> {
    if forwards(port) {
        return Ok(Source::Own);
    }
    match nd.kind {
        Kind::Router => Err(DropReason::SpoofedNd),
        Kind::Other => Ok(Source::Own),
        Kind::Solicitation => own_mac(port, from, nd.mac).map(|()| Source::Own),
        Kind::Advertisement => {
            own_mac(port, from, nd.mac)?;
            let own = (nd.target == port.v6 && !port.v6.is_unspecified())
                || nd.target == link_local(port.mac);
            Ok(if own { Source::Own } else { Source::Ask })
        }
    }
}

#[inline(always)]
fn own_mac(port: &Port, from: Mac, said: Mac) -> Result<(), DropReason> {
    if said == [0; 6] || speaks_for_itself(port, from, said) {
        Ok(())
    } else {
        Err(DropReason::SpoofedNd)
    }
}

/// A router on the segment, the node itself above all, may speak for others.
#[inline(always)]
const fn forwards(port: &Port) -> bool {
    port.flags & (port_flags::FORWARDS | port_flags::GATEWAY) != 0
}

/// Refuses a DHCP server's words from an endpoint. Servers are known by the port they speak to; their own
/// may be any (RFC 2131 section 4.1, RFC 8415 section 7.2).
///
/// # Errors
/// [`DropReason::Truncated`]: the ports cannot be read, so it could be one.
#[inline(always)]
pub fn dhcp<A: Addr, W: Window + ?Sized>(port: &Port, w: &W, ip: &Ip<A>) -> Result<(), DropReason> {
    if ip.proto != proto::UDP || ip.later || forwards(port) {
        return Ok(());
    }
    let client = if A::IS_V4 {
        Be16::new(68)
    } else {
        Be16::new(546)
    };
    let dport = w.load::<2>(usize::from(ip.l4) + 2);
    if dport.ok_or(DropReason::Truncated)? == client.0 {
        Err(DropReason::DhcpServer)
    } else {
        Ok(())
    }
}

/// Refuses a routed packet whose addresses must not be on a wire (RFC 1812 section 5.3.7, RFC 6890,
/// RFC 4291 sections 2.5.2, 2.5.3, 2.5.5.2 and 2.7).
#[inline(always)]
pub fn martian<A: Addr>(src: A, dst: A) -> Result<(), DropReason> {
    let bad = src.is_multicast() || src.is_never_sent() || dst.is_never_sent();
    if bad {
        Err(DropReason::Martian)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;

    use super::*;
    use crate::wire::arp::Op;

    const MAC: Mac = [2, 0, 0, 0, 0, 1];
    const OTHER: Mac = [2, 0, 0, 0, 0, 2];
    const NONE: Mac = [0; 6];
    const V6_OWN: V6 = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5];
    const V6_OTHER: V6 = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6];
    const GROUP: V6 = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

    fn port() -> Port {
        Port {
            mac: MAC,
            v4: [10, 0, 0, 5],
            v6: V6_OWN,
            ..Port::zeroed()
        }
    }

    fn router() -> Port {
        Port {
            flags: port_flags::FORWARDS,
            ..port()
        }
    }

    #[test]
    fn the_node_may_speak_for_others() {
        let gateway = Port {
            flags: port_flags::GATEWAY,
            ..port()
        };
        assert_eq!(mac(&gateway, OTHER), Ok(()));
        assert_eq!(source(&gateway, V6_OTHER, V6_OWN), Source::Own);
        assert_eq!(
            arp(&gateway, MAC, &said(OTHER, [10, 0, 0, 6])),
            Ok(Source::Own)
        );
        let plain = Port {
            flags: !(port_flags::GATEWAY | port_flags::FORWARDS),
            ..port()
        };
        assert_eq!(mac(&plain, OTHER), Err(DropReason::SpoofedMac));
    }

    #[test]
    fn only_its_own_mac() {
        assert_eq!(mac(&port(), MAC), Ok(()));
        assert_eq!(mac(&port(), OTHER), Err(DropReason::SpoofedMac));
        assert_eq!(mac(&router(), OTHER), Ok(()));
    }

    #[test]
    fn v4_sources() {
        let to = [10, 0, 0, 9];
        assert_eq!(source(&port(), [10, 0, 0, 5], to), Source::Own);
        assert_eq!(source(&port(), [10, 0, 0, 6], to), Source::Ask);
        assert_eq!(source(&port(), [0; 4], [255; 4]), Source::Own);
        assert_eq!(source(&port(), [0; 4], to), Source::Ask);
        assert_eq!(source(&port(), [10, 0, 0, 6], [255; 4]), Source::Ask);
        assert_eq!(source(&router(), [10, 0, 0, 6], to), Source::Own);
        let none = Port {
            v4: [0; 4],
            ..port()
        };
        assert_eq!(source(&none, [0; 4], to), Source::Ask);
    }

    #[test]
    fn v6_sources() {
        assert_eq!(source(&port(), V6_OWN, V6_OTHER), Source::Own);
        assert_eq!(source(&port(), V6_OTHER, V6_OWN), Source::Ask);
        assert_eq!(source(&port(), link_local(MAC), V6_OTHER), Source::Own);
        assert_eq!(source(&port(), link_local(OTHER), V6_OTHER), Source::Ask);
        assert_eq!(source(&port(), V6::ZERO, GROUP), Source::Own);
        assert_eq!(source(&port(), V6::ZERO, V6_OTHER), Source::Ask);
        let none = Port {
            v6: V6::ZERO,
            ..port()
        };
        assert_eq!(source(&none, V6::ZERO, V6_OTHER), Source::Ask);
    }

    fn said(sender_mac: Mac, sender_ip: V4) -> Arp {
        Arp {
            op: Op::Request,
            sender_mac,
            sender_ip,
            target_ip: [10, 0, 0, 9],
        }
    }

    #[test]
    fn arp_speaks_for_its_own_address() {
        assert_eq!(
            arp(&port(), MAC, &said(MAC, [10, 0, 0, 5])),
            Ok(Source::Own)
        );
        assert_eq!(arp(&port(), MAC, &said(MAC, [0; 4])), Ok(Source::Own));
        assert_eq!(
            arp(&port(), MAC, &said(MAC, [10, 0, 0, 6])),
            Ok(Source::Ask)
        );
        assert_eq!(
            arp(&port(), MAC, &said(OTHER, [10, 0, 0, 5])),
            Err(DropReason::SpoofedArp)
        );
        assert_eq!(
            arp(&router(), MAC, &said(OTHER, [10, 0, 0, 6])),
            Ok(Source::Own)
        );
    }

    #[test]
    fn neighbour_discovery_speaks_for_its_own_address() {
        let ns = |mac| Nd {
            kind: Kind::Solicitation,
            target: V6_OTHER,
            mac,
        };
        assert_eq!(nd(&port(), MAC, &ns(NONE)), Ok(Source::Own));
        assert_eq!(nd(&port(), MAC, &ns(MAC)), Ok(Source::Own));
        assert_eq!(nd(&port(), MAC, &ns(OTHER)), Err(DropReason::SpoofedNd));
        let na = |target, mac| Nd {
            kind: Kind::Advertisement,
            target,
            mac,
        };
        let plain = |kind| Nd {
            kind,
            target: V6::ZERO,
            mac: NONE,
        };
        assert_eq!(nd(&port(), MAC, &na(V6_OWN, MAC)), Ok(Source::Own));
        assert_eq!(
            nd(&port(), MAC, &na(link_local(MAC), NONE)),
            Ok(Source::Own)
        );
        assert_eq!(nd(&port(), MAC, &na(V6_OTHER, NONE)), Ok(Source::Ask));
        assert_eq!(
            nd(&port(), MAC, &na(V6_OWN, OTHER)),
            Err(DropReason::SpoofedNd)
        );
        let none = Port {
            v6: V6::ZERO,
            ..port()
        };
        assert_eq!(nd(&none, MAC, &na(V6::ZERO, NONE)), Ok(Source::Ask));
        assert_eq!(
            nd(&port(), MAC, &plain(Kind::Router)),
            Err(DropReason::SpoofedNd)
        );
        assert_eq!(nd(&port(), MAC, &plain(Kind::Other)), Ok(Source::Own));
        assert_eq!(nd(&router(), MAC, &plain(Kind::Router)), Ok(Source::Own));
    }

    #[test]
    fn guests_speak_with_the_mac_of_their_frame() {
        let several = Port { macs: 1, ..port() };
        assert_eq!(
            arp(&several, OTHER, &said(OTHER, [10, 0, 0, 6])),
            Ok(Source::Ask)
        );
        assert_eq!(
            arp(&several, MAC, &said(OTHER, [10, 0, 0, 6])),
            Err(DropReason::SpoofedArp)
        );
        let ns = Nd {
            kind: Kind::Solicitation,
            target: V6_OTHER,
            mac: OTHER,
        };
        assert_eq!(nd(&several, OTHER, &ns), Ok(Source::Own));
        assert_eq!(nd(&several, MAC, &ns), Err(DropReason::SpoofedNd));
        let router = Nd {
            kind: Kind::Router,
            ..ns
        };
        assert_eq!(nd(&several, OTHER, &router), Err(DropReason::SpoofedNd));
    }

    #[test]
    fn martians() {
        let (a, b): (V4, V4) = ([10, 0, 0, 5], [192, 0, 2, 1]);
        assert_eq!(martian(a, b), Ok(()));
        for (s, d) in [
            ([224, 0, 0, 1], b),
            ([127, 0, 0, 1], b),
            ([0; 4], b),
            ([240, 0, 0, 1], b),
            (a, [127, 0, 0, 1]),
            (a, [0; 4]),
            (a, [255; 4]),
        ] {
            assert_eq!(martian(s, d), Err(DropReason::Martian), "{s:?} {d:?}");
        }
        assert_eq!(martian(a, [224, 0, 0, 1]), Ok(()));
    }

    fn ip<A: Addr>(addr: A) -> Ip<A> {
        Ip {
            src: addr,
            dst: addr,
            proto: proto::UDP,
            ttl: 64,
            tos: 0,
            l4: 34,
            end: 42,
            fragment: true,
            later: false,
        }
    }

    #[test]
    fn only_servers_speak_to_dhcp_clients() {
        let frame = |dport: u16| {
            let mut f = vec![0u8; 42];
            f[36..38].copy_from_slice(&dport.to_be_bytes());
            f
        };
        let (four, six) = (ip([10, 0, 0, 5]), ip(V6_OWN));
        assert_eq!(
            dhcp(&port(), &frame(68)[..], &four),
            Err(DropReason::DhcpServer)
        );
        assert_eq!(
            dhcp(&port(), &frame(546)[..], &six),
            Err(DropReason::DhcpServer)
        );
        for (v4, v6) in [(67, 547), (546, 68), (0x4444, 0)] {
            assert_eq!(dhcp(&port(), &frame(v4)[..], &four), Ok(()));
            assert_eq!(dhcp(&port(), &frame(v6)[..], &six), Ok(()));
        }
        assert_eq!(dhcp(&router(), &frame(68)[..], &four), Ok(()));
        let other = [
            Ip {
                later: true,
                ..four
            },
            Ip {
                proto: proto::TCP,
                ..four
            },
        ];
        for ip in other {
            assert_eq!(dhcp(&port(), &frame(68)[..], &ip), Ok(()));
        }
        assert_eq!(
            dhcp(&port(), &frame(68)[..37], &four),
            Err(DropReason::Truncated),
            "too short to say"
        );
    }
}
