//! What async handlers need of their shard's executor: time, and tasks beside their own.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_lite::FutureExt;

/// Resolves after this long, or a little later: the shard's timers have a resolution of a millisecond.
///
/// # Panics
/// When polled outside an async handler's thread. On tokio its own timers are to be used.
pub async fn sleep(duration: Duration) {
    glommio::timer::sleep(duration).await;
}

/// The time was over before the future was ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the time is over")]
pub struct Elapsed;

/// The future's output, if it is ready within this time; else the future is dropped.
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

/// A task on a shard's thread. It is cancelled when this is dropped; awaiting it gives its output.
#[must_use = "a task is cancelled when it is dropped; `detach` lets it run"]
pub struct LocalTask<T>(glommio::Task<T>);

impl<T> LocalTask<T> {
    /// Lets the task run to its end. A shard that has such tasks ends without waiting for them.
    pub fn detach(self) {
        drop(self.0.detach());
    }
}

impl<T> Future for LocalTask<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.0).poll(context)
    }
}

/// Starts a task on the thread of the shard that calls this, for an async handler that does several things at a time.
///
/// # Panics
/// Outside an async handler's thread. On tokio its own `spawn` is to be used.
pub fn spawn_local<T: 'static>(future: impl Future<Output = T> + 'static) -> LocalTask<T> {
    LocalTask(glommio::spawn_local(future))
}
