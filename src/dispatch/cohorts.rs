//! The flags of a message where some are on for a cohort only. Both a message and its call keep the flags that they begin with.

use std::time::Instant;

use super::{
    BatchReplies, Dispatcher, Disposition, Source,
    handling::{Handling, Member},
};
use crate::{
    json::Decoder,
    mcp::Sessions,
    policy::{Flag, Flags, ShardFlags, Unit},
    session::Subscriber,
};

impl Dispatcher {
    /// Whether any flag has a cohort. Then the unit of a connection must stay the same.
    pub(crate) fn has_cohorts(&self) -> bool {
        self.shard_flags.has_cohorts()
    }

    /// Handles requests with these flags from the next one on.
    pub(crate) fn set_flags(&mut self, flags: ShardFlags) {
        self.shard_flags = flags;
        self.begin(Handling::with(self.shard_flags.base()));
    }

    /// Handles what follows with other flags. Returns the ones before.
    pub(super) fn begin(&mut self, handling: Handling) -> Handling {
        let before = self.handling;
        self.use_flags(handling.flags);
        self.handling.member = handling.member;
        before
    }

    /// As [`Self::begin`], for a call, whose unit it keeps itself.
    #[inline]
    pub(super) fn use_flags(&mut self, flags: Flags) -> Flags {
        let before = self.handling.flags;
        if flags != before {
            self.handling.flags = flags;
            self.answers.set_flags(flags);
            self.runner.set_flags(flags);
        }
        before
    }

    /// Restores the flags after a panic.
    #[cold]
    pub(crate) fn reset_flags(&mut self, decoder: &mut Decoder) {
        decoder.set_backend(crate::config::JsonBackend::default());
        self.begin(Handling::with(self.shard_flags.base()));
    }

    /// Handles a message with the flags of its session or connection. Returns the flags before, and the errors so far.
    pub(super) fn begin_message(&mut self, source: &Source<'_>) -> (Handling, u64) {
        let errors = self.observer.errors();
        if !self.shard_flags.has_cohorts() {
            return (self.handling, errors);
        }
        let unit = self.unit_of(source);
        let generation = self.shard_flags.generation();
        let member = Some(Member { unit, began: Instant::now(), generation });
        (self.begin(Handling { flags: self.shard_flags.flags_of(unit), member }), errors)
    }

    /// Ends a message, and records it unless its reply comes later.
    pub(super) fn end_message(&mut self, (before, errors): (Handling, u64), disposition: &Disposition) {
        let is_answered = match disposition {
            Disposition::Replied(_) | Disposition::RepliedAfter(_) | Disposition::SessionOpened(_) => true,
            Disposition::Batch(BatchReplies { pending: 0, rest: None, .. }) => true,
            Disposition::Batch(_)
            | Disposition::NoReply
            | Disposition::Pending(_)
            | Disposition::Listening(_)
            | Disposition::Attached(..)
            | Disposition::NotAcceptable => false,
        };
        let handling = self.begin(before);
        if is_answered {
            self.record_cohorts(handling, self.observer.errors() != errors);
        }
    }

    /// Records a message that was answered, if any flag has a cohort.
    #[inline]
    pub(super) fn record_cohorts(&self, handling: Handling, is_error: bool) {
        if let Some(Member { unit, began, generation }) = handling.member
            && generation == self.shard_flags.generation()
        {
            self.shard_flags.record(unit, began.elapsed(), is_error);
        }
    }

    /// The unit of a message: its session, whose id is in the head of an HTTP request, else its connection. An id that is not valid is
    /// rejected later.
    fn unit_of(&self, source: &Source<'_>) -> Unit {
        let id = source.headers().and_then(|headers| headers.head.mcp_session_id(headers.bytes).value());
        match id.and_then(Sessions::key_of) {
            Some(key) => Unit::of(&key),
            None => Unit::of(&(self.shard, source.connection())),
        }
    }

    /// Whether notifications to a subscriber are batched.
    pub(crate) fn batching(&self) -> impl Fn(&Subscriber) -> bool + use<> {
        let is_base = self.shard_flags.base().is_on(Flag::BatchNotifications);
        // The vector is empty, and its clone free, where no flag has a cohort.
        let (flags, shard) = (self.shard_flags.clone(), self.shard);
        move |subscriber| {
            if is_base || !flags.has_cohorts() {
                return is_base;
            }
            let unit = match subscriber {
                Subscriber::Session(key) => Unit::of(key),
                Subscriber::Stream(socket) | Subscriber::JsonLines(socket) => {
                    Unit::of(&(shard, Some(*socket)))
                }
            };
            flags.flags_of(unit).is_on(Flag::BatchNotifications)
        }
    }
}
