//! Every bound of the server, in one place.

use std::time::Duration;

/// Bounds. What happens at each is said beside it; the default is meant for the open network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Request head with its blank line, 65,535 at most; 431 and close.
    pub head_bytes_max: usize,
    /// Request target; 414 and close.
    pub target_bytes_max: usize,
    /// One header, name and value; 431 and close.
    pub header_bytes_max: usize,
    /// Number of headers, 128 at most; 431 and close.
    pub headers_max: usize,
    /// Body, decoded; 413 and close.
    pub body_bytes_max: usize,
    /// All chunk extensions of one body; 413 and close.
    pub chunk_extension_bytes_max: usize,
    /// All trailers of one body; 431 and close.
    pub trailer_bytes_max: usize,
    /// Nesting of a JSON document; -32700.
    pub json_depth_max: usize,
    /// Values in a JSON document, keys included; -32600.
    pub json_nodes_max: usize,
    /// Characters of a number in a JSON document; -32600.
    pub json_number_digits_max: usize,
    /// A key in a JSON document, in bytes; -32600.
    pub json_key_bytes_max: usize,
    /// Nesting of a tool's schema; the server does not start, the registry does not change.
    pub schema_depth_max: usize,
    /// Subschemas of a tool's schema, all objects and booleans counted; as above.
    pub schema_subschemas_max: usize,
    /// Memory of a compiled pattern, in bytes; as above.
    pub schema_pattern_bytes_max: usize,
    /// Values in a call's arguments times subschemas of the tool's input schema; more is answered with an `isError`
    /// result, for the shard would be busy with nothing else.
    pub validation_work_max: usize,
    /// Items of one page of a list; the rest is behind a cursor.
    pub list_page_items_max: usize,
    /// Connections of one shard; further ones wait in the kernel's backlog until a tenth has gone. The descriptor limit
    /// of the process bounds it too, for each shard by itself.
    pub connections_max: u32,
    /// As many more may be accepted while accepting is being paused; beyond them a connection is closed at once.
    pub connections_reserve: u32,
    /// Unhandled bytes of a connection with a call in flight; more are left in the socket until it is done.
    pub pipelined_bytes_max: usize,
    /// Unsent bytes of a connection; no further request of it is handled before they are fewer.
    pub outbox_bytes_max: usize,
    /// Calls in flight on one shard; a further one is answered "busy".
    pub calls_in_flight_max: usize,
    /// Calls waiting for a thread of the blocking pool, over all shards; a further one is answered "busy".
    pub blocking_queue_max: usize,
    /// From a head's first byte to its last; 408 and close.
    pub head_timeout: Duration,
    /// From one part of a body to the next; 408 and close.
    pub body_timeout: Duration,
    /// From a body's first byte to its last; 408 and close.
    pub body_total_timeout: Duration,
    /// Bytes per second a body must come in at, once it has taken longer than `body_timeout`; 408 and close.
    pub body_bytes_per_second_min: usize,
    /// Between two requests; close.
    pub keep_alive_timeout: Duration,
    /// Without progress in sending; close.
    pub write_timeout: Duration,
    /// How long a connection that was refused something is read, and what it sends thrown away, so that the refusal
    /// is not lost to a reset.
    pub linger_timeout: Duration,
    /// From the start of a tool's call to its end; then it is cancelled and answered with an `isError` result. A tool may
    /// set its own.
    pub call_deadline: Duration,
    /// A turn of a shard that takes longer is logged and counted: some inline tool takes its neighbours' time.
    pub turn_slow: Duration,
    /// Lines a second that one shard logs of one kind; further ones are counted and told in one line.
    pub log_lines_per_second_max: u32,
    /// Connections of the admin interface at one time; a further one is closed at once.
    pub admin_connections_max: usize,
    /// How long calls in flight may take to finish when the server ends.
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
            json_depth_max: 64,
            json_nodes_max: 100_000,
            json_number_digits_max: 1024,
            json_key_bytes_max: 1024,
            schema_depth_max: 32,
            schema_subschemas_max: 2000,
            schema_pattern_bytes_max: 1024 * 1024,
            validation_work_max: 4_000_000,
            list_page_items_max: 1000,
            connections_max: 131_072,
            connections_reserve: 64,
            pipelined_bytes_max: 64 * 1024,
            outbox_bytes_max: 1024 * 1024,
            calls_in_flight_max: 4096,
            blocking_queue_max: 1024,
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
            admin_connections_max: 32,
            drain_timeout: Duration::from_secs(10),
        }
    }
}
