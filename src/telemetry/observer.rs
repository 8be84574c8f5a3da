//! What a shard counts and writes into the log: each kind of line a bounded number of times a second, and nothing at all for a
//! level nobody listens to.

use std::time::{Duration, Instant};

use strum::{IntoEnumIterator, VariantArray};
use tracing::{Level, level_filters::LevelFilter};

use super::{
    log::{self, RateLimit},
    metrics::{ShardMetrics, ToolFailure},
};
use crate::{
    call::{Callable, Kind, Reply},
    http1::RejectReason,
    mcp::{CallMethod, Refused},
};

/// Reasons of refusals that are neither HTTP's nor the protocol's.
const SHARD_REFUSALS: [&str; 8] = [
    "accept_failed",
    "accept_no_descriptor",
    "adopt_failed",
    "connections_max",
    "line_too_long",
    "lines_not_http",
    "slow_reader",
    "write_timeout",
];

/// What is counted that is no refusal.
const EVENTS: [&str; 9] = [
    "answer_lost",
    "answer_unexpected",
    "call_abandoned",
    "cancel_lost",
    "cancelled",
    "connection_panicked",
    "events_missed",
    "input_required",
    "slow_turn",
];

pub(crate) struct Observer {
    shard: usize,
    metrics: ShardMetrics,
    limit: RateLimit,
    /// When the turn at hand began: latencies of its answers count from here.
    turn_began: Instant,
}

/// Names of tools in the line about a slow turn.
const SLOW_TOOLS_MAX: usize = 8;

/// Writes a line at a level that is only known here; tracing wants it known when compiling.
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
        let mut metrics = ShardMetrics::new(CallMethod::ALL.map(CallMethod::as_str));
        let http = RejectReason::VARIANTS.iter().map(|reason| reason.name());
        // A limit of JSON has no name of its own among these.
        let mcp =
            Refused::iter().map(Refused::name).filter(|name| !name.is_empty() && *name != "input_required");
        metrics.declare(http.chain(mcp).chain(SHARD_REFUSALS), EVENTS);
        Self { shard, metrics, limit: RateLimit::new(lines_per_second_max), turn_began: now }
    }

    pub(crate) fn metrics(&mut self) -> &mut ShardMetrics {
        &mut self.metrics
    }

    pub(crate) fn turn_began(&self) -> Instant {
        self.turn_began
    }

    pub(crate) fn begin_turn(&mut self, now: Instant) {
        self.turn_began = now;
    }

    /// A turn's answers are on their way. One that took longer than `slow` is worth a word.
    pub(crate) fn end_turn(&mut self, slow: Duration) {
        let took = self.turn_began.elapsed();
        if took > slow {
            // The tools whose calls ended in this turn; which of them took the time is not measured.
            let tools = self.metrics.noted_tools(SLOW_TOOLS_MAX).join(", ");
            let tools = Some(tools.as_str()).filter(|tools| !tools.is_empty());
            self.metrics.event("slow_turn");
            self.write(Level::WARN, "slow_turn", tools, Some(&format!("{} ms", took.as_millis())));
        }
        self.metrics.record_noted(took);
    }

    /// Something was refused to a client whose fault it is. `detail`: what it was, in short.
    pub(crate) fn refused(&mut self, reason: &'static str, detail: Option<&str>) {
        self.metrics.refuse(reason);
        self.write(Level::INFO, reason, None, detail);
    }

    /// Counts and logs a panic while one connection was handled: a fault of the server, so its stack is logged.
    pub(crate) fn panicked(&mut self, message: &str) {
        const KIND: &str = "connection_panicked";
        self.metrics.event(KIND);
        let Some(suppressed) = self.limit.admit(KIND, self.turn_began) else { return };
        let (shard, suppressed) = (self.shard, (suppressed > 0).then_some(suppressed));
        let detail = format!("{}; the connection is dropped", message.replace('\n', " "));
        tracing::error!(shard, detail, backtrace = log::take_backtrace(), suppressed, "{KIND}");
    }

    /// A request names a host or an origin that is not allowed: the line names it, so that an operator can allow it.
    pub(crate) fn forbidden(&mut self, reason: &'static str, name: &str) {
        self.metrics.refuse(reason);
        self.write(Level::WARN, reason, None, Some(name));
    }

    /// A call got no result of its handler's.
    pub(crate) fn call_refused(&mut self, refused: Refused, callable: &Callable) {
        let level = match refused {
            Refused::ToolPanicked | Refused::InvalidOutput => Level::ERROR,
            // The client's fault.
            Refused::InvalidArguments | Refused::ValidationWork | Refused::RequestCopyTooLarge => Level::INFO,
            _ => Level::WARN,
        };
        self.metrics.refuse(refused.name());
        let failure = match refused {
            Refused::Deadline => Some(ToolFailure::Timeout),
            Refused::InvalidArguments | Refused::ValidationWork => Some(ToolFailure::InvalidArguments),
            Refused::Busy => Some(ToolFailure::Busy),
            Refused::ToolPanicked => Some(ToolFailure::Panic),
            Refused::InvalidOutput => Some(ToolFailure::InvalidOutput),
            _ => None,
        };
        if let Some(failure) = failure.filter(|_| callable.kind() == Kind::Tool) {
            self.metrics.tool_failed(callable.position(), callable.name(), failure);
        }
        self.write(level, refused.name(), Some(callable.name()), None);
    }

    /// A handler has answered; `refused` if its answer was.
    pub(crate) fn answered(&mut self, callable: &Callable, reply: &Reply, refused: Option<Refused>) {
        if let Some(refused) = refused {
            self.call_refused(refused, callable);
        } else if reply.is_error() || reply.failure().is_some() {
            if callable.kind() == Kind::Tool {
                self.metrics.tool_failed(callable.position(), callable.name(), ToolFailure::Error);
            }
            self.write(Level::DEBUG, "tool_error", Some(callable.name()), None);
        }
    }

    /// Calls of a client that waited for them, but no longer than a drain may take, are cancelled without an answer.
    pub(crate) fn abandoned(&mut self, names: &[String]) {
        const NAMES_MAX: usize = 10;
        if names.is_empty() {
            return;
        }
        names.iter().for_each(|_| self.metrics.event("call_abandoned"));
        let more = names.len().saturating_sub(NAMES_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let named = names.get(..NAMES_MAX).unwrap_or(names).join(", ");
        let detail =
            format!("not done within limits.drain_timeout, cancelled without an answer: {named}{more}");
        self.write(Level::WARN, "calls_abandoned", None, Some(&detail));
    }

    fn write(&mut self, level: Level, kind: &'static str, tool: Option<&str>, detail: Option<&str>) {
        if level > LevelFilter::current() {
            return;
        }
        let Some(suppressed) = self.limit.admit(kind, self.turn_began) else {
            return;
        };
        let shard = self.shard;
        let suppressed = (suppressed > 0).then_some(suppressed);
        line!(level, shard, tool, detail, suppressed, "{kind}");
    }
}
