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
mod weights;

pub(super) use estimate::Model;
pub(super) use pattern::BYTES_PER_STEP;

/// Work of one visited value, as counted while a validation runs. Less than what is computed before, which remains the tighter bound.
pub(super) const VISITED_VALUE: usize = 4;

/// Visited values that cost as much as a step of the backtracking engine.
pub(super) const VALUES_PER_STEP: usize = weights::BACKTRACK_STEP as usize / VISITED_VALUE;

/// Bytes that the weights of strings refer to.
const BLOCK_BYTES_LOG2: u32 = 6;

/// Work of `bytes` at a weight per 64 bytes.
#[inline]
fn work_of_bytes(bytes: usize, per_block: u64) -> u64 {
    (bytes as u64).saturating_mul(per_block) >> BLOCK_BYTES_LOG2
}

#[cfg(test)]
mod tests;
