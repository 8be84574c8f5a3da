//! How what a server offers is run: inline, as a task, on a thread, on tokio; the same four ways for tools, resources,
//! prompts and completions.

use std::{future::Future, pin::Pin, sync::Arc};

use super::{
    context::{Context, RemoteContext},
    reply::Reply,
};
use crate::json::Node;

/// Fast: runs on the shard's core, at once.
pub type InlineHandler = dyn Fn(Node<'_>, Context, &mut Reply) + Send + Sync;
/// The work of an async handler: stays on the shard's thread.
pub type LocalReply = Pin<Box<dyn Future<Output = Reply>>>;
/// A task on the shard's executor.
pub type AsyncHandler = dyn Fn(Node<'_>, Context) -> LocalReply + Send + Sync;
/// The work of a blocking handler: moves to a thread of the pool.
pub type BlockingJob = Box<dyn FnOnce() -> Reply + Send>;
/// Runs on the blocking pool.
pub type BlockingHandler = dyn Fn(Node<'_>, RemoteContext) -> BlockingJob + Send + Sync;
/// The work of a handler on tokio: moves to a thread of its runtime.
#[cfg(feature = "tokio")]
pub type RemoteReply = Pin<Box<dyn Future<Output = Reply> + Send>>;
/// A task of the tokio runtime, off the shards' cores.
#[cfg(feature = "tokio")]
pub type TokioHandler = dyn Fn(Node<'_>, RemoteContext) -> RemoteReply + Send + Sync;

/// How something runs.
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

/// How a handler's input is read and its output put into a reply: what differs between tools, resources, prompts and
/// completions. `Kept` goes past the handler, from the input to the output.
pub(super) struct Convert<In, Out, Kept = ()> {
    /// Reads the input, or says to the client what is wrong with it.
    pub(super) read: Read<In, Kept>,
    /// Puts what is wrong with the input into the reply.
    pub(super) refuse: fn(&mut Reply, String),
    /// Puts the output into the reply.
    pub(super) put: fn(Out, Kept, &mut Reply),
}

/// Reads a handler's input.
pub(super) type Read<In, Kept> = Arc<dyn Fn(Node<'_>) -> Result<(In, Kept), String> + Send + Sync>;

impl<In: 'static, Out: 'static, Kept: 'static> Convert<In, Out, Kept> {
    fn answer(&self, reply: &mut Reply, input: Result<(In, Kept), String>, run: impl FnOnce(In) -> Out) {
        match input {
            Ok((input, kept)) => (self.put)(run(input), kept, reply),
            Err(told) => (self.refuse)(reply, told),
        }
    }

    async fn answer_later(
        &self,
        input: Result<(In, Kept), String>,
        run: impl AsyncFnOnce(In) -> Out,
    ) -> Reply {
        let mut reply = Reply::default();
        match input {
            Ok((input, kept)) => (self.put)(run(input).await, kept, &mut reply),
            Err(told) => (self.refuse)(&mut reply, told),
        }
        reply
    }

    /// Runs on the core, before the next request.
    pub(super) fn inline(self, run: impl Fn(In, Context) -> Out + Send + Sync + 'static) -> Handler {
        Handler::Inline(Arc::new(move |node, context, reply| {
            self.answer(reply, (self.read)(node), |input| run(input, context));
        }))
    }

    /// A task on the shard's executor.
    pub(super) fn local(self, run: impl AsyncFn(In, Context) -> Out + Send + Sync + 'static) -> Handler {
        let shared = Arc::new((self, run));
        Handler::Async(Arc::new(move |node, context| {
            let input = (shared.0.read)(node);
            let shared = Arc::clone(&shared);
            Box::pin(async move {
                let (convert, run) = &*shared;
                convert.answer_later(input, async |input| run(input, context).await).await
            })
        }))
    }

    /// On a thread of the blocking pool.
    pub(super) fn blocking(self, run: impl Fn(In, RemoteContext) -> Out + Send + Sync + 'static) -> Handler
    where
        In: Send,
        Kept: Send,
    {
        let shared = Arc::new((self, run));
        Handler::Blocking(Arc::new(move |node, context| {
            let input = (shared.0.read)(node);
            let shared = Arc::clone(&shared);
            Box::new(move || {
                let (convert, run) = &*shared;
                let mut reply = Reply::default();
                convert.answer(&mut reply, input, |input| run(input, context));
                reply
            })
        }))
    }

    /// A task of the tokio runtime. Each call takes a copy of the closure: an async closure that borrows what it has captured is
    /// no `Fn`, and that the futures of an `AsyncFn` are `Send` cannot be asked for yet (return type notation, rust-lang/rust
    /// 109417). Called by value, it gives a future that owns what it captured.
    #[cfg(feature = "tokio")]
    pub(super) fn tokio<Work>(
        self,
        run: impl FnOnce(In, RemoteContext) -> Work + Clone + Send + Sync + 'static,
    ) -> Handler
    where
        In: Send,
        Kept: Send,
        Work: Future<Output = Out> + Send + 'static,
    {
        let shared = Arc::new((self, run));
        Handler::Tokio(Arc::new(move |node, context| {
            let input = (shared.0.read)(node);
            let shared = Arc::clone(&shared);
            Box::pin(async move {
                let (convert, run) = &*shared;
                let mut reply = Reply::default();
                match input {
                    Ok((input, kept)) => {
                        (convert.put)(run.clone()(input, context).await, kept, &mut reply);
                    }
                    Err(told) => (convert.refuse)(&mut reply, told),
                }
                reply
            })
        }))
    }
}

/// The ways in which whatever is declared may run, for a builder with `convert` and `finish`: its input, and what it may
/// return.
macro_rules! ways_to_run {
    ($input:ty, $output:path, $declared:ty, Send: [$($send:ty),*]) => {
        /// A task on the shard's executor: timers are those of [`corelane::time`](crate::time), other tasks are started by
        /// [`spawn_local`](crate::spawn_local). Dropped when the call is cancelled: at its deadline, or when a client of the 2026
        /// era leaves.
        pub fn run_async<F, R>(self, run: F) -> $declared
        where
            F: AsyncFn($input, Context) -> R + Send + Sync + 'static,
            R: $output + 'static,
        {
            let handler = self.convert().local(run);
            self.finish(handler)
        }

        /// On a thread of the blocking pool.
        pub fn run_blocking<F, R>(self, run: F) -> $declared
        where
            $($send: Send,)*
            F: Fn($input, RemoteContext) -> R + Send + Sync + 'static,
            R: $output + 'static,
        {
            let handler = self.convert().blocking(run);
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
            let handler = self.convert().tokio(run);
            self.finish(handler)
        }
    };
}

pub(super) use ways_to_run;
