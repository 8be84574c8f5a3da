//! Simulated traffic: healthy flags, slow ones, and load that a naive comparison mistakes for a difference.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::*;

/// One simulated connection.
struct Connection {
    number: usize,
    is_cohort: bool,
    cluster: Option<Cluster>,
    /// Median latency in milliseconds.
    median_ms: f64,
}

/// Traffic of connections with uneven rates and latencies from 0.1 ms on with a heavy tail.
struct Traffic {
    connections: Vec<Connection>,
    /// The connection of a request, by a random index: connections with a higher rate are listed more often.
    requests: Vec<usize>,
    /// Factors of the median of a connection: log-normal, and for one in fifty requests Pareto.
    factors: Vec<f64>,
    per_second: u32,
    random: SmallRng,
    recorder: CohortRecorder,
}

/// A rollback: after how many seconds, and why.
type RolledBack = (u32, Worse);

impl Traffic {
    fn new(seed: u64, connections: usize, percent: f64, per_second: u32) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let map = ClusterMap::new((POSITIONS as f64 * percent / 100.0) as u64);
        let mut requests = Vec::new();
        let connections = (0..connections).map(|number| {
            let position = random.random();
            // A rate between a fourth and four times the average, mostly.
            let rate = (8.0 * (0.7 * normal(&mut random)).exp()).ceil() as usize;
            requests.extend(std::iter::repeat_n(number, rate));
            Connection {
                number,
                is_cohort: map.is_cohort(position),
                cluster: map.cluster(position),
                median_ms: 0.25 * (0.4 * normal(&mut random)).exp(),
            }
        });
        let connections = connections.collect();
        let factors = (0..1 << 13).map(|index| match index % 50 {
            0 => 4.0 * random.random::<f64>().powf(-1.0 / 1.5),
            _ => (0.5 * normal(&mut random)).exp(),
        });
        let factors = factors.collect();
        Self { connections, requests, factors, per_second, random, recorder: CohortRecorder::new(map) }
    }

    fn cohort(&self) -> usize {
        self.connections.iter().filter(|connection| connection.is_cohort).count()
    }

    /// Simulates `seconds`. `change` returns latency in milliseconds and failure of a request at a time in seconds, given its
    /// connection and its latency without a change.
    fn run(
        &mut self,
        seconds: u32,
        tolerance: Tolerance,
        budget: &mut AlphaBudget,
        mut change: impl FnMut(f64, &Connection, f64, &mut SmallRng) -> (f64, bool),
    ) -> (Verdict, Option<RolledBack>) {
        let map = *self.recorder.map();
        let mut comparison = Comparison::new(map, tolerance);
        let mut verdict = Verdict::NotEnoughData;
        for second in 0..seconds {
            for request in 0..self.per_second {
                let connection = self.requests[self.random.random_range(0..self.requests.len())];
                let connection = &self.connections[connection];
                let Some(cluster) = connection.cluster else { continue };
                let factor = self.factors[self.random.random_range(0..self.factors.len())];
                let at = f64::from(second) + f64::from(request) / f64::from(self.per_second);
                let (milliseconds, is_error) =
                    change(at, connection, connection.median_ms * factor, &mut self.random);
                let latency = Duration::from_nanos((milliseconds * 1e6) as u64);
                self.recorder.record(cluster, latency, is_error);
            }
            budget.refill(WINDOW);
            verdict = comparison.close_window(&Counts::sum(&map, [&self.recorder]), budget);
            if let Verdict::Worse(worse) = verdict {
                return (verdict, Some((second + 1, worse)));
            }
            if let Some(thresholds) = comparison.thresholds() {
                self.recorder.set_thresholds(thresholds);
            }
        }
        (verdict, None)
    }
}

fn normal(random: &mut SmallRng) -> f64 {
    let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.random::<f64>()).cos()
}

/// A random number that depends on two others only.
fn hash(one: u32, other: u32) -> u32 {
    SmallRng::seed_from_u64(u64::from(one) << 32 | u64::from(other)).random()
}

/// Runs traffic of a new server with the default tolerance.
fn run(
    (seed, connections, percent): (u64, usize, f64),
    seconds: u32,
    change: impl FnMut(f64, &Connection, f64, &mut SmallRng) -> (f64, bool),
) -> (Verdict, Option<RolledBack>) {
    let mut traffic = Traffic::new(seed, connections, percent, 5_000);
    traffic.run(seconds, Tolerance::default(), &mut AlphaBudget::default(), change)
}

#[test]
fn slowdown_of_two_milliseconds_is_rolled_back_within_ten_seconds_in_50_of_50_runs() {
    for seed in 0..50 {
        let connections = [100, 200, 500][seed as usize % 3];
        let begin = f64::from(seed as u32 % 5) + 0.37 * f64::from(seed as u32 % 3);
        let (_, rolled_back) = run((seed, connections, 10.0), 20, |at, connection, milliseconds, _| {
            let slowdown = if connection.is_cohort && at >= begin { 2.0 } else { 0.0 };
            (milliseconds + slowdown, false)
        });
        let (seconds, worse) = rolled_back.expect("rolled back");
        assert!(f64::from(seconds) - begin <= 10.0, "seed {seed}, {connections} connections: {seconds} s");
        assert!(worse.metric != Metric::ErrorRate && worse.cohort > worse.bound, "{worse}");
        assert!(worse.p_value <= worse.level, "{worse}");
    }
}

#[test]
fn healthy_flag_is_rolled_back_in_none_of_200_runs() {
    for seed in 0..200 {
        let connections = [50, 100, 200, 500][seed as usize % 4];
        let (_, rolled_back) = run((seed, connections, 10.0), 10, |_, _, milliseconds, random| {
            (milliseconds, random.random_bool(0.01))
        });
        assert_eq!(rolled_back, None, "seed {seed}");
    }
}

/// Whether any of `seeds` runs of 40 s with 200 connections, a tenth of them in the cohort, is rolled back.
fn rolled_back(
    seeds: std::ops::Range<u64>,
    mut change: impl FnMut(f64, &Connection, f64, &mut SmallRng) -> (f64, bool),
) -> Vec<RolledBack> {
    seeds.filter_map(|seed| run((seed, 200, 10.0), 40, &mut change).1).collect()
}

#[test]
fn cohort_of_one_connection_is_never_evidence() {
    let mut with_cohort = 0;
    for seed in 0..20 {
        let mut traffic = Traffic::new(seed, 8, 12.5, 500);
        with_cohort += usize::from((1..=2).contains(&traffic.cohort()));
        let result =
            traffic.run(40, Tolerance::default(), &mut AlphaBudget::default(), |_, connection, ms, _| {
                if connection.is_cohort { (ms + 50.0, true) } else { (ms, false) }
            });
        assert_eq!(result, (Verdict::NotEnoughData, None), "seed {seed}");
    }
    assert!(with_cohort > 5, "{with_cohort}");
}

#[test]
fn share_of_everything_or_nothing_has_no_verdict() {
    for percent in [0.0, 100.0] {
        let (verdict, rolled_back) = run((1, 200, percent), 8, |_, _, ms, _| (ms + 50.0, true));
        assert_eq!((verdict, rolled_back), (Verdict::NotEnoughData, None));
    }
}

#[test]
fn load_that_changes_for_both_arms_is_not_worse() {
    // Fourfold latency and errors from one second to the next, and back.
    let steps = rolled_back(0..5, |at, _, milliseconds, random| {
        let is_overloaded = at as u32 / 7 % 2 == 1;
        (milliseconds * if is_overloaded { 4.0 } else { 1.0 }, is_overloaded && random.random_bool(0.2))
    });
    assert_eq!(steps, []);
    let drift = rolled_back(5..10, |at, _, milliseconds, _| (milliseconds * (1.0 + at / 5.0), false));
    assert_eq!(drift, []);
}

#[test]
fn one_slow_or_failing_connection_of_the_cohort_is_not_evidence() {
    for seed in 0..5 {
        let mut traffic = Traffic::new(seed, 200, 10.0, 5_000);
        let cohort = traffic.connections.iter().filter(|connection| connection.is_cohort);
        let slow = cohort.map(|connection| connection.number).next().unwrap();
        // It sends most of the requests of the cohort.
        traffic.requests.extend(std::iter::repeat_n(slow, 1_000));
        let change = |_, connection: &Connection, milliseconds, _: &mut SmallRng| {
            if connection.number == slow { (300.0, true) } else { (milliseconds, false) }
        };
        let (verdict, rolled_back) =
            traffic.run(40, Tolerance::default(), &mut AlphaBudget::default(), change);
        assert_eq!((verdict, rolled_back), (Verdict::Continue, None), "seed {seed}");
    }
}

#[test]
fn bursts_of_single_connections_and_of_all_are_not_evidence() {
    let bursts = rolled_back(0..10, |at, connection, milliseconds, _| {
        let (second, number) = (at as u32, connection.number as u32);
        // Each second a fifth of the connections, and in some seconds all, are a hundred times slower, and fail.
        let is_burst = hash(number, second).is_multiple_of(5) || hash(u32::MAX, second).is_multiple_of(8);
        (milliseconds * if is_burst { 100.0 } else { 1.0 }, is_burst)
    });
    assert_eq!(bursts, []);
}

#[test]
fn heavier_tails_than_a_mean_has_are_not_evidence() {
    let tails = rolled_back(0..5, |_, _, milliseconds, random| {
        // Pareto with exponent 0.5.
        (milliseconds * random.random::<f64>().max(1e-6).powi(-2), false)
    });
    assert_eq!(tails, []);
}

#[test]
fn differences_within_the_tolerance_are_not_worse() {
    let slower = rolled_back(0..5, |_, connection, milliseconds, _| {
        (milliseconds * if connection.is_cohort { 1.15 } else { 1.0 }, false)
    });
    assert_eq!(slower, []);
    let failing = rolled_back(5..10, |_, connection, milliseconds, random| {
        (milliseconds, random.random_bool(if connection.is_cohort { 0.008 } else { 0.0 }))
    });
    assert_eq!(failing, []);
    let faster = rolled_back(10..12, |_, connection, milliseconds, _| {
        (milliseconds * if connection.is_cohort { 0.2 } else { 1.0 }, false)
    });
    assert_eq!(faster, []);
}

#[test]
fn differences_beyond_the_tolerance_are_worse_in_the_metric_they_affect() {
    let metrics = |found: Vec<RolledBack>| found.iter().map(|(_, worse)| worse.metric).collect::<Vec<_>>();
    let failing = rolled_back(0..3, |_, connection, milliseconds, random| {
        (milliseconds, random.random_bool(if connection.is_cohort { 0.06 } else { 0.01 }))
    });
    assert_eq!(metrics(failing), [Metric::ErrorRate; 3]);
    // One request in 40: beyond the 99th percentile, not the 95th.
    let tail = rolled_back(3..6, |_, connection, milliseconds, random| {
        (milliseconds + if connection.is_cohort && random.random_bool(0.025) { 50.0 } else { 0.0 }, false)
    });
    assert_eq!(metrics(tail), [Metric::P99; 3]);
    let slower = rolled_back(6..9, |_, connection, milliseconds, _| {
        (milliseconds * if connection.is_cohort { 3.0 } else { 1.0 }, false)
    });
    assert_eq!(slower.len(), 3, "{slower:?}");
}

#[test]
fn slowdown_is_found_at_any_share() {
    for (percent, connections) in [(1.0, 2_000), (5.0, 500), (50.0, 50), (90.0, 200)] {
        let (_, rolled_back) = run((7, connections, percent), 40, |_, connection, milliseconds, _| {
            (milliseconds + if connection.is_cohort { 2.0 } else { 0.0 }, false)
        });
        assert!(rolled_back.is_some(), "{percent} %");
    }
}

#[test]
fn slowdown_that_begins_after_an_hour_is_rolled_back() {
    // A budget that looks at healthy data have spent.
    let mut budget = AlphaBudget::default();
    for _ in 0..900 {
        budget.refill(4 * WINDOW);
        let level = budget.offer(0.1);
        budget.spend(level);
    }
    let mut traffic = Traffic::new(3, 200, 10.0, 5_000);
    let slow = |at, connection: &Connection, milliseconds, _: &mut SmallRng| {
        (milliseconds + if connection.is_cohort && at >= 5.0 { 2.0 } else { 0.0 }, false)
    };
    let (_, rolled_back) = traffic.run(20, Tolerance::default(), &mut budget, slow);
    assert!(rolled_back.is_some_and(|(seconds, _)| seconds <= 15), "{rolled_back:?}");
}

/// The part of runs in which a slowdown of 2 ms is rolled back within 10 s, by number of connections; a tenth of them is the cohort on
/// average. Also the time to record a request.
///
/// `cargo test --profile quick --lib power_of_the_comparison -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn power_of_the_comparison_by_connections() {
    for connections in [20, 30, 50, 75, 100, 150, 200, 500, 2_000] {
        let found = (0..1_000).filter(|seed| {
            let (_, rolled_back) = run((*seed, connections, 10.0), 10, |_, connection, milliseconds, _| {
                (milliseconds + if connection.is_cohort { 2.0 } else { 0.0 }, false)
            });
            rolled_back.is_some()
        });
        println!("{connections} connections: {} of 1000 runs", found.count());
    }
    let recorder = CohortRecorder::new(ClusterMap::new(POSITIONS / 10));
    let mut random = SmallRng::seed_from_u64(1);
    let requests: Vec<(u32, Duration)> = (0..4_096)
        .map(|_| (random.random(), Duration::from_nanos(random.random_range(100_000..5_000_000))))
        .collect();
    let begin = std::time::Instant::now();
    for _ in 0..5_000 {
        for (position, latency) in &requests {
            if let Some(cluster) = recorder.map().cluster(*position) {
                recorder.record(cluster, *latency, false);
            }
        }
    }
    println!("{:.1} ns per recorded request", begin.elapsed().as_nanos() as f64 / (5_000.0 * 4_096.0));
}

/// Rollbacks of healthy flags in hours of six rollouts at once. No difference is tolerated, so that no margin hides a false alarm,
/// and the budget is `INFLATION` times as large, so that the probability of rare events is measured by frequent ones.
///
/// `HOURS=300 INFLATION=300 cargo test --profile quick --lib rollbacks_of_healthy_flags -- --ignored --nocapture`
#[test]
#[ignore = "takes minutes"]
fn rollbacks_of_healthy_flags_are_within_the_budget() {
    let number = |name: &str, default: f64| {
        std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
    };
    let (hours, inflation) = (number("HOURS", 20.0) as u64, number("INFLATION", 1.0));
    let tolerance = Tolerance { latency_factor: 1.0, error_rate: 0.0 };
    let mut rollbacks = 0;
    for hour in 0..hours {
        for flag in 0..6 {
            // The flags are simulated one after the other, so each has a sixth of the budget.
            let mut budget = AlphaBudget::scaled(inflation / 6.0);
            let mut traffic = Traffic::new(hour * 6 + flag, 60 + 20 * (hour as usize % 8), 10.0, 600);
            // One to six tenths of the connections are slow and fail, others in each period: no model of independent windows
            // describes it.
            let period = [4, 16, 64, 600][hour as usize / 8 % 4];
            let change = |at: f64, connection: &Connection, milliseconds, _: &mut SmallRng| {
                let is_slow = hash(connection.number as u32, at as u32 / period) % 10 <= flag as u32;
                (milliseconds * if is_slow { 5.0 } else { 1.0 }, is_slow)
            };
            let (_, rolled_back) = traffic.run(3600, tolerance, &mut budget, change);
            rollbacks += u64::from(rolled_back.is_some());
        }
    }
    let bound = hours as f64 * inflation * FALSE_ALARMS_PER_HOUR_MAX;
    println!("{rollbacks} rollbacks of healthy flags in {hours} hours; expected at most {bound}");
    assert!(rollbacks as f64 <= bound + 3.0 * bound.sqrt() + 1.0);
}
