//! State of each listener.

use super::listener::Listener;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Accepting {
    Paused,
    Armed,
    /// Being cancelled; armed again after that if `resume`.
    Cancelling {
        resume: bool,
    },
}

pub(super) struct Source {
    /// `None` once the listener has been stopped.
    pub(super) socket: Option<Listener>,
    pub(super) stopped: bool,
    pub(super) accepting: Accepting,
    /// See [`super::peer_queries::name_bytes_of`].
    pub(super) peer_name_bytes: usize,
}
