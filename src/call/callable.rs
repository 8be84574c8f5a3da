//! A registered tool, prompt, resource or completer, as it is run.

use std::{sync::Arc, time::Duration};

use super::{
    cache::Cache, client_channel::TaskTerms, handler::Handler, once::OnceStates, reply::Kind,
    request::DeclaredReads,
};
use crate::schema::Validator;

/// A handler with everything that a call of it depends on.
pub struct Callable {
    pub(crate) kind: Kind,
    pub(crate) name: Arc<str>,
    pub(crate) position: usize,
    pub(crate) handler: Handler,
    pub(crate) deadline: Duration,
    pub(crate) output: Option<Validator>,
    pub(crate) cache: Cache,
    pub(crate) task: Option<TaskTerms>,
    pub(crate) reads: Option<Arc<DeclaredReads>>,
    pub(crate) once: Option<Arc<OnceStates>>,
}

/// A callable, shared with its calls in flight, which may outlive the snapshot they were started from.
pub type SharedCallable = Arc<Callable>;

impl Callable {
    /// The method it serves.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The name of the tool or prompt, the URI or template of the resource; of a completer that of its prompt or template.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same, to be shared.
    #[must_use]
    pub fn shared_name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its index in the list of its kind.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }

    /// The handler.
    #[must_use]
    pub fn handler(&self) -> &Handler {
        &self.handler
    }

    /// The longest a call may take.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// The compiled `outputSchema` of a tool.
    #[must_use]
    pub fn output(&self) -> Option<&Validator> {
        self.output.as_ref()
    }

    /// How long clients may cache a resource's contents.
    #[must_use]
    pub fn cache(&self) -> Cache {
        self.cache
    }

    /// The terms of the tasks that its calls become before their handler runs; `None` if they do not.
    #[must_use]
    pub fn task(&self) -> Option<TaskTerms> {
        self.task
    }

    /// The used request states of a tool whose states are used once.
    #[must_use]
    pub fn once(&self) -> Option<&Arc<OnceStates>> {
        self.once.as_ref()
    }

    /// The parts of its requests that calls copy which outlive the requests' bytes.
    #[must_use]
    pub fn reads(&self) -> Option<&Arc<DeclaredReads>> {
        self.reads.as_ref()
    }
}
