//! Randomization test of two arms: how probable a difference would be if the assignment of units to arms had no effect.

/// Steps of the minimization; a stop before the minimum makes the bound larger, never invalid.
const STEPS_MAX: usize = 60;
/// Changes below this factor (1 %) of the bound are not pursued.
const PRECISION: f64 = 0.01;

/// The natural logarithm of the number of subsets of `chosen` of `all` units.
pub(super) fn ln_subsets(all: usize, chosen: usize) -> f64 {
    let chosen = chosen.min(all.saturating_sub(chosen));
    (1..=chosen).map(|index| ((all - chosen + index) as f64 / index as f64).ln()).sum()
}

/// An upper bound of the one-sided p-value of the rank sum of the cohort, as natural logarithm, given the score of each unit and
/// whether the unit is in the cohort.
///
/// The p-value is the part of all assignments with as many units in the cohort whose cohort has at least this rank sum T. With
/// ranks s, N units and n of them in the cohort, Chernoff's bound of the rank sum of a random subset is, for every λ ≥ 0 and ν,
///
/// ```text
/// P(T' ≥ T) ≤ E[exp(λ(T' - T))] ≤ exp(-λT - νn) · Π(1 + exp(ν + λs)) / C(N, n)
/// ```
///
/// because the product contains each subset of n units as one of its terms. The numerator is the reciprocal likelihood of a
/// logistic regression of the membership on the rank, which Newton's method maximizes. The bound is exact where all units of the
/// cohort rank above all others: 1 / C(N, n).
pub(super) fn ln_p_value(units: &[(f64, bool)]) -> f64 {
    let ranks = ranks(units);
    let chosen = ranks.iter().filter(|(_, is_cohort)| *is_cohort).count();
    let all = ranks.len();
    let rank_sum: f64 = ranks.iter().filter(|(_, is_cohort)| *is_cohort).map(|(rank, _)| rank).sum();
    // Ranks are centered: a rank sum of 0 is the expected one.
    if chosen == 0 || chosen == all || rank_sum <= 0.0 {
        return 0.0;
    }
    let n = chosen as f64;
    let loss = |(nu, lambda): (f64, f64)| {
        let terms = ranks.iter().map(|(rank, _)| softplus(nu + lambda * rank));
        terms.sum::<f64>() - nu * n - lambda * rank_sum
    };
    let mut at = ((n / (all as f64 - n)).ln(), 0.0);
    let mut least = loss(at);
    for _ in 0..STEPS_MAX {
        let (step_nu, step_lambda) = newton_step(&ranks, at, n, rank_sum);
        let mut scale = 1.0;
        let next = loop {
            let to = (at.0 + scale * step_nu, (at.1 + scale * step_lambda).max(0.0));
            let value = loss(to);
            if value < least || scale < 1e-3 {
                break (to, value);
            }
            scale /= 2.0;
        };
        let gain = least - next.1;
        if gain > 0.0 {
            (at, least) = next;
        }
        // A NaN ends the minimization too.
        if !(gain > PRECISION && least > PRECISION) {
            break;
        }
    }
    (least - ln_subsets(all, chosen)).min(0.0)
}

/// The ranks of the scores, centered, in units of the number of scores; equal scores have their mean rank.
fn ranks(units: &[(f64, bool)]) -> Vec<(f64, bool)> {
    let mut sorted = units.to_vec();
    sorted.sort_unstable_by(|left, right| left.0.total_cmp(&right.0));
    let mut before = 0;
    let all = sorted.len() as f64;
    for tied in sorted.chunk_by_mut(|left, right| left.0 == right.0) {
        let rank = before as f64 + (tied.len() as f64 - 1.0) / 2.0;
        before += tied.len();
        tied.iter_mut().for_each(|unit| unit.0 = (rank - (all - 1.0) / 2.0) / all);
    }
    sorted
}

/// The step from `(nu, lambda)` to the minimum of the quadratic approximation of the loss.
fn newton_step(ranks: &[(f64, bool)], (nu, lambda): (f64, f64), chosen: f64, rank_sum: f64) -> (f64, f64) {
    let (mut slope_nu, mut slope_lambda) = (-chosen, -rank_sum);
    // Keeps the matrix regular where all units are separated.
    let (mut curve_nu, mut curve_both, mut curve_lambda) = (1e-12, 0.0, 1e-12);
    for (rank, _) in ranks {
        let probability = 1.0 / (1.0 + (-(nu + lambda * rank)).exp());
        let weight = probability * (1.0 - probability);
        slope_nu += probability;
        slope_lambda += probability * rank;
        curve_nu += weight;
        curve_both += weight * rank;
        curve_lambda += weight * rank * rank;
    }
    let determinant = curve_nu * curve_lambda - curve_both * curve_both;
    (
        (curve_both * slope_lambda - curve_lambda * slope_nu) / determinant,
        (curve_both * slope_nu - curve_nu * slope_lambda) / determinant,
    )
}

/// ln(1 + exp(x)) without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All subsets of `chosen` of the scores, as units.
    fn assignments(scores: &[f64], chosen: u32) -> Vec<Vec<(f64, bool)>> {
        let subsets = (0_u32..1 << scores.len()).filter(|bits| bits.count_ones() == chosen);
        let units = |bits: u32| {
            scores.iter().enumerate().map(|(index, score)| (*score, bits >> index & 1 == 1)).collect()
        };
        subsets.map(units).collect()
    }

    #[test]
    fn of_all_assignments_no_larger_part_has_a_p_value_than_the_p_value() {
        let distinct: Vec<f64> = (0..12).map(|index| f64::from(index * index)).collect();
        let tied: Vec<f64> = (0..13).map(|index| f64::from(index / 4)).collect();
        let mostly_zero = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.1, 0.5, 0.9, 1.0];
        for scores in [&distinct[..], &tied, &mostly_zero] {
            for chosen in 1..=6 {
                let mut p_values: Vec<f64> =
                    assignments(scores, chosen).iter().map(|units| ln_p_value(units).exp()).collect();
                p_values.sort_unstable_by(f64::total_cmp);
                let all = p_values.len() as f64;
                for (index, p_value) in p_values.iter().enumerate() {
                    let part = p_values[index..].iter().take_while(|other| *other == p_value).count() + index;
                    assert!(part as f64 / all <= p_value * (1.0 + 1e-9), "{scores:?} {chosen} {p_value}");
                }
            }
        }
    }

    #[test]
    fn bound_is_nearly_exact_where_the_cohort_ranks_above_all_others() {
        for (all, chosen) in [(20, 3), (50, 5), (640, 64)] {
            let units: Vec<_> = (0..all).map(|index| (index as f64, index >= all - chosen)).collect();
            let (bound, exact) = (ln_p_value(&units), -ln_subsets(all, chosen));
            assert!((exact..exact + 0.05).contains(&bound), "{all} {chosen}: {bound} {exact}");
        }
    }

    #[test]
    fn cohort_that_ranks_lower_or_alone_has_p_value_one() {
        let lower: Vec<_> = (0..50).map(|index| (f64::from(index), index < 5)).collect();
        assert_eq!(ln_p_value(&lower), 0.0);
        assert_eq!(ln_p_value(&[(1.0, true), (2.0, true)]), 0.0);
        assert_eq!(ln_p_value(&[]), 0.0);
        let equal: Vec<_> = (0..50).map(|index| (1.0, index < 5)).collect();
        assert_eq!(ln_p_value(&equal), 0.0);
    }
}
