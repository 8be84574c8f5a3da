//! Validation of the results of calls against the `outputSchema` of their tool: on the shard if it takes little work, else on the
//! blocking pool, while the shard serves other connections. The results of blocking handlers were validated on their thread.

use std::sync::Arc;

use super::{Dispatcher, Disposition, Source, call_events::error_kind, slots::insert_call};
use crate::{
    call::{CallDetails, CallMessage, ClientChannel, Reply},
    mcp::{Call, ErrorKind},
    peer::PeerKey,
    runtime::{Cancel, Ticket},
    telemetry::metrics::Stage,
};

impl Dispatcher {
    /// Replies to a call whose handler has ended, once its result is validated.
    pub(super) fn end_call(&mut self, ticket: Ticket, mut outcome: Result<Reply, ErrorKind>) {
        if let Ok(reply) = &mut outcome
            && let Some(call) = self.calls.get(ticket)
            && !self.answers.validate_inline(&call.callable, reply)
            && self.runner.has_pool()
        {
            let reply = std::mem::take(reply);
            match self.submit_result(ticket, reply) {
                Ok(cancel) => {
                    if let Some(channel) = self.calls.channel(ticket).cloned() {
                        self.calls.replace_running(ticket, cancel, channel);
                    }
                    return;
                }
                Err(reason) => outcome = Err(reason),
            }
        }
        if let Some((call, channel)) = self.calls.take(ticket) {
            self.finish_call(ticket, &call, channel.as_ref(), outcome);
        }
    }

    /// Makes an inline call pending until its result is validated on the pool. `messages` precede the reply.
    #[cold]
    #[inline(never)]
    pub(super) fn suspend_result(
        &mut self,
        call: &mut Call<'_>,
        source: &Source<'_>,
        messages: Vec<CallMessage>,
        out: &mut Vec<u8>,
    ) -> Disposition {
        let (callable, id, revision, capabilities) =
            (call.callable, call.id, call.revision, call.capabilities);
        let reply = std::mem::take(&mut self.reply);
        let about = (id.to_owned(), self.request_bytes);
        let received = (self.observer.turn_began(), self.handling);
        let reason = match insert_call(&mut self.calls, call, source, about, received, None) {
            Ok(ticket) => match self.submit_result(ticket, reply) {
                Ok(cancel) => {
                    let channel = ClientChannel::buffered(revision, capabilities, CallDetails::default());
                    self.calls.run(ticket, cancel, Arc::new(channel), self.clock.monotonic);
                    self.mark_pending(ticket, Stage::Validate);
                    for message in messages {
                        self.on_call_message(ticket, message);
                    }
                    return Disposition::Pending(ticket);
                }
                Err(reason) => {
                    drop(self.calls.take(ticket));
                    reason
                }
            },
            Err(reason) => reason.into(),
        };
        self.reject_call(callable, id, revision, reason, out)
    }

    /// Queues the validation of a result. The reply comes back as the end of the call.
    fn submit_result(&self, ticket: Ticket, reply: Reply) -> Result<Cancel, ErrorKind> {
        let call = self.calls.get(ticket).ok_or(ErrorKind::Deadline)?;
        let output = call.callable.output().ok_or(ErrorKind::Deadline)?.clone();
        self.runner.submit_validation(ticket, PeerKey::new(call.peer), output, reply).map_err(error_kind)
    }
}
