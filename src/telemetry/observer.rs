//! Counters and log lines of one shard. Lines of one kind are limited per second; a line below the log level costs nothing.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use corelane_ring::PeerAddress;

use strum::{IntoEnumIterator, VariantArray};
use tracing::{Level, level_filters::LevelFilter};

use super::{
    log::{self, RateLimit},
    metrics::{ShardMetrics, ToolFailure},
    turn_status::TurnStatus,
};
use crate::{
    call::{Callable, Kind, Reply, Revision},
    http1::{RejectReason, Status},
    jsonrpc::{ErrorCode, Id},
    mcp::{ErrorKind, RpcMethod},
};

/// Reasons of rejections that neither HTTP nor the protocol define.
const SHARD_REFUSALS: [&str; 14] = [
    "accept_failed",
    "accept_no_descriptor",
    "adopt_failed",
    "answer_work",
    "connections_max",
    "line_timeout",
    "line_too_long",
    "lines_not_http",
    "peer_lost",
    "proxy_header",
    "slow_reader",
    "task_results_bytes_max",
    "write_timeout",
    "write_too_slow",
];

/// Counted events that are not rejections.
const EVENTS: [&str; 16] = [
    "answer_lost",
    "answer_unexpected",
    "call_abandoned",
    "cancel_lost",
    "cancelled",
    "connection_handed_over",
    "connection_moved",
    "connection_panicked",
    "events_missed",
    "executor_resumed",
    "input_required",
    "outcome_repeated",
    "session_evicted",
    "shard_restarted",
    "slow_turn",
    "stalled",
];

pub(crate) struct Observer {
    shard: usize,
    metrics: ShardMetrics,
    limit: RateLimit,
    /// Start of the current turn, from which the latencies of its replies are measured.
    turn_began: Instant,
    /// The place at which the current turn is published.
    turn: Arc<TurnStatus>,
    /// The peer of the connection whose input, delivery or call is being handled.
    peer: Option<PeerAddress>,
    /// Number of rejected requests and of replies that are errors.
    errors: u64,
}

/// Maximum number of tool names in the line about a slow turn.
const SLOW_TOOLS_MAX: usize = 8;

/// Maximum length of a request id in a log line, in bytes.
const ID_BYTES_MAX: usize = 64;

/// The fields of a log line about a request. Fields are absent where the request did not get that far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RequestFields<'a> {
    /// The method.
    pub(crate) method: Option<RpcMethod>,
    /// The tool, prompt or resource.
    pub(crate) tool: Option<&'a str>,
    /// The id.
    pub(crate) id: Option<Id<'a>>,
    /// The code of the JSON-RPC error.
    pub(crate) code: Option<i64>,
    /// The HTTP status.
    pub(crate) status: Option<Status>,
    /// Time of receipt, for the duration.
    pub(crate) started: Option<Instant>,
}

impl<'a> RequestFields<'a> {
    /// The fields of a call.
    pub(crate) fn of_call(callable: &'a Callable, id: Id<'a>, started: Instant) -> Self {
        Self {
            method: Some(RpcMethod::from(callable.kind())),
            tool: Some(callable.name()),
            id: Some(id),
            started: Some(started),
            ..Self::default()
        }
    }

    /// The same fields, with the code and status of an error.
    pub(crate) fn failed(self, error: ErrorKind, revision: Revision) -> Self {
        let code = error.code().map(ErrorCode::number);
        Self { code, status: Some(error.status(revision)), ..self }
    }
}

/// Writes a line at a level that is chosen at run time; tracing needs a constant.
macro_rules! line {
    ($level:expr, $($field:tt)*) => {
        match $level {
            Level::ERROR => tracing::error!($($field)*),
            Level::WARN => tracing::warn!($($field)*),
            Level::INFO => tracing::info!($($field)*),
            _ => tracing::debug!($($field)*),
        }
    };
}

impl Observer {
    pub(crate) fn new(shard: usize, lines_per_second_max: u32, now: Instant) -> Self {
        let mut metrics = ShardMetrics::new(RpcMethod::ALL.map(RpcMethod::as_str));
        let http = RejectReason::VARIANTS.iter().map(|reason| reason.name());
        // Limits of JSON are not declared here: each has its own name.
        let mcp = ErrorKind::iter()
            .map(ErrorKind::name)
            .filter(|name| !name.is_empty() && *name != "input_required");
        metrics.declare(http.chain(mcp).chain(SHARD_REFUSALS), EVENTS);
        let limit = RateLimit::new(lines_per_second_max);
        Self { shard, metrics, limit, turn_began: now, turn: Arc::default(), peer: None, errors: 0 }
    }

    pub(crate) fn metrics(&mut self) -> &mut ShardMetrics {
        &mut self.metrics
    }

    /// Number of rejected requests and of replies that are errors.
    pub(crate) fn errors(&self) -> u64 {
        self.errors
    }

    pub(crate) fn turn_began(&self) -> Instant {
        self.turn_began
    }

    pub(crate) fn begin_turn(&mut self, now: Instant) {
        self.turn_began = now;
    }

    /// Publishes the calls of each turn there from now on.
    pub(crate) fn set_turn_status(&mut self, turn: Arc<TurnStatus>) {
        self.turn = turn;
    }

    /// Publishes that a call of this callable begins, for the watchdog.
    #[inline]
    pub(crate) fn call_begins(&self, callable: &Callable) {
        self.turn.start(callable);
    }

    /// Ends a turn whose replies were sent: records their latencies, and logs a turn that took longer than `slow`. Returns the
    /// length of the turn.
    pub(crate) fn end_turn(&mut self, slow: Duration) -> Duration {
        let took = self.turn_began.elapsed();
        if took > slow {
            // The tools whose calls ended in this turn; which of them took the time is not measured.
            let tools = self.metrics.noted_tools(SLOW_TOOLS_MAX).join(", ");
            let tools = Some(tools.as_str()).filter(|tools| !tools.is_empty());
            self.metrics.event("slow_turn");
            self.write_slow_turn(tools, &format!("{} ms", took.as_millis()));
        }
        self.metrics.record_noted(took);
        took
    }

    /// Counts and logs a poll of a task that took longer than a turn should. `name`: the tool, prompt or resource.
    #[cold]
    pub(crate) fn slow_poll(&mut self, name: Option<&str>, took: Duration) {
        self.metrics.event("slow_turn");
        self.write_slow_turn(name, &format!("{} ms in one poll of a task", took.as_millis()));
    }

    /// The peer of the connection whose input, delivery or call is being handled.
    pub(crate) fn peer(&self) -> Option<PeerAddress> {
        self.peer
    }

    /// Counts and logs a time without a turn, by which the deadlines are extended.
    #[cold]
    pub(crate) fn stalled(&mut self, unobserved: Duration) {
        self.metrics.event("stalled");
        let detail =
            format!("no turn for {} ms, deadlines are extended by this time", unobserved.as_millis());
        self.write(Level::INFO, "stalled", Some(&detail));
    }

    /// Sets the peer that the following lines about requests name.
    #[inline]
    pub(crate) fn set_peer(&mut self, peer: Option<PeerAddress>) {
        self.peer = peer;
    }

    /// Records a rejected request (client error). `detail`: the reason, or the value that is wrong, in short.
    pub(crate) fn rejected(
        &mut self,
        reason: &'static str,
        request: RequestFields<'_>,
        detail: Option<&str>,
    ) {
        self.metrics.refuse(reason);
        self.write_request(Level::INFO, reason, request, detail);
    }

    /// Records that a limit of the shard or the machine was reached, independent of a request.
    pub(crate) fn limited(&mut self, reason: &'static str) {
        self.metrics.refuse(reason);
        self.write(Level::INFO, reason, None);
    }

    /// Counts and logs a panic while one connection was handled: a fault of the server, so its stack is logged.
    pub(crate) fn panicked(&mut self, message: &str) {
        const KIND: &str = "connection_panicked";
        self.metrics.event(KIND);
        let Some(suppressed) = self.limit.admit(KIND, self.turn_began) else { return };
        let (shard, suppressed) = (self.shard, (suppressed > 0).then_some(suppressed));
        let detail = format!("{}; the connection is dropped", log::panic_excerpt(message));
        tracing::error!(shard, detail, backtrace = log::take_backtrace(), suppressed, "{KIND}");
    }

    /// Records a request whose host or origin is not allowed. The line names it, so that an operator can allow it.
    pub(crate) fn forbidden(&mut self, reason: &'static str, request: RequestFields<'_>, name: &str) {
        self.metrics.refuse(reason);
        self.write_request(Level::WARN, reason, request, Some(name));
    }

    /// Records a call without a reply of its handler.
    pub(crate) fn call_rejected(
        &mut self,
        error: ErrorKind,
        callable: &Callable,
        request: RequestFields<'_>,
        revision: Revision,
    ) {
        let level = match error {
            ErrorKind::ToolPanicked | ErrorKind::InvalidOutput | ErrorKind::OutputWork => Level::ERROR,
            // A client error.
            ErrorKind::InvalidArguments
            | ErrorKind::ValidationWork
            | ErrorKind::RequestCopyTooLarge
            | ErrorKind::StateUsed => Level::INFO,
            _ => Level::WARN,
        };
        self.metrics.refuse(error.name());
        let failure = match error {
            ErrorKind::Deadline => Some(ToolFailure::Timeout),
            ErrorKind::InvalidArguments | ErrorKind::ValidationWork => Some(ToolFailure::InvalidArguments),
            ErrorKind::Busy | ErrorKind::PeerShare | ErrorKind::ResultMemory | ErrorKind::OrphanLimit => {
                Some(ToolFailure::Busy)
            }
            ErrorKind::ToolPanicked => Some(ToolFailure::Panic),
            ErrorKind::InvalidOutput | ErrorKind::OutputWork => Some(ToolFailure::InvalidOutput),
            _ => None,
        };
        if let Some(failure) = failure.filter(|_| callable.kind() == Kind::Tool) {
            self.metrics.tool_failed(callable.position(), callable.name(), failure);
        }
        self.write_request(level, error.name(), request.failed(error, revision), None);
    }

    /// Records the reply of a handler that is an error. `error`: the error that replaced the reply.
    #[cold]
    pub(crate) fn call_failed<'a>(
        &mut self,
        callable: &'a Callable,
        reply: &Reply,
        error: Option<ErrorKind>,
        revision: Revision,
        (id, started): (Id<'a>, Instant),
    ) {
        if let Some(error) = error {
            let request = RequestFields::of_call(callable, id, started);
            self.call_rejected(error, callable, request, revision);
        } else {
            if callable.kind() == Kind::Tool {
                self.metrics.tool_failed(callable.position(), callable.name(), ToolFailure::Error);
            }
            let code = reply.failure().map(|failure| failure.code_for(revision));
            let request = RequestFields::of_call(callable, id, started);
            self.write_request(Level::DEBUG, "tool_error", RequestFields { code, ..request }, None);
        }
    }

    /// Logs calls that were cancelled and answered with an error after the time limit of a drain.
    pub(crate) fn calls_abandoned(&mut self, names: &[String]) {
        const NAMES_MAX: usize = 10;
        if names.is_empty() {
            return;
        }
        names.iter().for_each(|_| self.metrics.event("call_abandoned"));
        let more = names.len().saturating_sub(NAMES_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let named = names.get(..NAMES_MAX).unwrap_or(names).join(", ");
        let detail = format!("not done within limits.drain_timeout, answered with an error: {named}{more}");
        self.write(Level::WARN, "calls_abandoned", Some(&detail));
    }

    fn write_slow_turn(&mut self, tool: Option<&str>, detail: &str) {
        let Some(suppressed) = self.admit(Level::WARN, "slow_turn") else { return };
        let shard = self.shard;
        tracing::warn!(shard, tool, detail, suppressed, "slow_turn");
    }

    fn write(&mut self, level: Level, kind: &'static str, detail: Option<&str>) {
        let Some(suppressed) = self.admit(level, kind) else { return };
        let shard = self.shard;
        line!(level, shard, detail, suppressed, "{kind}");
    }

    /// Counts an error, and logs it.
    fn write_request(
        &mut self,
        level: Level,
        kind: &'static str,
        request: RequestFields<'_>,
        detail: Option<&str>,
    ) {
        self.errors += 1;
        let Some(suppressed) = self.admit(level, kind) else { return };
        let RequestFields { method, tool, id, code, status, started } = request;
        let shard = self.shard;
        let peer = self.peer.map(|peer| tracing::field::display(SocketAddr::from(peer)));
        let method = method.filter(|method| *method != RpcMethod::Other).map(RpcMethod::as_str);
        let id = id.map(id_excerpt);
        let id = id.as_deref();
        let status = status.map(Status::code);
        let duration_us =
            started.map(|started| u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
        line!(level, shard, peer, method, tool, id, code, status, duration_us, detail, suppressed, "{kind}");
    }

    /// Whether a line may be written; returns the number of suppressed lines of its kind.
    fn admit(&mut self, level: Level, kind: &'static str) -> Option<Option<u64>> {
        if level > LevelFilter::current() {
            return None;
        }
        let suppressed = self.limit.admit(kind, self.turn_began)?;
        Some((suppressed > 0).then_some(suppressed))
    }
}

/// Encodes an id as JSON, which escapes control characters, and truncates it to [`ID_BYTES_MAX`].
fn id_excerpt(id: Id<'_>) -> String {
    let mut text = id.to_string();
    if text.len() > ID_BYTES_MAX {
        text.truncate(text.floor_char_boundary(ID_BYTES_MAX));
        text.push('…');
    }
    text
}
