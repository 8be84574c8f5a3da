//! Validation of the arguments of calls: on the shard if it takes little work, else on the blocking pool, while the shard serves other
//! connections. The work is computed before ([`Validator::work`]).
//!
//! The call has a slot and a pending reply like any other. The receive buffer is reused, so the call holds a copy of the document,
//! which the pool and then the handler read.

use std::sync::Arc;

use super::{
    Dispatcher, Disposition, Source, Suspension,
    slots::insert_call,
    suspended::{StoredDocument, SuspendedCall, ValidationResult},
};
use crate::{
    call::{CallDetails, Caller, ClientChannel, Headers, Reply, RequestContext},
    json::{Node, OwnedDocument},
    mcp::{self, Call, ErrorKind, InvalidArguments, RpcMethod},
    peer::{NoRoom, PeerKey},
    runtime::{Started, Ticket},
    schema::{Validation, Validator},
    telemetry::{metrics::Stage, observer::RequestFields},
};

impl Dispatcher {
    /// Maximum work of validations on the shard, for one call or one batch.
    #[inline]
    pub(super) fn inline_work_max(&self) -> u64 {
        self.limits.validation_inline_work_max.min(self.limits.validation_work_max) as u64
    }

    /// Validates arguments that may take much work, or without the schema cache. Errors with the end of a call whose arguments take too
    /// much work to be validated on the shard: it is suspended or refused.
    #[cold]
    #[inline(never)]
    pub(super) fn validate_large(
        &mut self,
        call: &mut Call<'_>,
        schema: &Validator,
        source: &Source<'_>,
        can_suspend: bool,
        out: &mut Vec<u8>,
    ) -> Result<Validation, Result<Disposition, Suspension>> {
        if can_suspend && schema.work_bound(call.input, self.request_bytes) <= self.inline_work_max() {
            return Ok(self.validate_here(schema, call.input));
        }
        let (invalid, work_max) = if !can_suspend {
            (Some(InvalidArguments::BatchBudgetExceeded), self.batch_work)
        } else if self.runner.has_pool() {
            (None, self.inline_work_max())
        } else {
            (Some(InvalidArguments::BudgetExceeded), self.limits.validation_work_max as u64)
        };
        if let Some(work) = schema.work(call.input, work_max) {
            self.batch_work = self.batch_work.saturating_sub(work);
            return Ok(self.validate_here(schema, call.input));
        }
        Err(match invalid {
            Some(invalid) => Ok(self.write_invalid_arguments(call, schema, invalid, out)),
            None => self.suspend(call, source, out),
        })
    }

    /// Answers a call with invalid arguments, or suspends it where listing the violations takes too much work for the shard.
    #[cold]
    #[inline(never)]
    pub(super) fn reject_arguments(
        &mut self,
        call: &mut Call<'_>,
        schema: &Validator,
        mut invalid: InvalidArguments,
        source: &Source<'_>,
        can_suspend: bool,
        out: &mut Vec<u8>,
    ) -> Result<Disposition, Suspension> {
        let inline_max = self.inline_work_max();
        if invalid == InvalidArguments::Violations && !schema.can_explain(call.input, inline_max) {
            if can_suspend && self.runner.has_pool() {
                return self.suspend(call, source, out);
            }
            invalid = InvalidArguments::UnlistedViolations;
        }
        Ok(self.write_invalid_arguments(call, schema, invalid, out))
    }

    fn write_invalid_arguments(
        &mut self,
        call: &Call<'_>,
        schema: &Validator,
        invalid: InvalidArguments,
        out: &mut Vec<u8>,
    ) -> Disposition {
        let Call { callable, id, revision, .. } = *call;
        self.reply.error(&mcp::invalid_arguments_text(schema, call.input, invalid));
        let (status, _) = self.answers.result(out, &self.snapshot, callable, id, revision, &mut self.reply);
        let request = RequestFields::of_call(callable, id, self.observer.turn_began());
        self.observer.call_rejected(invalid.reason(), callable, request, revision);
        self.observer.metrics().note(RpcMethod::from(callable.kind()) as usize);
        Disposition::Replied(status)
    }

    /// Suspends a call until its arguments have been validated on the pool.
    fn suspend(
        &mut self,
        call: &mut Call<'_>,
        source: &Source<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Disposition, Suspension> {
        let (callable, id, revision) = (call.callable, call.id, call.revision);
        match self.insert_suspended(call, source) {
            Ok(ticket) => Err(Suspension::Validation(ticket)),
            Err(reason) => Ok(self.reject_call(callable, id, revision, reason.into(), out)),
        }
    }

    /// Allocates a slot for a call that is validated on the pool, unless there is no room.
    pub(super) fn insert_suspended(
        &mut self,
        call: &mut Call<'_>,
        source: &Source<'_>,
    ) -> Result<Ticket, NoRoom> {
        let schema = call.schema.ok_or(NoRoom::Full)?.clone();
        let suspended = SuspendedCall {
            capabilities: call.capabilities,
            details: call.details.take(),
            schema,
            head: source.headers().map(|Headers { head, bytes }| (*head, bytes.to_vec())),
            document: None,
            position: None,
            result: ValidationResult::default(),
        };
        let (id, received) = (call.id.to_owned(), (self.observer.turn_began(), self.handling));
        let about = (id, self.request_bytes + OwnedDocument::tape_bytes(call.input));
        insert_call(&mut self.calls, call, source, about, received, Some(Box::new(suspended)))
    }

    /// Validates the arguments of a suspended call on the pool.
    pub(super) fn validate_off_shard(
        &mut self,
        ticket: Ticket,
        stored: StoredDocument,
        out: &mut Vec<u8>,
    ) -> Disposition {
        let work_max = self.limits.validation_work_max as u64;
        let Some(call) = self.calls.get_mut(ticket) else { return Disposition::NoReply };
        let (revision, peer) = (call.revision, PeerKey::new(call.peer));
        let Some(suspended) = &mut call.suspended else { return Disposition::NoReply };
        let (schema, result) = (suspended.schema.clone(), Arc::clone(&suspended.result));
        let document = Arc::clone(&stored.document);
        suspended.document = Some(stored);
        let capabilities = suspended.capabilities;
        let compiles_again = self.count_validation();
        let validate = move || {
            let again = if compiles_again { schema.compiled_again() } else { None };
            let schema = again.unwrap_or(schema);
            let input = arguments(document.root());
            let invalid = match schema.work(input, work_max) {
                Some(_) => InvalidArguments::of(schema.validate(input)),
                None => Some(InvalidArguments::BudgetExceeded),
            };
            let _ = result.set(match invalid {
                None => Ok(()),
                Some(invalid) => Err((invalid, mcp::invalid_arguments_text(&schema, input, invalid))),
            });
            Reply::default()
        };
        let reason = match self.runner.submit(ticket, peer, validate) {
            Ok(cancel) => {
                let channel =
                    Arc::new(ClientChannel::buffered(revision, capabilities, CallDetails::default()));
                self.calls.run(ticket, cancel, channel, self.clock.monotonic);
                self.mark_pending(ticket, Stage::Validate);
                return Disposition::Pending(ticket);
            }
            Err(reason) => reason,
        };
        let Some((call, _)) = self.calls.take(ticket) else { return Disposition::NoReply };
        self.reject_call(&call.callable, call.id.as_id(), call.revision, reason.into(), out)
    }

    /// Resumes a call after validation: runs its handler, or replies with the violations.
    pub(super) fn resume_suspended(&mut self, ticket: Ticket, suspended: SuspendedCall) {
        let SuspendedCall { capabilities, details, head, document, position, result, .. } = suspended;
        let result = result.get().cloned();
        if let Some(Err((invalid, text))) = result {
            let Some((call, _)) = self.calls.take(ticket) else { return };
            self.observer.set_peer(call.peer);
            let request = RequestFields::of_call(&call.callable, call.id.as_id(), call.started);
            self.observer.call_rejected(invalid.reason(), &call.callable, request, call.revision);
            let mut reply = Reply::default();
            reply.error(&text);
            let (mut out, id) = (Vec::new(), call.id.as_id());
            let (status, _) =
                self.answers.result(&mut out, &self.snapshot, &call.callable, id, call.revision, &mut reply);
            self.record_latency(&call, true);
            self.reply(ticket, call.reply_to, status, &out);
            return;
        }
        // There is a result unless the validation panicked.
        let document = document.filter(|_| result.is_some());
        let Some((StoredDocument { document, digits }, call)) = document.zip(self.calls.get(ticket)) else {
            let call = self.calls.take(ticket);
            if let Some((call, _)) = call {
                self.finish_call(ticket, &call, None, Err(ErrorKind::ToolPanicked));
            }
            return;
        };
        let root = document.root();
        let _installed = digits.install(root);
        let message = position.and_then(|position| root.elements()?.nth(position)).unwrap_or(root);
        let callable = Arc::clone(&call.callable);
        let request = RequestContext {
            caller: Caller { revision: call.revision, capabilities, shard: self.shard },
            target: callable.shared_name(),
            id: call.id.as_id(),
            headers: head.as_ref().map(|(head, bytes)| Headers { head, bytes }),
            meta: message.get("params").and_then(|params| params.get("_meta")),
            peer: call.peer,
            received: call.started,
        };
        let input = arguments(message);
        let mut reply = Reply::default();
        self.observer.call_begins(&callable);
        let started = self.runner.start(&callable, input, &request, details, |_| Ok(ticket), &mut reply);
        if !matches!(started, Started::Busy { .. } | Started::RequestCopyTooLarge)
            && let Some(first_use) = self.calls.first_use(ticket)
        {
            first_use.start();
        }
        match started {
            Started::Pending(ticket, cancel, channel) => self.calls.replace_running(ticket, cancel, channel),
            Started::Done(messages) => {
                for message in messages.into_iter().flatten() {
                    self.on_call_message(ticket, message);
                }
                self.end_call(ticket, Ok(reply));
            }
            Started::RequestCopyTooLarge => self.end_call(ticket, Err(ErrorKind::RequestCopyTooLarge)),
            Started::Busy { reason, .. } => self.end_call(ticket, Err(reason.into())),
            Started::Panicked { .. } | Started::NeedsDigits { .. } => {
                self.end_call(ticket, Err(ErrorKind::ToolPanicked));
            }
        }
    }
}

/// The arguments of a `tools/call`.
fn arguments(root: Node<'_>) -> Node<'_> {
    let arguments = root.get("params").and_then(|params| params.get("arguments"));
    arguments.filter(|arguments| arguments.is_object()).unwrap_or_else(Node::empty_object)
}
