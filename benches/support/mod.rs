//! The path of a request without sockets, for benches and tests that count.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

use std::sync::Arc;

use corelane::{
    Limits, Proxy, Server, demo,
    internals::call::ShardContext,
    internals::connection::{DeferredReply, Pipeline, PipelineConfig, Requests},
    internals::http1::{AllowedHosts, Framer},
    internals::memory::MemoryPressure,
    internals::mesh::Broadcast,
    internals::registry::Snapshot,
    internals::runtime::{Completions, Runner, WorkerPools},
    internals::signed_token::SigningKey,
};
use corelane_ring::{PADDING_BYTES, SocketId};

/// Head and body of the canonical request (2026-07-28).
pub fn canonical() -> Vec<u8> {
    let body = concat!(
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"message":"hello world"},"#,
        r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
        r#""io.modelcontextprotocol/clientInfo":{"name":"wrk","version":"1"},"#,
        r#""io.modelcontextprotocol/clientCapabilities":{}}}}"#
    );
    request("MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: echo\r\n", body)
}

/// The same call at 2025-11-25.
pub fn legacy() -> Vec<u8> {
    let body = concat!(
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","#,
        r#""params":{"name":"echo","arguments":{"message":"hello world"}}}"#
    );
    request("MCP-Protocol-Version: 2025-11-25\r\n", body)
}

/// A request with additional headers.
pub fn request(headers: &str, body: &str) -> Vec<u8> {
    format!(
        "POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The pipeline of one shard of this server.
pub fn pipeline(server: &Server, limits: &Limits) -> Pipeline {
    let snapshot = server
        .registry()
        .read(|registry| Snapshot::build(registry, limits, &SigningKey::new(b"key")))
        .unwrap();
    let runner = Runner::new(
        Completions::new(1, 1, 1, Arc::new(|| {})),
        WorkerPools::default(),
        ShardContext::default(),
        limits,
    );
    let config = PipelineConfig {
        endpoint: "/mcp",
        allowed_hosts: AllowedHosts::new(&[], &[], true),
        proxy: Proxy::default(),
        shard: 0,
        shards: 1,
        signing_key: SigningKey::new(b"key"),
        broadcast: Broadcast::default(),
        pressure: MemoryPressure::default(),
        limits,
    };
    Pipeline::new(config, snapshot, runner)
}

/// The path from received bytes to reply bytes, with the demo tools.
pub struct Lane {
    pipeline: Pipeline,
    limits: Limits,
    framer: Framer,
    deferred: DeferredReply,
    padded: Vec<u8>,
    out: Vec<u8>,
}

impl Lane {
    pub fn new() -> Self {
        Self::of(&demo::server().build())
    }

    /// The path of a shard of this server.
    pub fn of(server: &Server) -> Self {
        let limits = Limits::default();
        Self {
            pipeline: pipeline(server, &limits),
            limits,
            framer: Framer::default(),
            deferred: DeferredReply::default(),
            padded: Vec::with_capacity(4096),
            out: Vec::with_capacity(4096),
        }
    }

    /// Answers one request and returns the reply's bytes.
    pub fn answer(&mut self, request: &[u8]) -> &[u8] {
        self.padded.clear();
        self.padded.extend_from_slice(request);
        self.padded.resize(request.len() + PADDING_BYTES, 0);
        self.out.clear();
        let (pipeline, out) = (&mut self.pipeline, &mut self.out);
        let deferred = &mut self.deferred;
        let mut requests =
            Requests::new(pipeline, &self.limits, (SocketId::default(), None), deferred, out, 0);
        self.framer.receive(&mut self.padded, request.len(), &self.limits, &mut requests);
        &self.out
    }
}
