//! Limits of the server.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bound::{Bound, Setting};

/// All limits of a server. Each field states what happens beyond the limit; the defaults suit the open network.
///
/// The last sentence of each field states how a change can take effect. "Change: live." marks a value that is read for each
/// connection, request or turn, so that a command to the shards can replace it while the server runs. "Change: restart." marks a value
/// that sizes a table or a queue, or that is copied at the start or into compiled registries. Today no command changes limits: all
/// of them are read at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Request head with its empty line, in bytes, at most 65,535. Beyond it: 431 and close. Change: live.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub head_bytes_max: usize,
    /// Request target, in bytes. Beyond it: 414 and close. Change: live.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub target_bytes_max: usize,
    /// One header, name and value, in bytes. Beyond it: 431 and close. Change: live.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub header_bytes_max: usize,
    /// Number of headers, at most 128. Beyond it: 431 and close. Change: live.
    pub headers_max: usize,
    /// Decoded body, in bytes. Beyond it: 413 and close. Change: live.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub body_bytes_max: usize,
    /// All chunk extensions of one body, in bytes. Beyond it: 413 and close. Change: live.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub chunk_extension_bytes_max: usize,
    /// All trailers of one body, in bytes. Beyond it: 431 and close. Change: live.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub trailer_bytes_max: usize,
    /// A line of newline-delimited JSON without its ending, in bytes. Beyond it: an error, and the rest of the line is
    /// skipped. Change: live.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub line_bytes_max: usize,
    /// Nesting of a JSON document. Beyond it: -32700. The parser's buffers are created with it. Change: restart.
    pub json_depth_max: usize,
    /// Values in a JSON document, including keys. Beyond it: -32600. Change: live.
    pub json_nodes_max: usize,
    /// Characters of a number in a JSON document. Beyond it: -32600. Change: live.
    pub json_number_digits_max: usize,
    /// A key in a JSON document, in bytes. Beyond it: -32600. Change: live.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub json_key_bytes_max: usize,
    /// A JSON-RPC id or a progress token, in bytes. Beyond it: -32600 without id; -32602 for a token. Change: live.
    pub id_bytes_max: usize,
    /// Nesting of a tool's schema. Beyond it: the server does not start, or the registry does not change.
    /// Change: restart.
    pub schema_depth_max: usize,
    /// Subschemas of a tool's schema, counted as its objects and booleans. Beyond it: as for `schema_depth_max`.
    /// Change: restart.
    pub schema_subschemas_max: usize,
    /// Memory of a compiled pattern, in bytes. Beyond it: as for `schema_depth_max`. Change: restart.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub schema_pattern_bytes_max: usize,
    /// Whether patterns with a lookahead, a lookbehind or a backreference are supported: `[schema] backtracking`.
    /// Change: restart.
    #[serde(skip)]
    pub schema_backtracking: bool,
    /// Steps of one match of such a pattern. Beyond it: an `isError` result. A step counts as 25 units of
    /// `validation_work_max`, in advance for each string that the pattern may be matched against. Change: restart.
    pub schema_backtrack_steps_max: usize,
    /// Work of validating the arguments of one call, or its result, computed before it starts from the schema and the size of the value. A
    /// unit is about a nanosecond: a visited value costs about ten, a byte of a string matched against a pattern three, or sixteen for
    /// each state of its automaton if that cannot be made deterministic. Beyond it: an `isError` result without validation, or -32603
    /// for a result. The default takes a second at most. Change: restart.
    pub validation_work_max: usize,
    /// Work of validations on the shard, in the unit of `validation_work_max`, for one call or for one batch. Beyond it: the arguments of a
    /// call, and the result of any, are validated on the blocking pool, while the shard serves other connections; the arguments of a call
    /// in a batch and the answer to a form are refused. The default takes a millisecond at most. Change: live.
    pub validation_inline_work_max: usize,
    /// Items in one page of a list; further items are on the next page. The pages are encoded when the registry is
    /// compiled. Change: restart.
    pub list_page_items_max: usize,
    /// Connections of one shard. Beyond it: new ones wait in the kernel's backlog until a tenth of them has closed.
    /// Also bounded, per shard, by the process's limit of file descriptors. Change: restart.
    pub connections_max: u32,
    /// Connections above `connections_max` that may be accepted before accepting is paused. Beyond it: closed at once.
    /// Change: restart.
    pub connections_reserve: u32,
    /// Requests of one connection handled in one turn of the shard. Beyond it: they wait until these have been answered
    /// and the other connections had their turn. Change: live.
    pub requests_per_turn_max: usize,
    /// Unhandled bytes of a connection with a call in flight. Beyond it: nothing is received until the call is done.
    /// Change: live.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub pipelined_bytes_max: usize,
    /// Unsent bytes of a connection. Beyond it: its next request waits until the client has received some.
    /// Change: live.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub outbox_bytes_max: usize,
    /// Calls in flight on one shard. Beyond it: a call is answered "busy". Change: restart.
    pub calls_in_flight_max: usize,
    /// Bytes of the requests of a shard's calls in flight, of those that have at least 16 KiB: their arguments are copied. A copy for the
    /// blocking pool, which validates large arguments, takes 24 bytes for each value in addition. Beyond it: a call is answered "busy".
    /// At most an eighth of a shard's part of `server.memory_max`. Change: restart.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub calls_bytes_max: usize,
    /// Bytes that the connections of a shard hold in buffers, of those that hold at least 16 KiB: parts of requests, replies that
    /// are not sent or not received. Beyond it: the connection that holds the most for the peer that holds the most is closed, or a
    /// request is answered 503. At most half of a shard's part of `server.memory_max`. Change: restart.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub buffers_bytes_max: usize,
    /// Share of a shard's table that one peer (an IPv4 address, or an IPv6 /64 network) may use while other peers use the table and
    /// it is half full, in percent. Beyond it: the peer's request is refused as `peer_share`. A peer that uses a table alone may
    /// fill all but a sixteenth of it. Change: restart.
    pub peer_share_percent: u32,
    /// Legacy calls of one peer that go on although their connection has closed, in percent of `calls_in_flight_max`. Beyond it: the
    /// oldest is cancelled. Change: restart.
    pub peer_orphans_percent: u32,
    /// Calls of all shards that wait for a thread of the blocking pool. Beyond it: a call is answered "busy".
    /// Change: restart.
    pub blocking_queue_max: usize,
    /// Threads of the blocking pool, without those whose handler waits for a client. Beyond it: calls wait in the
    /// queue. The pool always has `blocking_threads` threads, even if that is more. It starts another one when a call
    /// has waited for 10 ms while fewer than `blocking_threads` threads compute; that thread ends after 10 s without a
    /// call. For each 16 of them, and at least once, a spare thread is started in addition when all are in use and a call of a
    /// peer without a running call waits; it runs only such calls. Change: restart.
    pub blocking_threads_max: usize,
    /// Blocking handlers of all shards that wait for an answer of their client. Each occupies a thread in addition to
    /// `blocking_threads_max`. Beyond it: a client request fails with
    /// [`AskError::CannotWait`](crate::AskError::CannotWait). Change: restart.
    pub blocking_waiting_max: usize,
    /// Stack of each thread that runs handlers, in bytes: of the shards, the blocking pool and tokio. Memory is used as far
    /// as a stack was. Beyond it: the process is aborted. Change: restart.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub thread_stack_bytes: usize,
    /// Legacy sessions of one shard that have a stream or subscriptions. Beyond it: one without an open stream is removed, and ends if
    /// it had subscribed to resources; or the request is answered "busy". Change: restart.
    pub sessions_kept_max: usize,
    /// Legacy sessions whose end or log level each shard stores. Beyond it: the peer with the most entries loses its oldest one, and if
    /// that was an end, all sessions that this peer opened before are answered with 404. Change: restart.
    pub session_notes_max: usize,
    /// Lifetime of a legacy session. After it: 404, and the client initializes another session. Change: restart.
    #[serde(with = "humantime_serde")]
    pub session_ttl: Duration,
    /// Resources and tasks in all subscriptions of one connection, and resources that one legacy session or one legacy
    /// JSON-lines connection subscribes to. Beyond it: -32603. Change: live.
    pub subscription_topics_max: usize,
    /// A URI or a task id in a subscription, in bytes. Beyond it: -32602. Change: live.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub subscription_uri_bytes_max: usize,
    /// URIs and task ids in the subscriptions of one connection or legacy session, in bytes. Beyond it: -32603. At least
    /// `subscription_uri_bytes_max`. Change: live.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub subscriber_bytes_max: usize,
    /// URIs and task ids in the subscriptions of one shard, in bytes; subscribers of a topic share its name. Beyond it: -32603, or
    /// "busy" for a legacy session. At least `subscriber_bytes_max`. Change: restart.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub subscription_bytes_max: usize,
    /// Open subscriptions of one JSON-lines connection. Beyond it: -32603. Change: live.
    pub subscriptions_per_connection_max: usize,
    /// Topics in all subscriptions of one shard. Beyond it: -32603. Change: restart.
    pub subscriptions_max: usize,
    /// Interval of keep-alive comments on an idle stream. Change: live.
    #[serde(with = "humantime_serde")]
    pub stream_keep_alive: Duration,
    /// Streams that one legacy session opened by GET, open or resumable. Beyond it: the oldest without a connection is freed, else
    /// the oldest is ended. Change: restart.
    pub session_streams_max: usize,
    /// Streams of legacy sessions on one shard, open or resumable, without the newest that each of `sessions_kept_max` sessions opened
    /// by GET. Beyond it: the one that lost its connection first is freed; while all are in use a reply stream cannot be resumed, and
    /// a further GET of a session ends one of its streams. Change: restart.
    pub replay_streams_max: usize,
    /// Replay buffer of one such stream, in bytes. Beyond it: the oldest event is removed; a larger one is not kept. A client that
    /// resumes behind a removed event is notified that all of its topics may have changed, or gets an error in place of a
    /// response. Change: restart.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub replay_bytes_max: usize,
    /// Replay buffers of all streams of one shard, in bytes. Beyond it: the largest is emptied. At least `replay_bytes_max`.
    /// Change: restart.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub replay_total_bytes_max: usize,
    /// Queued messages from other shards. Beyond it: an event is replaced by "everything may have changed", and a
    /// request is answered "busy". Change: restart.
    pub broadcast_queue_max: usize,
    /// Queued progress and log notifications of one shard's calls. Beyond it: they are dropped. Change: restart.
    pub notes_queue_max: usize,
    /// Calls in flight on one JSON-lines connection. Beyond it: nothing is received until a call is done or sends a
    /// request to the client. Change: live.
    pub calls_per_line_max: usize,
    /// Messages in one batch (2025-03-26). Beyond it: -32600. Change: live.
    pub batch_messages_max: usize,
    /// Time for a client to answer a request of the server. After it: the call that sent the request is cancelled.
    /// Change: live.
    #[serde(with = "humantime_serde")]
    pub question_timeout: Duration,
    /// Lifetime of the state of a call that returned `input_required`. Until then the call may be retried with it any number of
    /// times, unless the tool has [`ToolBuilder::once`](crate::ToolBuilder::once). After it: -32602. Change: live.
    #[serde(with = "humantime_serde")]
    pub request_state_ttl: Duration,
    /// Used request states of one tool with [`ToolBuilder::once`](crate::ToolBuilder::once) that have not expired. Beyond it: the
    /// oldest states count as expired. Change: live.
    pub once_states_max: usize,
    /// Stored outcomes of such states of one tool, in bytes. Beyond it: the oldest is removed, and its repeat gets -32602.
    /// Change: live.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub once_bytes_max: usize,
    /// Tasks stored by one shard, including ended ones. Beyond it: a call is answered "busy". Change: restart.
    pub tasks_max: usize,
    /// Bytes of the results of ended tasks stored by one shard. Beyond it: results of the client that has the most are replaced by an
    /// error, in the order in which they expire. Change: restart.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub task_results_bytes_max: usize,
    /// Time a task is stored if neither its client nor its tool sets another. Change: restart.
    #[serde(with = "humantime_serde")]
    pub task_ttl: Duration,
    /// Time to receive a head, from its first byte. After it: 408 and close. Change: live.
    #[serde(with = "humantime_serde")]
    pub head_timeout: Duration,
    /// Time between two parts of a body, or of a line of newline-delimited JSON. After it: 408, or an error line, and close. Does not
    /// apply to standard input, nor do the next two. Change: live.
    #[serde(with = "humantime_serde")]
    pub body_timeout: Duration,
    /// Time to receive a body or a line, from its first byte. After it: as for `body_timeout`. Change: live.
    #[serde(with = "humantime_serde")]
    pub body_total_timeout: Duration,
    /// Minimum rate of a body or a line, in bytes per second, once it has taken longer than `body_timeout`. Below it: as for
    /// `body_timeout`. Change: live.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub body_bytes_per_second_min: usize,
    /// Time between two requests. After it: close, except standard input, and newline-delimited connections with a call in flight or
    /// a subscription, which each legacy client has to list changes. Change: live.
    #[serde(with = "humantime_serde")]
    pub keep_alive_timeout: Duration,
    /// Time during which the peer acknowledges nothing of what is sent to it. After it: close. On a Unix socket, and before Linux
    /// 6.7, bytes count once the socket's buffer has taken them over. The listeners are opened with it. Change: restart.
    #[serde(with = "humantime_serde")]
    pub write_timeout: Duration,
    /// Minimum rate at which the peer acknowledges a reply, in bytes per second, while sending takes longer than `write_timeout`; 0
    /// for none. Averaged over `write_timeout`. Below it: close. Change: live.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub write_bytes_per_second_min: usize,
    /// Time during which the input of a connection is discarded after a rejection, so that a TCP reset does not destroy
    /// the reply. After it: close. Change: live.
    #[serde(with = "humantime_serde")]
    pub linger_timeout: Duration,
    /// Duration of a tool's call, unless the tool sets its own. After it: the call is cancelled and answered with an
    /// `isError` result. Compiled into each tool. Change: restart.
    #[serde(with = "humantime_serde")]
    pub call_deadline: Duration,
    /// Time in which one turn of a shard handles requests. Beyond it: the others wait for the next turn, in which peers are served in
    /// turn; what is ready is sent first. The clock is read after at most 16 requests. Change: restart.
    #[serde(with = "humantime_serde")]
    pub turn_budget: Duration,
    /// Duration of a shard's turn. Beyond it: the turn is logged while it lasts, and logged and counted when it ends, because an
    /// inline tool delays the other requests of the shard. Change: restart.
    #[serde(with = "humantime_serde")]
    pub turn_slow: Duration,
    /// One of this many requests of a shard is timed stage by stage; 0 for none. Lower: more samples for `ctl bottlenecks` and
    /// `ctl advise`, which cost more. Change: live.
    pub stage_sample_interval: u32,
    /// Log lines of one kind that one shard writes in a second; of panics, the blocking pool and the admin interface, that
    /// the process writes. Beyond it: they are counted, and the next line reports their number. Change: restart.
    pub log_lines_per_second_max: u32,
    /// Log lines that wait for stderr. Beyond it: they are dropped, and the next line reports their number.
    /// Change: restart.
    pub log_lines_queued_max: usize,
    /// Concurrent connections of the admin interface; scrapes may take half. Beyond it: a connection without a whole request is
    /// closed for each new one. Change: restart.
    pub admin_connections_max: usize,
    /// Concurrent connections of the control socket. Beyond it: an error line, connection closed. Change: restart.
    pub control_connections_max: usize,
    /// Length of a request line of the control socket, in bytes. Beyond it: an error line, connection closed. Change: restart.
    #[serde(deserialize_with = "super::size::deserialize")]
    pub control_request_bytes_max: usize,
    /// Time that a connection of the control socket may take for a request line, and for reading a reply. Beyond it: an error
    /// line, connection closed. Change: restart.
    #[serde(with = "humantime_serde")]
    pub control_timeout: Duration,
    /// Time an idle connection, and the handshake of a new one, may take during a drain, for a request that may be in transit.
    /// Change: live.
    #[serde(with = "humantime_serde")]
    pub drain_grace: Duration,
    /// Time from SIGINT or SIGTERM, when `/readyz` turns 503, to the drain. The listeners stay open during it, so that
    /// a load balancer can remove the server first. Change: restart.
    #[serde(with = "humantime_serde")]
    pub drain_delay: Duration,
    /// Time for calls in flight to finish during a drain, or after a JSON-lines client has ended its input. After it:
    /// they are answered with an error and named in the log, and the exit code is 3. Change: restart.
    #[serde(with = "humantime_serde")]
    pub drain_timeout: Duration,
}

impl Default for Limits {
    // Long: one value for each limit.
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
            validation_work_max: 1_000_000_000,
            validation_inline_work_max: 1_000_000,
            list_page_items_max: 1000,
            connections_max: 131_072,
            connections_reserve: 64,
            requests_per_turn_max: 32,
            pipelined_bytes_max: 64 * 1024,
            outbox_bytes_max: 1024 * 1024,
            calls_in_flight_max: 4096,
            calls_bytes_max: 256 << 20,
            buffers_bytes_max: 4 << 30,
            peer_share_percent: 25,
            peer_orphans_percent: 5,
            blocking_queue_max: 1024,
            blocking_threads_max: 64,
            blocking_waiting_max: 1024,
            thread_stack_bytes: 2 * 1024 * 1024,
            sessions_kept_max: 16_384,
            session_notes_max: 1 << 18,
            session_ttl: Duration::from_secs(24 * 60 * 60),
            subscription_topics_max: 1024,
            subscription_uri_bytes_max: 2048,
            subscriber_bytes_max: 256 * 1024,
            subscription_bytes_max: 64 * 1024 * 1024,
            subscriptions_per_connection_max: 64,
            subscriptions_max: 1 << 18,
            stream_keep_alive: Duration::from_secs(15),
            session_streams_max: 8,
            replay_streams_max: 1024,
            replay_bytes_max: 1024 * 1024,
            replay_total_bytes_max: 64 * 1024 * 1024,
            broadcast_queue_max: 4096,
            notes_queue_max: 16_384,
            calls_per_line_max: 256,
            batch_messages_max: 100,
            question_timeout: Duration::from_secs(10 * 60),
            request_state_ttl: Duration::from_secs(60 * 60),
            once_states_max: 16_384,
            once_bytes_max: 4 * 1024 * 1024,
            tasks_max: 4096,
            task_results_bytes_max: 64 << 20,
            task_ttl: Duration::from_secs(60 * 60),
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            body_total_timeout: Duration::from_secs(30),
            body_bytes_per_second_min: 1024,
            keep_alive_timeout: Duration::from_secs(120),
            write_timeout: Duration::from_secs(10),
            write_bytes_per_second_min: 1024,
            linger_timeout: Duration::from_secs(2),
            call_deadline: Duration::from_secs(30),
            turn_budget: Duration::from_millis(1),
            turn_slow: Duration::from_millis(100),
            stage_sample_interval: 64,
            log_lines_per_second_max: 100,
            log_lines_queued_max: 10_000,
            admin_connections_max: 32,
            control_connections_max: 8,
            control_request_bytes_max: 64 * 1024,
            control_timeout: Duration::from_secs(10),
            drain_grace: Duration::from_millis(250),
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(10),
        }
    }
}

/// Destructures `Limits` without `..`, so that a field without a range does not compile.
macro_rules! bounds {
    ($limits:expr, $($field:ident: $range:expr,)*) => {{
        let Limits { $($field),* } = *$limits;
        vec![$({
            let bound = Bound::new(concat!("limits.", stringify!($field)), $field, &$range, Setting::format);
            Bound { number: Some($field.to_number()), ..bound }
        }),*]
    }};
}

/// Limits that a compiled schema depends on.
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
    /// The limits that a compiled schema depends on.
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

    /// The limits of the schema of a form, whose answer is validated where the handler runs.
    #[must_use]
    pub(crate) fn form_schema(&self) -> SchemaLimits {
        SchemaLimits {
            work_max: self.validation_work_max.min(self.validation_inline_work_max),
            ..self.schema()
        }
    }

    /// Every limit by its key, as a number; durations in seconds.
    #[must_use]
    pub fn to_numbers(&self) -> Vec<(String, f64)> {
        let key = |bound: &Bound| bound.key.trim_start_matches("limits.").to_owned();
        self.bounds().iter().filter_map(|bound| Some((key(bound), bound.number?))).collect()
    }

    // Long: one row for each limit.
    /// Every limit with its valid range: all values with which a server can run.
    pub(super) fn bounds(&self) -> Vec<Bound> {
        const GIB: usize = 1 << 30;
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        const MILLISECOND: Duration = Duration::from_millis(1);
        bounds! { self,
            // Positions in a head have 16 bits; its headers are parsed into an array of 128.
            head_bytes_max: 256..=65_535,
            target_bytes_max: 64..=65_535,
            header_bytes_max: 256..=65_535,
            headers_max: 8..=128,
            body_bytes_max: 1024..=GIB,
            chunk_extension_bytes_max: 0..=GIB,
            trailer_bytes_max: 0..=65_535,
            line_bytes_max: 1024..=GIB,
            // Documents and schemas are processed recursively.
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
            validation_work_max: 1000..=1_000_000_000_000,
            validation_inline_work_max: 1000..=1_000_000_000_000,
            list_page_items_max: 1..=1_000_000,
            // The kernel's maximum for a table of direct descriptors.
            connections_max: 1..=1 << 20,
            connections_reserve: 1..=65_535,
            requests_per_turn_max: 1..=1_000_000,
            pipelined_bytes_max: 1024..=GIB,
            outbox_bytes_max: 1024..=GIB,
            calls_in_flight_max: 1..=1_000_000,
            calls_bytes_max: 64 * 1024..=1 << 40,
            buffers_bytes_max: 64 * 1024..=1 << 40,
            peer_share_percent: 1..=100,
            peer_orphans_percent: 1..=100,
            blocking_queue_max: 1..=1_000_000,
            blocking_threads_max: 1..=1024,
            blocking_waiting_max: 0..=65_535,
            // Enough for requests at the highest limits of nesting, also in a debug build.
            thread_stack_bytes: 1 << 20..=GIB,
            sessions_kept_max: 1..=10_000_000,
            session_notes_max: 1..=100_000_000,
            session_ttl: Duration::from_secs(1)..=DAY * 365,
            subscription_topics_max: 1..=1_000_000,
            subscription_uri_bytes_max: 64..=65_535,
            // A single URI must fit into the subscriptions of a client, and those of a client into the shard.
            subscriber_bytes_max: self.subscription_uri_bytes_max..=GIB,
            subscription_bytes_max: self.subscriber_bytes_max..=1 << 40,
            subscriptions_per_connection_max: 1..=1_000_000,
            subscriptions_max: 1..=100_000_000,
            stream_keep_alive: MILLISECOND..=DAY,
            session_streams_max: 1..=64,
            replay_streams_max: 1..=1_000_000,
            replay_bytes_max: 1024..=GIB,
            replay_total_bytes_max: self.replay_bytes_max..=1 << 40,
            broadcast_queue_max: 16..=1_000_000,
            notes_queue_max: 16..=10_000_000,
            calls_per_line_max: 1..=1_000_000,
            batch_messages_max: 1..=100_000,
            question_timeout: MILLISECOND..=DAY,
            request_state_ttl: MILLISECOND..=DAY * 365,
            once_states_max: 1..=10_000_000,
            once_bytes_max: 0..=GIB,
            tasks_max: 1..=10_000_000,
            task_results_bytes_max: 1024..=GIB * 64,
            task_ttl: Duration::from_secs(1)..=DAY * 365,
            head_timeout: MILLISECOND..=DAY,
            body_timeout: MILLISECOND..=DAY,
            body_total_timeout: MILLISECOND..=DAY,
            body_bytes_per_second_min: 0..=GIB,
            keep_alive_timeout: MILLISECOND..=DAY,
            write_timeout: MILLISECOND..=DAY,
            write_bytes_per_second_min: 0..=GIB,
            linger_timeout: MILLISECOND..=DAY,
            call_deadline: MILLISECOND..=DAY,
            turn_budget: Duration::from_micros(10)..=DAY,
            turn_slow: MILLISECOND..=DAY,
            stage_sample_interval: 0..=1_000_000,
            log_lines_per_second_max: 1..=1_000_000,
            log_lines_queued_max: 16..=1_000_000,
            admin_connections_max: 1..=10_000,
            control_connections_max: 1..=1000,
            control_request_bytes_max: 1024..=16 << 20,
            control_timeout: MILLISECOND..=DAY,
            drain_grace: Duration::ZERO..=DAY,
            drain_delay: Duration::ZERO..=DAY,
            // Zero: calls in flight are cancelled at once.
            drain_timeout: Duration::ZERO..=DAY,
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_limit_states_how_it_changes() {
        let source = include_str!("limits.rs");
        let fields =
            source.split("pub struct Limits {").nth(1).and_then(|rest| rest.split("\n}\n").next()).unwrap();
        let (mut count, mut documentation) = (0, "");
        for line in fields.lines().map(str::trim) {
            if line.starts_with("///") {
                documentation = line;
            } else if let Some(field) = line.strip_prefix("pub ") {
                let is_stated =
                    ["Change: live.", "Change: restart."].iter().any(|end| documentation.ends_with(end));
                assert!(
                    is_stated,
                    "the documentation of {field:?} ends with neither Change: live. nor Change: restart."
                );
                (count, documentation) = (count + 1, "");
            }
        }
        assert_eq!(count, super::Limits::default().bounds().len(), "every field is found");
    }
}
