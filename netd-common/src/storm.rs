//! How much a switch port may have flooded: a token bucket, kept as one number so that it can be
//! changed by a single compare-and-swap.

/// What a bucket holds, in ns of its rate: a switch port that was silent for a second may flood a
/// second's frames at once.
const DEPTH: u64 = 1_000_000_000;

/// Takes one token. `full` is the time at which the bucket is full again (the generic cell rate
/// algorithm's theoretical arrival time, ITU-T I.371 annex A), `now` the time, both in ns of one clock;
/// `rate` is in tokens a second. The bucket's next time; none: it is empty.
#[inline(always)]
pub const fn take(full: u64, now: u64, rate: u32) -> Option<u64> {
    let rate = if rate == 0 { 1 } else { rate };
    let token = DEPTH / rate as u64;
    let start = if full > now { full } else { now };
    let next = start.saturating_add(token);
    if next - now <= DEPTH {
        Some(next)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_bucket_gives_a_seconds_tokens_at_once_and_then_waits() {
        let (mut full, now) = (0, 7_000_000_000);
        for n in 0..2_000 {
            full = take(full, now, 2_000).unwrap_or_else(|| panic!("token {n}"));
        }
        assert_eq!(take(full, now, 2_000), None);
        assert_eq!(take(full, now + 499_999, 2_000), None);
        let next = take(full, now + 500_000, 2_000).unwrap();
        assert_eq!(take(next, now + 500_000, 2_000), None);
    }

    #[test]
    fn one_a_second_is_possible() {
        let full = take(0, 10, 1).unwrap();
        assert_eq!(take(full, 10, 1), None);
        assert!(take(full, 10 + DEPTH, 1).is_some());
    }

    proptest! {
        #[test]
        fn never_more_than_the_bucket_and_the_rate(rate in 1u32..100_000, steps in prop::collection::vec(0u64..3_000_000, 1..400)) {
            let (start, mut now, mut full, mut taken) = (1u64 << 40, 1u64 << 40, 0, 0u64);
            for step in steps {
                now += step;
                while let Some(next) = take(full, now, rate) {
                    full = next;
                    taken += 1;
                    // Rounding the token's time down gives away less than one in `rate`.
                    let token = DEPTH / u64::from(rate);
                    prop_assert!(taken <= (DEPTH + now - start) / token);
                }
            }
            prop_assert!(taken >= u64::from(rate));
        }
    }
}
