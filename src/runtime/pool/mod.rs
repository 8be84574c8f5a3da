//! Blocking pool: a bounded queue and a variable number of threads, which run outside the shards' cores if there are other cores.
//!
//! A fixed number of threads is permanent. A supervisor thread starts temporary ones, up to a maximum, when a job has waited for
//! [`WAIT_MAX`], unless as many threads compute as are permanent; more would only compete with them. A temporary thread ends
//! when it has been idle for a while. A thread whose handler waits for its client does not count towards the maximum, so clients
//! that do not answer cannot block other calls.
//!
//! Jobs wait by peer, and the peer with the fewest running jobs is served next ([`FairQueue`]). A peer without a running job does
//! not wait for the jobs of others either: when its job has waited for [`WAIT_MAX`], the supervisor starts a spare thread, which
//! runs only jobs of such peers. Spare threads are not limited by the number of threads that compute.

#[cfg(test)]
mod tests;

use std::{
    cell::Cell,
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    thread,
    time::{Duration, Instant},
};

use rustix::thread::{Pid, gettid};

use super::{
    completions::{RemoteCompletions, Ticket, Unfinished, catch_panic},
    fair_queue::FairQueue,
};
use crate::{
    call::{Reply, WaitGauge},
    peer::{NoRoom, PeerKey},
    telemetry::log::RateLimit,
};

/// Work of one job.
pub(super) type Work = Box<dyn FnOnce() -> Result<Reply, Unfinished> + Send>;

/// Time a job waits before a temporary or spare thread is started for it.
const WAIT_MAX: Duration = Duration::from_millis(10);

/// Maximum number of spare threads: one for this many of `threads_max`, and at least one.
const THREADS_PER_SPARE: usize = 16;

/// Nice value of threads that share the shards' cores. A shard then has about ten times the weight of such a thread.
const SHARED_CORE_NICE: i32 = 10;

/// The recipient of a job's completion: the flag that cancels it, and the call that its completion ends.
pub(super) struct Recipient {
    pub(super) cancelled: Arc<AtomicBool>,
    pub(super) ticket: Ticket,
    pub(super) completions: RemoteCompletions,
}

struct Job {
    work: Work,
    recipient: Recipient,
}

/// Sizes and cores of a pool.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// Number of permanent threads; at least 1.
    pub threads: usize,
    /// Maximum number of threads whose handlers do not wait for a client; at least `threads`. Spare threads are not included.
    pub threads_max: usize,
    /// Maximum number of threads whose handlers wait for a client. Beyond it a client request fails.
    pub waiting_max: usize,
    /// Maximum number of queued jobs. Beyond it a job is rejected.
    pub queue_max: usize,
    /// Share of the queue that one peer may use while the jobs of others wait and it is half full, in percent.
    pub peer_share_percent: u32,
    /// Idle time after which a temporary or spare thread ends.
    pub idle_max: Duration,
    /// Stack of each thread, in bytes.
    pub stack_bytes: usize,
    /// Maximum log lines in a second about threads that cannot be started.
    pub log_lines_per_second_max: u32,
    /// Cores without a shard, to which threads are pinned in turn. If empty, threads run on any core at nice 10.
    pub cores: Vec<usize>,
}

/// Handle of the pool. Its threads end when the last handle has been dropped and the queue is empty.
#[derive(Clone)]
pub struct BlockingPool(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let shared = &self.shared;
        shared.state().has_ended = true;
        [&shared.job, &shared.newcomer, &shared.overdue].into_iter().for_each(Condvar::notify_all);
    }
}

/// Kind of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Permanent,
    Temporary,
    /// Runs only jobs of peers without a running job.
    Spare,
}

thread_local! {
    /// The kind of a thread of a pool. A spare thread whose handler waits for its client becomes a temporary one.
    static KIND: Cell<Kind> = const { Cell::new(Kind::Temporary) };
}

/// State shared by the pool's threads and its handles.
struct Shared {
    config: PoolConfig,
    state: Mutex<State>,
    /// Wakes a permanent or temporary thread.
    job: Condvar,
    /// Wakes a spare thread.
    newcomer: Condvar,
    /// Wakes the supervisor.
    overdue: Condvar,
    /// Ids of the threads.
    ids: Mutex<Vec<Pid>>,
}

struct State {
    queue: FairQueue<Job>,
    /// Permanent and temporary threads.
    threads: ThreadCount,
    spares: ThreadCount,
    /// Number of threads whose handler waits for its client.
    waiting: usize,
    /// Number of jobs taken from the queue so far.
    taken: u64,
    /// Number of threads started so far, which numbers the next one.
    started: usize,
    /// Whether the supervisor watches the queue.
    is_watched: bool,
    /// Whether the last handle has been dropped.
    has_ended: bool,
}

#[derive(Clone, Copy, Default)]
struct ThreadCount {
    all: usize,
    /// Those that wait for a job. A thread that was woken counts until it runs.
    idle: usize,
}

impl State {
    fn count(&mut self, kind: Kind) -> &mut ThreadCount {
        match kind {
            Kind::Permanent | Kind::Temporary => &mut self.threads,
            Kind::Spare => &mut self.spares,
        }
    }

    /// Whether a spare thread has a job: the next one is of a peer without a running job, and no other thread is idle.
    fn has_newcomer(&self) -> bool {
        self.threads.idle == 0 && self.queue.newcomer().is_some()
    }

    fn take(&mut self, kind: Kind) -> Option<(PeerKey, Job)> {
        if kind == Kind::Spare && !self.has_newcomer() {
            return None;
        }
        let taken = self.queue.take()?;
        self.taken += 1;
        Some(taken)
    }
}

impl BlockingPool {
    /// Starts a pool.
    ///
    /// # Errors
    /// A permanent thread cannot be started.
    pub fn start(config: PoolConfig) -> io::Result<Self> {
        let threads = config.threads.max(1);
        let config = PoolConfig { threads, threads_max: config.threads_max.max(threads), ..config };
        let state = State {
            queue: FairQueue::new(config.queue_max, config.peer_share_percent),
            threads: ThreadCount::default(),
            spares: ThreadCount::default(),
            waiting: 0,
            taken: 0,
            started: 0,
            is_watched: false,
            has_ended: false,
        };
        let shared = Arc::new(Shared {
            config,
            state: Mutex::new(state),
            job: Condvar::new(),
            newcomer: Condvar::new(),
            overdue: Condvar::new(),
            ids: Mutex::default(),
        });
        // From here on, dropping the pool ends the threads.
        let pool = Self(Arc::new(Handle { shared: Arc::clone(&shared) }));
        for _ in 0..threads {
            shared.start_thread(Kind::Permanent)?;
        }
        thread::Builder::new().name("blocking-pool".to_owned()).spawn(move || shared.supervise())?;
        Ok(pool)
    }

    /// Queues a job of a peer. Returns the reason if the queue is full or the peer uses its share of it.
    pub(super) fn submit(&self, peer: PeerKey, work: Work, recipient: Recipient) -> Result<(), NoRoom> {
        let shared = &self.0.shared;
        let mut state = shared.state();
        if let Err((job, reason)) = state.queue.push(peer, Job { work, recipient }) {
            // The handler's values are dropped without the lock.
            drop(state);
            drop(job);
            return Err(reason);
        }
        shared.wake_for_job(state);
        Ok(())
    }

    /// Queues a job for a call whose handler has ended, whatever the length of the queue: the calls in flight bound their number.
    pub(super) fn submit_admitted(&self, peer: PeerKey, work: Work, recipient: Recipient) {
        let shared = &self.0.shared;
        let mut state = shared.state();
        state.queue.push_admitted(peer, Job { work, recipient });
        shared.wake_for_job(state);
    }

    /// Returns an observer that does not keep the pool alive.
    #[must_use]
    pub fn observer(&self) -> PoolObserver {
        PoolObserver(Arc::downgrade(&self.0))
    }

    /// Returns the gauge of threads whose handlers wait for their clients, for the handler of a peer.
    pub(super) fn wait_gauge(&self, peer: PeerKey) -> Arc<dyn WaitGauge> {
        Arc::new(PeerWait { shared: Arc::clone(&self.0.shared), peer, waits: AtomicUsize::new(0) })
    }
}

/// Observer of a pool's load, for any thread. Does not keep the pool alive.
#[derive(Clone, Default)]
pub struct PoolObserver(Weak<Handle>);

impl PoolObserver {
    /// The current load; `None` if there is no pool or it has ended.
    #[must_use]
    pub fn load(&self) -> Option<PoolLoad> {
        let handle = self.0.upgrade()?;
        let state = handle.shared.state();
        Some(PoolLoad {
            queued: state.queue.len(),
            threads: state.threads.all + state.spares.all,
            idle: state.threads.idle + state.spares.idle,
            waiting: state.waiting,
        })
    }
}

/// Load of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLoad {
    /// Number of queued jobs.
    pub queued: usize,
    /// Number of threads.
    pub threads: usize,
    /// Number of threads without a job.
    pub idle: usize,
    /// Number of threads whose handler waits for its client.
    pub waiting: usize,
}

/// The gauge of one call. A handler that waits for its client is not a running job of its peer.
struct PeerWait {
    shared: Arc<Shared>,
    peer: PeerKey,
    /// Number of waits of the handler. It may have several on threads of its own. Changed under the lock of the state.
    waits: AtomicUsize,
}

impl WaitGauge for PeerWait {
    fn begin(&self) -> bool {
        let Self { shared, peer, waits } = self;
        let mut state = shared.state();
        if state.waiting >= shared.config.waiting_max {
            return false;
        }
        state.waiting += 1;
        if KIND.get() == Kind::Spare {
            KIND.set(Kind::Temporary);
            state.spares.all -= 1;
            state.threads.all += 1;
        }
        if waits.fetch_add(1, Relaxed) == 0 {
            state.queue.finish(*peer);
        }
        // A thread may be started now for a queued job.
        shared.watch(&mut state);
        shared.wake_spare(&state);
        true
    }

    fn end(&self) {
        let mut state = self.shared.state();
        debug_assert!(state.waiting > 0, "a handler that does not wait ends waiting");
        state.waiting = state.waiting.saturating_sub(1);
        if self.waits.fetch_sub(1, Relaxed) == 1 {
            state.queue.resume(self.peer);
        }
    }
}

impl Shared {
    /// A panic leaves no state behind that the next thread could not use: handlers run without the lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes a thread for a job that was queued.
    fn wake_for_job(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let is_short = state.threads.idle < state.queue.len();
        let wakes_thread = state.threads.idle > 0;
        let wakes_spare = is_short && state.spares.idle > 0;
        if is_short {
            self.watch(&mut state);
        }
        drop(state);
        if wakes_thread {
            self.job.notify_one();
        }
        if wakes_spare {
            self.newcomer.notify_one();
        }
    }

    fn ids(&self) -> MutexGuard<'_, Vec<Pid>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the supervisor, which then watches the queue until it is empty.
    fn watch(&self, state: &mut State) {
        if !std::mem::replace(&mut state.is_watched, true) {
            self.overdue.notify_one();
        }
    }

    fn wake_spare(&self, state: &State) {
        if state.spares.idle > 0 && state.has_newcomer() {
            self.newcomer.notify_one();
        }
    }

    /// Number of threads that compute or wait for a processor; 0 if `/proc` cannot be read.
    fn running(&self) -> usize {
        let is_running = |id: &Pid| {
            let stat = std::fs::read_to_string(format!("/proc/self/task/{}/stat", id.as_raw_nonzero()));
            // The state follows the name in parentheses, which may contain any characters.
            stat.is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('R')))
        };
        let ids = self.ids().clone();
        ids.iter().filter(|id| is_running(id)).count()
    }

    /// Starts threads for waiting jobs, until the last handle is dropped.
    fn supervise(self: &Arc<Self>) {
        let config = &self.config;
        let spares_max = (config.threads_max / THREADS_PER_SPARE).max(1);
        let mut has_failed = false;
        let mut lines = RateLimit::new(config.log_lines_per_second_max);
        let mut state = self.state();
        while !state.has_ended {
            if state.queue.is_empty() {
                state.is_watched = false;
                state = self.overdue.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let (queued, taken, newcomer) = (state.queue.len(), state.taken, state.queue.newcomer());
            drop(state);
            thread::sleep(WAIT_MAX);
            state = self.state();
            // Of the jobs that waited before, as many as were not taken meanwhile have waited all the time, or more.
            let taken = usize::try_from(state.taken - taken).unwrap_or(usize::MAX);
            let overdue = queued.saturating_sub(taken).min(state.queue.len());
            let room = (config.threads_max + state.waiting).saturating_sub(state.threads.all);
            let is_newcomer_overdue = newcomer.is_some() && newcomer == state.queue.newcomer();
            let needs_spare = is_newcomer_overdue && state.spares.all < spares_max;
            drop(state);
            let mut start = overdue.min(room);
            if start > 0 {
                start = start.min(config.threads.saturating_sub(self.running()));
            }
            let kinds = std::iter::repeat_n(Kind::Temporary, start);
            for kind in kinds.chain((start == 0 && needs_spare).then_some(Kind::Spare)) {
                let started = self.start_thread(kind);
                if let Err(error) = &started
                    && !has_failed
                    && let Some(suppressed) = lines.admit("pool_thread", Instant::now())
                {
                    self.log_no_thread(error, suppressed);
                }
                has_failed = started.is_err();
                if has_failed {
                    break;
                }
            }
            state = self.state();
        }
    }

    fn log_no_thread(&self, error: &io::Error, suppressed: u64) {
        let threads = self.state().threads.all;
        tracing::warn!(
            %error,
            threads,
            threads_max = self.config.threads_max,
            suppressed = (suppressed > 0).then_some(suppressed),
            "cannot start a thread for a blocking call that waits; remedy: raise the limit of threads (ulimit -u, TasksMax, \
             the container's pids limit), or lower blocking_threads_max"
        );
    }

    fn start_thread(self: &Arc<Self>, kind: Kind) -> io::Result<()> {
        let mut state = self.state();
        let number = state.started;
        state.started += 1;
        state.count(kind).all += 1;
        drop(state);
        let shared = Arc::clone(self);
        let started = thread::Builder::new()
            .name(format!("blocking-{number}"))
            .stack_size(self.config.stack_bytes)
            .spawn(move || {
                let cores = &shared.config.cores;
                match cores.get(number % cores.len().max(1)) {
                    Some(&id) => {
                        core_affinity::set_for_current(core_affinity::CoreId { id });
                    }
                    // Raising the nice value is always permitted.
                    None => drop(rustix::process::setpriority_process(None, SHARED_CORE_NICE)),
                }
                let id = gettid();
                shared.ids().push(id);
                KIND.set(kind);
                let mut finished = None;
                while let Some((peer, job)) = shared.next_job(finished) {
                    run(job);
                    finished = Some(peer);
                }
                shared.ids().retain(|other| *other != id);
            });
        if started.is_err() {
            self.state().count(kind).all -= 1;
        }
        started.map(drop)
    }

    /// Waits for the calling thread's next job, after a job of the peer `finished`. `None`: the thread ends, and is no longer counted.
    fn next_job(&self, finished: Option<PeerKey>) -> Option<(PeerKey, Job)> {
        let kind = KIND.get();
        let mut state = self.state();
        if let Some(peer) = finished {
            state.queue.finish(peer);
        }
        // The pool may exceed its maximum after waiting handlers have received their answers.
        let is_surplus =
            kind == Kind::Temporary && state.threads.all > self.config.threads_max + state.waiting;
        let until = Instant::now() + self.config.idle_max;
        let job = loop {
            if !is_surplus && let Some(job) = state.take(kind) {
                break Some(job);
            }
            let left = until.saturating_duration_since(Instant::now());
            if is_surplus || state.has_ended || (kind != Kind::Permanent && left.is_zero()) {
                state.count(kind).all -= 1;
                break None;
            }
            state.count(kind).idle += 1;
            state = match kind {
                Kind::Permanent => self.job.wait(state).unwrap_or_else(PoisonError::into_inner),
                Kind::Temporary => wait_for(&self.job, state, left),
                Kind::Spare => wait_for(&self.newcomer, state, left),
            };
            state.count(kind).idle -= 1;
        };
        // A job queued meanwhile may have counted this thread as idle.
        if !state.queue.is_empty() {
            self.watch(&mut state);
            self.wake_spare(&state);
        }
        job
    }
}

fn wait_for<'a>(condition: &Condvar, state: MutexGuard<'a, State>, limit: Duration) -> MutexGuard<'a, State> {
    condition.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner).0
}

fn run(Job { work, recipient }: Job) {
    let Recipient { cancelled, ticket, completions } = recipient;
    // A cancelled job is dropped without running.
    let outcome = if cancelled.load(SeqCst) {
        let _ = catch_panic(|| drop(work));
        Err(Unfinished::Cancelled)
    } else {
        catch_panic(work).unwrap_or_else(Err)
    };
    completions.push(ticket, outcome);
}
