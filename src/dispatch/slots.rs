//! The slots of calls that do not end at once.

use std::{sync::Arc, time::Instant};

use super::{
    Source, handling::Handling, in_flight::InFlightCalls, pending::PendingCall, suspended::SuspendedCall,
};
use crate::{
    jsonrpc::OwnedId,
    mcp::Call,
    peer::NoRoom,
    runtime::{Ticket, instant_after},
};

/// Inserts a call into the table, unless its connection, its peer or the shard has as many in flight as allowed.
pub(super) fn insert_call(
    calls: &mut InFlightCalls,
    call: &mut Call<'_>,
    source: &Source<'_>,
    (id, request_bytes): (OwnedId, usize),
    (received, handling): (Instant, Handling),
    suspended: Option<Box<SuspendedCall>>,
) -> Result<Ticket, NoRoom> {
    if source.is_at_call_limit() {
        return Err(NoRoom::Full);
    }
    let pending = PendingCall {
        reply_to: source.reply_to(),
        in_batch: source.is_in_batch(),
        peer: source.peer(),
        callable: Arc::clone(call.callable),
        id,
        revision: call.revision,
        started: received,
        deadline: instant_after(received, call.callable.deadline()),
        session: call.affinity.session().map(|session| session.key),
        state: call.state.take(),
        questions: Vec::new(),
        requests_made: 0,
        handling,
        suspended,
    };
    calls.insert(pending, request_bytes)
}

/// Marks the handler as started that uses a request state, if it does.
pub(super) fn start_use(calls: &mut InFlightCalls, ticket: Option<Ticket>) {
    if let Some(first_use) = ticket.and_then(|ticket| calls.first_use(ticket)) {
        first_use.start();
    }
}

/// Frees the slot of a call that did not start.
pub(super) fn free_unused(calls: &mut InFlightCalls, unused: Option<Ticket>) {
    if let Some(unused) = unused {
        drop(calls.take(unused));
    }
}
