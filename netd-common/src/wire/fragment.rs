//! Fragments: which datagram one belongs to, where in it, and what is refused because it could hide ports.

use super::Window;
use crate::reason::DropReason;
use crate::tuple::proto;

/// Bytes a datagram may have when it is put together again (RFC 791 section 3.2, RFC 8200 section 4.5).
const MOST: u32 = 65_535;

/// Where a fragment stands in its datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fragment {
    /// The datagram's identification in network order; IPv4's 16 bits stand in the last two bytes.
    pub id: [u8; 4],
    /// Offset of the identification from the start of the frame.
    pub at: u16,
    /// Offset of its payload in the datagram, in bytes.
    pub offset: u16,
    /// Bytes of its payload.
    pub len: u16,
    /// 1: more fragments follow.
    pub more: u16,
}

impl Fragment {
    /// It holds the L4 header.
    #[inline(always)]
    pub const fn is_first(&self) -> bool {
        self.offset == 0
    }

    /// An IPv6 packet that is whole in spite of its fragment header: it is handled as if it had none
    /// (RFC 6946 section 4).
    #[inline(always)]
    pub const fn is_whole(&self) -> bool {
        self.offset == 0 && self.more == 0
    }

    /// Offset of the end of its payload in the datagram, in bytes.
    #[inline(always)]
    pub const fn end(&self) -> u32 {
        self.offset as u32 + self.len as u32
    }

    /// Refuses what no sender makes: an empty fragment, one whose payload is no multiple of eight bytes
    /// though others follow, one that ends beyond the largest datagram (RFC 791 section 3.2, RFC 8200
    /// section 4.5), and one that begins inside the smallest TCP header, where it could take the place of
    /// ports and flags (RFC 1858 section 3, RFC 3128 section 2).
    #[inline(always)]
    pub const fn check(&self, protocol: u8) -> Result<(), DropReason> {
        let empty = self.len == 0;
        let odd = self.more != 0 && !self.len.is_multiple_of(8);
        let hides = protocol == proto::TCP && self.offset > 0 && self.offset < 20;
        if empty || odd || hides || self.end() > MOST {
            Err(DropReason::BadFragment)
        } else {
            Ok(())
        }
    }
}

/// The fields of an IPv4 header at offset `l3`, whose payload is from `l4` to `end`.
#[inline(always)]
pub(super) fn v4<W: Window + ?Sized>(
    w: &W,
    l3: usize,
    l4: u16,
    end: u32,
) -> Result<Fragment, DropReason> {
    let [a, b, hi, lo] = w.load::<4>(l3 + 4).ok_or(DropReason::Truncated)?;
    let word = u16::from_be_bytes([hi, lo]);
    Ok(Fragment {
        id: [0, 0, a, b],
        at: (l3 + 4) as u16,
        offset: (word & 0x1fff) << 3,
        len: end.wrapping_sub(l4 as u32) as u16,
        more: (word >> 13) & 1,
    })
}

/// The IPv6 fragment header at offset `at` of a packet that ends at `end`.
#[inline(always)]
pub(super) fn v6<W: Window + ?Sized>(w: &W, at: usize, end: u32) -> Result<Fragment, DropReason> {
    let [_, _, hi, lo] = w.load::<4>(at).ok_or(DropReason::Truncated)?;
    let id = w.load::<4>(at + 4).ok_or(DropReason::Truncated)?;
    let word = u16::from_be_bytes([hi, lo]);
    Ok(Fragment {
        id,
        at: (at + 4) as u16,
        offset: word & 0xfff8,
        len: end.wrapping_sub(at as u32 + 8) as u16,
        more: word & 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{V4, V6};
    use crate::wire::{Family, L4, Packet};

    fn fragment(offset: u16, len: u16, more: bool) -> Fragment {
        Fragment {
            id: [0, 0, 1, 2],
            at: 18,
            offset,
            len,
            more: u16::from(more),
        }
    }

    #[test]
    fn ordinary_fragments_are_taken() {
        for (offset, len, more) in [
            (0, 8, true),
            (0, 1480, true),
            (1480, 1480, true),
            (1480, 1, false),
            (65_528, 7, false),
            (24, 8, true),
        ] {
            for protocol in [proto::TCP, proto::UDP, 47] {
                assert_eq!(fragment(offset, len, more).check(protocol), Ok(()));
            }
        }
    }

    #[test]
    fn what_no_sender_makes_is_refused() {
        for (offset, len, more) in [
            (0, 0, true),
            (1480, 0, false),
            (0, 1479, true),
            (8, 12, true),
            (65_528, 8, false),
            (65_528, 1480, true),
        ] {
            let got = fragment(offset, len, more).check(proto::UDP);
            assert_eq!(got, Err(DropReason::BadFragment), "{offset} {len} {more}");
        }
    }

    #[test]
    fn nothing_begins_inside_a_tcp_header() {
        for offset in [8, 16] {
            let f = fragment(offset, 8, false);
            assert_eq!(f.check(proto::TCP), Err(DropReason::BadFragment));
            assert_eq!(f.check(proto::UDP), Ok(()));
        }
        assert_eq!(fragment(24, 8, false).check(proto::TCP), Ok(()));
    }

    #[test]
    fn a_whole_packet_with_a_fragment_header_is_one() {
        assert!(fragment(0, 100, false).is_whole() && fragment(0, 100, false).is_first());
        assert!(!fragment(0, 104, true).is_whole() && fragment(0, 104, true).is_first());
        assert!(!fragment(8, 100, false).is_whole() && !fragment(8, 100, false).is_first());
        assert_eq!(fragment(1480, 21, false).end(), 1501);
    }

    fn v4_frame(word: u16, payload: &[u8]) -> Vec<u8> {
        let mut f = vec![0u8; 34];
        f[14] = 0x45;
        f[16..18].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
        f[18..20].copy_from_slice(&[0xab, 0xcd]);
        f[20..22].copy_from_slice(&word.to_be_bytes());
        f[22] = 64;
        f[23] = 17;
        f[26..30].copy_from_slice(&[10, 0, 0, 1]);
        f[30..34].copy_from_slice(&[10, 0, 0, 2]);
        f.extend_from_slice(payload);
        f
    }

    #[test]
    fn v4_fields_are_read() {
        let f = v4_frame(0x20b9, &[0; 16]);
        let ip = V4::parse(&f[..], 14).unwrap();
        assert_eq!(
            V4::fragment(&f[..], 14, &ip),
            Ok(Fragment {
                id: [0, 0, 0xab, 0xcd],
                at: 18,
                offset: 1480,
                len: 16,
                more: 1
            })
        );
        // Don't-fragment and the reserved bit are no offset.
        let f = v4_frame(0xc000, &[0; 16]);
        let ip = V4::parse(&f[..], 14).unwrap();
        let got = V4::fragment(&f[..], 14, &ip).unwrap();
        assert_eq!((got.offset, got.more), (0, 0));
    }

    fn v6_frame(headers: &[&[u8]], first: u8, payload: &[u8]) -> Vec<u8> {
        let body = [headers.concat(), payload.to_vec()].concat();
        let mut f = vec![0u8; 54];
        f[14] = 0x60;
        f[18..20].copy_from_slice(&(body.len() as u16).to_be_bytes());
        f[20] = first;
        f[21] = 64;
        f[22] = 0xfd;
        f[38] = 0xfd;
        f.extend_from_slice(&body);
        f
    }

    #[test]
    fn v6_fields_are_read_wherever_the_header_stands() {
        let options = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
        let header = [17, 0, 0x05, 0xc9, 1, 2, 3, 4];
        let later = v6_frame(&[&header], 44, &[0; 16]);
        let behind = v6_frame(&[&options(44), &header], 60, &[0; 16]);
        for (f, at) in [(later, 58), (behind, 66)] {
            let ip = V6::parse(&f[..], 14).unwrap();
            assert_eq!(
                V6::fragment(&f[..], 14, &ip),
                Ok(Fragment {
                    id: [1, 2, 3, 4],
                    at,
                    offset: 1480,
                    len: 16,
                    more: 1
                })
            );
        }
        // A first one may have more headers behind its fragment header; they are payload to it.
        let header = [60, 0, 0, 1, 1, 2, 3, 4];
        let f = v6_frame(&[&header, &options(17)], 44, &[0; 16]);
        let ip = V6::parse(&f[..], 14).unwrap();
        let got = V6::fragment(&f[..], 14, &ip).unwrap();
        assert_eq!((got.offset, got.len, got.more), (0, 24, 1));
        assert_eq!(usize::from(ip.l4), 54 + 16);
    }

    #[test]
    fn a_packet_without_fragment_header_has_none() {
        let f = v6_frame(&[], 17, &[0; 16]);
        let ip = V6::parse(&f[..], 14).unwrap();
        assert_eq!(V6::fragment(&f[..], 14, &ip), Err(DropReason::BadFragment));
    }

    fn first(protocol: u8, l4: &[u8]) -> Result<Packet<V4>, DropReason> {
        let mut f = v4_frame(0x2000, l4);
        f[23] = protocol;
        let ip = V4::parse(&f[..], 14).unwrap();
        Packet::first(&f[..], ip)
    }

    #[test]
    fn a_first_fragment_has_the_ports_of_its_datagram() {
        // 2,408 bytes of UDP, of which 1,480 are here.
        let mut udp = vec![0u8; 1480];
        udp[..8].copy_from_slice(&[0x4e, 0x20, 0, 53, 0x09, 0x68, 0, 0]);
        let p = first(17, &udp).unwrap();
        assert_eq!(p.l4, L4::Udp);
        assert_eq!((p.tuple.sport.get(), p.tuple.dport.get()), (20_000, 53));
        let mut tcp = vec![0u8; 24];
        tcp[12] = 0x60;
        tcp[13] = 2;
        assert_eq!(first(6, &tcp).unwrap().l4, L4::Tcp(2));
        assert_eq!(
            first(1, &[8, 0, 0, 0, 0, 7, 0, 1]).unwrap().l4,
            L4::EchoRequest
        );
    }

    #[test]
    fn a_first_fragment_without_its_whole_header_is_refused() {
        let mut tcp = [0u8; 24];
        tcp[12] = 0x70;
        for (protocol, l4) in [
            (6, &tcp[..]),
            (6, &tcp[..16]),
            (6, &tcp[..8]),
            (17, &[][..]),
            (1, &[]),
        ] {
            assert_eq!(
                first(protocol, l4),
                Err(DropReason::BadFragment),
                "{protocol}"
            );
        }
        assert_eq!(
            first(17, &[0, 1, 0, 2, 0, 7, 0, 0]),
            Err(DropReason::BadFragment)
        );
    }
}
