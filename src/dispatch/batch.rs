//! Batches of JSON-RPC messages, in revision 2025-03-26
//! (<https://modelcontextprotocol.io/specification/2025-03-26/basic#batching>).

use super::{BatchReplies, Dispatcher, Disposition, Part, Source, Suspension};
use crate::{
    call::Revision,
    json::{Elements, Node, lacks_digits},
    jsonrpc::{answerable_id, needs_text},
    mcp::{self, ErrorKind, RpcMethod},
};

impl Dispatcher {
    /// Dispatches the messages of a batch.
    pub(super) fn dispatch_batch(
        &mut self,
        source: &mut Source<'_>,
        messages: Elements<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Disposition, Suspension> {
        if messages.len() > self.limits.batch_messages_max {
            return Ok(self.reject_request(out, ErrorKind::InvalidRequest, "Too many messages in a batch"));
        }
        self.request_bytes /= messages.len().max(1);
        // Checked for all messages first: none may run before dispatch is suspended for the text of another.
        if messages.clone().any(|message| needs_text(message) || lacks_digits(message)) {
            return Err(Suspension::NeedsText);
        }
        if let Source::Http { in_batch, .. } = source {
            *in_batch = true;
        }
        self.batch_work = self.inline_work_max();
        let mut replies =
            BatchReplies { accepts_streaming: source.accepts_streaming(), ..BatchReplies::default() };
        for message in messages {
            let start = out.len();
            if message.get("method").and_then(Node::as_str) == Some("initialize") {
                let id = answerable_id(message, self.limits.id_bytes_max);
                let text = "initialize must not be in a batch";
                let (method, reason) = (RpcMethod::Initialize, ErrorKind::InvalidRequest);
                self.reject(mcp::write_rejection(out, id, Revision::ASSUMED, method, reason, text));
            } else {
                match self.dispatch_message(source, message, Part::InBatch, out)? {
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
            }
            let answer = out.split_off(start);
            if !answer.is_empty() {
                replies.answers.push(answer);
            }
        }
        Ok(Disposition::Batch(replies))
    }
}
