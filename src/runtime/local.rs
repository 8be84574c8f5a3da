//! Timers and local tasks for async handlers.

use std::{
    future::{Future, poll_fn},
    panic::{self, AssertUnwindSafe},
    pin::{Pin, pin},
    task::{Context, Poll},
    thread,
    time::Duration,
};

use futures_lite::FutureExt;

use super::polls;

/// Completes after `duration`, with a resolution of a millisecond.
///
/// # Panics
/// When polled outside a shard's thread. Handlers on tokio use tokio's timers.
pub async fn sleep(duration: Duration) {
    glommio::timer::sleep(duration).await;
}

/// The timeout elapsed before the future completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the time is over")]
pub struct Elapsed;

/// Returns the future's output if it completes within `duration`; otherwise drops the future.
///
/// # Errors
/// [`Elapsed`].
///
/// # Panics
/// As [`sleep`].
///
/// ```
/// use std::time::Duration;
///
/// use corelane::{NoArguments, Tool, time};
///
/// let tool = Tool::new("patient").run_async(async |_: NoArguments, _cx| {
///     let slow = time::sleep(Duration::from_secs(60));
///     time::timeout(Duration::from_secs(1), slow).await.map(|()| "ready")
/// });
/// ```
pub async fn timeout<T>(duration: Duration, future: impl Future<Output = T>) -> Result<T, Elapsed> {
    let elapsed = async {
        sleep(duration).await;
        Err(Elapsed)
    };
    async { Ok(future.await) }.or(elapsed).await
}

/// A task on a shard's thread. Dropping the handle cancels the task; awaiting it returns the task's output.
#[must_use = "a task is cancelled when it is dropped; `detach` lets it run"]
pub struct LocalTask<T>(glommio::Task<thread::Result<T>>);

impl<T> LocalTask<T> {
    /// Detaches the task, which then runs to its end. A shard exits without waiting for detached tasks.
    pub fn detach(self) {
        drop(self.0.detach());
    }
}

impl<T> Future for LocalTask<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let output = Pin::new(&mut self.0).poll(context);
        output.map(|output| output.unwrap_or_else(|panic| panic::resume_unwind(panic)))
    }
}

/// Spawns a task on the current shard's thread, for an async handler that runs several futures concurrently. A panic of the task
/// continues where it is awaited, and ends a detached task.
///
/// # Panics
/// Outside a shard's thread. Handlers on tokio use `tokio::spawn`.
pub fn spawn_local<T: 'static>(future: impl Future<Output = T> + 'static) -> LocalTask<T> {
    let observer = polls::current();
    LocalTask(glommio::spawn_local(async move {
        let mut future = pin!(AssertUnwindSafe(future).catch_unwind());
        poll_fn(|context| polls::observe(observer.as_deref(), None, || future.as_mut().poll(context))).await
    }))
}
