//! A compiled schema.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use jsonschema::{Draft, PatternOptions};
use serde_json::Value;

use super::{
    backtracking::{Backtracking, compile_ahead},
    bounds::Bounds,
    error::{SchemaError, Violation, is_about_a_pattern},
    explain::{self, KnownNames},
    tape::{TapeJson, is_exhausted, with_match_costs, with_whole_copies, with_work},
};
use crate::{
    config::{Limits, SchemaLimits},
    json::{Decoder, Node},
};

/// Schemas compiled since the process began, those that were refused included.
static COMPILED: AtomicU64 = AtomicU64::new(0);

/// How many schemas have been compiled since the process began, those that were refused included.
#[must_use]
pub fn compiled() -> u64 {
    COMPILED.load(Ordering::Relaxed)
}

/// A schema, compiled: draft 2020-12 unless its `$schema` names 2019-09, 7, 6 or 4. Patterns match in linear time;
/// references to the network or to files are refused. A copy shares what was compiled.
#[derive(Clone)]
pub struct Validator {
    compiled: jsonschema::Validator<TapeJson>,
    /// It has regular expressions, whose scratch space threads would contend for.
    has_state: bool,
    /// For messages.
    known: Arc<KnownNames>,
    subschemas: usize,
    work_max: usize,
    /// What most schemas have no use for.
    extra: Option<Arc<Extra>>,
}

/// What a schema needs checked before a value is held against it.
struct Extra {
    /// See [`Bounds`].
    recursive: Option<usize>,
    backtracking: Option<Backtracking>,
}

/// What a validation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The value fits.
    Fits,
    /// It does not.
    Unfit,
    /// Finding out would take more work than the limit.
    TooMuchWork,
}

/// Violations reported at most: the client needs a hint, not a flood.
const VIOLATIONS_MAX: usize = 16;

/// The library recurses, and through a recursive schema again for each level of the value: this many levels of the one times
/// levels of the other fit the stack of a shard, 2 MiB, twice over even without optimisation.
const VALIDATING_LEVELS_MAX: usize = 4096;

/// As above, for finding out what does not fit.
const EXPLAINING_LEVELS_MAX: usize = 1024;

/// Values looked at, at most, to find out what does not fit, if the value does not consist of more. Of two recursive branches the library explains each in each, so that
/// the work doubles with every level of the value.
const EXPLAINING_WORK_MAX: usize = 50_000;

/// What the parser reads beyond its input.
const PADDING_BYTES: usize = 64;

impl Validator {
    /// Compiles a schema.
    ///
    /// # Errors
    /// When the schema is not valid, exceeds a limit, is of an unknown dialect, or refers to something outside itself.
    pub fn compile(schema: &Value, limits: &Limits) -> Result<Self, SchemaError> {
        Self::compile_within(schema, &limits.schema(), false)
    }

    /// Compiles a schema whose formats are checked too, whatever its dialect.
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
            return Err(SchemaError::of_dialect(dialect));
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
        let compiled = compiled.map_err(|error| SchemaError::of_build(&error, limits.backtracking))?;
        let extra = (recursive.is_some() || backtracking.is_some())
            .then(|| Arc::new(Extra { recursive, backtracking }));
        let has_state = has_patterns(schema);
        let known = Arc::new(explain::known_names(schema));
        Ok(Self { compiled, has_state, known, subschemas, work_max: limits.work_max, extra })
    }

    /// Whether threads that use it at once would contend for its inner state.
    pub(super) fn has_state(&self) -> bool {
        self.has_state
    }

    /// How many subschemas there are, the whole one included. Counts whatever could be one, so it is no less than there
    /// are; one that is referred to from several places counts once.
    #[must_use]
    pub fn subschemas(&self) -> usize {
        self.subschemas
    }

    /// Whether the value fits; stops at the first violation. What takes more work than the limit does not fit.
    #[must_use]
    pub fn is_valid(&self, value: Node<'_>) -> bool {
        self.judge(value) == Verdict::Fits
    }

    /// Whether the value fits, or would take more work than the limit to find out.
    #[must_use]
    pub fn judge(&self, value: Node<'_>) -> Verdict {
        match &self.extra {
            None => self.judge_at_once(value),
            Some(extra) => self.judge_with(extra, value),
        }
    }

    #[inline]
    fn judge_at_once(&self, value: Node<'_>) -> Verdict {
        with_work(self.work_max, || match self.compiled.is_valid(value) {
            _ if is_exhausted() => Verdict::TooMuchWork,
            true => Verdict::Fits,
            false => Verdict::Unfit,
        })
    }

    /// Out of line: most schemas need none of it.
    #[cold]
    #[inline(never)]
    fn judge_with(&self, extra: &Extra, value: Node<'_>) -> Verdict {
        extra
            .validate(value, VALIDATING_LEVELS_MAX, self.work_max, || self.judge_at_once(value))
            .unwrap_or(Verdict::TooMuchWork)
    }

    /// Whether a value that is not on a tape fits. One nested deeper than a request may be by default does not.
    #[must_use]
    pub fn allows(&self, value: &Value) -> bool {
        let mut bytes = value.to_string().into_bytes();
        let length = bytes.len();
        bytes.resize(length + PADDING_BYTES, 0);
        // Whoever made the value bounded it.
        let limits = Limits {
            json_nodes_max: length,
            json_number_digits_max: length,
            json_key_bytes_max: length,
            ..Limits::default()
        };
        Decoder::new(&limits).decode(&mut bytes, length).is_ok_and(|document| self.is_valid(document.root()))
    }

    /// What does not fit, sixteen violations at most. Slower than [`Validator::is_valid`], and to be asked of what is not valid
    /// only: where there is too much to look at, it says so.
    #[must_use]
    pub fn violations(&self, value: Node<'_>) -> Vec<Violation> {
        let beyond = || {
            let reason = "too large or too nested to say what does not fit".to_owned();
            Violation { path: String::new(), reason }
        };
        let backtracks = self.extra.as_ref().is_some_and(|extra| extra.backtracking.is_some());
        let mut work_max = EXPLAINING_WORK_MAX.max(value.node_count() * 2);
        if backtracks {
            work_max = work_max.saturating_add(self.work_max);
        }
        let explain = || {
            with_work(work_max, || {
                let mut violations = Vec::new();
                for error in self.compiled.iter_errors(value).take(VIOLATIONS_MAX) {
                    // What is found behind that point is not true.
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
                .validate(value, EXPLAINING_LEVELS_MAX, self.work_max, explain)
                .unwrap_or_else(|| if self.is_valid(value) { Vec::new() } else { vec![beyond()] }),
        }
    }
}

impl Extra {
    /// Calls `validate`, unless the value is too deep for the schema or its strings may take too many steps to match.
    fn validate<T>(
        &self,
        value: Node<'_>,
        levels_max: usize,
        work_max: usize,
        validate: impl FnOnce() -> T,
    ) -> Option<T> {
        if self.recursive.is_some_and(|levels| levels.saturating_mul(depth(value)) > levels_max) {
            return None;
        }
        match &self.backtracking {
            None => Some(validate()),
            Some(patterns) => Some(with_match_costs(patterns.costs(value, work_max)?, validate)),
        }
    }
}

/// Whether there may be regular expressions. The schema's depth has been checked before.
fn has_patterns(schema: &Value) -> bool {
    match schema {
        Value::Object(members) => members.iter().any(|(key, value)| {
            matches!(key.as_str(), "pattern" | "patternProperties") || has_patterns(value)
        }),
        Value::Array(elements) => elements.iter().any(has_patterns),
        _ => false,
    }
}

/// Levels of a value, itself included.
fn depth(value: Node<'_>) -> usize {
    let mut deepest = 0;
    let mut left = vec![(value, 1)];
    while let Some((value, depth)) = left.pop() {
        deepest = deepest.max(depth);
        let members = value.members().into_iter().flatten().map(|(_, member)| member);
        let inner = members.chain(value.elements().into_iter().flatten());
        left.extend(inner.filter(|inner| inner.node_count() > 1).map(|inner| (inner, depth + 1)));
    }
    deepest
}

#[cfg(test)]
mod tests;
