//! Thresholds of a comparison.

use serde::Serialize;

use crate::{
    error::LoadError,
    metric::{Better, Metric},
};

/// Accepted change for the worse by metric, as a fraction of the baseline.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Thresholds {
    /// Median latency.
    pub p50: f64,
    /// 95th percentile of latency.
    pub p95: f64,
    /// 99th percentile of latency.
    pub p99: f64,
    /// Replies per second. In an open loop below saturation they equal the schedule's rate, unless the server falls
    /// behind.
    pub throughput: f64,
    /// Memory per connection.
    pub memory: f64,
    /// Instructions per operation.
    pub instructions: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { p50: 0.10, p95: 0.15, p99: 0.20, throughput: 0.10, memory: 0.20, instructions: 0.02 }
    }
}

/// A metric of a run and its threshold.
pub(super) struct Gate {
    pub(super) metric: Metric,
    pub(super) better: Better,
    /// Accepted change for the worse, as a fraction of the baseline.
    pub(super) threshold: f64,
    /// Whether the metric depends on the generator's speed.
    pub(super) of_time: bool,
}

impl Thresholds {
    /// Sets one threshold for latencies and throughput.
    ///
    /// # Errors
    /// When it is not between 0 and 1: throughput cannot fall by more than 1, so that the gate could not fail.
    pub fn with_times(self, fraction: f64) -> Result<Self, LoadError> {
        if !(fraction > 0.0 && fraction < 1.0) {
            return Err(LoadError::Usage(format!(
                "a threshold is a fraction between 0 and 1, as 0.10 for 10 %, not {fraction}"
            )));
        }
        Ok(Self { p50: fraction, p95: fraction, p99: fraction, throughput: fraction, ..self })
    }

    pub(super) fn gates(&self) -> [Gate; 5] {
        let latency = |name: &str, threshold| Gate {
            metric: Metric::Latency(name.to_owned()),
            better: Better::Lower,
            threshold,
            of_time: true,
        };
        [
            latency("p50", self.p50),
            latency("p95", self.p95),
            latency("p99", self.p99),
            Gate {
                metric: Metric::Throughput,
                better: Better::Higher,
                threshold: self.throughput,
                of_time: true,
            },
            Gate {
                metric: Metric::Figure("memory_per_connection_bytes".to_owned()),
                better: Better::Lower,
                threshold: self.memory,
                of_time: false,
            },
        ]
    }
}

impl Gate {
    /// The threshold with a sign: +10 % if lower is better, −10 % if higher is better.
    pub(super) fn signed_threshold(&self) -> f64 {
        match self.better {
            Better::Lower => self.threshold,
            Better::Higher => -self.threshold,
        }
    }
}
