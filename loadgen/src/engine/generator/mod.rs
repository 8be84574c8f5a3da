//! One generator thread: its turn loop.
//!
//! A turn reaps what arrived, judges it, sends what is due. Times are stamped when a batch is reaped and when a request is
//! handed to the ring; at most [`SENDS_AT_ONCE`] requests wait for one system call, so that the stamp of sending is close
//! to the truth.

mod connecting;
mod measuring;

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    iter::Peekable,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use corelane_ring::{Event, Ring, RingConfig, SocketId};
use crossbeam_channel::Sender;
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::{
    Pacing, Plan,
    client::{Again, Awaited, Client, Handshake, Stage},
    nanoseconds,
    recording::{IntervalRecord, Recording},
    report::{Control, Report},
    share,
    work::Work,
};
use crate::{
    http::Part,
    request::{Ask, Era, Request, Wrong, initialized},
    schedule::Schedule,
    stdio::Processes,
};

/// Requests that wait for one system call.
const SENDS_AT_ONCE: usize = 16;
/// Connections one thread dials at once.
const DIALS_AT_ONCE: usize = 128;
/// How long a thread looks for replies without sleeping, in nanoseconds, if few are on their way.
const SPIN_NS: u64 = 50_000;
const SPIN_REQUESTS_MAX: usize = 8;
/// A request that is due within this is waited for without sleeping: a sleep is not this exact. Nanoseconds.
const DUE_SOON_NS: u64 = 200_000;
/// The longest sleep, in nanoseconds: how late a stop may be heard.
const SLEEP_NS_MAX: u64 = 10_000_000;
/// How often replies that are too late are looked for, in nanoseconds.
const LATE_LOOK_NS: u64 = 100_000_000;
/// A failed connection is dialled again after this, doubled with each failure up to a limit. Nanoseconds.
const REDIAL_NS: u64 = 20_000_000;
const REDIAL_NS_MAX: u64 = 500_000_000;
/// How long a server's system may take to reset a connection that gets bytes after its close, in nanoseconds.
const RESET_NS: u64 = 5_000_000;
/// The server is gone when no connection has been alive for this long, in nanoseconds.
const GONE_NS: u64 = 2_000_000_000;
/// What was due and has no free connection is sent for this long after the end, in nanoseconds.
const UNSENT_NS: u64 = 1_000_000_000;
/// Before load begins a connection may fail this often in a row.
const FAILURES_MAX_AT_START: u32 = 5;

/// One thread's generator.
pub(super) struct Generator {
    plan: Arc<Plan>,
    control: Arc<Control>,
    reports: Sender<Report>,
    ring: Ring,
    /// The servers, where each connection is a process. They end when their sockets have been closed: after the ring.
    processes: Option<Processes>,
    clients: Vec<Client>,
    /// The client of each slot of the ring.
    by_slot: Vec<u32>,
    /// Dials so far, counted from a start of this thread's own.
    dials: u32,
    /// Connections to be dialled.
    to_dial: VecDeque<u32>,
    dialling: usize,
    /// Connections the server has closed while requests were on their way, and when to find out whether it read them.
    doubtful: VecDeque<(u32, SocketId, u64)>,
    ready: usize,
    /// Clients that have been ready at least once.
    greeted: usize,
    /// Room for requests: a client stands here once for each it could take.
    free: VecDeque<u32>,
    /// Since when there has been room without interruption, in nanoseconds of the run.
    free_since_ns: u64,
    /// Whether nothing was due and there was room when the schedule was last looked at.
    is_ahead: bool,
    /// Requests that were due before this time were late because the schedule was not looked at, whatever else
    /// delayed them; in nanoseconds of the run.
    late_until_ns: u64,
    schedule: Option<Peekable<Schedule<SmallRng>>>,
    /// Requests written so far, and the distance of their numbers: threads do not repeat each other's.
    number: u64,
    number_step: u64,
    weights: u32,
    random: SmallRng,
    initialize: Request,
    initialized: Vec<u8>,
    /// Requests handed to the ring since its last system call.
    unsubmitted: usize,
    awaited: usize,
    now_ns: u64,
    /// When load begins and measuring begins and ends, in nanoseconds of the run.
    start_ns: u64,
    window_ns: (u64, u64),
    /// Intervals not yet reported, by number.
    intervals: BTreeMap<i64, IntervalRecord>,
    interval_ns: u64,
    /// The interval of the clock.
    interval_index: i64,
    recording: Recording,
    volley_ns: Option<u64>,
    alive_ns: u64,
    late_look_ns: u64,
    work: Work,
    failure: Option<String>,
}

impl Generator {
    pub(super) fn new(
        plan: Arc<Plan>,
        index: usize,
        control: Arc<Control>,
        reports: Sender<Report>,
    ) -> io::Result<Self> {
        let threads = plan.cores.len();
        let connections = share(plan.connections, index, threads);
        // Far enough from the other threads' that a storm does not meet them soon.
        let dials = u32::try_from(index).unwrap_or(0).wrapping_mul(1_500_000);
        let large = plan.requests.iter().any(|request| request.length() > 8 * 1024);
        let (buffers, buffer_bytes) = if large { (256, 32 * 1024) } else { (1024, 2048) };
        let ring = Ring::new(RingConfig {
            sockets_max: connections.saturating_add(64),
            buffers,
            buffer_bytes,
            ..RingConfig::default()
        })?;
        let mut random = SmallRng::seed_from_u64(plan.seed.wrapping_add(index as u64));
        let schedule = match &plan.pacing {
            Pacing::Open(segments, gaps) => {
                let parts = threads as f64;
                let segments = segments.iter().map(|segment| {
                    let mut part = *segment;
                    part.from_per_s /= parts;
                    part.to_per_s /= parts;
                    part
                });
                let random = SmallRng::seed_from_u64(random.random());
                Some(Schedule::new(segments.collect(), *gaps, index as f64 / parts, random).peekable())
            }
            _ => None,
        };
        let initialize = Request::new(&plan.target, Era::Legacy, Ask::Initialize, 1, false)
            .map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self {
            control,
            reports,
            ring,
            processes: plan.target.program().map(|program| Processes::new(program, &plan.cores)),
            clients: (0..connections).map(|_| Client::default()).collect(),
            by_slot: Vec::new(),
            dials,
            to_dial: (0..connections).collect(),
            dialling: 0,
            doubtful: VecDeque::new(),
            ready: 0,
            greeted: 0,
            free: VecDeque::new(),
            free_since_ns: 0,
            is_ahead: false,
            late_until_ns: 0,
            schedule,
            number: index as u64,
            number_step: threads as u64,
            weights: plan.requests.iter().map(Request::weight).sum(),
            random,
            initialize,
            initialized: initialized(&plan.target),
            unsubmitted: 0,
            awaited: 0,
            now_ns: 0,
            start_ns: 0,
            window_ns: (u64::MAX, u64::MAX),
            intervals: BTreeMap::new(),
            interval_ns: nanoseconds(plan.interval).max(1),
            interval_index: i64::MIN,
            recording: Recording::new(plan.requests.len()),
            volley_ns: None,
            alive_ns: 0,
            late_look_ns: 0,
            work: Work::default(),
            failure: None,
            plan,
        })
    }

    /// Connects, says that it is ready, loads when told to, reports.
    pub(super) async fn run(mut self) -> io::Result<()> {
        let mut events = Vec::new();
        self.connect_all(&mut events)?;
        if let Some(failure) = self.failure.take() {
            let _ = self.reports.send(Report::Failed(failure));
            self.ring.shut_down().await;
            return Ok(());
        }
        let _ = self.reports.send(Report::Ready);
        while self.control.start_ns.load(Ordering::Acquire) == 0 {
            if self.is_stopped() {
                self.ring.shut_down().await;
                return Ok(());
            }
            self.turn(&mut events)?;
            self.ring.doze(Duration::from_millis(1))?;
        }
        self.begin();
        self.load(&mut events)?;
        self.finish();
        let _ = self.reports.send(Report::Done(Box::new(self.recording)));
        self.ring.shut_down().await;
        Ok(())
    }

    fn begin(&mut self) {
        self.start_ns = self.control.start_ns.load(Ordering::Acquire);
        let from = self.start_ns + nanoseconds(self.plan.warmup);
        self.window_ns = (from, from + nanoseconds(self.plan.duration));
        while self.clock() < self.start_ns {
            std::hint::spin_loop();
        }
        self.now_ns = self.clock();
        self.alive_ns = self.now_ns;
        self.late_look_ns = self.now_ns;
        self.free_since_ns = self.now_ns;
        let clients = u32::try_from(self.clients.len()).unwrap_or(u32::MAX);
        match self.plan.pacing {
            Pacing::Storm => {
                for client in 0..clients {
                    match self.clients.get(client as usize).and_then(|client| client.socket) {
                        // The one that was there already is not counted.
                        Some(socket) => self.end_client(client, socket),
                        None => self.to_dial.push_back(client),
                    }
                }
            }
            Pacing::Volley => self.fire_volley(),
            Pacing::Closed => {
                for client in 0..clients {
                    // One that is being connected again asks when it is ready.
                    if self.clients.get(client as usize).is_some_and(|client| client.stage == Stage::Ready) {
                        self.ask(client);
                    }
                }
            }
            Pacing::Open(..) => {}
        }
    }

    /// Until the measured time is over and its replies are in, or the server is gone.
    fn load(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        let mut worked_ns = self.now_ns;
        let mut ended = false;
        let (mut drain_until_ns, mut unsent_until_ns) = (u64::MAX, u64::MAX);
        loop {
            let before = self.clock();
            let worked = self.turn(events)?;
            let now = self.now_ns;
            self.mark_window(now);
            if !ended && (now >= self.window_ns.1 || self.is_stopped()) {
                ended = true;
                // What was sent at this very moment belongs to the measured time.
                self.window_ns.1 = self.window_ns.1.min(now + 1);
                self.work.end(now);
                drain_until_ns = now + nanoseconds(self.plan.timeout);
                unsent_until_ns = now + UNSENT_NS.min(nanoseconds(self.plan.timeout));
            }
            if ended && now >= unsent_until_ns {
                self.give_up_unsent();
            }
            if ended && (self.is_drained() || now >= drain_until_ns) {
                return Ok(());
            }
            if self.ready > 0 || self.plan.pacing == Pacing::Storm && self.recording.replies > 0 && worked {
                self.alive_ns = now;
            } else if now.saturating_sub(self.alive_ns) > GONE_NS && self.dialling == 0 && !ended {
                let gone_ns = self.alive_ns.saturating_sub(self.window_ns.0);
                self.window_ns.1 = self.alive_ns.max(self.window_ns.0 + 1);
                self.work.end(now);
                let _ = self.reports.send(Report::Gone(gone_ns));
                return Ok(());
            }
            if worked {
                worked_ns = now;
            } else if self.may_spin(now, worked_ns) {
                self.work.idle(self.clock() - before);
            } else {
                self.sleep()?;
                self.work.idle(self.clock() - before);
            }
        }
    }

    /// Reaps, judges, sends. Whether anything happened.
    fn turn(&mut self, events: &mut Vec<Event>) -> io::Result<bool> {
        self.ring.turn(events)?;
        self.unsubmitted = 0;
        self.now_ns = self.clock();
        let mut worked = !events.is_empty();
        for event in events.drain(..) {
            self.on_event(event);
            if self.unsubmitted >= SENDS_AT_ONCE {
                self.submit()?;
                self.send_due()?;
            }
        }
        worked |= self.send_due()?;
        while let Some(&(index, socket, due_ns)) = self.doubtful.front() {
            if due_ns > self.now_ns {
                break;
            }
            self.doubtful.pop_front();
            self.ask_after_end(index, socket);
        }
        self.dial_due();
        if self.now_ns.saturating_sub(self.late_look_ns) >= LATE_LOOK_NS {
            self.late_look_ns = self.now_ns;
            self.end_late();
        }
        self.roll_interval();
        Ok(worked)
    }

    fn submit(&mut self) -> io::Result<()> {
        self.unsubmitted = 0;
        self.ring.submit()
    }

    /// Sends what the schedule says should have been sent by now, as far as connections have room.
    fn send_due(&mut self) -> io::Result<bool> {
        if self.schedule.is_none() || self.start_ns == 0 {
            return Ok(false);
        }
        let mut sent = false;
        let mut now = self.clock();
        if std::mem::take(&mut self.is_ahead) {
            self.late_until_ns = now;
        }
        loop {
            let start = self.start_ns;
            let due = self.schedule.as_mut().and_then(|schedule| schedule.peek()).map(|due| due + start);
            let Some(intended) = due.filter(|due| *due <= now && *due < self.window_ns.1) else {
                self.is_ahead = !self.free.is_empty();
                return Ok(sent);
            };
            let Some(client) = self.take_free() else { return Ok(sent) };
            if let Some(schedule) = &mut self.schedule {
                schedule.next();
            }
            self.now_ns = now;
            if self.is_measured(intended) {
                let waited = now.saturating_sub(intended.max(self.free_since_ns));
                let unseen = self.late_until_ns.saturating_sub(intended);
                self.recording.lag.saturating_record(waited.max(unseen).max(1));
            }
            self.send_request(client, intended);
            sent = true;
            if self.unsubmitted >= SENDS_AT_ONCE {
                self.submit()?;
            }
            now = self.clock();
        }
    }

    /// A client with room for a request.
    fn take_free(&mut self) -> Option<u32> {
        while let Some(index) = self.free.pop_front() {
            let room = self.clients.get(index as usize).is_some_and(|client| {
                client.stage == Stage::Ready && client.awaited.len() < self.plan.pipeline as usize
            });
            if room {
                return Some(index);
            }
        }
        None
    }

    fn give_free(&mut self, index: u32) {
        if self.free.is_empty() {
            self.free_since_ns = self.clock();
        }
        self.free.push_back(index);
    }

    /// Writes one request of the mix and hands it to the ring.
    fn send_request(&mut self, index: u32, intended_ns: u64) {
        let kind = self.pick();
        let sent_ns = self.now_ns;
        self.awaited += 1;
        self.recording.requests += u64::from(self.is_measured(intended_ns));
        self.write_request(index, Again { kind, intended_ns, sent_ns, is_retry: false });
    }

    /// Writes a request, which is counted already, and hands it to the ring.
    fn write_request(&mut self, index: u32, again: Again) {
        let Again { kind, intended_ns, sent_ns, is_retry } = again;
        let Some(request) = self.plan.requests.get(kind) else { return };
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        let out = if client.is_sending { &mut client.queued } else { &mut client.out };
        let before = out.len();
        let sent = request.write(kind, self.number, client.session.as_deref(), &mut self.random, out);
        let written = out.len() - before;
        self.number += self.number_step;
        client.awaited.push_back(Awaited::Request { sent, intended_ns, sent_ns, is_retry });
        if self.is_measured(intended_ns) {
            self.recording.sent_bytes += written as u64;
        }
        self.flush(index);
    }

    fn pick(&mut self) -> usize {
        if self.plan.requests.len() == 1 {
            return 0;
        }
        let mut point = self.random.random_range(0..self.weights.max(1));
        for (kind, request) in self.plan.requests.iter().enumerate() {
            if point < request.weight() {
                return kind;
            }
            point -= request.weight();
        }
        0
    }

    /// Hands a client's buffer to the ring, unless it has one already.
    fn flush(&mut self, index: u32) {
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        let Some(socket) = client.socket.filter(|_| !client.is_sending && !client.out.is_empty()) else {
            return;
        };
        match self.ring.send(socket, std::mem::take(&mut client.out)) {
            Ok(()) => {
                client.is_sending = true;
                self.unsubmitted += 1;
            }
            // The connection is on its way out; its end will be told.
            Err(refused) => client.out = refused.0,
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Connected { token, socket } => self.on_connected(token as u32, socket),
            Event::ConnectFailed { token, error } => self.on_connect_failed(token as u32, &error),
            Event::Received { socket, buffer } => {
                if let Some(index) = self.client_of(socket) {
                    self.on_received(index, socket, buffer.bytes());
                }
            }
            Event::Sent { socket, mut buffer, outcome } => {
                let Some(index) = self.client_of(socket) else { return };
                let Some(client) = self.clients.get_mut(index as usize) else { return };
                client.is_sending = false;
                buffer.clear();
                // What was queued meanwhile goes next; the buffers change places.
                client.out = std::mem::replace(&mut client.queued, buffer);
                match (outcome, client.stage) {
                    (Err(_), _) => self.on_reset(index, socket, "the server reset the connection"),
                    (Ok(()), Stage::Ended { asked: true }) => self.on_read_and_closed(index, socket),
                    // Its system may need a moment to refuse what was sent last.
                    (Ok(()), Stage::Ended { asked: false }) => {
                        self.doubtful.push_back((index, socket, self.now_ns + RESET_NS));
                    }
                    (Ok(()), _) => self.flush(index),
                }
            }
            Event::PeerClosed { socket } => {
                if let Some(index) = self.client_of(socket) {
                    self.on_peer_closed(index, socket);
                }
            }
            Event::ReceiveFailed { socket, error } => {
                if let Some(index) = self.client_of(socket) {
                    self.on_reset(index, socket, &error.to_string());
                }
            }
            Event::Closed { socket } => {
                if let Some(index) = self.client_of(socket) {
                    self.on_closed(index);
                }
            }
            Event::SendProgressed { .. } | Event::Accepted { .. } | Event::AcceptFailed { .. } => {}
        }
    }

    fn on_received(&mut self, index: u32, socket: SocketId, bytes: &[u8]) {
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        if self.now_ns >= self.window_ns.0 && self.now_ns < self.window_ns.1 {
            self.recording.received_bytes += bytes.len() as u64;
        }
        let mut framer = std::mem::take(&mut client.framer);
        let received = framer.receive(bytes, &mut |part| self.on_part(index, &part));
        match self.clients.get_mut(index as usize).filter(|client| client.socket == Some(socket)) {
            Some(client) if client.stage != Stage::Closing => client.framer = framer,
            _ => return,
        }
        if let Err(broken) = received {
            self.fail(index, socket, "reply_broken", &broken.to_string());
        }
    }

    fn on_part(&mut self, index: u32, part: &Part<'_>) {
        let is_process = self.processes.is_some();
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        match part {
            Part::Message(head, body) => {
                if is_process && client.awaited.len() > 1 {
                    client.expect(Request::id_of(body));
                }
                let judged = match client.awaited.front() {
                    Some(Awaited::Initialize(sent)) => {
                        if head.is_stream && !Request::is_reply(body) {
                            return;
                        }
                        client.session.clone_from(&head.session);
                        self.initialize.check(sent, head.status, body)
                    }
                    Some(Awaited::Initialized) if (200..300).contains(&head.status) => Ok(()),
                    Some(Awaited::Initialized) => Err(Wrong::Status(head.status)),
                    Some(Awaited::Request { sent, .. } | Awaited::First(sent)) => {
                        if head.is_stream && !Request::is_reply(body) {
                            return;
                        }
                        let Some(request) = self.plan.requests.get(sent.kind) else { return };
                        let judged = request.check(sent, head.status, body);
                        if let Err(wrong) = judged
                            && self.recording.first_error.is_none()
                        {
                            let said = String::from_utf8_lossy(body.get(..300).unwrap_or(body)).into_owned();
                            self.recording.first_error = Some(format!("{wrong}: {said}"));
                        }
                        judged
                    }
                    None => Err(Wrong::Id),
                };
                client.judged = Some(judged);
            }
            Part::End(head) => {
                let judged = client.judged.take().unwrap_or(Err(Wrong::NoResult));
                let Some(awaited) = client.awaited.pop_front() else { return };
                let closes = head.closes;
                self.awaited -= 1;
                self.on_reply(index, awaited, judged, closes);
            }
        }
    }

    fn on_reply(&mut self, index: u32, awaited: Awaited, judged: Result<(), Wrong>, closes: bool) {
        let closes = closes || self.plan.closes_unannounced;
        if let Some(client) = self.clients.get_mut(index as usize) {
            client.replies += 1;
            client.failures = 0;
        }
        match awaited {
            Awaited::Initialize(_) | Awaited::Initialized | Awaited::First(_) if judged.is_err() => {
                let wrong = judged.err().unwrap_or(Wrong::NoResult);
                let said = self.recording.first_error.take().unwrap_or_else(|| wrong.to_string());
                let reason = format!("the first reply is wrong: {said}");
                if let Some(socket) = self.socket_of(index) {
                    self.fail(index, socket, "handshake_failed", &reason);
                }
            }
            Awaited::Initialize(_) => {
                if let Some(client) = self.clients.get_mut(index as usize) {
                    client.handshake = Handshake::Answered;
                }
                match self.socket_of(index).filter(|_| closes) {
                    Some(socket) => self.end_client(index, socket),
                    None => self.send_initialized(index),
                }
            }
            Awaited::Initialized | Awaited::First(_) => {
                if let Some(client) = self.clients.get_mut(index as usize) {
                    client.handshake = Handshake::Done;
                }
                match self.socket_of(index).filter(|_| closes) {
                    // It has shown that it answers; the next connection is ready at once.
                    Some(socket) => {
                        self.greet(index);
                        self.end_client(index, socket);
                    }
                    None => self.on_ready(index),
                }
            }
            Awaited::Request { sent, intended_ns, sent_ns, .. } => {
                self.record(sent.kind, intended_ns, sent_ns, judged);
                let Some(client) = self.clients.get_mut(index as usize) else { return };
                // A server that does not know the session wants a new one.
                let is_session_over = client.session.is_some() && judged == Err(Wrong::Status(404));
                if is_session_over {
                    client.end_session();
                }
                // Replies of a process are told apart by their ids alone.
                let is_astray = self.processes.is_some() && judged == Err(Wrong::Id);
                let ends = closes || is_session_over || is_astray;
                match client.socket.filter(|_| ends && self.plan.pacing != Pacing::Storm) {
                    Some(socket) => {
                        self.end_client(index, socket);
                        self.fire_volley();
                    }
                    None => self.on_room(index),
                }
            }
        }
    }

    fn send_initialized(&mut self, index: u32) {
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        let out = if client.is_sending { &mut client.queued } else { &mut client.out };
        Request::write_notification(&self.initialized, client.session.as_deref(), out);
        if self.processes.is_some() {
            // Only HTTP replies to a notification.
            client.handshake = Handshake::Done;
            self.flush(index);
            return self.on_ready(index);
        }
        client.awaited.push_back(Awaited::Initialized);
        self.awaited += 1;
        self.flush(index);
    }

    /// Fills a connection of a closed loop with requests.
    fn ask(&mut self, index: u32) {
        let taken = self.clients.get(index as usize).map_or(0, |client| client.awaited.len());
        for _ in taken..self.plan.pipeline as usize {
            self.send_request(index, self.now_ns);
        }
    }

    /// A reply has come: the next request may go.
    fn on_room(&mut self, index: u32) {
        match &self.plan.pacing {
            Pacing::Open(..) => self.give_free(index),
            Pacing::Closed if self.now_ns < self.window_ns.1 && !self.is_stopped() => {
                self.now_ns = self.now_ns.max(self.start_ns);
                self.send_request(index, self.now_ns);
            }
            Pacing::Volley => self.fire_volley(),
            Pacing::Storm => {
                let Some(client) = self.clients.get_mut(index as usize) else { return };
                client.end_session();
                if let Some(socket) = client.socket {
                    self.end_client(index, socket);
                }
            }
            Pacing::Closed => {}
        }
    }

    /// When no reply is out, a round is complete; the next begins once all connections are there that can be had.
    fn fire_volley(&mut self) {
        if self.awaited > 0 || self.start_ns == 0 || self.plan.pacing != Pacing::Volley {
            return;
        }
        let now = self.clock();
        if let Some(fired) = self.volley_ns.take().filter(|fired| self.is_measured(*fired)) {
            self.recording.makespan.saturating_record(now.saturating_sub(fired).max(1));
        }
        let is_settled = |client: &Client| matches!(client.stage, Stage::Ready | Stage::Waiting { .. });
        let is_over = now >= self.window_ns.1 || self.is_stopped();
        if is_over || self.ready == 0 || !self.clients.iter().all(is_settled) {
            return;
        }
        self.now_ns = now;
        self.volley_ns = Some(now);
        for index in 0..u32::try_from(self.clients.len()).unwrap_or(u32::MAX) {
            if self.clients.get(index as usize).is_some_and(|client| client.stage == Stage::Ready) {
                self.send_request(index, now);
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.control.stop.load(Ordering::Relaxed)
    }

    /// Nothing is awaited, and nothing is due that waits for a free connection.
    fn is_drained(&mut self) -> bool {
        let (start, end) = (self.start_ns, self.window_ns.1);
        let due = self.schedule.as_mut().and_then(|schedule| schedule.peek());
        self.awaited == 0 && due.is_none_or(|due| due + start >= end)
    }

    /// Whether to look again at once rather than sleep.
    fn may_spin(&mut self, now: u64, worked_ns: u64) -> bool {
        if !self.plan.spin {
            return false;
        }
        let start = self.start_ns;
        match self.schedule.as_mut().map(|schedule| schedule.peek().map(|due| due + start)) {
            Some(Some(due)) => due < now + DUE_SOON_NS && !self.free.is_empty() || now - worked_ns < SPIN_NS,
            Some(None) => false,
            None => self.awaited <= SPIN_REQUESTS_MAX && now - worked_ns < SPIN_NS,
        }
    }

    fn sleep(&mut self) -> io::Result<()> {
        let start = self.start_ns;
        let mut limit = SLEEP_NS_MAX;
        if !self.free.is_empty()
            && let Some(due) = self.schedule.as_mut().and_then(|schedule| schedule.peek())
        {
            let margin = if self.plan.spin { DUE_SOON_NS / 2 } else { 0 };
            limit = limit.min((due + start).saturating_sub(self.clock() + margin));
        }
        if limit == 0 {
            return Ok(());
        }
        self.ring.doze(Duration::from_nanos(limit))
    }

    fn clock(&self) -> u64 {
        nanoseconds(self.control.epoch.elapsed())
    }
}
