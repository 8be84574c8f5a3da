//! A handle to a shard, for other threads.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use corelane_ring::{Ring, Waker};
use crossbeam_channel::{Receiver, bounded};

use super::{
    commands::{Command, CommandQueue},
    snapshot_swap::{Served, SnapshotSlots, SnapshotSwap},
};
use crate::{
    control::{Inspection, ShardInspection},
    mesh::{Mailbox, Message},
    policy::ShardFlags,
    registry::Snapshot,
    telemetry::{metrics::ShardReport, turn_status::TurnStatus},
};

/// Number of signals that a shard had taken when it was probed.
#[derive(Clone, Copy, Debug)]
pub struct Probe(u64);

/// State of a shard that other threads read.
#[derive(Default)]
struct Status {
    ended: AtomicBool,
    /// The shard has failed and its successor does not run yet.
    is_down: AtomicBool,
    is_draining: AtomicBool,
    /// Panics of the executor that the shard has survived and not counted.
    executor_resumed: AtomicU32,
}

/// A handle to a shard, for any thread. It refers to the successor after the shard has failed.
#[derive(Clone)]
pub struct ShardHandle {
    pub(super) commands: Arc<CommandQueue>,
    pub(super) snapshots: Arc<SnapshotSlots>,
    pub(super) mailbox: Arc<Mailbox>,
    status: Arc<Status>,
    turn: Arc<TurnStatus>,
    waker: Waker,
    number: usize,
}

impl ShardHandle {
    /// A handle to the shard of this number, which runs `ring`. Its mailbox holds at most `messages_max` messages of other shards.
    #[must_use]
    pub fn new(number: usize, ring: &Ring, messages_max: usize) -> Self {
        let commands = Arc::<CommandQueue>::default();
        let (signalled, waker) = (Arc::clone(&commands), ring.waker());
        let wake = Box::new(move || {
            signalled.signal();
            waker.wake();
        });
        Self {
            commands,
            snapshots: Arc::default(),
            mailbox: Arc::new(Mailbox::new(messages_max, wake)),
            status: Arc::default(),
            turn: Arc::default(),
            waker: ring.waker(),
            number,
        }
    }

    /// Number of the shard.
    #[must_use]
    pub fn number(&self) -> usize {
        self.number
    }

    /// The mailbox: messages of other shards.
    #[must_use]
    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// The turn that the shard is in.
    #[must_use]
    pub fn turn(&self) -> &Arc<TurnStatus> {
        &self.turn
    }

    /// Starts the drain: the shard accepts no more connections, finishes the calls in flight, and ends.
    pub fn drain(&self) {
        self.status.is_draining.store(true, Ordering::Relaxed);
        self.command(Command::Drain);
    }

    /// Makes the shard accept the connections to Unix sockets that wait for another shard, which is stuck.
    pub fn accept_queued(&self) {
        self.command(Command::AcceptQueued);
    }

    /// Sets the snapshot that the shard serves from its start.
    pub fn begin(&self, served: Served) {
        self.snapshots.set_newest(served);
    }

    /// The snapshot that the shard serves after executing its queued commands.
    #[must_use]
    pub fn newest(&self) -> Option<Served> {
        self.snapshots.newest()
    }

    /// Makes the shard serve this snapshot from its next turn on.
    pub fn replace(&self, snapshot: Snapshot, swap: Arc<SnapshotSwap>) {
        self.snapshots.free_retired();
        let before = self.newest();
        let served = Served::new(snapshot, before.as_ref());
        self.snapshots.set_newest(served.clone());
        self.command(Command::Swap(Box::new(served), swap));
    }

    /// Makes the shard handle requests with these flags from its next turn on.
    pub(super) fn set_flags(&self, flags: ShardFlags) {
        self.command(Command::SetFlags(Box::new(flags)));
    }

    /// Requests a metrics report. The channel stays empty if the shard has ended or hangs, and is closed if too many reports are
    /// due or the shard is being restarted.
    #[must_use]
    pub fn report(&self) -> Receiver<ShardReport> {
        let (sender, receiver) = bounded(1);
        if !self.is_down() {
            self.command(Command::Report(sender));
        }
        receiver
    }

    /// Requests an inspection. The channel stays empty if the shard has ended or hangs, and is closed if too many inspections are due
    /// or the shard is being restarted.
    pub(crate) fn inspect(&self, inspection: Inspection) -> Receiver<ShardInspection> {
        let (sender, receiver) = bounded(1);
        if !self.is_down() {
            self.command(Command::Inspect(inspection, sender));
        }
        receiver
    }

    /// Signals the shard. It has responded once [`Self::has_responded`] returns true for the returned probe, which shows that its
    /// loop runs.
    #[must_use]
    pub fn probe(&self) -> Probe {
        let probe = Probe(self.commands.signals_taken());
        self.signal();
        probe
    }

    /// Whether the shard has taken a signal since the probe.
    #[must_use]
    pub fn has_responded(&self, probe: Probe) -> bool {
        self.commands.signals_taken() != probe.0
    }

    /// Whether the shard has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.status.ended.load(Ordering::Relaxed)
    }

    /// Records that the shard has ended.
    pub fn end(&self) {
        self.status.ended.store(true, Ordering::Relaxed);
    }

    /// Whether the shard has failed and is being restarted.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.status.is_down.load(Ordering::Acquire)
    }

    /// Whether a drain was requested.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.status.is_draining.load(Ordering::Relaxed)
    }

    /// Records that the shard has failed: reports and requests of other shards are rejected until [`Self::revive`]. Returns the
    /// messages that were queued.
    pub fn fail(&self) -> Vec<Message> {
        self.status.is_down.store(true, Ordering::Release);
        self.commands.reject_reports();
        self.mailbox.close()
    }

    /// Records that a successor runs.
    pub fn revive(&self) {
        self.mailbox.open();
        self.status.is_down.store(false, Ordering::Release);
        // Messages may have been queued before the successor could be woken.
        self.signal();
    }

    /// The waker of the shard's thread.
    #[must_use]
    pub fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Records that the shard has survived a panic of its executor.
    pub fn add_executor_resumed(&self) {
        self.status.executor_resumed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn take_executor_resumed(&self) -> u32 {
        self.status.executor_resumed.swap(0, Ordering::Relaxed)
    }

    /// Queues a command and wakes the shard. A rejected or replaced command is freed by the calling thread.
    fn command(&self, command: Command) {
        drop(self.commands.push(command));
        self.signal();
    }

    fn signal(&self) {
        self.commands.signal();
        self.waker.wake();
    }
}
