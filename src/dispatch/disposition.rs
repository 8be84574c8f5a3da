//! The actions of a connection after a message was dispatched.

use super::batch_rest::BatchRest;
use crate::{call::CallMessage, http1::Status, mcp::StreamId, runtime::Ticket, session::SubscriberKey};

/// The next action of the connection. `out` is the buffer that was given to [`dispatch`](super::Dispatcher::dispatch).
pub(crate) enum Disposition {
    /// Send the reply, which is at the end of `out`.
    Replied(Status),
    /// Send the messages and then the reply, which is at the end of `out`.
    RepliedAfter(Vec<CallMessage>),
    /// As `Replied`, with 200 and the id of a session that `initialize` opened.
    SessionOpened(String),
    /// There is no reply.
    NoReply,
    /// The reply is a later [`Delivery`](crate::delivery::Delivery) with this ticket.
    Pending(Ticket),
    /// The first event of a `subscriptions/listen` stream, a JSON-RPC message, is at the end of `out`.
    Listening(SubscriberKey),
    /// The first events of a session's stream are at the end of `out`. `true`: the stream ends with them.
    Attached(StreamId, bool),
    /// The replies to a batch.
    Batch(BatchReplies),
    /// The reply would be an event stream, which the client does not accept.
    NotAcceptable,
}

/// The replies to a batch, so far.
#[derive(Debug, Default)]
pub(crate) struct BatchReplies {
    pub(crate) answers: Vec<Vec<u8>>,
    /// Number of replies that are later deliveries.
    pub(crate) pending: u32,
    /// Whether the client accepts an event stream.
    pub(crate) accepts_streaming: bool,
    /// The messages that the turn had no time for. The connection holds them and continues in a later turn.
    pub(crate) rest: Option<Box<BatchRest>>,
}
