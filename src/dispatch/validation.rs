//! Validation of large arguments on the blocking pool: the shard serves other connections meanwhile.
//!
//! The call is filed, and its connection waits as for any call. The receive buffer is reused, so the call keeps a copy of the
//! document. When the verdict is there the document is decoded again on the shard and the handler runs.

use std::sync::{Arc, OnceLock, atomic::AtomicBool};

use super::{Dispatcher, Disposition, Source, in_flight::PendingCall};
use crate::{
    call::{CallDetails, Caller, Capabilities, ClientChannel, Headers, Reply, RequestContext},
    http1::RequestHead,
    json::{Decoder, Digits, Node},
    jsonrpc::Rewritten,
    mcp::{self, Call, InvalidArguments, Refused},
    runtime::{Started, Ticket},
    schema::Validator,
    telemetry::observer::RequestFields,
};

/// What a call needs to go on once its arguments were validated.
pub(super) struct Suspended {
    capabilities: Capabilities,
    details: Option<Box<CallDetails>>,
    schema: Validator,
    /// A copy of the head of the HTTP request.
    head: Option<(RequestHead, Vec<u8>)>,
    /// The document, and the padding of a decoder behind its first `length` bytes.
    document: Vec<u8>,
    length: usize,
    digits: Option<Digits>,
    verdict: Verdict,
}

/// The result of a validation, with the text of the answer if the arguments are invalid. Written once, on the pool.
type Verdict = Arc<OnceLock<Result<(), (InvalidArguments, String)>>>;

impl Dispatcher {
    /// Whether the arguments of a call are validated on the pool.
    #[inline]
    pub(super) fn is_validated_off_shard(&self, call: &Call<'_>) -> bool {
        call.schema.is_some()
            && call.input.node_count() > self.limits.validation_inline_values_max
            && self.runner.has_pool()
    }

    /// Files a call that is validated on the pool. `None`: as many calls as may be are in flight.
    pub(super) fn file_suspended(&mut self, call: Call<'_>, source: &Source<'_>) -> Option<Ticket> {
        let schema = call.schema?.clone();
        let Call { capabilities, details, .. } = call;
        let suspended = Suspended {
            capabilities,
            details,
            schema,
            head: source.headers().map(|Headers { head, bytes }| (*head, bytes.to_vec())),
            document: Vec::new(),
            length: 0,
            digits: None,
            verdict: Verdict::default(),
        };
        let pending = PendingCall {
            reply_to: source.reply_to(),
            peer: source.peer(),
            callable: Arc::clone(call.callable),
            id: call.id.to_owned(),
            revision: call.revision,
            started: self.observer.turn_began(),
            deadline: crate::runtime::instant_after(self.observer.turn_began(), call.callable.deadline()),
            session: call.tie.session().map(|session| session.key),
            binding: call.binding,
            questions: Vec::new(),
            asked: 0,
            suspended: Some(Box::new(suspended)),
        };
        self.calls.insert(pending)
    }

    /// Validates the arguments of a filed call on the pool.
    pub(super) fn validate_off_shard(
        &mut self,
        ticket: Ticket,
        rewritten: Rewritten,
        original: &[u8],
        out: &mut Vec<u8>,
    ) -> Disposition {
        let (document, length, digits) = rewritten.finish(original);
        let limits = self.limits;
        let Some(call) = self.calls.get_mut(ticket) else { return Disposition::NoReply };
        let revision = call.revision;
        let Some(suspended) = &mut call.suspended else { return Disposition::NoReply };
        let (schema, verdict) = (suspended.schema.clone(), Arc::clone(&suspended.verdict));
        let mut copy = document.clone();
        (suspended.document, suspended.length, suspended.digits) = (document, length, Some(digits));
        let capabilities = suspended.capabilities;
        let validate = move || {
            let mut decoder = Decoder::new(&limits);
            if let Ok(document) = decoder.decode(&mut copy, length) {
                let input = arguments(document.root());
                let _ = verdict.set(
                    mcp::validate(&schema, input)
                        .map_err(|invalid| (invalid, mcp::invalid_arguments_text(&schema, input, invalid))),
                );
            }
        };
        if let Some(cancel) = self.runner.submit(ticket, Arc::new(AtomicBool::new(false)), validate) {
            let channel = Arc::new(ClientChannel::buffered(revision, capabilities, CallDetails::default()));
            self.calls.run(ticket, cancel, channel, self.moment.monotonic);
            return Disposition::Pending(ticket);
        }
        let Some((call, _)) = self.calls.take(ticket) else { return Disposition::NoReply };
        self.refuse(&call.callable, call.id.as_id(), call.revision, Refused::Busy, out)
    }

    /// The verdict on a call is there: its handler runs, or its answer says what is invalid.
    pub(super) fn resume_suspended(&mut self, ticket: Ticket, suspended: Suspended) {
        let Suspended { capabilities, details, head, mut document, length, digits, verdict, .. } = suspended;
        let verdict = verdict.get().cloned();
        if let Some(Err((invalid, text))) = verdict {
            let Some((call, _)) = self.calls.take(ticket) else { return };
            self.observer.set_peer(call.peer);
            let request = RequestFields::of_call(&call.callable, call.id.as_id(), call.started);
            self.observer.call_refused(invalid.reason(), &call.callable, request, call.revision);
            let mut reply = Reply::default();
            reply.error(&text);
            self.finish_call(ticket, &call, None, Ok(reply));
            return;
        }
        let mut decoder = Decoder::new(&self.limits);
        // The document was decoded before, within the same limits.
        let decoded = decoder.decode(&mut document, length).ok().filter(|_| verdict.is_some());
        let Some((decoded, call)) = decoded.zip(self.calls.get(ticket)) else {
            let call = self.calls.take(ticket);
            if let Some((call, _)) = call {
                self.finish_call(ticket, &call, None, Err(Refused::ToolPanicked));
            }
            return;
        };
        let _installed = digits.map(|digits| digits.install(decoded.root()));
        let callable = Arc::clone(&call.callable);
        let request = RequestContext {
            caller: Caller { revision: call.revision, capabilities, shard: self.shard },
            target: callable.shared_name(),
            id: call.id.as_id(),
            headers: head.as_ref().map(|(head, bytes)| Headers { head, bytes }),
            meta: decoded.root().get("params").and_then(|params| params.get("_meta")),
            peer: call.peer,
            received: call.started,
        };
        let input = arguments(decoded.root());
        let mut reply = Reply::default();
        match self.runner.start(&callable, input, &request, details, |_| Some(ticket), &mut reply) {
            Started::Pending(ticket, cancel, channel) => self.calls.run_again(ticket, cancel, channel),
            Started::Done(messages) => {
                for message in messages {
                    self.on_note(ticket, message);
                }
                self.finish_taken(ticket, Ok(reply));
            }
            Started::RequestCopyTooLarge => self.finish_taken(ticket, Err(Refused::RequestCopyTooLarge)),
            Started::Busy { .. } => self.finish_taken(ticket, Err(Refused::Busy)),
            Started::Panicked { .. } | Started::NeedsDigits { .. } => {
                self.finish_taken(ticket, Err(Refused::ToolPanicked));
            }
        }
    }

    fn finish_taken(&mut self, ticket: Ticket, outcome: Result<Reply, Refused>) {
        if let Some((call, channel)) = self.calls.take(ticket) {
            self.finish_call(ticket, &call, channel.as_ref(), outcome);
        }
    }
}

/// The arguments of a `tools/call`.
fn arguments(root: Node<'_>) -> Node<'_> {
    let arguments = root.get("params").and_then(|params| params.get("arguments"));
    arguments.filter(|arguments| arguments.is_object()).unwrap_or_else(Node::empty_object)
}
