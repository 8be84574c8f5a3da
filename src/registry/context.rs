//! What a handler can know of the call it serves, and what it can say while it runs.

use std::{
    any::Any,
    cell::Cell,
    num::NonZeroUsize,
    pin::pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{self, Poll, Wake},
    thread::{self, Thread},
    time::Duration,
};

use serde::Serialize;
use serde_json::Value;

use super::{
    capability::{Capabilities, Capability},
    conversation::{CallDetails, Conversation, TaskTerms},
    error::{AskError, ProtocolError},
    input::Question,
    level::Level,
    revision::Revision,
};

/// Who calls.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// The protocol revision the client speaks.
    pub revision: Revision,
    /// What the client can do, as far as it said so: with this request, or in its session's handshake.
    pub capabilities: Capabilities,
    /// The shard that took the call.
    pub shard: usize,
}

/// One shard's state, as its factory made it.
pub type ShardState = Rc<dyn Any>;

/// Tells whoever subscribed to a resource that it has changed; from any thread.
pub trait Publish: Send + Sync {
    /// The resource of this URI has changed.
    fn resource_updated(&self, uri: &str);
}

/// What all handlers of one shard share.
#[derive(Clone, Default)]
pub struct ShardSide {
    /// The shard's own state.
    pub state: Option<ShardState>,
    /// Reaches the subscribers of all shards; without it nobody is told.
    pub publisher: Option<Arc<dyn Publish>>,
    /// What the inline call that runs logs.
    pub inline_log: InlineLog,
}

/// The log messages of inline calls of legacy clients that never set a level. Few such calls log, so the first message of a call
/// creates its conversation. One inline call runs at a time on a shard.
pub struct InlineLog {
    /// The number of the call that runs, or of the next one. A context that outlives its call has an earlier number.
    call: Cell<NonZeroUsize>,
    conversation: Cell<Option<Arc<Conversation>>>,
}

impl Default for InlineLog {
    fn default() -> Self {
        Self { call: Cell::new(NonZeroUsize::MIN), conversation: Cell::default() }
    }
}

/// A copy is another shard's, and empty.
impl Clone for InlineLog {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl InlineLog {
    /// The number of the call that begins.
    #[must_use]
    pub fn begin(&self) -> NonZeroUsize {
        self.call.get()
    }

    /// Ends the call: its conversation, if it has logged anything.
    #[must_use]
    pub fn end(&self) -> Option<Arc<Conversation>> {
        self.call.set(self.call.get().saturating_add(1));
        self.conversation.take()
    }

    fn runs(&self, call: NonZeroUsize) -> bool {
        self.call.get() == call
    }

    /// The conversation of the call that runs.
    #[cold]
    fn conversation(&self, caller: Caller) -> Arc<Conversation> {
        let conversation = self.conversation.take().unwrap_or_else(|| {
            let details = CallDetails { log_level: Some(Level::LEGACY_DEFAULT), ..CallDetails::default() };
            Arc::new(Conversation::held(caller.revision, caller.capabilities, details))
        });
        self.conversation.set(Some(Arc::clone(&conversation)));
        conversation
    }
}

/// How often a blocking handler that waits for an answer looks whether its call has been cancelled.
const LOOK: Duration = Duration::from_millis(50);

/// A call, seen by a handler that runs on the shard: inline or async.
#[derive(Clone)]
pub struct Context {
    caller: Caller,
    side: Rc<ShardSide>,
    conversation: Option<Arc<Conversation>>,
    /// Of an inline call without a conversation, that may log: its number.
    inline_call: Option<NonZeroUsize>,
}

impl Context {
    /// A context of `caller` on a shard; without a conversation nothing can be said or asked.
    #[must_use]
    pub fn new(caller: Caller, side: Rc<ShardSide>, conversation: Option<Arc<Conversation>>) -> Self {
        Self { caller, side, conversation, inline_call: None }
    }

    /// The context of an inline call. `inline_call`: the number that [`InlineLog::begin`] gave, if its client is to get what the call
    /// logs without a conversation.
    #[must_use]
    pub fn inline(
        caller: Caller,
        side: Rc<ShardSide>,
        conversation: Option<Arc<Conversation>>,
        inline_call: Option<NonZeroUsize>,
    ) -> Self {
        Self { caller, side, conversation, inline_call }
    }

    /// The conversation that a log message of this level goes to, if the client wants any of it.
    fn conversation_for_log(&self, level: Level) -> Option<Arc<Conversation>> {
        match &self.conversation {
            Some(conversation) => conversation.logs(level).then(|| Arc::clone(conversation)),
            None => self.logs_inline(level).then(|| self.side.inline_log.conversation(self.caller)),
        }
    }

    fn logs_inline(&self, level: Level) -> bool {
        level >= Level::LEGACY_DEFAULT && self.inline_call.is_some_and(|call| self.side.inline_log.runs(call))
    }

    /// Whether a log message of this level would be sent.
    #[must_use]
    pub fn logs(&self, level: Level) -> bool {
        match &self.conversation {
            Some(conversation) => conversation.logs(level),
            None => self.logs_inline(level),
        }
    }

    /// Who calls.
    #[must_use]
    pub fn caller(&self) -> Caller {
        self.caller
    }

    /// The shard's own state, made by [`ServerBuilder::shard_state`](crate::ServerBuilder::shard_state): nobody but
    /// handlers on this shard's thread touches it, so a `Cell` or a `RefCell` inside is enough.
    ///
    /// # Panics
    /// When the server has no state of this type; the caller is told that the tool failed.
    #[must_use]
    #[allow(clippy::panic, reason = "a mistake in the program, not in a request; caught and answered")]
    pub fn state<T: 'static>(&self) -> &T {
        match self.side.state.as_ref().and_then(|state| state.downcast_ref()) {
            Some(state) => state,
            None => panic!("the server has no shard state of type {}", std::any::type_name::<T>()),
        }
    }

    /// Tells the subscribers of a resource, on all shards, that it has changed. Those who are slow to listen may be told
    /// once for several changes.
    pub fn resource_updated(&self, uri: &str) {
        if let Some(publisher) = &self.side.publisher {
            publisher.resource_updated(uri);
        }
    }
}

/// A call, seen by a handler that runs off the shard: blocking, or on tokio.
#[derive(Clone)]
pub struct RemoteContext {
    caller: Caller,
    cancelled: Arc<AtomicBool>,
    publisher: Option<Arc<dyn Publish>>,
    conversation: Option<Arc<Conversation>>,
}

impl std::fmt::Debug for RemoteContext {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("RemoteContext").field("caller", &self.caller).finish_non_exhaustive()
    }
}

impl RemoteContext {
    /// A context whose call is cancelled when `cancelled` becomes true.
    #[must_use]
    pub fn new(
        caller: Caller,
        cancelled: Arc<AtomicBool>,
        publisher: Option<Arc<dyn Publish>>,
        conversation: Option<Arc<Conversation>>,
    ) -> Self {
        Self { caller, cancelled, publisher, conversation }
    }

    fn conversation_for_log(&self, level: Level) -> Option<Arc<Conversation>> {
        self.conversation.clone().filter(|conversation| conversation.logs(level))
    }

    /// Whether a log message of this level would be sent.
    #[must_use]
    pub fn logs(&self, level: Level) -> bool {
        self.conversation.as_ref().is_some_and(|conversation| conversation.logs(level))
    }

    /// Who calls.
    #[must_use]
    pub fn caller(&self) -> Caller {
        self.caller
    }

    /// Whether nobody waits for the result any more: the deadline has passed, or the client has gone. A blocking tool
    /// that takes long should look now and then, and give up its thread.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// As [`Context::resource_updated`].
    pub fn resource_updated(&self, uri: &str) {
        if let Some(publisher) = &self.publisher {
            publisher.resource_updated(uri);
        }
    }

    /// Waits for an answer on a blocking handler's thread: `cx.block_on(cx.elicit(form))?`. Where the call is to start again
    /// with the answer, this is [`AskError::InputRequired`]: hand it on, so that the thread is free.
    ///
    /// # Errors
    /// The question's own, and that.
    pub fn block_on<T>(&self, answer: impl Future<Output = Result<T, AskError>>) -> Result<T, AskError> {
        struct Unpark(Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = task::Waker::from(Arc::new(Unpark(thread::current())));
        let mut answer = pin!(answer);
        loop {
            if let Poll::Ready(answer) = answer.as_mut().poll(&mut task::Context::from_waker(&waker)) {
                return answer;
            }
            if self.conversation.as_ref().is_some_and(|conversation| conversation.has_unanswered()) {
                return Err(AskError::InputRequired);
            }
            if self.is_cancelled() {
                return Err(AskError::NoAnswer);
            }
            thread::park_timeout(LOOK);
        }
    }
}

/// What every handler can say and ask, wherever it runs.
macro_rules! talk {
    ($context:ty) => {
        impl $context {
            /// Tells how far the call is, to a client that asked to be told. It must grow from one time to the next; what
            /// does not is not told. `total` is what it will come to, if that is known.
            pub fn progress(&self, progress: f64, total: Option<f64>, message: Option<&str>) {
                if let Some(conversation) = &self.conversation {
                    conversation.progress(progress, total, message);
                }
            }

            /// Sends a log message to the client, if it wants any of this level: a client of 2026-07-28 names the level with
            /// its request, a legacy one sets it for its session, or gets messages from `info` up. No secrets, nothing of the
            /// inside.
            pub fn log(&self, level: Level, data: impl Serialize) {
                if let Some(conversation) = self.conversation_for_log(level) {
                    conversation.log(level, None, &data);
                }
            }

            /// As [`Self::log`], under a logger's name.
            pub fn log_as(&self, logger: &str, level: Level, data: impl Serialize) {
                if let Some(conversation) = self.conversation_for_log(level) {
                    conversation.log(level, Some(logger), &data);
                }
            }

            /// Asks the client, and waits for the answer. In a legacy session, and in a task, the call waits. Else, since
            /// 2026-07-28, it ends here, and *starts again* with the answer when the client has it: what comes before a
            /// question runs once for each round, so it should change nothing, and should ask the same questions in the
            /// same order, or name them by [`Form::key`](crate::Form::key). Several questions are asked at once by
            /// waiting for them together.
            ///
            /// # Errors
            /// When the client cannot be asked, or its answer is an error.
            pub async fn ask<Q: Question>(&self, question: Q) -> Result<Q::Answer, AskError> {
                match &self.conversation {
                    Some(conversation) => conversation.ask(question).await,
                    None => Err(AskError::CannotWait("an inline handler cannot wait")),
                }
            }

            /// Asks the person: a [`Form`](crate::Form), or a [`Page`](crate::Page) to open. As [`Self::ask`].
            ///
            /// # Errors
            /// As [`Self::ask`].
            pub async fn elicit<Q: Question>(&self, form: Q) -> Result<Q::Answer, AskError> {
                self.ask(form).await
            }

            /// Asks the client's model. As [`Self::ask`].
            ///
            /// # Errors
            /// As [`Self::ask`].
            pub async fn sample(
                &self,
                sampling: crate::registry::Sampling,
            ) -> Result<crate::registry::Sampled, AskError> {
                self.ask(sampling).await
            }

            /// Asks which directories the client works in. As [`Self::ask`].
            ///
            /// # Errors
            /// As [`Self::ask`].
            pub async fn roots(&self) -> Result<Vec<crate::registry::Root>, AskError> {
                self.ask(crate::registry::ListRoots::default()).await
            }

            /// Makes the call a task, if the client knows the tasks extension: it is told the task's id at once, and asks
            /// for the result later. Whether the call is a task now; if not, it goes on as it was.
            ///
            /// # Errors
            /// When there is no room for one more task, or the call runs inline.
            pub fn become_task(&self, terms: TaskTerms) -> Result<bool, AskError> {
                match &self.conversation {
                    Some(conversation) => conversation.become_task(terms),
                    None => Ok(false),
                }
            }

            /// As [`Self::become_task`], for what can only run as one.
            ///
            /// # Errors
            /// Also when the client does not know the extension (checklist X-04).
            pub fn require_task(&self, terms: TaskTerms) -> Result<(), ProtocolError> {
                if self.become_task(terms)? {
                    Ok(())
                } else {
                    Err(ProtocolError::missing_capability(Capability::Tasks))
                }
            }

            /// The settings of an extension, if the client declared it (checklist N-01).
            #[must_use]
            pub fn extension(&self, id: &str) -> Option<&Value> {
                self.conversation.as_ref().and_then(|conversation| conversation.extension(id))
            }

            /// Ends the reply's stream of a legacy session before the call has ended, to free the connection: the client
            /// comes back for the rest after `retry`, by the id of the last event it saw. Nothing happens elsewhere.
            pub fn disconnect(&self, retry: Duration) {
                if let Some(conversation) = &self.conversation {
                    conversation.disconnect(retry);
                }
            }
        }
    };
}

talk!(Context);
talk!(RemoteContext);
