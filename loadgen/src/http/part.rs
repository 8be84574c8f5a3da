//! What a reply is read as.

/// What a reply's head says, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// Whether the body is an event stream.
    pub is_stream: bool,
    /// Whether the body claims to be JSON.
    pub is_json: bool,
    /// Whether the connection ends with this reply: the server announces it, speaks HTTP/1.0 without keep-alive, or ends
    /// the body by closing (RFC 9112, sections 6.3 and 9.3).
    pub closes: bool,
    /// `Mcp-Session-Id`.
    pub session: Option<Box<str>>,
}

/// A part of a reply.
#[derive(Debug, PartialEq)]
pub enum Part<'a> {
    /// The whole body of a reply that is no event stream, or the data of one event of one that is.
    Message(&'a Head, &'a [u8]),
    /// The reply is complete.
    End(&'a Head),
}

/// Why bytes are no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The head is not HTTP.
    #[error("the reply is not HTTP")]
    Head,
    /// The head or the body is larger than anything sensible.
    #[error("the reply is too large")]
    TooLarge,
    /// The body's framing is wrong.
    #[error("the reply's body is not framed as its head says")]
    Body,
    /// A line that is no message.
    #[error("its output has a line that is no JSON-RPC message: {0}")]
    Line(Box<str>),
}
