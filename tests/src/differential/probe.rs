//! One crafted packet, sent alone: who sends what to whom, with which corner in it.

use std::fmt;

use fastrand::Rng;
use netd_fuzz::build::{Ends, Ip, eth, icmp, proto, tcp, udp};

use super::side::{CLOSED, OPEN, PUBLISHED, Side, Who, who};

/// Where a packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dest {
    /// An endpoint, by its own address.
    Endpoint(Who),
    /// The host outside.
    Outside,
    /// The same host, behind a path with an MTU of 1280.
    Far,
    /// Nobody: there is no route.
    Unrouted,
    /// The node, by its uplink's address.
    Node,
    /// The sender's gateway.
    Gateway,
}

/// What a packet is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A segment that begins a connection.
    Syn,
    /// One of a connection that nobody knows.
    Ack,
    /// A reset of one.
    Rst,
    /// A datagram.
    Udp,
    /// A datagram with nothing in it.
    UdpEmpty,
    /// One without a checksum.
    UdpUnsummed,
    /// One with a wrong checksum.
    UdpWrong,
    /// A datagram of 1400 bytes that must not be fragmented.
    UdpLarge,
    /// An echo request.
    Echo,
    /// An echo reply that nobody asked for.
    EchoReply,
    /// SCTP's first chunk.
    Sctp,
    /// GRE.
    Gre,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Syn,
        Self::Ack,
        Self::Rst,
        Self::Udp,
        Self::UdpEmpty,
        Self::UdpUnsummed,
        Self::UdpWrong,
        Self::UdpLarge,
        Self::Echo,
        Self::EchoReply,
        Self::Sctp,
        Self::Gre,
    ];
}

/// A packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Probe {
    /// Who sends it.
    pub from: Who,
    /// Where it goes.
    pub to: Dest,
    /// IPv6.
    pub v6: bool,
    /// What it is.
    pub kind: Kind,
    /// Source port or identifier.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Time to live.
    pub ttl: u8,
    /// It has harmless IP options, or an extension header.
    pub options: bool,
    /// It is the first of two fragments, the other one follows.
    pub fragments: bool,
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.v6 { "IPv6" } else { "IPv4" };
        write!(
            f,
            "{family} {:?} {}:{} > {:?}:{}",
            self.kind,
            self.from.name(),
            self.sport,
            self.to,
            self.dport
        )?;
        if self.ttl != 64 {
            write!(f, ", ttl {}", self.ttl)?;
        }
        if self.options {
            f.write_str(", with options")?;
        }
        if self.fragments {
            f.write_str(", in fragments")?;
        }
        Ok(())
    }
}

impl Probe {
    /// Makes one. `fresh` is a source port that no probe has had.
    pub fn make(rng: &mut Rng, fresh: u16) -> Self {
        let from = *rng.choice(&Who::ALL).expect("some");
        let inside = [
            Dest::Endpoint(Who::A),
            Dest::Endpoint(Who::B),
            Dest::Endpoint(Who::C),
            Dest::Node,
            Dest::Node,
            Dest::Gateway,
            Dest::Outside,
            Dest::Outside,
            Dest::Outside,
            Dest::Far,
            Dest::Unrouted,
        ];
        let to = loop {
            let to = *rng.choice(&inside).expect("some");
            let outer = matches!(
                to,
                Dest::Outside | Dest::Far | Dest::Unrouted | Dest::Gateway
            );
            if to != Dest::Endpoint(from) && !(from == Who::Outside && outer) {
                break to;
            }
        };
        let corner = rng.u8(..12);
        let kind = *rng.choice(&Kind::ALL).expect("some");
        Self {
            from,
            to,
            v6: rng.bool(),
            kind,
            sport: fresh,
            dport: match to {
                Dest::Node | Dest::Gateway => *rng.choice(&[PUBLISHED, CLOSED]).expect("some"),
                _ => *rng.choice(&[OPEN, OPEN, CLOSED]).expect("some"),
            },
            ttl: if corner == 0 {
                1
            } else if corner == 1 {
                2
            } else {
                64
            },
            options: corner == 2,
            // A fragment has at least a byte in it.
            fragments: corner == 3 && kind != Kind::UdpEmpty,
        }
    }

    /// The name of the destination's address.
    pub const fn dest(&self) -> &'static str {
        match self.to {
            Dest::Endpoint(who) => who.name(),
            Dest::Outside => "outside",
            Dest::Far => "far",
            Dest::Unrouted => "unrouted",
            Dest::Node => "node",
            Dest::Gateway => match self.from {
                Who::C => "gateway2",
                _ => "gateway1",
            },
        }
    }

    /// Whether it stays on the sender's segment.
    pub const fn on_segment(&self) -> bool {
        matches!(
            (self.from, self.to),
            (Who::A, Dest::Endpoint(Who::B)) | (Who::B, Dest::Endpoint(Who::A))
        )
    }

    /// Whether it goes from an endpoint through masquerade.
    pub const fn outward(&self) -> bool {
        matches!(self.to, Dest::Outside | Dest::Far | Dest::Unrouted)
    }

    /// Whether it is for a published port.
    pub const fn published(&self) -> bool {
        let ports = matches!(
            self.kind,
            Kind::Syn
                | Kind::Ack
                | Kind::Rst
                | Kind::Udp
                | Kind::UdpEmpty
                | Kind::UdpUnsummed
                | Kind::UdpWrong
                | Kind::UdpLarge
        );
        ports && matches!(self.to, Dest::Node | Dest::Gateway) && self.dport == PUBLISHED
    }

    /// Its frames, for a side.
    pub fn frames(&self, side: &Side) -> Vec<Vec<u8>> {
        let from = self.from as usize;
        let dst_mac = match self.to {
            Dest::Endpoint(to) if self.on_segment() => side.macs[to as usize],
            _ => side.routers[from],
        };
        let ends = Ends::of(self.v6, &who(self.from.name()), &who(self.dest()));
        let (number, body) = self.body(&ends);
        let header = eth(
            dst_mac,
            side.macs[from],
            if self.v6 { 0x86dd } else { 0x0800 },
        );
        let packet = |fragment, extensions, body: &[u8]| {
            let ip = Ip {
                ends,
                proto: number,
                ttl: self.ttl,
                // Router alert, padding.
                options: if self.options {
                    vec![1, 1, 1, 0]
                } else {
                    Vec::new()
                },
                extensions,
                fragment,
            };
            [header.clone(), ip.bytes(body)].concat()
        };
        if !self.fragments {
            let extensions = if self.options {
                vec![(60, vec![0, 1, 4, 0, 0, 0, 0])]
            } else {
                Vec::new()
            };
            return vec![packet((0, false), extensions, &body)];
        }
        // The first one ends on a multiple of eight, behind the header.
        let cut = if body.len() > 32 { 32 } else { 8 };
        let piece = |offset: usize, more: bool, body: &[u8]| {
            let extension = (
                44,
                [
                    &[0][..],
                    &((offset as u16) | u16::from(more)).to_be_bytes(),
                    &u32::from(self.sport).to_be_bytes(),
                ]
                .concat(),
            );
            packet((offset as u16 / 8, more), vec![extension], body)
        };
        vec![
            piece(0, true, &body[..cut]),
            piece(cut, false, &body[cut..]),
        ]
    }

    fn body(&self, ends: &Ends) -> (u8, Vec<u8>) {
        let long: Vec<u8> = (0..1400_u16).map(|n| n as u8).collect();
        let short = b"a payload of this length and more";
        let (s, d) = (self.sport, self.dport);
        let rest = [&s.to_be_bytes()[..], &[0, 1], short].concat();
        let number = if self.v6 { proto::ICMPV6 } else { proto::ICMP };
        match self.kind {
            Kind::Syn => (proto::TCP, tcp(ends, s, d, 0x02, b"")),
            Kind::Ack => (proto::TCP, tcp(ends, s, d, 0x10, b"")),
            Kind::Rst => (proto::TCP, tcp(ends, s, d, 0x04, b"")),
            Kind::Udp => (proto::UDP, udp(ends, s, d, short, true)),
            Kind::UdpEmpty => (proto::UDP, udp(ends, s, d, b"", true)),
            Kind::UdpUnsummed => (proto::UDP, udp(ends, s, d, short, false)),
            Kind::UdpWrong => {
                let mut b = udp(ends, s, d, short, true);
                b[6] ^= 0x5a;
                (proto::UDP, b)
            }
            Kind::UdpLarge => (proto::UDP, udp(ends, s, d, &long, true)),
            Kind::Echo => (number, icmp(ends, if self.v6 { 128 } else { 8 }, 0, &rest)),
            Kind::EchoReply => (number, icmp(ends, if self.v6 { 129 } else { 0 }, 0, &rest)),
            Kind::Sctp => (
                proto::SCTP,
                [
                    &s.to_be_bytes()[..],
                    &d.to_be_bytes(),
                    &[0; 8],
                    &[1, 0, 0, 20],
                    &[0; 16],
                ]
                .concat(),
            ),
            Kind::Gre => (proto::GRE, [&[0, 0, 8, 0][..], short].concat()),
        }
    }
}
