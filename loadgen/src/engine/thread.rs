//! Starts, controls and joins the generator's threads.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, unbounded};
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};

use super::{
    Plan,
    generator::Generator,
    report::{ThreadControl, ThreadReport},
};
use crate::error::LoadError;

/// The running generator threads. Dropping it stops them.
#[derive(Debug)]
pub struct Engine {
    control: Arc<ThreadControl>,
    reports: Receiver<ThreadReport>,
    threads: Vec<ExecutorJoinHandle<()>>,
}

/// Time from the moment all threads are ready to the first request.
const START_DELAY: Duration = Duration::from_millis(20);

impl Engine {
    /// Starts the threads; each opens its share of the connections.
    ///
    /// # Errors
    /// When a thread or its ring cannot be created.
    pub fn start(plan: &Arc<Plan>) -> Result<Self, LoadError> {
        let resource = |reason: &dyn std::fmt::Display| LoadError::Resource(reason.to_string());
        corelane_ring::raise_descriptor_limit().map_err(|error| resource(&error))?;
        // The probe runs on a thread of its own, because dropping a ring can interrupt a system call of its thread.
        std::thread::spawn(corelane_ring::probe)
            .join()
            .map_err(|_| resource(&"the probe of io_uring panicked"))?
            .map_err(|error| resource(&error))?;
        let (sender, reports) = unbounded();
        let control = Arc::new(ThreadControl {
            epoch: Instant::now(),
            start_ns: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let mut engine = Self { control, reports, threads: Vec::new() };
        for (index, &core) in plan.cores.iter().enumerate() {
            let thread = spawn(index, core, Arc::clone(plan), Arc::clone(&engine.control), sender.clone())?;
            engine.threads.push(thread);
        }
        Ok(engine)
    }

    /// Number of threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads.len()
    }

    /// Reports of the threads.
    #[must_use]
    pub fn reports(&self) -> &Receiver<ThreadReport> {
        &self.reports
    }

    /// Starts the load on all threads at the same time, and returns that time.
    pub fn begin(&self) -> Instant {
        let start = Instant::now() + START_DELAY;
        let start_ns = start.saturating_duration_since(self.control.epoch).as_nanos();
        self.control.start_ns.store(u64::try_from(start_ns).unwrap_or(u64::MAX).max(1), Ordering::Release);
        start
    }

    /// Ends the measured time.
    pub fn stop(&self) {
        self.control.stop.store(true, Ordering::Relaxed);
    }

    /// Waits for the threads to exit.
    pub fn join(mut self) {
        for thread in self.threads.drain(..) {
            // A thread reports its failure before it exits.
            let _ = thread.join();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}

/// glommio's preemption interval. If this timer fires before the first task of a round has run, glommio 0.9 parks
/// although a task is runnable, and the thread never wakes up. The interval must be longer than any pause of a thread.
const PREEMPTION: Duration = Duration::from_secs(60);

/// An executor for a generator thread, pinned to a core. Its own rings are small, because the sockets use another one.
pub(crate) fn executor(core: usize, name: &str) -> LocalExecutorBuilder {
    LocalExecutorBuilder::new(Placement::Fixed(core))
        .name(name)
        .io_memory(64 * 1024)
        .ring_depth(16)
        .preempt_timer(PREEMPTION)
}

fn spawn(
    index: usize,
    core: usize,
    plan: Arc<Plan>,
    control: Arc<ThreadControl>,
    reports: Sender<ThreadReport>,
) -> Result<ExecutorJoinHandle<()>, LoadError> {
    let body = move || async move {
        let failure_reports = reports.clone();
        let outcome = match Generator::new(plan, index, control, reports) {
            Ok(generator) => generator.run().await,
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            let _ =
                failure_reports.send(ThreadReport::Failed(format!("the generator's ring failed: {error}")));
        }
    };
    let spawn = || executor(core, &format!("generator-{index}")).spawn(body);
    // glommio reads the machine's cores from files, and panics if it cannot open one.
    match panic::catch_unwind(AssertUnwindSafe(spawn)) {
        Ok(Ok(thread)) => Ok(thread),
        Ok(Err(error)) => Err(LoadError::Resource(format!("no thread on core {core}: {error}"))),
        Err(_) => Err(LoadError::Resource(
            "the process has no descriptor left; raise the limit with ulimit -n".to_owned(),
        )),
    }
}
