//! Process-wide cache of validators by schema text.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError, Weak},
};

use serde_json::Value;

use super::{SchemaError, Validator};
use crate::config::SchemaLimits;

/// Number of entries at which dropped validators are first removed from the table.
const ENTRIES_MIN: usize = 64;

/// Validators in use, by the text of their schema. Accessed when a registry is compiled, never by a request.
#[derive(Default)]
struct Table {
    by_text: HashMap<Arc<str>, Vec<Entry>>,
    /// Number of texts at which dropped validators are removed.
    cleanup_at: usize,
}

struct Entry {
    limits: SchemaLimits,
    /// The shard that uses the validator; 0 if all shards share it.
    shard: usize,
    validator: Weak<Validator>,
}

impl Table {
    fn find(&self, text: &str, limits: &SchemaLimits, shard: usize) -> Option<Arc<Validator>> {
        let entries = self.by_text.get(text)?;
        let matches = |entry: &&Entry| entry.shard == shard && entry.limits == *limits;
        entries.iter().filter(matches).find_map(|entry| entry.validator.upgrade())
    }

    fn insert(&mut self, text: Arc<str>, limits: &SchemaLimits, shard: usize, validator: &Arc<Validator>) {
        if self.by_text.len() >= self.cleanup_at.max(ENTRIES_MIN) {
            self.by_text.retain(|_, entries| {
                entries.retain(|entry| entry.validator.strong_count() > 0);
                !entries.is_empty()
            });
            self.cleanup_at = self.by_text.len().saturating_mul(2);
        }
        let entries = self.by_text.entry(text).or_default();
        entries.retain(|entry| entry.validator.strong_count() > 0);
        entries.push(Entry { limits: *limits, shard, validator: Arc::downgrade(validator) });
    }
}

static TABLE: LazyLock<Mutex<Table>> = LazyLock::new(Mutex::default);

/// Returns the validator of a schema from the table, or compiles it.
fn shared(schema: &Value, limits: &SchemaLimits, shard: usize) -> Result<Arc<Validator>, SchemaError> {
    let text: Arc<str> = schema.to_string().into();
    // A panic while the lock is held leaves the table valid, so poisoning is ignored.
    let lock = || TABLE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(validator) = lock().find(&text, limits, shard) {
        return Ok(validator);
    }
    // Compiles without the lock: two threads may compile the same schema at once, and either result is valid.
    let validator = Validator::compile_within(schema, limits, false)?;
    let validator = Arc::new(validator.with_source(Arc::clone(&text), *limits));
    lock().insert(text, limits, shard, &validator);
    Ok(validator)
}

/// Validators of one schema: one for all shards, or one per shard if the validator has inner state that threads would contend
/// for.
pub struct CompiledSchema {
    limits: SchemaLimits,
    /// Validators by shard; a single one if all shards share it.
    validators: Mutex<Vec<Option<Arc<Validator>>>>,
}

impl CompiledSchema {
    /// Compiles a schema, or reuses the validator of an equal one with the same limits.
    ///
    /// # Errors
    /// As [`Validator::compile`].
    pub fn compile(schema: &Value, limits: &SchemaLimits) -> Result<Self, SchemaError> {
        let validators = Mutex::new(vec![Some(shared(schema, limits, 0)?)]);
        Ok(Self { limits: *limits, validators })
    }

    /// The validator for a shard. `schema` must be the one that this was compiled from.
    ///
    /// # Errors
    /// As [`Validator::compile`]; not expected, because the schema has been compiled before.
    pub fn validator(&self, schema: &Value, shard: usize) -> Result<Validator, SchemaError> {
        let mut validators = self.validators.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Some(first)) = validators.first()
            && !first.has_state()
        {
            return Ok(Validator::clone(first));
        }
        if let Some(Some(own)) = validators.get(shard) {
            return Ok(Validator::clone(own));
        }
        let own = shared(schema, &self.limits, shard)?;
        if validators.len() <= shard {
            validators.resize(shard.saturating_add(1), None);
        }
        let validator = Validator::clone(&own);
        if let Some(slot) = validators.get_mut(shard) {
            *slot = Some(own);
        }
        Ok(validator)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{config::Limits, json::with_node};

    #[test]
    fn equal_schemas_share_a_validator_until_the_last_is_dropped() {
        let limits = Limits::default().schema();
        let schema = |key: &str| json!({"type": "object", "properties": {key: {"type": "string"}}});
        let one = shared(&schema("a"), &limits, 0).unwrap();
        let same = shared(&schema("a"), &limits, 0).unwrap();
        assert!(Arc::ptr_eq(&one, &same));
        assert!(!Arc::ptr_eq(&one, &shared(&schema("b"), &limits, 0).unwrap()));
        let narrow = SchemaLimits { work_max: 1, ..limits };
        assert!(!Arc::ptr_eq(&one, &shared(&schema("a"), &narrow, 0).unwrap()), "other limits");
        let gone = Arc::downgrade(&one);
        drop((one, same));
        assert!(gone.upgrade().is_none(), "the table holds weak references");
        // Entries of dropped validators are removed.
        for number in 0..1000 {
            shared(&schema(&number.to_string()), &limits, 0).unwrap();
        }
        assert!(TABLE.lock().unwrap().by_text.len() < 400);
    }

    #[test]
    fn validator_of_the_cache_can_be_compiled_again() {
        let limits = Limits::default().schema();
        let schema = json!({"type": "object", "properties": {"again": {"type": "string", "pattern": "^a"}}});
        let cached = CompiledSchema::compile(&schema, &limits).unwrap().validator(&schema, 0).unwrap();
        let again = cached.compiled_again().unwrap();
        for value in [json!({"again": "a"}), json!({"again": "b"}), json!({"again": 1}), json!({})] {
            let is_valid =
                |validator: &Validator| with_node(&value.to_string(), |node| validator.is_valid(node));
            assert_eq!(is_valid(&again), is_valid(&cached), "{value}");
        }
        let uncached = Validator::compile(&schema, &Limits::default()).unwrap();
        assert!(uncached.compiled_again().is_none());
    }

    #[test]
    fn validators_with_patterns_are_compiled_once_per_shard_and_others_once() {
        let limits = Limits::default().schema();
        for (schema, has_state) in [
            (json!({"type": "string"}), false),
            (json!({"properties": {"pattern": {"type": "string"}}}), true),
            (json!({"properties": {"a": {"pattern": "^(a|b)+c"}}}), true),
            (json!({"$defs": {"a": {"patternProperties": {"^(a|b)+c": {}}}}}), true),
        ] {
            let compiled = CompiledSchema::compile(&schema, &limits).unwrap();
            for shard in [0, 1, 0, 1] {
                compiled.validator(&schema, shard).unwrap();
            }
            let count = compiled.validators.lock().unwrap().len();
            assert_eq!(count, if has_state { 2 } else { 1 }, "{schema}");
        }
    }
}
