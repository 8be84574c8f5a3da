//! The parameters and results of a handler: the context of its call, the channel to its client, requests to the client,
//! the reply and its errors.

mod cache;
mod callable;
mod capability;
mod content;
mod context;
mod client_channel;
mod derived_schema;
mod error;
mod handler;
mod headers;
mod icon;
mod inline_context;
mod input;
mod level;
mod once;
mod output;
mod reply;
mod request;
mod revision;
mod shard_context;

pub use cache::{Cache, CacheScope};
pub use callable::{Callable, SharedCallable};
pub use capability::{Capabilities, Capability, TASKS};
pub use client_channel::{
    CallDetails, CallMessage, ClientChannel, ElicitationMode, MessageSender, TaskTerms, WaitGauge,
};
pub use content::{Annotations, Content, ResourceLink, Role};
pub use context::{Context, RemoteContext};
pub(crate) use derived_schema::listable;
pub use error::{AskError, CallError, HandlerError, ProtocolError};
pub(crate) use handler::{Adapter, impl_run_methods};
pub use handler::{AsyncHandler, BlockingHandler, BlockingJob, Handler, InlineHandler, LocalReply};
#[cfg(feature = "tokio")]
pub use handler::{RemoteReply, TokioHandler};
pub use headers::Headers;
pub(crate) use icon::put_icons;
pub use icon::{Icon, Theme};
pub use inline_context::InlineContext;
pub use input::{Elicited, Form, InputRequest, ListRoots, Page, Ping, Question, Root, Sampled, Sampling};
pub use level::Level;
pub use once::{AnswersDigest, FirstUse, OnceStates, OnceToken, OnceUse};
pub use output::OutputValidator;
pub(crate) use reply::SERVER_INFO;
pub use reply::{COMPLETIONS_MAX, IntoReply, Kind, OutputValidation, Reply, Structured};
pub(crate) use request::{CLIENT_CAPABILITIES, CLIENT_INFO};
pub use request::{
    Caller, ClientInfo, CopyTooLarge, DeclaredReads, OwnedRequest, REQUEST_COPY_BYTES_MAX, RequestContext,
};
pub use revision::Revision;
pub use shard_context::{Publish, ShardContext, ShardState};
