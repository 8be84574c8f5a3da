//! How much worse a metric may be.

use serde::Serialize;

use crate::{
    error::LoadError,
    metric::{Better, Metric},
};

/// The change for the worse that is still fine, by metric, as a fraction of the baseline.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Thresholds {
    /// Median latency.
    pub p50: f64,
    /// 95th percentile of latency.
    pub p95: f64,
    /// 99th percentile of latency.
    pub p99: f64,
    /// Replies per second. In an open loop below saturation they are only the schedule; a server that falls behind it
    /// is found all the same.
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

/// One metric of a run, and how much worse it may be.
pub(super) struct Gate {
    pub(super) metric: Metric,
    pub(super) better: Better,
    /// A fraction of the baseline.
    pub(super) threshold: f64,
    /// Whether the generator's speed shows in it.
    pub(super) of_time: bool,
}

impl Thresholds {
    /// One threshold for everything that is a matter of time: latencies and throughput.
    ///
    /// # Errors
    /// When it is not between 0 and 1: throughput cannot fall by more than all of it, so such a gate could not fail.
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
    /// Which change is the limit: +10 % where lower is better, −10 % where higher is.
    pub(super) fn signed_threshold(&self) -> f64 {
        match self.better {
            Better::Lower => self.threshold,
            Better::Higher => -self.threshold,
        }
    }
}
