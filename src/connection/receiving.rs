//! The buffers that a connection's bytes are received into.

use super::Phase;

/// Length of a part of a message from which the rest is received in large buffers, in bytes. For shorter messages the change takes more
/// time than it saves.
const LONG_MIN: usize = 256 * 1024;

/// Number of received bytes from which more are assumed to be left in the socket: half of a large buffer.
const MANY_BYTES: usize = 16 * 1024;

/// How the ring receives a connection's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receiving {
    /// As those of requests of usual length.
    Usual,
    /// As those of a long message.
    Large,
    /// They stay in the socket, because the connection cannot handle what it has buffered.
    Paused,
}

impl Receiving {
    /// How further bytes are received after `received_bytes` were handled, with `input_bytes` of a message that is not complete.
    pub(crate) fn next(self, phase: Phase, input_bytes: usize, received_bytes: usize) -> Self {
        let is_long = matches!(phase, Phase::Body { .. }) && input_bytes >= LONG_MIN;
        match self {
            Self::Usual if is_long => Self::Large,
            // More than the limit of buffered bytes has arrived meanwhile, or is about to.
            Self::Paused if phase.is_reading() => Self::Large,
            Self::Large if !is_long && received_bytes < MANY_BYTES => Self::Usual,
            unchanged => unchanged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Tick;

    const BODY: Phase = Phase::Body { started: Tick::NEVER };

    #[test]
    fn rest_of_a_long_message_is_received_in_large_buffers() {
        assert_eq!(Receiving::Usual.next(BODY, LONG_MIN - 1, 2000), Receiving::Usual);
        assert_eq!(Receiving::Usual.next(BODY, LONG_MIN, 2000), Receiving::Large);
        assert_eq!(Receiving::Large.next(BODY, LONG_MIN, 1), Receiving::Large);
        assert_eq!(Receiving::Usual.next(Phase::Congested, LONG_MIN, 2000), Receiving::Usual);
    }

    #[test]
    fn large_buffers_are_used_until_few_bytes_are_left_after_the_message() {
        assert_eq!(Receiving::Large.next(Phase::Idle, 0, MANY_BYTES), Receiving::Large);
        assert_eq!(Receiving::Large.next(BODY, 500, MANY_BYTES), Receiving::Large);
        assert_eq!(Receiving::Large.next(Phase::Idle, 0, MANY_BYTES - 1), Receiving::Usual);
        assert_eq!(Receiving::Large.next(Phase::Congested, 500, 0), Receiving::Usual);
    }

    #[test]
    fn paused_connection_receives_again_once_it_reads() {
        assert_eq!(Receiving::Paused.next(Phase::Congested, LONG_MIN, 0), Receiving::Paused);
        assert_eq!(Receiving::Paused.next(Phase::Closing { linger: true }, 0, 0), Receiving::Paused);
        assert_eq!(Receiving::Paused.next(Phase::Head, 10, 0), Receiving::Large);
        assert_eq!(Receiving::Paused.next(Phase::Idle, 0, 0), Receiving::Large);
    }
}
