//! A failing input made small: bytes go, and those that stay become zero, as long as it still fails.

/// The smallest input found by removing and clearing that still fails. At most `steps` tries.
pub fn minimise(input: &[u8], mut fails: impl FnMut(&[u8]) -> bool, steps: usize) -> Vec<u8> {
    let mut best = input.to_vec();
    let mut left = steps;
    let mut size = best.len().next_power_of_two();
    while size > 0 {
        let mut at = 0;
        while at < best.len() && left > 0 {
            left -= 1;
            let end = (at + size).min(best.len());
            let mut shorter = best.clone();
            shorter.drain(at..end);
            if fails(&shorter) {
                best = shorter;
                continue;
            }
            let mut cleared = best.clone();
            cleared[at..end].fill(0);
            if cleared != best && fails(&cleared) {
                best = cleared;
            }
            at = end;
        }
        size /= 2;
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_matter_goes() {
        let input: Vec<u8> = (1..200).collect();
        let small = minimise(&input, |b| b.contains(&77) && b.len() > 3, 10_000);
        assert_eq!(small.iter().filter(|b| **b != 0).count(), 1);
        assert_eq!((small.len(), small.contains(&77)), (4, true));
        assert_eq!(minimise(&input, |_| false, 100), input);
    }
}
