//! Registry entries, compiled for a shard.

use super::header_params::HeaderParam;
use crate::{
    call::{Capabilities, SharedCallable},
    schema::Validator,
    uri_template::UriTemplate,
};

/// A tool with its compiled schemas.
pub struct RegisteredTool {
    pub(super) callable: SharedCallable,
    pub(super) input: Validator,
    pub(super) header_params: Vec<HeaderParam>,
    pub(super) requires: Capabilities,
}

impl RegisteredTool {
    /// The handler with its settings.
    #[must_use]
    pub fn callable(&self) -> &SharedCallable {
        &self.callable
    }

    /// The validator of its arguments.
    #[must_use]
    pub fn input(&self) -> &Validator {
        &self.input
    }

    /// Arguments that clients mirror in headers.
    #[must_use]
    pub fn header_params(&self) -> &[HeaderParam] {
        &self.header_params
    }

    /// Capabilities that the client must have.
    #[must_use]
    pub fn requires(&self) -> Capabilities {
        self.requires
    }
}

/// A prompt with its required arguments.
pub struct RegisteredPrompt {
    pub(super) callable: SharedCallable,
    pub(super) required: Vec<Box<str>>,
    pub(super) completers: Completers,
}

impl RegisteredPrompt {
    /// The handler with its settings.
    #[must_use]
    pub fn callable(&self) -> &SharedCallable {
        &self.callable
    }

    /// Names of the required arguments.
    pub fn required(&self) -> impl Iterator<Item = &str> {
        self.required.iter().map(AsRef::as_ref)
    }

    /// Its arguments, with their completers.
    #[must_use]
    pub fn completers(&self) -> &Completers {
        &self.completers
    }
}

/// The arguments of a prompt or the variables of a template, each with its completer, if it has one.
#[derive(Default)]
pub struct Completers {
    pub(super) arguments: Vec<(Box<str>, Option<SharedCallable>)>,
}

impl Completers {
    /// The completer of an argument: `None` if there is no such argument, `Some(None)` if it has no completer.
    #[must_use]
    pub fn find(&self, argument: &str) -> Option<Option<&SharedCallable>> {
        let found = self.arguments.iter().find(|(name, _)| **name == *argument)?;
        Some(found.1.as_ref())
    }

    /// The completers.
    pub(super) fn callables(&self) -> impl Iterator<Item = &SharedCallable> {
        self.arguments.iter().filter_map(|(_, completer)| completer.as_ref())
    }
}

/// A resource template, compiled.
pub(super) struct RegisteredTemplate {
    pub(super) template: UriTemplate,
    pub(super) callable: SharedCallable,
    pub(super) completers: Completers,
}
