//! Batches of JSON-RPC messages, in revision 2025-03-26
//! (<https://modelcontextprotocol.io/specification/2025-03-26/basic#batching>).
//!
//! The messages are dispatched one after another. Once the turn has no time left, the rest waits for a later turn, in which peers are
//! served in turn: the connection holds it as [`BatchRest`].

use corelane_ring::SocketId;

use super::{BatchReplies, BatchRest, Dispatcher, Disposition, JsonLinesClient, Part, Source, Suspension};
use crate::{
    call::Revision,
    config::JsonBackend,
    json::{Decoder, Elements, Node, lacks_digits},
    jsonrpc::{answerable_id, needs_text},
    mcp::{self, ErrorKind, Headers, RpcMethod},
};

impl Dispatcher {
    /// Dispatches the messages of a batch, as far as the turn has time for them.
    pub(super) fn dispatch_batch(
        &mut self,
        source: &mut Source<'_>,
        messages: Elements<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Disposition, Suspension> {
        let count = messages.len();
        if count > self.limits.batch_messages_max {
            return Ok(self.reject_request(out, ErrorKind::InvalidRequest, "Too many messages in a batch"));
        }
        // Checked for all messages first: none may run before dispatch is suspended for the text of another.
        if messages.clone().any(|message| needs_text(message) || lacks_digits(message)) {
            return Err(Suspension::NeedsText);
        }
        self.request_bytes /= count.max(1);
        if let Source::Http { in_batch, .. } = source {
            *in_batch = true;
        }
        self.batch_work = self.inline_work_max();
        let mut replies =
            BatchReplies { accepts_streaming: source.accepts_streaming(), ..BatchReplies::default() };
        for (position, message) in (1..).zip(messages) {
            self.batch_position = Some(position - 1);
            let start = out.len();
            let dispatched = self.dispatch_message(source, message, Part::InBatch, out);
            self.batch_position = None;
            let disposition = dispatched?;
            self.add_to_batch(&mut replies, disposition, source, start, out);
            if self.budget.charge() && position < count {
                replies.rest = Some(Box::new(self.rest_of_batch(position, source)));
                break;
            }
        }
        Ok(Disposition::Batch(replies))
    }

    /// The batch that is dispatched, without its first `dispatched` messages.
    fn rest_of_batch(&mut self, dispatched: usize, source: &Source<'_>) -> BatchRest {
        let mut rest = BatchRest::behind(dispatched, std::mem::take(&mut self.batch_text));
        rest.head = source.headers().map(|Headers { head, bytes }| (*head, bytes.to_vec()));
        (rest.peer, rest.work, rest.handling) = (source.peer(), self.batch_work, Some(self.handling));
        rest
    }

    /// Continues with a batch over HTTP, as far as the turn has time for it. Returns the replies of this turn.
    pub(crate) fn continue_http_batch(
        &mut self,
        decoder: &mut Decoder,
        socket: SocketId,
        mut rest: Box<BatchRest>,
    ) -> BatchReplies {
        let Some((head, bytes)) = rest.head.take() else { return BatchReplies::default() };
        let headers = Headers { head: &head, bytes: &bytes };
        let mut source = Source::Http { socket, peer: rest.peer, headers, in_batch: true };
        self.observer.set_peer(rest.peer);
        let mut replies = self.continue_batch(decoder, &mut source, rest);
        if let Some(rest) = &mut replies.rest {
            rest.head = Some((head, bytes));
        }
        replies
    }

    /// As [`Self::continue_http_batch`], for a newline-delimited connection.
    pub(crate) fn continue_line_batch(
        &mut self,
        decoder: &mut Decoder,
        client: &mut JsonLinesClient,
        is_at_call_limit: bool,
        rest: Box<BatchRest>,
    ) -> BatchReplies {
        let mut source = Source::JsonLines { client, is_at_call_limit };
        self.continue_batch(decoder, &mut source, rest)
    }

    fn continue_batch(
        &mut self,
        decoder: &mut Decoder,
        source: &mut Source<'_>,
        mut rest: Box<BatchRest>,
    ) -> BatchReplies {
        let mut replies =
            BatchReplies { accepts_streaming: source.accepts_streaming(), ..BatchReplies::default() };
        self.batch_work = rest.work;
        let mut out = Vec::new();
        let before = self.begin(rest.handling.unwrap_or(self.handling));
        decoder.set_backend(self.handling.flags.json_backend());
        while let Some(message) = rest.next_message() {
            let disposition = self.dispatch_document(decoder, source, message, Part::InBatch, &mut out);
            self.add_to_batch(&mut replies, disposition, source, 0, &mut out);
            if self.budget.charge() && !rest.is_empty() {
                rest.work = self.batch_work;
                replies.rest = Some(rest);
                break;
            }
        }
        decoder.set_backend(JsonBackend::default());
        self.begin(before);
        replies
    }

    /// Adds the reply to one message, which begins at `start` of `out`, to those of its batch.
    fn add_to_batch(
        &mut self,
        replies: &mut BatchReplies,
        disposition: Disposition,
        source: &mut Source<'_>,
        start: usize,
        out: &mut Vec<u8>,
    ) {
        match disposition {
            Disposition::Pending(_) => replies.pending += 1,
            Disposition::NotAcceptable => {
                self.reject_request(out, ErrorKind::InvalidRequest, "Not in a batch");
            }
            Disposition::Listening(subscriber) => {
                out.truncate(start);
                if let Source::JsonLines { client, .. } = source {
                    client.listens.retain(|other| *other != subscriber);
                }
                self.state.subscriptions.remove(subscriber);
                self.reject_request(out, ErrorKind::InvalidRequest, "Not in a batch");
            }
            _ => {}
        }
        let answer = out.split_off(start);
        if !answer.is_empty() {
            replies.answers.push(answer);
        }
    }

    /// Encodes the error for a message that must not be part of a batch: `initialize`.
    pub(super) fn reject_in_batch(&mut self, message: Node<'_>, out: &mut Vec<u8>) -> Option<Disposition> {
        if message.get("method").and_then(Node::as_str) != Some("initialize") {
            return None;
        }
        let id = answerable_id(message, self.limits.id_bytes_max);
        let text = "initialize must not be in a batch";
        let (method, reason) = (RpcMethod::Initialize, ErrorKind::InvalidRequest);
        Some(self.reject(mcp::write_rejection(out, id, Revision::ASSUMED, method, reason, text)))
    }
}
