//! The context of an inline call.

use std::{borrow::Cow, cell::OnceCell, net::SocketAddr};

use serde::Serialize;

use super::{
    client_channel::{CallDetails, ClientChannel},
    level::Level,
    request::{Caller, ClientInfo, RequestContext},
    shard_context::ShardContext,
};
use crate::{json::Node, jsonrpc::Id};

/// The call that an inline handler serves. Everything is read where it was received: nothing is copied.
///
/// It ends with the call, so nothing of it can be kept:
///
/// ```compile_fail,E0521
/// use corelane::{InlineContext, NoArguments, Tool};
///
/// let tool = Tool::new("keep").run(|_: NoArguments, cx: InlineContext<'_>| {
///     let kept: InlineContext<'static> = cx;
/// });
/// ```
///
/// An inline handler cannot wait, so it cannot send the client a request or become a task:
/// [`run_async`](crate::ToolBuilder::run_async) and [`run_blocking`](crate::ToolBuilder::run_blocking) can.
#[derive(Clone, Copy)]
pub struct InlineContext<'a> {
    request: &'a RequestContext<'a>,
    shard: &'a ShardContext,
    /// Created with the first log message, unless the request has a progress token or a log level.
    channel: &'a OnceCell<Box<ClientChannel>>,
}

impl std::fmt::Debug for InlineContext<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("InlineContext").field("caller", &self.request.caller).finish_non_exhaustive()
    }
}

impl<'a> InlineContext<'a> {
    /// The context of a call. `channel` is empty if the request has neither a progress token nor a log level; log messages that a
    /// legacy client receives by default fill it.
    #[must_use]
    pub(crate) fn new(
        request: &'a RequestContext<'a>,
        shard: &'a ShardContext,
        channel: &'a OnceCell<Box<ClientChannel>>,
    ) -> Self {
        Self { request, shard, channel }
    }

    /// The client's revision and capabilities, and the shard.
    #[must_use]
    pub fn caller(self) -> Caller {
        self.request.caller
    }

    /// The value of a header of the HTTP request, by its name in any case; `None` on a connection of newline-delimited JSON. The
    /// values of a header that is given more than once are joined by `, ` in their order, as
    /// [RFC 9110, section 5.3](https://www.rfc-editor.org/rfc/rfc9110#section-5.3) allows; bytes that are no UTF-8 become U+FFFD.
    ///
    /// ```
    /// use corelane::{NoArguments, Tool};
    ///
    /// let tool = Tool::new("whoami").run(|_: NoArguments, cx| {
    ///     format!("tenant {}", cx.header("x-tenant").as_deref().unwrap_or("public"))
    /// });
    /// ```
    #[must_use]
    pub fn header(self, name: &str) -> Option<Cow<'a, str>> {
        self.request.header(name)
    }

    /// A member of the request's `_meta`.
    #[must_use]
    pub fn meta(self, key: &str) -> Option<Node<'a>> {
        self.request.meta(key)
    }

    /// The client program, if the request's `_meta` describes it: clients of 2026-07-28 do. The description that a legacy client
    /// gives in its handshake is not stored.
    #[must_use]
    pub fn client(self) -> Option<ClientInfo<'a>> {
        self.request.client()
    }

    /// The id of the legacy session, as the client sent it.
    #[must_use]
    pub fn session_id(self) -> Option<&'a str> {
        self.request.session_id()
    }

    /// The JSON-RPC id of the request.
    #[must_use]
    pub fn request_id(self) -> Id<'a> {
        self.request.id
    }

    /// The other end of the connection; `None` where it has no IP address, or where that is not known.
    #[must_use]
    pub fn peer(self) -> Option<SocketAddr> {
        self.request.peer.map(SocketAddr::from)
    }

    /// The name of the tool or the prompt that was called, the URI or the template of the resource that is read; of a completer
    /// that of its prompt or template.
    #[must_use]
    pub fn tool(self) -> &'a str {
        self.request.target
    }

    /// The settings of an extension, if the client declared it with this request.
    #[must_use]
    pub fn extension(self, id: &str) -> Option<Node<'a>> {
        self.request.extension(id)
    }

    /// As [`Context::state`](crate::Context::state).
    ///
    /// # Panics
    /// When the server has no state of this type; the caller gets an error.
    #[must_use]
    pub fn state<T: 'static>(self) -> &'a T {
        self.shard.state()
    }

    /// As [`Context::resource_updated`](crate::Context::resource_updated).
    pub fn resource_updated(self, uri: &str) {
        self.shard.resource_updated(uri);
    }

    /// As [`Context::progress`](crate::Context::progress). Sent when the handler has returned.
    pub fn progress(self, progress: f64, total: Option<f64>, message: Option<&str>) {
        if let Some(channel) = self.channel.get() {
            channel.progress(progress, total, message);
        }
    }

    /// Whether a log message of this level would be sent.
    #[must_use]
    pub fn logs(self, level: Level) -> bool {
        self.channel.get().map_or_else(|| self.logs_unasked(level), |channel| channel.logs(level))
    }

    /// As [`Context::log`](crate::Context::log). Sent when the handler has returned.
    pub fn log(self, level: Level, data: impl Serialize) {
        if let Some(channel) = self.channel_for_log(level) {
            channel.log(level, None, &data);
        }
    }

    /// As [`Self::log`], under a logger's name.
    pub fn log_as(self, logger: &str, level: Level, data: impl Serialize) {
        if let Some(channel) = self.channel_for_log(level) {
            channel.log(level, Some(logger), &data);
        }
    }

    /// A client of 2026-07-28 that names no level gets no log messages.
    fn logs_unasked(self, level: Level) -> bool {
        level >= Level::LEGACY_DEFAULT && !self.request.caller.revision.is_modern()
    }

    fn channel_for_log(self, level: Level) -> Option<&'a ClientChannel> {
        self.logs(level).then(|| &**self.channel.get_or_init(|| self.create_channel()))
    }

    #[cold]
    fn create_channel(self) -> Box<ClientChannel> {
        let Caller { revision, capabilities, .. } = self.request.caller;
        let details = CallDetails { log_level: Some(Level::LEGACY_DEFAULT), ..CallDetails::default() };
        Box::new(ClientChannel::buffered(revision, capabilities, details))
    }
}
