//! What this side knows of each listener.

use super::listener::Listener;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Accepting {
    Paused,
    Armed,
    /// A cancel is under way; armed again once it is through, if so wanted.
    Cancelling {
        resume: bool,
    },
}

pub(super) struct Source {
    /// `None` once the listener has been stopped.
    pub(super) socket: Option<Listener>,
    pub(super) stopped: bool,
    pub(super) accepting: Accepting,
}
