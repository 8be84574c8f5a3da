//! The registry of a server that runs: changed from any thread, served by every shard.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{
    config::Limits,
    registry::{Registry, RegistryError, Snapshot},
    shard::ShardHandle,
};

/// A handle to a server's registry. Get it before the server runs ([`Server::registry`](crate::Server::registry)), hand
/// it to tools or threads.
///
/// ```
/// use corelane::{Server, Tool};
///
/// let server = Server::builder("growing", "1").build();
/// let registry = server.registry();
/// registry.update(|registry| registry.add(Tool::new("hello").run(|_, _| "Hello!"))).unwrap();
/// assert_eq!(registry.read(|registry| registry.tools().len()), 1);
/// ```
#[derive(Clone, Debug, Default)]
pub struct LiveRegistry {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    registry: Registry,
    limits: Limits,
    shards: Vec<ShardHandle>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shared").field("registry", &self.registry).finish_non_exhaustive()
    }
}

impl LiveRegistry {
    pub(crate) fn new(registry: Registry) -> Self {
        Self { shared: Arc::new(Mutex::new(Shared { registry, ..Shared::default() })) }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // What a panicking `change` leaves behind was a copy.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the registry.
    pub fn read<T>(&self, look: impl FnOnce(&Registry) -> T) -> T {
        look(&self.lock().registry)
    }

    /// Changes the registry. It is compiled here, on the calling thread, once for each shard; then every shard takes it up
    /// between two requests, within a turn of its own. So a request is answered from the old one or from the new one, and
    /// for a moment two shards may differ. Calls in flight end as they were started.
    ///
    /// # Errors
    /// When the changed registry cannot be served: then nothing has changed.
    pub fn update<T>(&self, change: impl FnOnce(&mut Registry) -> T) -> Result<T, RegistryError> {
        let mut shared = self.lock();
        let mut changed = shared.registry.clone();
        let value = change(&mut changed);
        let compile = || Snapshot::build(&changed, &shared.limits);
        // One at least, so that a mistake is found also while nothing runs.
        let snapshots: Vec<_> =
            (0..shared.shards.len().max(1)).map(|_| compile()).collect::<Result<_, _>>()?;
        for (shard, snapshot) in shared.shards.iter().zip(snapshots) {
            shard.replace(snapshot);
        }
        shared.registry = changed;
        Ok(value)
    }

    /// Starts shards with what is registered now: nothing changes until `start` has said which they are.
    pub(crate) fn attach<E>(
        &self,
        limits: &Limits,
        start: impl FnOnce(&Registry) -> Result<Vec<ShardHandle>, E>,
    ) -> Result<(), E> {
        let mut shared = self.lock();
        let started = start(&shared.registry)?;
        shared.shards.extend(started);
        shared.limits = *limits;
        Ok(())
    }
}
