//! The blocking pool: a bounded queue and threads that come and go, off the shards' cores where there are others.
//!
//! A fixed number of threads is always there. A supervisor thread starts more, up to a maximum, once a job has waited for
//! [`WAIT_MAX`], unless as many threads as are always there compute: more would only take turns with them. Those end when they have had no job for a while. A thread whose handler waits for its client does not
//! count towards that maximum, so clients that do not answer cannot keep other calls from running.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    thread::{self, Thread},
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use rustix::thread::{Pid, gettid};

use super::{
    Unfinished,
    completions::{Completed, RemoteCompletions, Ticket},
};
use crate::registry::{Reply, WaitGauge};

/// What is done on a thread.
pub(super) type Work = Box<dyn FnOnce() -> Result<Reply, Unfinished> + Send>;

/// A job that has waited this long gets a thread of its own, up to the maximum.
const WAIT_MAX: Duration = Duration::from_millis(10);

/// Nice value of threads that share the shards' cores: a shard has about ten times the weight of one of them.
const SHARED_CORE_NICE: i32 = 10;

struct Job {
    work: Work,
    cancelled: Arc<AtomicBool>,
    ticket: Ticket,
    home: RemoteCompletions,
}

/// Sizes of a pool, and where its threads run.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// Threads that are always there; at least one.
    pub threads: usize,
    /// The most threads whose handlers do not wait for a client; at least `threads`.
    pub threads_max: usize,
    /// The most threads whose handlers do; beyond it a question is refused.
    pub waiting_max: usize,
    /// The most jobs that wait for a thread; beyond it a job is refused.
    pub queue_max: usize,
    /// A thread beyond `threads` ends after this long without a job.
    pub idle_max: Duration,
    /// Cores without a shard, to which threads are pinned in turn. Empty: threads run anywhere, at nice 10.
    pub cores: Vec<usize>,
}

/// A handle to the pool; its threads end when the last handle is gone and the queue is empty.
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

/// What the pool's threads and its handles share.
struct Shared {
    config: PoolConfig,
    /// Threads there are.
    threads: AtomicUsize,
    /// Their ids.
    ids: Mutex<Vec<Pid>>,
    /// Threads that wait for a job.
    idle: AtomicUsize,
    /// Threads whose handler waits for its client.
    waiting: AtomicUsize,
    /// Jobs taken from the queue so far.
    taken: AtomicU64,
    /// Threads started so far: the next one's number.
    started: AtomicUsize,
    supervisor: OnceLock<Thread>,
    /// The supervisor watches the queue.
    is_watched: AtomicBool,
    /// The last handle is gone.
    ended: AtomicBool,
}

impl BlockingPool {
    /// Starts a pool.
    ///
    /// # Errors
    /// When one of its first threads cannot be started.
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
        // From here on its end is the threads' end.
        let pool = Self(Arc::new(Handle { jobs, shared: Arc::clone(&shared) }));
        for _ in 0..threads {
            shared.start_thread(&queue, true)?;
        }
        let supervised = Arc::clone(&shared);
        let supervisor = thread::Builder::new()
            .name("blocking-pool".to_owned())
            .spawn(move || supervised.supervise(&queue))?;
        // Set once. The supervisor finds a job queued before it when it starts.
        let _ = shared.supervisor.set(supervisor.thread().clone());
        Ok(pool)
    }

    /// Queues a job whose reply goes home under `ticket`. Gives the ticket back when the queue is full.
    pub(super) fn submit(
        &self,
        work: Work,
        cancelled: Arc<AtomicBool>,
        ticket: Ticket,
        home: RemoteCompletions,
    ) -> Result<(), Ticket> {
        let Handle { jobs, shared } = &*self.0;
        jobs.try_send(Job { work, cancelled, ticket, home }).map_err(|refused| match refused {
            TrySendError::Full(job) | TrySendError::Disconnected(job) => job.ticket,
        })?;
        if shared.idle.load(SeqCst) < jobs.len() {
            shared.watch();
        }
        Ok(())
    }

    /// Reads the pool's figures without keeping it.
    #[must_use]
    pub fn observer(&self) -> PoolObserver {
        PoolObserver(Arc::downgrade(&self.0))
    }

    /// Counts the threads whose handlers wait for their clients.
    pub(super) fn wait_gauge(&self) -> Arc<dyn WaitGauge> {
        Arc::clone(&self.0.shared) as Arc<dyn WaitGauge>
    }
}

/// Reads a pool's figures from any thread; the pool ends as if there were none.
#[derive(Clone, Default)]
pub struct PoolObserver(Weak<Handle>);

impl PoolObserver {
    /// The pool's figures now. `None`: there is no pool, or it has ended.
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

/// A pool's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLoad {
    /// Jobs that wait for a thread.
    pub queued: usize,
    /// Threads there are.
    pub threads: usize,
    /// Threads without a job.
    pub idle: usize,
    /// Threads whose handler waits for its client.
    pub waiting: usize,
}

impl WaitGauge for Shared {
    fn begin(&self) -> bool {
        let more = |waiting: usize| (waiting < self.config.waiting_max).then_some(waiting + 1);
        let is_admitted = self.waiting.fetch_update(SeqCst, SeqCst, more).is_ok();
        if is_admitted {
            // A job may be waiting for the place that is free now.
            self.watch();
        }
        is_admitted
    }

    fn end(&self) {
        self.waiting.fetch_sub(1, SeqCst);
    }
}

impl Shared {
    /// Makes the supervisor watch the queue until it is empty.
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

    /// How many threads may be started now.
    fn room(&self) -> usize {
        let allowed = self.config.threads_max + self.waiting.load(SeqCst);
        allowed.saturating_sub(self.threads.load(SeqCst))
    }

    fn ids(&self) -> MutexGuard<'_, Vec<Pid>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many threads compute, or wait for a processor. 0 where `/proc` cannot be read.
    fn running(&self) -> usize {
        let is_running = |id: &Pid| {
            let stat = std::fs::read_to_string(format!("/proc/self/task/{}/stat", id.as_raw_nonzero()));
            // The state follows the name, which may contain anything.
            stat.is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('R')))
        };
        let ids = self.ids().clone();
        ids.iter().filter(|id| is_running(id)).count()
    }

    /// Starts threads for jobs that wait, until the last handle is gone.
    fn supervise(self: &Arc<Self>, queue: &Receiver<Job>) {
        let mut has_failed = false;
        while !self.ended.load(SeqCst) {
            if queue.is_empty() {
                self.is_watched.store(false, SeqCst);
                // One that came meanwhile found the flag set, and woke nobody.
                if queue.is_empty() {
                    thread::park();
                    continue;
                }
            }
            let (queued, taken) = (queue.len(), self.taken.load(SeqCst));
            thread::sleep(WAIT_MAX);
            // The queue is first in, first out: those not taken from its front have waited all the time.
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
                        if !std::mem::replace(&mut has_failed, true) {
                            let threads = self.threads.load(SeqCst);
                            tracing::warn!(
                                %error,
                                threads,
                                threads_max = self.config.threads_max,
                                "cannot start a thread for a blocking call that waits; remedy: raise the limit of \
                                 threads (ulimit -u, TasksMax, the container's pids limit), or lower \
                                 blocking_threads_max"
                            );
                        }
                        break;
                    }
                }
            }
        }
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
                // Only more weight can be forbidden.
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
            // A job that was queued just now may have counted on this thread.
            if !queue.is_empty() {
                self.watch();
            }
            run(job);
            // Handlers whose clients have answered may have taken the pool beyond its maximum.
            let is_surplus =
                || self.threads.load(SeqCst) > self.config.threads_max + self.waiting.load(SeqCst);
            if !is_permanent && is_surplus() {
                return;
            }
        }
    }
}

fn run(job: Job) {
    // Nobody waits for it any more: the thread is for the next one.
    let outcome = if job.cancelled.load(SeqCst) {
        let _ = super::guarded(|| drop(job.work));
        Err(Unfinished::Cancelled)
    } else {
        super::guarded(job.work).unwrap_or_else(Err)
    };
    job.home.push(Completed { ticket: job.ticket, outcome });
}

#[cfg(test)]
mod tests {
    use std::{rc::Rc, sync::Barrier, time::Instant};

    use super::*;
    use crate::runtime::{CallEvent, Completions};

    fn config() -> PoolConfig {
        let idle_max = Duration::from_millis(20);
        PoolConfig { threads: 1, threads_max: 3, waiting_max: 2, queue_max: 100, idle_max, cores: Vec::new() }
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
            assert!(began.elapsed() < Duration::from_secs(20), "the condition never holds");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn ended(completions: &Completions) -> usize {
        std::iter::from_fn(|| completions.pop()).filter(|event| matches!(event, CallEvent::Ended(_))).count()
    }

    #[test]
    fn pool_with_waiting_jobs_grows_to_its_maximum_and_shrinks_when_idle() {
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
    fn waiting_handlers_have_threads_beyond_the_maximum_up_to_a_bound() {
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
}
