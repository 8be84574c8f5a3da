//! The executor of a shard's thread. It resumes after a panic of glommio, and keeps the task of the shard meanwhile.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    future::poll_fn,
    panic::{self, AssertUnwindSafe},
    rc::Rc,
    task::Poll,
    time::Duration,
};

use futures_lite::FutureExt;
use glommio::{GlommioError, LocalExecutor, LocalExecutorBuilder, Placement};

/// Buffer memory of glommio for file I/O on each executor, in bytes; a shard reads only an eventfd through it.
const IO_BYTES: usize = 64 * 1024;

/// Entries of glommio's own rings.
const RING_DEPTH: usize = 32;

/// How long an executor without a runnable task spins before it parks. Just long enough for the one-microsecond wait in
/// which the shard runs the executor's timers.
const SPIN: Duration = Duration::from_micros(10);

/// How long glommio runs tasks before it polls its rings. Where this timer fires before the first task of a round has run,
/// glommio 0.9 parks although a task is runnable, so it must be longer than any pause of a thread.
const PREEMPTION: Duration = Duration::from_secs(60);

/// Interval of a timer that ends each sleep of the executor. Where entering the kernel fails while glommio cancels a timer, the
/// late completion makes it sleep although a task is runnable.
const HEARTBEAT: Duration = Duration::from_millis(250);

/// Maximum number of panics in a row between which the task was not polled.
const PANICS_IN_A_ROW_MAX: u32 = 16;

/// An executor on the calling thread.
pub(super) struct Executor(LocalExecutor);

impl Executor {
    /// Creates the executor and moves the calling thread to its cores.
    ///
    /// # Errors
    /// glommio's error; `None` where it panicked: it reads the machine's topology from files, and panics when it cannot open one.
    pub(super) fn new(core: Placement) -> Result<Self, Option<GlommioError<()>>> {
        let builder = LocalExecutorBuilder::new(core)
            .io_memory(IO_BYTES)
            .ring_depth(RING_DEPTH)
            .spin_before_park(SPIN)
            .preempt_timer(PREEMPTION);
        match panic::catch_unwind(AssertUnwindSafe(|| builder.make())) {
            Ok(Ok(executor)) => Ok(Self(executor)),
            Ok(Err(error)) => Err(Some(error)),
            Err(_) => Err(None),
        }
    }

    /// Runs `task` to its end. `task` and all other tasks of this executor must not panic.
    ///
    /// glommio 0.9 panics where entering the kernel fails with EINTR, EAGAIN or EBUSY while it arms the timer of its sleep,
    /// and with ETIME anywhere, although a second attempt succeeds. Its queues are consistent between two tasks, so it is run
    /// again on the same task; `on_panic` is called before.
    ///
    /// # Errors
    /// The message of the panic, after [`PANICS_IN_A_ROW_MAX`] without progress; the task has been dropped.
    pub(super) fn run<T: 'static>(
        &self,
        task: impl Future<Output = T> + 'static,
        mut on_panic: impl FnMut(&str),
    ) -> Result<T, String> {
        let task = async {
            glommio::spawn_local(async {
                loop {
                    glommio::timer::sleep(HEARTBEAT).await;
                }
            })
            .detach();
            task.await
        };
        let task = Rc::new(RefCell::new(Some(task.boxed_local())));
        // Wakers may poll the task of an earlier run: only the newest run polls `task`.
        let newest = Rc::new(Cell::new(0_u64));
        let has_progressed = Rc::new(Cell::new(false));
        let mut panics = 0;
        loop {
            newest.set(newest.get() + 1);
            let (number, newest, polled) = (newest.get(), Rc::clone(&newest), Rc::clone(&has_progressed));
            let shared = Rc::clone(&task);
            let run = poll_fn(move |context| {
                if newest.get() != number {
                    return Poll::Ready(None);
                }
                polled.set(true);
                match shared.borrow_mut().as_mut() {
                    Some(task) => task.poll(context).map(Some),
                    None => Poll::Ready(None),
                }
            });
            let panic = match panic::catch_unwind(AssertUnwindSafe(|| self.0.run(run))) {
                Ok(Some(output)) => return Ok(output),
                Ok(None) => return Err("the executor dropped the task of the shard".to_owned()),
                Err(panic) => panic,
            };
            panics = if has_progressed.take() { 0 } else { panics + 1 };
            let message = message(&*panic);
            if panics >= PANICS_IN_A_ROW_MAX {
                // Dropped in this frame, where nothing borrows it.
                let task = task.borrow_mut().take();
                drop(task);
                return Err(format!("its executor panicked: {message}"));
            }
            on_panic(message);
        }
    }
}

/// The message of a panic.
pub(super) fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
