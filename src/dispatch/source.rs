//! The source of a message and the destination of its reply.

use corelane_ring::{PeerAddress, SocketId};

use crate::{
    mcp::{Handshake, Headers, StreamId, TaskKey, Transport},
    session::SubscriberKey,
};

/// The source of a message.
pub(crate) enum Source<'a> {
    /// The body of an HTTP request.
    Http {
        socket: SocketId,
        peer: Option<PeerAddress>,
        headers: Headers<'a>,
        /// Whether the message is part of a batch.
        in_batch: bool,
    },
    /// A line of newline-delimited JSON.
    JsonLines {
        client: &'a mut JsonLinesClient,
        /// Whether the connection has its maximum number of calls in flight.
        is_at_call_limit: bool,
    },
}

/// The client of a newline-delimited connection, which has the state of a session.
#[derive(Debug)]
pub(crate) struct JsonLinesClient {
    pub(crate) socket: SocketId,
    pub(crate) peer: Option<PeerAddress>,
    /// The result of `initialize`.
    pub(crate) handshake: Option<Handshake>,
    /// The subscriber of its legacy subscriptions and of list changes.
    pub(crate) subscriber: Option<SubscriberKey>,
    /// Its open `subscriptions/listen` requests.
    pub(crate) listens: Vec<SubscriberKey>,
}

impl JsonLinesClient {
    /// A client before its first message.
    pub(crate) fn new(socket: SocketId, peer: Option<PeerAddress>) -> Self {
        Self { socket, peer, handshake: None, subscriber: None, listens: Vec::new() }
    }

    /// All subscribers of the client.
    pub(crate) fn subscribers(&self) -> impl Iterator<Item = SubscriberKey> {
        self.listens.iter().copied().chain(self.subscriber)
    }
}

impl Source<'_> {
    /// The head of the HTTP request.
    pub(crate) fn headers(&self) -> Option<Headers<'_>> {
        match self {
            Self::Http { headers, .. } => Some(*headers),
            Self::JsonLines { .. } => None,
        }
    }

    /// The peer's address; `None` if the kernel reports none.
    pub(crate) fn peer(&self) -> Option<PeerAddress> {
        match self {
            Self::Http { peer, .. } => *peer,
            Self::JsonLines { client, .. } => client.peer,
        }
    }

    /// The part of the source that the protocol depends on.
    #[inline]
    pub(crate) fn transport(&self) -> Transport<'_> {
        match self {
            Self::Http { headers, .. } => Transport::Http(*headers),
            Self::JsonLines { client, .. } => Transport::JsonLines(client.handshake),
        }
    }

    /// Whether messages can precede the reply: over an event stream or JSON lines. Parses the list in the `Accept` header.
    pub(crate) fn accepts_streaming(&self) -> bool {
        match self {
            Self::Http { headers, .. } => {
                !headers.head.http_1_0 && headers.head.accepts_events(headers.bytes)
            }
            Self::JsonLines { .. } => true,
        }
    }

    /// The connection.
    pub(crate) fn connection(&self) -> Option<SocketId> {
        match self {
            Self::Http { socket, .. } => Some(*socket),
            Self::JsonLines { client, .. } => Some(client.socket),
        }
    }

    /// Whether the message is part of a batch over HTTP.
    pub(crate) fn is_in_batch(&self) -> bool {
        matches!(self, Self::Http { in_batch: true, .. })
    }

    /// Whether the connection has its maximum number of calls in flight.
    pub(crate) fn is_at_call_limit(&self) -> bool {
        matches!(self, Self::JsonLines { is_at_call_limit: true, .. })
    }

    /// The destination of a later reply.
    pub(crate) fn reply_to(&self) -> ReplyTo {
        match self {
            Self::Http { socket, in_batch, .. } => {
                let stream = match (self.accepts_streaming(), in_batch) {
                    (false, _) => ReplyStream::Unsupported,
                    (true, false) => ReplyStream::Possible,
                    (true, true) => ReplyStream::Open,
                };
                ReplyTo::Http { socket: *socket, stream }
            }
            Self::JsonLines { client, .. } => ReplyTo::JsonLines(client.socket),
        }
    }
}

/// The destination of a reply.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ReplyTo {
    /// The HTTP connection of the request.
    Http { socket: SocketId, stream: ReplyStream },
    /// A newline-delimited connection.
    JsonLines(SocketId),
    /// A task, whose result the client fetches.
    Task(TaskKey),
    /// The replay buffer of a stream that the client resumes.
    Stream(StreamId),
}

/// Whether a reply over HTTP is an event stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyStream {
    /// No: the client does not accept one.
    Unsupported,
    /// It becomes one with the first message that precedes the reply.
    Possible,
    /// Yes, and it cannot be resumed.
    Open,
    /// Yes, and this replay buffer holds its events.
    Resumable(StreamId),
}

impl ReplyTo {
    /// The connection; `None` if the reply goes to a task or replay buffer.
    pub(crate) fn socket(&self) -> Option<SocketId> {
        match self {
            Self::Http { socket, .. } | Self::JsonLines(socket) => Some(*socket),
            Self::Task(_) | Self::Stream(_) => None,
        }
    }
}
