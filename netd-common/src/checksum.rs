//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! A checksum is the complement of the one's complement sum of all 16-bit words. When a word `m`
//! becomes `m'`, the new checksum is `HC' = ~(~HC + ~m + m')` (RFC 1624 equation 3): so a change is
//! one number, the sum of `~m + m'` over all changed words. That number is a [`Delta`]; the same
//! delta serves a checksum field here and the kernel's `bpf_l4_csum_replace` there.
//!
//! One's complement sums do not care about byte order (RFC 1071 section 2): words are added as the
//! machine reads them, and the result is written as it stands.

/// The change of a checksum: the folded one's complement sum of `~old + new`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Delta(u32);

impl Delta {
    /// No change.
    #[inline(always)]
    pub const fn new() -> Self {
        Self(0)
    }

    /// Takes `old` bytes out of the sum. `N` is even: a checksum counts 16-bit words.
    #[inline(always)]
    #[must_use]
    pub fn remove<const N: usize>(self, old: [u8; N]) -> Self {
        const { assert!(N.is_multiple_of(2)) };
        let mut sum = self.0;
        for w in old.as_chunks::<2>().0 {
            sum += u32::from(!u16::from_ne_bytes(*w));
        }
        Self(fold(sum))
    }

    /// Adds `new` bytes to the sum.
    #[inline(always)]
    #[must_use]
    #[expect(
        clippy::should_implement_trait,
        reason = "bytes are added to a sum, not a sum to a sum"
    )]
    pub fn add<const N: usize>(self, new: [u8; N]) -> Self {
        const { assert!(N.is_multiple_of(2)) };
        let mut sum = self.0;
        for w in new.as_chunks::<2>().0 {
            sum += u32::from(u16::from_ne_bytes(*w));
        }
        Self(fold(sum))
    }

    /// The change as the kernel's `__wsum`, for `bpf_l4_csum_replace` with size 0.
    #[inline(always)]
    pub const fn wsum(self) -> u32 {
        self.0
    }

    /// Both changes.
    #[inline(always)]
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(fold(self.0 + other.0))
    }

    /// The sum of bytes, as `bpf_csum_diff` goes on with it and gives it back.
    #[inline(always)]
    #[must_use]
    pub const fn of_sum(sum: u32) -> Self {
        Self(fold((sum & 0xffff) + (sum >> 16)))
    }

    /// Whether the bytes added, a checksum field among them, have the checksum that the field says.
    #[inline(always)]
    pub const fn is_right(self) -> bool {
        self.0 == 0xffff
    }

    /// The checksum field of the bytes added, their own checksum field left out or zero.
    #[inline(always)]
    pub const fn field(self) -> [u8; 2] {
        (!(self.0 as u16)).to_ne_bytes()
    }

    /// The checksum field after the change.
    #[inline(always)]
    pub fn apply(self, field: [u8; 2]) -> [u8; 2] {
        (!(fold(u32::from(!u16::from_ne_bytes(field)) + self.0) as u16)).to_ne_bytes()
    }
}

/// Folds carries back in until 16 bits are left. Sums here are below 2^22, so twice is enough.
#[inline(always)]
const fn fold(sum: u32) -> u32 {
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum & 0xffff) + (sum >> 16)
}

/// The checksum field of `bytes` whose own checksum field is zero. At most 64 KiB; a last odd byte
/// counts as the first of a word.
#[inline(always)]
pub fn of(bytes: &[u8]) -> [u8; 2] {
    let (words, rest) = bytes.as_chunks::<2>();
    let mut sum = 0u32;
    for w in words {
        sum += u32::from(u16::from_ne_bytes(*w));
    }
    if let [last] = rest {
        sum += u32::from(u16::from_ne_bytes([*last, 0]));
    }
    // Up to 2^15 words of 16 bits: the sum fits 31 bits, and two folds leave 16.
    (!(fold(sum) as u16)).to_ne_bytes()
}

/// Whether two checksum fields mean the same: `0x0000` and `0xffff` are both zero in one's complement.
pub fn same(a: [u8; 2], b: [u8; 2]) -> bool {
    let zero = |c: [u8; 2]| c == [0, 0] || c == [0xff, 0xff];
    a == b || (zero(a) && zero(b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rfc_1071_section_3_example() {
        assert_eq!(
            of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
            [0x22, 0x0d]
        );
    }

    #[test]
    fn an_odd_last_byte_is_the_high_half_of_a_word() {
        assert_eq!(of(&[0x12]), of(&[0x12, 0x00]));
        assert_ne!(of(&[0x12]), of(&[0x00, 0x12]));
    }

    #[test]
    fn rfc_1624_section_4_example() {
        // HC = 0xDD2F, m = 0x5555, m' = 0x3285 -> HC' = 0x0000
        let d = Delta::new().remove([0x55, 0x55]).add([0x32, 0x85]);
        assert_eq!(d.apply([0xdd, 0x2f]), [0x00, 0x00]);
    }

    #[test]
    fn no_change_changes_nothing() {
        assert_eq!(Delta::new().apply([0x12, 0x34]), [0x12, 0x34]);
        assert_eq!(Delta::new().wsum(), 0);
        assert_eq!(Delta::new().add([0xff, 0xff]).wsum(), 0xffff);
    }

    #[test]
    fn a_carry_that_folding_makes_is_folded_too() {
        // 0xffff + 0xffff + 1 = 0x1ffff, folded once 0x10000, folded twice 1.
        let [low, high] = 1u16.to_ne_bytes();
        let delta = Delta::new().add([0xff, 0xff]).add([0xff, 0xff, low, high]);
        assert_eq!(delta.wsum(), 1);
        let words = [[0xff, 0xff], [0xff, 0xff], [low, high]];
        assert_eq!(of(words.as_flattened()), (!1u16).to_ne_bytes());
    }

    #[test]
    fn both_zeros_are_the_same() {
        assert!(same([0, 0], [0xff, 0xff]) && same([0xff, 0xff], [0, 0]) && same([1, 2], [1, 2]));
        assert!(!same([0, 0], [0, 1]) && !same([0xff, 0xfe], [0xff, 0xff]));
        assert!(!same([0, 0xff], [0xff, 0]) && !same([0xff, 0], [0, 0]));
    }

    #[test]
    fn the_largest_sum_does_not_overflow() {
        let all = vec![0xffu8; 65_536];
        assert!(same(of(&all), [0, 0]));
        let d = Delta::new()
            .remove([0u8; 64])
            .remove([0u8; 64])
            .add([0xff; 64])
            .add([0xff; 64]);
        assert!(d.wsum() <= 0xffff);
    }

    proptest! {
        #[test]
        fn updating_equals_recomputing(
            mut bytes in proptest::collection::vec(any::<u8>(), 40..=40),
            new in any::<[u8; 16]>(), at in 0usize..12,
        ) {
            let before = of(&bytes);
            let at = at * 2;
            let old: [u8; 16] = bytes[at..at + 16].try_into().unwrap();
            bytes[at..at + 16].copy_from_slice(&new);
            let delta = Delta::new().remove(old).add(new);
            prop_assert!(same(delta.apply(before), of(&bytes)));
            // and back
            let undo = Delta::new().remove(new).add(old);
            prop_assert!(same(undo.apply(delta.apply(before)), before));
        }

        #[test]
        fn the_kernels_formula_gives_the_same(old in any::<[u8; 4]>(), new in any::<[u8; 4]>(), field in any::<[u8; 2]>()) {
            // csum_replace_by_diff(): *sum = csum_fold(csum_add(diff, ~csum_unfold(*sum)))
            let delta = Delta::new().remove(old).add(new);
            let sum = u64::from(delta.wsum()) + u64::from(!u32::from(u16::from_ne_bytes(field)));
            let mut sum = (sum & 0xffff_ffff) as u32 + (sum >> 32) as u32;
            sum = (sum & 0xffff) + (sum >> 16);
            sum = (sum & 0xffff) + (sum >> 16);
            prop_assert!(same(delta.apply(field), (!(sum as u16)).to_ne_bytes()));
        }
    }
}
