//! IPv4 options (RFC 791 section 3.1): netd changes none, and refuses those that no packet should carry.

use core::hint::black_box;

use super::Window;
use super::ip::{Ip, V4_LEN};
use crate::addr::V4;
use crate::reason::DropReason;

/// IPv4 options netd looks through; a packet with more is refused, unless it is a later fragment. There Linux
/// leaves 39 options that do nothing where the first one has a record route, and what a source route does to a
/// fragment alone comes to nothing.
const MAX_OPTIONS: usize = 8;

/// Refuses IPv4 options by which the sender chooses the way (loose and strict source route: RFC 791
/// section 3.1, RFC 7126 section 4.3), or that do not end. `ip` starts at offset `l3`.
#[inline(always)]
pub fn check<W: Window + ?Sized>(w: &W, l3: usize, ip: &Ip<V4>) -> Result<(), DropReason> {
    const END: u8 = 0;
    const NOTHING: u8 = 1;
    const LOOSE: u8 = 131;
    const STRICT: u8 = 137;
    let mut at = l3 + V4_LEN;
    for _ in 0..MAX_OPTIONS {
        if at >= usize::from(ip.l4) {
            return Ok(());
        }
        // Two bytes at once: before an access to one byte the verifier wants a comparison that LLVM
        // turns into another.
        let Some([kind, length]) = w.load::<2>(at) else {
            // A last byte has no room for a length: it is no route.
            let last = at + 1 == ip.end as usize;
            return if last {
                Ok(())
            } else {
                Err(DropReason::Truncated)
            };
        };
        let length = match kind {
            END => return Ok(()),
            LOOSE | STRICT => return Err(DropReason::SourceRoute),
            NOTHING => 1,
            _ => usize::from(length),
        };
        if length == 0 {
            return Err(DropReason::BadHeader);
        }
        // A header ends before offset 128. LLVM can see that too and leaves the bound out, but the
        // verifier of Linux 6.1 has forgotten by then how large a byte is.
        at = black_box((at + length).min(usize::from(ip.l4))) & 0x7f;
    }
    if at >= usize::from(ip.l4) || ip.later {
        Ok(())
    } else {
        Err(DropReason::BadHeader)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::Family;

    const L3: usize = 14;

    fn judge(options: &[u8]) -> Result<(), DropReason> {
        judge_at(options, 0)
    }

    /// The same in a fragment at this offset, in units of eight bytes.
    fn judge_at(options: &[u8], offset: u16) -> Result<(), DropReason> {
        let words = options.len() / 4;
        let mut f = vec![0u8; L3 + V4_LEN];
        f[L3] = 0x45 + words as u8;
        f.extend_from_slice(options);
        let total = (f.len() - L3) as u16;
        f[L3 + 2..L3 + 4].copy_from_slice(&total.to_be_bytes());
        f[L3 + 6..L3 + 8].copy_from_slice(&offset.to_be_bytes());
        let ip = V4::parse(&f[..], L3).unwrap();
        check(&f[..], L3, &ip)
    }

    #[test]
    fn harmless_options_pass() {
        for options in [
            &[][..],
            &[0, 0, 0, 0],
            &[1, 1, 1, 0],
            &[1, 1, 1, 1],
            &[148, 4, 0, 0],
            &[7, 3, 4, 0],
            &[148, 4, 0, 0, 148, 4, 0, 0],
            // Behind the end of options nothing counts.
            &[0, 131, 3, 4],
            // Eight options that fill the header.
            &[1, 1, 1, 1, 1, 1, 1, 9, 5, 0, 0, 0],
        ] {
            assert_eq!(judge(options), Ok(()), "{options:?}");
        }
        assert_eq!(judge(&[1; 8]), Ok(()), "as many as netd looks through");
    }

    #[test]
    fn source_routes_are_found_wherever_they_are() {
        for options in [
            &[131, 3, 4, 0][..],
            &[137, 3, 4, 0],
            &[1, 137, 3, 4],
            &[148, 4, 0, 0, 131, 3, 4, 0],
            &[1, 1, 1, 1, 1, 131, 3, 4],
        ] {
            assert_eq!(judge(options), Err(DropReason::SourceRoute), "{options:?}");
        }
    }

    #[test]
    fn a_later_fragment_may_have_many_that_do_nothing() {
        let mut left = [1; 40];
        left[39] = 0;
        assert_eq!(judge(&left), Err(DropReason::BadHeader));
        assert_eq!(judge_at(&left, 185), Ok(()));
        let route = judge_at(&[1, 137, 3, 4], 185);
        assert_eq!(route, Err(DropReason::SourceRoute));
    }

    #[test]
    fn options_that_do_not_end_are_refused() {
        assert_eq!(judge(&[148, 0, 0, 0]), Err(DropReason::BadHeader));
        assert_eq!(judge(&[1; 12]), Err(DropReason::BadHeader));
        assert_eq!(judge(&[1, 1, 1, 148]), Ok(()), "no room for more");
        let ip = V4::parse(
            &[&[0; L3][..], &[0x46, 0, 0, 24], &[0; 20]].concat()[..],
            L3,
        )
        .unwrap();
        let cut = [&[0; L3][..], &[0x46, 0, 0, 24], &[0; 16], &[148]].concat();
        assert_eq!(check(&cut[..], L3, &ip), Err(DropReason::Truncated));
        // One that reaches beyond the header ends it.
        assert_eq!(judge(&[148, 40, 0, 0]), Ok(()));
    }

    proptest! {
        #[test]
        fn no_options_panic_and_no_source_route_in_the_first_place_passes(
            mut options in proptest::collection::vec(any::<u8>(), 4..=40), loose in any::<bool>(),
        ) {
            options.truncate(options.len() / 4 * 4);
            let _ = judge(&options);
            options[0] = if loose { 131 } else { 137 };
            prop_assert_eq!(judge(&options), Err(DropReason::SourceRoute));
        }
    }
}
