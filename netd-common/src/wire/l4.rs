//! What is behind the IP header: ports, echo identifiers, TCP flags.

use super::Window;
use super::ip::{Family, Ip};
use crate::addr::Be16;
use crate::reason::DropReason;
use crate::tuple::{Tuple, proto};

/// Bits of the TCP flags byte (RFC 9293 section 3.1).
pub mod tcp_flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// The acknowledgement field counts.
    pub const ACK: u8 = 0x10;
}

/// What a packet carries, as far as translation cares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum L4 {
    /// TCP, with its flags byte.
    Tcp(u8),
    /// UDP.
    Udp,
    /// An ICMP or ICMPv6 echo request.
    EchoRequest,
    /// An ICMP or ICMPv6 echo reply.
    EchoReply,
    /// Any other ICMP or ICMPv6 message, with its type.
    Icmp(u8),
    /// Any other protocol.
    Other,
    /// A fragment: the ports of later ones are not there, so those of first ones are not used.
    Fragment,
}

impl L4 {
    /// Offset of the checksum field from the start of the L4 header, where there is one netd updates.
    #[inline(always)]
    pub const fn checksum(self) -> Option<usize> {
        match self {
            Self::Tcp(_) => Some(16),
            Self::Udp => Some(6),
            Self::EchoRequest | Self::EchoReply | Self::Icmp(_) => Some(2),
            Self::Other | Self::Fragment => None,
        }
    }
}

/// Where a TCP segment stands in its connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Segment {
    /// Its sequence number.
    pub seq: u32,
    /// Its acknowledgement number; means something with the ACK flag.
    pub ack: u32,
    /// Sequence numbers it takes up: its payload, SYN and FIN.
    pub len: u32,
}

impl Segment {
    /// Of no TCP.
    const NONE: Self = Self {
        seq: 0,
        ack: 0,
        len: 0,
    };

    /// The sequence number behind it.
    #[inline(always)]
    pub const fn end(self) -> u32 {
        self.seq.wrapping_add(self.len)
    }
}

/// An IP packet with its flow key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet<A> {
    /// The IP header.
    pub ip: Ip<A>,
    /// Who talks to whom; ports are zero where the packet has none.
    pub tuple: Tuple<A>,
    /// What it carries.
    pub l4: L4,
    /// TCP: its place in the connection; else zero.
    pub segment: Segment,
}

impl<A: Family> Packet<A> {
    /// Reads the L4 header behind `ip`.
    #[inline(always)]
    pub fn parse<W: Window + ?Sized>(w: &W, ip: Ip<A>) -> Result<Self, DropReason> {
        if ip.fragment {
            return Ok(Self::of(ip, L4::Fragment, Be16([0; 2]), Be16([0; 2])));
        }
        Self::header(w, ip, false)
    }

    /// Reads the L4 header of a first fragment, which must hold all of it (RFC 1858 section 2.1, RFC 7112
    /// section 5). What is behind that header may be cut off.
    #[inline(always)]
    pub fn first<W: Window + ?Sized>(w: &W, ip: Ip<A>) -> Result<Self, DropReason> {
        Self::header(w, ip, true).map_err(|_| DropReason::BadFragment)
    }

    #[inline(always)]
    fn of(ip: Ip<A>, l4: L4, sport: Be16, dport: Be16) -> Self {
        let tuple = Tuple {
            src: ip.src,
            dst: ip.dst,
            sport,
            dport,
            proto: ip.proto,
            pad: [0; 3],
        };
        Self {
            ip,
            tuple,
            l4,
            segment: Segment::NONE,
        }
    }

    #[inline(always)]
    fn header<W: Window + ?Sized>(w: &W, ip: Ip<A>, cut: bool) -> Result<Self, DropReason> {
        let (at, room) = (usize::from(ip.l4), ip.end as usize - usize::from(ip.l4));
        let mut segment = Segment::NONE;
        let (l4, sport, dport) = if ip.proto == proto::TCP {
            let h = w.load::<14>(at).ok_or(DropReason::Truncated)?;
            let header_len = usize::from(h[12] >> 4) * 4;
            if header_len < 20 || header_len > room {
                return Err(DropReason::BadL4);
            }
            let marks = h[13] & (tcp_flag::SYN | tcp_flag::FIN);
            segment = Segment {
                seq: u32::from_be_bytes([h[4], h[5], h[6], h[7]]),
                ack: u32::from_be_bytes([h[8], h[9], h[10], h[11]]),
                // The bits are the two lowest: one each.
                len: room.saturating_sub(header_len) as u32
                    + (marks & 1) as u32
                    + (marks >> 1) as u32,
            };
            (L4::Tcp(h[13]), Be16([h[0], h[1]]), Be16([h[2], h[3]]))
        } else if ip.proto == proto::UDP {
            let h = w.load::<8>(at).ok_or(DropReason::Truncated)?;
            let len = usize::from(u16::from_be_bytes([h[4], h[5]]));
            // 0 is "the rest of the packet" for jumbograms (RFC 2675 section 4) and large GSO packets.
            if (len < 8 && len != 0) || (len > room && !cut) || room < 8 {
                return Err(DropReason::BadL4);
            }
            (L4::Udp, Be16([h[0], h[1]]), Be16([h[2], h[3]]))
        } else if ip.proto == A::ICMP {
            let h = w.load::<8>(at).ok_or(DropReason::Truncated)?;
            if room < 8 {
                return Err(DropReason::BadL4);
            }
            let id = Be16([h[4], h[5]]);
            if h[0] == A::ECHO_REQUEST && h[1] == 0 {
                (L4::EchoRequest, id, Be16([0; 2]))
            } else if h[0] == A::ECHO_REPLY && h[1] == 0 {
                (L4::EchoReply, Be16([0; 2]), id)
            } else {
                (L4::Icmp(h[0]), Be16([0; 2]), Be16([0; 2]))
            }
        } else {
            (L4::Other, Be16([0; 2]), Be16([0; 2]))
        };
        Ok(Self {
            segment,
            ..Self::of(ip, l4, sport, dport)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::addr::V4;

    fn packet(proto: u8, l4: &[u8]) -> Vec<u8> {
        let mut f = vec![0u8; 34];
        f[14] = 0x45;
        f[16..18].copy_from_slice(&(20 + l4.len() as u16).to_be_bytes());
        f[22] = 64;
        f[23] = proto;
        f[26..30].copy_from_slice(&[10, 0, 0, 1]);
        f[30..34].copy_from_slice(&[10, 0, 0, 2]);
        f.extend_from_slice(l4);
        f
    }

    fn parse(f: &[u8]) -> Result<Packet<V4>, DropReason> {
        Packet::parse(f, V4::parse(f, 14).unwrap())
    }

    fn tcp(offset_words: u8, flags: u8, len: usize) -> Vec<u8> {
        let mut h = vec![0u8; len];
        h[..4].copy_from_slice(&[0x12, 0x34, 0x00, 0x50]);
        h[12] = offset_words << 4;
        h[13] = flags;
        h
    }

    #[test]
    fn tcp_ports_and_flags() {
        let p = parse(&packet(6, &tcp(5, tcp_flag::SYN, 20))).unwrap();
        assert_eq!(p.l4, L4::Tcp(tcp_flag::SYN));
        assert_eq!(
            (p.tuple.sport.get(), p.tuple.dport.get(), p.tuple.proto),
            (0x1234, 80, 6)
        );
        assert_eq!((p.tuple.src, p.tuple.dst), ([10, 0, 0, 1], [10, 0, 0, 2]));
        assert_eq!(p.l4.checksum(), Some(16));
    }

    #[test]
    fn a_segments_place_in_its_connection_is_read() {
        for (flags, payload, len) in [
            (tcp_flag::SYN, 0, 1),
            (tcp_flag::ACK, 0, 0),
            (tcp_flag::ACK, 7, 7),
            (tcp_flag::FIN | tcp_flag::ACK, 7, 8),
            (tcp_flag::SYN | tcp_flag::FIN, 0, 2),
            (tcp_flag::RST, 0, 0),
        ] {
            let mut h = tcp(6, flags, 24 + payload);
            h[4..8].copy_from_slice(&0xffff_ffff_u32.to_be_bytes());
            h[8..12].copy_from_slice(&0x0102_0304_u32.to_be_bytes());
            let s = parse(&packet(6, &h)).unwrap().segment;
            assert_eq!((s.seq, s.ack, s.len), (u32::MAX, 0x0102_0304, len));
            assert_eq!(s.end(), len.wrapping_sub(1), "numbers wrap");
        }
        let mut udp = vec![0xff; 8];
        udp[4..6].copy_from_slice(&8_u16.to_be_bytes());
        assert_eq!(
            parse(&packet(17, &udp)).unwrap().segment,
            Segment::default()
        );
    }

    #[test]
    fn tcp_data_offset_is_checked() {
        assert_eq!(parse(&packet(6, &tcp(4, 0, 20))), Err(DropReason::BadL4));
        assert_eq!(parse(&packet(6, &tcp(6, 0, 20))), Err(DropReason::BadL4));
        assert!(parse(&packet(6, &tcp(6, 0, 24))).is_ok());
        assert_eq!(
            parse(&packet(6, &tcp(5, 0, 20)[..13])),
            Err(DropReason::Truncated)
        );
        assert_eq!(
            parse(&packet(6, &tcp(5, 0, 20)[..19])),
            Err(DropReason::BadL4)
        );
    }

    fn udp(len: u16, room: usize) -> Vec<u8> {
        let mut h = vec![0u8; room];
        h[..4].copy_from_slice(&[0x00, 0x35, 0xff, 0xff]);
        h[4..6].copy_from_slice(&len.to_be_bytes());
        h
    }

    #[test]
    fn udp_length_is_checked() {
        let p = parse(&packet(17, &udp(12, 12))).unwrap();
        assert_eq!(
            (p.l4, p.tuple.sport.get(), p.tuple.dport.get()),
            (L4::Udp, 53, 0xffff)
        );
        assert_eq!(p.l4.checksum(), Some(6));
        assert!(parse(&packet(17, &udp(8, 12))).is_ok());
        assert!(parse(&packet(17, &udp(8, 8))).is_ok(), "no payload");
        assert!(parse(&packet(17, &udp(0, 12))).is_ok());
        assert_eq!(parse(&packet(17, &udp(7, 12))), Err(DropReason::BadL4));
        assert_eq!(parse(&packet(17, &udp(1, 12))), Err(DropReason::BadL4));
        assert_eq!(parse(&packet(17, &udp(13, 12))), Err(DropReason::BadL4));
        assert_eq!(
            parse(&packet(17, &udp(12, 12)[..7])),
            Err(DropReason::Truncated)
        );
        // Ethernet padding must not stand in for a missing header
        let mut padded = packet(17, &udp(0, 7));
        padded.extend_from_slice(&[0; 20]);
        assert_eq!(parse(&padded), Err(DropReason::BadL4));
    }

    fn icmp(kind: u8, code: u8) -> [u8; 8] {
        [kind, code, 0, 0, 0xab, 0xcd, 0, 1]
    }

    #[test]
    fn echo_identifiers_stand_in_for_ports() {
        let q = parse(&packet(1, &icmp(8, 0))).unwrap();
        assert_eq!(
            (q.l4, q.tuple.sport.get(), q.tuple.dport.get()),
            (L4::EchoRequest, 0xabcd, 0)
        );
        let r = parse(&packet(1, &icmp(0, 0))).unwrap();
        assert_eq!(
            (r.l4, r.tuple.sport.get(), r.tuple.dport.get()),
            (L4::EchoReply, 0, 0xabcd)
        );
        assert_eq!((q.l4.checksum(), r.l4.checksum()), (Some(2), Some(2)));
        for (kind, code) in [(3, 0), (8, 1), (0, 1), (13, 0)] {
            let p = parse(&packet(1, &icmp(kind, code))).unwrap();
            assert_eq!(
                (p.l4, p.tuple.sport.get(), p.tuple.dport.get()),
                (L4::Icmp(kind), 0, 0)
            );
            assert_eq!(p.l4.checksum(), Some(2));
        }
        let mut short = packet(1, &icmp(8, 0)[..7]);
        assert_eq!(parse(&short), Err(DropReason::Truncated));
        short.extend_from_slice(&[0; 20]);
        assert_eq!(parse(&short), Err(DropReason::BadL4));
    }

    #[test]
    fn other_protocols_and_fragments_have_no_ports() {
        let p = parse(&packet(47, &[1; 8])).unwrap();
        assert_eq!(
            (p.l4, p.tuple.sport.get(), p.tuple.dport.get()),
            (L4::Other, 0, 0)
        );
        let p = parse(&packet(58, &icmp(128, 0))).unwrap();
        assert_eq!(p.l4, L4::Other, "ICMPv6 in IPv4 is not ICMP");
        let mut f = packet(6, &tcp(5, 0, 20));
        f[20] = 0x20;
        let p = parse(&f).unwrap();
        assert_eq!((p.l4, p.tuple.sport.get()), (L4::Fragment, 0));
        assert_eq!(
            (L4::Other.checksum(), L4::Fragment.checksum()),
            (None, None)
        );
    }

    proptest! {
        #[test]
        fn l4_parsing_never_panics(proto in prop_oneof![Just(1u8), Just(6), Just(17), Just(58), any::<u8>()],
                                   body in proptest::collection::vec(any::<u8>(), 0..40)) {
            let f = packet(proto, &body);
            let _ = parse(&f);
        }
    }
}
