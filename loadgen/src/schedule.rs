//! Due times of requests. A schedule does not depend on the server: it continues while the server stalls, so that the
//! latencies include the stall.

use rand::{Rng, RngExt};

/// Distribution of the gaps between requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gaps {
    /// Equal gaps.
    Constant,
    /// Exponentially distributed gaps, as of many independent clients.
    Poisson,
}

/// A part of a schedule, in which the rate changes linearly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Segment {
    /// Length in seconds.
    pub length_s: f64,
    /// Requests per second at the beginning.
    pub from_per_s: f64,
    /// Requests per second at the end.
    pub to_per_s: f64,
}

impl Segment {
    /// A segment with a constant rate.
    #[must_use]
    pub fn steady(length_s: f64, rate_per_s: f64) -> Self {
        Self { length_s, from_per_s: rate_per_s, to_per_s: rate_per_s }
    }

    /// Number of requests in the segment.
    fn requests(&self) -> f64 {
        self.length_s * (self.from_per_s + self.to_per_s) / 2.0
    }

    /// The time at which `requests` requests have become due, in seconds from the beginning of the segment.
    fn time_of(&self, requests: f64) -> f64 {
        let growth = (self.to_per_s - self.from_per_s) / self.length_s;
        if growth.abs() < 1e-9 {
            return requests / self.from_per_s;
        }
        // requests = from · t + growth · t² / 2
        let root = (self.from_per_s * self.from_per_s + 2.0 * growth * requests).max(0.0).sqrt();
        (root - self.from_per_s) / growth
    }
}

/// The due times of one generator thread, in ascending order.
#[derive(Debug)]
pub struct Schedule<R> {
    segments: Vec<Segment>,
    gaps: Gaps,
    random: R,
    /// The current segment, its start, and the number of its requests that have been returned.
    segment: usize,
    began_s: f64,
    requests: f64,
}

impl<R: Rng> Schedule<R> {
    /// Creates a schedule whose first request is due after `share` of a gap, so that threads with different shares do
    /// not send at the same time.
    #[must_use]
    pub fn new(segments: Vec<Segment>, gaps: Gaps, share: f64, random: R) -> Self {
        let mut schedule = Self { segments, gaps, random, segment: 0, began_s: 0.0, requests: share };
        if gaps == Gaps::Poisson {
            schedule.requests = schedule.gap();
        }
        schedule
    }

    fn gap(&mut self) -> f64 {
        match self.gaps {
            Gaps::Constant => 1.0,
            // A request's distance in units of the mean gap: the inverse of the exponential distribution function.
            Gaps::Poisson => -(1.0 - self.random.random::<f64>()).ln(),
        }
    }
}

impl<R: Rng> Iterator for Schedule<R> {
    type Item = u64;

    /// Returns the next due time, in nanoseconds from the beginning of the schedule.
    fn next(&mut self) -> Option<u64> {
        loop {
            let segment = self.segments.get(self.segment)?;
            let all = segment.requests();
            if self.requests < all {
                let at_s = self.began_s + segment.time_of(self.requests);
                self.requests += self.gap();
                return Some((at_s * 1e9) as u64);
            }
            self.requests -= all;
            self.began_s += segment.length_s;
            self.segment += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    fn times(segments: &[Segment], gaps: Gaps) -> Vec<u64> {
        Schedule::new(segments.to_vec(), gaps, 0.0, StdRng::seed_from_u64(3)).collect()
    }

    #[test]
    fn constant_schedule_has_equal_gaps() {
        let times = times(&[Segment::steady(2.0, 1000.0)], Gaps::Constant);
        assert_eq!(times.len(), 2000);
        assert!(times.windows(2).all(|pair| (pair[1] - pair[0]).abs_diff(1_000_000) <= 1));
    }

    #[test]
    fn poisson_schedule_has_its_rate_and_exponential_gaps() {
        let times = times(&[Segment::steady(20.0, 5000.0)], Gaps::Poisson);
        assert!((98_500..101_500).contains(&times.len()), "{}", times.len());
        let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        // 1/e of exponential gaps are longer than the mean.
        let longer = gaps.iter().filter(|gap| **gap > 200_000).count() as f64 / gaps.len() as f64;
        assert!((longer - 0.3679).abs() < 0.01, "{longer}");
        assert!(times.is_sorted());
    }

    #[test]
    fn ramp_and_steps_have_their_rates() {
        let segments = [
            Segment { length_s: 2.0, from_per_s: 0.0, to_per_s: 1000.0 },
            Segment::steady(1.0, 1000.0),
            Segment::steady(1.0, 3000.0),
        ];
        let times = times(&segments, Gaps::Constant);
        let count = |from: f64, to: f64| {
            times.iter().filter(|time| (from..to).contains(&(**time as f64 / 1e9))).count()
        };
        assert!(count(0.0, 1.0).abs_diff(250) <= 1, "{}", count(0.0, 1.0));
        assert!(count(1.0, 2.0).abs_diff(750) <= 1);
        assert!(count(2.0, 3.0).abs_diff(1000) <= 1);
        assert!(count(3.0, 4.0).abs_diff(3000) <= 1);
        assert_eq!(times.len(), count(0.0, 4.0));
    }
}
