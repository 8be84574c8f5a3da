//! Sample results for tests.

use std::collections::BTreeMap;

use crate::{
    latency::Latency,
    result::{
        Environment, GeneratorSide, Outcome, Pacing, Parameters, RequestParameters, ResultFile, Run, SCHEMA,
        ServerInfo,
    },
};

/// The median latency of [`run`], in microseconds.
pub(crate) const P50_US: f64 = 200.0;

/// A result file of an idle machine.
pub(crate) fn file(runs: Vec<Run>) -> ResultFile {
    ResultFile {
        schema: SCHEMA.to_owned(),
        started: "2026-11-24T12:00:00Z".to_owned(),
        command_line: ["corelane-loadgen", "baseline"].map(str::to_owned).to_vec(),
        environment: Environment {
            cpu_model: "A Processor".to_owned(),
            cores_count: 2,
            memory_bytes: 8 << 30,
            kernel: "6.1.0-40-amd64".to_owned(),
            generator_version: "0.1.0".to_owned(),
            commit: "0367b34".to_owned(),
            generator_build: "release".to_owned(),
        },
        runs,
        not_run: Vec::new(),
        instructions: None,
        stages: None,
    }
}

/// A closed-loop run without errors.
pub(crate) fn run(workload: &str, contestant: &str) -> Run {
    let latency = Latency {
        count: 1_000_000,
        min_us: 20.0,
        mean_us: 210.0,
        p50_us: P50_US,
        p90_us: 300.0,
        p95_us: 350.0,
        p99_us: 500.0,
        p99_9_us: 900.0,
        p99_99_us: 1_500.0,
        max_us: 4_000.0,
        histogram_ns: String::new(),
    };
    Run {
        workload: workload.to_owned(),
        contestant: contestant.to_owned(),
        parameters: Parameters {
            era: "2026-07-28".to_owned(),
            pacing: Pacing::Closed,
            connections_count: 64,
            pipeline_depth: 1,
            threads_count: 1,
            duration_s: 10.0,
            warmup_s: 1.0,
            requests: vec![echo()],
            scale: 1.0,
        },
        server: ServerInfo {
            url: "http://127.0.0.1:8080/mcp".to_owned(),
            name: contestant.to_owned(),
            version: "0.1.0".to_owned(),
            commit: None,
            limits: BTreeMap::new(),
            flags: BTreeMap::new(),
            flag_shares: BTreeMap::new(),
            flags_changed: Vec::new(),
        },
        outcome: Outcome::Complete,
        began_unix_s: 1_795_521_600.0,
        measured_s: 10.0,
        requests_count: 1_400_000,
        replies_count: 1_400_000,
        errors_count: BTreeMap::new(),
        first_error: None,
        reconnects_count: 0,
        resent_count: 0,
        throughput_per_s: 140_000.0,
        sent_bytes: 980_000_000,
        received_bytes: 400_000_000,
        latency: latency.clone(),
        latency_uncorrected: latency,
        requests: Vec::new(),
        intervals: Vec::new(),
        generator: GeneratorSide {
            cores: vec![1],
            busy_percent: 70.0,
            cpu_percent: 100.0,
            schedule_lag: Latency::default(),
            bottleneck: None,
        },
        server_process: None,
        server_latencies: Vec::new(),
        figures: BTreeMap::new(),
        checks: Vec::new(),
    }
}

fn echo() -> RequestParameters {
    RequestParameters { name: "tools/call echo".to_owned(), weight: 1, request_bytes: 700, arguments: None }
}
