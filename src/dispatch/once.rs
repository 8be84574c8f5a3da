//! Retried calls of tools whose request states are used once.

use super::{Dispatcher, Disposition};
use crate::{
    call::{AnswersDigest, OnceToken, OnceUse},
    jsonrpc::{Id, write_id},
    mcp::{Call, ErrorKind, RpcMethod},
};

/// The start of every response.
const BEFORE_ID: &[u8] = b"{\"jsonrpc\":\"2.0\",\"id\":";

impl Dispatcher {
    /// Begins the use of the state of a retried call. Returns the reply if the call does not run.
    #[cold]
    pub(super) fn use_state(
        &mut self,
        call: &mut Call<'_>,
        (token, answers): ((OnceToken, u64), AnswersDigest),
        out: &mut Vec<u8>,
    ) -> Option<Disposition> {
        let (callable, id) = (call.callable, call.id);
        let now = self.clock.wall.as_secs();
        let error = match callable.once()?.begin(token, answers, now, self.limits.once_states_max) {
            OnceUse::First(first_use) => {
                call.state.as_mut()?.first_use = Some(first_use);
                return None;
            }
            OnceUse::Repeated(status, response) => {
                out.extend_from_slice(BEFORE_ID);
                write_id(out, id);
                out.extend_from_slice(&response);
                self.observer.metrics().event("outcome_repeated");
                self.observer.metrics().note(RpcMethod::from(callable.kind()) as usize);
                return Some(Disposition::Replied(status));
            }
            OnceUse::Running => ErrorKind::Busy,
            OnceUse::Refused => ErrorKind::StateUsed,
        };
        Some(self.reject_call(callable, id, call.revision, error, out))
    }
}

/// The part of a response behind its id.
pub(super) fn behind_id<'r>(response: &'r [u8], id: Id<'_>) -> &'r [u8] {
    let mut start = BEFORE_ID.to_vec();
    write_id(&mut start, id);
    let rest = response.strip_prefix(start.as_slice());
    debug_assert!(rest.is_some(), "a response begins with its id");
    rest.unwrap_or_default()
}
