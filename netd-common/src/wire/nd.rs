//! IPv6 neighbour discovery (RFC 4861): solicitations read, advertisements built.

use super::Window;
use super::eth::{ETH_LEN, Eth, ethertype};
use super::ip::{Ip, V6_LEN};
use crate::addr::{Addr, Mac, V6};
use crate::checksum;
use crate::reason::DropReason;
use crate::tuple::proto;

/// Bytes of a frame with an advertisement that carries a target link-layer address.
pub const ADVERT_LEN: usize = ETH_LEN + V6_LEN + 32;

/// Message types (RFC 4861 section 4).
pub mod kind {
    /// Router solicitation.
    pub const ROUTER_SOLICITATION: u8 = 133;
    /// Router advertisement.
    pub const ROUTER_ADVERTISEMENT: u8 = 134;
    /// Neighbour solicitation.
    pub const SOLICITATION: u8 = 135;
    /// Neighbour advertisement.
    pub const ADVERTISEMENT: u8 = 136;
    /// Redirect.
    pub const REDIRECT: u8 = 137;
}

/// What an ICMPv6 message is to neighbour discovery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Who has `target`? `mac` is the asker's.
    Solicitation,
    /// `target` is at `mac`.
    Advertisement,
    /// Only a router may say this: a router advertisement or a redirect.
    Router,
    /// Not neighbour discovery.
    Other,
}

/// A message as neighbour discovery sees it. Every field is always set: the verifier has no patience
/// with an enum whose payload is sometimes undefined.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nd {
    /// What it is.
    pub kind: Kind,
    /// The address that is asked or spoken for; `::` for routers' and other messages.
    pub target: V6,
    /// The link-layer address option; zero: none.
    pub mac: Mac,
}

impl Nd {
    const fn without_target(kind: Kind) -> Self {
        Self {
            kind,
            target: [0; 16],
            mac: [0; 6],
        }
    }
}

/// Reads the ICMPv6 message of `ip`. A neighbour message that breaks RFC 4861 section 7.1 (hop limit
/// not 255, code not 0, too short, target multicast) or comes in fragments (RFC 6980 section 5) is
/// refused as [`DropReason::SpoofedNd`].
#[inline(always)]
pub fn parse<W: Window + ?Sized>(w: &W, ip: &Ip<V6>) -> Result<Nd, DropReason> {
    if ip.proto != proto::ICMPV6 || ip.later {
        return Ok(Nd::without_target(Kind::Other));
    }
    let at = usize::from(ip.l4);
    let [code_of, code] = w.load::<2>(at).ok_or(DropReason::Truncated)?;
    if ip.fragment {
        return if (kind::ROUTER_SOLICITATION..=kind::REDIRECT).contains(&code_of) {
            Err(DropReason::SpoofedNd)
        } else {
            Ok(Nd::without_target(Kind::Other))
        };
    }
    let (kind, wanted) = match code_of {
        kind::SOLICITATION => (Kind::Solicitation, 1),
        kind::ADVERTISEMENT => (Kind::Advertisement, 2),
        kind::ROUTER_ADVERTISEMENT | kind::REDIRECT => return Ok(Nd::without_target(Kind::Router)),
        _ => return Ok(Nd::without_target(Kind::Other)),
    };
    let target = w.load::<16>(at + 8).ok_or(DropReason::Truncated)?;
    if ip.ttl != 255 || code != 0 || at + 24 > ip.end as usize || target.is_multicast() {
        return Err(DropReason::SpoofedNd);
    }
    let mut nd = Nd {
        kind,
        target,
        mac: [0; 6],
    };
    if at + 32 <= ip.end as usize
        && let Some([option, 1, a, b, c, d, e, f]) = w.load::<8>(at + 24)
        && option == wanted
    {
        nd.mac = [a, b, c, d, e, f];
    }
    Ok(nd)
}

/// The frame that answers a solicitation for `target` from `asker`: `target` is at `mac`. A `::`
/// asker (duplicate address detection) is answered to all nodes (RFC 4861 section 7.2.4).
#[inline(always)]
pub fn advertisement(
    asker_mac: Mac,
    asker: V6,
    target: V6,
    mac: Mac,
    router: bool,
) -> [u8; ADVERT_LEN] {
    let all_nodes: V6 = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let solicited = !asker.is_unspecified();
    let (dst_mac, dst) = if solicited {
        (asker_mac, asker)
    } else {
        ([0x33, 0x33, 0, 0, 0, 1], all_nodes)
    };
    // Router, solicited, override (RFC 4861 section 4.4); the last one always.
    let flags = match (router, solicited) {
        (true, true) => 0xe0,
        (true, false) => 0xa0,
        (false, true) => 0x60,
        (false, false) => 0x20,
    };

    let mut f = [0u8; ADVERT_LEN];
    put(
        &mut f,
        0,
        Eth {
            dst: dst_mac,
            src: mac,
            ethertype: ethertype::IPV6,
        }
        .bytes(),
    );
    put(&mut f, 14, [0x60, 0, 0, 0, 0, 32, proto::ICMPV6, 255]);
    put(&mut f, 22, target);
    put(&mut f, 38, dst);
    put(&mut f, 54, [kind::ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0]);
    put(&mut f, 62, target);
    put(&mut f, 78, [2, 1]);
    put(&mut f, 80, mac);

    // Pseudo-header (RFC 8200 section 8.1): addresses, length 32, next header 58; then the message.
    let sum = checksum::Delta::new()
        .add(target)
        .add(dst)
        .add([0, 32, 0, proto::ICMPV6])
        .add([kind::ADVERTISEMENT, 0, flags, 0])
        .add(target)
        .add([2, 1])
        .add(mac);
    put(&mut f, 56, sum.apply([0xff, 0xff]));
    f
}

#[inline(always)]
fn put<const N: usize>(frame: &mut [u8; ADVERT_LEN], at: usize, bytes: [u8; N]) {
    if let Some(to) = frame.get_mut(at..at + N) {
        to.copy_from_slice(&bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::Family;

    const ASKER: V6 = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    const TARGET: V6 = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

    fn message(kind: u8, hop: u8, body: &[u8]) -> Vec<u8> {
        let mut f = vec![0u8; 12];
        f.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 4 + body.len() as u8, 58, hop]);
        f.extend(ASKER);
        f.extend([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 2]);
        f.extend([kind, 0, 0, 0]);
        f.extend_from_slice(body);
        f
    }

    fn neighbour(option: &[u8]) -> Vec<u8> {
        let mut b = vec![0u8; 4];
        b.extend(TARGET);
        b.extend_from_slice(option);
        b
    }

    fn read(f: &[u8]) -> Result<Nd, DropReason> {
        parse(f, &V6::parse(f, 14).unwrap())
    }

    #[test]
    fn solicitations_and_advertisements_are_read() {
        let slla = [1, 1, 2, 0, 0, 0, 0, 1];
        let f = message(135, 255, &neighbour(&slla));
        assert_eq!(
            read(&f),
            Ok(Nd {
                kind: Kind::Solicitation,
                target: TARGET,
                mac: [2, 0, 0, 0, 0, 1]
            })
        );
        let f = message(135, 255, &neighbour(&[]));
        assert_eq!(
            read(&f),
            Ok(Nd {
                kind: Kind::Solicitation,
                target: TARGET,
                mac: [0; 6]
            })
        );
        let tlla = [2, 1, 2, 0, 0, 0, 0, 2];
        let f = message(136, 255, &neighbour(&tlla));
        assert_eq!(
            read(&f),
            Ok(Nd {
                kind: Kind::Advertisement,
                target: TARGET,
                mac: [2, 0, 0, 0, 0, 2]
            })
        );
        let f = message(136, 255, &neighbour(&slla));
        assert_eq!(
            read(&f),
            Ok(Nd {
                kind: Kind::Advertisement,
                target: TARGET,
                mac: [0; 6]
            }),
            "wrong option"
        );
        let mut padded = message(135, 255, &neighbour(&[]));
        padded.extend_from_slice(&slla); // behind the packet's end
        assert_eq!(
            read(&padded),
            Ok(Nd {
                kind: Kind::Solicitation,
                target: TARGET,
                mac: [0; 6]
            })
        );
    }

    #[test]
    fn rfc_4861_section_7_1_is_enforced() {
        assert_eq!(
            read(&message(135, 254, &neighbour(&[]))),
            Err(DropReason::SpoofedNd)
        );
        let mut f = message(135, 255, &neighbour(&[]));
        f[55] = 1;
        assert_eq!(read(&f), Err(DropReason::SpoofedNd));
        let mut f = message(136, 255, &neighbour(&[]));
        f[62] = 0xff;
        assert_eq!(read(&f), Err(DropReason::SpoofedNd));
        let f = message(135, 255, &neighbour(&[])[..12]);
        assert_eq!(read(&f), Err(DropReason::Truncated));
        let mut padded = f.clone();
        padded.extend_from_slice(&[0; 20]);
        assert_eq!(read(&padded), Err(DropReason::SpoofedNd));
    }

    #[test]
    fn routers_words_and_other_messages_are_told_apart() {
        assert_eq!(
            read(&message(134, 255, &[0; 12])),
            Ok(Nd::without_target(Kind::Router))
        );
        assert_eq!(
            read(&message(137, 255, &[0; 36])),
            Ok(Nd::without_target(Kind::Router))
        );
        assert_eq!(
            read(&message(133, 255, &[0; 4])),
            Ok(Nd::without_target(Kind::Other))
        );
        assert_eq!(
            read(&message(128, 64, &[0; 4])),
            Ok(Nd::without_target(Kind::Other))
        );
        let mut udp = message(135, 255, &neighbour(&[]));
        udp[20] = 17;
        assert_eq!(read(&udp), Ok(Nd::without_target(Kind::Other)));
    }

    fn check(f: &[u8; ADVERT_LEN]) {
        let mut pseudo = Vec::new();
        pseudo.extend_from_slice(&f[22..54]);
        pseudo.extend([0, 0, 0, 32, 0, 0, 0, 58]);
        pseudo.extend_from_slice(&f[54..]);
        let got = [pseudo[42], pseudo[43]];
        pseudo[42] = 0;
        pseudo[43] = 0;
        assert!(checksum::same(got, checksum::of(&pseudo)));
    }

    #[test]
    fn an_advertisement_answers_the_asker() {
        let mac = [2, 0, 0, 0, 0, 2];
        let f = advertisement([2, 0, 0, 0, 0, 1], ASKER, TARGET, mac, true);
        check(&f);
        assert_eq!(&f[..14], &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd]);
        let ip = V6::parse(&f[..], 14).unwrap();
        assert_eq!(
            (ip.src, ip.dst, ip.ttl, ip.end),
            (TARGET, ASKER, 255, ADVERT_LEN as u32)
        );
        assert_eq!(f[58], 0xe0, "router, solicited, override");
        assert_eq!(
            parse(&f[..], &ip),
            Ok(Nd {
                kind: Kind::Advertisement,
                target: TARGET,
                mac
            })
        );
        assert_eq!(advertisement([2; 6], ASKER, TARGET, mac, false)[58], 0x60);
    }

    #[test]
    fn duplicate_address_detection_is_answered_to_all_nodes() {
        let f = advertisement(
            [2, 0, 0, 0, 0, 1],
            V6::ZERO,
            TARGET,
            [2, 0, 0, 0, 0, 2],
            false,
        );
        check(&f);
        assert_eq!(&f[..6], &[0x33, 0x33, 0, 0, 0, 1]);
        assert_eq!((f[38], f[39], f[53], f[58]), (0xff, 2, 1, 0x20));
    }

    proptest! {
        #[test]
        fn advertisements_have_right_checksums(a in any::<Mac>(), s in any::<V6>(), t in any::<V6>(), m in any::<Mac>(), r in any::<bool>()) {
            check(&advertisement(a, s, t, m, r));
        }

        #[test]
        fn reading_never_panics(f in proptest::collection::vec(any::<u8>(), 0..120)) {
            if let Ok(ip) = V6::parse(&f[..], 14) {
                let _ = parse(&f[..], &ip);
            }
        }
    }
}
