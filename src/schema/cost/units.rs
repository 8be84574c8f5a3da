//! The unit of work, and the work of a match.

/// Work of one visited value, as counted while a validation runs. Less than what is computed before, which remains the tighter bound.
pub(in crate::schema) const VISITED_VALUE: usize = 4;

/// Visited values that cost as much as a step of the backtracking engine.
pub(in crate::schema) const VALUES_PER_STEP: usize = BACKTRACK_STEP as usize / VISITED_VALUE;

/// Bytes of a string that cost one more of each step of the backtracking engine, because a step may scan the rest of the string with
/// the linear-time engine.
pub(in crate::schema) const BYTES_PER_STEP: usize = 256;

/// Bytes that the weights of strings refer to.
pub(super) const BLOCK_BYTES: u64 = 64;

/// Work of `bytes` at a weight per 64 bytes.
#[inline]
pub(super) fn work_of_bytes(bytes: usize, per_block: u64) -> u64 {
    (bytes as u64).saturating_mul(per_block) / BLOCK_BYTES
}

/// A match.
pub(super) const MATCH: u64 = 25;
/// A byte of the pattern, which may be a list of literals.
pub(super) const PATTERN_BYTE: u64 = 1;
/// A byte of the string, matched by a deterministic automaton.
pub(super) const DFA_BYTE: u64 = 3;
/// A state of a nondeterministic automaton, for each match.
pub(super) const NFA_STATE: u64 = 2;
/// A state of a nondeterministic automaton, for each byte of the string.
pub(super) const NFA_STATE_BYTE: u64 = 16;
/// A step of the backtracking engine.
pub(super) const BACKTRACK_STEP: u64 = 25;
