//! The flags that messages are handled with, and the fallbacks of those that are off. The fallback of `async_tools` is in
//! `waiting.rs`.

use super::{Dispatcher, Disposition, Part, Source};
use crate::{
    config::JsonBackend,
    json::{Decoder, Node},
    policy::{Flag, Flags},
    schema::{Validation, Validator},
};

/// Padding that the decoder needs after a document, in bytes.
const PADDING_BYTES: usize = 64;

impl Dispatcher {
    /// The flags that are on for all sessions and connections.
    pub(crate) fn flags(&self) -> Flags {
        self.shard_flags.base()
    }

    /// Adds what is counted elsewhere to the metrics.
    pub(crate) fn collect_counts(&mut self) {
        let [hits, misses] = self.answers.take_validations();
        let counts = &mut self.observer.metrics().flags;
        counts.schema_cache_hits += hits;
        counts.schema_cache_misses += misses;
    }

    /// As [`Self::dispatch`], with the fallbacks of the flags that are off.
    #[cold]
    pub(super) fn dispatch_with_fallbacks(
        &mut self,
        decoder: &mut Decoder,
        source: &mut Source<'_>,
        (padded, length): (&mut [u8], usize),
        out: &mut Vec<u8>,
    ) -> Disposition {
        let before = self.begin_message(source);
        let flags = self.handling.flags;
        self.observer.metrics().flags.request(flags);
        decoder.set_backend(flags.json_backend());
        let disposition = if flags.is_on(Flag::ZeroCopy) {
            self.dispatch_document(decoder, source, (padded, length), Part::Whole, out)
        } else {
            self.observer.metrics().flags.copied_bytes += length as u64;
            let mut copy = padded.get(..length.saturating_add(PADDING_BYTES)).unwrap_or(padded).to_vec();
            self.dispatch_document(decoder, source, (&mut copy, length), Part::Whole, out)
        };
        decoder.set_backend(JsonBackend::default());
        self.end_message(before, &disposition);
        disposition
    }

    /// Validates the arguments of a call on the shard; without the schema cache, with a validator that is compiled for it.
    pub(super) fn validate_here(&mut self, schema: &Validator, input: Node<'_>) -> Validation {
        let again = if self.count_validation() { schema.compiled_again() } else { None };
        again.as_ref().unwrap_or(schema).validate(input)
    }

    /// Counts a validation. Returns whether its validator is compiled for it.
    #[inline]
    pub(super) fn count_validation(&mut self) -> bool {
        let counts = &mut self.observer.metrics().flags;
        let is_hit = self.handling.flags.is_on(Flag::SchemaCache);
        *if is_hit { &mut counts.schema_cache_hits } else { &mut counts.schema_cache_misses } += 1;
        !is_hit
    }
}
