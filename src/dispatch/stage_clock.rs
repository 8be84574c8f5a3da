//! Timing of the stages of sampled requests: one in `stage_sample_interval` of a shard.
//!
//! A request that is not sampled costs a decrement, and a branch at each mark. The marks of a sampled request read the clock; each adds
//! the time since the previous one to the stage that it ends.

use std::time::{Duration, Instant};

use corelane_ring::SocketId;

use crate::{
    mcp::{Outcome, RpcMethod},
    runtime::Ticket,
    telemetry::metrics::{ShardMetrics, Stage},
};

/// Maximum number of sampled calls whose result is pending. A further one replaces the oldest.
pub(super) const PENDING_MAX: usize = 16;

/// Requests after which a clock that is off reads again whether it is to be on.
pub(super) const OFF_INTERVAL: i32 = 1 << 16;

/// Requests of other connections that are handled while the rest of a sampled request is awaited; then another request is sampled.
pub(super) const SKIPPED_MAX: u32 = 256;

/// The timing of one shard.
pub(crate) struct StageClock {
    /// Requests until the next sample. Not positive: the next request is sampled.
    pub(super) left: i32,
    /// The request that is being handled is sampled.
    pub(super) is_active: bool,
    /// Input is being handled that may contain the sampled request.
    pub(super) is_entered: bool,
    /// The sampled reply is in an outbox or is being sent.
    pub(super) is_sending: bool,
    /// How many requests the sample stands for.
    pub(super) weight: u64,
    /// The connection that has sent a part of the sampled request.
    pub(super) owner: Option<SocketId>,
    pub(super) skipped: u32,
    /// When input that an earlier turn has left was received.
    left_since: Option<Instant>,
    /// Time of the last mark.
    pub(super) last: Instant,
    /// Time of each stage so far, in nanoseconds; `None` for one that was not passed.
    pub(super) times: [Option<u64>; Stage::COUNT],
    pub(super) method: RpcMethod,
    /// Sampled calls whose result is pending.
    pub(super) pending: Vec<PendingSample>,
    /// The reply to be sent.
    pub(super) sending: Option<SendingSample>,
}

/// A sampled call whose result is pending.
pub(super) struct PendingSample {
    pub(super) ticket: Ticket,
    pub(super) stage: Stage,
    pub(super) since: Instant,
    pub(super) method: RpcMethod,
    pub(super) weight: u64,
}

/// A sampled reply that is not sent.
pub(super) struct SendingSample {
    /// `None` while the connection is handled.
    pub(super) socket: Option<SocketId>,
    /// Completions of sends until the one of the reply; 0 if it is not known yet.
    completions: u32,
    pub(super) since: Instant,
    pub(super) method: RpcMethod,
    pub(super) weight: u64,
}

impl StageClock {
    /// Times the first request, and then one in `interval`; none if that is 0.
    pub(super) fn new(interval: u32, now: Instant) -> Self {
        let is_on = interval > 0;
        Self {
            left: if is_on { 0 } else { OFF_INTERVAL },
            is_active: is_on,
            is_entered: false,
            is_sending: false,
            weight: 1,
            owner: None,
            skipped: 0,
            left_since: None,
            last: now,
            times: [None; Stage::COUNT],
            method: RpcMethod::Other,
            pending: Vec::with_capacity(PENDING_MAX),
            sending: None,
        }
    }

    /// Whether a request is to be sampled.
    #[inline]
    pub(super) fn is_armed(&self) -> bool {
        self.left <= 0
    }

    /// Whether [`Self::leave`] is to be called once the input is handled.
    #[inline]
    pub(crate) fn is_entered(&self) -> bool {
        self.is_entered
    }

    /// Ends a stage of the request that is being handled, if it is sampled.
    #[inline]
    pub(crate) fn mark(&mut self, stage: Stage) {
        if self.is_active {
            self.mark_now(stage);
        }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn mark_now(&mut self, stage: Stage) {
        let now = Instant::now();
        self.add(stage, now.saturating_duration_since(self.last));
        self.last = now;
    }

    pub(super) fn add(&mut self, stage: Stage, time: Duration) {
        if let Some(total) = self.times.get_mut(stage as usize) {
            *total = Some(total.unwrap_or(0).saturating_add(nanoseconds(time)));
        }
    }

    /// Sets when the input that is handled next was received, if an earlier turn has left it.
    pub(crate) fn set_left_since(&mut self, since: Option<Instant>) {
        self.left_since = since;
    }

    /// Begins to handle input of a connection, received at `received` unless an earlier turn has left it.
    #[cold]
    #[inline(never)]
    pub(super) fn enter(&mut self, socket: SocketId, received: Instant) {
        match self.owner {
            Some(owner) if owner != socket => return,
            Some(_) => {}
            None => self.times = [None; Stage::COUNT],
        }
        let now = Instant::now();
        let received = self.left_since.unwrap_or(received);
        self.add(Stage::ReceiveWait, now.saturating_duration_since(received));
        self.last = now;
        (self.is_active, self.is_entered) = (true, true);
    }

    /// Ends the handling of input. `is_partial`: the rest of a request is awaited. `is_sending`: earlier bytes are being sent, so the
    /// reply is sent after these.
    #[cold]
    #[inline(never)]
    pub(crate) fn leave(&mut self, socket: SocketId, is_partial: bool, is_sending: bool) {
        self.is_entered = false;
        if std::mem::take(&mut self.is_active) {
            if is_partial {
                self.mark_now(Stage::Frame);
            }
            (self.owner, self.skipped) = (is_partial.then_some(socket), 0);
        }
        if let Some(sending) = &mut self.sending
            && sending.socket.is_none()
        {
            sending.socket = Some(socket);
            sending.completions = 1 + u32::from(is_sending);
        }
    }

    /// The reply to a pending call is in the outbox of its connection. `is_sending`: as in [`Self::leave`].
    #[cold]
    #[inline(never)]
    pub(super) fn enqueued(&mut self, socket: SocketId, is_sending: bool) {
        if let Some(sending) = self.sending.as_mut().filter(|sending| sending.socket == Some(socket))
            && sending.completions == 0
        {
            sending.completions = 1 + u32::from(is_sending);
        }
    }

    /// A send of a connection is complete.
    #[cold]
    #[inline(never)]
    pub(super) fn sent(&mut self, socket: SocketId, metrics: &ShardMetrics) {
        let Some(sending) = self.sending.as_mut().filter(|sending| sending.socket == Some(socket)) else {
            return;
        };
        // A completion before the reply was in the outbox is that of an earlier send.
        sending.completions = match sending.completions {
            0 => return,
            completions => completions - 1,
        };
        if sending.completions == 0 {
            let waited = nanoseconds(sending.since.elapsed());
            metrics.stages.record(sending.method as usize, Stage::SendWait, waited, sending.weight);
            self.sending = None;
            self.is_sending = false;
        }
    }

    /// Ends the stage of routing.
    #[cold]
    #[inline(never)]
    pub(super) fn routed(&mut self, outcome: &Outcome<'_>) {
        self.mark_now(Stage::Route);
        self.method = match outcome {
            Outcome::Run(call) => call.callable.kind().into(),
            Outcome::Reply(method) | Outcome::Rejected(_, method, ..) => *method,
            Outcome::Initialized(_) => RpcMethod::Initialize,
            Outcome::Listen(_) => RpcMethod::Listen,
            Outcome::SessionCommand(_, _, action) => action.method(),
            Outcome::Task(_, request) => request.action.method(),
            Outcome::Accepted | Outcome::Answered(_) | Outcome::Cancelled(..) => RpcMethod::Other,
        };
    }

    /// Records the sample. The next one is taken after `left` requests.
    pub(super) fn record(&mut self, metrics: &mut ShardMetrics, left: u32) {
        for (stage, time) in Stage::ALL.iter().zip(&mut self.times) {
            if let Some(time) = time.take() {
                metrics.stages.record(self.method as usize, *stage, time, self.weight);
            }
        }
        metrics.stages.count_sample();
        (self.is_active, self.owner) = (false, None);
        self.left = i32::try_from(left).unwrap_or(i32::MAX);
    }

    pub(super) fn begin_send(&mut self, since: Instant, method: RpcMethod, weight: u64) {
        self.is_sending = true;
        self.sending = Some(SendingSample { socket: None, completions: 0, since, method, weight });
    }
}

pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
