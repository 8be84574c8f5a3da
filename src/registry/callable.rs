//! What can be run: a tool, a prompt, the reading of a resource, a completion.

use std::{sync::Arc, time::Duration};

use super::{cache::Cache, conversation::TaskTerms, handler::Handler};
use crate::schema::Validator;

/// What a callable answers: it decides the shape of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `tools/call`
    Tool,
    /// `prompts/get`
    Prompt,
    /// `resources/read`
    Resource,
    /// `completion/complete`
    Completion,
}

/// Something that runs, and what its answer must be like.
pub struct Callable {
    pub(super) kind: Kind,
    pub(super) name: Box<str>,
    pub(super) position: usize,
    pub(super) handler: Handler,
    pub(super) deadline: Duration,
    pub(super) output: Option<Validator>,
    pub(super) cache: Cache,
    pub(super) task: Option<TaskTerms>,
}

/// Many calls of one thing may be in flight, and outlive the snapshot they were started from.
pub type SharedCallable = Arc<Callable>;

impl Callable {
    /// What it answers.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What clients know it by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its place in the list of its kind.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }

    /// How it runs.
    #[must_use]
    pub fn handler(&self) -> &Handler {
        &self.handler
    }

    /// How long a call may take.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// The compiled schema of a tool's structured content, if it promises any.
    #[must_use]
    pub fn output(&self) -> Option<&Validator> {
        self.output.as_ref()
    }

    /// How long a resource's contents may be kept.
    #[must_use]
    pub fn cache(&self) -> Cache {
        self.cache
    }

    /// The terms on which its calls become tasks at once, if they do.
    #[must_use]
    pub fn task(&self) -> Option<TaskTerms> {
        self.task
    }
}
