//! A tokio runtime outside the shards' cores, for handlers that use libraries built on tokio.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio::{runtime::Runtime, sync::Notify};

use super::{
    CallHandle,
    cancel::Cancel,
    completions::{Completed, RemoteCompletions},
    finish,
};
use crate::registry::RemoteReply;

/// Handle of the runtime, which shuts down without waiting for its tasks when the last handle is dropped.
#[derive(Clone)]
pub struct TokioRuntime {
    runtime: Arc<ShutdownOnDrop>,
}

/// The runtime, with its shutdown on drop.
struct ShutdownOnDrop(Option<Runtime>);

impl Drop for ShutdownOnDrop {
    /// Shuts down in the background: dropping a runtime waits for its blocking tasks, and panics inside a task.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl TokioRuntime {
    /// Starts a runtime with `threads` threads, which are pinned in turn to `cores` unless that is empty.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(threads: usize, cores: &[usize]) -> io::Result<Self> {
        let cores = cores.to_vec();
        let started = AtomicUsize::new(0);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name("tokio")
            .enable_all()
            .on_thread_start(move || {
                let number = started.fetch_add(1, Ordering::Relaxed);
                if let Some(&id) = cores.get(number % cores.len().max(1)) {
                    core_affinity::set_for_current(core_affinity::CoreId { id });
                }
            })
            .build()?;
        Ok(Self { runtime: Arc::new(ShutdownOnDrop(Some(runtime))) })
    }

    /// Spawns a task whose completion is pushed to `completions`.
    pub(super) fn spawn(
        &self,
        work: RemoteReply,
        cancelled: Arc<AtomicBool>,
        call: &CallHandle,
        completions: RemoteCompletions,
    ) -> Cancel {
        let notify = Arc::new(Notify::new());
        let notified = Arc::clone(&notify);
        let (ticket, conversation) = (call.ticket, Arc::clone(&call.conversation));
        let task = async move {
            let outcome = finish(work, conversation, notified.notified()).await;
            completions.push(Completed { ticket, outcome });
        };
        if let Some(runtime) = &self.runtime.0 {
            runtime.spawn(task);
        }
        Cancel::Tokio(cancelled, notify)
    }
}
