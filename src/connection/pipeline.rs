//! Everything one shard needs to answer requests, without sockets: bytes in, bytes out.

use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use corelane_ring::PeerAddress;

use crate::{
    config::{Limits, Proxy},
    dispatch::{Dispatcher, DispatcherConfig},
    http1::{AllowedHosts, Assembly, RequestGuard, ResponseHeads, client_of},
    json::Decoder,
    memory::MemoryPressure,
    mesh::Broadcast,
    policy::ShardFlags,
    registry::Snapshot,
    runtime::Runner,
    signed_token::SigningKey,
    telemetry::{
        metrics::{ShardMetrics, ToolSeries},
        observer::RequestFields,
        turn_status::TurnStatus,
    },
};

/// The largest spare assembly buffer that is kept, in bytes.
const SPARE_ASSEMBLY_BYTES_MAX: usize = 64 * 1024;

/// Configuration of a pipeline.
pub struct PipelineConfig<'a> {
    /// The path of the endpoint.
    pub endpoint: &'a str,
    /// The allowed hosts and origins.
    pub allowed_hosts: AllowedHosts,
    /// The proxies that may state the client of a request.
    pub proxy: Proxy,
    /// The number of this shard.
    pub shard: usize,
    /// How many shards there are.
    pub shards: usize,
    /// The key of session ids, cursors and request states; the same for all shards.
    pub signing_key: SigningKey,
    /// Reaches the other shards.
    pub broadcast: Broadcast,
    /// Whether the process is near its memory limit.
    pub pressure: MemoryPressure,
    /// Every bound.
    pub limits: &'a Limits,
}

/// One shard's guard, decoder, dispatcher and response heads.
pub struct Pipeline {
    pub(super) guard: RequestGuard,
    pub(super) decoder: Decoder,
    pub(super) heads: ResponseHeads,
    pub(crate) dispatcher: Dispatcher,
    /// The server is draining: every reply closes its connection.
    pub(super) is_draining: bool,
    /// The proxies that may state the client of a request; `None` if none may.
    proxy: Option<Proxy>,
    /// An empty buffer for the next request that is split over receive buffers: at most one, so that a warm shard allocates none.
    spare_assembly: Option<Box<Assembly>>,
}

impl Pipeline {
    /// A pipeline that serves `snapshot`.
    #[must_use]
    pub fn new(config: PipelineConfig<'_>, snapshot: Snapshot, runner: Runner) -> Self {
        let PipelineConfig {
            endpoint,
            allowed_hosts,
            proxy,
            shard,
            shards,
            signing_key,
            broadcast,
            pressure,
            limits,
        } = config;
        let dispatcher =
            DispatcherConfig { shard, shards, signing_key, broadcast, pressure, limits: *limits };
        Self {
            guard: RequestGuard::new(endpoint, allowed_hosts),
            decoder: Decoder::new(limits),
            heads: ResponseHeads::new(SystemTime::now()),
            dispatcher: Dispatcher::new(dispatcher, snapshot, runner),
            is_draining: false,
            proxy: Some(proxy).filter(|proxy| !proxy.trusted.is_empty()),
            spare_assembly: None,
        }
    }

    /// Handles requests with these flags from the next one on. Calls in flight go on as they were started.
    pub fn set_flags(&mut self, flags: ShardFlags) {
        self.dispatcher.set_flags(flags);
    }

    /// Restores the flags after a panic while a message was handled.
    pub(crate) fn reset_flags(&mut self) {
        self.dispatcher.reset_flags(&mut self.decoder);
    }

    /// Publishes the calls of each turn there from now on.
    pub fn set_turn_status(&mut self, turn: Arc<TurnStatus>) {
        self.dispatcher.set_turn_status(turn);
    }

    /// Starts a turn: latencies count from `now`, replies are dated `wall`.
    pub fn begin_turn(&mut self, now: Instant, wall: SystemTime) {
        self.dispatcher.begin_turn(now, wall.duration_since(UNIX_EPOCH).unwrap_or_default());
        self.heads.set_date(wall);
    }

    /// Whether the requests that are left wait for the next turn.
    pub(crate) fn has_used_up_turn(&self) -> bool {
        self.dispatcher.budget.is_used_up()
    }

    /// Ends a turn and records the latency of its replies. A turn longer than `slow` is counted and logged. Returns the
    /// length of the turn.
    pub fn end_turn(&mut self, slow: Duration) -> Duration {
        self.dispatcher.observer.end_turn(slow)
    }

    /// Whether a connection is one of a proxy that may state its client.
    pub(crate) fn trusts(&self, peer: Option<PeerAddress>) -> bool {
        let trusts = |(proxy, peer): (&Proxy, PeerAddress)| proxy.trusts(peer.ip());
        self.proxy.as_ref().zip(peer).is_some_and(trusts)
    }

    /// Whether there are proxies that may state the client of a request.
    pub(super) fn has_proxies(&self) -> bool {
        self.proxy.is_some()
    }

    /// The client of a request: the peer of its connection, or the one that a trusted proxy states.
    #[cold]
    pub(super) fn client_of(&mut self, peer: Option<PeerAddress>, head_bytes: &[u8]) -> Option<PeerAddress> {
        let (Some(proxy), Some(address)) = (&self.proxy, peer) else { return peer };
        let client = Some(client_of(proxy, address, head_bytes));
        self.dispatcher.observer.set_peer(client);
        client
    }

    /// Records a connection that is closed, or input that is dropped, by the client's fault.
    pub(crate) fn rejected(&mut self, reason: &'static str, peer: Option<PeerAddress>) {
        self.dispatcher.observer.set_peer(peer);
        self.dispatcher.observer.rejected(reason, RequestFields::default(), None);
    }

    /// From now on every reply closes its connection.
    pub(crate) fn drain(&mut self) {
        self.is_draining = true;
    }

    /// The metrics of the shard.
    pub fn metrics(&mut self) -> &mut ShardMetrics {
        self.dispatcher.observer.metrics()
    }

    /// Takes an empty assembly buffer: the spare one, if it is there.
    pub(crate) fn take_assembly(&mut self) -> Box<Assembly> {
        self.spare_assembly.take().unwrap_or_default()
    }

    /// Keeps an assembly buffer for another request.
    pub(crate) fn keep_assembly(&mut self, mut assembly: Box<Assembly>) {
        assembly.clear(SPARE_ASSEMBLY_BYTES_MAX);
        self.spare_assembly = Some(assembly);
    }

    /// Memory of the spare assembly buffer, in bytes.
    pub(crate) fn spare_bytes(&self) -> usize {
        self.spare_assembly.as_ref().map_or(0, |assembly| assembly.kept_bytes())
    }

    /// Frees the spare assembly buffer.
    pub(crate) fn free_spare(&mut self) {
        self.spare_assembly = None;
    }

    /// Whether the decoder keeps memory of long documents.
    pub(crate) fn has_spare_memory(&self) -> bool {
        self.decoder.has_long_buffers()
    }

    /// Frees the memory of long documents that the decoder has not used since the last call.
    pub(crate) fn free_unused_memory(&mut self) {
        self.decoder.free_unused();
    }

    /// Serves another snapshot from the next request on. Calls in flight end as they were started. Returns the snapshot that
    /// was served before, to be freed elsewhere.
    pub(crate) fn replace(
        &mut self,
        snapshot: Snapshot,
        tools: ToolSeries,
    ) -> Option<(Snapshot, ToolSeries)> {
        let tools = self.metrics().set_tools(tools);
        let before = std::mem::replace(&mut self.dispatcher.snapshot, Rc::new(snapshot));
        Rc::into_inner(before).map(|snapshot| (snapshot, tools))
    }
}
