//! Compiled schemas.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use jsonschema::{Draft, PatternOptions};
use serde_json::Value;

use super::{
    backtracking::{Backtracking, compile_ahead},
    bounds::Bounds,
    cost::{Model, VISITED_VALUE},
    error::{SchemaError, Violation, is_about_a_pattern},
    explain::{self, KnownNames},
    tape::{TapeJson, is_exhausted, with_match_costs, with_whole_copies, with_work},
};
use crate::{
    config::{Limits, SchemaLimits},
    json::{Decoder, Node},
};

/// Number of schemas compiled since the process started, including rejected ones.
static COMPILED: AtomicU64 = AtomicU64::new(0);

/// Number of schemas compiled since the process started, including rejected ones.
#[must_use]
pub fn compiled() -> u64 {
    COMPILED.load(Ordering::Relaxed)
}

/// A compiled schema: draft 2020-12, or 2019-09, 7, 6 or 4 if `$schema` names it
/// (<https://modelcontextprotocol.io/specification/2026-07-28/basic#schema-dialect>). Patterns match in linear time unless backtracking is
/// enabled; references to the network or to files are rejected. A clone shares the compiled schema.
#[derive(Clone)]
pub struct Validator {
    compiled: jsonschema::Validator<TapeJson>,
    /// Whether it has regular expressions, whose scratch space threads would contend for.
    has_state: bool,
    /// Property names, for messages.
    known: Arc<KnownNames>,
    subschemas: usize,
    work_max: u64,
    /// [`Self::work_max`] in visited values, for the count while a validation runs.
    visits_max: usize,
    cost: Arc<Model>,
    /// Additional checks, which few schemas need.
    extra: Option<Arc<Extra>>,
    source: Option<Arc<Source>>,
}

/// The schema that a validator was compiled from.
struct Source {
    /// Shared with the cache.
    text: Arc<str>,
    limits: SchemaLimits,
}

/// Data for the checks of a value before its validation.
struct Extra {
    /// [`Bounds::recursive`].
    recursive: Option<usize>,
    backtracking: Option<Backtracking>,
}

/// Result of a validation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validation {
    /// The value is valid.
    Valid,
    /// The value is invalid.
    Invalid,
    /// The validation exceeds the limit of its work.
    BudgetExceeded,
}

/// Maximum number of reported violations.
const VIOLATIONS_MAX: usize = 16;

/// Maximum product of the depth of a recursive schema and the depth of a value. The library recurses through the schema for each
/// level of the value. This many levels take less than half of a shard's stack of 2 MiB, even without optimisation.
const VALIDATING_LEVELS_MAX: usize = 4096;

/// As [`VALIDATING_LEVELS_MAX`], for collecting violations.
const EXPLAINING_LEVELS_MAX: usize = 1024;

/// Maximum work of collecting violations, in visited values, unless twice the value's size is more. Of two recursive branches the
/// library explains each within each, so that the work doubles with every level of the value.
const EXPLAINING_WORK_MAX: usize = 50_000;

/// Upper bound of the time of collecting violations, as a multiple of that of validating: each violation is formatted.
const EXPLAINING_FACTOR: u64 = 25;

/// Values whose violations of a recursive schema are collected on a shard.
const EXPLAINED_INLINE_MAX: usize = 64;

/// Padding that the decoder needs after its input, in bytes.
const PADDING_BYTES: usize = 64;

impl Validator {
    /// Compiles a schema.
    ///
    /// # Errors
    /// The schema is invalid, exceeds a limit, has an unknown dialect, or refers to another document.
    pub fn compile(schema: &Value, limits: &Limits) -> Result<Self, SchemaError> {
        Self::compile_within(schema, &limits.schema(), false)
    }

    /// Compiles a schema whose `format` keywords are validated in every dialect.
    ///
    /// # Errors
    /// As [`Validator::compile`].
    pub fn with_formats(schema: &Value, limits: &SchemaLimits) -> Result<Self, SchemaError> {
        Self::compile_within(schema, limits, true)
    }

    pub(super) fn compile_within(
        schema: &Value,
        limits: &SchemaLimits,
        checks_formats: bool,
    ) -> Result<Self, SchemaError> {
        COMPILED.fetch_add(1, Ordering::Relaxed);
        let Bounds { subschemas, recursive } = Bounds::of(schema, limits).map_err(SchemaError::at_root)?;
        if Draft::default().detect(schema) == Draft::Unknown {
            let dialect = schema.get("$schema").and_then(Value::as_str).unwrap_or_default();
            return Err(SchemaError::unknown_dialect(dialect));
        }
        let options = || {
            let options = jsonschema::options_for::<TapeJson>().offline();
            if checks_formats { options.should_validate_formats(true) } else { options }
        };
        let linear = PatternOptions::regex().size_limit(limits.pattern_bytes_max);
        let mut backtracking = None;
        let compiled = match options().with_pattern_options(linear).build(schema) {
            Err(error) if limits.backtracking && is_about_a_pattern(&error) => {
                backtracking = Some(Backtracking::of(schema, limits));
                let patterns = PatternOptions::fancy_regex()
                    .size_limit(limits.pattern_bytes_max)
                    .backtrack_limit(limits.backtrack_steps_max);
                let cache = compile_ahead(schema);
                options().with_pattern_options(patterns).with_pattern_cache(cache).build(schema)
            }
            built => built,
        };
        let compiled = compiled.map_err(|error| SchemaError::from_library(&error, limits.backtracking))?;
        let extra = (recursive.is_some() || backtracking.is_some())
            .then(|| Arc::new(Extra { recursive, backtracking }));
        let has_state = has_patterns(schema);
        let known = Arc::new(explain::known_names(schema));
        let cost = Arc::new(Model::of(schema, limits));
        let (work_max, visits_max) = (limits.work_max as u64, limits.work_max / VISITED_VALUE);
        Ok(Self { compiled, has_state, known, subschemas, work_max, visits_max, cost, extra, source: None })
    }

    /// Keeps the text of the schema, for [`Self::compiled_again`].
    pub(super) fn with_source(self, text: Arc<str>, limits: SchemaLimits) -> Self {
        Self { source: Some(Arc::new(Source { text, limits })), ..self }
    }

    /// A validator of the same schema, compiled now: the fallback of the schema cache. `None` if the schema was not compiled through
    /// the cache.
    #[cold]
    #[must_use]
    pub fn compiled_again(&self) -> Option<Self> {
        let Source { text, limits } = self.source.as_deref()?;
        let schema = serde_json::from_str(text).ok()?;
        Self::compile_within(&schema, limits, false).ok()
    }

    /// Whether concurrent use by several threads would contend for inner state.
    pub(super) fn has_state(&self) -> bool {
        self.has_state
    }

    /// Upper bound of the number of subschemas, including the root. One that is referred to several times counts once.
    #[must_use]
    pub fn subschemas(&self) -> usize {
        self.subschemas
    }

    /// Upper bound of [`Self::work`] for a value with the node count of `value` and at most `bytes` of strings. Does not read the
    /// value.
    #[inline]
    #[must_use]
    pub fn work_bound(&self, value: Node<'_>, bytes: usize) -> u64 {
        self.cost.bound(value.node_count(), bytes)
    }

    /// The work of validating the value, in units of about a nanosecond; `None` if it exceeds `work_max`.
    #[must_use]
    pub fn work(&self, value: Node<'_>, work_max: u64) -> Option<u64> {
        self.cost.work(value, work_max)
    }

    /// Whether the value is valid; stops at the first violation. Returns `false` if the validation exceeds the limit of its work.
    #[must_use]
    pub fn is_valid(&self, value: Node<'_>) -> bool {
        self.validate(value) == Validation::Valid
    }

    /// Validates the value.
    #[must_use]
    pub fn validate(&self, value: Node<'_>) -> Validation {
        match &self.extra {
            None => self.validate_directly(value),
            Some(extra) => self.validate_with(extra, value),
        }
    }

    #[inline]
    fn validate_directly(&self, value: Node<'_>) -> Validation {
        with_work(self.visits_max, || match self.compiled.is_valid(value) {
            _ if is_exhausted() => Validation::BudgetExceeded,
            true => Validation::Valid,
            false => Validation::Invalid,
        })
    }

    /// Validates with the additional checks. Out of line, because few schemas need them.
    #[cold]
    #[inline(never)]
    fn validate_with(&self, extra: &Extra, value: Node<'_>) -> Validation {
        extra
            .validate(value, VALIDATING_LEVELS_MAX, self.visits_max, || self.validate_directly(value))
            .unwrap_or(Validation::BudgetExceeded)
    }

    /// Validates a value that is not on a tape, unless the work exceeds the limit. One nested deeper than the default of
    /// [`Limits::json_depth_max`] is invalid.
    #[must_use]
    pub fn validate_value(&self, value: &Value) -> Validation {
        let mut bytes = value.to_string().into_bytes();
        let length = bytes.len();
        bytes.resize(length + PADDING_BYTES, 0);
        // The value was created by the server, so its size needs no limit.
        let limits = Limits {
            json_nodes_max: length,
            json_number_digits_max: length,
            json_key_bytes_max: length,
            ..Limits::default()
        };
        Decoder::new(&limits)
            .decode(&mut bytes, length)
            .map_or(Validation::Invalid, |document| self.validate_within(document.root(), self.work_max))
    }

    /// Validates a value with at most `bytes` of strings, if [`Self::work_bound`] shows that this takes at most `work_max`.
    #[inline]
    #[must_use]
    pub fn validate_small(&self, value: Node<'_>, bytes: usize, work_max: u64) -> Option<Validation> {
        (self.work_bound(value, bytes) <= work_max).then(|| self.validate(value))
    }

    /// Validates the value, unless the work exceeds `work_max`, which is computed before.
    #[must_use]
    pub fn validate_within(&self, value: Node<'_>, work_max: u64) -> Validation {
        match self.work(value, work_max) {
            Some(_) => self.validate(value),
            None => Validation::BudgetExceeded,
        }
    }

    /// Whether the violations of the value are listed within `work_max`.
    #[must_use]
    pub fn can_explain(&self, value: Node<'_>, work_max: u64) -> bool {
        // The work of explaining a recursive schema may double with each level, so that it is only bounded while it is done.
        let is_bounded = !self.cost.is_recursive() || value.node_count() <= EXPLAINED_INLINE_MAX;
        is_bounded && self.work(value, work_max / EXPLAINING_FACTOR).is_some()
    }

    /// Collects up to 16 violations of an invalid value. Slower than [`Validator::is_valid`]. If the work exceeds its limit, the only
    /// violation states that.
    #[must_use]
    pub fn violations(&self, value: Node<'_>) -> Vec<Violation> {
        let beyond = || {
            let reason = "too large or too deeply nested to list its violations".to_owned();
            Violation { path: String::new(), reason }
        };
        if self.work(value, self.work_max / EXPLAINING_FACTOR).is_none() {
            return vec![beyond()];
        }
        let backtracks = self.extra.as_ref().is_some_and(|extra| extra.backtracking.is_some());
        let mut visits_max = EXPLAINING_WORK_MAX.max(value.node_count() * 2);
        if backtracks {
            visits_max = visits_max.saturating_add(self.visits_max);
        }
        let explain = || {
            with_work(visits_max, || {
                let mut violations = Vec::new();
                for error in self.compiled.iter_errors(value).take(VIOLATIONS_MAX) {
                    // Errors after the end of the work are not reliable.
                    if is_exhausted() {
                        break;
                    }
                    let path = error.instance_path().as_str().to_owned();
                    violations.push(Violation::new(path, explain::explain(&error, &self.known)));
                }
                if violations.is_empty() && is_exhausted() {
                    violations.push(beyond());
                }
                violations
            })
        };
        let explain = || if backtracks { with_whole_copies(explain) } else { explain() };
        match &self.extra {
            None => explain(),
            Some(extra) => extra
                .validate(value, EXPLAINING_LEVELS_MAX, self.visits_max, explain)
                .unwrap_or_else(|| if self.is_valid(value) { Vec::new() } else { vec![beyond()] }),
        }
    }
}

impl Extra {
    /// Calls `validate`, unless the value is too deep for the schema or its strings may take too many steps to match; then it returns
    /// `None`.
    fn validate<T>(
        &self,
        value: Node<'_>,
        levels_max: usize,
        visits_max: usize,
        validate: impl FnOnce() -> T,
    ) -> Option<T> {
        if self.recursive.is_some_and(|levels| levels.saturating_mul(depth(value)) > levels_max) {
            return None;
        }
        match &self.backtracking {
            None => Some(validate()),
            Some(patterns) => Some(with_match_costs(patterns.costs(value, visits_max)?, validate)),
        }
    }
}

/// Whether a schema may contain regular expressions. Recursive: the schema's depth has been checked before.
fn has_patterns(schema: &Value) -> bool {
    match schema {
        Value::Object(members) => members.iter().any(|(key, value)| {
            matches!(key.as_str(), "pattern" | "patternProperties") || has_patterns(value)
        }),
        Value::Array(elements) => elements.iter().any(has_patterns),
        _ => false,
    }
}

/// Depth of a value; a scalar has depth 1.
fn depth(value: Node<'_>) -> usize {
    let mut deepest = 0;
    let mut stack = vec![(value, 1)];
    while let Some((value, depth)) = stack.pop() {
        deepest = deepest.max(depth);
        let members = value.members().into_iter().flatten().map(|(_, member)| member);
        let inner = members.chain(value.elements().into_iter().flatten());
        stack.extend(inner.filter(|inner| inner.node_count() > 1).map(|inner| (inner, depth + 1)));
    }
    deepest
}

#[cfg(test)]
mod tests;
