//! A small tokio runtime off the shards' cores, for tools that use the ecosystem's clients.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio::{runtime::Runtime, sync::Notify};

use super::{CallHandle, cancel::Cancel, completions::RemoteCompletions, finish};
use crate::call::RemoteReply;

/// A handle to the runtime, which ends when the last handle is dropped, without waiting for its tasks.
#[derive(Clone)]
pub struct TokioRuntime {
    runtime: Arc<Ending>,
}

/// The runtime, until it is dropped.
struct Ending(Option<Runtime>);

impl Drop for Ending {
    /// A runtime waits for its blocking tasks when it is dropped, and must not be dropped inside a task.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl TokioRuntime {
    /// Starts a runtime with `threads` threads, each with a stack of `stack_bytes`, pinned in turn to `cores`, or to none if that is empty.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(threads: usize, stack_bytes: usize, cores: &[usize]) -> io::Result<Self> {
        let cores = cores.to_vec();
        let started = AtomicUsize::new(0);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name("tokio")
            .thread_stack_size(stack_bytes)
            .enable_all()
            .on_thread_start(move || {
                let number = started.fetch_add(1, Ordering::Relaxed);
                if let Some(&id) = cores.get(number % cores.len().max(1)) {
                    core_affinity::set_for_current(core_affinity::CoreId { id });
                }
            })
            .build()?;
        Ok(Self { runtime: Arc::new(Ending(Some(runtime))) })
    }

    /// Starts a task whose reply is sent to the shard under `ticket`.
    pub(super) fn spawn(
        &self,
        work: RemoteReply,
        cancelled: Arc<AtomicBool>,
        handle: &CallHandle,
        home: RemoteCompletions,
    ) -> Cancel {
        let notify = Arc::new(Notify::new());
        let notified = Arc::clone(&notify);
        let (ticket, channel) = (handle.ticket, Arc::clone(&handle.channel));
        let task = async move {
            let outcome = finish(work, channel, notified.notified()).await;
            home.push(ticket, outcome);
        };
        if let Some(runtime) = &self.runtime.0 {
            runtime.spawn(task);
        }
        Cancel::Tokio(cancelled, notify)
    }
}
