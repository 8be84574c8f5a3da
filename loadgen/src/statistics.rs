//! Medians over repeats, and the confidence interval of a ratio of two medians.

use serde::Serialize;

/// Minimum number of repeats for a statement about noise.
pub const REPEATS_COUNT_MIN: usize = 3;

/// The probability that is cut off at either end of a 95 % interval.
const TAIL: f64 = 0.025;

/// Medians with a lower probability than this are dropped: their sum is far below a tail, and with many repeats they
/// are nearly all of the medians.
const WEIGHT_MIN: f64 = 1e-9;

/// The median of the samples, or `None` without samples.
#[must_use]
pub fn median(samples: &[f64]) -> Option<f64> {
    let sorted = sorted(samples);
    let upper = *sorted.get(sorted.len() / 2)?;
    if !sorted.len().is_multiple_of(2) {
        return Some(upper);
    }
    Some(sorted.get(sorted.len() / 2 - 1)?.midpoint(upper))
}

/// The ratio of two medians.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// The ratio itself.
    pub ratio: f64,
    /// Lower end of its 95 % interval.
    pub low: f64,
    /// Upper end of its 95 % interval.
    pub high: f64,
}

/// Divides the median of one sample by the median of another, and computes the 95 % percentile bootstrap interval: if
/// both samples were drawn again with replacement, 95 % of the ratios would be within the interval.
///
/// Nothing is drawn at random: for medians the probability of every outcome can be computed. The interval is therefore
/// the limit of infinitely many draws, and equal samples give equal intervals.
///
/// Returns `None` if a sample is empty or contains a value that is not a number, or if a value of the baseline is not
/// above 0.
#[must_use]
pub fn ratio_of_medians(current: &[f64], baseline: &[f64]) -> Option<Ratio> {
    let sound = current.iter().all(|value| value.is_finite() && *value >= 0.0)
        && baseline.iter().all(|value| value.is_finite() && *value > 0.0);
    let ratio = median(current)? / median(baseline)?;
    if !sound {
        return None;
    }
    let denominators = medians_drawn_again(baseline);
    let mut ratios: Vec<(f64, f64)> = medians_drawn_again(current)
        .into_iter()
        .flat_map(|(numerator, weight)| {
            denominators.iter().map(move |(denominator, other)| (numerator / denominator, weight * other))
        })
        .collect();
    ratios.sort_unstable_by(|(one, _), (other, _)| one.total_cmp(other));
    Some(Ratio { ratio, low: quantile(&ratios, TAIL)?, high: quantile(&ratios, 1.0 - TAIL)? })
}

/// Returns the first value at which the cumulative weight reaches `share`.
fn quantile(sorted: &[(f64, f64)], share: f64) -> Option<f64> {
    let mut below = 0.0;
    let reached = sorted.iter().find(|(_, weight)| {
        below += weight;
        below >= share
    });
    reached.or(sorted.last()).map(|(value, _)| *value)
}

/// Computes every median that drawing as many samples with replacement can have, with its probability.
///
/// The lower middle of a draw is at most the k-th smallest sample if at least half of the draws are. An even number of
/// draws also has an upper middle. It is a different sample than the lower one if exactly half of the draws are at most
/// the lower middle (one of them equal to it) and the other half at least the upper middle (one of them equal to it).
fn medians_drawn_again(samples: &[f64]) -> Vec<(f64, f64)> {
    let sorted = sorted(samples);
    let count = sorted.len();
    let half = count.div_ceil(2);
    let share = |ranks: usize| ranks as f64 / count as f64;
    let lower_at_most =
        |ranks| (half..=count).map(|draws| probability(count, draws, share(ranks))).sum::<f64>();
    let half_with_the_last = |ranks: usize| {
        let power = |ranks| share(ranks).powi(i32::try_from(half).unwrap_or(i32::MAX));
        power(ranks) - power(ranks.saturating_sub(1))
    };
    let mut medians = Vec::new();
    for (index, lower) in sorted.iter().enumerate() {
        let mut same = lower_at_most(index + 1) - lower_at_most(index);
        let uppers = sorted.iter().enumerate().skip(index + 1);
        for (other, upper) in uppers.filter(|_| count.is_multiple_of(2)) {
            let weight =
                choices(count, half) * half_with_the_last(index + 1) * half_with_the_last(count - other);
            same -= weight;
            medians.push((lower.midpoint(*upper), weight));
        }
        medians.push((*lower, same));
    }
    medians.retain(|(_, weight)| *weight > WEIGHT_MIN);
    medians
}

/// The probability that `draws` of `all` draws fall into a share of the samples.
fn probability(all: usize, draws: usize, share: f64) -> f64 {
    let power = |base: f64, exponent: usize| base.powi(i32::try_from(exponent).unwrap_or(i32::MAX));
    choices(all, draws) * power(share, draws) * power(1.0 - share, all - draws)
}

/// The number of ways to choose `some` of `all`.
fn choices(all: usize, some: usize) -> f64 {
    (0..some).map(|index| (all - index) as f64 / (some - index) as f64).product()
}

fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};

    use super::*;

    #[test]
    fn median_is_the_middle_sample() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[9.0, 1.0, 2.0, 4.0]), Some(3.0));
    }

    #[test]
    fn interval_contains_the_ratio() {
        let current = [130.0, 128.0, 135.0, 131.0, 126.0];
        let baseline = [100.0, 97.0, 104.0, 101.0, 99.0];
        let ratio = ratio_of_medians(&current, &baseline).unwrap();
        assert_eq!(ratio.ratio, 1.3);
        assert!(1.2 < ratio.low && ratio.low < 1.3 && 1.3 < ratio.high && ratio.high < 1.4, "{ratio:?}");
    }

    #[test]
    fn ratio_of_invalid_samples_is_none() {
        assert_eq!(ratio_of_medians(&[1.0], &[]), None);
        assert_eq!(ratio_of_medians(&[1.0], &[0.0]), None);
        assert_eq!(ratio_of_medians(&[f64::NAN], &[1.0]), None);
        assert_eq!(ratio_of_medians(&[0.0], &[2.0]).unwrap().ratio, 0.0);
    }

    /// The interval should contain the true ratio about as often as stated; with five repeats a bootstrap interval is
    /// slightly narrow.
    #[test]
    fn interval_contains_the_true_ratio_as_often_as_stated() {
        let mut rng = StdRng::seed_from_u64(1);
        let covered = (0..300)
            .filter(|_| {
                let mut five = || -> Vec<f64> { (0..5).map(|_| rng.random_range(90.0..110.0)).collect() };
                let (current, baseline) = (five(), five());
                let ratio = ratio_of_medians(&current, &baseline).unwrap();
                ratio.low <= 1.0 && 1.0 <= ratio.high
            })
            .count();
        assert!(covered >= 270, "{covered} of 300");
    }

    #[test]
    fn median_probabilities_match_random_draws() {
        let samples = [1.0, 3.0, 7.0, 8.0, 20.0, 21.0];
        for count in 1..=samples.len() {
            let samples = &samples[..count];
            let expected = medians_drawn_again(samples);
            let total: f64 = expected.iter().map(|(_, weight)| weight).sum();
            assert!((total - 1.0).abs() < 1e-6, "{count}: {total}");
            let mut rng = StdRng::seed_from_u64(2);
            let mut drawn =
                || -> Vec<f64> { (0..count).filter_map(|_| samples.choose(&mut rng).copied()).collect() };
            let drawn: Vec<f64> = (0..20_000).filter_map(|_| median(&drawn())).collect();
            for (value, _) in &expected {
                let weight: f64 =
                    expected.iter().filter(|(other, _)| other == value).map(|(_, weight)| weight).sum();
                let seen = drawn.iter().filter(|one| *one == value).count() as f64 / 20_000.0;
                assert!((seen - weight).abs() < 0.015, "{count}: {value} seen {seen}, expected {weight}");
            }
        }
    }

    #[test]
    fn ratio_of_many_repeats_is_computed() {
        let samples: Vec<f64> = (0..200).map(|index| 100.0 + f64::from(index)).collect();
        let ratio = ratio_of_medians(&samples, &samples).unwrap();
        // The median of 200 evenly spread samples has a standard deviation of 7, the ratio of two such medians one of 5
        // %.
        assert!((ratio.low - 0.905).abs() < 0.01 && (ratio.high - 1.105).abs() < 0.01, "{ratio:?}");
    }
}
