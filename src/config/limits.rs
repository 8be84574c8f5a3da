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
    /// Between two requests; close.
    pub keep_alive_timeout: Duration,
    /// Without progress in sending; close.
    pub write_timeout: Duration,
    /// How long a connection that was refused something is read, and what it sends thrown away, so that the refusal
    /// is not lost to a reset.
    pub linger_timeout: Duration,
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
            list_page_items_max: 1000,
            connections_max: 131_072,
            connections_reserve: 64,
            pipelined_bytes_max: 64 * 1024,
            outbox_bytes_max: 1024 * 1024,
            calls_in_flight_max: 4096,
            blocking_queue_max: 1024,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(120),
            write_timeout: Duration::from_secs(10),
            linger_timeout: Duration::from_secs(2),
            drain_timeout: Duration::from_secs(10),
        }
    }
}
