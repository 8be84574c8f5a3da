//! Work of matching a pattern.

use std::collections::HashSet;

use jsonschema_regex::to_rust_regex;
use regex_automata::{
    Anchored, Input,
    hybrid::dfa::{Builder, Cache, Config, DFA},
    nfa::thompson::{self, NFA},
};

use super::units::{
    BACKTRACK_STEP, BLOCK_BYTES, BYTES_PER_STEP, DFA_BYTE, MATCH, NFA_STATE, NFA_STATE_BYTE, PATTERN_BYTE,
};
use crate::config::SchemaLimits;

/// Maximum memory of the states of a deterministic automaton, in bytes: half of what the linear-time engine keeps, so that it never
/// discards a state.
const DFA_BYTES_MAX: usize = 1024 * 1024;

/// Maximum work of exploring an automaton: transitions times states of the nondeterministic one. Takes a few milliseconds.
const EXPLORING_WORK_MAX: usize = 500_000;

/// Work of one match, as a function of the length of the string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MatchWork {
    pub(super) fixed: u64,
    /// Per 64 bytes of the string.
    pub(super) per_block: u64,
}

impl MatchWork {
    /// The work of matching `pattern`.
    ///
    /// The linear-time engine makes an automaton deterministic while it matches. Where that automaton is small, a byte of the string takes
    /// one transition. Otherwise the engine falls back to following all states of the nondeterministic automaton: its size
    /// times the length of the string. The backtracking engine stops after `backtrack_steps_max` steps.
    pub(super) fn of(pattern: &str, limits: &SchemaLimits) -> Self {
        let translated = to_rust_regex(pattern).unwrap_or(pattern.into());
        let build = |is_reverse| {
            let config =
                thompson::Config::new().nfa_size_limit(Some(limits.pattern_bytes_max)).reverse(is_reverse);
            thompson::Compiler::new().configure(config).build(&translated).ok()
        };
        // The library tries literals first, one after the other.
        let fixed = MATCH + PATTERN_BYTE * pattern.len() as u64;
        let Some(forward) = build(false) else { return Self::backtracking(limits) };
        let states = forward.states().len() as u64;
        // The engine may search from the end, except where the beginning is fixed.
        let reverse = if forward.is_always_start_anchored() { None } else { build(true) };
        let is_small = has_small_dfa(forward) && reverse.is_none_or(has_small_dfa);
        let per_byte = if is_small { DFA_BYTE } else { states.saturating_mul(NFA_STATE_BYTE) };
        Self {
            fixed: fixed.saturating_add(if is_small { 0 } else { states * NFA_STATE }),
            per_block: per_byte.saturating_mul(BLOCK_BYTES),
        }
    }

    fn backtracking(limits: &SchemaLimits) -> Self {
        let steps = (limits.backtrack_steps_max as u64).saturating_mul(BACKTRACK_STEP);
        Self { fixed: steps, per_block: steps.saturating_mul(BLOCK_BYTES) / BYTES_PER_STEP as u64 }
    }
}

/// Whether the deterministic automaton of `nfa` has few states and is defined for every byte.
fn has_small_dfa(nfa: NFA) -> bool {
    let states = nfa.states().len();
    let config = Config::new()
        .cache_capacity(DFA_BYTES_MAX)
        .skip_cache_capacity_check(true)
        .unicode_word_boundary(true)
        // The exploration ends where the cache would be cleared.
        .minimum_cache_clear_count(Some(0));
    let Ok(dfa) = Builder::new().configure(config).build_from_nfa(nfa) else { return false };
    let transitions_max = EXPLORING_WORK_MAX / states.max(1);
    explore(&dfa, &mut dfa.create_cache(), transitions_max).is_some()
}

/// Computes every state; `None` where the limit or the cache is exceeded, or a byte has no transition.
fn explore(dfa: &DFA, cache: &mut Cache, transitions_max: usize) -> Option<()> {
    let mut stack = Vec::new();
    // The start depends on the character before it.
    for (text, start) in [("a", 0), ("a ", 1), ("\na", 1), (" a", 1), ("\r\na", 1), ("\ra", 1), ("éa", 2)] {
        for anchored in [Anchored::No, Anchored::Yes] {
            let input = Input::new(text).span(start..text.len()).anchored(anchored);
            stack.push(dfa.start_state_forward(cache, &input).ok()?);
        }
    }
    let mut seen: HashSet<_> = stack.iter().copied().collect();
    let bytes: Vec<_> =
        dfa.byte_classes().representatives(0..=u8::MAX).filter_map(|unit| unit.as_u8()).collect();
    let mut transitions = 0;
    while let Some(state) = stack.pop() {
        transitions += bytes.len();
        if transitions > transitions_max {
            return None;
        }
        dfa.next_eoi_state(cache, state).ok()?;
        for byte in &bytes {
            let next = dfa.next_state(cache, state, *byte).ok()?;
            if next.is_quit() {
                return None;
            }
            // The search ends at the first match.
            if !next.is_dead() && !next.is_match() && seen.insert(next) {
                stack.push(next);
            }
        }
    }
    Some(())
}
