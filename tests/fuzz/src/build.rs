//! Headers as bytes, with right lengths and checksums.

use crate::cast::Who;

/// IP protocol numbers.
pub mod proto {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// IGMP.
    pub const IGMP: u8 = 2;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// GRE.
    pub const GRE: u8 = 47;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// SCTP.
    pub const SCTP: u8 = 132;
}

/// The one's complement sum of big-endian words, not folded to its complement (RFC 1071).
pub fn sum(bytes: &[u8], start: u32) -> u16 {
    let mut sum = u64::from(start);
    let (words, rest) = bytes.as_chunks::<2>();
    for word in words {
        sum += u64::from(u16::from_be_bytes(*word));
    }
    if let [last] = rest {
        sum += u64::from(*last) << 8;
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The sum of a pseudo-header: addresses, protocol, length of what follows.
pub fn pseudo(src: &[u8], dst: &[u8], proto: u8, len: usize) -> u32 {
    u32::from(sum(src, 0)) + u32::from(sum(dst, 0)) + u32::from(proto) + len as u32
}

/// An Ethernet header.
pub fn eth(dst: [u8; 6], src: [u8; 6], ethertype: u16) -> Vec<u8> {
    [&dst[..], &src, &ethertype.to_be_bytes()].concat()
}

/// Addresses of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ends {
    /// IPv4.
    V4([u8; 4], [u8; 4]),
    /// IPv6.
    V6([u8; 16], [u8; 16]),
}

impl Ends {
    /// From one to another.
    pub const fn of(v6: bool, src: &Who, dst: &Who) -> Self {
        if v6 {
            Self::V6(src.v6, dst.v6)
        } else {
            Self::V4(src.v4, dst.v4)
        }
    }

    /// The start of a checksum with a pseudo-header.
    pub fn pseudo(&self, proto: u8, len: usize) -> u32 {
        match self {
            Self::V4(s, d) => pseudo(s, d, proto, len),
            Self::V6(s, d) => pseudo(s, d, proto, len),
        }
    }
}

/// What an IP header says beyond its addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ip {
    /// Addresses.
    pub ends: Ends,
    /// Protocol.
    pub proto: u8,
    /// Time to live.
    pub ttl: u8,
    /// IPv4 options in whole words.
    pub options: Vec<u8>,
    /// IPv6 extension headers: number, and bytes behind the next-header field.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// IPv4 fragment: offset in units of eight bytes, more follow.
    pub fragment: (u16, bool),
}

impl Ip {
    /// The packet.
    pub fn bytes(&self, body: &[u8]) -> Vec<u8> {
        match self.ends {
            Ends::V4(src, dst) => self.v4(src, dst, body),
            Ends::V6(src, dst) => self.v6(src, dst, body),
        }
    }

    fn v4(&self, src: [u8; 4], dst: [u8; 4], body: &[u8]) -> Vec<u8> {
        let words = 5 + self.options.len() / 4;
        let total = (words * 4 + body.len()) as u16;
        let (offset, more) = self.fragment;
        let flags = match (offset, more) {
            (0, false) => 0x4000,
            (offset, more) => offset & 0x1fff | u16::from(more) << 13,
        };
        let mut h = vec![0x40 | (words as u8 & 15), 0];
        h.extend(total.to_be_bytes());
        h.extend([0x12, 0x34]);
        h.extend(flags.to_be_bytes());
        h.extend([self.ttl, self.proto, 0, 0]);
        h.extend(src);
        h.extend(dst);
        h.extend(&self.options);
        let check = !sum(&h, 0);
        h[10..12].copy_from_slice(&check.to_be_bytes());
        h.extend(body);
        h
    }

    fn v6(&self, src: [u8; 16], dst: [u8; 16], body: &[u8]) -> Vec<u8> {
        let mut rest = Vec::new();
        let mut next = self.extensions.iter().skip(1).map(|(n, _)| *n);
        for (_, bytes) in &self.extensions {
            rest.push(next.next().unwrap_or(self.proto));
            rest.extend(bytes);
        }
        rest.extend(body);
        let first = self.extensions.first().map_or(self.proto, |(n, _)| *n);
        let mut h = vec![0x60, 0, 0, 0];
        h.extend((rest.len() as u16).to_be_bytes());
        h.extend([first, self.ttl]);
        h.extend(src);
        h.extend(dst);
        h.extend(rest);
        h
    }
}

/// Puts a checksum over `bytes` into them at `at`; `start` is the pseudo-header's part.
fn seal(mut bytes: Vec<u8>, at: usize, start: u32) -> Vec<u8> {
    let check = !sum(&bytes, start);
    bytes[at..at + 2].copy_from_slice(&check.to_be_bytes());
    bytes
}

/// A TCP segment.
pub fn tcp(ends: &Ends, sport: u16, dport: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut b = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
    b.extend([
        0, 0, 3, 0xe8, 0, 0, 0, 0, 0x50, flags, 0xfd, 0xe8, 0, 0, 0, 0,
    ]);
    b.extend(payload);
    let start = ends.pseudo(proto::TCP, b.len());
    seal(b, 16, start)
}

/// A UDP datagram; without a checksum where `summed` is not set.
pub fn udp(ends: &Ends, sport: u16, dport: u16, payload: &[u8], summed: bool) -> Vec<u8> {
    let mut b = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
    b.extend((8 + payload.len() as u16).to_be_bytes());
    b.extend([0, 0]);
    b.extend(payload);
    if !summed {
        return b;
    }
    let start = ends.pseudo(proto::UDP, b.len());
    let mut b = seal(b, 6, start);
    if b[6..8] == [0, 0] {
        b[6..8].copy_from_slice(&[0xff, 0xff]);
    }
    b
}

/// An ICMP or ICMPv6 message; `rest` is what follows the checksum.
pub fn icmp(ends: &Ends, kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let mut b = vec![kind, code, 0, 0];
    b.extend(rest);
    let start = match ends {
        Ends::V4(..) => 0,
        Ends::V6(..) => ends.pseudo(proto::ICMPV6, b.len()),
    };
    seal(b, 2, start)
}

/// An ARP packet for IPv4.
pub fn arp(op: u16, sender: &Who, target_mac: [u8; 6], target: [u8; 4]) -> Vec<u8> {
    let mut b = vec![0, 1, 8, 0, 6, 4];
    b.extend(op.to_be_bytes());
    b.extend(sender.mac);
    b.extend(sender.v4);
    b.extend(target_mac);
    b.extend(target);
    b
}
