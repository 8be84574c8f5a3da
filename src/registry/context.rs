//! What a tool can know of the call it serves.

use std::{
    any::Any,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{capability::Capabilities, revision::Revision};

/// Who calls.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// The protocol revision the client speaks.
    pub revision: Revision,
    /// What the client can do, as far as it said so with this request.
    pub capabilities: Capabilities,
    /// The shard that took the call.
    pub shard: usize,
}

/// One shard's state, as its factory made it.
pub type ShardState = Rc<dyn Any>;

/// A call, seen by a tool that runs on the shard: inline or async.
#[derive(Clone)]
pub struct Context {
    caller: Caller,
    state: Option<ShardState>,
}

impl Context {
    /// A context of `caller` on a shard with `state`.
    #[must_use]
    pub fn new(caller: Caller, state: Option<ShardState>) -> Self {
        Self { caller, state }
    }

    /// Who calls.
    #[must_use]
    pub fn caller(&self) -> Caller {
        self.caller
    }

    /// The shard's own state, made by [`ServerBuilder::shard_state`](crate::ServerBuilder::shard_state): nobody but
    /// tools on this shard's thread touches it, so a `Cell` or a `RefCell` inside is enough.
    ///
    /// # Panics
    /// When the server has no state of this type; the caller is told that the tool failed.
    #[must_use]
    #[allow(clippy::panic, reason = "a mistake in the program, not in a request; caught and answered")]
    pub fn state<T: 'static>(&self) -> &T {
        match self.state.as_ref().and_then(|state| state.downcast_ref()) {
            Some(state) => state,
            None => panic!("the server has no shard state of type {}", std::any::type_name::<T>()),
        }
    }
}

/// A call, seen by a tool that runs off the shard: blocking, or on tokio.
#[derive(Clone, Debug)]
pub struct RemoteContext {
    caller: Caller,
    cancelled: Arc<AtomicBool>,
}

impl RemoteContext {
    /// A context whose call is cancelled when `cancelled` becomes true.
    #[must_use]
    pub fn new(caller: Caller, cancelled: Arc<AtomicBool>) -> Self {
        Self { caller, cancelled }
    }

    /// Who calls.
    #[must_use]
    pub fn caller(&self) -> Caller {
        self.caller
    }

    /// Whether nobody waits for the result any more: the deadline has passed, or the client has gone. A blocking tool
    /// that takes long should look now and then, and give up its thread.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}
