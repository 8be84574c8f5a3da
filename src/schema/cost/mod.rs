//! Work of a validation, computed before it starts.
//!
//! The unit is about a nanosecond of an optimised build on a core of 3 GHz; `benches/validation_work.rs` compares it with the clock for
//! every keyword. A schema is compiled to the weights of its subschemas ([`weights`], [`pattern`]). Two numbers of the whole schema bound
//! the work of a value without reading it: work per JSON value, and per byte of its strings. Only where this bound exceeds a budget is
//! the value walked along the schema ([`estimate`]).
//!
//! The work is an upper bound: every branch of a combinator, and every subschema of an object or array that may apply to a member, is
//! assumed to be evaluated.

mod estimate;
mod graph;
mod pattern;
mod units;
mod weights;

pub(super) use estimate::Model;
pub(super) use units::{BYTES_PER_STEP, VALUES_PER_STEP, VISITED_VALUE};

#[cfg(test)]
mod tests;
