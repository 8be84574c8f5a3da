//! Blocking pool: a bounded queue and a variable number of threads, which run outside the shards' cores if there are other cores.
//!
//! A fixed number of threads is permanent. A supervisor thread starts temporary ones, up to a maximum, when a job has waited for
//! [`WAIT_MAX`], unless as many threads compute as are permanent; more would only compete with them. A temporary thread ends
//! when it has been idle for a while. A thread whose handler waits for its client does not count towards the maximum, so clients
//! that do not answer cannot block other calls.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use rustix::thread::{Pid, gettid};

use super::{
    Unfinished,
    completions::{Completed, RemoteCompletions, Ticket},
};
use crate::{
    call::{Reply, WaitGauge},
    telemetry::log::RateLimit,
};

/// Work of one job.
pub(super) type Work = Box<dyn FnOnce() -> Result<Reply, Unfinished> + Send>;

/// Time a job waits before a temporary thread is started for it.
const WAIT_MAX: Duration = Duration::from_millis(10);

/// Nice value of threads that share the shards' cores. A shard then has about ten times the weight of such a thread.
const SHARED_CORE_NICE: i32 = 10;

struct Job {
    work: Work,
    cancelled: Arc<AtomicBool>,
    ticket: Ticket,
    completions: RemoteCompletions,
}

/// Sizes and cores of a pool.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// Number of permanent threads; at least 1.
    pub threads: usize,
    /// Maximum number of threads whose handlers do not wait for a client; at least `threads`.
    pub threads_max: usize,
    /// Maximum number of threads whose handlers wait for a client. Beyond it a client request fails.
    pub waiting_max: usize,
    /// Maximum number of queued jobs. Beyond it a job is rejected.
    pub queue_max: usize,
    /// Idle time after which a temporary thread ends.
    pub idle_max: Duration,
    /// Maximum log lines in a second about threads that cannot be started.
    pub log_lines_per_second_max: u32,
    /// Cores without a shard, to which threads are pinned in turn. If empty, threads run on any core at nice 10.
    pub cores: Vec<usize>,
}

/// Handle of the pool. Its threads end when the last handle has been dropped and the queue is empty.
#[derive(Clone)]
pub struct BlockingPool(Arc<Handle>);

struct Handle {
    jobs: Sender<Job>,
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.ended.store(true, SeqCst);
        self.shared.wake_supervisor();
    }
}

/// State shared by the pool's threads and its handles.
struct Shared {
    config: PoolConfig,
    /// Number of threads.
    threads: AtomicUsize,
    /// Ids of the threads.
    ids: Mutex<Vec<Pid>>,
    /// Number of threads that wait for a job.
    idle: AtomicUsize,
    /// Number of threads whose handler waits for its client.
    waiting: AtomicUsize,
    /// Number of jobs taken from the queue so far.
    taken: AtomicU64,
    /// Number of threads started so far, which numbers the next one.
    started: AtomicUsize,
    supervisor: OnceLock<Thread>,
    /// Whether the supervisor watches the queue.
    is_watched: AtomicBool,
    /// Whether the last handle has been dropped.
    ended: AtomicBool,
}

impl BlockingPool {
    /// Starts a pool.
    ///
    /// # Errors
    /// A permanent thread cannot be started.
    pub fn start(config: PoolConfig) -> io::Result<Self> {
        let (jobs, queue) = bounded(config.queue_max);
        let threads = config.threads.max(1);
        let config = PoolConfig { threads, threads_max: config.threads_max.max(threads), ..config };
        let shared = Arc::new(Shared {
            config,
            threads: AtomicUsize::new(0),
            ids: Mutex::default(),
            idle: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            taken: AtomicU64::new(0),
            started: AtomicUsize::new(0),
            supervisor: OnceLock::new(),
            is_watched: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        // From here on, dropping the pool ends the threads.
        let pool = Self(Arc::new(Handle { jobs, shared: Arc::clone(&shared) }));
        for _ in 0..threads {
            shared.start_thread(&queue, true)?;
        }
        let supervised = Arc::clone(&shared);
        let supervisor = thread::Builder::new()
            .name("blocking-pool".to_owned())
            .spawn(move || supervised.supervise(&queue))?;
        // Set once. The supervisor checks the queue when it starts, so a job queued before is not lost.
        let _ = shared.supervisor.set(supervisor.thread().clone());
        Ok(pool)
    }

    /// Queues a job whose completion is pushed to `completions`. Returns the ticket if the queue is full.
    pub(super) fn submit(
        &self,
        work: Work,
        cancelled: Arc<AtomicBool>,
        ticket: Ticket,
        completions: RemoteCompletions,
    ) -> Result<(), Ticket> {
        let Handle { jobs, shared } = &*self.0;
        jobs.try_send(Job { work, cancelled, ticket, completions }).map_err(|refused| match refused {
            TrySendError::Full(job) | TrySendError::Disconnected(job) => job.ticket,
        })?;
        if shared.idle.load(SeqCst) < jobs.len() {
            shared.watch();
        }
        Ok(())
    }

    /// Returns an observer that does not keep the pool alive.
    #[must_use]
    pub fn observer(&self) -> PoolObserver {
        PoolObserver(Arc::downgrade(&self.0))
    }

    /// Returns the gauge of threads whose handlers wait for their clients.
    pub(super) fn wait_gauge(&self) -> Arc<dyn WaitGauge> {
        Arc::clone(&self.0.shared) as Arc<dyn WaitGauge>
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
        let shared = &handle.shared;
        Some(PoolLoad {
            queued: handle.jobs.len(),
            threads: shared.threads.load(SeqCst),
            idle: shared.idle.load(SeqCst),
            waiting: shared.waiting.load(SeqCst),
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

impl WaitGauge for Shared {
    fn begin(&self) -> bool {
        let more = |waiting: usize| (waiting < self.config.waiting_max).then_some(waiting + 1);
        let is_admitted = self.waiting.fetch_update(SeqCst, SeqCst, more).is_ok();
        if is_admitted {
            // A thread may be started now for a queued job.
            self.watch();
        }
        is_admitted
    }

    fn end(&self) {
        let waiting = self.waiting.fetch_sub(1, SeqCst);
        debug_assert!(waiting > 0, "a handler that does not wait ends waiting");
    }
}

impl Shared {
    /// Wakes the supervisor, which then watches the queue until it is empty.
    fn watch(&self) {
        if !self.is_watched.swap(true, SeqCst) {
            self.wake_supervisor();
        }
    }

    fn wake_supervisor(&self) {
        if let Some(supervisor) = self.supervisor.get() {
            supervisor.unpark();
        }
    }

    /// Number of threads that may be started now.
    fn room(&self) -> usize {
        let allowed = self.config.threads_max + self.waiting.load(SeqCst);
        allowed.saturating_sub(self.threads.load(SeqCst))
    }

    fn ids(&self) -> MutexGuard<'_, Vec<Pid>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn supervise(self: &Arc<Self>, queue: &Receiver<Job>) {
        let mut has_failed = false;
        let mut lines = RateLimit::new(self.config.log_lines_per_second_max);
        while !self.ended.load(SeqCst) {
            if queue.is_empty() {
                self.is_watched.store(false, SeqCst);
                // A job queued before the flag was cleared has not woken the supervisor.
                if queue.is_empty() {
                    thread::park();
                    continue;
                }
            }
            let (queued, taken) = (queue.len(), self.taken.load(SeqCst));
            thread::sleep(WAIT_MAX);
            // The queue is first in, first out: the jobs that were not taken meanwhile have waited all the time.
            let taken = self.taken.load(SeqCst).saturating_sub(taken);
            let overdue = queued.saturating_sub(usize::try_from(taken).unwrap_or(usize::MAX));
            let mut start = overdue.min(self.room());
            if start > 0 {
                start = start.min(self.config.threads.saturating_sub(self.running()));
            }
            for _ in 0..start {
                match self.start_thread(queue, false) {
                    Ok(()) => has_failed = false,
                    Err(error) => {
                        if !std::mem::replace(&mut has_failed, true)
                            && let Some(suppressed) = lines.admit("pool_thread", Instant::now())
                        {
                            self.log_no_thread(&error, suppressed);
                        }
                        break;
                    }
                }
            }
        }
    }

    fn log_no_thread(&self, error: &io::Error, suppressed: u64) {
        tracing::warn!(
            %error,
            threads = self.threads.load(SeqCst),
            threads_max = self.config.threads_max,
            suppressed = (suppressed > 0).then_some(suppressed),
            "cannot start a thread for a blocking call that waits; remedy: raise the limit of threads (ulimit -u, \
             TasksMax, the container's pids limit), or lower blocking_threads_max"
        );
    }

    fn start_thread(self: &Arc<Self>, queue: &Receiver<Job>, is_permanent: bool) -> io::Result<()> {
        let number = self.started.fetch_add(1, SeqCst);
        let (shared, queue) = (Arc::clone(self), queue.clone());
        self.threads.fetch_add(1, SeqCst);
        let started = thread::Builder::new().name(format!("blocking-{number}")).spawn(move || {
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
            shared.run_jobs(&queue, is_permanent);
            shared.ids().retain(|other| *other != id);
            shared.threads.fetch_sub(1, SeqCst);
        });
        if started.is_err() {
            self.threads.fetch_sub(1, SeqCst);
        }
        started.map(drop)
    }

    fn run_jobs(&self, queue: &Receiver<Job>, is_permanent: bool) {
        loop {
            self.idle.fetch_add(1, SeqCst);
            let job = if is_permanent {
                queue.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                queue.recv_timeout(self.config.idle_max)
            };
            self.idle.fetch_sub(1, SeqCst);
            let Ok(job) = job else { return };
            self.taken.fetch_add(1, SeqCst);
            // A job queued meanwhile may have counted this thread as idle.
            if !queue.is_empty() {
                self.watch();
            }
            run(job);
            // The pool may exceed its maximum after waiting handlers have received their answers.
            let is_surplus =
                || self.threads.load(SeqCst) > self.config.threads_max + self.waiting.load(SeqCst);
            if !is_permanent && is_surplus() {
                return;
            }
        }
    }
}

fn run(job: Job) {
    // A cancelled job is dropped without running.
    let outcome = if job.cancelled.load(SeqCst) {
        let _ = super::catch_panic(|| drop(job.work));
        Err(Unfinished::Cancelled)
    } else {
        super::catch_panic(job.work).unwrap_or_else(Err)
    };
    job.completions.push(Completed { ticket: job.ticket, outcome });
}

#[cfg(test)]
mod tests {
    use std::{rc::Rc, sync::Barrier};

    use super::*;
    use crate::runtime::{CallEvent, Completions};

    fn config() -> PoolConfig {
        let idle_max = Duration::from_millis(20);
        let (threads, threads_max, waiting_max, queue_max) = (1, 3, 2, 100);
        let log_lines_per_second_max = 1;
        let cores = Vec::new();
        PoolConfig { threads, threads_max, waiting_max, queue_max, idle_max, log_lines_per_second_max, cores }
    }

    fn submit(pool: &BlockingPool, completions: &Rc<Completions>, work: impl FnOnce() + Send + 'static) {
        let work = Box::new(move || {
            work();
            Ok(Reply::default())
        });
        pool.submit(work, Arc::default(), Ticket::default(), completions.remote()).unwrap();
    }

    fn until(condition: impl Fn() -> bool) {
        let began = Instant::now();
        while !condition() {
            assert!(began.elapsed() < Duration::from_secs(20), "the condition did not hold within 20 s");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn ended(completions: &Completions) -> usize {
        std::iter::from_fn(|| completions.pop()).filter(|event| matches!(event, CallEvent::Ended(_))).count()
    }

    #[test]
    fn pool_grows_to_its_maximum_and_shrinks_when_idle() {
        let pool = BlockingPool::start(config()).unwrap();
        let completions = Completions::new(100, 1, Arc::new(|| ()));
        let barrier = Arc::new(Barrier::new(3));
        for _ in 0..9 {
            let barrier = Arc::clone(&barrier);
            submit(&pool, &completions, move || {
                barrier.wait();
            });
        }
        let threads = || pool.0.shared.threads.load(SeqCst);
        let all = std::cell::Cell::new(0);
        until(|| {
            assert!(threads() <= 3);
            all.set(all.get() + ended(&completions));
            all.get() == 9
        });
        until(|| threads() == 1);
        submit(&pool, &completions, || ());
        until(|| ended(&completions) == 1);
    }

    #[test]
    fn waiting_handlers_have_additional_threads_up_to_their_limit() {
        let pool = BlockingPool::start(PoolConfig { threads_max: 1, ..config() }).unwrap();
        let completions = Completions::new(100, 1, Arc::new(|| ()));
        let (answer, answers) = bounded::<()>(0);
        for _ in 0..2 {
            let (gauge, answers) = (pool.wait_gauge(), answers.clone());
            submit(&pool, &completions, move || {
                assert!(gauge.begin());
                answers.recv().unwrap();
                gauge.end();
            });
        }
        until(|| pool.0.shared.waiting.load(SeqCst) == 2);
        assert!(!pool.wait_gauge().begin(), "one more than may wait");
        submit(&pool, &completions, || ());
        until(|| ended(&completions) == 1);
        assert!(pool.0.shared.threads.load(SeqCst) <= 3);
        answer.send(()).unwrap();
        answer.send(()).unwrap();
        until(|| pool.0.shared.threads.load(SeqCst) == 1);
        assert!(pool.wait_gauge().begin());
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "a handler that does not wait ends waiting")]
    fn end_of_waiting_without_its_begin_panics() {
        BlockingPool::start(config()).unwrap().wait_gauge().end();
    }
}
