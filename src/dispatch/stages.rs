//! The marks between the stages of a message, on the [`StageClock`](super::StageClock) of the shard.

use std::time::{Duration, Instant};

use corelane_ring::SocketId;

use super::{
    Dispatcher,
    stage_clock::{OFF_INTERVAL, PENDING_MAX, PendingSample, SKIPPED_MAX, nanoseconds},
};
use crate::{
    mcp::{Outcome, RpcMethod},
    runtime::Ticket,
    telemetry::metrics::Stage,
};

impl Dispatcher {
    /// Ends the stage of routing, if the message is sampled.
    #[inline]
    pub(super) fn mark_routed(&mut self, outcome: &Outcome<'_>) {
        if self.stages.is_active {
            self.stages.routed(outcome);
        }
    }

    /// Takes the time of all polls of tasks since the last call.
    #[inline]
    pub(crate) fn take_polled(&self) -> Duration {
        self.runner.take_polled()
    }

    /// Begins to handle input of a connection.
    #[inline]
    pub(crate) fn enter_input(&mut self, socket: SocketId) {
        if self.stages.is_armed() {
            self.stages.enter(socket, self.observer.turn_began());
        }
    }

    /// The reply to a pending call is in the outbox of its connection. `is_sending`: as in [`StageClock::leave`].
    #[inline]
    pub(crate) fn reply_enqueued(&mut self, socket: SocketId, is_sending: bool) {
        if self.stages.is_sending {
            self.stages.enqueued(socket, is_sending);
        }
    }

    /// A send of a connection is complete.
    #[inline]
    pub(crate) fn send_completed(&mut self, socket: SocketId) {
        if self.stages.is_sending {
            self.stages.sent(socket, self.observer.metrics());
        }
    }

    /// Ends the handling of a request.
    #[inline]
    pub(crate) fn end_request(&mut self) {
        self.stages.left = self.stages.left.wrapping_sub(1);
        if self.stages.left <= 0 {
            self.end_sample();
        }
    }

    /// Ends the sampled request, or begins with the next one.
    #[cold]
    #[inline(never)]
    fn end_sample(&mut self) {
        let interval = self.limits.stage_sample_interval;
        let stages = &mut self.stages;
        if stages.is_active {
            stages.mark_now(Stage::Encode);
            stages.record(self.observer.metrics(), interval.saturating_sub(1));
            stages.begin_send(stages.last, stages.method, stages.weight);
            if stages.left > 0 {
                return;
            }
        }
        if interval == 0 {
            stages.left = OFF_INTERVAL;
            return;
        }
        stages.left = 0;
        if stages.owner.is_some() {
            stages.skipped += 1;
            if stages.skipped < SKIPPED_MAX {
                return;
            }
        }
        // The next request may be in the input that is being handled.
        (stages.owner, stages.skipped) = (None, 0);
        stages.weight = interval.into();
        stages.times = [None; Stage::COUNT];
        stages.method = RpcMethod::Other;
        let now = Instant::now();
        stages.add(Stage::ReceiveWait, now.saturating_duration_since(self.observer.turn_began()));
        stages.last = now;
        (stages.is_active, stages.is_entered) = (true, true);
    }

    /// The call of the message has become pending in this stage. Its sample, if there is one, goes on with the result.
    #[inline]
    pub(super) fn mark_pending(&mut self, ticket: Ticket, stage: Stage) {
        if self.stages.is_active {
            self.sample_becomes_pending(ticket, stage);
        }
    }

    #[cold]
    #[inline(never)]
    fn sample_becomes_pending(&mut self, ticket: Ticket, stage: Stage) {
        let stages = &mut self.stages;
        let (method, weight) = (stages.method, stages.weight);
        // Counts this request, whose handling has not ended.
        stages.record(self.observer.metrics(), self.limits.stage_sample_interval);
        if stages.pending.len() >= PENDING_MAX {
            stages.pending.remove(0);
        }
        stages.pending.push(PendingSample { ticket, stage, since: stages.last, method, weight });
    }

    /// The arguments of a pending call were validated.
    #[inline]
    pub(super) fn mark_pending_validated(&mut self, ticket: Ticket) {
        if !self.stages.pending.is_empty()
            && let Some(sample) = self.stages.pending.iter_mut().find(|sample| sample.ticket == ticket)
            && sample.stage == Stage::Validate
        {
            let now = Instant::now();
            let time = nanoseconds(now.saturating_duration_since(sample.since));
            let (method, weight) = (sample.method as usize, sample.weight);
            (sample.stage, sample.since) = (Stage::RunPending, now);
            self.observer.metrics().stages.record(method, Stage::Validate, time, weight);
        }
    }

    /// The result of a pending call was taken and is encoded next. Returns whether the call is sampled.
    #[inline]
    pub(super) fn mark_result(&mut self, ticket: Ticket) -> bool {
        !self.stages.pending.is_empty() && self.take_pending_sample(ticket)
    }

    #[cold]
    #[inline(never)]
    fn take_pending_sample(&mut self, ticket: Ticket) -> bool {
        let stages = &mut self.stages;
        let Some(position) = stages.pending.iter().position(|sample| sample.ticket == ticket) else {
            return false;
        };
        let PendingSample { stage, since, method, weight, .. } = stages.pending.remove(position);
        let now = Instant::now();
        let time = nanoseconds(now.saturating_duration_since(since));
        self.observer.metrics().stages.record(method as usize, stage, time, weight);
        stages.begin_send(now, method, weight);
        true
    }

    /// The reply to a sampled pending call was encoded, and is delivered to a connection or not.
    #[cold]
    #[inline(never)]
    pub(super) fn mark_result_encoded(&mut self, socket: Option<SocketId>) {
        let Some(sending) = &mut self.stages.sending else { return };
        let now = Instant::now();
        let time = nanoseconds(now.saturating_duration_since(sending.since));
        let (method, weight) = (sending.method as usize, sending.weight);
        (sending.socket, sending.since) = (socket, now);
        self.observer.metrics().stages.record(method, Stage::Encode, time, weight);
        if socket.is_none() {
            self.stages.sending = None;
            self.stages.is_sending = false;
        }
    }

    /// Records the time in which a notification was written to its subscribers.
    pub(crate) fn record_publish(&mut self, time: Duration) {
        let time = nanoseconds(time);
        self.observer.metrics().stages.record(RpcMethod::Other as usize, Stage::Publish, time, 1);
    }
}
