//! Headers as this crate reads them: plainly, with nothing of netd's, to judge what netd made of them.

use crate::build::{proto, pseudo, sum};

/// Bytes of an Ethernet header.
pub const L3: usize = 14;

/// An IP packet.
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are independent of each other, as in the header"
)]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ip {
    /// IPv6.
    pub v6: bool,
    /// Source address: 4 or 16 bytes.
    pub src: Vec<u8>,
    /// Destination address.
    pub dst: Vec<u8>,
    /// Protocol behind any extension headers.
    pub proto: u8,
    /// Time to live.
    pub ttl: u8,
    /// Offset of the payload in the frame.
    pub l4: usize,
    /// Offset of the packet's end in the frame.
    pub end: usize,
    /// A fragment of any offset.
    pub fragment: bool,
    /// A fragment that is not the first.
    pub later: bool,
    /// The sender chose the way.
    pub source_route: bool,
}

/// The `EtherType`, if the frame has one.
pub fn ethertype(frame: &[u8]) -> Option<u16> {
    word(frame, 12)
}

fn word(frame: &[u8], at: usize) -> Option<u16> {
    let two = frame.get(at..at + 2)?;
    Some(u16::from_be_bytes([two[0], two[1]]))
}

/// The IP packet of a frame without tags; `None`: there is none, or it is not whole.
pub fn ip(frame: &[u8]) -> Option<Ip> {
    match ethertype(frame)? {
        0x0800 => v4(frame),
        0x86dd => v6(frame),
        _ => None,
    }
}

fn v4(frame: &[u8]) -> Option<Ip> {
    let h = frame.get(L3..L3 + 20)?;
    let header = usize::from(h[0] & 15) * 4;
    let total = usize::from(word(frame, L3 + 2)?);
    if h[0] >> 4 != 4 || header < 20 || total < header || L3 + total > frame.len() {
        return None;
    }
    let offset = word(frame, L3 + 6)?;
    Some(Ip {
        v6: false,
        src: h[12..16].to_vec(),
        dst: h[16..20].to_vec(),
        proto: h[9],
        ttl: h[8],
        l4: L3 + header,
        end: L3 + total,
        fragment: offset & 0x3fff != 0,
        later: offset & 0x1fff != 0,
        source_route: has_source_route(&frame[L3 + 20..L3 + header]),
    })
}

/// Whether options have a source route where a receiver would look for it.
fn has_source_route(mut options: &[u8]) -> bool {
    loop {
        match options {
            [131 | 137, ..] => return true,
            [1, rest @ ..] => options = rest,
            [] | [0, ..] | [_] | [_, 0 | 1, ..] => return false,
            [_, length, ..] => match options.get(usize::from(*length)..) {
                Some(rest) => options = rest,
                None => return false,
            },
        }
    }
}

fn v6(frame: &[u8]) -> Option<Ip> {
    let h = frame.get(L3..L3 + 40)?;
    let payload = usize::from(word(frame, L3 + 4)?);
    if h[0] >> 4 != 6 || L3 + 40 + payload > frame.len() {
        return None;
    }
    let end = if payload == 0 {
        frame.len()
    } else {
        L3 + 40 + payload
    };
    let mut ip = Ip {
        v6: true,
        src: h[8..24].to_vec(),
        dst: h[24..40].to_vec(),
        proto: h[6],
        ttl: h[7],
        l4: L3 + 40,
        end,
        fragment: false,
        later: false,
        source_route: false,
    };
    while matches!(ip.proto, 0 | 43 | 44 | 60) && !ip.later {
        let e = frame.get(ip.l4..ip.l4 + 8)?;
        let length = match ip.proto {
            44 => 8,
            _ => 8 + usize::from(e[1]) * 8,
        };
        if ip.proto == 44 {
            ip.fragment = true;
            ip.later = u16::from_be_bytes([e[2], e[3]]) & 0xfff8 != 0;
        }
        ip.source_route |= ip.proto == 43 && e[2] == 0 && e[3] != 0;
        ip.proto = e[0];
        ip.l4 += length;
        if ip.l4 > ip.end {
            return None;
        }
    }
    Some(ip)
}

impl Ip {
    /// Source and destination port of TCP or UDP; identifiers of an echo as netd's tuples have them.
    pub fn ports(&self, frame: &[u8]) -> Option<(u16, u16)> {
        let at = self.l4;
        let whole = |n: usize| at + n <= self.end;
        match self.proto {
            _ if self.fragment => None,
            proto::TCP if whole(20) => Some((word(frame, at)?, word(frame, at + 2)?)),
            proto::UDP if whole(8) => Some((word(frame, at)?, word(frame, at + 2)?)),
            proto::ICMP if !self.v6 && whole(8) => match frame.get(at..at + 2)? {
                [8, 0] => Some((word(frame, at + 4)?, 0)),
                [0, 0] => Some((0, word(frame, at + 4)?)),
                _ => None,
            },
            proto::ICMPV6 if self.v6 && whole(8) => match frame.get(at..at + 2)? {
                [128, 0] => Some((word(frame, at + 4)?, 0)),
                [129, 0] => Some((0, word(frame, at + 4)?)),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether it is an ICMP error, which quotes a packet.
    pub fn is_error(&self, frame: &[u8]) -> bool {
        let kind = frame.get(self.l4).copied().unwrap_or(0);
        match (self.v6, self.proto) {
            _ if self.later => false,
            (false, proto::ICMP) => matches!(kind, 3 | 11 | 12),
            (true, proto::ICMPV6) => (1..=4).contains(&kind),
            _ => false,
        }
    }

    /// The packet an ICMP error quotes, with its ports or its echo's identifier; it may be cut off behind
    /// them.
    pub fn quoted(&self, frame: &[u8]) -> Option<(Self, (u16, u16))> {
        let kind: [u8; 2] = if self.v6 { [0x86, 0xdd] } else { [8, 0] };
        let mut inner = [&[0; L3 - 2][..], &kind, frame.get(self.l4 + 8..self.end)?].concat();
        // The length field speaks of the packet as it was; here it is as long as it is.
        let length = if self.v6 {
            inner.len().checked_sub(L3 + 40)?
        } else {
            inner.len() - L3
        };
        let at = if self.v6 { L3 + 4 } else { L3 + 2 };
        inner
            .get_mut(at..at + 2)?
            .copy_from_slice(&(length as u16).to_be_bytes());
        let ip = ip(&inner)?;
        let ports = match ip.proto {
            proto::TCP => (word(&inner, ip.l4)?, word(&inner, ip.l4 + 2)?),
            _ => ip.first_ports(&inner)?,
        };
        Some((ip, ports))
    }

    /// The ports of a first fragment, or of what is whole.
    pub fn first_ports(&self, frame: &[u8]) -> Option<(u16, u16)> {
        let whole = Self {
            fragment: self.later,
            ..self.clone()
        };
        whole.ports(frame)
    }

    /// By how much the IPv4 header's checksum is wrong; 0: right.
    pub fn header_error(&self, frame: &[u8]) -> u16 {
        if self.v6 {
            0
        } else {
            zero(sum(&frame[L3..self.l4], 0))
        }
    }

    /// By how much the TCP, UDP or ICMP checksum is wrong; 0: right. `None`: there is none.
    pub fn l4_error(&self, frame: &[u8]) -> Option<u16> {
        if self.fragment {
            return None;
        }
        let at = self.l4;
        let (need, field) = match self.proto {
            proto::TCP => (20, 16),
            proto::UDP => (8, 6),
            proto::ICMP if !self.v6 => (8, 2),
            proto::ICMPV6 if self.v6 => (8, 2),
            _ => return None,
        };
        if at + need > self.end {
            return None;
        }
        let mut end = self.end;
        if self.proto == proto::UDP {
            if word(frame, at + field)? == 0 {
                return None;
            }
            let length = usize::from(word(frame, at + 4)?);
            if length >= 8 {
                end = end.min(at + length);
            }
        }
        let start = if self.proto == proto::ICMP {
            0
        } else {
            pseudo(&self.src, &self.dst, self.proto, end - at)
        };
        Some(zero(sum(&frame[at..end], start)))
    }
}

/// Both zeros of one's complement are 0.
const fn zero(sum: u16) -> u16 {
    if sum == 0xffff { 0 } else { sum }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build;
    use crate::cast::Cast;
    use crate::generate;
    use fastrand::Rng;

    #[test]
    fn what_is_generated_is_right() {
        let cast = Cast::new();
        let mut packets = 0;
        for seed in 0..20_000 {
            let case = generate::valid(&mut Rng::with_seed(seed), &cast);
            let Some(ip) = ip(&case.frame) else {
                continue;
            };
            packets += 1;
            assert_eq!(ip.header_error(&case.frame), 0, "{case}");
            assert_eq!(ip.l4_error(&case.frame).unwrap_or(0), 0, "{case}");
        }
        assert!(packets > 15_000, "{packets}");
    }

    #[test]
    fn a_wrong_byte_is_seen() {
        let cast = Cast::new();
        let ends = build::Ends::of(false, &cast.endpoints[0], &cast.outside[0]);
        let body = build::udp(&ends, 1, 2, b"abc", true);
        let ip_of = |body: &[u8]| {
            let ip = build::Ip {
                ends,
                proto: 17,
                ttl: 64,
                options: Vec::new(),
                extensions: Vec::new(),
                fragment: (0, false),
            };
            [build::eth([2; 6], [2; 6], 0x800), ip.bytes(body)].concat()
        };
        let mut frame = ip_of(&body);
        assert_eq!(ip(&frame).unwrap().l4_error(&frame), Some(0));
        frame[43] ^= 1;
        assert_ne!(ip(&frame).unwrap().l4_error(&frame), Some(0));
        frame[20] ^= 1;
        assert_ne!(ip(&frame).unwrap().header_error(&frame), 0);
    }

    #[test]
    fn source_routes_are_seen() {
        assert!(has_source_route(&[131, 3, 4, 0]));
        assert!(has_source_route(&[148, 4, 0, 0, 137, 3, 4, 0]));
        assert!(!has_source_route(&[0, 131, 3, 4]));
        assert!(!has_source_route(&[148, 0, 131, 3]));
    }
}
