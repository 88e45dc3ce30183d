//! Published ports: which packets may be for one.

use crate::addr::Addr;
use crate::reason::DropReason;

/// Refuses a packet from outside between addresses that belong to the inside of a machine: a port
/// published on 127.0.0.1 or `::1` is for the node alone, whatever a wire says (RFC 1122 section
/// 3.2.1.3, RFC 4291 section 2.5.3), and `::ffff:a.b.c.d` on a wire must not be taken for a.b.c.d.
///
/// # Errors
/// [`DropReason::Martian`].
#[inline(always)]
pub fn from_wire<A: Addr>(src: A, dst: A) -> Result<(), DropReason> {
    let never = |a: A| a.is_loopback() || a.is_mapped();
    if never(src) || never(dst) {
        Err(DropReason::Martian)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{V4, V6};

    #[test]
    fn no_inside_address_comes_from_a_wire() {
        let (a, b): (V4, V4) = ([192, 0, 2, 2], [203, 0, 113, 9]);
        assert_eq!(from_wire(a, b), Ok(()));
        let refused = Err(DropReason::Martian);
        for inside in [[127, 0, 0, 1], [127, 255, 255, 255]] {
            assert_eq!(
                (from_wire(inside, b), from_wire(a, inside)),
                (refused, refused)
            );
        }
        let six = |last: u8| -> V6 { [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last] };
        assert_eq!(from_wire(six(1), six(2)), Ok(()));
        let mut one = V6::ZERO;
        one[15] = 1;
        for inside in [one, a.to_16(), [127, 0, 0, 1].to_16(), [0; 4].to_16()] {
            assert_eq!(from_wire(inside, six(1)), refused, "{inside:?}");
            assert_eq!(from_wire(six(1), inside), refused, "{inside:?}");
        }
    }
}
