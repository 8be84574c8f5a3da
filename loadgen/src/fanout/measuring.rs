//! The fan-out's thread: opens the streams, publishes, receives updates.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use corelane_ring::{Event, Ring, RingConfig, SocketId};
use rand::{SeedableRng, rngs::SmallRng};
use serde_json::json;

use super::streams::{Published, Publisher, RECONNECT_NS, SubscriberStream};
use crate::{
    engine::{BusyTime, IntervalRecord, Pacing, Plan, Recording, client_socket, nanoseconds},
    http::Part,
    latency::histogram,
    request::{Request, modern_meta},
    schedule::Schedule,
};

/// URI of the resource that is updated.
const URI: &str = "demo://counter";
/// Maximum number of concurrent connects.
const CONNECTS_MAX: usize = 128;
/// Time limit for all streams to be acknowledged, plus one millisecond for each.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// Time limit for the last updates.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the thread spins for the next update: waking a sleeping thread costs the server's core time.
const SPIN_NS: u64 = 1_000_000;

/// Poll interval while the publisher cannot send what is due, in nanoseconds.
const PUBLISHER_POLL_NS: u64 = 100_000;

/// The result of a fan-out.
pub(super) struct FanOutResult {
    /// Latency is the time from the publishing of an update to its arrival on one stream.
    pub(super) recording: Recording,
    pub(super) intervals: BTreeMap<i64, IntervalRecord>,
    /// Time from the publishing of an update to its arrival on the last stream: median and 95th percentile, in
    /// microseconds.
    pub(super) last_socket_us: (f64, f64),
    pub(super) published: u64,
    /// Streams that did not receive the last update.
    pub(super) stale: u64,
    /// Time at which the publisher lost the server, in seconds of the measured time, if it did.
    pub(super) gone_after_s: Option<f64>,
}

pub(super) struct FanOut {
    pub(super) plan: Arc<Plan>,
    pub(super) interrupted: Arc<AtomicBool>,
    pub(super) ring: Ring,
    /// The publisher's connection is the last element.
    pub(super) streams: Vec<SubscriberStream>,
    pub(super) by_slot: Vec<usize>,
    pub(super) to_connect: VecDeque<usize>,
    pub(super) connecting: usize,
    pub(super) listening: u32,
    pub(super) is_coalescing: bool,
    pub(super) published: Vec<Published>,
    pub(super) publisher: Publisher,
    pub(super) number: u64,
    pub(super) random: SmallRng,
    pub(super) recording: Recording,
    pub(super) intervals: BTreeMap<i64, IntervalRecord>,
    pub(super) last_socket: hdrhistogram::Histogram<u64>,
    pub(super) window_ns: (u64, u64),
    pub(super) busy_time: BusyTime,
    pub(super) now_ns: u64,
    pub(super) epoch: Instant,
    pub(super) failure: Option<String>,
}

impl FanOut {
    pub(super) fn new(plan: Arc<Plan>, interrupted: Arc<AtomicBool>) -> io::Result<Self> {
        let streams = plan.connections as usize + 1;
        let ring = Ring::new(RingConfig { sockets_max: plan.connections + 64, ..RingConfig::default() })?;
        let rate = match &plan.pacing {
            Pacing::Open(segments, _) => segments.first().map_or(0.0, |segment| segment.to_per_s),
            _ => 0.0,
        };
        Ok(Self {
            interrupted,
            ring,
            streams: (0..streams).map(|_| SubscriberStream::default()).collect(),
            by_slot: Vec::new(),
            to_connect: (0..streams).collect(),
            connecting: 0,
            listening: 0,
            // Above this rate the server may coalesce updates.
            is_coalescing: rate > 50.0,
            published: Vec::new(),
            publisher: Publisher { closes: plan.closes_unannounced, ..Publisher::default() },
            number: 0,
            random: SmallRng::seed_from_u64(1),
            recording: Recording::new(plan.requests.len()),
            intervals: BTreeMap::new(),
            last_socket: histogram(),
            window_ns: (u64::MAX, u64::MAX),
            busy_time: BusyTime::default(),
            now_ns: 0,
            epoch: Instant::now(),
            failure: None,
            plan,
        })
    }

    pub(super) async fn run(mut self) -> Result<FanOutResult, String> {
        let outcome = self.measure().map_err(|error| error.to_string());
        let failure = self.failure.take();
        let quantile = |at| self.last_socket.value_at_quantile(at) as f64 / 1e3;
        let last_socket_us = (quantile(0.5), quantile(0.95));
        let published = self.published.len();
        let subscribers = self.streams.len().saturating_sub(1);
        let stale =
            self.streams.iter().take(subscribers).filter(|stream| stream.delivered < published).count();
        if !self.is_coalescing {
            let all = published as u64 * subscribers as u64;
            let delivered: u64 =
                self.streams.iter().take(subscribers).map(|stream| stream.delivered as u64).sum();
            if all > delivered {
                *self.recording.errors.entry("update_lost").or_default() += all - delivered;
            }
        }
        self.recording.connections_live = u64::from(self.listening);
        self.ring.shut_down().await;
        outcome?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        Ok(FanOutResult {
            recording: self.recording,
            intervals: self.intervals,
            last_socket_us,
            published: published as u64,
            stale: stale as u64,
            gone_after_s: self.publisher.gone_after_s,
        })
    }

    fn measure(&mut self) -> io::Result<()> {
        let mut events = Vec::new();
        let timeout = OPEN_TIMEOUT + Duration::from_millis(self.streams.len() as u64);
        while self.listening < self.plan.connections && self.failure.is_none() {
            self.turn(&mut events)?;
            self.ring.wait_briefly(Duration::from_millis(1))?;
            if self.interrupted.load(Ordering::Relaxed) {
                return Ok(());
            }
            if self.epoch.elapsed() > timeout {
                let (acknowledged, wanted) = (self.listening, self.plan.connections);
                self.failure = Some(format!("{acknowledged} of {wanted} streams were acknowledged in time"));
            }
        }
        let start = self.clock();
        let from = start + nanoseconds(self.plan.warmup);
        self.window_ns = (from, from + nanoseconds(self.plan.duration));
        let Pacing::Open(segments, gaps) = self.plan.pacing.clone() else { return Ok(()) };
        let mut schedule = Schedule::new(segments, gaps, 0.0, SmallRng::seed_from_u64(2)).peekable();
        let mut drain_until = u64::MAX;
        let mut worked_ns = start;
        while self.failure.is_none() {
            let before = self.clock();
            let worked = self.turn(&mut events)?;
            let now = self.now_ns;
            if now >= from {
                self.busy_time.begin(now);
            }
            if drain_until == u64::MAX
                && (now >= self.window_ns.1 || self.interrupted.load(Ordering::Relaxed))
            {
                self.window_ns.1 = self.window_ns.1.min(now);
                self.busy_time.end(now);
                drain_until = now + nanoseconds(DRAIN_TIMEOUT);
            }
            if self.is_gone() {
                self.busy_time.end(now);
                self.publisher.gone_after_s = Some(now.saturating_sub(from) as f64 / 1e9);
                self.window_ns.1 = self.window_ns.1.min(now);
                break;
            }
            let all_delivered =
                || self.streams.iter().rev().skip(1).all(|stream| stream.delivered >= self.published.len());
            if drain_until != u64::MAX && (now >= drain_until || all_delivered()) {
                break;
            }
            let mut wait = 1_000_000;
            if drain_until == u64::MAX
                && let Some(due) = schedule.peek().map(|due| due + start)
            {
                if due <= now && self.can_publish() {
                    schedule.next();
                    self.publish(due);
                    continue;
                }
                wait = wait.min(if due > now { due - now } else { PUBLISHER_POLL_NS });
            }
            if worked {
                worked_ns = now;
            } else if self.plan.spin && self.awaits_updates() && now - worked_ns < SPIN_NS {
                self.busy_time.add_idle(self.clock() - before);
            } else {
                self.ring.wait_briefly(Duration::from_nanos(wait))?;
                self.busy_time.add_idle(self.clock() - before);
            }
        }
        self.recording.busy_ns = self.busy_time.busy_ns();
        self.recording.measured_ns = self.window_ns.1.saturating_sub(self.window_ns.0);
        Ok(())
    }

    /// Whether a stream has not received the last update.
    fn awaits_updates(&self) -> bool {
        self.published.last().is_some_and(|published| (published.delivered as usize) < self.streams.len() - 1)
    }

    /// Handles the events of one turn. Returns whether there were any.
    fn turn(&mut self, events: &mut Vec<Event>) -> io::Result<bool> {
        self.ring.turn(events)?;
        self.now_ns = self.clock();
        let worked = !events.is_empty();
        for event in events.drain(..) {
            self.on_event(event);
        }
        if self.publisher.reconnect_at_ns.is_some_and(|due| due <= self.now_ns) {
            self.publisher.reconnect_at_ns = None;
            self.to_connect.push_back(self.streams.len() - 1);
        }
        while self.connecting < CONNECTS_MAX
            && let Some(index) = self.to_connect.pop_front()
        {
            let number = u32::try_from(index).unwrap_or(u32::MAX);
            self.connecting += 1;
            let socket = client_socket(&self.plan, number)?;
            self.ring.connect(socket, self.plan.target.sock_addr()?, index as u64);
        }
        Ok(worked)
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Connected { token, socket } => {
                self.connecting -= 1;
                let index = usize::try_from(token).unwrap_or(usize::MAX);
                if socket.index() >= self.by_slot.len() {
                    self.by_slot.resize(socket.index() + 1, usize::MAX);
                }
                if let Some(slot) = self.by_slot.get_mut(socket.index()) {
                    *slot = index;
                }
                let last_update = self.streams.len() - 1;
                if let Some(stream) = self.streams.get_mut(index) {
                    stream.socket = Some(socket);
                    if index < last_update {
                        // A new connection accepts a send.
                        let _ = self.ring.send(socket, listen(&self.plan, index));
                    } else {
                        let is_measured = self.is_measured(self.now_ns);
                        let publisher = &mut self.publisher;
                        publisher.connections += 1;
                        publisher.replies = 0;
                        publisher.disconnected_ns = None;
                        self.recording.reconnects += u64::from(publisher.connections > 1 && is_measured);
                    }
                }
            }
            Event::ConnectFailed { token, error } => {
                self.connecting -= 1;
                let is_publisher = usize::try_from(token).is_ok_and(|index| index + 1 == self.streams.len());
                if is_publisher && self.publisher.connections > 0 {
                    self.publisher.reconnect_at_ns = Some(self.now_ns + RECONNECT_NS);
                } else {
                    self.failure = Some(error.to_string());
                }
            }
            Event::Received { socket, buffer } => self.on_received(socket, buffer.bytes()),
            Event::PeerClosed { socket } | Event::ReceiveFailed { socket, .. } => {
                self.ring.close(socket);
                let index = self.index_of(socket);
                if index == Some(self.streams.len() - 1) {
                    self.on_publisher_disconnected();
                } else if index.is_some() {
                    self.recording.first_error.get_or_insert("a stream ended".to_owned());
                    *self.recording.errors.entry("stream_ended").or_default() += 1;
                    self.listening = self.listening.saturating_sub(1);
                }
            }
            _ => {}
        }
    }

    pub(super) fn index_of(&self, socket: SocketId) -> Option<usize> {
        let index = *self.by_slot.get(socket.index())?;
        self.streams.get(index).filter(|stream| stream.socket == Some(socket))?;
        Some(index)
    }

    fn on_received(&mut self, socket: SocketId, bytes: &[u8]) {
        let Some(index) = self.index_of(socket) else { return };
        let Some(stream) = self.streams.get_mut(index) else { return };
        let mut framer = std::mem::take(&mut stream.framer);
        if self.is_measured(self.now_ns) {
            self.recording.received_bytes += bytes.len() as u64;
        }
        let mut closes = false;
        let received = framer.receive(bytes, &mut |part| match part {
            Part::Message(head, body) => self.on_message(index, head.status, body),
            Part::End(head) => closes |= head.closes,
        });
        if let Some(stream) = self.streams.get_mut(index) {
            stream.framer = framer;
        }
        let is_publisher = index + 1 == self.streams.len();
        self.publisher.closes |= closes && is_publisher;
        if is_publisher && self.publisher.closes && self.publisher.replies > 0 {
            self.ring.close(socket);
            self.on_publisher_disconnected();
        }
        if let Err(error) = received {
            self.failure = Some(error.to_string());
        }
    }

    pub(super) fn is_measured(&self, at_ns: u64) -> bool {
        at_ns >= self.window_ns.0 && at_ns < self.window_ns.1
    }

    /// The interval that contains a time of the measured time.
    pub(super) fn interval_at(&mut self, at_ns: u64) -> &mut IntervalRecord {
        let length_ns = nanoseconds(self.plan.interval).max(1);
        let index = (at_ns.saturating_sub(self.window_ns.0) / length_ns) as i64;
        self.intervals.entry(index).or_insert_with(|| IntervalRecord::new(index))
    }

    pub(super) fn clock(&self) -> u64 {
        nanoseconds(self.epoch.elapsed())
    }
}

/// The request that opens a subscriber's stream.
fn listen(plan: &Plan, index: usize) -> Vec<u8> {
    let params = json!({"notifications": {"resourceSubscriptions": [URI]}, "_meta": modern_meta()});
    let body = json!({"jsonrpc": "2.0", "id": index, "method": "subscriptions/listen", "params": params});
    Request::post(&plan.target, "subscriptions/listen", &body.to_string())
}
