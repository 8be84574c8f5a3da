//! The named workloads. Ids and parameters are stable, so that results can be compared over time.

use std::time::Duration;

use crate::{
    engine::Pacing,
    fault_injection, payloads,
    request::{Era, Operation},
    schedule::{Gaps, Segment},
};

/// A workload: operations, connections and timing.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Unique id.
    pub id: &'static str,
    /// Description for people.
    pub description: &'static str,
    /// Protocol revision.
    pub era: Era,
    /// Operations and their weights.
    pub operations: Vec<(Operation, u32)>,
    /// Timing of the requests.
    pub pace: WorkloadPacing,
    /// Number of connections.
    pub connections: u32,
    /// Maximum number of requests in flight on one connection.
    pub pipeline: u32,
    /// Whether the messages are newline-delimited JSON over TCP.
    pub is_lines: bool,
    /// Duration of a single run.
    pub duration: Duration,
    /// Duration as a part of a suite.
    pub brief: Duration,
    /// Load time before measuring.
    pub warmup: Duration,
    /// Number of shards that the server should have: a ring's table holds fewer than 20,000 connections.
    pub shards: usize,
    /// Kind of run.
    pub kind: WorkloadKind,
}

/// The kind of run that a workload needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkloadKind {
    /// One run.
    Plain,
    /// One run, beside a thousand slow calls.
    BesideSlowTools,
    /// Idle connections, then throughput beside them.
    Idle,
    /// Updates to subscribers.
    FanOut,
}

/// Timing of the requests at full size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum WorkloadPacing {
    /// As [`Pacing::Closed`].
    Closed,
    /// As [`Pacing::Volley`].
    Volley,
    /// This many requests per second.
    Open(f64, Gaps),
    /// Two rates in requests per second: a third of the time at the first, a third at the second, a third at the first
    /// again.
    Burst(f64, f64),
}

impl WorkloadPacing {
    /// Returns the pacing at a scale, for a run of this length.
    #[must_use]
    pub fn pacing(self, scale: f64, warmup: Duration, duration: Duration) -> Pacing {
        let (warmup_s, duration_s) = (warmup.as_secs_f64(), duration.as_secs_f64());
        match self {
            Self::Closed => Pacing::Closed,
            Self::Volley => Pacing::Volley,
            Self::Open(rate, gaps) => Pacing::steady(warmup + duration, rate * scale, gaps),
            Self::Burst(usual, burst) => {
                let part = duration_s / 3.0;
                let steps = [(warmup_s + part, usual), (part, burst), (part, usual)];
                let segments = steps.map(|(length_s, rate)| Segment::steady(length_s, rate * scale));
                Pacing::Open(segments.to_vec(), Gaps::Constant)
            }
        }
    }
}

/// Requests per second of the workloads whose latency has a budget: far below the capacity of a core.
const LIGHT_RATE_PER_S: f64 = 10_000.0;

fn tool(name: &str, arguments: impl Into<String>) -> Operation {
    Operation::Tool { name: name.to_owned(), arguments: arguments.into() }
}

/// All workloads, in the order in which they are listed and run.
#[must_use]
pub fn all() -> Vec<Workload> {
    [
        closed_loops(),
        payloads_at_light_load(),
        methods_at_light_load(),
        sustained_loads(),
        waiting_loads(),
        special_loads(),
    ]
    .concat()
}

/// The defaults: the canonical request in a closed loop.
fn base() -> Workload {
    Workload {
        id: "",
        description: "",
        era: Era::Modern,
        operations: vec![(Operation::canonical(), 1)],
        pace: WorkloadPacing::Closed,
        connections: 64,
        pipeline: 1,
        is_lines: false,
        duration: Duration::from_secs(10),
        brief: Duration::from_secs(3),
        warmup: Duration::from_secs(1),
        shards: 1,
        kind: WorkloadKind::Plain,
    }
}

/// The defaults at a rate far below the capacity of a core.
fn light() -> Workload {
    Workload { connections: 16, pace: WorkloadPacing::Open(LIGHT_RATE_PER_S, Gaps::Poisson), ..base() }
}

fn closed_loops() -> Vec<Workload> {
    vec![
        Workload {
            id: "canonical_closed_1",
            description: "the canonical request, 1 connection",
            connections: 1,
            ..base()
        },
        Workload {
            id: "canonical_closed_8",
            description: "the canonical request, 8 connections",
            connections: 8,
            ..base()
        },
        Workload {
            id: "canonical_closed_64",
            description: "the canonical request, 64 connections",
            ..base()
        },
        Workload {
            id: "legacy_closed_64",
            description: "the canonical request at 2025-11-25, 64 connections",
            era: Era::Legacy,
            ..base()
        },
    ]
}

fn payloads_at_light_load() -> Vec<Workload> {
    let mut workloads = Vec::new();
    for (id, description, tool_name, count) in [
        ("tool_call_simple", "a call with 1 string", "strings_1", 1),
        ("tool_call_medium", "a call with 5 strings", "strings_5", 5),
        ("tool_call_complex", "a call with 20 strings", "strings_20", 20),
    ] {
        workloads.push(Workload {
            id,
            description,
            operations: vec![(tool(tool_name, payloads::strings(count)), 1)],
            ..light()
        });
    }
    for (id, description, tool_name, count) in [
        ("json_small", "5 fields there and back", "json_5", 5),
        ("json_medium", "20 fields there and back", "json_20", 20),
        ("json_large", "100 fields there and back", "json_100", 100),
        ("schema_simple", "5 fields with rules", "schema_5", 5),
        ("schema_medium", "20 fields with rules", "schema_20", 20),
        ("schema_complex", "100 fields with rules", "schema_100", 100),
    ] {
        workloads.push(Workload {
            id,
            description,
            operations: vec![(tool(tool_name, payloads::mixed(count)), 1)],
            ..light()
        });
    }
    workloads
}

fn methods_at_light_load() -> Vec<Workload> {
    let workload = |(id, description, era, operation)| Workload {
        id,
        description,
        era,
        operations: vec![(operation, 1)],
        ..light()
    };
    [
        ("initialize", "the older revisions' first request", Era::Legacy, Operation::Initialize),
        ("discover", "server/discover", Era::Modern, Operation::Method("server/discover")),
        ("tools_list", "tools/list", Era::Modern, Operation::Method("tools/list")),
        ("resource_list", "resources/list", Era::Modern, Operation::Method("resources/list")),
        (
            "resource_read",
            "a resource",
            Era::Modern,
            Operation::Resource { uri: "demo://counter".to_owned() },
        ),
        ("prompt_simple", "a prompt without variables", Era::Modern, prompt(0)),
        ("prompt_medium", "a prompt with 10 variables", Era::Modern, prompt(10)),
        ("prompt_complex", "a prompt with 50 variables", Era::Modern, prompt(50)),
    ]
    .map(workload)
    .to_vec()
}

fn sustained_loads() -> Vec<Workload> {
    let seconds = Duration::from_secs;
    let padded = |bytes: usize| vec![(tool("echo", format!(r#"{{"message":"{{{{pad:{bytes}}}}}"}}"#)), 1)];
    vec![
        Workload {
            id: "tcp_burst_100_1kib",
            description: "1 KiB there and back over 100 connections",
            operations: padded(1024),
            connections: 100,
            ..base()
        },
        Workload {
            id: "sustained_10k_1kib",
            description: "1 KiB there and back over 10,000 connections",
            operations: padded(1024),
            connections: 10_000,
            warmup: seconds(2),
            duration: seconds(30),
            ..base()
        },
        Workload {
            id: "sustained_10k_100kib",
            description: "100 KiB there and back over 10,000 connections",
            operations: padded(100 * 1024),
            connections: 10_000,
            warmup: seconds(5),
            duration: seconds(30),
            brief: seconds(5),
            ..base()
        },
        Workload {
            id: "sustained_100k",
            description: "1,000 clients, 100 requests a second each",
            pace: WorkloadPacing::Open(100_000.0, Gaps::Constant),
            connections: 1_000,
            duration: seconds(300),
            brief: seconds(10),
            warmup: seconds(2),
            ..base()
        },
    ]
}

fn special_loads() -> Vec<Workload> {
    let seconds = Duration::from_secs;
    vec![
        Workload {
            id: "burst",
            description: "100,000 requests a second, then 200,000, then back",
            pace: WorkloadPacing::Burst(100_000.0, 200_000.0),
            connections: 1_000,
            duration: seconds(30),
            brief: seconds(15),
            warmup: seconds(2),
            ..base()
        },
        Workload {
            id: "idle_50k",
            description: "50,000 connections, 0.01 requests a second each",
            pace: WorkloadPacing::Open(500.0, Gaps::Poisson),
            connections: 50_000,
            duration: seconds(60),
            brief: seconds(20),
            warmup: seconds(2),
            shards: 3,
            kind: WorkloadKind::Idle,
            ..base()
        },
        fan_out("fanout_1k", "1,000 subscribers, 10 updates a second", 1_000, 10.0, 1),
        fan_out("fanout_10k_10hz", "10,000 subscribers, 10 updates a second", 10_000, 10.0, 2),
        fan_out("fanout_10k_100hz", "10,000 subscribers, 100 updates a second, collapsed", 10_000, 100.0, 2),
        Workload {
            id: "soak",
            description: "a mix for two hours",
            operations: vec![
                (tool("echo", r#"{"message":"{{random:64}}"}"#), 80),
                (tool("add", r#"{"a":1,"b":{{counter}}}"#), 10),
                (tool("digest", r#"{"text":"{{random:32}}"}"#), 3),
                (tool("sleep", r#"{"ms":2}"#), 2),
                (Operation::Method("tools/list"), 5),
            ],
            pace: WorkloadPacing::Open(20_000.0, Gaps::Poisson),
            connections: 200,
            duration: seconds(7200),
            brief: seconds(20),
            ..base()
        },
    ]
}

/// Calls that wait, and requests beside them.
fn waiting_loads() -> Vec<Workload> {
    vec![
        Workload {
            id: "async_100x5ms",
            description: "100 calls of 5 ms at once, over 100 connections",
            operations: vec![(tool("sleep", r#"{"ms":5}"#), 1)],
            pace: WorkloadPacing::Volley,
            connections: 100,
            ..base()
        },
        Workload {
            id: "async_100x5ms_lines",
            description: "100 calls of 5 ms at once, on one newline-delimited connection",
            operations: vec![(tool("sleep", r#"{"ms":5}"#), 1)],
            pace: WorkloadPacing::Volley,
            connections: 1,
            pipeline: 100,
            is_lines: true,
            ..base()
        },
        Workload {
            id: "ping_beside_slow_tools",
            description: "ping while 1,000 slow tools run",
            era: Era::Legacy,
            operations: vec![(Operation::Method("ping"), 1)],
            pace: WorkloadPacing::Open(1_000.0, Gaps::Poisson),
            connections: 8,
            kind: WorkloadKind::BesideSlowTools,
            brief: Duration::from_secs(5),
            ..base()
        },
    ]
}

fn fan_out(
    id: &'static str,
    description: &'static str,
    connections: u32,
    rate: f64,
    shards: usize,
) -> Workload {
    Workload {
        id,
        description,
        era: Era::Modern,
        operations: vec![(tool("touch", r#"{"uri":"demo://counter"}"#), 1)],
        pace: WorkloadPacing::Open(rate, Gaps::Constant),
        connections,
        duration: Duration::from_secs(60),
        brief: Duration::from_secs(10),
        shards,
        kind: WorkloadKind::FanOut,
        ..base()
    }
}

fn prompt(variables: usize) -> Operation {
    Operation::Prompt { name: format!("variables_{variables}"), arguments: payloads::strings(variables) }
}

/// The background load of [`WorkloadKind::BesideSlowTools`]: each connection repeats a call that sleeps.
#[must_use]
pub fn slow_tools() -> Workload {
    Workload {
        id: "slow_tools",
        description: "1,000 calls that sleep",
        operations: vec![(tool("sleep", r#"{"ms":1000}"#), 1)],
        connections: 1_000,
        duration: Duration::ZERO,
        brief: Duration::ZERO,
        warmup: Duration::ZERO,
        ..base()
    }
}

/// The workload of self-tests: calls of the tool that takes the injected delay.
#[must_use]
pub fn planted() -> Workload {
    Workload {
        id: "self_test",
        description: "a tool that takes the planted delay",
        operations: vec![(tool(fault_injection::TOOL, "{}"), 1)],
        pace: WorkloadPacing::Open(500.0, Gaps::Constant),
        connections: 8,
        duration: Duration::from_secs(2),
        brief: Duration::from_secs(2),
        warmup: Duration::from_millis(500),
        ..base()
    }
}

/// The workload with this id.
#[must_use]
pub fn by_id(id: &str) -> Option<Workload> {
    all().into_iter().find(|workload| workload.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workload_ids_are_unique_and_requests_valid() {
        let target = crate::target::Target::parse("http://127.0.0.1/mcp").unwrap();
        let mut ids: Vec<_> = all().iter().map(|workload| workload.id).collect();
        ids.sort_unstable();
        let count = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), count);
        for workload in all() {
            for (operation, weight) in workload.operations {
                crate::request::Request::new(&target, workload.era, operation, weight, false).unwrap();
            }
        }
    }
}
