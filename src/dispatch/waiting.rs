//! Calls of tools that wait for another call of their connection: the fallback of running them at the same time.
//!
//! A call that waits has a slot and a pending reply like any other, counts against the same limits, and can be cancelled. It holds a
//! copy of its document, like a call whose arguments are validated off the shard, and starts in the order of arrival.

use std::sync::Arc;

use corelane_ring::SocketId;

use super::{
    Dispatcher, Disposition, Source, Suspension,
    in_flight::InFlightCalls,
    pending::PendingCall,
    suspended::{StoredDocument, SuspendedCall},
};
use crate::{
    call::{CallDetails, ClientChannel, Kind},
    mcp::Call,
    policy::Flag,
    runtime::Ticket,
    telemetry::metrics::Stage,
};

impl InFlightCalls {
    /// Whether a connection runs a tool, other than that of `ticket`, or has one that waits.
    pub(super) fn serves_tool(&self, connection: SocketId, ticket: Option<Ticket>) -> bool {
        let is_other = |(other, call): (Ticket, &PendingCall)| runs_tool(call) && Some(other) != ticket;
        self.waiting.has_any_of(connection) || self.running_of(connection).any(is_other)
    }

    /// The next waiting call of a connection that runs no tool any more.
    #[inline]
    pub(super) fn next_waiting(&mut self) -> Option<Ticket> {
        while let Some(connection) = self.waiting.take_ended() {
            if self.running_of(connection).any(|(_, call)| runs_tool(call)) {
                continue;
            }
            while let Some(ticket) = self.waiting.pop(connection) {
                // Not one that was cancelled.
                if self.get(ticket).is_some() {
                    return Some(ticket);
                }
            }
        }
        None
    }
}

impl Dispatcher {
    /// Whether a call of a tool must wait, because another one of its connection runs.
    #[inline]
    pub(super) fn must_wait(&self, kind: Kind, connection: Option<SocketId>, ticket: Option<Ticket>) -> bool {
        !self.handling.flags.is_on(Flag::AsyncTools)
            && kind == Kind::Tool
            && connection.is_some_and(|connection| self.calls.serves_tool(connection, ticket))
    }

    /// Lets a call wait whose arguments are valid.
    #[cold]
    pub(super) fn wait(
        &mut self,
        call: &mut Call<'_>,
        source: &Source<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Disposition, Suspension> {
        let (callable, id, revision) = (call.callable, call.id, call.revision);
        let capabilities = call.capabilities;
        let ticket = match self.insert_suspended(call, source) {
            Ok(ticket) => ticket,
            Err(reason) => return Ok(self.reject_call(callable, id, revision, reason.into(), out)),
        };
        let channel = Arc::new(ClientChannel::buffered(revision, capabilities, CallDetails::default()));
        self.calls.run(ticket, self.runner.cancel_waiting(ticket), channel, self.clock.monotonic);
        if let Some(suspended) = self.calls.get_mut(ticket).and_then(|call| call.suspended.as_mut()) {
            let _ = suspended.result.set(Ok(()));
            suspended.position = self.batch_position;
        }
        self.add_waiting(ticket);
        self.without_document.push(ticket);
        self.mark_pending(ticket, Stage::RunPending);
        Ok(Disposition::Pending(ticket))
    }

    /// Stores the document that is being dispatched in the calls that wait since.
    #[cold]
    pub(super) fn store_document(&mut self, document: &StoredDocument) {
        for ticket in std::mem::take(&mut self.without_document) {
            if let Some(suspended) = self.calls.get_mut(ticket).and_then(|call| call.suspended.as_mut()) {
                suspended.document = Some(document.clone());
            }
        }
    }

    /// Resumes a call whose arguments were validated off the shard, unless it must wait.
    pub(super) fn resume_or_wait(&mut self, ticket: Ticket, suspended: Box<SuspendedCall>) {
        let is_valid = suspended.result.get().is_some_and(Result::is_ok);
        let call = self.calls.get(ticket).map(|call| (call.callable.kind(), call.reply_to.socket()));
        let Some((_, connection)) =
            call.filter(|(kind, connection)| is_valid && self.must_wait(*kind, *connection, Some(ticket)))
        else {
            return self.resume_suspended(ticket, *suspended);
        };
        debug_assert!(connection.is_some(), "a call without a connection waits for none");
        let cancel = self.runner.cancel_waiting(ticket);
        if let Some(channel) = self.calls.channel(ticket).map(Arc::clone) {
            self.calls.replace_running(ticket, cancel, channel);
        }
        if let Some(call) = self.calls.get_mut(ticket) {
            call.suspended = Some(suspended);
        }
        self.add_waiting(ticket);
    }

    fn add_waiting(&mut self, ticket: Ticket) {
        if let Some(connection) = self.calls.get(ticket).and_then(|call| call.reply_to.socket()) {
            self.calls.waiting.push(connection, ticket);
            self.observer.metrics().flags.serialized_calls += 1;
        }
    }

    /// Starts the calls whose connection runs no other one any more.
    #[inline]
    pub(super) fn start_waiting(&mut self) {
        while let Some(ticket) = self.calls.next_waiting() {
            let Some(call) = self.calls.get_mut(ticket) else { continue };
            let flags = call.handling.flags;
            if let Some(suspended) = call.suspended.take() {
                let before = self.use_flags(flags);
                self.resume_suspended(ticket, *suspended);
                self.use_flags(before);
            }
        }
    }
}

/// Whether the tool of a call runs: the call neither waits nor are its arguments being validated.
fn runs_tool(call: &PendingCall) -> bool {
    call.callable.kind() == Kind::Tool && call.suspended.is_none()
}
