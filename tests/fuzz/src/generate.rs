//! Valid frames: what the hosts of a node say to each other, with a taste for corners.

use fastrand::Rng;

use crate::build::{Ends, Ip, arp, eth, icmp, proto, tcp, udp};
use crate::case::{At, Case};
use crate::cast::{Cast, Who};

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;

/// TCP flags worth sending.
const FLAGS: [u8; 8] = [0x02, 0x12, 0x10, 0x18, 0x11, 0x04, 0x14, 0x00];

/// A valid frame for a place.
pub fn valid(rng: &mut Rng, cast: &Cast) -> Case {
    // Endpoints' frames take most of the decisions.
    let at = match rng.u8(..16) {
        0..=6 => At::EpOut(0),
        7 => At::EpOut(1),
        8 => At::EpOut(2),
        9 => At::GwOut(rng.u8(..2)),
        10..=12 => At::UpIn,
        13 => At::UpOut,
        _ => At::Xdp,
    };
    let (src, dst, dst_mac) = ends(rng, cast, at);
    let v6 = rng.bool();
    let mut gso = 0;
    let frame = if rng.u8(..12) == 0 && !matches!(at, At::UpIn | At::Xdp) {
        neighbour(rng, cast, &src, v6)
    } else {
        let (packet, segment) = packet(rng, cast, v6, at, &src, &dst);
        gso = segment;
        let kind = if v6 { IPV6 } else { IPV4 };
        [eth(dst_mac, src.mac, kind), packet].concat()
    };
    Case { at, gso, frame }
}

/// Who speaks to whom, and by which MAC.
fn ends(rng: &mut Rng, cast: &Cast, at: At) -> (Who, Who, [u8; 6]) {
    let of = |rng: &mut Rng, list: &[Who]| *rng.choice(list).expect("not empty");
    match at {
        At::EpOut(n) => {
            let network = usize::from(n == 2);
            let src = cast.endpoints[usize::from(n)];
            let gateway = cast.gateways[network].mac;
            match rng.u8(..10) {
                0..=1 => {
                    let dst = cast.endpoints[usize::from(n == 0)];
                    (src, dst, dst.mac)
                }
                2 => (src, of(rng, &cast.endpoints), gateway),
                3 => (src, of(rng, &cast.node), gateway),
                4 => (src, of(rng, &cast.gateways), gateway),
                _ => {
                    let n = if rng.u8(..4) == 0 { 5 } else { 2 };
                    (src, of(rng, &cast.outside[..n]), gateway)
                }
            }
        }
        At::GwOut(n) => {
            let dst = if n == 0 {
                of(rng, &cast.endpoints[..2])
            } else {
                cast.endpoints[2]
            };
            (cast.gateways[usize::from(n)], dst, dst.mac)
        }
        At::UpIn | At::Xdp => {
            let dst = if rng.u8(..6) == 0 {
                of(rng, &cast.endpoints)
            } else {
                of(rng, &cast.node)
            };
            // Half of what comes answers the flows that are open (`Cast::flow`).
            if rng.bool() {
                return (cast.outside[0], cast.node[0], cast.node[0].mac);
            }
            let src = of(rng, &cast.outside);
            (src, dst, cast.node[0].mac)
        }
        At::UpOut => {
            let src = match rng.u8(..4) {
                0 => of(rng, &cast.endpoints),
                1 => of(rng, &cast.gateways),
                _ => of(rng, &cast.node),
            };
            let dst = of(rng, &cast.outside[..2]);
            (
                Who {
                    mac: cast.node[0].mac,
                    ..src
                },
                dst,
                dst.mac,
            )
        }
    }
}

/// An IP packet, and its GSO segment size.
fn packet(rng: &mut Rng, cast: &Cast, v6: bool, at: At, src: &Who, dst: &Who) -> (Vec<u8>, u16) {
    let ends = Ends::of(v6, src, dst);
    let many = rng.u8(..24) == 0;
    let len = match rng.u8(..8) {
        0 => 0,
        1 => rng.usize(..1400),
        _ if many => rng.usize(1500..3800),
        _ => rng.usize(..64),
    };
    let payload: Vec<u8> = (0..len).map(|n| n as u8).collect();
    let (mut sport, mut dport) = (cast.port(rng), cast.port(rng));
    let answers = matches!(at, At::UpIn | At::Xdp) && src == &cast.outside[0];
    if answers && rng.u8(..4) != 0 {
        (sport, dport) = cast.flow;
    }
    let id = if answers { dport } else { sport };
    let (protocol, body) = match rng.u8(..16) {
        0..=4 => {
            let flags = *rng.choice(&FLAGS).expect("not empty");
            (proto::TCP, tcp(&ends, sport, dport, flags, &payload))
        }
        5..=8 => (proto::UDP, udp(&ends, sport, dport, &payload, true)),
        9 => (proto::UDP, udp(&ends, sport, dport, &payload, v6)),
        10..=12 => echo(rng, v6, &ends, id, &payload),
        13 => error(rng, cast, v6, at, &ends, src),
        14 => (proto::SCTP, [&[0; 12][..], &payload].concat()),
        _ => {
            let other = [proto::IGMP, proto::GRE, 50, 89, 253];
            (*rng.choice(&other).expect("not empty"), payload.clone())
        }
    };
    let segment = if len > 1500 && protocol == proto::TCP {
        1400
    } else {
        0
    };
    let ip = Ip {
        ends,
        proto: protocol,
        ttl: if rng.u8(..12) == 0 { rng.u8(..3) } else { 64 },
        options: options(rng),
        extensions: extensions(rng),
        fragment: if rng.u8(..16) == 0 {
            (rng.u16(..4) * 64, rng.bool())
        } else {
            (0, false)
        },
    };
    (ip.bytes(&body), segment)
}

fn echo(rng: &mut Rng, v6: bool, ends: &Ends, id: u16, payload: &[u8]) -> (u8, Vec<u8>) {
    let request = rng.bool();
    let (number, kind) = match (v6, request) {
        (false, true) => (proto::ICMP, 8),
        (false, false) => (proto::ICMP, 0),
        (true, true) => (proto::ICMPV6, 128),
        (true, false) => (proto::ICMPV6, 129),
    };
    let rest = [&id.to_be_bytes()[..], &[0, 7], payload].concat();
    (number, icmp(ends, kind, 0, &rest))
}

/// An ICMP error about a packet the source of the error got, or pretends to have got.
fn error(rng: &mut Rng, cast: &Cast, v6: bool, at: At, ends: &Ends, src: &Who) -> (u8, Vec<u8>) {
    let mut about = Ends::of(v6, &cast.any(rng), src);
    let (mut sport, mut dport) = (cast.port(rng), cast.port(rng));
    // Mostly about a flow that is open, as whoever is there sees it.
    if rng.u8(..4) != 0 {
        let (from, to) = match at {
            At::EpOut(_) | At::GwOut(_) => {
                (sport, dport) = cast.flow;
                (cast.outside[0], cast.endpoints[0])
            }
            At::UpIn | At::UpOut | At::Xdp => {
                (dport, sport) = cast.flow;
                (cast.node[0], cast.outside[0])
            }
        };
        about = Ends::of(v6, &from, &to);
    }
    let (number, body) = if rng.bool() {
        (proto::UDP, udp(&about, sport, dport, b"what", true))
    } else {
        (proto::TCP, tcp(&about, sport, dport, 2, b""))
    };
    let inner = Ip {
        ends: about,
        proto: number,
        ttl: 1,
        options: if rng.u8(..8) == 0 {
            vec![1, 1, 1, 0]
        } else {
            Vec::new()
        },
        extensions: Vec::new(),
        fragment: (0, false),
    };
    let mut inner = inner.bytes(&body);
    if rng.u8(..4) == 0 {
        inner.truncate(rng.usize(8..inner.len()));
    }
    let kinds: &[(u8, u8)] = if v6 {
        &[(1, 4), (2, 0), (3, 0), (4, 1)]
    } else {
        &[(3, 3), (3, 4), (11, 0), (12, 0), (5, 1)]
    };
    let (kind, code) = *rng.choice(kinds).expect("not empty");
    let rest = [&[0, 0, 5, 0][..], &inner].concat();
    let number = if v6 { proto::ICMPV6 } else { proto::ICMP };
    (number, icmp(ends, kind, code, &rest))
}

/// IPv4 options; mostly none.
pub fn options(rng: &mut Rng) -> Vec<u8> {
    let some: [&[u8]; 7] = [
        &[1, 1, 1, 0],
        &[148, 4, 0, 0],
        &[7, 7, 4, 0, 0, 0, 0, 0],
        &[131, 7, 4, 192, 0, 2, 9, 0],
        &[1, 137, 7, 4, 192, 0, 2, 9],
        &[68, 8, 5, 0, 0, 0, 0, 0],
        &[1; 40],
    ];
    if rng.u8(..16) == 0 {
        rng.choice(some).expect("not empty").to_vec()
    } else {
        Vec::new()
    }
}

/// IPv6 extension headers; mostly none.
pub fn extensions(rng: &mut Rng) -> Vec<(u8, Vec<u8>)> {
    let some: [(u8, &[u8]); 8] = [
        (0, &[0, 1, 4, 0, 0, 0, 0]),
        (60, &[0, 1, 4, 0, 0, 0, 0]),
        (60, &[1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (
            43,
            &[
                2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
            ],
        ),
        (43, &[0, 0, 0, 0, 0, 0, 0]),
        (44, &[0, 0, 0, 0, 0, 0, 9]),
        (44, &[0, 0, 1, 0, 0, 0, 9]),
        (44, &[0, 0, 0x41, 0, 0, 0, 9]),
    ];
    if rng.u8(..8) != 0 {
        return Vec::new();
    }
    let own = |(number, bytes): &(u8, &[u8])| (*number, bytes.to_vec());
    let one = |rng: &mut Rng| rng.choice(&some).map(own).expect("not empty");
    (0..rng.usize(1..6)).map(|_| one(rng)).collect()
}

/// ARP, or neighbour discovery.
fn neighbour(rng: &mut Rng, cast: &Cast, src: &Who, v6: bool) -> Vec<u8> {
    let target = cast.any(rng);
    let group = [0xff; 6];
    if !v6 {
        let (op, to) = if rng.bool() {
            (1, group)
        } else {
            (2, target.mac)
        };
        return [eth(to, src.mac, ARP), arp(op, src, [0; 6], target.v4)].concat();
    }
    let t = target.v6;
    let to_group = {
        let mut g = [0; 16];
        g[..2].copy_from_slice(&[0xff, 2]);
        g[11..13].copy_from_slice(&[1, 0xff]);
        g[13..].copy_from_slice(&t[13..]);
        g
    };
    let (kind, option, about, dst, mac) = match rng.u8(..8) {
        0..=4 => (
            135,
            1,
            t,
            to_group,
            [0x33, 0x33, to_group[12], t[13], t[14], t[15]],
        ),
        5 => (136, 2, src.v6, t, target.mac),
        6 => (134, 1, t, to_group, [0x33, 0x33, 0, 0, 0, 1]),
        _ => (137, 2, t, t, target.mac),
    };
    let ends = Ends::V6(src.v6, dst);
    let body = [&[0, 0, 0, 0][..], &about, &[option, 1], &src.mac].concat();
    let ip = Ip {
        ends,
        proto: proto::ICMPV6,
        ttl: 255,
        options: Vec::new(),
        extensions: Vec::new(),
        fragment: (0, false),
    };
    [
        eth(mac, src.mac, IPV6),
        ip.bytes(&icmp(&ends, kind, 0, &body)),
    ]
    .concat()
}
