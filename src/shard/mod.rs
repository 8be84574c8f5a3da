//! A shard: the ring, the connections and the turn loop of one core.

mod accept;
mod balance;
mod close;
mod commands;
mod deliver;
mod execute;
mod flag_control;
mod hand_over;
mod handle;
mod inspect;
mod inspections;
mod leftovers;
mod mailbox;
mod memory;
mod proxy_header;
mod receive;
mod remains;
mod send;
mod slow_send;
mod snapshot_swap;
mod sources;
mod spare;
mod turn;

use std::{
    any::Any,
    collections::{HashMap, VecDeque},
    io,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use corelane_ring::{Event, ListenerId, Ring, SocketId};
use crossbeam_channel::Sender;
use glommio::timer::Timer;

use balance::Balancer;
pub use balance::ShardLoads;
pub use flag_control::FlagControl;
pub use handle::ShardHandle;
pub use remains::Remains;
pub use snapshot_swap::{Served, SnapshotSwap};
pub use sources::Sources;

use inspections::Inspections;
use leftovers::Leftovers;
use slow_send::SlowSend;
use spare::SpareBuffers;

use crate::{
    config::{Limits, Transport},
    connection::{Census, Connection, Pipeline},
    delivery::DeliveryQueue,
    dispatch::{Dispatcher, EventBudget},
    runtime::{Timers, instant_after},
    session::SubscriberKey,
    telemetry::{
        log::panic_message,
        metrics::{ShardMetrics, ShardReport},
        turn_status::TurnStatus,
    },
};

/// Maximum time that a shard sleeps in its ring before it computes its next deadline, and before it parks in its executor.
const BRIEF_WAIT: Duration = Duration::from_micros(500);

/// While calls are in flight the executor polls its timers and its I/O this often, however busy the shard is. By itself
/// it would poll them only when its preemption timer fires, which takes seconds.
const EXECUTOR_TURN: Duration = Duration::from_millis(1);

/// The same interval while no call is in flight: a task that a handler has detached may be alive.
const EXECUTOR_TURN_IDLE: Duration = Duration::from_millis(100);

/// The shortest sleep until a deadline.
const ALARM_MIN: Duration = Duration::from_millis(1);

/// Bytes of replies of calls encoded in one turn, after which the events that are left are handled in the next.
const DELIVERED_BYTES_PER_TURN: usize = 1024 * 1024;

/// A turn that begins so much later than it could have begins after a stall: the thread or the machine was stopped, or a
/// handler held the shard.
const STALL_MIN: Duration = Duration::from_secs(1);

/// Completions that a turn counts at least against the backlog of the deadlines.
const BACKLOG_STEP: usize = 16;

/// A shard.
pub struct Shard {
    ring: Ring,
    pipeline: Pipeline,
    handle: ShardHandle,
    limits: Limits,
    /// Time that the shard polls for work before it sleeps.
    spin: Duration,
    listeners: Vec<ListenerId>,
    /// The transport of each listener's connections.
    transports: Vec<Transport>,
    /// Whether the shard serves one adopted connection, and ends with it.
    adopts: bool,
    connections: Vec<Option<Connection>>,
    connections_max: usize,
    /// Connections in the table.
    live: usize,
    balancer: Balancer,
    is_accepting: bool,
    accept_retry_at: Option<Instant>,
    timers: Timers,
    /// First parts of PROXY protocol headers.
    proxy_headers: HashMap<SocketId, Vec<u8>>,
    /// Sends that did not complete before their first check.
    slow_sends: HashMap<SocketId, SlowSend>,
    /// Connections to flush at the end of the turn.
    dirty: Vec<SocketId>,
    spare: SpareBuffers,
    /// When memory that is kept for reuse is checked next.
    spare_check_at: Instant,
    /// The deliveries that are being drained. Draining fills the dispatcher's queue, not this one.
    delivering: DeliveryQueue,
    /// Connections whose reply is complete and that read their next request.
    to_resume: VecDeque<SocketId>,
    /// Connections with input that earlier turns had no time for.
    leftovers: Leftovers,
    /// Subscribers whose connections have closed, and whose subscriptions earlier turns had no time to remove.
    departed: VecDeque<SubscriberKey>,
    now: Instant,
    /// When the last turn began, if it had no work.
    spins_since: Option<Instant>,
    /// Time by which the next turn should begin.
    awake_by: Instant,
    /// Completions after which deadlines are checked although more are ready; `None` while everything ready was handled.
    backlog: Option<usize>,
    drain_until: Option<Instant>,
    /// Whether the time limit of the drain has passed, and its calls were answered with an error; `drain_until` is then the end of
    /// the time to send these answers.
    has_abandoned: bool,
    /// When a drain closes the listeners, if it has not.
    listen_until: Option<Instant>,
    /// Time at which the executor last polled its timers.
    executor_turn: Instant,
    /// Whether messages of other shards, or connections to count, are left from the last turn.
    has_more: bool,
    /// The count of connections by state for the next report.
    census: Census,
    /// Recipients of that report; at most `REPORTS_MAX`.
    reports_due: Vec<Sender<ShardReport>>,
    /// Inspections for the control socket that are under way.
    inspections: Inspections,
    /// The connection whose input or delivery is being handled.
    handling: Option<SocketId>,
}

impl Shard {
    /// A shard on the calling thread's ring. `sockets_max` is the size of the ring's table.
    #[must_use]
    pub fn new(
        mut ring: Ring,
        mut pipeline: Pipeline,
        handle: ShardHandle,
        mut sources: Sources,
        limits: Limits,
        spin: Duration,
        sockets_max: u32,
    ) -> Self {
        let now = Instant::now();
        let table = sockets_max.saturating_sub(limits.connections_reserve);
        let adopts = sources.adopted.is_some();
        pipeline.set_turn_status(Arc::clone(handle.turn()));
        let balancer = Balancer::new(sources.loads.take(), &handle, &mut ring, now);
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
            // Reserves address space for the size of the ring's table; memory is allocated page by page.
            connections: Vec::with_capacity(sockets_max as usize),
            connections_max: table.min(limits.connections_max).max(1) as usize,
            live: 0,
            balancer,
            is_accepting: true,
            accept_retry_at: None,
            timers: Timers::new(now, sockets_max as usize),
            proxy_headers: HashMap::new(),
            slow_sends: HashMap::new(),
            dirty: Vec::new(),
            spare: SpareBuffers::default(),
            spare_check_at: now,
            delivering: DeliveryQueue::default(),
            to_resume: VecDeque::new(),
            leftovers: Leftovers::default(),
            departed: VecDeque::new(),
            now,
            spins_since: None,
            awake_by: now,
            backlog: None,
            drain_until: None,
            has_abandoned: false,
            listen_until: None,
            executor_turn: now,
            has_more: false,
            census: Census::default(),
            reports_due: Vec::new(),
            inspections: Inspections::default(),
            handling: None,
        }
    }

    /// Runs the shard until a drain has ended.
    ///
    /// # Errors
    /// If the ring fails.
    pub async fn run(&mut self) -> io::Result<()> {
        let mut events = Vec::new();
        let mut due = Vec::new();
        let mut last_work = Instant::now();
        let _end_turn = EndTurn(Arc::clone(self.handle.turn()));
        loop {
            self.ring.turn(&mut events)?;
            let worked = self.turn(&mut events, &mut due);
            if self.is_drained() {
                break;
            }
            if worked {
                last_work = self.now;
            } else if self.now.saturating_duration_since(last_work) >= self.spin {
                let asleep_since = Instant::now();
                self.end_spin(asleep_since);
                self.sleep().await?;
                last_work = Instant::now();
                let slept = last_work.saturating_duration_since(asleep_since);
                // The executor polls tasks meanwhile.
                let polled = self.dispatcher().take_polled();
                self.pipeline.metrics().add_sleep(slept.saturating_sub(polled));
            }
            let every = if self.dispatcher().calls.len() > 0 { EXECUTOR_TURN } else { EXECUTOR_TURN_IDLE };
            if self.now.saturating_duration_since(self.executor_turn) >= every {
                self.executor_turn = self.now;
                // With no task left to run, the executor polls its rings and its timers until this one is due.
                Timer::new(Duration::from_micros(1)).await;
            } else {
                futures_lite::future::yield_now().await;
            }
        }
        self.abandon_calls();
        Ok(())
    }

    /// Closes the ring of a shard that has drained. Returns the metrics.
    pub async fn finish(mut self) -> ShardMetrics {
        let metrics = self.take_metrics();
        self.ring.shut_down().await;
        metrics
    }

    fn take_metrics(&mut self) -> ShardMetrics {
        let resumed = self.handle.take_executor_resumed();
        self.dispatcher().collect_counts();
        let metrics = self.pipeline.metrics();
        (0..resumed).for_each(|_| metrics.event("executor_resumed"));
        std::mem::replace(metrics, ShardMetrics::new([]))
    }

    /// Runs one turn: handles events of the ring, of calls and of other threads, and due timers; then flushes. Returns whether
    /// there was work.
    fn turn(&mut self, events: &mut Vec<Event>, due: &mut Vec<usize>) -> bool {
        let now = Instant::now();
        if now.saturating_duration_since(self.awake_by) >= STALL_MIN {
            self.on_stall(now.saturating_duration_since(self.now));
        }
        self.end_spin(now);
        (self.now, self.awake_by) = (now, now);
        self.handle.turn().begin(now);
        self.pipeline.begin_turn(self.now, SystemTime::now());
        let mut worked = self.handle_input(events);
        let (has_call_events, took_all) = self.take_call_events();
        worked |= has_call_events;
        worked |= self.take_commands();
        let is_current = self.is_current(took_all);
        if is_current {
            self.timers.expire(self.now, due);
        }
        for index in due.drain(..) {
            let socket = self.connections.get(index).and_then(Option::as_ref);
            let socket = socket.map(|connection| connection.socket);
            self.guarded(socket, |shard| shard.on_timer(index));
        }
        self.dispatcher().expire(is_current);
        self.end_drain();
        self.close_listeners();
        self.retry_accept();
        if self.now >= self.spare_check_at {
            self.free_unused_memory();
        }
        loop {
            self.drain_deliveries();
            worked |= self.flush();
            // A connection whose outbox was empty has read its next request.
            if self.dispatcher().state.deliveries.is_empty() {
                break;
            }
        }
        worked |= !self.leftovers.is_empty() || !self.departed.is_empty();
        if worked {
            let took = self.pipeline.end_turn(self.limits.turn_slow);
            self.balancer.end_turn(self.now, took);
            self.move_candidate();
        } else {
            self.spins_since = Some(now);
        }
        self.handle.turn().end();
        worked
    }

    /// Counts the time since the last turn, if that had no work, without that of tasks.
    fn end_spin(&mut self, now: Instant) {
        let polled = self.dispatcher().take_polled();
        if let Some(since) = self.spins_since.take() {
            self.pipeline.metrics().add_spin(now.saturating_duration_since(since).saturating_sub(polled));
        }
    }

    /// Sleeps until there is work: blocked in the ring, one system call, which stops the executor's tasks too. While tasks
    /// may be alive the shard parks in its executor instead; first briefly in the ring, if no call is in flight.
    async fn sleep(&mut self) -> io::Result<()> {
        let completions = self.dispatcher().completions();
        let commands = Arc::clone(&self.handle.commands);
        let has_tasks = self.dispatcher().may_have_tasks();
        let is_ready = || commands.is_signalled() || completions.has_any();
        if !has_tasks || self.dispatcher().calls.len() == 0 {
            self.ring.wait(Some(BRIEF_WAIT), is_ready)?;
            if self.ring.has_completions() || is_ready() {
                return Ok(());
            }
        }
        let alarms = [
            self.timers.next(),
            self.dispatcher().calls.next_deadline(),
            self.accept_retry_at,
            self.drain_until,
            self.listen_until,
            self.has_spare_memory().then_some(self.spare_check_at),
        ];
        let until = alarms.into_iter().flatten().min();
        self.awake_by = until.unwrap_or_else(|| instant_after(self.now, Duration::MAX));
        if has_tasks {
            return self
                .ring
                .park(until, |context| commands.is_signalled() || completions.is_ready(context))
                .await;
        }
        let limit = until.map(|until| until.saturating_duration_since(Instant::now()).max(ALARM_MIN));
        self.ring.wait(limit, is_ready)
    }

    /// Runs `work` for one connection. A panic drops that connection and its calls; without a connection it ends
    /// the shard, which is restarted. Returns whether `work` returned.
    fn guarded(&mut self, socket: Option<SocketId>, work: impl FnOnce(&mut Self)) -> bool {
        let outer = std::mem::replace(&mut self.handling, socket);
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| work(self)));
        let has_returned = result.is_ok();
        if let Err(panic) = result {
            let Some(socket) = self.handling else { std::panic::resume_unwind(panic) };
            self.drop_panicked(socket, &*panic);
        }
        self.handling = outer;
        has_returned
    }

    #[cold]
    fn drop_panicked(&mut self, socket: SocketId, panic: &(dyn Any + Send)) {
        let dispatcher = self.dispatcher();
        dispatcher.observer.panicked(panic_message(panic));
        for ticket in dispatcher.calls.of_socket(socket) {
            dispatcher.calls.cancel_or_free(ticket);
        }
        self.pipeline.reset_flags();
        self.close(socket);
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Received { socket, mut buffer } => {
                let length = buffer.len();
                self.pipeline.metrics().receive(length);
                self.on_received(socket, buffer.padded_mut(), length);
            }
            Event::Sent { socket, buffer, outcome } => self.on_sent(socket, buffer, &outcome),
            Event::Acknowledged { socket, sent, unacknowledged } => {
                self.on_acknowledged(socket, sent, unacknowledged);
            }
            Event::Accepted { socket, listener, arrival, peer } => {
                self.on_arrival(socket, listener, arrival, peer);
            }
            Event::Connected { socket, .. } => self.on_connected(socket),
            Event::PeerClosed { socket } => self.on_peer_closed(socket),
            Event::ReceiveFailed { socket, error } => self.on_socket_failed(socket, &error),
            Event::HandedOver { socket } => self.on_handed_over(socket),
            Event::HandOverFailed { socket } => self.on_hand_over_failed(socket),
            Event::Closed { .. } => self.resume_accept(),
            Event::ConnectFailed { .. } => {
                self.dispatcher().observer.limited("adopt_failed");
                self.begin_drain();
            }
            Event::AcceptFailed { error, .. } => self.on_accept_failed(&error),
        }
    }

    /// Handles events of calls. Returns whether there were any, and whether all were handled.
    fn take_call_events(&mut self) -> (bool, bool) {
        let mut budget = None;
        // Bounded, because an event may start the next call, which queues further events. The ends of cancelled calls do not count: a
        // client that leaves queues thousands at once, and the ends of other calls are behind them.
        loop {
            let Some(event) = self.dispatcher().next_event() else { return (budget.is_some(), true) };
            // A large result takes milliseconds. The time is not that of the input, so that neither waits for the other.
            let budget =
                budget.get_or_insert_with(|| EventBudget::new(self.limits.turn_budget, Instant::now()));
            let work = self.dispatcher().on_call_event(event);
            // Counted as memory of connections once they are drained.
            let delivered = self.dispatcher().state.deliveries.buffered_bytes();
            if budget.charge(work) || delivered >= DELIVERED_BYTES_PER_TURN {
                break;
            }
        }
        (true, false)
    }

    /// Whether deadlines may be checked in this turn: no input or event that arrived in time is still to be handled. Under
    /// permanent load they are checked once every operation could have completed since the last check.
    fn is_current(&mut self, took_all_events: bool) -> bool {
        if self.ring.has_reaped_all() && took_all_events && !self.has_more && self.leftovers.is_empty() {
            self.backlog = None;
            return true;
        }
        let left = self.backlog.unwrap_or_else(|| 2 * self.ring.operations());
        let left = left.saturating_sub(self.ring.last_batch().max(BACKLOG_STEP));
        self.backlog = (left > 0).then_some(left);
        left == 0
    }

    /// Extends all deadlines by a time in which neither input nor the end of a call could be observed.
    #[cold]
    fn on_stall(&mut self, unobserved: Duration) {
        self.timers.postpone(unobserved);
        self.slow_sends.values_mut().for_each(|send| send.postpone(unobserved));
        self.drain_until = self.drain_until.map(|until| instant_after(until, unobserved));
        let dispatcher = self.dispatcher();
        dispatcher.calls.postpone(unobserved);
        dispatcher.observer.stalled(unobserved);
    }

    fn dispatcher(&mut self) -> &mut Dispatcher {
        &mut self.pipeline.dispatcher
    }

    /// Lists a connection for flushing.
    fn mark(&mut self, socket: SocketId) {
        self.count_memory(socket);
        if let Some(connection) = connection_of(&mut self.connections, socket)
            && !connection.is_dirty
        {
            connection.is_dirty = true;
            self.dirty.push(socket);
        }
    }
}

/// Ends the turn of a shard that ends or fails, when dropped.
struct EndTurn(Arc<TurnStatus>);

impl Drop for EndTurn {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn connection_of(connections: &mut [Option<Connection>], socket: SocketId) -> Option<&mut Connection> {
    connections.get_mut(socket.index())?.as_mut().filter(|connection| connection.socket == socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An idle connection has one entry in each of the three tables that are indexed by slot, and nothing else. The tables never move:
    /// their address space is reserved for all connections at the start, so no part of them is unused capacity.
    #[test]
    fn idle_connection_occupies_at_most_164_bytes() {
        let tables = [Ring::SOCKET_BYTES, size_of::<Option<Connection>>(), Timers::ENTRY_BYTES];
        assert!(tables.iter().sum::<usize>() <= 164, "{tables:?}");
    }
}
