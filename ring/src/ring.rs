//! The ring: submits and reaps in batches, and converts completions to events.

use std::{
    collections::{HashMap, VecDeque},
    io,
    os::fd::AsRawFd,
    time::Instant,
};

use io_uring::{IoUring, cqueue, squeue, types};

use super::{
    buffer_source::BufferSource,
    buffers::{BufferPool, BufferSize, PADDING_BYTES},
    config::RingConfig,
    dials::Dials,
    enter::ignore_transient,
    event::Event,
    hand_overs::{self, HandOver},
    operation::{Kind, Tag},
    peer_queries::{self, PeerQueries},
    slots::{ListenerId, Slot, SlotTable, SocketId},
    sources::Source,
    wake::{Parker, Waker},
};

/// Number of completions in a turn from which the next turn requests [`REAP_MANY`] at once.
const REAP_MANY_FROM: usize = 16;
/// Number of completions requested in a busy turn.
const REAP_MANY: usize = 256;
/// A zero timeout.
static AT_ONCE: types::Timespec = types::Timespec::new();

/// Completion ring for sockets, on the thread of one glommio executor.
pub struct Ring {
    pub(super) ring: IoUring,
    /// Buffers of the usual size.
    pub(super) usual: BufferSource,
    /// Large buffers.
    pub(super) large: BufferSource,
    pub(super) slots: SlotTable,
    pub(super) listeners: Vec<Source>,
    pub(super) dials: Dials,
    pub(super) peer_queries: PeerQueries,
    /// Sockets that leave for other rings.
    pub(super) hand_overs: HashMap<SocketId, HandOver>,
    pub(super) can_hand_over: bool,
    /// Whether the owner arms the receive of an accepted connection.
    pub(super) holds_accepted: bool,
    /// Entries that did not fit the submission queue.
    pub(super) backlog: VecDeque<squeue::Entry>,
    pub(super) completions: Vec<(u64, i32, u32)>,
    pub(super) last_batch: usize,
    /// The socket whose receive completed last in this turn, and the number of its completions one after the other.
    pub(super) last_received: (SocketId, usize),
    /// Whether the last turn left no completion behind.
    pub(super) reaped_all: bool,
    /// Moving average of the sizes of non-empty batches.
    pub(super) usual_batch: usize,
    /// Number of operations without their final completion.
    pub(super) outstanding: usize,
    pub(super) parker: Option<Parker>,
    /// The ring is being dropped, and no operation is armed again.
    pub(super) ended: bool,
    /// Time of the pending timer.
    pub(super) alarm: Option<Instant>,
    /// Timeout of the timer. The kernel copies it on submission, which follows at once in [`Ring::park`].
    pub(super) alarm_after: Box<types::Timespec>,
}

impl Ring {
    /// Memory of a socket in the table of the ring, in bytes. The table has memory for the sockets that have been open at one time.
    pub const SOCKET_BYTES: usize = size_of::<Slot>();

    /// Creates a ring on the calling thread, which must run a glommio executor.
    ///
    /// # Errors
    /// The kernel's error; [`super::explain`] converts it to an explanation.
    pub fn new(config: RingConfig) -> io::Result<Self> {
        Self::with_parker(config, Parker::new()?)
    }

    /// As [`Ring::new`], in the place of a ring of the same thread that has been dropped: its wakers wake this one.
    ///
    /// # Errors
    /// As [`Ring::new`].
    pub fn in_place_of(waker: &Waker, config: RingConfig) -> io::Result<Self> {
        Self::with_parker(config, Parker::woken_by(waker)?)
    }

    fn with_parker(config: RingConfig, parker: Parker) -> io::Result<Self> {
        let mut ring: IoUring = IoUring::builder()
            .setup_cqsize(config.completion_entries)
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .build(config.submission_entries)?;
        let peer_queries = PeerQueries::new(peer_queries::is_supported(&mut ring)?);
        let can_hand_over = hand_overs::is_supported(&ring, peer_queries.supported);
        let usual = BufferPool::new(BufferSize::Usual, config.buffers, config.buffer_bytes)?;
        let large = BufferPool::new(BufferSize::Large, config.large_buffers, config.large_buffer_bytes)?;
        let submitter = ring.submitter();
        submitter.register_files_sparse(config.sockets_max)?;
        usual.register(&submitter)?;
        large.register(&submitter)?;
        submitter.register_eventfd(parker.signalled().as_raw_fd())?;
        let mut ring = Self {
            ring,
            usual: BufferSource::new(usual),
            large: BufferSource::new(large),
            slots: SlotTable::new(config.sockets_max),
            listeners: Vec::new(),
            dials: Dials::default(),
            peer_queries,
            hand_overs: HashMap::new(),
            can_hand_over,
            holds_accepted: false,
            backlog: VecDeque::new(),
            completions: Vec::with_capacity(REAP_MANY),
            last_batch: 0,
            last_received: (SocketId::default(), 0),
            reaped_all: true,
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

    /// Number of sockets, including those that are being closed.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.slots.occupied()
    }

    /// Maximum number of provided buffers, of both sizes.
    #[must_use]
    pub fn buffers(&self) -> u16 {
        self.usual.pool.count() + self.large.pool.count()
    }

    /// Number of provided buffers held by [`ReceivedBuffer`](crate::ReceivedBuffer)s.
    #[must_use]
    pub fn buffers_held(&self) -> u16 {
        self.usual.pool.held() + self.large.pool.held()
    }

    /// Runs one turn: submits the queued entries, reaps the completions, and appends their events to `events`.
    ///
    /// # Errors
    /// The kernel's error, after which the ring cannot be used.
    pub fn turn(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        self.rearm_starved();
        self.flush_backlog();
        if self.has_kernel_work() {
            self.enter()?;
        }
        let mut completions = std::mem::take(&mut self.completions);
        for entry in self.ring.completion() {
            completions.push((entry.user_data(), entry.result(), entry.flags()));
        }
        self.last_batch = completions.len();
        self.reaped_all = !self.has_starved() && !self.has_unreaped();
        if self.last_batch > 0 {
            self.usual_batch = (self.usual_batch * 3 + self.last_batch) / 4;
        }
        self.last_received = (SocketId::default(), 0);
        for (user_data, result, flags) in completions.drain(..) {
            self.complete(user_data, result, flags, events);
        }
        self.completions = completions;
        Ok(())
    }

    /// Submits the queued entries without reaping, before the end of the turn.
    ///
    /// # Errors
    /// As [`Ring::turn`].
    pub fn submit(&mut self) -> io::Result<()> {
        self.flush_backlog();
        ignore_transient(self.ring.submit().map(drop))
    }

    /// Number of completions reaped by the last turn.
    #[must_use]
    pub fn last_batch(&self) -> usize {
        self.last_batch
    }

    /// Whether the last turn reaped everything that was ready: one system call reaps a bounded number of completions.
    #[must_use]
    pub fn has_reaped_all(&self) -> bool {
        self.reaped_all
    }

    /// Number of operations without their final completion.
    #[must_use]
    pub fn operations(&self) -> usize {
        self.outstanding
    }

    /// Whether completions are waiting for the next turn.
    #[must_use]
    pub fn has_completions(&mut self) -> bool {
        !self.ring.completion().is_empty()
    }

    /// Whether entering the kernel would have an effect, according to the shared flags; takes no system call.
    pub(super) fn has_kernel_work(&mut self) -> bool {
        let submission = self.ring.submission();
        !submission.is_empty() || submission.taskrun() || submission.cq_overflow()
    }

    /// Whether the kernel holds completions back until the next system call.
    fn has_unreaped(&mut self) -> bool {
        let submission = self.ring.submission();
        submission.taskrun() || submission.cq_overflow()
    }

    pub(super) fn enter(&mut self) -> io::Result<()> {
        let result = if self.last_batch >= REAP_MANY_FROM {
            let at_once = types::SubmitArgs::new().timespec(&AT_ONCE);
            self.ring.submitter().submit_with_args(REAP_MANY, &at_once).map(drop)
        } else {
            let queued = u32::try_from(self.ring.submission().len()).unwrap_or(u32::MAX);
            const GET_EVENTS: u32 = 1;
            // SAFETY: no signal mask is passed, and every queued entry points to memory that a slot, a dial, a
            // query, the pool or this ring keeps until its completion.
            unsafe { self.ring.submitter().enter::<libc::sigset_t>(queued, 0, GET_EVENTS, None) }.map(drop)
        };
        ignore_transient(result)
    }

    pub(super) fn push(&mut self, entry: squeue::Entry, tag: Tag) {
        let entry = entry.user_data(tag.user_data());
        self.outstanding += 1;
        if !self.backlog.is_empty() || !self.offer(&entry) {
            self.backlog.push_back(entry);
        }
    }

    pub(super) fn offer(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: the memory that the entry points to is owned by a slot (sends), by a dial (connects), by a query or by this
        // ring (timers) until the completion.
        unsafe { self.ring.submission().push(entry) }.is_ok()
    }

    /// Moves the backlog to the submission queue, and submits when that is full.
    pub(super) fn flush_backlog(&mut self) {
        while let Some(entry) = self.backlog.pop_front() {
            if !self.offer(&entry) {
                self.backlog.push_front(entry);
                if self.ring.submit().is_err() || self.ring.submission().is_full() {
                    return;
                }
            }
        }
    }

    pub(super) fn complete(&mut self, user_data: u64, result: i32, flags: u32, events: &mut Vec<Event>) {
        let Some(tag) = Tag::from_user_data(user_data) else {
            debug_assert!(false, "completion of an unknown operation: {user_data:#x}");
            return;
        };
        let last = !cqueue::more(flags);
        // Another ring has submitted the operation of an arrival.
        if last && tag.kind != Kind::Arrived {
            self.outstanding = self.outstanding.saturating_sub(1);
        }
        let id = SocketId { index: tag.index, generation: tag.generation };
        match tag.kind {
            Kind::Receive => self.complete_receive(id, result, flags, events),
            Kind::Send => self.complete_send(id, result, events),
            Kind::Accept => {
                let listener = ListenerId(u16::try_from(tag.index).unwrap_or(u16::MAX));
                self.complete_accept(listener, result, last, events);
            }
            Kind::Close => {
                // A failed close of a direct descriptor means that the slot was empty, so it counts as closed.
                if self.slots.vacate(id) {
                    events.push(Event::Closed { socket: id });
                }
            }
            Kind::Cancel => self.complete_cancel(id, result),
            Kind::Timer => self.alarm = None,
            Kind::ShutdownWrite | Kind::ShutdownBoth => self.complete_shutdown(id, tag.kind),
            Kind::Install => self.complete_install(tag.index, result, events),
            Kind::Connect => self.complete_connect(tag.index, result, events),
            Kind::PeerName => self.complete_peer_name(tag.index, result, events),
            Kind::HandOver => self.complete_hand_over(id, result, events),
            Kind::Arrived => self.complete_arrival(tag, result, events),
            Kind::Unacknowledged => self.complete_acknowledged(id, result, events),
            Kind::Woken if last && !self.ended => self.arm_wake(),
            Kind::Woken | Kind::Discard => {}
        }
    }

    /// Creates the socket of a slot.
    pub(super) fn admit(&mut self, index: u32, events: &mut Vec<Event>) -> SocketId {
        let (socket, evicted) = self.slots.occupy(index);
        if let Some(evicted) = evicted {
            events.push(Event::Closed { socket: evicted });
        }
        socket
    }
}

const _: () = assert!(PADDING_BYTES >= 64, "simd-json reads up to 64 bytes past its input");
