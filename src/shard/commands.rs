//! Commands of other threads to a shard, in one bounded queue per shard. Messages of other shards are in the mailbox.

use std::{
    collections::VecDeque,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use crossbeam_channel::Sender;

use super::snapshot_swap::{Served, SnapshotSwap};
use crate::{
    control::{Inspection, ShardInspection},
    policy::ShardFlags,
    telemetry::metrics::ShardReport,
};

/// Maximum number of queued report requests. The admin interface requests one at a time.
pub(super) const REPORTS_MAX: usize = 16;

/// Maximum number of queued inspections, and of those under way.
pub(super) const INSPECTIONS_MAX: usize = 8;

/// Capacity of the queue: the sum of the places of all kinds.
pub(super) const COMMANDS_MAX: usize = REPORTS_MAX + INSPECTIONS_MAX + 4;

/// A command to a shard. Each kind has reserved places in the queue.
pub(super) enum Command {
    /// Serve another snapshot from the next request on. One place: the newest replaces the one that is queued, which is then
    /// never served here.
    Swap(Box<Served>, Arc<SnapshotSwap>),
    /// Send a metrics report. [`REPORTS_MAX`] places: a further request is rejected, which closes its channel.
    Report(Sender<ShardReport>),
    /// Accept what is in the queues of sockets that a shard which is stuck accepts from, too. One place.
    AcceptQueued,
    /// Read the tables of the shard for the control socket. [`INSPECTIONS_MAX`] places: a further one is rejected, which closes its
    /// channel.
    Inspect(Inspection, Sender<ShardInspection>),
    /// Handle requests with these flags from the next one on. One place: the newest replaces the one that is queued.
    SetFlags(Box<ShardFlags>),
    /// Accept no more connections, finish the calls in flight, end. One place: further drains have no effect.
    Drain,
}

impl Command {
    /// Number of places of this kind.
    fn places(&self) -> usize {
        match self {
            Self::Swap(..) | Self::AcceptQueued | Self::SetFlags(_) | Self::Drain => 1,
            Self::Report(_) => REPORTS_MAX,
            Self::Inspect(..) => INSPECTIONS_MAX,
        }
    }

    /// Replaces `queued`, a command of the same kind, unless the kind is never replaced. Returns the command that will not be
    /// executed.
    fn replace(self, queued: &mut Self) -> Self {
        match (&self, &*queued) {
            (Self::Swap(_, newer), Self::Swap(_, older)) => newer.supersede(older),
            (Self::Report(_) | Self::Inspect(..), _) => return self,
            _ => {}
        }
        mem::replace(queued, self)
    }
}

/// Queued commands of a shard, and the signal that other threads have queued work.
#[derive(Default)]
pub(super) struct CommandQueue {
    /// Whether commands or mailbox messages are queued. Set after they are queued and cleared before they are taken, so that a busy
    /// shard reads one flag per turn.
    signalled: AtomicBool,
    commands: Mutex<VecDeque<Command>>,
    /// Number of signals that the shard has taken.
    signals_taken: AtomicU64,
}

impl CommandQueue {
    /// Queues a command. The caller signals the shard afterwards. Returns the command that will not be executed, if there is one:
    /// `command` itself where its kind has no place left and is not replaced by a newer one, or the one that it replaces. It is
    /// freed by the caller's thread, outside of the lock.
    pub(super) fn push(&self, command: Command) -> Option<Command> {
        let mut commands = self.lock();
        let kind = mem::discriminant(&command);
        let mut same = commands.iter_mut().filter(|queued| mem::discriminant(&**queued) == kind);
        match same.nth(command.places() - 1) {
            Some(queued) => Some(command.replace(queued)),
            None => {
                commands.push_back(command);
                debug_assert!(commands.len() <= COMMANDS_MAX, "{} commands", commands.len());
                None
            }
        }
    }

    /// The oldest command.
    pub(super) fn pop(&self) -> Option<Command> {
        self.lock().pop_front()
    }

    /// Removes the requests for reports and the inspections, which closes their channels.
    pub(super) fn reject_reports(&self) {
        self.lock().retain(|command| !matches!(command, Command::Report(_) | Command::Inspect(..)));
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Command>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the signal. The caller wakes the shard afterwards.
    pub(super) fn signal(&self) {
        // Sequentially consistent with the flag that announces sleep: either the shard observes the signal, or this thread
        // observes that the shard sleeps and wakes it.
        self.signalled.swap(true, Ordering::SeqCst);
    }

    pub(super) fn is_signalled(&self) -> bool {
        self.signalled.load(Ordering::SeqCst)
    }

    /// Clears the signal. Returns whether it was set.
    pub(super) fn take_signal(&self) -> bool {
        let is_signalled = self.is_signalled() && self.signalled.swap(false, Ordering::SeqCst);
        if is_signalled {
            self.signals_taken.fetch_add(1, Ordering::Relaxed);
        }
        is_signalled
    }

    /// Number of signals that the shard has taken. A running shard takes each one.
    pub(super) fn signals_taken(&self) -> u64 {
        self.signals_taken.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::{Receiver, TryRecvError, bounded};

    use super::*;
    use crate::{
        control::View,
        mesh::{Broadcast, Mailbox, Message},
        policy::{Flag, Flags},
        registry::{List, Lists, Snapshot},
    };

    fn report() -> (Command, Receiver<ShardReport>) {
        let (sender, receiver) = bounded(1);
        (Command::Report(sender), receiver)
    }

    fn inspect() -> (Command, Receiver<ShardInspection>) {
        let (sender, receiver) = bounded(1);
        (Command::Inspect(Inspection { view: View::Memory, top: 1 }, sender), receiver)
    }

    fn swap(swap: &Arc<SnapshotSwap>) -> Command {
        Command::Swap(Box::new(Served::new(Snapshot::empty(), None)), Arc::clone(swap))
    }

    fn set_flags(flags: Flags) -> Command {
        Command::SetFlags(Box::new(ShardFlags::for_all(flags)))
    }

    /// A full queue, and the receivers of its reports.
    fn full(swapped: &Arc<SnapshotSwap>) -> (CommandQueue, Vec<Receiver<ShardReport>>) {
        let queue = CommandQueue::default();
        let mut receivers = Vec::new();
        for _ in 0..REPORTS_MAX {
            let (command, receiver) = report();
            assert!(queue.push(command).is_none());
            receivers.push(receiver);
        }
        assert!(queue.push(swap(swapped)).is_none());
        assert!(queue.push(Command::AcceptQueued).is_none());
        assert!(queue.push(set_flags(Flags::ALL)).is_none());
        assert!(queue.push(Command::Drain).is_none());
        for _ in 0..INSPECTIONS_MAX {
            assert!(queue.push(inspect().0).is_none());
        }
        assert_eq!(queue.lock().len(), COMMANDS_MAX);
        (queue, receivers)
    }

    fn kinds(queue: &CommandQueue) -> (usize, usize, usize) {
        let commands: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        let count = |is: fn(&Command) -> bool| commands.iter().filter(|command| is(command)).count();
        (
            count(|command| matches!(command, Command::Swap(..))),
            count(|command| matches!(command, Command::Report(_))),
            count(|command| matches!(command, Command::Drain)),
        )
    }

    #[test]
    fn full_queue_rejects_a_further_report_or_inspection() {
        let swapped = SnapshotSwap::new(Lists::default(), 1, Broadcast::default());
        let (queue, receivers) = full(&swapped);
        let (command, refused) = report();
        assert!(matches!(queue.push(command), Some(Command::Report(_))));
        assert_eq!(refused.try_recv().err(), Some(TryRecvError::Disconnected));
        assert!(receivers.iter().all(|receiver| receiver.try_recv().err() == Some(TryRecvError::Empty)));
        let (command, refused_inspection) = inspect();
        assert!(matches!(queue.push(command), Some(Command::Inspect(..))));
        assert_eq!(refused_inspection.try_recv().err(), Some(TryRecvError::Disconnected));
        assert_eq!(kinds(&queue), (1, REPORTS_MAX, 1));
    }

    #[test]
    fn drain_is_queued_among_any_number_of_other_commands() {
        let queue = CommandQueue::default();
        let swapped = SnapshotSwap::new(Lists::default(), 1, Broadcast::default());
        for _ in 0..3 * REPORTS_MAX {
            queue.push(report().0);
            queue.push(swap(&swapped));
        }
        assert!(queue.push(Command::Drain).is_none());
        for _ in 0..3 * REPORTS_MAX {
            queue.push(report().0);
            queue.push(Command::Drain);
        }
        assert_eq!(kinds(&queue), (1, REPORTS_MAX, 1));
        assert!(queue.push(Command::Drain).is_none(), "there is a place again");
    }

    #[test]
    fn newest_swap_replaces_the_queued_one_and_publishes_the_changes_of_both() {
        let mailbox = Arc::new(Mailbox::new(8, Box::new(|| {})));
        let broadcast = Broadcast::default();
        broadcast.connect(vec![Arc::clone(&mailbox)]);
        let swapped = |list| SnapshotSwap::new(Lists::default().with(list), 1, broadcast.clone());
        let (older, newer) = (swapped(List::Tools), swapped(List::Prompts));
        let (queue, _receivers) = full(&older);
        let Some(Command::Swap(_, superseded)) = queue.push(swap(&newer)) else {
            panic!("the older one stays in the queue");
        };
        assert!(Arc::ptr_eq(&superseded, &older));
        assert!(mailbox.is_empty(), "published before a shard serves the newer snapshot");
        let queued = std::iter::from_fn(|| queue.pop()).find_map(|command| match command {
            Command::Swap(_, swap) => Some(swap),
            _ => None,
        });
        let queued = queued.unwrap();
        assert!(Arc::ptr_eq(&queued, &newer));
        queued.done();
        let events = std::iter::from_fn(|| mailbox.take());
        assert_eq!(events.filter(|message| matches!(message, Message::Event(_))).count(), 2);
    }

    #[test]
    fn newest_flags_replace_the_queued_ones() {
        let queue = CommandQueue::default();
        let older = Flags::ALL.with(Flag::ZeroCopy, false);
        assert!(queue.push(set_flags(older)).is_none());
        let replaced = queue.push(set_flags(Flags::ALL));
        assert!(matches!(replaced, Some(Command::SetFlags(flags)) if flags.base() == older));
        assert!(matches!(queue.pop(), Some(Command::SetFlags(flags)) if flags.base() == Flags::ALL));
        assert!(queue.pop().is_none());
    }

    #[test]
    fn signal_is_taken_once_and_counted() {
        let queue = CommandQueue::default();
        assert!(!queue.take_signal());
        queue.signal();
        queue.signal();
        assert!(queue.is_signalled() && queue.take_signal() && !queue.take_signal());
        assert_eq!(queue.signals_taken(), 1);
    }
}
