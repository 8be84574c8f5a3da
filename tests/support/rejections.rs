//! Requests with metadata of a 2026-07-28 client, and the status and code of their rejections.

#![allow(unreachable_pub, dead_code)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use serde_json::{Value, json};

use crate::support::{Reply, ServerProcess, modern};

pub const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
pub const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
pub const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";

pub fn start() -> ServerProcess {
    ServerProcess::start(&["--shards", "1", "--stats"])
}

/// Status and code of a rejection.
pub fn refused(reply: &Reply) -> (u16, i64) {
    (reply.status, reply.error_code())
}

pub fn echo_call() -> (String, String) {
    modern("tools/call", json!({"name": "echo", "arguments": {"message": "x"}}))
}

pub fn with_meta(meta: Value) -> String {
    json!({"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": {"_meta": meta}}).to_string()
}

pub const DISCOVER: &str = "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: server/discover\r\n";
