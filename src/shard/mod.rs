//! One core: its ring, its connections, its turn loop. Acts on what the layers below decide.

mod connection;
mod inbox;
mod pipeline;
mod sources;
mod streams;

use std::{
    any::Any,
    io,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use corelane_ring::{Event, ListenerId, ReceivedBuffer, Ring, SocketId};
use glommio::timer::Timer;

use inbox::Inbox;
pub use inbox::{Served, ShardHandle, Takeover};
pub use pipeline::{Handled, Pipeline, PipelineConfig, Requests};
pub use sources::Sources;

use crate::{
    config::{Limits, Transport},
    dispatch::Engine,
    http1::{CONTINUE, Progress, RejectReason},
    runtime::{CallEvent, Completed, Tick, Timers, instant_after},
    telemetry::metrics::{ConnectionStates, ShardMetrics, ShardReport},
};
use connection::{Census, Connection, Phase};

/// Buffers kept for sending, and the largest that is kept, in bytes.
const SPARE_BUFFERS_MAX: usize = 1024;
const SPARE_BYTES_MAX: usize = 64 * 1024;
const SEND_BUFFER_BYTES: usize = 1024;

/// How long a shard sleeps in its ring before it computes its next deadline, and before it parks in its executor.
const DOZE: Duration = Duration::from_micros(500);

/// While calls are in flight the executor polls its timers and its I/O this often, however busy the shard is. By itself
/// it would poll them only when its preemption timer fires, which takes seconds.
const EXECUTOR_TURN: Duration = Duration::from_millis(1);

/// The same while no call is in flight: a task that a handler has detached may be left.
const EXECUTOR_TURN_IDLE: Duration = Duration::from_millis(100);

/// A shard that sleeps until a deadline sleeps for this long at least.
const ALARM_MIN: Duration = Duration::from_millis(1);

/// Calls that have ended and are answered in one turn; the rest wait for the next.
const COMPLETIONS_PER_TURN: usize = 256;

/// Places of the table of connections that are counted by state in one turn; a report waits until all have been. A turn of a
/// shard with 131,072 of them would take milliseconds.
const PLACES_COUNTED_PER_TURN: usize = 8192;

/// A refused accept is tried again after this.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// One core's lane.
pub struct Shard {
    ring: Ring,
    pipeline: Pipeline,
    handle: ShardHandle,
    limits: Limits,
    spin: Duration,
    listeners: Vec<ListenerId>,
    /// What the connections of each listener speak.
    transports: Vec<Transport>,
    /// It serves one connection, which it was given, and ends with it.
    adopts: bool,
    connections: Vec<Option<Connection>>,
    connections_max: usize,
    live: usize,
    accepting: bool,
    accept_retry_at: Option<Instant>,
    timers: Timers,
    /// Connections with something to send, noted in this turn.
    dirty: Vec<SocketId>,
    spare: Vec<Vec<u8>>,
    now: Instant,
    drain_until: Option<Instant>,
    /// When the executor last heard its timers.
    executor_turn: Instant,
    /// Messages of other shards, or connections to count, are left over from the last turn.
    has_more: bool,
    /// The count of connections by state for the next report.
    census: Census,
    /// The connection whose input is being handled.
    handling: Option<SocketId>,
    /// Effects are being applied: what comes of one is applied by the same loop, not by one inside it.
    applying: bool,
}

impl Shard {
    /// A shard on the calling thread's ring. `sockets_max` is the size of the ring's table.
    #[must_use]
    pub fn new(
        mut ring: Ring,
        pipeline: Pipeline,
        handle: ShardHandle,
        sources: Sources,
        limits: Limits,
        spin: Duration,
        sockets_max: u32,
    ) -> Self {
        let now = Instant::now();
        let table = sockets_max.saturating_sub(limits.connections_reserve);
        let adopts = sources.adopted.is_some();
        let (listeners, transports) = sources.open(&mut ring);
        Self {
            listeners,
            transports,
            adopts,
            ring,
            pipeline,
            handle,
            limits,
            spin,
            // As the ring's table: set aside at once, taken page by page.
            connections: Vec::with_capacity(sockets_max as usize),
            connections_max: table.min(limits.connections_max).max(1) as usize,
            live: 0,
            accepting: true,
            accept_retry_at: None,
            timers: Timers::new(now, sockets_max as usize),
            dirty: Vec::new(),
            spare: Vec::new(),
            now,
            drain_until: None,
            executor_turn: now,
            has_more: false,
            census: Census::default(),
            handling: None,
            applying: false,
        }
    }

    /// Serves until it has been told to drain and has. Returns what was measured.
    ///
    /// # Errors
    /// When the kernel refuses to go on with the ring.
    pub async fn run(mut self) -> io::Result<ShardMetrics> {
        let mut events = Vec::new();
        let mut due = Vec::new();
        let mut last_work = Instant::now();
        loop {
            self.ring.turn(&mut events)?;
            self.now = Instant::now();
            self.pipeline.begin_turn(self.now, SystemTime::now());
            let mut worked = !events.is_empty();
            for event in events.drain(..) {
                self.guarded(event.socket(), |shard| shard.on_event(event));
            }
            worked |= self.take_completed();
            worked |= self.take_news();
            self.timers.expire(self.now, &mut due);
            for index in due.drain(..) {
                let socket = self.connections.get(index).and_then(Option::as_ref);
                let socket = socket.map(|connection| connection.socket);
                self.guarded(socket, |shard| shard.on_timer(index));
            }
            self.expire_calls();
            self.retry_accept();
            worked |= self.flush();
            if worked {
                self.pipeline.end_turn(self.limits.turn_slow);
            }
            if self.is_drained() {
                break;
            }
            if worked {
                last_work = self.now;
            } else if self.now.saturating_duration_since(last_work) >= self.spin {
                self.sleep().await?;
                last_work = Instant::now();
            }
            let every = if self.pipeline.engine.calls.len() > 0 { EXECUTOR_TURN } else { EXECUTOR_TURN_IDLE };
            if self.now.saturating_duration_since(self.executor_turn) >= every {
                self.executor_turn = self.now;
                // With no task left to run, the executor looks at its rings and its timers until this one is due.
                Timer::new(Duration::from_micros(1)).await;
            } else {
                futures_lite::future::yield_now().await;
            }
        }
        let engine = &mut self.pipeline.engine;
        engine.observer.abandoned(&engine.calls.running());
        let metrics = std::mem::replace(self.pipeline.metrics(), ShardMetrics::new([]));
        self.ring.shut_down().await;
        Ok(metrics)
    }

    /// Sleeps until there is work: blocked in the ring, one system call, which stops the executor's tasks too. While tasks
    /// may be alive the shard parks in its executor instead; first in the ring for a moment, if no call is in flight.
    async fn sleep(&mut self) -> io::Result<()> {
        let completions = self.pipeline.engine.completions();
        let inbox = Arc::clone(&self.handle.inbox);
        let has_tasks = self.pipeline.engine.may_have_tasks();
        let is_ready = || inbox.has_news() || completions.has_any();
        if !has_tasks || self.pipeline.engine.calls.len() == 0 {
            self.ring.wait(Some(DOZE), is_ready)?;
            if self.ring.has_completions() || is_ready() {
                return Ok(());
            }
        }
        let alarms = [
            self.timers.next(),
            self.pipeline.engine.calls.next_deadline(),
            self.accept_retry_at,
            self.drain_until,
        ];
        let until = alarms.into_iter().flatten().min();
        if has_tasks {
            return self.ring.park(until, |context| inbox.has_news() || completions.is_ready(context)).await;
        }
        let limit = until.map(|until| until.saturating_duration_since(Instant::now()).max(ALARM_MIN));
        self.ring.wait(limit, is_ready)
    }

    /// Does something for one connection. A panic meanwhile ends that connection and its calls, and nothing else; where no
    /// connection is concerned it ends the shard, which makes the server drain.
    fn guarded(&mut self, socket: Option<SocketId>, work: impl FnOnce(&mut Self)) {
        let outer = std::mem::replace(&mut self.handling, socket);
        let applying = self.applying;
        if let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(|| work(self))) {
            let Some(socket) = self.handling else { std::panic::resume_unwind(panic) };
            self.applying = applying;
            self.drop_panicked(socket, &*panic);
        }
        self.handling = outer;
    }

    #[cold]
    fn drop_panicked(&mut self, socket: SocketId, panic: &(dyn Any + Send)) {
        let text = panic.downcast_ref::<&str>().copied();
        let told = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let engine = &mut self.pipeline.engine;
        engine.observer.panicked(told.unwrap_or("no message"));
        for ticket in engine.calls.of_socket(socket) {
            engine.calls.end_unanswered(ticket);
        }
        self.close(socket);
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Received { socket, buffer } => self.on_received(socket, buffer),
            Event::Sent { socket, buffer, outcome } => self.on_sent(socket, buffer, &outcome),
            Event::SendProgressed { socket } => self.on_send_progressed(socket),
            Event::Accepted { socket, listener } => {
                let transport = self.transports.get(listener.index()).copied();
                self.on_accepted(socket, transport.unwrap_or(Transport::Http));
            }
            Event::Connected { socket, .. } => self.on_accepted(socket, Transport::Lines),
            Event::PeerClosed { socket } => self.on_peer_closed(socket),
            Event::ReceiveFailed { socket, .. } => self.close(socket),
            Event::Closed { .. } => self.resume_accept(),
            Event::ConnectFailed { .. } => {
                self.pipeline.refused("adopt_failed");
                self.begin_drain();
            }
            Event::AcceptFailed { error, .. } => {
                // Only one listener has stopped, but pausing all is simpler and lasts a moment.
                let reason = match error.raw_os_error() {
                    Some(libc::ENFILE | libc::EMFILE) => "accept_no_descriptor",
                    _ => "accept_failed",
                };
                self.pipeline.refused(reason);
                self.accept_retry_at = Some(self.now + ACCEPT_RETRY);
            }
        }
    }

    fn on_accepted(&mut self, socket: SocketId, transport: Transport) {
        self.pipeline.metrics().accept();
        let index = socket.index();
        if index >= self.connections.len() {
            self.connections.resize_with(index + 1, || None);
        }
        let deadline = self.timers.tick_after(self.now, self.limits.head_timeout);
        if let Some(place) = self.connections.get_mut(index) {
            debug_assert!(place.is_none(), "the ring closes a socket before its slot is reused");
            *place = Some(Connection::new(socket, deadline));
            self.live += 1;
        }
        self.timers.schedule(index, deadline);
        let flood = self.connections_max + self.limits.connections_reserve as usize;
        if self.drain_until.is_some() || self.live > flood {
            // Accepted before the pause was heard.
            self.close(socket);
            return;
        }
        if transport == Transport::Lines {
            self.begin_lines(socket);
        }
        if self.accepting && self.live >= self.connections_max {
            self.accepting = false;
            self.pipeline.refused("connections_max");
            for listener in &self.listeners {
                self.ring.pause_accept(*listener);
            }
        }
    }

    /// Accepts again once a tenth of the connections has gone.
    fn resume_accept(&mut self) {
        if !self.accepting && self.drain_until.is_none() && self.live * 10 <= self.connections_max * 9 {
            self.accepting = true;
            for listener in &self.listeners {
                self.ring.resume_accept(*listener);
            }
        }
    }

    fn retry_accept(&mut self) {
        if self.accept_retry_at.is_some_and(|at| at <= self.now) {
            self.accept_retry_at = None;
            if self.accepting && self.drain_until.is_none() {
                for listener in &self.listeners {
                    self.ring.resume_accept(*listener);
                }
            }
        }
    }

    fn on_received(&mut self, socket: SocketId, mut buffer: ReceivedBuffer) {
        self.pipeline.metrics().receive(buffer.len());
        let Some(connection) = connection_of(&mut self.connections, socket) else {
            return;
        };
        match connection.phase {
            Phase::Closing { .. } | Phase::Lingering => return,
            Phase::Calling(_)
            | Phase::Congested
            | Phase::Batch(_)
            | Phase::Listening(_)
            | Phase::Carrying(_) => {
                let buffered = match &mut connection.lines {
                    Some(lines) => {
                        lines.framer.hold(buffer.bytes());
                        lines.framer.buffered_bytes()
                    }
                    None => {
                        connection.framer.hold(buffer.bytes(), || self.pipeline.take_assembly());
                        connection.framer.buffered_bytes()
                    }
                };
                if buffered > self.limits.pipelined_bytes_max && !connection.paused {
                    connection.paused = true;
                    self.ring.pause_receive(socket);
                }
                return;
            }
            Phase::Idle | Phase::Head | Phase::Body => {}
        }
        let length = buffer.len();
        if connection.lines.is_some() {
            self.advance_lines(socket, Some((buffer.padded_mut(), length)));
        } else {
            self.advance(socket, Some((buffer.padded_mut(), length)));
        }
    }

    /// Handles what has been received, new bytes last.
    fn advance(&mut self, socket: SocketId, received: Option<(&mut [u8], usize)>) {
        self.handling = Some(socket);
        let Some(connection) = connection_of(&mut self.connections, socket) else {
            return;
        };
        if connection.out.capacity() == 0 {
            connection.out = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(SEND_BUFFER_BYTES));
        }
        let Connection { framer, out, handled, .. } = connection;
        let limits = &self.limits;
        let mut requests =
            Requests { pipeline: &mut self.pipeline, limits, socket, out, last: None, handled: *handled };
        let progress = match received {
            Some((padded, length)) => framer.receive(padded, length, limits, &mut requests),
            None => framer.resume(limits, &mut requests),
        };
        let last = requests.last;
        *handled = requests.handled;
        self.settle(socket, progress, last);
    }

    /// Puts a connection into the phase its input's progress asks for.
    fn settle(&mut self, socket: SocketId, progress: Progress, last: Option<Handled>) {
        let Some(connection) = connection_of(&mut self.connections, socket) else {
            return;
        };
        let (phase, timeout) = match (progress, last) {
            (Progress::Paused, Some(Handled::Pending(ticket))) => (Phase::Calling(ticket), None),
            (Progress::Paused, Some(Handled::Batch(left))) => {
                (Phase::Batch(left), Some(self.limits.stream_keep_alive))
            }
            (Progress::Paused, Some(Handled::Collecting(left))) => {
                connection.collected = self.pipeline.collected.take();
                (Phase::Batch(left), None)
            }
            (Progress::Paused, Some(Handled::Listening(listener))) => {
                (Phase::Listening(listener), Some(self.limits.stream_keep_alive))
            }
            (Progress::Paused, Some(Handled::Carrying { stream, last })) => {
                connection.last = last;
                (Phase::Carrying(stream), Some(self.limits.stream_keep_alive))
            }
            (Progress::Paused, _) => (Phase::Congested, None),
            (Progress::Stopped, last) => {
                // A drained client may be sending its next request already.
                let linger =
                    last == Some(Handled::Refused) || connection.paused || self.drain_until.is_some();
                (Phase::Closing { linger }, None)
            }
            (Progress::Idle, _) if self.drain_until.is_some() => (Phase::Idle, Some(self.limits.drain_grace)),
            (Progress::Idle, _) => (Phase::Idle, Some(self.limits.keep_alive_timeout)),
            (Progress::Head, _) => (Phase::Head, Some(self.limits.head_timeout)),
            (Progress::Body { send_continue }, _) => {
                if send_continue {
                    connection.out.extend_from_slice(CONTINUE);
                }
                if connection.phase != Phase::Body || last.is_some() {
                    connection.body_started = self.timers.tick_after(self.now, Duration::ZERO);
                }
                (Phase::Body, None)
            }
        };
        // A head's time runs from its first byte: the bytes that follow do not prolong it, another request does.
        if phase == Phase::Body {
            connection.deadline = body_deadline(&self.timers, self.now, connection, &self.limits);
        } else if last.is_some() || connection.phase != Phase::Head || phase != Phase::Head {
            connection.deadline = match timeout {
                Some(timeout) => self.timers.tick_after(self.now, timeout),
                None => Tick::NEVER,
            };
        }
        connection.phase = phase;
        // Everything held has been looked at, and more is needed to go on.
        if connection.paused && connection.is_reading() {
            connection.paused = false;
            self.ring.resume_receive(socket);
        }
        self.timers.schedule(socket.index(), connection.deadline);
        if self.drain_until.is_some() && matches!(phase, Phase::Listening(_) | Phase::Carrying(_)) {
            // One more that came too late.
            self.end_streams();
        }
        self.mark(socket);
        self.apply_effects();
    }

    /// Notes a connection for flushing.
    fn mark(&mut self, socket: SocketId) {
        if let Some(connection) = connection_of(&mut self.connections, socket)
            && !connection.dirty
        {
            connection.dirty = true;
            self.dirty.push(socket);
        }
    }

    /// Sends what the turn has produced: one send for each connection. Whether there was anything.
    fn flush(&mut self) -> bool {
        let flushed = !self.dirty.is_empty();
        while let Some(socket) = self.dirty.pop() {
            let Some(connection) = connection_of(&mut self.connections, socket) else {
                continue;
            };
            connection.dirty = false;
            connection.handled = 0;
            if connection.sending {
                continue;
            }
            if connection.out.is_empty() {
                let unused = std::mem::take(&mut connection.out);
                keep_spare(&mut self.spare, unused);
                self.on_outbox_empty(socket);
                continue;
            }
            connection.sending = true;
            connection.write_deadline = self.timers.tick_after(self.now, self.limits.write_timeout);
            self.timers.schedule(socket.index(), connection.write_deadline);
            let out = std::mem::take(&mut connection.out);
            self.pipeline.metrics().send(out.len());
            if self.ring.send(socket, out).is_err() {
                self.close(socket);
            }
        }
        flushed
    }

    fn on_send_progressed(&mut self, socket: SocketId) {
        if let Some(connection) = connection_of(&mut self.connections, socket) {
            connection.write_deadline = self.timers.tick_after(self.now, self.limits.write_timeout);
        }
    }

    fn on_sent(&mut self, socket: SocketId, buffer: Vec<u8>, outcome: &io::Result<()>) {
        keep_spare(&mut self.spare, buffer);
        let Some(connection) = connection_of(&mut self.connections, socket) else {
            return;
        };
        connection.sending = false;
        connection.write_deadline = Tick::NEVER;
        if outcome.is_err() {
            self.close(socket);
            return;
        }
        self.catch_up(socket);
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        if connection.out.capacity() == 0 {
            self.on_outbox_empty(socket);
        } else {
            self.mark(socket);
        }
    }

    fn on_outbox_empty(&mut self, socket: SocketId) {
        let Some(connection) = connection_of(&mut self.connections, socket) else {
            return;
        };
        match connection.phase {
            Phase::Closing { linger: true } if !connection.peer_closed => {
                connection.phase = Phase::Lingering;
                if std::mem::take(&mut connection.paused) {
                    self.ring.resume_receive(socket);
                }
                connection.deadline = self.timers.tick_after(self.now, self.limits.linger_timeout);
                self.timers.schedule(socket.index(), connection.deadline);
                self.ring.shutdown_write(socket);
            }
            Phase::Closing { .. } => self.close(socket),
            // The end of a call resumes it.
            Phase::Congested if self.pipeline.waits_for_calls(socket, connection.owes(), &self.limits) => {}
            Phase::Congested => self.guarded(Some(socket), |shard| shard.resume(socket)),
            _ if connection.peer_closed && connection.is_reading() && connection.lines.is_none() => {
                self.close(socket);
            }
            _ => {}
        }
    }

    /// Goes on with a connection that waited for a call or for its outbox.
    fn resume(&mut self, socket: SocketId) {
        let Some(connection) = connection_of(&mut self.connections, socket) else {
            return;
        };
        connection.phase = Phase::Idle;
        if connection.lines.is_some() {
            self.advance_lines(socket, None);
        } else {
            self.advance(socket, None);
        }
    }

    fn take_completed(&mut self) -> bool {
        let mut worked = false;
        // Not until there are none: answering one may start the next, which may be done before this loop is.
        for _ in 0..COMPLETIONS_PER_TURN {
            let Some(event) = self.pipeline.engine.next_event() else { break };
            worked = true;
            match event {
                CallEvent::Said(ticket, note) => self.on_said(ticket, note),
                CallEvent::Ended(Completed { ticket, outcome }) => {
                    if let Some((call, talk)) = self.pipeline.engine.calls.take(ticket) {
                        self.deliver(ticket, &call, talk.as_ref(), outcome.map_err(Engine::refusal));
                    }
                }
            }
        }
        worked
    }

    /// Cancels calls that have taken too long, and says so.
    fn expire_calls(&mut self) {
        while let Some((ticket, call, refused)) = self.pipeline.engine.next_overdue() {
            self.deliver(ticket, &call, None, Err(refused));
        }
        self.apply_effects();
    }

    fn on_peer_closed(&mut self, socket: SocketId) {
        let Some(connection) = connection_of(&mut self.connections, socket) else {
            return;
        };
        connection.peer_closed = true;
        // A peer may close its side first and still wait for the answer; not for a call that ends with its connection.
        let cancels = match connection.phase {
            Phase::Calling(ticket) => self.pipeline.engine.ends_with_connection(ticket),
            Phase::Listening(_) | Phase::Carrying(_) => true,
            _ => false,
        };
        if connection.lines.is_some() {
            self.on_lines_ended(socket);
            return;
        }
        let owed = connection.sending
            || !connection.out.is_empty()
            || matches!(connection.phase, Phase::Calling(_) | Phase::Batch(_) | Phase::Congested);
        if !owed || cancels || connection.phase == Phase::Lingering {
            self.close(socket);
        }
    }

    fn on_timer(&mut self, index: usize) {
        let Some(Some(connection)) = self.connections.get_mut(index) else {
            return;
        };
        let socket = connection.socket;
        let earliest = connection.deadline.min(connection.write_deadline);
        if earliest > self.timers.tick_before(self.now) {
            self.timers.schedule(index, earliest);
            return;
        }
        if connection.write_deadline <= connection.deadline {
            self.pipeline.refused("write_timeout");
            self.close(socket);
            return;
        }
        let reason = match connection.phase {
            Phase::Head => RejectReason::HeadTimeout,
            Phase::Body => RejectReason::BodyTimeout,
            Phase::Calling(_) | Phase::Batch(_) | Phase::Listening(_) | Phase::Carrying(_) => {
                self.on_keep_alive(socket);
                return;
            }
            _ => {
                if connection.owes() > 0 {
                    self.log_abandoned(socket);
                }
                self.close(socket);
                return;
            }
        };
        let handled = self.pipeline.reject(reason, None, &mut connection.out);
        debug_assert_eq!(handled, Handled::Refused);
        connection.phase = Phase::Closing { linger: true };
        connection.deadline = Tick::NEVER;
        self.mark(socket);
    }

    fn close(&mut self, socket: SocketId) {
        if connection_of(&mut self.connections, socket).is_none() {
            return;
        }
        if let Some(connection) = self.connections.get_mut(socket.index()).and_then(Option::take) {
            self.let_go(&connection);
            keep_spare(&mut self.spare, connection.out);
            self.live -= 1;
        }
        self.timers.cancel(socket.index());
        self.ring.close(socket);
        if self.adopts && self.live == 0 {
            self.begin_drain();
        }
    }

    /// Does what other threads have asked for.
    fn take_news(&mut self) -> bool {
        if !self.handle.inbox.take_news() && !std::mem::take(&mut self.has_more) {
            return false;
        }
        self.take_messages();
        let inbox = Arc::clone(&self.handle.inbox);
        if let Some((served, takeover)) = inbox.take_snapshot() {
            if let Some(before) = self.pipeline.replace(served) {
                inbox.retire(before);
            }
            takeover.done();
        }
        if inbox.is_asked() {
            match self.census.go_on(&self.connections, PLACES_COUNTED_PER_TURN) {
                Some(states) => self.report(&inbox, states),
                None => self.has_more = true,
            }
        }
        if inbox.drains() {
            self.begin_drain();
        }
        true
    }

    /// Answers everyone who has asked for a report.
    fn report(&mut self, inbox: &Inbox, connection_states: ConnectionStates) {
        while let Some(asker) = inbox.next_report() {
            let report = ShardReport {
                shard: self.pipeline.shard(),
                metrics: self.pipeline.metrics().clone(),
                connections: self.live,
                connection_states,
                calls_in_flight: self.pipeline.engine.calls.len(),
                listeners: self.pipeline.engine.plane.subscriptions.listeners(),
                subscribed: self.pipeline.engine.plane.subscriptions.subscribed(),
                sessions_kept: self.pipeline.engine.plane.homes.len(),
                replay_streams: self.pipeline.engine.plane.replay.len(),
                replay_streams_attached: self.pipeline.engine.plane.replay.attached(),
                tasks: self.pipeline.engine.plane.tasks.len(),
            };
            // Who asked may have given up.
            let _ = asker.try_send(report);
        }
    }

    fn begin_drain(&mut self) {
        if self.drain_until.is_some() {
            return;
        }
        self.drain_until = Some(instant_after(self.now, self.limits.drain_timeout));
        self.pipeline.drain();
        for listener in &self.listeners {
            self.ring.stop_listening(*listener);
        }
        // A client that has just been answered may have sent its next request already: it is answered once more, and told
        // that the connection ends. One that sends half a request is not waited for as long as at other times.
        let idle = self.timers.tick_after(self.now, self.limits.drain_grace);
        let half = self.timers.tick_after(self.now, self.limits.linger_timeout);
        self.end_streams();
        for connection in self.connections.iter_mut().flatten() {
            let soon = match connection.phase {
                // It is closed when all is answered.
                Phase::Idle if connection.owes() > 0 => continue,
                Phase::Idle => idle,
                Phase::Head | Phase::Body => half,
                _ => continue,
            };
            connection.deadline = connection.deadline.min(soon);
            self.timers.schedule(connection.socket.index(), connection.deadline);
        }
    }

    /// Whether a drain has come to its end, in order or in time.
    fn is_drained(&self) -> bool {
        self.drain_until
            .is_some_and(|until| self.now >= until || (self.live == 0 && self.ring.sockets() == 0))
    }
}

/// When a body has taken too long: no part of it for a while, or too little of it, or simply too long.
fn body_deadline(timers: &Timers, now: Instant, connection: &Connection, limits: &Limits) -> Tick {
    let received = connection.framer.buffered_bytes() / limits.body_bytes_per_second_min.max(1);
    let earned = Duration::from_secs(u64::try_from(received).unwrap_or(u64::MAX));
    let started = timers.instant(connection.body_started);
    timers
        .tick_after(now, limits.body_timeout)
        .min(timers.tick_after(started, limits.body_timeout.saturating_add(earned)))
        .min(timers.tick_after(started, limits.body_total_timeout))
}

fn connection_of(connections: &mut [Option<Connection>], socket: SocketId) -> Option<&mut Connection> {
    connections.get_mut(socket.index())?.as_mut().filter(|connection| connection.socket == socket)
}

fn keep_spare(spare: &mut Vec<Vec<u8>>, mut buffer: Vec<u8>) {
    if buffer.capacity() > 0 && buffer.capacity() <= SPARE_BYTES_MAX && spare.len() < SPARE_BUFFERS_MAX {
        buffer.clear();
        spare.push(buffer);
    }
}
