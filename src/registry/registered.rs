//! What is declared, compiled for a shard.

use super::{callable::SharedCallable, capability::Capabilities, header_params::HeaderParam};
use crate::{schema::Validator, uri_template::UriTemplate};

/// A tool with its compiled schemas.
pub struct RegisteredTool {
    pub(super) callable: SharedCallable,
    pub(super) input: Validator,
    pub(super) header_params: Vec<HeaderParam>,
    pub(super) requires: Capabilities,
}

impl RegisteredTool {
    /// What runs.
    #[must_use]
    pub fn callable(&self) -> &SharedCallable {
        &self.callable
    }

    /// The compiled schema of its arguments.
    #[must_use]
    pub fn input(&self) -> &Validator {
        &self.input
    }

    /// Arguments that clients repeat in headers.
    #[must_use]
    pub fn header_params(&self) -> &[HeaderParam] {
        &self.header_params
    }

    /// What the client must be able to do.
    #[must_use]
    pub fn requires(&self) -> Capabilities {
        self.requires
    }
}

/// A prompt with what its arguments must be.
pub struct RegisteredPrompt {
    pub(super) callable: SharedCallable,
    pub(super) required: Vec<Box<str>>,
    pub(super) completers: Completers,
}

impl RegisteredPrompt {
    /// What runs.
    #[must_use]
    pub fn callable(&self) -> &SharedCallable {
        &self.callable
    }

    /// The arguments that must be given.
    pub fn required(&self) -> impl Iterator<Item = &str> {
        self.required.iter().map(AsRef::as_ref)
    }

    /// Its arguments, with how they are completed.
    #[must_use]
    pub fn completers(&self) -> &Completers {
        &self.completers
    }
}

/// The arguments of a prompt or the variables of a template, each with what completes it, if something does.
#[derive(Default)]
pub struct Completers {
    pub(super) arguments: Vec<(Box<str>, Option<SharedCallable>)>,
}

impl Completers {
    /// Whether there is such an argument, and what completes it.
    #[must_use]
    pub fn find(&self, argument: &str) -> Option<Option<&SharedCallable>> {
        let found = self.arguments.iter().find(|(name, _)| **name == *argument)?;
        Some(found.1.as_ref())
    }
}

/// A template, compiled.
pub(super) struct RegisteredTemplate {
    pub(super) template: UriTemplate,
    pub(super) callable: SharedCallable,
    pub(super) completers: Completers,
}
