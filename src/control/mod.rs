//! The protocol of the control socket: each request and each reply is one line of JSON. Any number of requests may follow each other on
//! a connection; the server closes it after an error in the protocol.
//!
//! ```json
//! {"version":1,"request":{"command":"memory","top":20}}
//! {"version":1,"reply":{"memory":{"resident_bytes":1048576}}}
//! {"version":1,"error":{"reason":"request_invalid","message":"…"}}
//! ```
//!
//! A command is a variant of [`Request`] with one of [`Reply`], a handler in `admin/control/handlers.rs`, and a subcommand in
//! `cli/ctl/`.

mod bottlenecks;
mod directory;
mod flags;
mod inspection;
mod reply;
mod sample;

use serde::{Deserialize, Serialize};

pub(crate) use bottlenecks::{
    Advice, AdviceRow, Bottlenecks, INTERVAL_SECONDS_MAX, Priority, ShardTimes, StageRow,
};
#[cfg(feature = "cli")]
pub(crate) use directory::sockets;
pub(crate) use directory::{connect, own_directories, sockets_in};
pub(crate) use flags::{CohortRow, FlagList, FlagRow, Rearmed, RolloutList, RolloutRow, ShareChange};
pub(crate) use inspection::{Inspection, ShardInspection, View};
#[cfg(feature = "jemalloc")]
pub(crate) use reply::Arena;
pub(crate) use reply::{
    Allocator, Budget, Buffers, ConnectionRow, Connections, Fragmentation, LogLevels, Memory, ReplayRow,
    SessionRow, Sessions, ShardStatus, ShardTotals, Status, SubscriptionRow, ToolRow,
};
pub(crate) use sample::{
    Counted, FlagSample, INTERVAL_MAX_MS, INTERVAL_MIN_MS, PoolSample, Sample, ShardLoad, ShardSample,
    ToolSample, Traffic,
};

use crate::{
    config::{LogLevel, Percent},
    profile::{HeapProfile, Profile},
};

/// Version of the protocol. A request of another version is rejected.
pub(crate) const VERSION: u32 = 1;

/// Maximum number of rows of one list in a reply.
pub(crate) const TOP_MAX: usize = 1000;

/// A command to the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// The server and its shards.
    Status,
    /// The `top` connections that keep the most memory.
    Connections { top: usize },
    /// The `top` sessions that keep the most memory.
    Sessions { top: usize },
    /// The uses of memory, with the `top` largest of each kind.
    Memory { top: usize },
    /// The `top` connections that keep far more memory than they use. `shrink` frees it.
    Buffers { top: usize, shrink: bool },
    /// Resident memory that is not allocated.
    Fragmentation,
    /// Reads the level of the log, or changes it.
    LogLevel { level: Option<LogLevel> },
    /// Samples the CPU time of these shards, or of all threads where there is none, and replies after `seconds`.
    Profile { seconds: u32, hz: u32, shards: Vec<usize> },
    /// The memory in use by the stack that allocated it.
    HeapProfile,
    /// The flags, and the requests that each position has served.
    Flags,
    /// Turns a flag on or off.
    SetFlag { flag: String, position: String },
    /// The rollouts of the flags.
    Rollout,
    /// Turns a flag on for a part of the sessions and connections, and off for all others.
    SetShare { flag: String, percent: Percent },
    /// Allows a flag that was rolled back to be on again.
    Rearm { flag: String },
    /// Waits for `seconds`, and returns where requests spent their time meanwhile.
    Bottlenecks { seconds: u32 },
    /// Waits for `seconds`, and returns what to change.
    Advise { seconds: u32 },
    /// Waits until `milliseconds` have passed since the last sample of this connection, or since now if it is the first one, and
    /// returns what the server did in that time.
    Sample { milliseconds: u32 },
    /// Starts the drain, as SIGTERM does.
    Drain,
}

/// The reply to a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    Status(Status),
    Connections(Connections),
    Sessions(Sessions),
    Memory(Box<Memory>),
    Buffers(Buffers),
    Fragmentation(Fragmentation),
    LogLevel(LogLevels),
    Profile(Box<Profile>),
    HeapProfile(Box<HeapProfile>),
    Flags(FlagList),
    Rollout(RolloutList),
    ShareChange(ShareChange),
    Rearmed(Rearmed),
    Bottlenecks(Bottlenecks),
    Advise(Advice),
    Sample(Box<Sample>),
    Drain {
        /// Whether this request started the drain. If not, it had begun before.
        has_started: bool,
    },
}

/// Why a request was rejected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fault {
    /// Name of the kind of error.
    pub(crate) reason: String,
    /// The error and its remedy, as one line.
    pub(crate) message: String,
}

impl Fault {
    /// A fault with a message.
    pub(crate) fn new(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.to_owned(), message: message.into() }
    }
}

/// A line from the client.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RequestFrame {
    pub(crate) version: u32,
    pub(crate) request: Request,
}

/// A line from the server.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ReplyFrame {
    pub(crate) version: u32,
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
}

/// The content of a line from the server.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Reply(Reply),
    Error(Fault),
}

/// Decodes a request line.
///
/// # Errors
/// The line is not JSON, has another version, or contains no known request.
pub(crate) fn decode_request(line: &[u8]) -> Result<Request, Fault> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let invalid = |error: serde_json::Error| Fault::new("request_invalid", format!("not a request: {error}"));
    let Version { version } = serde_json::from_slice(line).map_err(invalid)?;
    if version != VERSION {
        let message = format!(
            "the protocol's version {version} is not supported, only {VERSION}; remedy: use the ctl of the server's version"
        );
        return Err(Fault::new("version_unsupported", message));
    }
    let RequestFrame { request, .. } = serde_json::from_slice(line).map_err(invalid)?;
    Ok(request)
}

/// Encodes a reply line, with its line feed.
pub(crate) fn encode_reply(outcome: Result<Reply, Fault>) -> Vec<u8> {
    let outcome = match outcome {
        Ok(reply) => Outcome::Reply(reply),
        Err(fault) => Outcome::Error(fault),
    };
    // Replies have string keys only, so encoding does not fail.
    let mut line = serde_json::to_vec(&ReplyFrame { version: VERSION, outcome }).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_they_are_written() {
        for request in [
            Request::Status,
            Request::Memory { top: 3 },
            Request::Buffers { top: 3, shrink: true },
            Request::LogLevel { level: None },
            Request::LogLevel { level: Some(LogLevel::Debug) },
            Request::Profile { seconds: 1, hz: 99, shards: vec![0] },
            Request::HeapProfile,
            Request::SetFlag { flag: "a".to_owned(), position: "on".to_owned() },
            Request::SetShare { flag: "a".to_owned(), percent: Percent::from_hundredths(25) },
            Request::Bottlenecks { seconds: 2 },
            Request::Advise { seconds: 2 },
            Request::Sample { milliseconds: 1000 },
            Request::Drain,
        ] {
            let line =
                serde_json::to_vec(&RequestFrame { version: VERSION, request: request.clone() }).unwrap();
            assert_eq!(decode_request(&line), Ok(request));
        }
    }

    #[test]
    fn other_requests_are_rejected_with_a_reason() {
        for (line, reason) in [
            ("", "request_invalid"),
            ("{", "request_invalid"),
            ("[1]", "request_invalid"),
            (r#"{"version":1}"#, "request_invalid"),
            (r#"{"version":-1,"request":{"command":"status"}}"#, "request_invalid"),
            (r#"{"version":1,"request":{"command":"halt"}}"#, "request_invalid"),
            (r#"{"version":1,"request":{"command":"memory","top":-1}}"#, "request_invalid"),
            (r#"{"version":1,"request":{"command":"memory","top":1,"more":1}}"#, "request_invalid"),
            (r#"{"version":2,"request":{"command":"new"}}"#, "version_unsupported"),
        ] {
            assert_eq!(decode_request(line.as_bytes()).unwrap_err().reason, reason, "{line}");
        }
    }

    #[test]
    fn reply_is_one_line() {
        let fault = Fault::new("x", "a\nb");
        let line = encode_reply(Err(fault.clone()));
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        let frame: ReplyFrame = serde_json::from_slice(&line).unwrap();
        assert_eq!(frame, ReplyFrame { version: VERSION, outcome: Outcome::Error(fault) });
        let line = encode_reply(Ok(Reply::Drain { has_started: true }));
        assert_eq!(line, b"{\"version\":1,\"reply\":{\"drain\":{\"has_started\":true}}}\n");
    }
}
