//! Time of a validation with a compiled validator, and of one that compiles it, in this process.
//!
//! They are measured with the validator, the parser and the allocator of the server, on the schema and the arguments of the
//! workload of `schema_cache`. On the wire the difference is a part of a request.

use std::{hint::black_box, time::Duration};

use corelane::{
    Limits,
    internals::schema::{Validation, Validator},
};

use crate::{
    error::LoadError,
    payloads,
    stages::{BATCH, on_core, on_tape, times_ns},
    statistics::median,
};

/// Name of the figure.
pub(super) const VALIDATION: &str = "validation_p50_ns";

/// Number of fields, as of the workload.
const FIELDS: usize = 20;
/// Measured time.
const LENGTH: Duration = Duration::from_millis(100);

/// Median time of a validation on this core, in nanoseconds. `is_cached`: with a validator that was compiled before.
pub(super) fn p50_ns(is_cached: bool, core: usize) -> Result<f64, LoadError> {
    let measured = on_core(core, move || times(is_cached))?;
    let median = measured.and_then(|times| median(&times));
    median.ok_or_else(|| LoadError::Resource("validation was not measured: it came out wrong".to_owned()))
}

/// `None` if the schema cannot be compiled or the arguments do not satisfy it.
fn times(is_cached: bool) -> Option<Vec<f64>> {
    let (schema, limits) = (payloads::mixed_schema(FIELDS), Limits::default());
    let cached = Validator::compile(&schema, &limits).ok()?;
    on_tape(&payloads::mixed(FIELDS), |arguments| match is_cached {
        true => times_ns(LENGTH, BATCH, || cached.validate(black_box(arguments)) == Validation::Valid),
        false => times_ns(LENGTH, 1, || {
            Validator::compile(black_box(&schema), &limits)
                .is_ok_and(|compiled| compiled.validate(black_box(arguments)) == Validation::Valid)
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compiling_takes_longer_than_validating() {
        let [cached, compiled] = [true, false].map(|is_cached| p50_ns(is_cached, 0).unwrap());
        assert!(cached > 0.0 && compiled > cached * 2.0, "{cached} {compiled}");
    }
}
