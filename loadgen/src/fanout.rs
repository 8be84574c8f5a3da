//! Fan-out: one update, many subscribers, the time to each of them and to the last.
//!
//! Subscribers hold a `subscriptions/listen` stream (2026-07-28); a publisher touches the resource at a fixed rate. An update
//! says which resource changed and no more, so updates are told apart by their order: where none may be lost, the k-th
//! update on a stream is the k-th that was published. Where updates may be collapsed (latest wins), a stream is behind by
//! the oldest update it has not been told of: more updates than were published are wrong, fewer are not.
//!
//! Reading an update must not take longer than sending it, or the time to the last socket would be the reader's: one that equals
//! the last one of its stream, byte for byte, is not parsed again.

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
use crossbeam_channel::RecvTimeoutError;
use rand::{SeedableRng, rngs::SmallRng};
use serde_json::{Value, json};

use crate::{
    conduct::{Conducted, Job, World, own_cpu_s},
    engine::{IntervalRecord, Pacing, Plan, Recording, Work, dial_socket, executor, nanoseconds},
    error::LoadError,
    figures::UPDATES_PUBLISHED,
    http::{Framer, Part},
    latency::histogram,
    request::{Request, modern_meta},
    result::{Outcome, Run},
    schedule::Schedule,
};

/// The resource that is touched.
const URI: &str = "demo://counter";
/// Streams opened at once.
const DIALS_AT_ONCE: usize = 128;
/// How long all streams together may take to be there, besides a millisecond each.
const OPEN_PATIENCE: Duration = Duration::from_secs(30);
/// How long the last updates are waited for.
const DRAIN: Duration = Duration::from_secs(5);
/// How often the main thread looks at the server.
const LOOK: Duration = Duration::from_secs(1);
/// How long the next update is awaited without sleeping: to wake a sleeper is work for the server's core.
const SPIN_NS: u64 = 1_000_000;

/// How long the publisher waits before it connects again where its last connection brought nothing, in nanoseconds.
const REDIAL_NS: u64 = 20_000_000;
/// How often a publisher that cannot take what is due is looked at, in nanoseconds.
const PUBLISHER_LOOK_NS: u64 = 100_000;
/// The server is gone when the publisher has had no connection for this long, in nanoseconds.
const GONE_NS: u64 = 2_000_000_000;

/// Runs a job: its connections are subscribers, its request is what the publisher sends, at its rate.
///
/// # Errors
/// When the server cannot be reached, or has no subscriptions.
pub fn run(job: &Job, world: &World) -> Result<Run, LoadError> {
    let plan = Arc::new(job.plan.clone());
    let mut conducted = Conducted::new(&plan);
    let core = plan.cores.first().copied().unwrap_or(0);
    let interrupted = Arc::clone(&world.interrupted);
    let (sender, told) = crossbeam_channel::bounded(1);
    corelane_ring::raise_descriptor_limit().map_err(|error| LoadError::Resource(error.to_string()))?;
    let bar = world.audience.bar(&job.workload, plan.warmup + plan.duration);
    bar.connecting(plan.connections);
    let thread = executor(core, "fan-out")
        .spawn({
            let plan = Arc::clone(&plan);
            move || async move {
                let outcome = match FanOut::new(plan, interrupted) {
                    Ok(fan_out) => fan_out.run().await,
                    Err(error) => Err(error.to_string()),
                };
                let _ = sender.send(outcome);
            }
        })
        .map_err(|error| LoadError::Resource(format!("no thread on core {core}: {error}")))?;
    let began = Instant::now();
    let cpu_before = own_cpu_s();
    conducted.begin_looks(job);
    let outcome = loop {
        match told.recv_timeout(LOOK) {
            Ok(outcome) => break outcome,
            Err(RecvTimeoutError::Timeout) => {
                bar.at(began.elapsed());
                conducted.look(began.elapsed().as_secs_f64());
            }
            Err(RecvTimeoutError::Disconnected) => break Err("its thread ended".to_owned()),
        }
    };
    bar.clear();
    let _ = thread.join();
    let measured =
        outcome.map_err(|reason| LoadError::Unreachable { url: job.plan.target.url.clone(), reason })?;
    conducted.recording = measured.recording;
    conducted.intervals = measured.intervals;
    let cpu_percent = (own_cpu_s() - cpu_before) / began.elapsed().as_secs_f64().max(0.001) * 100.0;
    if conducted.recording.measured_ns == 0 && world.is_interrupted() {
        return Err(LoadError::Interrupted);
    }
    match measured.gone_after_s {
        Some(after_s) => conducted.end_with(Outcome::ServerGone { after_s }),
        None if world.is_interrupted() => conducted.end_with(Outcome::Interrupted),
        None => {}
    }
    let mut run = conducted.sum_up(job, cpu_percent);
    run.figures.insert("last_socket_p50_us".to_owned(), measured.last_socket_us.0);
    run.figures.insert("last_socket_p95_us".to_owned(), measured.last_socket_us.1);
    run.figures.insert(UPDATES_PUBLISHED.to_owned(), measured.published as f64);
    run.figures.insert("stale_readers_count".to_owned(), measured.stale as f64);
    Ok(run)
}

/// What came of it.
struct Measured {
    /// Latency is from an update's publishing to its arrival on one stream.
    recording: Recording,
    intervals: BTreeMap<i64, IntervalRecord>,
    /// From an update's publishing to its arrival on the last stream: median and 95th percentile, in microseconds.
    last_socket_us: (f64, f64),
    published: u64,
    /// Streams that were not told of the last update.
    stale: u64,
    /// When the publisher lost the server, in seconds of the measured time, if it did.
    gone_after_s: Option<f64>,
}

/// One subscriber's stream.
#[derive(Default)]
struct Stream {
    socket: Option<SocketId>,
    framer: Framer,
    listening: bool,
    /// Updates it was told of, or covers: the number of the next one it has not been told of.
    told: usize,
    /// Updates that came.
    updates: usize,
    /// The last update, which was found right.
    last: Vec<u8>,
}

/// An update that was published.
struct Published {
    at_ns: u64,
    /// Streams that were told.
    told: u32,
}

/// The publisher's connection.
#[derive(Default)]
struct Publisher {
    /// Touches whose reply is still to come.
    awaited: VecDeque<crate::request::Sent>,
    /// Whether the server closes connections behind replies: then one touch is sent at a time.
    closes: bool,
    /// Connections so far, and replies that the current one has brought.
    connections: u64,
    replies: u64,
    /// Since when it has had none, and when to connect again; in nanoseconds.
    lost_ns: Option<u64>,
    redial_ns: Option<u64>,
    gone_after_s: Option<f64>,
}

struct FanOut {
    plan: Arc<Plan>,
    interrupted: Arc<AtomicBool>,
    ring: Ring,
    /// The publisher is the last.
    streams: Vec<Stream>,
    by_slot: Vec<usize>,
    to_dial: VecDeque<usize>,
    dialling: usize,
    listening: u32,
    collapsed: bool,
    published: Vec<Published>,
    publisher: Publisher,
    number: u64,
    random: SmallRng,
    recording: Recording,
    intervals: BTreeMap<i64, IntervalRecord>,
    last_socket: hdrhistogram::Histogram<u64>,
    window_ns: (u64, u64),
    work: Work,
    now_ns: u64,
    epoch: Instant,
    failure: Option<String>,
}

impl FanOut {
    fn new(plan: Arc<Plan>, interrupted: Arc<AtomicBool>) -> io::Result<Self> {
        let streams = plan.connections as usize + 1;
        let ring = Ring::new(RingConfig { sockets_max: plan.connections + 64, ..RingConfig::default() })?;
        let rate = match &plan.pacing {
            Pacing::Open(segments, _) => segments.first().map_or(0.0, |segment| segment.to_per_s),
            _ => 0.0,
        };
        Ok(Self {
            interrupted,
            ring,
            streams: (0..streams).map(|_| Stream::default()).collect(),
            by_slot: Vec::new(),
            to_dial: (0..streams).collect(),
            dialling: 0,
            listening: 0,
            // More than a human could want: the reader is meant to get the latest.
            collapsed: rate > 50.0,
            published: Vec::new(),
            publisher: Publisher { closes: plan.closes_unannounced, ..Publisher::default() },
            number: 0,
            random: SmallRng::seed_from_u64(1),
            recording: Recording::new(plan.requests.len()),
            intervals: BTreeMap::new(),
            last_socket: histogram(),
            window_ns: (u64::MAX, u64::MAX),
            work: Work::default(),
            now_ns: 0,
            epoch: Instant::now(),
            failure: None,
            plan,
        })
    }

    async fn run(mut self) -> Result<Measured, String> {
        let outcome = self.measure().map_err(|error| error.to_string());
        let failure = self.failure.take();
        let quantile = |at| self.last_socket.value_at_quantile(at) as f64 / 1e3;
        let last_socket_us = (quantile(0.5), quantile(0.95));
        let published = self.published.len();
        let subscribers = self.streams.len().saturating_sub(1);
        let stale = self.streams.iter().take(subscribers).filter(|stream| stream.told < published).count();
        if !self.collapsed {
            let all = published as u64 * subscribers as u64;
            let told: u64 = self.streams.iter().take(subscribers).map(|stream| stream.told as u64).sum();
            if all > told {
                *self.recording.errors.entry("update_lost").or_default() += all - told;
            }
        }
        self.recording.connections_live = u64::from(self.listening);
        self.ring.shut_down().await;
        outcome?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        Ok(Measured {
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
        let patience = OPEN_PATIENCE + Duration::from_millis(self.streams.len() as u64);
        while self.listening < self.plan.connections && self.failure.is_none() {
            self.turn(&mut events)?;
            self.ring.doze(Duration::from_millis(1))?;
            if self.interrupted.load(Ordering::Relaxed) {
                return Ok(());
            }
            if self.epoch.elapsed() > patience {
                let (there, wanted) = (self.listening, self.plan.connections);
                self.failure = Some(format!("{there} of {wanted} streams were acknowledged in time"));
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
                self.work.begin(now);
            }
            if drain_until == u64::MAX
                && (now >= self.window_ns.1 || self.interrupted.load(Ordering::Relaxed))
            {
                self.window_ns.1 = self.window_ns.1.min(now);
                self.work.end(now);
                drain_until = now + nanoseconds(DRAIN);
            }
            if self.is_gone() {
                self.work.end(now);
                self.publisher.gone_after_s = Some(now.saturating_sub(from) as f64 / 1e9);
                self.window_ns.1 = self.window_ns.1.min(now);
                break;
            }
            let all_told =
                || self.streams.iter().rev().skip(1).all(|stream| stream.told >= self.published.len());
            if drain_until != u64::MAX && (now >= drain_until || all_told()) {
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
                wait = wait.min(if due > now { due - now } else { PUBLISHER_LOOK_NS });
            }
            if worked {
                worked_ns = now;
            } else if self.plan.spin && self.awaits_updates() && now - worked_ns < SPIN_NS {
                self.work.idle(self.clock() - before);
            } else {
                self.ring.doze(Duration::from_nanos(wait))?;
                self.work.idle(self.clock() - before);
            }
        }
        self.recording.busy_ns = self.work.done_ns();
        self.recording.measured_ns = self.window_ns.1.saturating_sub(self.window_ns.0);
        Ok(())
    }

    /// Whether somebody has not been told of the last update.
    fn awaits_updates(&self) -> bool {
        self.published.last().is_some_and(|published| (published.told as usize) < self.streams.len() - 1)
    }

    /// Whether the publisher has a connection that takes a touch. What is due waits for one, and counts from its due time.
    fn can_publish(&self) -> bool {
        let is_connected = self.streams.last().is_some_and(|stream| stream.socket.is_some());
        is_connected && (!self.publisher.closes || self.publisher.awaited.is_empty())
    }

    /// Whether the publisher has been without a connection for too long.
    fn is_gone(&self) -> bool {
        self.publisher.lost_ns.is_some_and(|lost_ns| self.now_ns.saturating_sub(lost_ns) > GONE_NS)
    }

    /// The publisher's connection has ended: another is made. A touch without a reply may have been published or not; it
    /// is an error, and expected on no stream unless one was told of it.
    fn on_publisher_lost(&mut self) {
        let publisher = &mut self.publisher;
        let unanswered = publisher.awaited.len();
        publisher.awaited.clear();
        if unanswered > 0 {
            *self.recording.errors.entry("connection_closed").or_default() += unanswered as u64;
            let words = "the server closed the publisher's connection before it replied";
            self.recording.first_error.get_or_insert_with(|| words.to_owned());
            let known = self.published.len() - unanswered.min(self.published.len());
            while self.published.len() > known && self.published.last().is_some_and(|last| last.told == 0) {
                self.published.pop();
            }
        }
        publisher.lost_ns.get_or_insert(self.now_ns);
        let pause_ns = if publisher.replies > 0 { 0 } else { REDIAL_NS };
        publisher.redial_ns = Some(self.now_ns + pause_ns);
        if let Some(stream) = self.streams.last_mut() {
            stream.socket = None;
            stream.framer = Framer::default();
        }
    }

    /// Sends one touch. It counts from the time it was meant to be sent.
    fn publish(&mut self, due_ns: u64) {
        let Some(socket) = self.streams.last().and_then(|stream| stream.socket) else { return };
        let Some(request) = self.plan.requests.first() else { return };
        let mut out = Vec::new();
        let sent = request.write(0, self.number, None, &mut self.random, &mut out);
        let bytes = out.len() as u64;
        // One is under way still: this one is late, and its subscribers will feel it.
        if self.ring.send(socket, out).is_err() {
            *self.recording.errors.entry("publish_late").or_default() += 1;
            return;
        }
        self.number += 1;
        self.recording.sent_bytes += if self.is_measured(due_ns) { bytes } else { 0 };
        self.publisher.awaited.push_back(sent);
        self.published.push(Published { at_ns: due_ns, told: 0 });
        self.recording.requests += u64::from(self.is_measured(due_ns));
    }

    /// Whether anything happened.
    fn turn(&mut self, events: &mut Vec<Event>) -> io::Result<bool> {
        self.ring.turn(events)?;
        self.now_ns = self.clock();
        let worked = !events.is_empty();
        for event in events.drain(..) {
            self.on_event(event);
        }
        if self.publisher.redial_ns.is_some_and(|due| due <= self.now_ns) {
            self.publisher.redial_ns = None;
            self.to_dial.push_back(self.streams.len() - 1);
        }
        while self.dialling < DIALS_AT_ONCE
            && let Some(index) = self.to_dial.pop_front()
        {
            let number = u32::try_from(index).unwrap_or(u32::MAX);
            self.dialling += 1;
            let socket = dial_socket(&self.plan, number)?;
            self.ring.connect(socket, self.plan.target.sock_addr()?, index as u64);
        }
        Ok(worked)
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Connected { token, socket } => {
                self.dialling -= 1;
                let index = usize::try_from(token).unwrap_or(usize::MAX);
                if socket.index() >= self.by_slot.len() {
                    self.by_slot.resize(socket.index() + 1, usize::MAX);
                }
                if let Some(place) = self.by_slot.get_mut(socket.index()) {
                    *place = index;
                }
                let last = self.streams.len() - 1;
                if let Some(stream) = self.streams.get_mut(index) {
                    stream.socket = Some(socket);
                    if index < last {
                        // A fresh connection takes it.
                        let _ = self.ring.send(socket, listen(&self.plan, index));
                    } else {
                        let is_measured = self.is_measured(self.now_ns);
                        let publisher = &mut self.publisher;
                        publisher.connections += 1;
                        publisher.replies = 0;
                        publisher.lost_ns = None;
                        self.recording.reconnects += u64::from(publisher.connections > 1 && is_measured);
                    }
                }
            }
            Event::ConnectFailed { token, error } => {
                self.dialling -= 1;
                let is_publisher = usize::try_from(token).is_ok_and(|index| index + 1 == self.streams.len());
                if is_publisher && self.publisher.connections > 0 {
                    self.publisher.redial_ns = Some(self.now_ns + REDIAL_NS);
                } else {
                    self.failure = Some(error.to_string());
                }
            }
            Event::Received { socket, buffer } => self.on_received(socket, buffer.bytes()),
            Event::PeerClosed { socket } | Event::ReceiveFailed { socket, .. } => {
                self.ring.close(socket);
                let index = self.index_of(socket);
                if index == Some(self.streams.len() - 1) {
                    self.on_publisher_lost();
                } else if index.is_some() {
                    self.recording.first_error.get_or_insert("a stream ended".to_owned());
                    *self.recording.errors.entry("stream_ended").or_default() += 1;
                    self.listening = self.listening.saturating_sub(1);
                }
            }
            _ => {}
        }
    }

    fn index_of(&self, socket: SocketId) -> Option<usize> {
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
            self.on_publisher_lost();
        }
        if let Err(broken) = received {
            self.failure = Some(broken.to_string());
        }
    }

    fn on_message(&mut self, index: usize, status: u16, body: &[u8]) {
        if index + 1 == self.streams.len() {
            let (Some(sent), Some(request)) =
                (self.publisher.awaited.pop_front(), self.plan.requests.first())
            else {
                return;
            };
            self.publisher.replies += 1;
            if let Err(wrong) = request.check(&sent, status, body) {
                self.failure = Some(format!("the update could not be published: {wrong}"));
            }
            return;
        }
        if self.streams.get(index).is_some_and(|stream| !stream.last.is_empty() && stream.last == body) {
            return self.on_update(index);
        }
        let message: Value = serde_json::from_slice(body).unwrap_or_default();
        match message.get("method").and_then(Value::as_str) {
            Some("notifications/resources/updated") => {
                if let Some(stream) = self.streams.get_mut(index) {
                    stream.last = body.to_vec();
                }
                self.on_update(index);
            }
            Some("notifications/subscriptions/acknowledged") => {
                if let Some(stream) = self.streams.get_mut(index).filter(|stream| !stream.listening) {
                    stream.listening = true;
                    self.listening += 1;
                }
            }
            Some(_) => {}
            None => {
                let said = String::from_utf8_lossy(body.get(..200).unwrap_or(body)).into_owned();
                self.failure =
                    Some(format!("subscriptions/listen was answered with status {status}: {said}"));
            }
        }
    }

    fn on_update(&mut self, index: usize) {
        let now = self.now_ns;
        let subscribers = u32::try_from(self.streams.len() - 1).unwrap_or(u32::MAX);
        let Some(stream) = self.streams.get_mut(index) else { return };
        stream.updates += 1;
        let from = stream.told;
        let until = if self.collapsed { self.published.len() } else { (from + 1).min(self.published.len()) };
        stream.told = until;
        let covered = self.published.get_mut(from..until).unwrap_or_default();
        let Some(oldest) = covered.first().map(|published| published.at_ns) else {
            // It is about what an earlier one was taken to cover, for it was on its way to the server already.
            if self.collapsed && stream.updates <= self.published.len() {
                return;
            }
            // Nothing was published that it could be about.
            *self.recording.errors.entry("update_unasked").or_default() += 1;
            return;
        };
        for published in covered {
            published.told += 1;
            if published.told == subscribers && published.at_ns >= self.window_ns.0 {
                self.last_socket.saturating_record((now - published.at_ns.min(now)).max(1));
            }
        }
        let latency = now.saturating_sub(oldest).max(1);
        if self.is_measured(now) {
            self.interval_at(now).completed += 1;
        }
        if self.is_measured(oldest) {
            let interval = self.interval_at(oldest);
            interval.replies += 1;
            interval.latency.saturating_record(latency);
            self.recording.replies += 1;
            self.recording.replies_in_time += u64::from(now < self.window_ns.1);
            self.recording.latency.saturating_record(latency);
            self.recording.uncorrected.saturating_record(latency);
            if let Some(kind) = self.recording.kinds.first_mut() {
                kind.latency.saturating_record(latency);
            }
        }
    }

    fn is_measured(&self, at_ns: u64) -> bool {
        at_ns >= self.window_ns.0 && at_ns < self.window_ns.1
    }

    /// The interval of a time of the measured time.
    fn interval_at(&mut self, at_ns: u64) -> &mut IntervalRecord {
        let length_ns = nanoseconds(self.plan.interval).max(1);
        let index = (at_ns.saturating_sub(self.window_ns.0) / length_ns) as i64;
        self.intervals.entry(index).or_insert_with(|| IntervalRecord::new(index))
    }

    fn clock(&self) -> u64 {
        nanoseconds(self.epoch.elapsed())
    }
}

/// The request that opens a subscriber's stream.
fn listen(plan: &Plan, index: usize) -> Vec<u8> {
    let params = json!({"notifications": {"resourceSubscriptions": [URI]}, "_meta": modern_meta()});
    let body = json!({"jsonrpc": "2.0", "id": index, "method": "subscriptions/listen", "params": params});
    Request::post(&plan.target, "subscriptions/listen", &body.to_string())
}
