//! The contexts of calls that outlive their request's bytes: on the shard, and off it.

use std::{
    borrow::Cow,
    net::SocketAddr,
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
    capability::Capability,
    client_channel::{ClientChannel, TaskTerms},
    error::{AskError, ProtocolError},
    input::Question,
    level::Level,
    request::{Caller, ClientInfo, OwnedRequest},
    shard_context::{Publish, ShardContext},
};
use crate::jsonrpc::Id;

/// How often a blocking handler that waits for its client checks whether its call has been cancelled.
const CANCEL_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The call that an async handler serves, on the shard. An inline handler gets an [`InlineContext`](crate::InlineContext).
#[derive(Clone)]
pub struct Context {
    request: OwnedRequest,
    shard: Rc<ShardContext>,
    channel: Arc<ClientChannel>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Context").field("caller", &self.request.caller()).finish_non_exhaustive()
    }
}

impl Context {
    /// The context of a call on a shard.
    #[must_use]
    pub(crate) fn new(request: OwnedRequest, shard: Rc<ShardContext>, channel: Arc<ClientChannel>) -> Self {
        Self { request, shard, channel }
    }

    /// The shard's own state, made by [`ServerBuilder::shard_state`](crate::ServerBuilder::shard_state). Only handlers on this
    /// shard's thread have access to it, so a `Cell` or a `RefCell` inside is enough.
    ///
    /// # Panics
    /// When the server has no state of this type; the caller gets an error.
    #[must_use]
    pub fn state<T: 'static>(&self) -> &T {
        self.shard.state()
    }

    /// Notifies the subscribers of a resource, on all shards, that it has changed. A slow subscriber may get one notification for
    /// several changes.
    pub fn resource_updated(&self, uri: &str) {
        self.shard.resource_updated(uri);
    }
}

/// The call that a handler off the shard serves: blocking, or on tokio.
#[derive(Clone)]
pub struct RemoteContext {
    request: OwnedRequest,
    cancelled: Arc<AtomicBool>,
    publisher: Option<Arc<dyn Publish>>,
    channel: Arc<ClientChannel>,
}

impl std::fmt::Debug for RemoteContext {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("RemoteContext")
            .field("caller", &self.request.caller())
            .finish_non_exhaustive()
    }
}

impl RemoteContext {
    /// A context whose call is cancelled when `cancelled` becomes true.
    #[must_use]
    pub(crate) fn new(
        request: OwnedRequest,
        cancelled: Arc<AtomicBool>,
        publisher: Option<Arc<dyn Publish>>,
        channel: Arc<ClientChannel>,
    ) -> Self {
        Self { request, cancelled, publisher, channel }
    }

    /// Whether the call has been cancelled: its deadline has passed, or its client has disconnected or cancelled it. A blocking
    /// handler that takes long should check this regularly and return, so that its thread is free.
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

    /// Waits for an answer on a blocking handler's thread: `cx.block_on(cx.elicit(form))?`.
    ///
    /// # Errors
    /// Those of the request; and [`AskError::InputRequired`] where the call is to start again with the answer: the handler must
    /// return it.
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
            if self.channel.has_unanswered() {
                return Err(AskError::InputRequired);
            }
            if self.is_cancelled() {
                return Err(AskError::NoAnswer);
            }
            thread::park_timeout(CANCEL_POLL_INTERVAL);
        }
    }
}

/// The methods of every context that outlives its request's bytes.
macro_rules! impl_context_methods {
    ($context:ty) => {
        impl $context {
            /// The client's revision and capabilities, and the shard.
            #[must_use]
            pub fn caller(&self) -> Caller {
                self.request.caller()
            }

            /// The value of a header that was declared, by its name in any case: [`ToolBuilder::headers`](crate::ToolBuilder::headers)
            /// and its like. `None` for any other, and on a connection of newline-delimited JSON. A header that
            /// is given more than once, or is no UTF-8, has the value that
            /// [`InlineContext::header`](crate::InlineContext::header) describes.
            #[must_use]
            pub fn header(&self, name: &str) -> Option<Cow<'_, str>> {
                self.request.header(name).map(Cow::Borrowed)
            }

            /// A member of the request's `_meta` that was declared:
            /// [`ToolBuilder::request_meta`](crate::ToolBuilder::request_meta) and its like. `None` for any other.
            #[must_use]
            pub fn meta(&self, key: &str) -> Option<&Value> {
                self.request.meta(key)
            }

            /// The client program, if [`ToolBuilder::client_info`](crate::ToolBuilder::client_info) or its like was called, and if
            /// the request's `_meta` describes it: clients of 2026-07-28 do. The description that a legacy client gives in its
            /// handshake is not stored.
            #[must_use]
            pub fn client(&self) -> Option<ClientInfo<'_>> {
                self.request.client()
            }

            /// The id of the legacy session, as the client sent it, if the header `Mcp-Session-Id` was declared.
            #[must_use]
            pub fn session_id(&self) -> Option<&str> {
                self.request.session_id()
            }

            /// The JSON-RPC id of the request.
            #[must_use]
            pub fn request_id(&self) -> Id<'_> {
                self.request.id().as_id()
            }

            /// The other end of the connection; `None` where it has no IP address, or where that is not known.
            #[must_use]
            pub fn peer(&self) -> Option<SocketAddr> {
                self.request.peer.map(SocketAddr::from)
            }

            /// The name of the tool or the prompt that was called, the URI or the template of the resource that is read; of a
            /// completer that of its prompt or template.
            #[must_use]
            pub fn tool(&self) -> &str {
                self.request.target()
            }

            /// Whether a log message of this level would be sent.
            #[must_use]
            pub fn logs(&self, level: Level) -> bool {
                self.channel.logs(level)
            }

            /// Sends a progress notification, if the request has a progress token. `progress` must increase; a value that does
            /// not is dropped. `total` is its final value, if that is known.
            pub fn progress(&self, progress: f64, total: Option<f64>, message: Option<&str>) {
                self.channel.progress(progress, total, message);
            }

            /// Sends a log message to the client, if it gets messages of this level: a client of 2026-07-28 names the lowest level
            /// with its request, a legacy one sets it for its session, and gets messages from `info` up if it never does. Must
            /// hold neither secrets nor internals of the server.
            pub fn log(&self, level: Level, data: impl Serialize) {
                self.channel.log(level, None, &data);
            }

            /// As [`Self::log`], under a logger's name.
            pub fn log_as(&self, logger: &str, level: Level, data: impl Serialize) {
                self.channel.log(level, Some(logger), &data);
            }

            /// Sends a request to the client, and waits for the answer. In a legacy session, and in a task, the call waits. Else,
            /// since 2026-07-28, it ends here, and *starts again* with the answer when the client retries it: the code before a
            /// request runs once for each round, so it should change nothing, and should send the same requests in the same
            /// order, or name them by [`Form::key`](crate::Form::key). Several requests are sent at once by waiting for them
            /// together. The client can repeat such a retry, also with other answers, until the state expires that it got
            /// (`limits.request_state_ttl`, 1 h); [`ToolBuilder::once`](crate::ToolBuilder::once) prevents it.
            ///
            /// # Errors
            /// When the client does not support the request, the call cannot wait, or the answer is an error.
            pub async fn ask<Q: Question>(&self, question: Q) -> Result<Q::Answer, AskError> {
                self.channel.ask(question).await
            }

            /// Asks the user for input: a [`Form`](crate::Form), or a [`Page`](crate::Page) to open. As [`Self::ask`].
            ///
            /// # Errors
            /// As [`Self::ask`].
            pub async fn elicit<Q: Question>(&self, form: Q) -> Result<Q::Answer, AskError> {
                self.ask(form).await
            }

            /// Requests a completion of the client's model. As [`Self::ask`].
            ///
            /// # Errors
            /// As [`Self::ask`].
            pub async fn sample(
                &self,
                sampling: crate::call::Sampling,
            ) -> Result<crate::call::Sampled, AskError> {
                self.ask(sampling).await
            }

            /// Requests the directories that the client works in. As [`Self::ask`].
            ///
            /// # Errors
            /// As [`Self::ask`].
            pub async fn roots(&self) -> Result<Vec<crate::call::Root>, AskError> {
                self.ask(crate::call::ListRoots::default()).await
            }

            /// Makes the call a task, if the client declared the tasks extension: it gets the task's id at once, and polls for
            /// the result. Returns whether the call is a task now; if not, it continues as before.
            ///
            /// # Errors
            /// When there is no room for one more task.
            pub fn become_task(&self, terms: TaskTerms) -> Result<bool, AskError> {
                self.channel.become_task(terms)
            }

            /// As [`Self::become_task`], for calls that can only run as a task.
            ///
            /// # Errors
            /// Also when the client did not declare the extension: -32021.
            pub fn require_task(&self, terms: TaskTerms) -> Result<(), ProtocolError> {
                if self.become_task(terms)? {
                    Ok(())
                } else {
                    Err(ProtocolError::missing_capability(Capability::Tasks))
                }
            }

            /// The settings of an extension, if the client declared it with this request
            /// (<https://modelcontextprotocol.io/specification/2026-07-28/basic/versioning#extension-negotiation>).
            #[must_use]
            pub fn extension(&self, id: &str) -> Option<&Value> {
                self.channel.extension(id)
            }

            /// Closes the reply's stream of a legacy session before the call has ended, to free the connection: the client
            /// reconnects for the rest after `retry`, with the id of the last event it received. Does nothing for other calls.
            pub fn disconnect(&self, retry: Duration) {
                self.channel.disconnect(retry);
            }
        }
    };
}

impl_context_methods!(Context);
impl_context_methods!(RemoteContext);
