//! Observation of the tasks of a shard's executor. A poll that takes long delays the shard as an inline handler does, so it is published
//! as a turn of its own, for the watchdog, and reported to the shard when it has ended.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{call::Callable, telemetry::turn_status::TurnStatus};

thread_local! {
    /// The observer of the tasks on this thread, if it is a shard's.
    static CURRENT: RefCell<Option<Rc<PollObserver>>> = const { RefCell::new(None) };
}

/// Observer of the tasks on one shard.
pub(crate) struct PollObserver {
    turn: Arc<TurnStatus>,
    slow: Duration,
    /// Polls that took longer than `slow`.
    slow_polls: RefCell<Vec<SlowPoll>>,
    /// Time of all polls since it was taken.
    polled: Cell<Duration>,
}

/// A poll that took long.
pub(crate) struct SlowPoll {
    /// The tool, prompt or resource of the task; `None` for a task that a handler has spawned.
    pub(crate) name: Option<Arc<str>>,
    pub(crate) took: Duration,
}

/// The callable of a task: its name, and its address for comparison.
pub(super) struct TaskOf {
    name: Arc<str>,
    address: usize,
}

impl TaskOf {
    pub(super) fn new(callable: &Callable) -> Self {
        Self { name: Arc::clone(callable.shared_name()), address: TurnStatus::address(callable) }
    }
}

impl PollObserver {
    /// An observer that publishes there, of polls on the calling thread.
    pub(super) fn install(turn: Arc<TurnStatus>, slow: Duration) -> Rc<Self> {
        let observer = Rc::new(Self { turn, slow, slow_polls: RefCell::default(), polled: Cell::default() });
        CURRENT.set(Some(Rc::clone(&observer)));
        observer
    }

    /// Whether a poll took long since the last call of [`Self::take`].
    #[inline]
    pub(super) fn has_any(&self) -> bool {
        !self.slow_polls.borrow().is_empty()
    }

    pub(super) fn take(&self) -> Vec<SlowPoll> {
        self.slow_polls.take()
    }

    /// Takes the time of all polls since the last call.
    #[inline]
    pub(super) fn take_polled(&self) -> Duration {
        self.polled.take()
    }
}

/// The observer of the calling thread; `None` if it is no shard's.
pub(super) fn current() -> Option<Rc<PollObserver>> {
    CURRENT.with_borrow(Clone::clone)
}

/// Polls a task, observed.
pub(super) fn observe<T>(
    observer: Option<&PollObserver>,
    task: Option<&TaskOf>,
    poll: impl FnOnce() -> T,
) -> T {
    let Some(observer) = observer else { return poll() };
    let began = Instant::now();
    observer.turn.begin(began);
    if let Some(task) = task {
        observer.turn.start_at(task.address);
    }
    let end = EndPoll { observer, task, began };
    let output = poll();
    drop(end);
    output
}

/// Ends the observation of a poll when dropped, also by a panic.
struct EndPoll<'a> {
    observer: &'a PollObserver,
    task: Option<&'a TaskOf>,
    began: Instant,
}

impl Drop for EndPoll<'_> {
    fn drop(&mut self) {
        self.observer.turn.end();
        let took = self.began.elapsed();
        self.observer.polled.set(self.observer.polled.get() + took);
        if took >= self.observer.slow {
            let name = self.task.map(|task| Arc::clone(&task.name));
            self.observer.slow_polls.borrow_mut().push(SlowPoll { name, took });
        }
    }
}
