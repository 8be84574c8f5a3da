//! Handlers of tools, resources, prompts and completers: inline, as a task of the shard, on the blocking pool, on tokio.

use std::{future::Future, pin::Pin, sync::Arc};

use super::{
    context::{Context, RemoteContext},
    inline_context::InlineContext,
    reply::Reply,
};
use crate::json::Node;

/// An inline handler: runs on the shard's thread, before the next request.
pub type InlineHandler = dyn Fn(Node<'_>, InlineContext<'_>, &mut Reply) + Send + Sync;
/// The future of an async handler; stays on the shard's thread.
pub type LocalReply = Pin<Box<dyn Future<Output = Reply>>>;
/// An async handler: reads its input, and returns a task for the shard's executor.
pub type AsyncHandler = dyn Fn(Node<'_>, Context) -> LocalReply + Send + Sync;
/// The work of a blocking handler; moves to a thread of the pool.
pub type BlockingJob = Box<dyn FnOnce() -> Reply + Send>;
/// A blocking handler: reads its input, and returns work for the blocking pool.
pub type BlockingHandler = dyn Fn(Node<'_>, RemoteContext) -> BlockingJob + Send + Sync;
/// The future of a handler on tokio; moves to a thread of its runtime.
#[cfg(feature = "tokio")]
pub type RemoteReply = Pin<Box<dyn Future<Output = Reply> + Send>>;
/// A handler on tokio: reads its input, and returns a task for the tokio runtime.
#[cfg(feature = "tokio")]
pub type TokioHandler = dyn Fn(Node<'_>, RemoteContext) -> RemoteReply + Send + Sync;

/// A handler, by where it runs.
#[derive(Clone)]
#[non_exhaustive]
pub enum Handler {
    /// On the core, before the next request.
    Inline(Arc<InlineHandler>),
    /// As a task beside the requests.
    Async(Arc<AsyncHandler>),
    /// On a thread off the core.
    Blocking(Arc<BlockingHandler>),
    /// As a task of a tokio runtime off the core.
    #[cfg(feature = "tokio")]
    Tokio(Arc<TokioHandler>),
}

/// Converts between a handler and the wire: reads its input, and writes its output to the reply. `Passthrough` is a value of the
/// input that the output needs and the handler does not get.
pub(crate) struct Adapter<In, Out, Passthrough = ()> {
    /// Reads the input, or returns the error message for the client.
    pub(crate) read: Read<In, Passthrough>,
    /// Writes the error message to the reply.
    pub(crate) refuse: fn(&mut Reply, String),
    /// Writes the output to the reply.
    pub(crate) put: fn(Out, Passthrough, &mut Reply),
}

/// Reads a handler's input.
pub(crate) type Read<In, Passthrough> =
    Arc<dyn Fn(Node<'_>) -> Result<(In, Passthrough), String> + Send + Sync>;

impl<In: 'static, Out: 'static, Passthrough: 'static> Adapter<In, Out, Passthrough> {
    fn answer(
        &self,
        reply: &mut Reply,
        input: Result<(In, Passthrough), String>,
        run: impl FnOnce(In) -> Out,
    ) {
        match input {
            Ok((input, passthrough)) => (self.put)(run(input), passthrough, reply),
            Err(message) => (self.refuse)(reply, message),
        }
    }

    async fn run_async(
        &self,
        input: Result<(In, Passthrough), String>,
        run: impl AsyncFnOnce(In) -> Out,
    ) -> Reply {
        let mut reply = Reply::default();
        match input {
            Ok((input, passthrough)) => (self.put)(run(input).await, passthrough, &mut reply),
            Err(message) => (self.refuse)(&mut reply, message),
        }
        reply
    }

    /// Runs on the core, before the next request.
    pub(crate) fn inline(
        self,
        run: impl Fn(In, InlineContext<'_>) -> Out + Send + Sync + 'static,
    ) -> Handler {
        Handler::Inline(Arc::new(move |node, context, reply| {
            self.answer(reply, (self.read)(node), |input| run(input, context));
        }))
    }

    /// A task on the shard's executor.
    pub(crate) fn local(self, run: impl AsyncFn(In, Context) -> Out + Send + Sync + 'static) -> Handler {
        let shared = Arc::new((self, run));
        Handler::Async(Arc::new(move |node, context| {
            let input = (shared.0.read)(node);
            let shared = Arc::clone(&shared);
            Box::pin(async move {
                let (adapter, run) = &*shared;
                adapter.run_async(input, async |input| run(input, context).await).await
            })
        }))
    }

    /// On a thread of the blocking pool.
    pub(crate) fn blocking(self, run: impl Fn(In, RemoteContext) -> Out + Send + Sync + 'static) -> Handler
    where
        In: Send,
        Passthrough: Send,
    {
        let shared = Arc::new((self, run));
        Handler::Blocking(Arc::new(move |node, context| {
            let input = (shared.0.read)(node);
            let shared = Arc::clone(&shared);
            Box::new(move || {
                let (adapter, run) = &*shared;
                let mut reply = Reply::default();
                adapter.answer(&mut reply, input, |input| run(input, context));
                reply
            })
        }))
    }

    /// A task of the tokio runtime. Each call takes a copy of the closure: an async closure that borrows what it has captured is
    /// no `Fn`, and that the futures of an `AsyncFn` are `Send` cannot be asked for yet (return type notation, rust-lang/rust
    /// 109417). Called by value, it gives a future that owns what it captured.
    #[cfg(feature = "tokio")]
    pub(crate) fn tokio<Work>(
        self,
        run: impl FnOnce(In, RemoteContext) -> Work + Clone + Send + Sync + 'static,
    ) -> Handler
    where
        In: Send,
        Passthrough: Send,
        Work: Future<Output = Out> + Send + 'static,
    {
        let shared = Arc::new((self, run));
        Handler::Tokio(Arc::new(move |node, context| {
            let input = (shared.0.read)(node);
            let shared = Arc::clone(&shared);
            Box::pin(async move {
                let (adapter, run) = &*shared;
                let mut reply = Reply::default();
                match input {
                    Ok((input, passthrough)) => {
                        (adapter.put)(run.clone()(input, context).await, passthrough, &mut reply);
                    }
                    Err(message) => (adapter.refuse)(&mut reply, message),
                }
                reply
            })
        }))
    }
}

/// The methods that set an async, blocking or tokio handler, for a builder with `adapter` and `finish`: the handler's input, and
/// the trait of its output.
macro_rules! impl_run_methods {
    ($input:ty, $output:path, $declared:ty, Send: [$($send:ty),*]) => {
        /// A task on the shard's executor: timers are those of [`corelane::time`](crate::time), other tasks are started by
        /// [`spawn_local`](crate::spawn_local). Dropped when the call is cancelled: at its deadline, or when a client of the 2026
        /// era leaves.
        pub fn run_async<F, R>(self, run: F) -> $declared
        where
            F: AsyncFn($input, Context) -> R + Send + Sync + 'static,
            R: $output + 'static,
        {
            let handler = self.adapter().local(run);
            self.finish(handler)
        }

        /// On a thread of the blocking pool.
        pub fn run_blocking<F, R>(self, run: F) -> $declared
        where
            $($send: Send,)*
            F: Fn($input, RemoteContext) -> R + Send + Sync + 'static,
            R: $output + 'static,
        {
            let handler = self.adapter().blocking(run);
            self.finish(handler)
        }

        /// On tokio, for the clients that need it: a task of a small runtime off the shards' cores. Aborted when the call is
        /// cancelled, as [`Self::run_async`]'s.
        ///
        /// Takes async closures, as [`Self::run_async`], and closures that return a future. The task moves between threads,
        /// so what is held across an `.await` must be `Send`. Each call gets a copy of the closure, so what it captures must
        /// be `Clone`: an HTTP client is cheap to copy, anything else goes into an `Arc`.
        ///
        /// ```
        /// use std::{sync::Arc, time::Duration};
        ///
        /// use corelane::Tool;
        /// # #[derive(serde::Deserialize, schemars::JsonSchema)]
        /// # struct Lookup {
        /// #     name: String,
        /// # }
        ///
        /// let pauses = Arc::new(tokio::sync::Semaphore::new(4));
        /// let tool = Tool::new("lookup").input::<Lookup>().run_tokio(async move |lookup, cx| {
        ///     let _permit = pauses.acquire().await?;
        ///     cx.progress(1.0, None, None);
        ///     tokio::time::sleep(Duration::from_millis(1)).await;
        ///     Ok::<_, tokio::sync::AcquireError>(lookup.name)
        /// });
        /// ```
        #[cfg(feature = "tokio")]
        pub fn run_tokio<F, W, R>(self, run: F) -> $declared
        where
            $($send: Send,)*
            F: FnOnce($input, RemoteContext) -> W + Clone + Send + Sync + 'static,
            W: Future<Output = R> + Send + 'static,
            R: $output + 'static,
        {
            let handler = self.adapter().tokio(run);
            self.finish(handler)
        }
    };
}

pub(crate) use impl_run_methods;
