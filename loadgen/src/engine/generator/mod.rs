//! The turn loop of a generator thread.
//!
//! A turn reaps completions, checks replies and sends what is due. The receive time is taken once per batch, the send
//! time when a request is passed to the ring; at most [`SENDS_PER_SUBMIT`] requests share a system call, so that the
//! recorded send time is close to the actual one.

mod connecting;
mod pacing;
mod sending;
mod receiving;
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
    busy_time::BusyTime,
    client::{Client, ConnectionState},
    nanoseconds,
    recording::{IntervalRecord, Recording},
    report::{ThreadControl, ThreadReport},
    share,
};
use crate::{
    request::{Era, Operation, Request, initialized},
    schedule::Schedule,
    stdio::Processes,
};

/// Maximum number of requests per system call.
const SENDS_PER_SUBMIT: usize = 16;
/// How long a thread spins for replies if few requests are in flight, in nanoseconds.
const SPIN_NS: u64 = 50_000;
const SPIN_REQUESTS_MAX: usize = 8;
/// A thread spins instead of sleeping if a request is due within this time, because sleeping is less exact.
/// Nanoseconds.
const DUE_SOON_NS: u64 = 200_000;
/// Maximum sleep in nanoseconds: the delay until a stop is detected.
const SLEEP_NS_MAX: u64 = 10_000_000;
/// Interval of the check for timed-out replies, in nanoseconds.
const TIMEOUT_CHECK_NS: u64 = 100_000_000;
/// The server is gone if no connection has been alive for this long, in nanoseconds.
const GONE_NS: u64 = 2_000_000_000;
/// How long after the end requests that were due may still be sent, in nanoseconds.
const UNSENT_GRACE_NS: u64 = 1_000_000_000;

/// The generator of one thread.
pub(super) struct Generator {
    plan: Arc<Plan>,
    control: Arc<ThreadControl>,
    reports: Sender<ThreadReport>,
    ring: Ring,
    /// The server processes, if each connection is a process. They exit after their sockets are closed, so they are
    /// dropped after the ring.
    processes: Option<Processes>,
    clients: Vec<Client>,
    /// Client index by ring slot.
    by_slot: Vec<u32>,
    /// Number of connects so far, plus an offset per thread.
    connects: u32,
    /// Clients to connect.
    to_connect: VecDeque<u32>,
    connecting: usize,
    /// Connections that the server closed while requests were in flight, with the time at which to probe whether it
    /// read them.
    peer_closed: VecDeque<(u32, SocketId, u64)>,
    ready: usize,
    /// Number of clients that have been ready at least once.
    ready_once: usize,
    /// Free request slots: a client is listed once for each request that it can take.
    free: VecDeque<u32>,
    /// Start of the current period in which a slot was free, in nanoseconds of the run.
    free_since_ns: u64,
    /// Whether nothing was due and a slot was free at the last check of the schedule.
    is_ahead: bool,
    /// Requests that were due before this time were late because the schedule was not checked, regardless of other
    /// delays; in nanoseconds of the run.
    late_until_ns: u64,
    schedule: Option<Peekable<Schedule<SmallRng>>>,
    /// Sequence number of the next request, and its increment, so that threads use different numbers.
    sequence: u64,
    sequence_step: u64,
    weights: u32,
    random: SmallRng,
    initialize: Request,
    initialized: Vec<u8>,
    /// Requests passed to the ring since its last system call.
    unsubmitted: usize,
    in_flight: usize,
    now_ns: u64,
    /// Start of the load, and start and end of the measured time, in nanoseconds of the run.
    start_ns: u64,
    window_ns: (u64, u64),
    /// Intervals that have not been reported, by index.
    intervals: BTreeMap<i64, IntervalRecord>,
    interval_ns: u64,
    /// Index of the interval that contains the current time.
    interval_index: i64,
    recording: Recording,
    volley_ns: Option<u64>,
    alive_ns: u64,
    timeouts_checked_ns: u64,
    busy_time: BusyTime,
    failure: Option<String>,
}

impl Generator {
    pub(super) fn new(
        plan: Arc<Plan>,
        index: usize,
        control: Arc<ThreadControl>,
        reports: Sender<ThreadReport>,
    ) -> io::Result<Self> {
        let threads = plan.cores.len();
        let connections = share(plan.connections, index, threads);
        // The distance between threads is so large that their ports do not collide soon.
        let connects = u32::try_from(index).unwrap_or(0).wrapping_mul(1_500_000);
        let large = plan.requests.iter().any(|request| request.length() > 8 * 1024);
        let (buffers, buffer_bytes) = if large { (256, 32 * 1024) } else { (1024, 2048) };
        let ring = Ring::new(RingConfig {
            sockets_max: connections.saturating_add(64),
            buffers,
            buffer_bytes,
            ..RingConfig::default()
        })?;
        let mut random = SmallRng::seed_from_u64(plan.seed.wrapping_add(index as u64));
        let schedule = schedule(&plan, index, &mut random);
        let initialize = Request::new(&plan.target, Era::Legacy, Operation::Initialize, 1, false)
            .map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self {
            control,
            reports,
            ring,
            processes: plan.target.program().map(|program| Processes::new(program, &plan.cores)),
            clients: (0..connections).map(|_| Client::default()).collect(),
            by_slot: Vec::new(),
            connects,
            to_connect: (0..connections).collect(),
            connecting: 0,
            peer_closed: VecDeque::new(),
            ready: 0,
            ready_once: 0,
            free: VecDeque::new(),
            free_since_ns: 0,
            is_ahead: false,
            late_until_ns: 0,
            schedule,
            sequence: index as u64,
            sequence_step: threads as u64,
            weights: plan.requests.iter().map(Request::weight).sum(),
            random,
            initialize,
            initialized: initialized(&plan.target),
            unsubmitted: 0,
            in_flight: 0,
            now_ns: 0,
            start_ns: 0,
            window_ns: (u64::MAX, u64::MAX),
            intervals: BTreeMap::new(),
            interval_ns: nanoseconds(plan.interval).max(1),
            interval_index: i64::MIN,
            recording: Recording::new(plan.requests.len()),
            volley_ns: None,
            alive_ns: 0,
            timeouts_checked_ns: 0,
            busy_time: BusyTime::default(),
            failure: None,
            plan,
        })
    }

    /// Connects, reports that the thread is ready, runs the load, reports the result.
    pub(super) async fn run(mut self) -> io::Result<()> {
        let mut events = Vec::new();
        self.connect_all(&mut events)?;
        if let Some(failure) = self.failure.take() {
            let _ = self.reports.send(ThreadReport::Failed(failure));
            self.ring.shut_down().await;
            return Ok(());
        }
        let _ = self.reports.send(ThreadReport::Ready);
        while self.control.start_ns.load(Ordering::Acquire) == 0 {
            if self.is_stopped() {
                self.ring.shut_down().await;
                return Ok(());
            }
            self.turn(&mut events)?;
            self.ring.wait_briefly(Duration::from_millis(1))?;
        }
        self.begin();
        self.load(&mut events)?;
        self.finish();
        let _ = self.reports.send(ThreadReport::Done(Box::new(self.recording)));
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
        self.timeouts_checked_ns = self.now_ns;
        self.free_since_ns = self.now_ns;
        let clients = u32::try_from(self.clients.len()).unwrap_or(u32::MAX);
        match self.plan.pacing {
            Pacing::Storm => {
                for client in 0..clients {
                    match self.clients.get(client as usize).and_then(|client| client.socket) {
                        // The connection that verified the server is not counted.
                        Some(socket) => self.close_connection(client, socket),
                        None => self.to_connect.push_back(client),
                    }
                }
            }
            Pacing::Volley => self.start_volley(),
            Pacing::Closed => {
                for client in 0..clients {
                    // A client that is reconnecting sends its requests when it is ready.
                    if self
                        .clients
                        .get(client as usize)
                        .is_some_and(|client| client.state == ConnectionState::Ready)
                    {
                        self.fill_pipeline(client);
                    }
                }
            }
            Pacing::Open(..) => {}
        }
    }

    /// Runs until the measured time is over and its replies have arrived, or the server is gone.
    fn load(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        let mut worked_ns = self.now_ns;
        let mut ended = false;
        let (mut drain_deadline_ns, mut unsent_deadline_ns) = (u64::MAX, u64::MAX);
        loop {
            let before = self.clock();
            let worked = self.turn(events)?;
            let now = self.now_ns;
            self.begin_measuring(now);
            if !ended && (now >= self.window_ns.1 || self.is_stopped()) {
                ended = true;
                // Requests sent in this nanosecond belong to the measured time.
                self.window_ns.1 = self.window_ns.1.min(now + 1);
                self.busy_time.end(now);
                drain_deadline_ns = now + nanoseconds(self.plan.timeout);
                unsent_deadline_ns = now + UNSENT_GRACE_NS.min(nanoseconds(self.plan.timeout));
            }
            if ended && now >= unsent_deadline_ns {
                self.fail_unsent();
            }
            if ended && (self.is_drained() || now >= drain_deadline_ns) {
                return Ok(());
            }
            if self.ready > 0 || self.plan.pacing == Pacing::Storm && self.recording.replies > 0 && worked {
                self.alive_ns = now;
            } else if now.saturating_sub(self.alive_ns) > GONE_NS && self.connecting == 0 && !ended {
                let gone_ns = self.alive_ns.saturating_sub(self.window_ns.0);
                self.window_ns.1 = self.alive_ns.max(self.window_ns.0 + 1);
                self.busy_time.end(now);
                let _ = self.reports.send(ThreadReport::Gone(gone_ns));
                return Ok(());
            }
            if worked {
                worked_ns = now;
            } else if self.may_spin(now, worked_ns) {
                self.busy_time.add_idle(self.clock() - before);
            } else {
                self.sleep()?;
                self.busy_time.add_idle(self.clock() - before);
            }
        }
    }

    /// Reaps completions, checks replies, sends what is due. Returns whether there was anything to do.
    fn turn(&mut self, events: &mut Vec<Event>) -> io::Result<bool> {
        self.ring.turn(events)?;
        self.unsubmitted = 0;
        self.now_ns = self.clock();
        let mut worked = !events.is_empty();
        for event in events.drain(..) {
            self.on_event(event);
            if self.unsubmitted >= SENDS_PER_SUBMIT {
                self.submit()?;
                self.send_due()?;
            }
        }
        worked |= self.send_due()?;
        while let Some(&(index, socket, due_ns)) = self.peer_closed.front() {
            if due_ns > self.now_ns {
                break;
            }
            self.peer_closed.pop_front();
            self.probe_peer_closed(index, socket);
        }
        self.connect_due();
        if self.now_ns.saturating_sub(self.timeouts_checked_ns) >= TIMEOUT_CHECK_NS {
            self.timeouts_checked_ns = self.now_ns;
            self.close_timed_out();
        }
        self.roll_interval();
        Ok(worked)
    }

    fn is_stopped(&self) -> bool {
        self.control.stop.load(Ordering::Relaxed)
    }

    /// Whether no request is in flight, and none that was due waits for a free connection.
    fn is_drained(&mut self) -> bool {
        let (start, end) = (self.start_ns, self.window_ns.1);
        let due = self.schedule.as_mut().and_then(|schedule| schedule.peek());
        self.in_flight == 0 && due.is_none_or(|due| due + start >= end)
    }

    /// Whether to poll again instead of sleeping.
    fn may_spin(&mut self, now: u64, worked_ns: u64) -> bool {
        if !self.plan.spin {
            return false;
        }
        let start = self.start_ns;
        match self.schedule.as_mut().map(|schedule| schedule.peek().map(|due| due + start)) {
            Some(Some(due)) => due < now + DUE_SOON_NS && !self.free.is_empty() || now - worked_ns < SPIN_NS,
            Some(None) => false,
            None => self.in_flight <= SPIN_REQUESTS_MAX && now - worked_ns < SPIN_NS,
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
        self.ring.wait_briefly(Duration::from_nanos(limit))
    }

    fn clock(&self) -> u64 {
        nanoseconds(self.control.epoch.elapsed())
    }
}

/// One thread's share of the schedule of an open loop; `None` for the other pacings.
fn schedule(plan: &Plan, index: usize, random: &mut SmallRng) -> Option<Peekable<Schedule<SmallRng>>> {
    let Pacing::Open(segments, gaps) = &plan.pacing else { return None };
    let parts = plan.cores.len() as f64;
    let segments = segments.iter().map(|segment| {
        let mut part = *segment;
        part.from_per_s /= parts;
        part.to_per_s /= parts;
        part
    });
    let random = SmallRng::seed_from_u64(random.random());
    Some(Schedule::new(segments.collect(), *gaps, index as f64 / parts, random).peekable())
}
