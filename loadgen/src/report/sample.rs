//! Synthetic runs for tests of reports: two peaks of latency, one stall, some errors; deterministic.

use std::{collections::BTreeMap, f64::consts::TAU, sync::LazyLock};

use hdrhistogram::Histogram;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::{
    latency::{Latency, histogram},
    result::{
        Check, GeneratorSide, Interval, Outcome, Pacing, Parameters, ProcessSample, RequestParameters,
        RequestResult, Run, ServerInfo, ServerLatency, ServerProcess,
    },
};

const INTERVALS: usize = 30;
const RATE_PER_S: usize = 4_000;
/// Index of the interval with a stall of 0.4 s at its end; its requests are answered in the next one.
const STALLED: usize = 17;
const CONNECTIONS: usize = 64;

/// An open loop with two requests, a stall, errors, a server process, and checks of which one fails.
pub(crate) fn run() -> Run {
    static RUN: LazyLock<Run> =
        LazyLock::new(|| measured(&Shape { seed: 1, fast_us: 190.0, slow_us: 900.0 }));
    RUN.clone()
}

/// The same load on a slower server, without optional parts.
pub(crate) fn peer() -> Run {
    static PEER: LazyLock<Run> = LazyLock::new(|| {
        let mut run = measured(&Shape { seed: 2, fast_us: 410.0, slow_us: 2_600.0 });
        run.contestant = "rust-sdk".to_owned();
        run.server = ServerInfo {
            url: "http://127.0.0.1:8090/mcp".to_owned(),
            name: "rust-sdk-peer".to_owned(),
            version: "0.9.1".to_owned(),
            commit: None,
            limits: BTreeMap::new(),
            flags: BTreeMap::new(),
            flag_shares: BTreeMap::new(),
            flags_changed: Vec::new(),
        };
        run.errors_count.clear();
        run.first_error = None;
        run.intervals.iter_mut().for_each(|interval| interval.errors_count = 0);
        run.requests.iter_mut().for_each(|request| request.errors_count = 0);
        run.checks.clear();
        run.figures.clear();
        run.server_latencies.clear();
        run
    });
    PEER.clone()
}

/// The same run as a closed loop.
pub(crate) fn closed() -> Run {
    let mut run = run();
    run.parameters.pacing = Pacing::Closed;
    run.latency = run.latency_uncorrected.clone();
    run.generator.schedule_lag = Latency::of(&histogram());
    run
}

/// A run without replies and samples.
pub(crate) fn empty() -> Run {
    let mut run = run();
    let nothing = Latency::of(&histogram());
    run.outcome = Outcome::ServerGone { after_s: 0.0 };
    run.measured_s = 0.0;
    run.requests_count = 0;
    run.replies_count = 0;
    run.throughput_per_s = 0.0;
    run.sent_bytes = 0;
    run.received_bytes = 0;
    run.errors_count.clear();
    run.first_error = None;
    run.latency = nothing.clone();
    run.latency_uncorrected = nothing.clone();
    run.requests.clear();
    run.intervals.clear();
    run.generator.schedule_lag = nothing;
    run.server_process = None;
    run.server_latencies.clear();
    run.figures.clear();
    run.checks.clear();
    run
}

struct Shape {
    seed: u64,
    /// Median of `tools/call echo`, in microseconds.
    fast_us: f64,
    /// Median of `tools/list`, in microseconds.
    slow_us: f64,
}

fn measured(shape: &Shape) -> Run {
    let recorded = record(shape);
    let replies_count = recorded.corrected.len();
    let errors: u64 = recorded.intervals.iter().map(|interval| interval.errors_count).sum();
    Run {
        workload: "mixed-open".to_owned(),
        contestant: "corelane".to_owned(),
        parameters: parameters(),
        server: ServerInfo {
            url: "http://127.0.0.1:8080/mcp".to_owned(),
            name: "corelane".to_owned(),
            version: "0.1.0".to_owned(),
            commit: None,
            limits: BTreeMap::from([
                ("body_bytes_max".to_owned(), 4_194_304.0),
                ("header_timeout_ms".to_owned(), 10_000.0),
            ]),
            flags: BTreeMap::from([("borrowed_arguments".to_owned(), true), ("spin".to_owned(), false)]),
            flag_shares: BTreeMap::new(),
            flags_changed: Vec::new(),
        },
        outcome: Outcome::Complete,
        began_unix_s: 1_790_000_000.25,
        measured_s: INTERVALS as f64,
        requests_count: replies_count + errors,
        replies_count,
        errors_count: BTreeMap::from([("status".to_owned(), errors - 30), ("timeout".to_owned(), 30)]),
        first_error: Some("status 503 instead of 200: too many calls are waiting".to_owned()),
        reconnects_count: 0,
        resent_count: 0,
        throughput_per_s: replies_count as f64 / INTERVALS as f64,
        sent_bytes: replies_count * 712,
        received_bytes: replies_count * 655,
        latency: Latency::of(&recorded.corrected),
        latency_uncorrected: Latency::of(&recorded.uncorrected),
        requests: vec![
            result("tools/call echo", &recorded.fast, errors),
            result("tools/list", &recorded.slow, 0),
        ],
        generator: GeneratorSide {
            cores: vec![1],
            busy_percent: 41.7,
            cpu_percent: 99.8,
            schedule_lag: Latency::of(&recorded.lag),
            bottleneck: None,
        },
        server_process: Some(process(&recorded.intervals)),
        server_latencies: vec![ServerLatency {
            method: "tools/call".to_owned(),
            count: recorded.fast.len(),
            p50_us_max: 16.0,
            p99_us_max: 64.0,
            p99_9_us_max: 512.0,
        }],
        figures: BTreeMap::from([("memory_per_connection_bytes".to_owned(), 116.0)]),
        checks: vec![
            Check { demand: "p99<1s".to_owned(), measured: 0.21, passed: true },
            Check { demand: "errors<0.01%".to_owned(), measured: 0.0317, passed: false },
        ],
        intervals: recorded.intervals,
    }
}

fn parameters() -> Parameters {
    Parameters {
        era: "2026-07-28".to_owned(),
        pacing: Pacing::OpenPoisson { rate_per_s: RATE_PER_S as f64 },
        connections_count: CONNECTIONS as u32,
        pipeline_depth: 1,
        threads_count: 1,
        duration_s: INTERVALS as f64,
        warmup_s: 2.0,
        requests: vec![
            RequestParameters {
                name: "tools/call echo".to_owned(),
                weight: 8,
                request_bytes: 700,
                arguments: Some(r#"{"text":"{{random 16}}"}"#.to_owned()),
            },
            RequestParameters {
                name: "tools/list".to_owned(),
                weight: 2,
                request_bytes: 412,
                arguments: None,
            },
        ],
        scale: 1.0,
    }
}

fn result(name: &str, latency: &Histogram<u64>, errors_count: u64) -> RequestResult {
    RequestResult {
        name: name.to_owned(),
        replies_count: latency.len(),
        errors_count,
        latency: Latency::of(latency),
    }
}

fn process(intervals: &[Interval]) -> ServerProcess {
    let sample = |(index, interval): (usize, &Interval)| ProcessSample {
        at_s: interval.start_s + interval.length_s,
        cpu_percent: interval.replies_count as f64 / RATE_PER_S as f64 * 58.0,
        resident_bytes: 12_700_000 + 25_000 * index.min(22) as u64,
    };
    ServerProcess {
        pid: 4711,
        cpu_percent: 57.6,
        context_switches_count: 18_204,
        samples: intervals.iter().enumerate().map(sample).collect(),
    }
}

struct Recorded {
    corrected: Histogram<u64>,
    uncorrected: Histogram<u64>,
    fast: Histogram<u64>,
    slow: Histogram<u64>,
    lag: Histogram<u64>,
    intervals: Vec<Interval>,
}

fn record(shape: &Shape) -> Recorded {
    let mut random = StdRng::seed_from_u64(shape.seed);
    let mut parts: Vec<_> = (0..INTERVALS).map(|_| histogram()).collect();
    let (mut corrected, mut uncorrected) = (histogram(), histogram());
    let (mut fast, mut slow, mut lag) = (histogram(), histogram(), histogram());
    for index in 0..INTERVALS {
        let mut waiting = 0;
        for request in 0..RATE_PER_S {
            let is_slow = request % 5 == 4;
            let median_us = if is_slow { shape.slow_us } else { shape.fast_us };
            // Log-normal, like real latencies: most values near the median, and a tail.
            let normal =
                (-2.0 * random.random::<f64>().max(1e-12).ln()).sqrt() * (TAU * random.random::<f64>()).cos();
            let base_ns = median_us * 1e3 * (0.22 * normal).exp();
            let since_stall = request as f64 / RATE_PER_S as f64 - 0.6;
            let stalled = index == STALLED && since_stall >= 0.0;
            let waited_ns = if stalled { (0.4 - since_stall) * 1e9 } else { 0.0 };
            waiting += usize::from(stalled);
            let intended_ns = (base_ns + waited_ns) as u64;
            // Only as many requests as there are connections were in flight during the stall.
            let sent_ns = if waiting > CONNECTIONS { base_ns as u64 } else { intended_ns };
            corrected.record(intended_ns).unwrap();
            uncorrected.record(sent_ns).unwrap();
            parts[index + usize::from(stalled)].record(intended_ns).unwrap();
            if is_slow { &mut slow } else { &mut fast }.record(intended_ns).unwrap();
            lag.record((900.0 * (0.8 * normal).exp()) as u64).unwrap();
        }
    }
    let interval = |(index, part): (usize, &Histogram<u64>)| Interval {
        start_s: index as f64,
        length_s: 1.0,
        replies_count: part.len(),
        completed_count: None,
        errors_count: if index == STALLED + 1 { 34 } else { u64::from(index % 7 == 3) },
        latency: Latency::of(part),
    };
    Recorded {
        intervals: parts.iter().enumerate().map(interval).collect(),
        corrected,
        uncorrected,
        fast,
        slow,
        lag,
    }
}

/// Writes the reports of the sample runs into a directory, for inspection and for `tests/hdrhistogram/check.py`:
/// `REPORT_SAMPLE=/some/where cargo test -p corelane-loadgen --lib -- --ignored reports_to_inspect`.
#[test]
#[ignore = "writes into the directory that REPORT_SAMPLE names"]
fn reports_to_inspect() {
    let directory = std::path::PathBuf::from(std::env::var_os("REPORT_SAMPLE").unwrap());
    std::fs::create_dir_all(&directory).unwrap();
    let write = |name: &str, text: String| std::fs::write(directory.join(name), text).unwrap();
    let mut limited = closed();
    limited.generator.bottleneck =
        Some("its thread worked 99.7 % of the time; give it more (--threads)".to_owned());
    let named = |runs: &[(&str, &Run)]| {
        let runs: Vec<_> = runs.iter().map(|(label, run)| ((*label).to_owned(), *run)).collect();
        super::page("A sample of the report", &runs, &[]).unwrap()
    };
    write("one.html", named(&[("corelane, closed loop", &limited)]));
    write("two.html", named(&[("corelane", &run()), ("rust-sdk", &peer())]));
    let six: Vec<_> = (3..9)
        .map(|seed| measured(&Shape { seed, fast_us: 40.0 * seed as f64, slow_us: 350.0 * seed as f64 }))
        .collect();
    let labels = ["first", "second", "third", "fourth", "fifth", "sixth"];
    write("six.html", named(&labels.into_iter().zip(&six).collect::<Vec<_>>()));
    write("empty.html", named(&[("corelane", &empty())]));
    let text = [run(), limited.clone(), empty()].map(|run| super::terminal::run(&run)).join("\n");
    write("terminal.txt", text + "\n" + &super::terminal::runs(&[run(), run(), peer(), limited, empty()]));
    let mut run = run();
    run.intervals[5].latency = Latency::of(&histogram());
    write("run.hlog", super::hlog(&run).unwrap());
    write("run.hgrm", super::hgrm(&run.latency.histogram().unwrap()));
    write("run.histogram", run.latency.histogram_ns);
    write("empty.histogram", Latency::of(&histogram()).histogram_ns);
}
