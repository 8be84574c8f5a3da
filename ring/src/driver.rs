//! The ring itself: submits in batches, reaps in batches, and turns completions into events.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    os::fd::AsRawFd,
    ptr,
    rc::Rc,
    task::Poll,
    time::{Duration, Instant},
};

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use super::{
    buffers::{BUFFER_GROUP, BufferPool, PADDING_BYTES, ReceivedBuffer},
    dial::Dials,
    listener::Listener,
    operation::{Kind, Tag},
    park::{Parker, Waker},
    slots::{InFlight, ListenerId, Receive, Refused, SlotTable, SocketId, Tenancy},
};

/// Sizes of a ring. All of them are fixed once it is built.
#[derive(Clone, Copy, Debug)]
pub struct RingConfig {
    /// Direct descriptors: the most sockets this ring can hold. At most the soft `RLIMIT_NOFILE`.
    pub sockets_max: u32,
    /// Entries of the submission queue; what does not fit waits on this side.
    pub submission_entries: u32,
    /// Entries of the completion queue; the kernel keeps what does not fit and posts it later.
    pub completion_entries: u32,
    /// Provided buffers, a power of two.
    pub buffers: u16,
    /// Size of a provided buffer in bytes, padding included.
    pub buffer_bytes: usize,
}

impl Default for RingConfig {
    fn default() -> Self {
        Self {
            sockets_max: 1024,
            submission_entries: 4096,
            completion_entries: 16_384,
            // More or larger buffers cost throughput: the set no longer stays in the core's cache.
            buffers: 1024,
            buffer_bytes: 2048,
        }
    }
}

impl RingConfig {
    /// Bytes that the kernel counts as locked for such a ring (Linux 6.14 and newer; older ones count fewer).
    #[must_use]
    pub fn locked_bytes(&self) -> u64 {
        const PAGE: u64 = 4096;
        const SUBMISSION: u64 = 64;
        const SUBMISSION_INDEX: u64 = 4;
        const COMPLETION: u64 = 16;
        const BUFFER: u64 = 16;
        let submissions = u64::from(self.submission_entries);
        let queues = u64::from(self.completion_entries) * COMPLETION + submissions * SUBMISSION_INDEX;
        // Both queues share a mapping, with a head of less than a page.
        (submissions * SUBMISSION).next_multiple_of(PAGE)
            + (queues + 1).next_multiple_of(PAGE)
            + (u64::from(self.buffers) * BUFFER).next_multiple_of(PAGE)
    }
}

/// What happened, in the order it happened for each socket.
#[derive(Debug)]
pub enum Event {
    /// A connection was accepted; its receive is armed.
    Accepted {
        /// The listener it came through.
        listener: ListenerId,
        /// The new tenant.
        socket: SocketId,
    },
    /// A connection this side asked for, or brought along, is there; its receive is armed.
    Connected {
        /// The name given to [`Ring::connect`] or [`Ring::adopt`].
        token: u64,
        /// The new tenant.
        socket: SocketId,
    },
    /// A connection this side asked for has failed.
    ConnectFailed {
        /// The name given to [`Ring::connect`] or [`Ring::adopt`].
        token: u64,
        /// What the kernel said.
        error: io::Error,
    },
    /// Accepting has stopped by itself, for want of slots or memory; [`Ring::resume_accept`] starts it again.
    AcceptFailed {
        /// The listener that no longer accepts.
        listener: ListenerId,
        /// What the kernel said.
        error: io::Error,
    },
    /// Bytes arrived.
    Received {
        /// Whose bytes.
        socket: SocketId,
        /// The bytes, in place.
        buffer: ReceivedBuffer,
    },
    /// The peer will send no more.
    PeerClosed {
        /// Who.
        socket: SocketId,
    },
    /// Receiving failed, as on a reset: nothing more will arrive.
    ReceiveFailed {
        /// Who.
        socket: SocketId,
        /// What the kernel said.
        error: io::Error,
    },
    /// The kernel is done with a buffer.
    Sent {
        /// To whom.
        socket: SocketId,
        /// The buffer given to [`Ring::send`].
        buffer: Vec<u8>,
        /// `Ok` when every byte of it was taken.
        outcome: io::Result<()>,
    },
    /// A part of a large buffer has been taken; the rest is on its way.
    SendProgressed {
        /// To whom.
        socket: SocketId,
    },
    /// The descriptor is closed and its slot free.
    Closed {
        /// Who is gone.
        socket: SocketId,
    },
}

impl Event {
    /// The socket it is about, if it is about one.
    #[must_use]
    pub fn socket(&self) -> Option<SocketId> {
        match self {
            Self::Accepted { socket, .. }
            | Self::Connected { socket, .. }
            | Self::Received { socket, .. }
            | Self::PeerClosed { socket }
            | Self::ReceiveFailed { socket, .. }
            | Self::Sent { socket, .. }
            | Self::SendProgressed { socket }
            | Self::Closed { socket } => Some(*socket),
            Self::ConnectFailed { .. } | Self::AcceptFailed { .. } => None,
        }
    }
}

/// A turn that reaped this much will find much more: then ask for everything at once.
const REAP_MANY_FROM: usize = 16;
/// Completions asked for when asking for everything.
const REAP_MANY: usize = 256;
static AT_ONCE: types::Timespec = types::Timespec::new();

/// How long a doze gathers completions, in microseconds, and how many at most.
const GATHER_US: u32 = 20;
const GATHERED_MAX: usize = 32;

/// A large buffer is sent in parts of this many bytes, so that its owner sees it move.
const SEND_SLICE_BYTES: usize = 256 * 1024;

/// How long dropping a ring waits for the kernel to let go of its buffers, per attempt and in attempts.
const DROP_WAIT: Duration = Duration::from_millis(20);
const DROP_ATTEMPTS: u32 = 100;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Accepting {
    Paused,
    Armed,
    /// A cancel is under way; armed again once it is through, if so wanted.
    Cancelling {
        resume: bool,
    },
}

struct Source {
    /// `None` once the listener has been stopped.
    socket: Option<Listener>,
    stopped: bool,
    accepting: Accepting,
}

/// A completion ring for sockets. Lives on the thread of one glommio executor.
pub struct Ring {
    ring: IoUring,
    pool: Rc<BufferPool>,
    slots: SlotTable,
    listeners: Vec<Source>,
    pub(super) dials: Dials,
    /// Entries that found the submission queue full.
    backlog: VecDeque<squeue::Entry>,
    /// Sockets whose receive ended for want of buffers.
    starved: VecDeque<SocketId>,
    completions: Vec<(u64, i32, u32)>,
    last_batch: usize,
    /// Moving average of the batches that were not empty.
    usual_batch: usize,
    /// Operations whose final completion is still to come.
    outstanding: usize,
    parker: Option<Parker>,
    /// Everything is being cancelled: nothing is armed again.
    ended: bool,
    /// The earliest instant a timer of ours will wake the thread.
    alarm: Option<Instant>,
    /// The kernel copies it when the timer is submitted, which parking does at once.
    alarm_after: Box<types::Timespec>,
}

impl Ring {
    /// Builds a ring on the calling thread, which must run a glommio executor.
    ///
    /// # Errors
    /// What the kernel says; [`super::probe`] explains it better, beforehand.
    pub fn new(config: RingConfig) -> io::Result<Self> {
        let ring: IoUring = IoUring::builder()
            .setup_cqsize(config.completion_entries)
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .build(config.submission_entries)?;
        let pool = BufferPool::new(config.buffers, config.buffer_bytes)?;
        let parker = Parker::new()?;
        let submitter = ring.submitter();
        submitter.register_files_sparse(config.sockets_max)?;
        pool.register(&submitter)?;
        submitter.register_eventfd(parker.signalled().as_raw_fd())?;
        let mut ring = Self {
            ring,
            pool,
            slots: SlotTable::new(config.sockets_max),
            listeners: Vec::new(),
            dials: Dials::default(),
            backlog: VecDeque::new(),
            starved: VecDeque::new(),
            completions: Vec::with_capacity(REAP_MANY),
            last_batch: 0,
            usual_batch: 0,
            outstanding: 0,
            parker: Some(parker),
            ended: false,
            alarm: None,
            alarm_after: Box::new(types::Timespec::new()),
        };
        ring.ring.completion().disable_eventfd();
        ring.arm_wake();
        Ok(ring)
    }

    /// Takes over a listener and accepts from it.
    pub fn listen(&mut self, listener: impl Into<Listener>) -> ListenerId {
        let id = ListenerId(u32::try_from(self.listeners.len()).unwrap_or(u32::MAX));
        let socket = Some(listener.into());
        self.listeners.push(Source { socket, stopped: false, accepting: Accepting::Paused });
        self.resume_accept(id);
        id
    }

    /// Leaves new connections in the kernel's backlog. Some may still be accepted until the cancel is through.
    pub fn pause_accept(&mut self, id: ListenerId) {
        let Some(listener) = self.listeners.get_mut(id.0 as usize) else {
            return;
        };
        match listener.accepting {
            Accepting::Armed => {
                listener.accepting = Accepting::Cancelling { resume: false };
                let accept = Tag::new(Kind::Accept, id.0, 0).user_data();
                let tag = Tag::new(Kind::Cancel, u32::MAX, 0);
                self.push(opcode::AsyncCancel::new(accept).build(), tag);
            }
            Accepting::Cancelling { .. } => listener.accepting = Accepting::Cancelling { resume: false },
            Accepting::Paused => {}
        }
    }

    /// Accepts (again).
    pub fn resume_accept(&mut self, id: ListenerId) {
        let Some(listener) = self.listeners.get_mut(id.0 as usize) else {
            return;
        };
        match listener.accepting {
            _ if listener.stopped => {}
            Accepting::Paused => {
                let Some(socket) = &listener.socket else { return };
                listener.accepting = Accepting::Armed;
                let descriptor = types::Fd(socket.descriptor.as_raw_fd());
                let accept = if socket.shared {
                    // Of those who wait at one socket the kernel wakes the first, and a multishot never leaves its place:
                    // it would get all connections. One that comes again lines up behind the others.
                    opcode::Accept::new(descriptor, ptr::null_mut(), ptr::null_mut())
                        .file_index(Some(types::DestinationSlot::auto_target()))
                        .build()
                } else {
                    opcode::AcceptMulti::new(descriptor).allocate_file_index(true).build()
                };
                self.push(accept, Tag::new(Kind::Accept, id.0, 0));
            }
            Accepting::Cancelling { .. } => listener.accepting = Accepting::Cancelling { resume: true },
            Accepting::Armed => {}
        }
    }

    /// Gives the listener up: new connections are refused by the kernel. The accept under way keeps the socket open
    /// until its cancel is through.
    pub fn stop_listening(&mut self, id: ListenerId) {
        self.pause_accept(id);
        if let Some(listener) = self.listeners.get_mut(id.0 as usize) {
            listener.stopped = true;
            // Otherwise an accept that names its descriptor is under way: it goes with the final completion.
            if listener.accepting == Accepting::Paused {
                listener.socket = None;
            }
        }
    }

    /// How many sockets have a slot, those on their way out included.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.slots.tenants()
    }

    /// How many provided buffers are in the hands of this side.
    #[must_use]
    pub fn buffers_held(&self) -> u16 {
        self.pool.held()
    }

    /// Sends a buffer, in full, with the next turn. [`Event::Sent`] gives the buffer back.
    ///
    /// # Errors
    /// [`Refused`] returns the buffer when the socket is not open or has a send in flight.
    pub fn send(&mut self, id: SocketId, buffer: Vec<u8>) -> Result<(), Refused> {
        let Some(slot) = self.slots.open(id).filter(|slot| slot.send.is_none()) else {
            return Err(Refused(buffer));
        };
        slot.send = Some(InFlight { buffer, sent: 0 });
        self.submit_send(id);
        Ok(())
    }

    /// Stops receiving, so that the peer's window fills. A few buffers may still arrive.
    pub fn pause_receive(&mut self, id: SocketId) {
        let Some(slot) = self.slots.open(id) else { return };
        slot.receive_wanted = false;
        self.cancel_receive(id);
    }

    /// Receives (again).
    pub fn resume_receive(&mut self, id: SocketId) {
        let Some(slot) = self.slots.open(id) else { return };
        slot.receive_wanted = true;
        self.arm_receive(id);
    }

    /// Sends FIN after what has been sent, and goes on receiving.
    pub fn shutdown_write(&mut self, id: SocketId) {
        if self.slots.open(id).is_some_and(|slot| slot.shutdowns == 0) {
            self.submit_shutdown(id, Kind::ShutdownWrite, libc::SHUT_WR);
        }
    }

    /// Ends the connection: cancels what is under way, waits for its final completions, then closes, which sends FIN.
    /// No event but [`Event::Sent`] (of a send in flight) and [`Event::Closed`] will name `id` again.
    pub fn close(&mut self, id: SocketId) {
        let Some(slot) = self.slots.open(id) else { return };
        slot.tenancy = Tenancy::Closing;
        slot.receive_wanted = false;
        if slot.is_quiet() {
            self.submit_close(id);
            return;
        }
        let sending = slot.send.is_some();
        self.cancel_receive(id);
        if sending {
            let send = Tag::new(Kind::Send, id.index, id.generation).user_data();
            self.push(
                opcode::AsyncCancel::new(send).build(),
                Tag::new(Kind::Cancel, id.index, id.generation),
            );
        }
    }

    /// A handle with which any thread wakes this one.
    #[must_use]
    #[allow(clippy::expect_used, reason = "the parker is taken by drop alone")]
    pub fn waker(&self) -> Waker {
        self.parker.as_ref().expect("the parker lives as long as the ring").waker()
    }

    /// One turn: submits what was queued, reaps what is ready, appends what happened to `events`.
    ///
    /// # Errors
    /// When the kernel refuses to go on; the ring is of no more use then.
    pub fn turn(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        self.feed_starved();
        self.flush_backlog();
        if self.has_kernel_work() {
            self.enter()?;
        }
        let mut completions = std::mem::take(&mut self.completions);
        for entry in self.ring.completion() {
            completions.push((entry.user_data(), entry.result(), entry.flags()));
        }
        self.last_batch = completions.len();
        if self.last_batch > 0 {
            self.usual_batch = (self.usual_batch * 3 + self.last_batch) / 4;
        }
        for (user_data, result, flags) in completions.drain(..) {
            self.complete(user_data, result, flags, events);
        }
        self.completions = completions;
        Ok(())
    }

    /// Submits what was queued without reaping, for whoever cannot wait for the turn's end.
    ///
    /// # Errors
    /// As [`Ring::turn`].
    pub fn submit(&mut self) -> io::Result<()> {
        self.flush_backlog();
        tolerate(self.ring.submit().map(drop))
    }

    /// How many completions the last turn reaped.
    #[must_use]
    pub fn last_batch(&self) -> usize {
        self.last_batch
    }

    /// Sleeps in the kernel, and the executor with it, until a completion is ready or `limit` has passed: one system
    /// call, where parking takes several. Wakers do not end it.
    ///
    /// # Errors
    /// As [`Ring::turn`].
    pub fn doze(&mut self, limit: Duration) -> io::Result<()> {
        self.block(Some(limit))
    }

    /// As [`Ring::doze`], but a waker ends it too, and without a `limit` nothing else does. `ready` is called once, after
    /// wakers have begun to write: whatever was queued before is seen by it.
    ///
    /// # Errors
    /// As [`Ring::turn`].
    pub fn wait(&mut self, limit: Option<Duration>, ready: impl FnOnce() -> bool) -> io::Result<()> {
        if let Some(parker) = &self.parker {
            parker.announce_in_ring();
        }
        let waited = if ready() { Ok(()) } else { self.block(limit) };
        if let Some(parker) = &self.parker {
            parker.awake();
        }
        waited
    }

    fn block(&mut self, limit: Option<Duration>) -> io::Result<()> {
        self.feed_starved();
        self.flush_backlog();
        let limit = limit.map(types::Timespec::from);
        let mut until = types::SubmitArgs::new();
        if let Some(limit) = &limit {
            until = until.timespec(limit);
        }
        let mut wanted = 1;
        // Waking for each completion of a burst costs more than it gains: gather some of the next batch, for a moment.
        if self.ring.params().is_feature_min_timeout() {
            wanted = (self.usual_batch / 2).clamp(1, GATHERED_MAX);
            if wanted > 1 {
                until = until.min_wait_usec(GATHER_US);
            }
        }
        if limit.is_none() {
            // A gathering wait without a limit would wait for all that are wanted.
            wanted = 1;
        }
        tolerate(self.ring.submitter().submit_with_args(wanted, &until).map(drop))
    }

    /// Whether completions are waiting for the next turn.
    #[must_use]
    pub fn has_completions(&mut self) -> bool {
        !self.ring.completion().is_empty()
    }

    /// Sleeps until a completion is ready, a waker is used, `until` has come or `ready` says so; at times for less. `ready` is asked
    /// again each time the executor polls, so a local task that wakes this one is heard.
    ///
    /// # Errors
    /// As [`Ring::turn`].
    pub async fn park(
        &mut self,
        until: Option<Instant>,
        mut ready: impl FnMut(&mut std::task::Context<'_>) -> bool,
    ) -> io::Result<()> {
        if let Some(until) = until {
            self.set_alarm(until);
        }
        if let Some(parker) = &self.parker {
            parker.announce_in_executor();
        }
        self.ring.completion().enable_eventfd();
        // What completed before the eventfd was on would not signal it: look once more. And whatever the kernel has not
        // taken yet would never wake anybody.
        self.feed_starved();
        self.flush_backlog();
        let looked = self.enter();
        let settled = !self.has_completions() && self.backlog.is_empty() && !self.has_kernel_work();
        if let Some(parker) = self.parker.as_mut().filter(|_| looked.is_ok() && settled) {
            poll_fn(|context| if ready(context) { Poll::Ready(()) } else { parker.poll_signalled(context) })
                .await;
        }
        if let Some(parker) = &self.parker {
            parker.awake();
        }
        self.ring.completion().disable_eventfd();
        looked
    }

    /// Cancels everything, waits for the kernel to let go, and frees what parking holds.
    pub async fn shut_down(mut self) {
        let parker = self.parker.take();
        drop(self);
        if let Some(parker) = parker {
            parker.close();
            // The executor has one round to take the read's end. It is not waited for.
            futures_lite::future::yield_now().await;
        }
    }

    /// Has the eventfd polled that wakers write to.
    fn arm_wake(&mut self) {
        let Some(descriptor) = self.parker.as_ref().map(|parker| parker.polled().as_raw_fd()) else { return };
        let readable = u32::from(libc::POLLIN.unsigned_abs());
        let poll = opcode::PollAdd::new(types::Fd(descriptor), readable).multi(true).build();
        self.push(poll, Tag::new(Kind::Woken, u32::MAX, 0));
    }

    fn set_alarm(&mut self, until: Instant) {
        if self.alarm.is_some_and(|alarm| alarm <= until) {
            return;
        }
        let after = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.alarm = Some(until);
        *self.alarm_after = types::Timespec::from(after);
        let timer = opcode::Timeout::new(&raw const *self.alarm_after).build();
        self.push(timer, Tag::new(Kind::Timer, 0, 0));
    }

    /// Whether an enter would do anything: the shared flags tell without a system call.
    fn has_kernel_work(&mut self) -> bool {
        let submission = self.ring.submission();
        !submission.is_empty() || submission.taskrun() || submission.cq_overflow()
    }

    fn enter(&mut self) -> io::Result<()> {
        let result = if self.last_batch >= REAP_MANY_FROM {
            let at_once = types::SubmitArgs::new().timespec(&AT_ONCE);
            self.ring.submitter().submit_with_args(REAP_MANY, &at_once).map(drop)
        } else {
            let queued = u32::try_from(self.ring.submission().len()).unwrap_or(u32::MAX);
            const GET_EVENTS: u32 = 1;
            // SAFETY: no signal mask is passed, and every queued entry points to memory that a slot, a dial, the
            // pool or this ring keeps until its completion.
            unsafe { self.ring.submitter().enter::<libc::sigset_t>(queued, 0, GET_EVENTS, None) }.map(drop)
        };
        tolerate(result)
    }

    pub(super) fn push(&mut self, entry: squeue::Entry, tag: Tag) {
        let entry = entry.user_data(tag.user_data());
        self.outstanding += 1;
        if !self.backlog.is_empty() || !self.offer(&entry) {
            self.backlog.push_back(entry);
        }
    }

    fn offer(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: what the entry points to is owned by a slot (sends), by a dial (connects) or by this ring (timers)
        // until completion.
        unsafe { self.ring.submission().push(entry) }.is_ok()
    }

    /// Moves what waited into the submission queue, submitting when that is full.
    fn flush_backlog(&mut self) {
        while let Some(entry) = self.backlog.pop_front() {
            if !self.offer(&entry) {
                self.backlog.push_front(entry);
                if self.ring.submit().is_err() || self.ring.submission().is_full() {
                    return;
                }
            }
        }
    }

    fn feed_starved(&mut self) {
        if self.starved.is_empty() || self.pool.held() >= self.pool_low_water() {
            return;
        }
        for id in std::mem::take(&mut self.starved) {
            if self.slots.open(id).is_some_and(|slot| slot.receive_wanted) {
                self.arm_receive(id);
            }
        }
    }

    /// Receives that ended for want of buffers are armed again once half of the buffers are back.
    fn pool_low_water(&self) -> u16 {
        (self.pool.count() / 2).max(1)
    }

    fn arm_receive(&mut self, id: SocketId) {
        let Some(slot) = self.slots.open(id).filter(|slot| slot.receive == Receive::Idle) else {
            return;
        };
        slot.receive = Receive::Armed;
        let receive = opcode::RecvMulti::new(types::Fixed(id.index), BUFFER_GROUP).build();
        self.push(receive, Tag::new(Kind::Receive, id.index, id.generation));
    }

    fn cancel_receive(&mut self, id: SocketId) {
        let Some(slot) = self.slots.tenant(id).filter(|slot| slot.receive == Receive::Armed) else {
            return;
        };
        slot.receive = Receive::Cancelling;
        let receive = Tag::new(Kind::Receive, id.index, id.generation).user_data();
        self.push(opcode::AsyncCancel::new(receive).build(), Tag::new(Kind::Cancel, id.index, id.generation));
    }

    fn submit_send(&mut self, id: SocketId) {
        let Some(send) = self.slots.tenant(id).and_then(|slot| slot.send.as_ref()) else {
            return;
        };
        let rest = send.buffer.get(send.sent..).unwrap_or_default();
        let length = u32::try_from(rest.len().min(SEND_SLICE_BYTES)).unwrap_or(u32::MAX);
        // MSG_WAITALL has the kernel retry a short send; MSG_NOSIGNAL spares us SIGPIPE.
        let entry = opcode::Send::new(types::Fixed(id.index), rest.as_ptr(), length)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build();
        self.push(entry, Tag::new(Kind::Send, id.index, id.generation));
    }

    fn submit_shutdown(&mut self, id: SocketId, kind: Kind, how: i32) {
        let Some(slot) = self.slots.tenant(id) else { return };
        slot.shutdowns += 1;
        let entry = opcode::Shutdown::new(types::Fixed(id.index), how).build();
        self.push(entry, Tag::new(kind, id.index, id.generation));
    }

    fn submit_close(&mut self, id: SocketId) {
        let Some(slot) = self.slots.tenant(id) else { return };
        debug_assert!(slot.is_quiet());
        slot.tenancy = Tenancy::CloseSubmitted;
        let entry = opcode::Close::new(types::Fixed(id.index)).build();
        self.push(entry, Tag::new(Kind::Close, id.index, id.generation));
    }

    fn close_if_quiet(&mut self, id: SocketId) {
        let quiet =
            self.slots.tenant(id).is_some_and(|slot| slot.tenancy == Tenancy::Closing && slot.is_quiet());
        if quiet {
            self.submit_close(id);
        }
    }

    fn complete(&mut self, user_data: u64, result: i32, flags: u32, events: &mut Vec<Event>) {
        let Some(tag) = Tag::from_user_data(user_data) else {
            debug_assert!(false, "a completion nobody asked for: {user_data:#x}");
            return;
        };
        let last = !cqueue::more(flags);
        if last {
            self.outstanding = self.outstanding.saturating_sub(1);
        }
        let id = SocketId { index: tag.index, generation: tag.generation };
        match tag.kind {
            Kind::Receive => self.complete_receive(id, result, flags, events),
            Kind::Send => self.complete_send(id, result, events),
            Kind::Accept => self.complete_accept(ListenerId(tag.index), result, last, events),
            Kind::Close => {
                // A failed close of a direct descriptor means that the slot was empty: as good as closed.
                if self.slots.vacate(id) {
                    events.push(Event::Closed { socket: id });
                }
            }
            Kind::Cancel => self.complete_cancel(id, result),
            Kind::Timer => self.alarm = None,
            Kind::ShutdownWrite | Kind::ShutdownBoth => self.complete_shutdown(id, tag.kind),
            Kind::Install => self.complete_install(tag.index, result, events),
            Kind::Connect => self.complete_connect(tag.index, result, events),
            Kind::Woken if last && !self.ended => self.arm_wake(),
            Kind::Woken | Kind::Discard => {}
        }
    }

    /// Gives a slot its tenant, and receives.
    pub(super) fn admit(&mut self, index: u32, events: &mut Vec<Event>) -> SocketId {
        let (socket, evicted) = self.slots.occupy(index);
        if let Some(evicted) = evicted {
            events.push(Event::Closed { socket: evicted });
        }
        self.arm_receive(socket);
        socket
    }

    fn complete_accept(&mut self, id: ListenerId, result: i32, last: bool, events: &mut Vec<Event>) {
        if let Ok(index) = u32::try_from(result) {
            let socket = self.admit(index, events);
            events.push(Event::Accepted { listener: id, socket });
        }
        if !last {
            return;
        }
        let Some(listener) = self.listeners.get_mut(id.0 as usize) else {
            return;
        };
        let cancelled = matches!(listener.accepting, Accepting::Cancelling { .. });
        let resume = listener.accepting == Accepting::Cancelling { resume: true };
        listener.accepting = Accepting::Paused;
        if listener.stopped {
            listener.socket = None;
            return;
        }
        let error = -result;
        match error {
            _ if resume => self.resume_accept(id),
            _ if cancelled => {}
            // The peer gave up while it waited, or the multishot ended after a good accept.
            ..=0 | libc::ECONNABORTED | libc::EINTR | libc::EAGAIN => self.resume_accept(id),
            _ => events.push(Event::AcceptFailed { listener: id, error: os_error(result) }),
        }
    }

    fn complete_receive(&mut self, id: SocketId, result: i32, flags: u32, events: &mut Vec<Event>) {
        let length = usize::try_from(result).unwrap_or(0);
        // Taken first: whatever becomes of it, dropping it gives the buffer back.
        let buffer = cqueue::buffer_select(flags).map(|buffer| self.pool.take(buffer, length));
        let last = !cqueue::more(flags);
        let Some(slot) = self.slots.tenant(id) else { return };
        let open = slot.tenancy == Tenancy::Open;
        if last {
            slot.receive = match -result {
                0 => Receive::Ended,
                ..0 | libc::ECANCELED | libc::ENOBUFS | libc::EINTR | libc::EAGAIN => Receive::Idle,
                _ => Receive::Ended,
            };
        }
        let wanted = slot.receive_wanted;
        let ended = slot.receive == Receive::Ended;
        match (open, result) {
            (false, _) => self.close_if_quiet(id),
            (true, 1..) => {
                if let Some(buffer) = buffer {
                    events.push(Event::Received { socket: id, buffer });
                }
            }
            (true, 0) => events.push(Event::PeerClosed { socket: id }),
            (true, _) if ended => {
                events.push(Event::ReceiveFailed { socket: id, error: os_error(result) });
            }
            (true, _) => {}
        }
        if open && last && wanted && !ended {
            if -result == libc::ENOBUFS {
                self.starved.push_back(id);
            } else {
                self.arm_receive(id);
            }
        }
    }

    fn complete_send(&mut self, id: SocketId, result: i32, events: &mut Vec<Event>) {
        let Some(slot) = self.slots.tenant(id) else { return };
        let Some(send) = slot.send.as_mut() else { return };
        let closing = slot.tenancy != Tenancy::Open;
        send.sent += usize::try_from(result).unwrap_or(0);
        let rest = send.buffer.len().saturating_sub(send.sent);
        let retry = result > 0 || matches!(-result, libc::EINTR | libc::EAGAIN);
        if rest > 0 && retry && !closing {
            self.submit_send(id);
            events.push(Event::SendProgressed { socket: id });
            return;
        }
        let outcome = match result {
            _ if rest == 0 => Ok(()),
            ..0 => Err(os_error(result)),
            _ => Err(io::Error::from(io::ErrorKind::WriteZero)),
        };
        if let Some(send) = slot.send.take() {
            events.push(Event::Sent { socket: id, buffer: send.buffer, outcome });
        }
        self.close_if_quiet(id);
    }

    /// A cancel that found nothing although its target is still under way leaves one sure means of closing:
    /// shutting the socket down ends both directions.
    fn complete_cancel(&mut self, id: SocketId, result: i32) {
        let Some(slot) = self.slots.tenant(id).filter(|_| result < 0) else {
            return;
        };
        if slot.tenancy == Tenancy::Closing && !slot.is_quiet() {
            if slot.shutdowns == 0 {
                self.submit_shutdown(id, Kind::ShutdownBoth, libc::SHUT_RDWR);
            }
        } else if slot.receive == Receive::Cancelling {
            slot.receive = Receive::Armed;
        }
    }

    fn complete_shutdown(&mut self, id: SocketId, kind: Kind) {
        let Some(slot) = self.slots.tenant(id) else { return };
        slot.shutdowns = slot.shutdowns.saturating_sub(1);
        if slot.tenancy == Tenancy::Closing && !slot.is_quiet() && kind == Kind::ShutdownWrite {
            // A cancel that failed meanwhile left the sure means of closing to this moment.
            self.submit_shutdown(id, Kind::ShutdownBoth, libc::SHUT_RDWR);
        } else {
            self.close_if_quiet(id);
        }
    }

    /// Cancels all operations and reaps until none is left. `false` if the kernel did not let go in time.
    fn cancel_all(&mut self) -> bool {
        self.close_all();
        self.ended = true;
        for _ in 0..DROP_ATTEMPTS {
            self.flush_backlog();
            if self.outstanding == 0 {
                return true;
            }
            let everything = types::CancelBuilder::any();
            // Nothing left to cancel is an error here, and fine.
            let _ = self
                .ring
                .submitter()
                .register_sync_cancel(Some(types::Timespec::from(DROP_WAIT)), everything);
            let wait = types::Timespec::from(DROP_WAIT);
            let _ = self.ring.submitter().submit_with_args(1, &types::SubmitArgs::new().timespec(&wait));
            let mut events = Vec::new();
            let entries: Vec<_> = self
                .ring
                .completion()
                .map(|entry| (entry.user_data(), entry.result(), entry.flags()))
                .collect();
            for (user_data, result, flags) in entries {
                self.complete_last(user_data, result, flags, &mut events);
            }
        }
        false
    }

    /// Closes every socket. Cancelling one operation by its name is a look-up, cancelling all of them is a walk through
    /// all of them for each: minutes, with tens of thousands.
    fn close_all(&mut self) {
        for id in self.slots.open_ids() {
            self.close(id);
        }
        let mut events = Vec::new();
        let until = Instant::now() + DROP_WAIT * DROP_ATTEMPTS;
        while self.slots.tenants() > 0 && Instant::now() < until {
            if self.turn(&mut events).is_err() {
                return;
            }
            events.clear();
            if self.last_batch == 0 {
                let wait = types::Timespec::from(Duration::from_millis(1));
                let until = types::SubmitArgs::new().timespec(&wait);
                let _ = self.ring.submitter().submit_with_args(1, &until);
            }
        }
    }

    /// As `complete`, but nothing is armed again.
    fn complete_last(&mut self, user_data: u64, result: i32, flags: u32, events: &mut Vec<Event>) {
        let tag = Tag::from_user_data(user_data);
        match tag {
            Some(Tag { kind: Kind::Accept, index, .. }) => {
                if let Some(listener) = self.listeners.get_mut(index as usize) {
                    listener.accepting = Accepting::Cancelling { resume: false };
                }
            }
            // These carry no slot's number.
            Some(Tag { kind: Kind::Install | Kind::Connect, .. }) => {}
            Some(Tag { index, generation, .. }) => {
                if let Some(slot) = self.slots.open(SocketId { index, generation }) {
                    slot.receive_wanted = false;
                    slot.tenancy = Tenancy::Closing;
                }
            }
            None => {}
        }
        self.complete(user_data, result, flags, events);
    }
}

/// The error behind a completion's negative result.
pub(super) fn os_error(result: i32) -> io::Error {
    io::Error::from_raw_os_error(-result)
}

/// What an enter may say without anything being wrong.
fn tolerate(result: io::Result<()>) -> io::Result<()> {
    match result.as_ref().map_err(io::Error::raw_os_error) {
        // ETIME: fewer than asked for were ready. EBUSY and EAGAIN: reap first, submit with the next turn.
        Err(Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)) => Ok(()),
        _ => result,
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if !self.cancel_all() {
            // The kernel may still read from or write to these: leaking them is the only sound thing to do.
            std::mem::forget(Rc::clone(&self.pool));
            self.slots.take_in_flight().for_each(std::mem::forget);
            std::mem::forget(std::mem::take(&mut self.alarm_after));
            self.forget_dials();
        }
        let _ = self.ring.submitter().unregister_files();
    }
}

const _: () = assert!(PADDING_BYTES >= 64, "simd-json reads up to 64 bytes past its input");
