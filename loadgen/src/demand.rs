//! What is demanded of a run: `p99<1ms`, `errors=0`, `throughput>100000`.

use std::{str::FromStr, time::Duration};

use crate::result::{Check, Run};

/// One demand on a run's result.
#[derive(Clone, Debug, PartialEq)]
pub struct Demand {
    text: String,
    figure: Figure,
    limit: f64,
}

#[derive(Clone, Debug, PartialEq)]
enum Figure {
    /// A percentile of the corrected latency, in microseconds; at most the limit.
    Latency(String),
    /// Errors per request; at most the limit.
    Errors,
    /// Right replies per second; at least the limit.
    Throughput,
}

impl FromStr for Demand {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let usage = || {
            format!(
                "{text:?} is no demand; write p50, p90, p95, p99, p99.9, p99.99 or max as p99<1ms, errors as errors<0.1% or errors=0, throughput as throughput>1000"
            )
        };
        let split = text.find(['<', '>', '=']).ok_or_else(usage)?;
        let (name, rest) = text.split_at(split);
        let operator = rest.chars().next().unwrap_or('=');
        let value = rest.trim_start_matches(['<', '>', '=']).trim();
        let (figure, limit) = match name.trim() {
            "errors" if operator != '>' => {
                let (number, unit) = value.strip_suffix('%').map_or((value, 1.0), |number| (number, 0.01));
                (Figure::Errors, number.trim().parse::<f64>().map_err(|_| usage())? * unit)
            }
            "throughput" if operator != '<' => (Figure::Throughput, value.parse().map_err(|_| usage())?),
            name @ ("p50" | "p90" | "p95" | "p99" | "p99.9" | "p99.99" | "max") if operator != '>' => {
                let limit: Duration = humantime::parse_duration(value).map_err(|_| usage())?;
                (Figure::Latency(name.to_owned()), limit.as_secs_f64() * 1e6)
            }
            _ => return Err(usage()),
        };
        Ok(Self { text: text.to_owned(), figure, limit })
    }
}

impl Demand {
    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Holds a run to it. A latency of no replies holds nothing.
    #[must_use]
    pub fn check(&self, run: &Run) -> Check {
        let measured = match &self.figure {
            Figure::Latency(name) => run.latency.named(name).unwrap_or(0.0),
            Figure::Errors => run.errors_total() as f64 / (run.requests_count.max(1)) as f64,
            Figure::Throughput => run.throughput_per_s,
        };
        let passed = match self.figure {
            Figure::Throughput => measured >= self.limit,
            Figure::Errors => measured <= self.limit,
            Figure::Latency(_) => run.latency.count > 0 && measured <= self.limit,
        };
        Check { demand: self.text.clone(), measured, passed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demands_are_read_or_refused() {
        for text in ["p99<1ms", "p99=1ms", "p99.9<=30us", "errors=0", "errors<0.1%", "throughput>1000"] {
            assert!(text.parse::<Demand>().is_ok(), "{text}");
        }
        for text in ["p98<1ms", "p99>1ms", "p99<1", "errors", "throughput<5", ""] {
            assert!(text.parse::<Demand>().is_err(), "{text}");
        }
        assert_eq!("p99=1.5ms".parse::<Demand>().err(), None);
    }
}
