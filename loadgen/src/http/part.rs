//! Parts of a reply.

/// The fields of a reply's head that the generator uses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// Whether the body is an event stream.
    pub is_stream: bool,
    /// Whether the media type of the body is JSON.
    pub is_json: bool,
    /// Whether the connection ends with this reply: the server announces it, uses HTTP/1.0 without keep-alive, or ends
    /// the body by closing (RFC 9112, sections 6.3 and 9.3).
    pub closes: bool,
    /// Value of `Mcp-Session-Id`.
    pub session: Option<Box<str>>,
}

/// A part of a reply.
#[derive(Debug, PartialEq)]
pub enum Part<'a> {
    /// The whole body of a reply, or the data of one event if the reply is an event stream.
    Message(&'a Head, &'a [u8]),
    /// The reply is complete.
    End(&'a Head),
}

/// The reason why bytes are not a reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The head is not HTTP.
    #[error("the reply is not HTTP")]
    Head,
    /// The head or the body exceeds its maximum length.
    #[error("the reply exceeds the maximum length")]
    TooLarge,
    /// The body's framing is invalid.
    #[error("the framing of the reply's body is invalid")]
    Body,
    /// A line that is not a JSON-RPC message.
    #[error("its output contains a line that is not a JSON-RPC message: {0}")]
    Line(Box<str>),
}
