//! The statistics of the benchmark: medians, quantiles, and bootstrap confidence intervals of ratios.
//!
//! Nothing here measures or prints. The resampling is seeded, so the same figures always give the
//! same interval.

use serde::Serialize;

/// Resamples of a bootstrap: enough for a stable second decimal of a 95 % interval.
const RESAMPLES: usize = 10_000;
/// Any fixed number: the interval must be a function of the figures alone.
const SEED: u64 = 0x006e_6574_645f_6162;

/// A point estimate and its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The median.
    pub median: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Estimate {
    /// Whether `value` lies in the interval, ends included.
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// The quantile `q` (0 to 1) of sorted values, interpolated between neighbours; `None` for no values.
fn quantile_sorted(sorted: &[f64], q: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    #[expect(clippy::cast_precision_loss, reason = "a handful of samples")]
    let at = q.clamp(0.0, 1.0) * last as f64;
    #[expect(clippy::cast_sign_loss, reason = "both factors are at least 0")]
    let below = at.floor() as usize;
    let above = (below + 1).min(last);
    let part = at - at.floor();
    Some(sorted[below] + (sorted[above] - sorted[below]) * part)
}

/// The quantile `q` (0 to 1) of `values`, interpolated between neighbours; `None` for no values.
pub fn quantile(values: &[f64], q: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile_sorted(&sorted, q)
}

/// The median; `None` for no values.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// The mean; `None` for no values.
pub fn mean(values: &[f64]) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "a handful of samples")]
    let count = values.len() as f64;
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / count)
}

/// Draws as many of `values` as there are, with replacement, into `into`, and returns their median.
fn resampled_median(rng: &mut fastrand::Rng, values: &[f64], into: &mut Vec<f64>) -> Option<f64> {
    into.clear();
    into.extend((0..values.len()).map(|_| values[rng.usize(0..values.len())]));
    into.sort_by(f64::total_cmp);
    quantile_sorted(into, 0.5)
}

/// Bounds of the middle 95 % of bootstrapped statistics (the percentile method).
fn middle(mut draws: Vec<f64>, median: f64) -> Option<Estimate> {
    draws.sort_by(f64::total_cmp);
    Some(Estimate {
        median,
        low: quantile_sorted(&draws, 0.025)?,
        high: quantile_sorted(&draws, 0.975)?,
    })
}

/// The median of paired ratios `a[i] / b[i]` with its interval: the pair is the unit that is
/// resampled, because the two cells of a pair ran next to each other and share the machine's mood.
///
/// `None` when there are no pairs, the lengths differ or a denominator is not positive.
pub fn paired_ratio(a: &[f64], b: &[f64]) -> Option<Estimate> {
    if a.len() != b.len() || b.iter().any(|v| *v <= 0.0) {
        return None;
    }
    let ratios: Vec<f64> = a.iter().zip(b).map(|(a, b)| a / b).collect();
    let mut rng = fastrand::Rng::with_seed(SEED);
    let mut scratch = Vec::with_capacity(ratios.len());
    let draws = (0..RESAMPLES)
        .map(|_| resampled_median(&mut rng, &ratios, &mut scratch))
        .collect::<Option<Vec<f64>>>()?;
    middle(draws, median(&ratios)?)
}

/// The ratio of two medians, `a` over `b`, with its interval: for samples that are not pairs.
///
/// `None` when one side is empty or a median of `b` is not positive.
pub fn ratio_of_medians(a: &[f64], b: &[f64]) -> Option<Estimate> {
    let over = |a: f64, b: f64| (b > 0.0).then(|| a / b);
    let mut rng = fastrand::Rng::with_seed(SEED);
    let mut scratch = Vec::with_capacity(a.len().max(b.len()));
    let draws = (0..RESAMPLES)
        .map(|_| {
            let a = resampled_median(&mut rng, a, &mut scratch)?;
            let b = resampled_median(&mut rng, b, &mut scratch)?;
            over(a, b)
        })
        .collect::<Option<Vec<f64>>>()?;
    middle(draws, over(median(a)?, median(b)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn the_median_is_the_middle_value_or_the_mean_of_the_two_middle_ones() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[7.0]), Some(7.0));
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
    }

    #[test]
    fn quantiles_interpolate_and_end_at_the_extremes() {
        let v = [10.0, 20.0, 30.0, 40.0, 50.0];
        assert_eq!(quantile(&v, 0.0), Some(10.0));
        assert_eq!(quantile(&v, 1.0), Some(50.0));
        assert!(near(quantile(&v, 0.99).unwrap(), 49.6));
        assert!(near(quantile(&v, 0.125).unwrap(), 15.0));
    }

    #[test]
    fn the_same_figures_always_give_the_same_interval() {
        let a = [9.0, 9.1, 8.9, 9.3, 9.0, 8.8, 9.2, 9.1, 9.0, 9.4];
        let b = [10.0, 10.2, 9.9, 10.1, 10.0, 10.3, 9.8, 10.0, 10.1, 10.0];
        assert_eq!(paired_ratio(&a, &b), paired_ratio(&a, &b));
        assert_eq!(ratio_of_medians(&a, &b), ratio_of_medians(&a, &b));
    }

    #[test]
    fn a_true_difference_is_told_from_noise() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut noisy = |base: f64| base * (0.98 + 0.04 * rng.f64());
        let b: Vec<f64> = (0..20).map(|_| noisy(16.0)).collect();
        let faster: Vec<f64> = (0..20).map(|_| noisy(14.0)).collect();
        let same: Vec<f64> = (0..20).map(|_| noisy(16.0)).collect();

        let r = paired_ratio(&faster, &b).unwrap();
        assert!(r.high < 1.0 && r.contains(14.0 / 16.0), "{r:?}");
        let r = paired_ratio(&same, &b).unwrap();
        assert!(r.contains(1.0), "{r:?}");
    }

    #[test]
    fn drift_that_hits_both_of_a_pair_leaves_the_ratio_alone() {
        let drift: Vec<f64> = (0..12).map(|i| 1.0 + f64::from(i) * 0.2).collect();
        let a: Vec<f64> = drift.iter().map(|d| 9.0 * d).collect();
        let b: Vec<f64> = drift.iter().map(|d| 10.0 * d).collect();
        let r = paired_ratio(&a, &b).unwrap();
        assert!(
            near(r.median, 0.9) && near(r.low, 0.9) && near(r.high, 0.9),
            "{r:?}"
        );
        let unpaired = ratio_of_medians(&a, &b).unwrap();
        assert!(unpaired.high - unpaired.low > 0.2, "{unpaired:?}");
    }

    #[test]
    fn the_interval_encloses_the_median() {
        let mut rng = fastrand::Rng::with_seed(2);
        for n in 1..30 {
            let a: Vec<f64> = (0..n).map(|_| 1.0 + rng.f64()).collect();
            let b: Vec<f64> = (0..n).map(|_| 1.0 + rng.f64()).collect();
            for r in [
                paired_ratio(&a, &b).unwrap(),
                ratio_of_medians(&a, &b).unwrap(),
            ] {
                assert!(r.contains(r.median), "{r:?}");
            }
        }
    }

    #[test]
    fn no_ratio_comes_from_nothing_or_from_unequal_pairs() {
        assert_eq!(paired_ratio(&[], &[]), None);
        assert_eq!(paired_ratio(&[1.0], &[1.0, 2.0]), None);
        assert_eq!(paired_ratio(&[1.0], &[0.0]), None);
        assert_eq!(ratio_of_medians(&[1.0], &[]), None);
        assert_eq!(ratio_of_medians(&[1.0], &[0.0]), None);
    }
}
