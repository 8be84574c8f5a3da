//! Where a message came from, and where its answer goes.

use corelane_ring::{PeerAddress, SocketId};

use crate::{
    mcp::{Handshake, Headers, TaskKey, Transport},
    mesh::StreamId,
    session::SubscriberKey,
};

/// The connection a message came on.
pub(crate) enum Source<'a> {
    /// The body of an HTTP request.
    Http {
        socket: SocketId,
        peer: Option<PeerAddress>,
        headers: Headers<'a>,
        /// One of several messages of the body.
        in_batch: bool,
    },
    /// A line of newline-delimited JSON.
    JsonLines {
        client: &'a mut JsonLinesClient,
        /// Whether the connection has as many calls in flight as it may.
        is_at_call_limit: bool,
    },
}

/// The client of a newline-delimited connection. Its session is the connection.
#[derive(Debug)]
pub(crate) struct JsonLinesClient {
    pub(crate) socket: SocketId,
    pub(crate) peer: Option<PeerAddress>,
    /// What `initialize` agreed on.
    pub(crate) handshake: Option<Handshake>,
    /// The subscriber of its legacy subscriptions and of list changes.
    pub(crate) subscriber: Option<SubscriberKey>,
    /// Its open `subscriptions/listen` requests.
    pub(crate) listens: Vec<SubscriberKey>,
}

impl JsonLinesClient {
    /// A client that has sent nothing yet.
    pub(crate) fn new(socket: SocketId, peer: Option<PeerAddress>) -> Self {
        Self { socket, peer, handshake: None, subscriber: None, listens: Vec::new() }
    }

    /// All its subscribers.
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

    /// The peer's address, where it has one that the kernel reports.
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
            Self::JsonLines { client, .. } => Transport::Line(client.handshake),
        }
    }

    /// Whether messages can precede the answer: the client reads a stream of events, or lines. Not free: the Accept header
    /// is a list.
    pub(crate) fn accepts_streaming(&self) -> bool {
        match self {
            Self::Http { headers, .. } => {
                !headers.head.http_1_0 && headers.head.accepts_events(headers.bytes)
            }
            Self::JsonLines { .. } => true,
        }
    }

    /// Whether the connection may have no further call in flight.
    pub(crate) fn is_at_call_limit(&self) -> bool {
        matches!(self, Self::JsonLines { is_at_call_limit: true, .. })
    }

    /// Where an answer goes that comes later.
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

/// Where the answer of a call goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ReplyTo {
    /// The HTTP connection that waits for it.
    Http { socket: SocketId, stream: ReplyStream },
    /// A line of this connection.
    JsonLines(SocketId),
    /// A task, whose result its client fetches.
    Task(TaskKey),
    /// The replay buffer of a stream that its client resumes.
    Stream(StreamId),
}

/// Whether a reply over HTTP is a stream of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyStream {
    /// No: the client does not accept one.
    Unsupported,
    /// It becomes one with the first message that precedes the answer.
    Possible,
    /// Yes, and it cannot be resumed.
    Open,
    /// Yes, and its events are kept in this replay buffer.
    Resumable(StreamId),
}

impl ReplyTo {
    /// The connection, if one waits.
    pub(crate) fn socket(&self) -> Option<SocketId> {
        match self {
            Self::Http { socket, .. } | Self::JsonLines(socket) => Some(*socket),
            Self::Task(_) | Self::Stream(_) => None,
        }
    }
}
