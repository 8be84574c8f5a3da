//! Validation of the structured content of results against the `outputSchema` of their tool.

use super::reply::{OutputValidation, Reply};
use crate::{
    config::Limits,
    json::{Decoder, Node},
    policy::{Flag, Flags},
    schema::{Validation, Validator, Violation},
};

/// Padding that the in-place decoder needs after a document, in bytes.
const PADDING_BYTES: usize = 64;

/// Work of copying and decoding a byte, in the unit of `validation_work_max`.
const DECODING_WORK: u64 = 2;

/// Validates results. Its buffers are reused, so that a warm validation allocates nothing.
pub struct OutputValidator {
    decoder: Decoder,
    scratch: Vec<u8>,
    work_max: u64,
    inline_work_max: u64,
    flags: Flags,
}

impl OutputValidator {
    /// A validator that decodes structured content within the limits of requests.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let work_max = limits.validation_work_max as u64;
        Self {
            decoder: Decoder::new(limits),
            scratch: Vec::new(),
            work_max,
            inline_work_max: work_max.min(limits.validation_inline_work_max as u64),
            flags: Flags::default(),
        }
    }

    /// The same, with these flags.
    #[must_use]
    pub fn with(mut self, flags: Flags) -> Self {
        self.set_flags(flags);
        self
    }

    /// Sets the parser, and whether validators are compiled for each validation.
    pub fn set_flags(&mut self, flags: Flags) {
        self.flags = flags;
        self.decoder.set_backend(flags.json_backend());
    }

    /// Validates a reply, unless it is an error or was validated, and stores the result in it. Returns `false`, without a result, if
    /// that takes more work than `validation_inline_work_max`.
    pub fn validate_inline(&mut self, output: &Validator, reply: &mut Reply) -> bool {
        if reply.is_failed() || reply.output().is_some() {
            return true;
        }
        let inline_max = self.inline_work_max;
        let bytes = reply.structured_json().len();
        let is_cached = self.flags.is_on(Flag::SchemaCache);
        let result = if (bytes as u64).saturating_mul(DECODING_WORK) > inline_max {
            None
        } else {
            self.decoded(reply, |root| {
                let is_small =
                    output.work_bound(root, bytes) <= inline_max || output.work(root, inline_max).is_some();
                match is_small.then(|| validated(output, root, is_cached))? {
                    Validation::Valid => Some(OutputValidation::Valid),
                    Validation::Invalid if !output.can_explain(root, inline_max) => None,
                    Validation::Invalid => Some(violations(output, root)),
                    Validation::BudgetExceeded => Some(OutputValidation::BudgetExceeded),
                }
            })
        };
        let is_validated = result.is_some();
        reply.set_output(result, is_cached);
        is_validated
    }

    /// As [`Self::validate_inline`], with as much work as `validation_work_max` allows.
    pub fn validate(&mut self, output: &Validator, reply: &mut Reply) {
        if reply.is_failed() || reply.output().is_some() {
            return;
        }
        let work_max = self.work_max;
        let bytes = reply.structured_json().len();
        let is_cached = self.flags.is_on(Flag::SchemaCache);
        let result = self.decoded(reply, |root| {
            let is_allowed =
                output.work_bound(root, bytes) <= work_max || output.work(root, work_max).is_some();
            Some(match is_allowed.then(|| validated(output, root, is_cached)) {
                Some(Validation::Valid) => OutputValidation::Valid,
                Some(Validation::Invalid) => violations(output, root),
                Some(Validation::BudgetExceeded) | None => OutputValidation::BudgetExceeded,
            })
        });
        reply.set_output(result, is_cached);
    }

    /// Decodes the structured content for `validate`. Content that is absent or cannot be decoded is invalid.
    fn decoded(
        &mut self,
        reply: &Reply,
        validate: impl FnOnce(Node<'_>) -> Option<OutputValidation>,
    ) -> Option<OutputValidation> {
        let json = reply.structured_json();
        if json.is_empty() {
            return Some(OutputValidation::Invalid("no structured content".to_owned()));
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(json);
        self.scratch.resize(json.len() + PADDING_BYTES, 0);
        match self.decoder.decode(&mut self.scratch, json.len()) {
            Ok(document) => validate(document.root()),
            Err(error) => Some(OutputValidation::Invalid(error.reason.to_string())),
        }
    }
}

/// Validates with the validator of the tool, or with one that is compiled for this.
#[inline]
fn validated(output: &Validator, root: Node<'_>, is_cached: bool) -> Validation {
    let again = if is_cached { None } else { output.compiled_again() };
    again.as_ref().unwrap_or(output).validate(root)
}

/// The result for content that violates its schema.
fn violations(output: &Validator, root: Node<'_>) -> OutputValidation {
    OutputValidation::Invalid(Violation::join(&output.violations(root)))
}
