//! The flags that a message or a call is handled with, from its beginning to its end.

use std::time::Instant;

use crate::policy::{Flags, Unit};

/// The flags that a message is handled with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handling {
    pub(super) flags: Flags,
    /// `None` where no flag has a cohort.
    pub(super) member: Option<Member>,
}

/// A message of a unit, and when it began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub(super) unit: Unit,
    pub(super) began: Instant,
    /// Of the flags that it began with. After a change it may be in another cohort, so it is not recorded then.
    pub(super) generation: u32,
}

impl Handling {
    /// Handling with these flags, of which none has a cohort.
    pub(super) fn with(flags: Flags) -> Self {
        Self { flags, member: None }
    }
}
