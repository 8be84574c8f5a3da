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
    /// Held while a change is made.
    changing: Arc<Mutex<()>>,
}

#[derive(Default)]
struct Shared {
    registry: Arc<Registry>,
    /// How often it has changed.
    changes: u64,
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
        let shared = Shared { registry: Arc::new(registry), ..Shared::default() };
        Self { shared: Arc::new(Mutex::new(shared)), changing: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // What a panicking `change` leaves behind was a copy.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the registry.
    pub fn read<T>(&self, look: impl FnOnce(&Registry) -> T) -> T {
        let registry = Arc::clone(&self.lock().registry);
        look(&registry)
    }

    /// Changes the registry. It is compiled here, on the calling thread, once for each shard; then every shard takes it up
    /// between two requests, within a turn of its own. So a request is answered from the old one or from the new one, and
    /// for a moment two shards may differ. Calls in flight end as they were started.
    ///
    /// Changes come one after the other: `change` must not change the registry itself. Compiling takes a moment, so a tool
    /// that changes the registry is better a blocking one.
    ///
    /// Clients of the 2026 era may keep a list for as long as its `ttlMs` says, a minute.
    ///
    /// # Errors
    /// When the changed registry cannot be served: then nothing has changed.
    pub fn update<T>(&self, change: impl FnOnce(&mut Registry) -> T) -> Result<T, RegistryError> {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = self.read(Registry::clone);
        let value = change(&mut changed);
        let (shards, limits) = {
            let mut shared = self.lock();
            shared.shards.retain(|shard| !shard.has_ended());
            (shared.shards.clone(), shared.limits)
        };
        // One at least, so that a mistake is found also while nothing runs.
        let compile = |_| Snapshot::build(&changed, &limits);
        let snapshots: Vec<_> = (0..shards.len().max(1)).map(compile).collect::<Result<_, _>>()?;
        for (shard, snapshot) in shards.iter().zip(snapshots) {
            shard.replace(snapshot);
        }
        let mut shared = self.lock();
        shared.registry = Arc::new(changed);
        shared.changes += 1;
        Ok(value)
    }

    /// Starts shards with what is registered now, and changes them from then on.
    pub(crate) fn attach<E: From<RegistryError>>(
        &self,
        limits: &Limits,
        start: impl FnOnce(&Registry) -> Result<Vec<ShardHandle>, E>,
    ) -> Result<(), E> {
        let (registry, changes) = {
            let shared = self.lock();
            (Arc::clone(&shared.registry), shared.changes)
        };
        // Without a lock: what a shard does when it starts may look at the registry.
        let started = start(&registry)?;
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = self.read(Registry::clone);
        if self.lock().changes != changes {
            for shard in &started {
                shard.replace(Snapshot::build(&newest, limits)?);
            }
        }
        let mut shared = self.lock();
        shared.shards.extend(started);
        shared.limits = *limits;
        Ok(())
    }
}
