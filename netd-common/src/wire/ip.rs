//! IPv4 (RFC 791) and IPv6 (RFC 8200) headers, and what forwarding changes in them.

use super::eth::ethertype;
use super::{Fragment, Window, fragment, options};
use crate::addr::{Addr, V4, V6};
use crate::checksum::Delta;
use crate::reason::DropReason;
use crate::tuple::proto;

/// Bytes of an IPv4 header without options.
pub const V4_LEN: usize = network_types::ip::Ipv4Hdr::LEN;
/// Bytes of the fixed IPv6 header.
pub const V6_LEN: usize = network_types::ip::Ipv6Hdr::LEN;

/// IPv6 extension headers netd follows in one packet.
const MAX_EXT_HEADERS: usize = 4;

/// What netd needs of an IP header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ip<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Protocol of the payload, behind any extension headers.
    pub proto: u8,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Type of service, or traffic class.
    pub tos: u8,
    /// Offset of the payload from the start of the frame.
    pub l4: u16,
    /// Offset of the end of the packet from the start of the frame (Ethernet padding lies behind).
    pub end: u32,
    /// A fragment (of any offset); only the first has an L4 header.
    pub fragment: bool,
    /// A fragment that is not the first: what is behind the header is the middle of something.
    pub later: bool,
}

/// An address family: how its packets are read and written.
pub trait Family: Addr {
    /// Its `EtherType`.
    const ETHERTYPE: u16;
    /// Its ICMP's protocol number.
    const ICMP: u8;
    /// Type of an echo request (RFC 792, RFC 4443 section 4.1).
    const ECHO_REQUEST: u8;
    /// Type of an echo reply.
    const ECHO_REPLY: u8;
    /// Bytes of the fixed header.
    const HEADER: usize;

    /// The source address of the header that starts at offset `l3`, whatever else it holds.
    fn source<W: Window + ?Sized>(w: &W, l3: usize) -> Option<Self>;

    /// Refuses options of the header at offset `l3` that nobody may use; IPv6 has none, its extension
    /// headers are judged by [`Self::parse`].
    fn options<W: Window + ?Sized>(w: &W, l3: usize, ip: &Ip<Self>) -> Result<(), DropReason>;

    /// Its destination address, likewise.
    fn destination<W: Window + ?Sized>(w: &W, l3: usize) -> Option<Self>;

    /// Where the fragment with the header at offset `l3` stands in its datagram. `ip` is that header, read.
    fn fragment<W: Window + ?Sized>(
        w: &W,
        l3: usize,
        ip: &Ip<Self>,
    ) -> Result<Fragment, DropReason>;

    /// The header that starts at offset `l3`.
    fn parse<W: Window + ?Sized>(w: &W, l3: usize) -> Result<Ip<Self>, DropReason>;

    /// The header that an ICMP error quotes at offset `l3`. Of its packet only what lies before offset
    /// `end` is there, whatever its length field says.
    fn quoted<W: Window + ?Sized>(w: &W, l3: usize, end: u32) -> Result<Ip<Self>, DropReason>;
}

impl Family for V4 {
    const ETHERTYPE: u16 = ethertype::IPV4;
    const ICMP: u8 = proto::ICMP;
    const ECHO_REQUEST: u8 = 8;
    const ECHO_REPLY: u8 = 0;
    const HEADER: usize = V4_LEN;

    #[inline(always)]
    fn source<W: Window + ?Sized>(w: &W, l3: usize) -> Option<Self> {
        w.load::<4>(l3 + 12)
    }

    #[inline(always)]
    fn destination<W: Window + ?Sized>(w: &W, l3: usize) -> Option<Self> {
        w.load::<4>(l3 + 16)
    }

    #[inline(always)]
    fn options<W: Window + ?Sized>(w: &W, l3: usize, ip: &Ip<Self>) -> Result<(), DropReason> {
        options::check(w, l3, ip)
    }

    #[inline(always)]
    fn fragment<W: Window + ?Sized>(
        w: &W,
        l3: usize,
        ip: &Ip<Self>,
    ) -> Result<Fragment, DropReason> {
        fragment::v4(w, l3, ip.l4, ip.end)
    }

    #[inline(always)]
    fn parse<W: Window + ?Sized>(w: &W, l3: usize) -> Result<Ip<Self>, DropReason> {
        let h = w.load::<V4_LEN>(l3).ok_or(DropReason::Truncated)?;
        let header_len = usize::from(h[0] & 0x0f) * 4;
        if h[0] >> 4 != 4 || header_len < V4_LEN {
            return Err(DropReason::BadHeader);
        }
        let total = usize::from(u16::from_be_bytes([h[2], h[3]]));
        // A GSO packet's length field counts the whole of it, so this holds for those as well.
        if total < header_len || l3 + total > w.len() {
            return Err(DropReason::BadLength);
        }
        Ok(v4_fields(h, l3, header_len, (l3 + total) as u32))
    }

    #[inline(always)]
    fn quoted<W: Window + ?Sized>(w: &W, l3: usize, end: u32) -> Result<Ip<Self>, DropReason> {
        let h = w.load::<V4_LEN>(l3).ok_or(DropReason::Truncated)?;
        let header_len = usize::from(h[0] & 0x0f) * 4;
        if h[0] >> 4 != 4 || header_len < V4_LEN {
            return Err(DropReason::BadHeader);
        }
        if l3 + header_len > end as usize {
            return Err(DropReason::Truncated);
        }
        Ok(v4_fields(h, l3, header_len, end))
    }
}

#[inline(always)]
const fn v4_fields(h: [u8; V4_LEN], l3: usize, header_len: usize, end: u32) -> Ip<V4> {
    let offset = u16::from_be_bytes([h[6], h[7]]);
    Ip {
        src: [h[12], h[13], h[14], h[15]],
        dst: [h[16], h[17], h[18], h[19]],
        proto: h[9],
        ttl: h[8],
        tos: h[1],
        l4: (l3 + header_len) as u16,
        end,
        fragment: offset & 0x3fff != 0, // more fragments, or an offset
        later: offset & 0x1fff != 0,
    }
}

impl Family for V6 {
    const ETHERTYPE: u16 = ethertype::IPV6;
    const ICMP: u8 = proto::ICMPV6;
    const ECHO_REQUEST: u8 = 128;
    const ECHO_REPLY: u8 = 129;
    const HEADER: usize = V6_LEN;

    #[inline(always)]
    fn source<W: Window + ?Sized>(w: &W, l3: usize) -> Option<Self> {
        w.load::<16>(l3 + 8)
    }

    #[inline(always)]
    fn destination<W: Window + ?Sized>(w: &W, l3: usize) -> Option<Self> {
        w.load::<16>(l3 + 24)
    }

    #[inline(always)]
    fn options<W: Window + ?Sized>(_: &W, _: usize, _: &Ip<Self>) -> Result<(), DropReason> {
        Ok(())
    }

    #[inline(always)]
    fn fragment<W: Window + ?Sized>(
        w: &W,
        l3: usize,
        ip: &Ip<Self>,
    ) -> Result<Fragment, DropReason> {
        let [mut next] = w.load::<1>(l3 + 6).ok_or(DropReason::Truncated)?;
        let mut at = l3 + V6_LEN;
        for _ in 0..MAX_EXT_HEADERS {
            if next == ext::FRAGMENT {
                return fragment::v6(w, at, ip.end);
            }
            if !is_extension(next) {
                break;
            }
            let h = w.load::<8>(at).ok_or(DropReason::Truncated)?;
            next = h[0];
            at += 8 + usize::from(h[1]) * 8;
        }
        Err(DropReason::BadFragment)
    }

    #[inline(always)]
    fn parse<W: Window + ?Sized>(w: &W, l3: usize) -> Result<Ip<Self>, DropReason> {
        let h = w.load::<8>(l3).ok_or(DropReason::Truncated)?;
        let src = w.load::<16>(l3 + 8).ok_or(DropReason::Truncated)?;
        let dst = w.load::<16>(l3 + 24).ok_or(DropReason::Truncated)?;
        if h[0] >> 4 != 6 {
            return Err(DropReason::BadHeader);
        }
        let payload = usize::from(u16::from_be_bytes([h[4], h[5]]));
        if l3 + V6_LEN + payload > w.len() {
            return Err(DropReason::BadLength);
        }
        // Length 0 with payload behind it is a jumbogram (RFC 2675) or a large GSO packet.
        let end = if payload == 0 {
            w.len()
        } else {
            l3 + V6_LEN + payload
        };
        let mut ip = v6_fields(h, src, dst, l3, end as u32);
        skip_extensions(w, &mut ip)?;
        Ok(ip)
    }

    #[inline(always)]
    fn quoted<W: Window + ?Sized>(w: &W, l3: usize, end: u32) -> Result<Ip<Self>, DropReason> {
        let h = w.load::<8>(l3).ok_or(DropReason::Truncated)?;
        let src = w.load::<16>(l3 + 8).ok_or(DropReason::Truncated)?;
        let dst = w.load::<16>(l3 + 24).ok_or(DropReason::Truncated)?;
        if h[0] >> 4 != 6 {
            return Err(DropReason::BadHeader);
        }
        if l3 + V6_LEN > end as usize {
            return Err(DropReason::Truncated);
        }
        let mut ip = v6_fields(h, src, dst, l3, end);
        skip_extensions(w, &mut ip)?;
        Ok(ip)
    }
}

#[inline(always)]
const fn v6_fields(h: [u8; 8], src: V6, dst: V6, l3: usize, end: u32) -> Ip<V6> {
    Ip {
        src,
        dst,
        proto: h[6],
        ttl: h[7],
        tos: (u16::from_be_bytes([h[0], h[1]]) >> 4) as u8,
        l4: (l3 + V6_LEN) as u16,
        end,
        fragment: false,
        later: false,
    }
}

/// Extension headers by number (RFC 8200 section 4.1).
mod ext {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const DESTINATION: u8 = 60;
}

const fn is_extension(next: u8) -> bool {
    matches!(
        next,
        ext::HOP_BY_HOP | ext::ROUTING | ext::FRAGMENT | ext::DESTINATION
    )
}

/// Moves `ip.l4` and `ip.proto` behind the extension headers. A later fragment ends the walk: what
/// follows its fragment header is payload. A source route still to be followed is refused (RFC 5095).
#[inline(always)]
fn skip_extensions<W: Window + ?Sized>(w: &W, ip: &mut Ip<V6>) -> Result<(), DropReason> {
    for _ in 0..MAX_EXT_HEADERS {
        if !is_extension(ip.proto) {
            return Ok(());
        }
        let h = w
            .load::<8>(usize::from(ip.l4))
            .ok_or(DropReason::Truncated)?;
        let len = if ip.proto == ext::FRAGMENT {
            ip.fragment = true;
            8
        } else {
            8 + u16::from(h[1]) * 8
        };
        ip.later = ip.proto == ext::FRAGMENT && u16::from_be_bytes([h[2], h[3]]) & 0xfff8 != 0;
        if ip.proto == ext::ROUTING && h[2] == 0 && h[3] != 0 {
            return Err(DropReason::SourceRoute);
        }
        ip.proto = h[0];
        ip.l4 += len;
        if u32::from(ip.l4) > ip.end {
            return Err(DropReason::BadLength);
        }
        if ip.later {
            return Ok(());
        }
    }
    if is_extension(ip.proto) {
        Err(DropReason::ExtHeaders)
    } else {
        Ok(())
    }
}

/// The fixed IPv4 header of a packet that is forwarded: new addresses, one hop less, checksum
/// brought up to date (RFC 1624). The caller has checked that the time to live allows it.
#[inline(always)]
pub fn v4_forward(h: [u8; V4_LEN], src: V4, dst: V4, hops: u8) -> [u8; V4_LEN] {
    let ttl = h[8].wrapping_sub(hops);
    let csum = Delta::new()
        .remove([
            h[8], h[9], h[12], h[13], h[14], h[15], h[16], h[17], h[18], h[19],
        ])
        .add([
            ttl, h[9], src[0], src[1], src[2], src[3], dst[0], dst[1], dst[2], dst[3],
        ])
        .apply([h[10], h[11]]);
    [
        h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7], ttl, h[9], csum[0], csum[1], src[0],
        src[1], src[2], src[3], dst[0], dst[1], dst[2], dst[3],
    ]
}

/// The hop limit of an IPv6 packet that is forwarded.
#[inline(always)]
pub const fn v6_forward(hop_limit: u8, hops: u8) -> u8 {
    hop_limit.wrapping_sub(hops)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::checksum;

    fn v4(ihl: u8, total: u16, frag: u16, len: usize) -> Vec<u8> {
        let mut f = vec![0u8; len];
        f[14] = 0x40 | ihl;
        f[15] = 0x2e;
        f[16..18].copy_from_slice(&total.to_be_bytes());
        f[20..22].copy_from_slice(&frag.to_be_bytes());
        f[22] = 64;
        f[23] = 17;
        f[26..30].copy_from_slice(&[10, 0, 0, 1]);
        f[30..34].copy_from_slice(&[10, 0, 0, 2]);
        f
    }

    #[test]
    fn v4_fields_are_copied_out() {
        let f = v4(6, 40, 0, 80);
        let ip = V4::parse(&f[..], 14).unwrap();
        assert_eq!(V4::source(&f[..], 14), Some([10, 0, 0, 1]));
        assert_eq!(
            ip,
            Ip {
                src: [10, 0, 0, 1],
                dst: [10, 0, 0, 2],
                proto: 17,
                ttl: 64,
                tos: 0x2e,
                l4: 38,
                end: 54,
                fragment: false,
                later: false
            }
        );
    }

    #[test]
    fn v4_malformed_headers_are_refused_by_reason() {
        assert_eq!(
            V4::parse(&v4(4, 40, 0, 80)[..], 14),
            Err(DropReason::BadHeader)
        );
        let mut six = v4(5, 40, 0, 80);
        six[14] = 0x65;
        assert_eq!(V4::parse(&six[..], 14), Err(DropReason::BadHeader));
        assert_eq!(
            V4::parse(&v4(5, 19, 0, 80)[..], 14),
            Err(DropReason::BadLength)
        );
        assert_eq!(
            V4::parse(&v4(5, 67, 0, 80)[..], 14),
            Err(DropReason::BadLength)
        );
        assert!(V4::parse(&v4(5, 66, 0, 80)[..], 14).is_ok());
        assert!(V4::parse(&v4(5, 20, 0, 34)[..], 14).is_ok());
        assert_eq!(
            V4::parse(&v4(5, 20, 0, 34)[..33], 14),
            Err(DropReason::Truncated)
        );
    }

    #[test]
    fn v4_fragments_are_seen() {
        for (field, is) in [
            (0x2000, true),
            (1, true),
            (0x1fff, true),
            (0x4000, false),
            (0x8000, false),
        ] {
            assert_eq!(
                V4::parse(&v4(5, 40, field, 80)[..], 14).unwrap().fragment,
                is,
                "{field:#x}"
            );
        }
    }

    fn v6(next: u8, rest: &[u8]) -> Vec<u8> {
        let mut f = vec![0u8; 54];
        f[14] = 0x61;
        f[15] = 0x20;
        f[18..20].copy_from_slice(&(rest.len() as u16).to_be_bytes());
        f[20] = next;
        f[21] = 63;
        f[22] = 0xfd;
        f[38] = 0xfe;
        f.extend_from_slice(rest);
        f
    }

    #[test]
    fn v6_fields_are_copied_out() {
        let ip = V6::parse(&v6(6, &[0; 20])[..], 14).unwrap();
        assert_eq!(
            (ip.proto, ip.ttl, ip.tos, ip.l4, ip.end, ip.fragment),
            (6, 63, 0x12, 54, 74, false)
        );
        assert_eq!((ip.src[0], ip.dst[0]), (0xfd, 0xfe));
        assert_eq!(V6::source(&v6(6, &[0; 20])[..], 14), Some(ip.src));
    }

    #[test]
    fn v6_extension_headers_are_walked() {
        let mut rest = [0u8; 40];
        rest[0] = 60; // hop-by-hop, 8 bytes, then destination options of 16 bytes
        rest[8] = 17;
        rest[9] = 1;
        let ip = V6::parse(&v6(0, &rest)[..], 14).unwrap();
        assert_eq!((ip.proto, ip.l4), (17, 54 + 24));

        let mut chain = [0u8; 40]; // five destination-option headers: one too many
        for i in 0..4 {
            chain[i * 8] = 60;
        }
        chain[32] = 17;
        assert_eq!(
            V6::parse(&v6(60, &chain)[..], 14),
            Err(DropReason::ExtHeaders)
        );
        let ip = V6::parse(&v6(60, &chain[8..])[..], 14).unwrap();
        assert_eq!((ip.proto, ip.l4), (17, 54 + 32));
    }

    #[test]
    fn v6_fragment_headers_are_seen() {
        let first = [17, 0, 0, 1, 0, 0, 0, 9];
        let ip = V6::parse(&v6(44, &first)[..], 14).unwrap();
        assert!(ip.fragment && ip.proto == 17 && ip.l4 == 62);
        let later = [0, 0, 0, 8, 0, 0, 0, 9]; // its "next header" 0 is not walked into
        let ip = V6::parse(&v6(44, &later)[..], 14).unwrap();
        assert!(ip.fragment && ip.proto == 0 && ip.l4 == 62);
    }

    #[test]
    fn v6_headers_behind_a_first_fragments_header_are_walked() {
        // Offset 0, more to come; then destination options whose padding looks like an offset.
        let both = [60, 0, 0, 1, 0, 0, 0, 9, 17, 0, 1, 4, 0, 0, 0, 0];
        let ip = V6::parse(&v6(44, &both)[..], 14).unwrap();
        assert_eq!((ip.fragment, ip.proto, ip.l4), (true, 17, 70));
        let padded = [60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0];
        let ip = V6::parse(&v6(60, &padded)[..], 14).unwrap();
        assert_eq!((ip.fragment, ip.proto, ip.l4), (false, 17, 70));
    }

    #[test]
    fn v6_malformed_headers_are_refused_by_reason() {
        let mut f = v6(17, &[0; 8]);
        f[14] = 0x40;
        assert_eq!(V6::parse(&f[..], 14), Err(DropReason::BadHeader));
        let f = v6(17, &[0; 8]);
        assert_eq!(V6::parse(&f[..61], 14), Err(DropReason::BadLength));
        assert_eq!(V6::parse(&f[..53], 14), Err(DropReason::Truncated));
        // an extension header that claims more than the packet has
        let mut ext = [0u8; 8];
        ext[0] = 17;
        ext[1] = 1;
        assert_eq!(V6::parse(&v6(60, &ext)[..], 14), Err(DropReason::BadLength));
        assert_eq!(V6::parse(&v6(60, &[])[..], 14), Err(DropReason::Truncated));
        // length field 0: everything that is there
        let mut jumbo = v6(17, &[0; 30]);
        jumbo[18] = 0;
        jumbo[19] = 0;
        assert_eq!(V6::parse(&jumbo[..], 14).unwrap().end, 84);
    }

    proptest! {
        #[test]
        fn parsers_never_panic(f in proptest::collection::vec(any::<u8>(), 0..128), l3 in 0usize..64) {
            if let Ok(ip) = V4::parse(&f[..], l3) {
                prop_assert_eq!(V4::source(&f[..], l3), Some(ip.src));
                prop_assert_eq!(V4::destination(&f[..], l3), Some(ip.dst));
                prop_assert!(u32::from(ip.l4) <= ip.end && ip.end as usize <= f.len());
            }
            if let Ok(ip) = V6::parse(&f[..], l3) {
                prop_assert_eq!(V6::source(&f[..], l3), Some(ip.src));
                prop_assert_eq!(V6::destination(&f[..], l3), Some(ip.dst));
                prop_assert!(u32::from(ip.l4) <= ip.end && ip.end as usize <= f.len());
            }
        }

        #[test]
        fn a_forwarded_v4_header_has_a_right_checksum(
            mut h in any::<[u8; V4_LEN]>(), src in any::<V4>(), dst in any::<V4>(), hops in 0u8..2,
        ) {
            h[10] = 0;
            h[11] = 0;
            let c = checksum::of(&h);
            h[10] = c[0];
            h[11] = c[1];
            let mut out = v4_forward(h, src, dst, hops);
            prop_assert_eq!(out[8], h[8].wrapping_sub(hops));
            prop_assert_eq!(&out[12..16], &src);
            prop_assert_eq!(&out[16..20], &dst);
            let got = [out[10], out[11]];
            out[10] = 0;
            out[11] = 0;
            prop_assert!(checksum::same(got, checksum::of(&out)));
            prop_assert_eq!(&out[..8], &h[..8]);
        }

        #[test]
        fn a_forwarded_v6_hop_limit_counts_down(h in any::<u8>(), hops in 0u8..2) {
            prop_assert_eq!(v6_forward(h, hops), h.wrapping_sub(hops));
        }
    }
}
