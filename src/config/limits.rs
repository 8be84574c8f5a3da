//! Every bound of the server, in one place.

use std::{ops::RangeInclusive, time::Duration};

use humantime_serde::re::humantime::format_duration;
use serde::{Deserialize, Serialize};

/// Bounds. What happens at each is said beside it; the default is meant for the open network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Request head with its blank line, 65,535 at most; 431 and close.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub head_bytes_max: usize,
    /// Request target; 414 and close.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub target_bytes_max: usize,
    /// One header, name and value; 431 and close.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub header_bytes_max: usize,
    /// Number of headers, 128 at most; 431 and close.
    pub headers_max: usize,
    /// Body, decoded; 413 and close.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub body_bytes_max: usize,
    /// All chunk extensions of one body; 413 and close.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub chunk_extension_bytes_max: usize,
    /// All trailers of one body; 431 and close.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub trailer_bytes_max: usize,
    /// A line of newline-delimited JSON without its ending; an error, and the rest of the line is skipped.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub line_bytes_max: usize,
    /// Nesting of a JSON document; -32700.
    pub json_depth_max: usize,
    /// Values in a JSON document, keys included; -32600.
    pub json_nodes_max: usize,
    /// Characters of a number in a JSON document; -32600.
    pub json_number_digits_max: usize,
    /// A key in a JSON document, in bytes; -32600.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub json_key_bytes_max: usize,
    /// A JSON-RPC id or a progress token, in bytes; -32600 without id, -32602 for a token.
    pub id_bytes_max: usize,
    /// Nesting of a tool's schema; the server does not start, the registry does not change.
    pub schema_depth_max: usize,
    /// Subschemas of a tool's schema, all objects and booleans counted; as above.
    pub schema_subschemas_max: usize,
    /// Memory of a compiled pattern, in bytes; as above.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub schema_pattern_bytes_max: usize,
    /// Whether patterns with a lookahead, a lookbehind or a backreference are supported: `[schema] backtracking`.
    #[serde(skip)]
    pub schema_backtracking: bool,
    /// Steps of one match of such a pattern; a string that takes more is answered with an `isError` result. Each match counts as
    /// half as many values against `validation_work_max`: before the first of them, a pattern once for each string it may be
    /// matched against, and then one by one.
    pub schema_backtrack_steps_max: usize,
    /// Values looked at to validate one call's arguments, one that is looked at twice counted twice; more is answered with
    /// an `isError` result, for the shard would be busy with nothing else. The default takes a few milliseconds.
    pub validation_work_max: usize,
    /// JSON values, keys included, of arguments that are validated on the shard. Larger arguments are validated on the blocking
    /// pool, while the shard serves other connections.
    pub validation_inline_values_max: usize,
    /// Items of one page of a list; the rest is behind a cursor.
    pub list_page_items_max: usize,
    /// Connections of one shard; further ones wait in the kernel's backlog until a tenth has gone. The descriptor limit
    /// of the process bounds it too, for each shard by itself.
    pub connections_max: u32,
    /// As many more may be accepted while accepting is being paused; beyond them a connection is closed at once.
    pub connections_reserve: u32,
    /// Requests of one connection handled in one turn; the rest wait until these are answered, and everybody else has had
    /// a turn.
    pub requests_per_turn_max: usize,
    /// Unhandled bytes of a connection with a call in flight; more are left in the socket until it is done.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub pipelined_bytes_max: usize,
    /// Unsent bytes of a connection; no further request of it is handled before they are fewer.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub outbox_bytes_max: usize,
    /// Calls in flight on one shard; a further one is answered "busy".
    pub calls_in_flight_max: usize,
    /// Calls waiting for a thread of the blocking pool, over all shards; a further one is answered "busy".
    pub blocking_queue_max: usize,
    /// Threads of the blocking pool whose handlers do not wait for a client; further calls wait in the queue. The pool has
    /// `blocking_threads` of them from the start, even where that is more, and starts others as calls wait for 10 ms while
    /// fewer than `blocking_threads` of its threads compute; those end after 10 s without a call.
    pub blocking_threads_max: usize,
    /// Blocking handlers that wait for an answer of their client, over all shards. Each holds a thread beyond
    /// `blocking_threads_max`; a further question fails with [`AskError::CannotWait`](crate::AskError::CannotWait).
    pub blocking_waiting_max: usize,
    /// Legacy sessions of one shard of which something is kept: a stream, subscriptions; one more is answered "busy"
    /// unless an idle one can go.
    pub sessions_kept_max: usize,
    /// Legacy sessions of which every shard remembers that they ended, or which log messages they want; the oldest is
    /// forgotten.
    pub session_notes_max: usize,
    /// From the opening of a legacy session to its end; 404 from then on, and the client opens another.
    #[serde(with = "humantime_serde")]
    pub session_ttl: Duration,
    /// Resources and tasks that all subscriptions of one connection hear of, and resources that one legacy session or legacy
    /// connection of lines subscribes to; one more is answered -32603.
    pub subscription_topics_max: usize,
    /// One such URI, and the id of one such task; a longer one is answered -32602.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub subscription_uri_bytes_max: usize,
    /// Subscriptions that are open at one time on one connection of lines; one more is answered -32603.
    pub subscriptions_per_connection_max: usize,
    /// Things all subscriptions of one shard hear of; one more is answered -32603.
    pub subscriptions_max: usize,
    /// Between two signs of life on a stream that has nothing to tell.
    #[serde(with = "humantime_serde")]
    pub stream_keep_alive: Duration,
    /// Streams of legacy sessions on one shard that can be resumed; the oldest is forgotten.
    pub replay_streams_max: usize,
    /// Bytes of one such stream that are kept; the oldest event is forgotten.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub replay_bytes_max: usize,
    /// Messages from other shards that wait; beyond them events are told as "everything has changed", and requests are
    /// answered "busy".
    pub broadcast_queue_max: usize,
    /// What running calls of one shard have said and has not been sent; further progress and log messages are dropped.
    pub notes_queue_max: usize,
    /// Calls in flight on one connection of lines; further lines are left in the socket until one is done, or has a question for
    /// the client.
    pub calls_per_line_max: usize,
    /// Messages in one batch (2025-03-26); -32600.
    pub batch_messages_max: usize,
    /// From a question to a client to its answer; then the call that asked is cancelled.
    #[serde(with = "humantime_serde")]
    pub question_timeout: Duration,
    /// How long a call that needs input may be retried; -32602 from then on.
    #[serde(with = "humantime_serde")]
    pub request_state_ttl: Duration,
    /// Tasks one shard keeps, those that have ended included; one more is answered "busy".
    pub tasks_max: usize,
    /// How long a task is kept that does not say so itself.
    #[serde(with = "humantime_serde")]
    pub task_ttl: Duration,
    /// From a head's first byte to its last; 408 and close.
    #[serde(with = "humantime_serde")]
    pub head_timeout: Duration,
    /// From one part of a body to the next; 408 and close.
    #[serde(with = "humantime_serde")]
    pub body_timeout: Duration,
    /// From a body's first byte to its last; 408 and close.
    #[serde(with = "humantime_serde")]
    pub body_total_timeout: Duration,
    /// Bytes per second a body must come in at, once it has taken longer than `body_timeout`; 408 and close.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub body_bytes_per_second_min: usize,
    /// Between two requests; close.
    #[serde(with = "humantime_serde")]
    pub keep_alive_timeout: Duration,
    /// Without progress in sending; close.
    #[serde(with = "humantime_serde")]
    pub write_timeout: Duration,
    /// How long a connection that was refused something is read, and what it sends thrown away, so that the refusal
    /// is not lost to a reset.
    #[serde(with = "humantime_serde")]
    pub linger_timeout: Duration,
    /// From the start of a tool's call to its end; then it is cancelled and answered with an `isError` result. A tool may
    /// set its own.
    #[serde(with = "humantime_serde")]
    pub call_deadline: Duration,
    /// A turn of a shard that takes longer is logged and counted: some inline tool takes its neighbours' time.
    #[serde(with = "humantime_serde")]
    pub turn_slow: Duration,
    /// Lines a second that one shard logs of one kind; further ones are counted and told in one line.
    pub log_lines_per_second_max: u32,
    /// Log lines that wait for stderr to take them; further ones are dropped, and told how many.
    pub log_lines_queued_max: usize,
    /// Connections of the admin interface at one time; a further one is closed at once.
    pub admin_connections_max: usize,
    /// How long an idle connection is kept when the server ends, for a request that may be on its way.
    #[serde(with = "humantime_serde")]
    pub drain_grace: Duration,
    /// From SIGINT or SIGTERM, when `/readyz` turns 503, to the drain: the listeners stay open meanwhile, so that a load
    /// balancer can take the server out first.
    #[serde(with = "humantime_serde")]
    pub drain_delay: Duration,
    /// How long calls in flight may take to finish when the server ends, or when a client of lines has ended its input; then
    /// they are cancelled and named in the log.
    #[serde(with = "humantime_serde")]
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes_max: 32 * 1024,
            target_bytes_max: 8 * 1024,
            header_bytes_max: 8 * 1024,
            headers_max: 100,
            body_bytes_max: 4 * 1024 * 1024,
            chunk_extension_bytes_max: 16 * 1024,
            trailer_bytes_max: 8 * 1024,
            line_bytes_max: 10 * 1024 * 1024,
            json_depth_max: 64,
            json_nodes_max: 100_000,
            json_number_digits_max: 1024,
            json_key_bytes_max: 1024,
            id_bytes_max: 1024,
            schema_depth_max: 32,
            schema_subschemas_max: 2000,
            schema_pattern_bytes_max: 1024 * 1024,
            schema_backtracking: false,
            schema_backtrack_steps_max: 10_000,
            validation_work_max: 250_000,
            validation_inline_values_max: 10_000,
            list_page_items_max: 1000,
            connections_max: 131_072,
            connections_reserve: 64,
            requests_per_turn_max: 32,
            pipelined_bytes_max: 64 * 1024,
            outbox_bytes_max: 1024 * 1024,
            calls_in_flight_max: 4096,
            blocking_queue_max: 1024,
            blocking_threads_max: 64,
            blocking_waiting_max: 1024,
            sessions_kept_max: 16_384,
            session_notes_max: 1 << 18,
            session_ttl: Duration::from_secs(24 * 60 * 60),
            subscription_topics_max: 1024,
            subscription_uri_bytes_max: 2048,
            subscriptions_per_connection_max: 64,
            subscriptions_max: 1 << 18,
            stream_keep_alive: Duration::from_secs(15),
            replay_streams_max: 1024,
            replay_bytes_max: 64 * 1024,
            broadcast_queue_max: 4096,
            notes_queue_max: 16_384,
            calls_per_line_max: 256,
            batch_messages_max: 100,
            question_timeout: Duration::from_secs(10 * 60),
            request_state_ttl: Duration::from_secs(60 * 60),
            tasks_max: 4096,
            task_ttl: Duration::from_secs(60 * 60),
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            body_total_timeout: Duration::from_secs(30),
            body_bytes_per_second_min: 1024,
            keep_alive_timeout: Duration::from_secs(120),
            write_timeout: Duration::from_secs(10),
            linger_timeout: Duration::from_secs(2),
            call_deadline: Duration::from_secs(30),
            turn_slow: Duration::from_millis(100),
            log_lines_per_second_max: 100,
            log_lines_queued_max: 10_000,
            admin_connections_max: 32,
            drain_grace: Duration::from_millis(250),
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(10),
        }
    }
}

/// One setting beside the range it must be in.
pub(super) struct Bound {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) range: String,
    pub(super) is_kept: bool,
    /// The value as a number, if it is one: durations in seconds.
    figure: Option<f64>,
}

impl Bound {
    pub(super) fn new<T: PartialOrd>(
        key: impl Into<String>,
        value: T,
        range: &RangeInclusive<T>,
        told: impl Fn(&T) -> String,
    ) -> Self {
        Self {
            key: key.into(),
            value: told(&value),
            range: format!("{} to {}", told(range.start()), told(range.end())),
            is_kept: range.contains(&value),
            figure: None,
        }
    }
}

/// A setting with a range.
trait Setting: PartialOrd + Sized {
    fn told(&self) -> String;

    /// As a number: durations in seconds.
    fn figure(&self) -> f64;
}

impl Setting for usize {
    fn told(&self) -> String {
        self.to_string()
    }

    fn figure(&self) -> f64 {
        *self as f64
    }
}

impl Setting for bool {
    fn told(&self) -> String {
        self.to_string()
    }

    fn figure(&self) -> f64 {
        f64::from(u8::from(*self))
    }
}

impl Setting for u32 {
    fn told(&self) -> String {
        self.to_string()
    }

    fn figure(&self) -> f64 {
        f64::from(*self)
    }
}

impl Setting for Duration {
    fn told(&self) -> String {
        format_duration(*self).to_string()
    }

    fn figure(&self) -> f64 {
        self.as_secs_f64()
    }
}

/// Takes `Limits` apart without `..`, so that no field goes without a range.
macro_rules! bounds {
    ($limits:expr, $($field:ident: $range:expr,)*) => {{
        let Limits { $($field),* } = *$limits;
        vec![$({
            let bound = Bound::new(concat!("limits.", stringify!($field)), $field, &$range, Setting::told);
            Bound { figure: Some($field.figure()), ..bound }
        }),*]
    }};
}

/// The limits that a compiled schema depends on. Each is described with the field of [`Limits`] it is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchemaLimits {
    /// [`Limits::schema_depth_max`]
    pub depth_max: usize,
    /// [`Limits::schema_subschemas_max`]
    pub subschemas_max: usize,
    /// [`Limits::schema_pattern_bytes_max`]
    pub pattern_bytes_max: usize,
    /// [`Limits::schema_backtracking`]
    pub backtracking: bool,
    /// [`Limits::schema_backtrack_steps_max`]
    pub backtrack_steps_max: usize,
    /// [`Limits::validation_work_max`]
    pub work_max: usize,
}

impl Limits {
    /// What a compiled schema depends on.
    #[must_use]
    pub fn schema(&self) -> SchemaLimits {
        SchemaLimits {
            depth_max: self.schema_depth_max,
            subschemas_max: self.schema_subschemas_max,
            pattern_bytes_max: self.schema_pattern_bytes_max,
            backtracking: self.schema_backtracking,
            backtrack_steps_max: self.schema_backtrack_steps_max,
            work_max: self.validation_work_max,
        }
    }

    /// Every limit by its key, as a number: durations in seconds.
    #[must_use]
    pub fn figures(&self) -> Vec<(String, f64)> {
        let key = |bound: &Bound| bound.key.trim_start_matches("limits.").to_owned();
        self.bounds().iter().filter_map(|bound| Some((key(bound), bound.figure?))).collect()
    }

    /// Every bound with the range an operator may move it in: wide, but nothing a server could not run with.
    pub(super) fn bounds(&self) -> Vec<Bound> {
        const GIB: usize = 1 << 30;
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        const MOMENT: Duration = Duration::from_millis(1);
        bounds! { self,
            // A head's places are kept in 16 bits, its headers in an array of 128.
            head_bytes_max: 256..=65_535,
            target_bytes_max: 64..=65_535,
            header_bytes_max: 256..=65_535,
            headers_max: 8..=128,
            body_bytes_max: 1024..=GIB,
            chunk_extension_bytes_max: 0..=GIB,
            trailer_bytes_max: 0..=65_535,
            line_bytes_max: 1024..=GIB,
            // Documents and schemas are walked on the stack.
            json_depth_max: 8..=128,
            json_nodes_max: 64..=100_000_000,
            json_number_digits_max: 32..=65_535,
            json_key_bytes_max: 64..=GIB,
            id_bytes_max: 64..=65_535,
            schema_depth_max: 1..=128,
            schema_subschemas_max: 1..=1_000_000,
            schema_pattern_bytes_max: 1024..=GIB,
            schema_backtracking: false..=true,
            schema_backtrack_steps_max: 100..=10_000_000,
            validation_work_max: 1000..=1_000_000_000,
            validation_inline_values_max: 16..=100_000_000,
            list_page_items_max: 1..=1_000_000,
            // The kernel's bound on a table of direct descriptors.
            connections_max: 1..=1 << 20,
            connections_reserve: 1..=65_535,
            requests_per_turn_max: 1..=1_000_000,
            pipelined_bytes_max: 1024..=GIB,
            outbox_bytes_max: 1024..=GIB,
            calls_in_flight_max: 1..=1_000_000,
            blocking_queue_max: 1..=1_000_000,
            blocking_threads_max: 1..=1024,
            blocking_waiting_max: 0..=65_535,
            sessions_kept_max: 1..=10_000_000,
            session_notes_max: 1..=100_000_000,
            session_ttl: Duration::from_secs(1)..=DAY * 365,
            subscription_topics_max: 1..=1_000_000,
            subscription_uri_bytes_max: 64..=65_535,
            subscriptions_per_connection_max: 1..=1_000_000,
            subscriptions_max: 1..=100_000_000,
            stream_keep_alive: MOMENT..=DAY,
            replay_streams_max: 1..=1_000_000,
            replay_bytes_max: 1024..=GIB,
            broadcast_queue_max: 16..=1_000_000,
            notes_queue_max: 16..=10_000_000,
            calls_per_line_max: 1..=1_000_000,
            batch_messages_max: 1..=100_000,
            question_timeout: MOMENT..=DAY,
            request_state_ttl: MOMENT..=DAY * 365,
            tasks_max: 1..=10_000_000,
            task_ttl: Duration::from_secs(1)..=DAY * 365,
            head_timeout: MOMENT..=DAY,
            body_timeout: MOMENT..=DAY,
            body_total_timeout: MOMENT..=DAY,
            body_bytes_per_second_min: 0..=GIB,
            keep_alive_timeout: MOMENT..=DAY,
            write_timeout: MOMENT..=DAY,
            linger_timeout: MOMENT..=DAY,
            call_deadline: MOMENT..=DAY,
            turn_slow: MOMENT..=DAY,
            log_lines_per_second_max: 1..=1_000_000,
            log_lines_queued_max: 16..=1_000_000,
            admin_connections_max: 1..=10_000,
            drain_grace: Duration::ZERO..=DAY,
            drain_delay: Duration::ZERO..=DAY,
            // Zero: whatever is in flight is given up at once.
            drain_timeout: Duration::ZERO..=DAY,
        }
    }
}
