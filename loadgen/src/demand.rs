//! Demands on a run: `p99<1ms`, `errors=0`, `throughput>100000`.

use std::{str::FromStr, time::Duration};

use crate::result::{Check, Outcome, Run};

/// Checks a run against all demands. An interrupted run is not checked.
#[must_use]
pub fn check_all(demands: &[Demand], run: &Run) -> Vec<Check> {
    if run.outcome == Outcome::Interrupted {
        return Vec::new();
    }
    demands.iter().map(|demand| demand.check(run)).collect()
}

/// One demand on a run's result.
#[derive(Clone, Debug, PartialEq)]
pub struct Demand {
    text: String,
    quantity: Quantity,
    limit: f64,
    /// Divisor that converts the measured value to the unit of the demand.
    unit: f64,
}

#[derive(Clone, Debug, PartialEq)]
enum Quantity {
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
                "{text:?} is not a demand; use p50, p90, p95, p99, p99.9, p99.99 or max as in p99<1ms, errors as in errors<0.1% or errors=0, throughput as in throughput>1000"
            )
        };
        let split = text.find(['<', '>', '=']).ok_or_else(usage)?;
        let (name, rest) = text.split_at(split);
        let operator = rest.chars().next().unwrap_or('=');
        let value = rest.trim_start_matches(['<', '>', '=']).trim();
        let (quantity, limit, unit) = match name.trim() {
            "errors" if operator != '>' => {
                let (number, unit) = value.strip_suffix('%').map_or((value, 1.0), |number| (number, 0.01));
                (Quantity::Errors, number.trim().parse::<f64>().map_err(|_| usage())? * unit, unit)
            }
            "throughput" if operator != '<' => {
                (Quantity::Throughput, value.parse().map_err(|_| usage())?, 1.0)
            }
            name @ ("p50" | "p90" | "p95" | "p99" | "p99.9" | "p99.99" | "max") if operator != '>' => {
                let limit: Duration = humantime::parse_duration(value).map_err(|_| usage())?;
                let unit = microseconds_of_unit(value).ok_or_else(usage)?;
                (Quantity::Latency(name.to_owned()), limit.as_secs_f64() * 1e6, unit)
            }
            _ => return Err(usage()),
        };
        Ok(Self { text: text.to_owned(), quantity, limit, unit })
    }
}

impl Demand {
    /// The demand as the user wrote it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Checks a run. A latency demand fails if there were no replies.
    #[must_use]
    pub fn check(&self, run: &Run) -> Check {
        let measured = match &self.quantity {
            Quantity::Latency(name) => run.latency.named(name).unwrap_or(0.0),
            Quantity::Errors => run.errors_total() as f64 / (run.requests_count.max(1)) as f64,
            Quantity::Throughput => run.throughput_per_s,
        };
        let passed = match self.quantity {
            Quantity::Throughput => measured >= self.limit,
            Quantity::Errors => measured <= self.limit,
            Quantity::Latency(_) => run.latency.count > 0 && measured <= self.limit,
        };
        Check { demand: self.text.clone(), measured: measured / self.unit, passed }
    }
}

/// The last unit of a duration, as `ms` of `1ms`, in microseconds.
fn microseconds_of_unit(time: &str) -> Option<f64> {
    let unit =
        time.rsplit(|character: char| character.is_ascii_digit() || character.is_whitespace()).next()?;
    let one = humantime::parse_duration(&format!("1{unit}")).ok()?;
    Some(one.as_secs_f64() * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demands_are_parsed_and_invalid_ones_rejected() {
        for text in ["p99<1ms", "p99=1ms", "p99.9<=30us", "errors=0", "errors<0.1%", "throughput>1000"] {
            assert!(text.parse::<Demand>().is_ok(), "{text}");
        }
        for text in ["p98<1ms", "p99>1ms", "p99<1", "errors", "throughput<5", ""] {
            assert!(text.parse::<Demand>().is_err(), "{text}");
        }
        assert_eq!("p99=1.5ms".parse::<Demand>().err(), None);
    }

    #[test]
    fn measured_value_of_a_check_has_the_unit_of_its_demand() {
        let mut run = crate::sample::run("discover", "corelane");
        run.latency.p99_us = 1_500.0;
        run.requests_count = 1_000;
        run.errors_count = [("timeout".to_owned(), 5)].into();
        for (demand, measured, passed) in [
            ("p99<1ms", 1.5, false),
            ("p99<2ms", 1.5, true),
            ("p99<1s", 0.0015, true),
            ("p99<900us", 1_500.0, false),
            ("p99<1s 2ms", 1.5, true),
            ("errors<1%", 0.5, true),
            ("errors=0", 0.005, false),
        ] {
            let check = demand.parse::<Demand>().unwrap().check(&run);
            assert!((check.measured - measured).abs() < 1e-9, "{check:?}");
            assert_eq!(check.passed, passed, "{check:?}");
        }
    }
}
