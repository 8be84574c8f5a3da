//! What the connection does after a message was dispatched.

use crate::{call::CallMessage, http1::Status, mesh::StreamId, runtime::Ticket, session::SubscriberKey};

/// What the connection does next. `out` is the buffer that was given to [`dispatch`](super::Dispatcher::dispatch).
pub(crate) enum Disposition {
    /// The answer is at the end of `out`. The messages precede it.
    Replied(Status, Vec<CallMessage>),
    /// As `Replied`, with 200 and the id of a session that `initialize` opened.
    SessionOpened(String),
    /// There is no answer.
    NoReply,
    /// The answer is a [`Delivery`](crate::delivery::Delivery) later, under this ticket.
    Pending(Ticket),
    /// The first event of a `subscriptions/listen` stream, a JSON-RPC message, is at the end of `out`.
    Listening(SubscriberKey),
    /// The first events of a session's stream are at the end of `out`. `true`: they are also the last.
    Attached(StreamId, bool),
    /// The answers to a batch.
    Batch(BatchReplies),
    /// The answer would be a stream of events, which the client does not accept.
    NotAcceptable,
}

/// The answers to a batch, so far.
#[derive(Debug, Default)]
pub(crate) struct BatchReplies {
    pub(crate) answers: Vec<Vec<u8>>,
    /// Answers that are deliveries later.
    pub(crate) pending: u32,
    /// Whether the client accepts a stream of events.
    pub(crate) accepts_streaming: bool,
}
