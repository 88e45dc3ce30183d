//! Cutting an IPv4 packet to fragments that fit an MTU (RFC 791 sections 2.3 and 3.2, RFC 1812 section 5.2.6).

use crate::checksum::Delta;
use crate::tuple::proto;
use crate::wire::V4_LEN;

/// Bytes of payload that are cut at most: what a packet of jumbo frames has, and more.
pub const LARGEST: u32 = 16_384;

/// Bytes of payload of a fragment at most. Fragments smaller than they might be are right as well.
pub const PIECE: u32 = 4_096;

/// Bytes of an IPv4 header's options at most (RFC 791 section 3.1).
pub const OPTIONS: usize = 40;

/// Bytes of payload of each fragment but the last where the exit takes `mtu` bytes and the header has `header`
/// bytes; `None`: no exit that IPv4 knows (RFC 791 section 3.2: every one takes 68).
#[inline(always)]
pub const fn piece(mtu: u32, header: u32) -> Option<u32> {
    if mtu < 68 || header > 60 {
        return None;
    }
    let most = (mtu - header) & !7;
    Some(if most < PIECE { most } else { PIECE })
}

/// By how many bytes the payload of each segment has to become less, where the exit takes `mtu` bytes, of a packet
/// of many segments of TCP with `headers` bytes of headers each; `None`: there would be no payload, or it fits.
#[inline(always)]
pub const fn less(gso_size: u32, headers: u32, mtu: u32) -> Option<u32> {
    let by = (gso_size + headers).saturating_sub(mtu);
    if by == 0 || by >= gso_size {
        None
    } else {
        Some(by)
    }
}

/// The header, but for its options, of the fragment with the `len` bytes of payload from `at` on, of a packet with
/// the header `whole`, which may be a fragment itself. `last`: there is no payload behind it. `options`: the sum of
/// those that the fragment has.
#[inline(always)]
pub fn header(whole: [u8; V4_LEN], at: u32, len: u32, last: bool, options: Delta) -> [u8; V4_LEN] {
    const MORE: u16 = 0x2000;
    let field = u16::from_be_bytes([whole[6], whole[7]]);
    let offset = (field & 0x1fff) + (at / 8) as u16;
    let more = if last { field & MORE } else { MORE };
    let total = (u32::from(whole[0] & 0xf) * 4 + len) as u16;
    let mut h = whole;
    [h[2], h[3]] = total.to_be_bytes();
    [h[6], h[7]] = (offset & 0x1fff | more).to_be_bytes();
    [h[10], h[11]] = [0; 2];
    [h[10], h[11]] = options.add(h).field();
    h
}

/// One option of a header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opt {
    /// Its bytes.
    pub len: u32,
    /// Fragments behind the first one have it as well.
    pub copied: bool,
}

/// The option that begins with these two bytes, `left` bytes before the options' end; `None`: it ends them. The
/// header is one that [`crate::wire`] has let pass.
#[inline(always)]
pub const fn option(kind: u8, length: u8, left: u32) -> Option<Opt> {
    /// In the kind (RFC 791 section 3.1).
    const COPIED: u8 = 0x80;
    let len = match kind {
        0 => return None,
        1 => 1,
        _ => length as u32,
    };
    // The length counts itself and the kind.
    if (kind > 1 && len < 2) || len > left {
        return None;
    }
    Some(Opt {
        len,
        copied: kind & COPIED != 0,
    })
}

/// Where a protocol's checksum over its whole packet is, from its header on: TCP and UDP.
#[inline(always)]
pub const fn field(protocol: u8) -> Option<usize> {
    match protocol {
        proto::TCP => Some(16),
        proto::UDP => Some(6),
        _ => None,
    }
}

/// The sum over the pseudo-header of `len` bytes of a protocol (RFC 768, RFC 9293 section 3.1).
#[inline(always)]
pub fn pseudo_header(src: [u8; 4], dst: [u8; 4], protocol: u8, len: u32) -> Delta {
    let [_, _, high, low] = len.to_be_bytes();
    Delta::new().add(src).add(dst).add([0, protocol, high, low])
}

/// Whether a checksum field is one that the kernel has left for a device to finish: it holds the sum of the
/// pseudo-header alone. A finished one may look the same, and is the same once finished again.
#[inline(always)]
pub fn is_unfinished(field: [u8; 2], pseudo: Delta) -> bool {
    let [a, b] = pseudo.field();
    field == [!a, !b]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::addr::V4;
    use crate::checksum;
    use crate::wire::{ETH_LEN, Family};

    fn whole(total: u16, field: u16) -> [u8; V4_LEN] {
        let (t, f) = (total.to_be_bytes(), field.to_be_bytes());
        [
            0x45, 8, t[0], t[1], 0x12, 0x34, f[0], f[1], 63, 17, 0, 0, 10, 1, 0, 10, 203, 0, 113, 9,
        ]
    }

    #[test]
    fn no_fragment_is_larger_than_its_exit() {
        assert_eq!(piece(67, 20), None);
        assert_eq!(piece(68, 20), Some(48));
        assert_eq!((piece(68, 60), piece(68, 64)), (Some(8), None));
        assert_eq!(piece(1_400, 20), Some(1_376));
        assert_eq!(piece(1_500, 20), Some(1_480));
        assert_eq!(piece(65_535, 20), Some(PIECE));
        assert_eq!(PIECE % 8, 0);
    }

    #[test]
    fn segments_become_as_much_less_as_they_are_too_big() {
        assert_eq!(less(1_460, 40, 1_300), Some(200));
        assert_eq!(less(1_448, 52, 1_499), Some(1));
        assert_eq!(less(1_448, 52, 1_500), None, "it fits");
        assert_eq!(less(1_460, 40, 41), Some(1_459));
        assert_eq!(less(1_460, 40, 40), None, "no payload");
    }

    /// The options of the fragments behind the first one, as a program makes them.
    fn later(options: &[u8]) -> Vec<u8> {
        let (mut out, mut at) = (Vec::new(), 0);
        while at < options.len() {
            let length = options.get(at + 1).copied().unwrap_or(0);
            let left = (options.len() - at) as u32;
            let Some(opt) = option(options[at], length, left) else {
                break;
            };
            let end = at + opt.len as usize;
            if opt.copied {
                out.extend_from_slice(&options[at..end]);
            }
            at = end;
        }
        out.resize(options.len(), 0);
        out
    }

    #[test]
    fn later_fragments_have_the_options_that_are_to_be_copied() {
        // Record route and a timestamp are for the first one, router alert and security for all.
        assert_eq!(later(&[7, 7, 4, 0, 0, 0, 0, 0]), [0; 8]);
        assert_eq!(later(&[68, 8, 5, 0, 0, 0, 0, 0]), [0; 8]);
        assert_eq!(later(&[148, 4, 0, 0]), [148, 4, 0, 0]);
        assert_eq!(
            later(&[1, 7, 3, 4, 148, 4, 9, 8, 1, 130, 3, 5]),
            [148, 4, 9, 8, 130, 3, 5, 0, 0, 0, 0, 0]
        );
        // Nothing behind the end is an option, nor what reaches beyond it.
        assert_eq!(later(&[0, 148, 4, 0]), [0; 4]);
        assert_eq!(later(&[148, 40, 0, 0]), [0; 4]);
        assert_eq!(later(&[148, 0, 0, 0]), [0; 4]);
        assert_eq!(later(&[148, 1, 148, 2]), [0; 4]);
        assert_eq!(later(&[1, 1, 1, 148]), [0; 4]);
    }

    #[test]
    fn only_what_is_summed_as_a_whole_has_a_field() {
        assert_eq!((field(proto::TCP), field(proto::UDP)), (Some(16), Some(6)));
        assert_eq!((field(proto::ICMP), field(47)), (None, None));
    }

    #[test]
    fn a_field_with_the_pseudo_header_alone_is_unfinished() {
        let (src, dst) = ([10, 1, 0, 10], [203, 0, 113, 9]);
        let pseudo = pseudo_header(src, dst, proto::UDP, 9);
        let mut datagram = [0x4e, 0x84, 0, 80, 0, 9, 0, 0, 7];
        let [a, b] = pseudo.field();
        assert!(is_unfinished([!a, !b], pseudo));
        let sum = datagram.chunks(2).fold(pseudo, |sum, w| {
            sum.add([w[0], w.get(1).copied().unwrap_or(0)])
        });
        let finished = sum.field();
        assert!(!is_unfinished(finished, pseudo));
        // It is the one that the words of RFC 768 give.
        [datagram[6], datagram[7]] = finished;
        let head = [&src[..], &dst, &[0, 17, 0, 9]].concat();
        assert_eq!(checksum::of(&[&head[..], &datagram].concat()), [0; 2]);
    }

    proptest! {
        #[test]
        fn fragments_join_to_what_was_cut(
            mtu in 68u32..9_200,
            len in 1u32..=LARGEST,
            before in 0u16..1_000,
            more: bool,
            words in 0usize..=10,
        ) {
            let given = before | u16::from(more) << 13;
            let head = V4_LEN as u32 + words as u32 * 4;
            let mut whole = whole((head + len) as u16, given);
            whole[0] = 0x45 + words as u8;
            let options = [148u8, 4, 0, 7].repeat(words);
            let sum = options.chunks(2).fold(Delta::new(), |sum, w| sum.add([w[0], w[1]]));
            let size = piece(mtu, head).expect("an MTU there is");
            let mut at = 0;
            while at < len {
                let n = size.min(len - at);
                let h = header(whole, at, n, at + n == len, sum);
                prop_assert_eq!(checksum::of(&[&h[..], &options].concat()), [0; 2]);
                prop_assert!(head + n <= mtu);
                let frame = [&[0; ETH_LEN][..], &h, &options, &vec![0; n as usize]].concat();
                let ip = V4::parse(&frame[..], ETH_LEN);
                let ip = ip.expect("a header");
                prop_assert_eq!((ip.end - u32::from(ip.l4), ip.ttl, ip.tos), (n, 63, 8));
                let field = u16::from_be_bytes([h[6], h[7]]);
                prop_assert_eq!(u32::from(field & 0x1fff) * 8, u32::from(before) * 8 + at);
                prop_assert_eq!(field & 0x2000 != 0, more || at + n < len);
                prop_assert_eq!(field & 0xc000, 0, "it may be cut again");
                prop_assert_eq!([h[4], h[5]], [0x12, 0x34]);
                at += n;
            }
        }

        #[test]
        fn what_is_left_of_options_is_left_of_them_again(
            options in proptest::collection::vec(any::<u8>(), 0..=OPTIONS),
        ) {
            let once = later(&options);
            prop_assert_eq!(once.len(), options.len());
            prop_assert_eq!(&later(&once), &once);
        }
    }
}
