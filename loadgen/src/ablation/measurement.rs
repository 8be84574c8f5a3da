//! What is measured with a flag on and off: a workload, and the metric in which the flag shows.

use std::time::Duration;

use corelane::Flag;

use crate::{
    metric::{Better, Metric},
    request::Operation,
    schedule::Gaps,
    workloads::{Workload, WorkloadPacing, by_id, planted},
};

/// A workload and its metric.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// The workload.
    pub workload: Workload,
    /// The metric.
    pub metric: Metric,
    /// The direction of improvement.
    pub better: Better,
}

/// Figure of a closed loop whose server does not spin.
const PER_CORE_SECOND: &str = "requests_per_core_second";
/// Connections of the closed loops.
const CONNECTIONS: u32 = 64;
/// Connections of the measurement of [`Flag::ServerPooling`].
const MANY_CONNECTIONS: u32 = 1_000;

impl Measurement {
    /// The canonical workload on one shard: all flags but `server_pooling` act on it.
    #[must_use]
    pub fn canonical() -> Self {
        Self::per_core_second(named("canonical_closed_64"))
    }

    /// The workload in which a flag matters most.
    #[must_use]
    pub fn fitting(flag: Flag) -> Self {
        match flag {
            Flag::SchemaCache => Self::per_core_second(closed(
                "closed_schema_20",
                "arguments of 20 fields with rules",
                named("schema_medium").operations,
            )),
            Flag::JsonBackend => Self::per_core_second(closed(
                "closed_json_100",
                "JSON of 100 fields there and back",
                named("json_large").operations,
            )),
            Flag::ZeroCopy => Self::per_core_second(closed(
                "closed_body_64kib",
                "a text of 64 KiB there and back",
                vec![(
                    Operation::Tool {
                        name: "echo".to_owned(),
                        arguments: format!(r#"{{"message":"{{{{pad:{}}}}}"}}"#, 64 * 1024),
                    },
                    1,
                )],
            )),
            Flag::AsyncTools => Self {
                workload: named("async_100x5ms_lines"),
                metric: Metric::Figure("makespan_ms".to_owned()),
                better: Better::Lower,
            },
            Flag::BatchNotifications => Self {
                workload: named("fanout_1k"),
                metric: Metric::Figure("last_socket_p95_us".to_owned()),
                better: Better::Lower,
            },
            Flag::ServerPooling => Self {
                workload: Workload {
                    connections: MANY_CONNECTIONS,
                    ..closed(
                        "closed_connections_1k",
                        "the canonical request, 1,000 connections",
                        named("canonical_closed_64").operations,
                    )
                },
                metric: Metric::Throughput,
                better: Better::Higher,
            },
        }
    }

    /// The measurement that finds a delay which is injected into the server.
    #[must_use]
    pub fn planted() -> Self {
        // A rate at which the delay occupies a fifth of the server.
        let pace = WorkloadPacing::Open(100.0, Gaps::Constant);
        Self {
            workload: Workload { pace, ..planted() },
            metric: Metric::Latency("p50".to_owned()),
            better: Better::Lower,
        }
    }

    fn per_core_second(workload: Workload) -> Self {
        Self { workload, metric: Metric::Figure(PER_CORE_SECOND.to_owned()), better: Better::Higher }
    }

    /// The same measurement at a scale of its connections and calls in flight, and of this length. Rates stay, because a
    /// fraction of ten updates a second is none.
    #[must_use]
    pub fn scaled(mut self, scale: f64, duration: Duration) -> Self {
        let workload = &mut self.workload;
        if let WorkloadPacing::Open(rate, _) = &mut workload.pace {
            *rate /= scale;
        }
        workload.pipeline = match workload.pipeline {
            1 => 1,
            calls => ((f64::from(calls) * scale).round() as u32).max(2),
        };
        workload.warmup = workload.warmup.min(duration / 2);
        self
    }
}

/// The measurement of a workload of an ablation.
#[must_use]
pub fn of_workload(id: &str) -> Option<Measurement> {
    let fitting = Flag::ALL.iter().map(|flag| Measurement::fitting(*flag));
    let others = [Measurement::canonical(), Measurement::planted()];
    others.into_iter().chain(fitting).find(|measurement| measurement.workload.id == id)
}

fn closed(id: &'static str, description: &'static str, operations: Vec<(Operation, u32)>) -> Workload {
    Workload { id, description, operations, connections: CONNECTIONS, ..named("canonical_closed_64") }
}

/// A named workload. A test checks that all of them exist.
fn named(id: &str) -> Workload {
    by_id(id).unwrap_or_else(crate::workloads::slow_tools)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flag_has_a_workload_of_its_own() {
        let mut ids: Vec<&str> =
            Flag::ALL.iter().map(|flag| Measurement::fitting(*flag).workload.id).collect();
        ids.push(Measurement::canonical().workload.id);
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), Flag::ALL.len() + 1);
        assert!(!ids.contains(&"slow_tools"), "a workload does not exist");
        assert!(ids.iter().all(|id| of_workload(id).is_some_and(|found| found.workload.id == *id)));
        assert!(of_workload("burst").is_none());
    }

    #[test]
    fn scale_changes_calls_in_flight_and_not_the_rate() {
        let second = Duration::from_secs(1);
        let calls = Measurement::fitting(Flag::AsyncTools).scaled(0.1, second).workload;
        assert_eq!((calls.pipeline, calls.warmup), (10, second / 2));
        let updates = Measurement::fitting(Flag::BatchNotifications).scaled(0.1, second).workload;
        let WorkloadPacing::Open(rate, _) = updates.pace else { panic!("{:?}", updates.pace) };
        // The suite multiplies it by the scale.
        assert!((rate * 0.1 - 10.0).abs() < 1e-9);
    }
}
