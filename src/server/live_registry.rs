//! The registry of a running server: changed from any thread, served by every shard.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{
    call::Publish,
    config::Limits,
    mcp::Event,
    mesh::Broadcast,
    registry::{Registry, RegistryError, Snapshot},
    shard::{ShardHandle, SnapshotSwap},
    signed_token::SigningKey,
};

/// A handle to a server's registry, from [`Server::registry`](crate::Server::registry). Clones share the registry and can
/// be moved into tools and threads.
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
    /// Locked during an update: updates are serialized.
    updating: Arc<Mutex<()>>,
}

#[derive(Default)]
struct Shared {
    registry: Arc<Registry>,
    /// `registry`, compiled for one shard with the limits and the signing key below; `None` before the first update.
    compiled: Option<Snapshot>,
    /// Number of updates.
    updates: u64,
    limits: Limits,
    signing_key: Option<SigningKey>,
    broadcast: Broadcast,
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
        Self { shared: Arc::new(Mutex::new(shared)), updating: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // `change` works on a copy, so a panic in it leaves no partial state behind the lock.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `read` with the registry as it is now. The registry is not locked meanwhile.
    pub fn read<T>(&self, read: impl FnOnce(&Registry) -> T) -> T {
        let registry = Arc::clone(&self.lock().registry);
        read(&registry)
    }

    /// Updates the registry. New entries are compiled on the calling thread; then each shard swaps its snapshot between two
    /// requests. A request is answered from the old registry or from the new one, never from a mix; two shards may differ for
    /// about one turn. Calls in flight finish with the handler they started with.
    ///
    /// Updates are serialized: an update from within `change` deadlocks. Compiling takes up to milliseconds per tool, so a
    /// tool that updates the registry should be a blocking one.
    ///
    /// Clients of revision 2026-07-28 may cache a list for its `ttlMs`, one minute.
    ///
    /// # Errors
    /// The changed registry cannot be served; it then remains as it was.
    pub fn update<T>(&self, change: impl FnOnce(&mut Registry) -> T) -> Result<T, RegistryError> {
        let _serialized = self.updating.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = self.read(Registry::clone);
        let value = change(&mut changed);
        let changed = Arc::new(changed);
        let (registry, compiled, shards, limits, signing_key, broadcast) = {
            let mut shared = self.lock();
            shared.shards.retain(|shard| !shard.has_ended());
            let signing_key = shared.signing_key();
            (
                Arc::clone(&shared.registry),
                shared.compiled.clone(),
                shared.shards.clone(),
                shared.limits,
                signing_key,
                shared.broadcast.clone(),
            )
        };
        // At least one snapshot is built, so that errors are found even where no shard runs.
        let first_shard = shards.first().map_or(0, ShardHandle::number);
        let before: Vec<Option<Snapshot>> =
            shards.iter().map(|shard| shard.newest().map(|served| served.snapshot)).collect();
        let first_before = match before.first() {
            Some(Some(before)) => before.clone(),
            _ => match compiled {
                Some(compiled) => compiled,
                None => Snapshot::build(&registry, &limits, &signing_key)?,
            },
        };
        let first =
            Snapshot::build_for(&changed, &limits, &signing_key, first_shard, Some(&first_before), None)?;
        let encoded = first.encoded();
        let others = shards.iter().zip(&before).skip(1).map(|(shard, before)| {
            Snapshot::build_for(
                &changed,
                &limits,
                &signing_key,
                shard.number(),
                before.as_ref(),
                Some(encoded),
            )
        });
        let others: Vec<_> = others.collect::<Result<_, _>>()?;
        let lists = encoded.changed_since(first_before.encoded());
        let swap = SnapshotSwap::new(lists, shards.len(), broadcast);
        let compiled = first.clone();
        for (shard, snapshot) in shards.iter().zip(std::iter::once(first).chain(others)) {
            shard.replace(snapshot, Arc::clone(&swap));
        }
        let mut shared = self.lock();
        let replaced = (shared.compiled.replace(compiled), std::mem::replace(&mut shared.registry, changed));
        shared.updates += 1;
        drop(shared);
        drop(replaced);
        Ok(value)
    }

    /// Notifies the subscribers of a resource, on all shards, that it has changed. Can be called from any thread.
    pub fn resource_updated(&self, uri: &str) {
        let broadcast = self.lock().broadcast.clone();
        broadcast.publish(Event::resource_updated(uri));
    }

    /// Starts shards with the current registry and attaches them, so that they receive later updates.
    pub(crate) fn attach<E: From<RegistryError>>(
        &self,
        limits: &Limits,
        signing_key: &SigningKey,
        broadcast: &Broadcast,
        start: impl FnOnce(&Arc<Registry>) -> Result<Vec<ShardHandle>, E>,
    ) -> Result<(), E> {
        let (registry, updates) = {
            let shared = self.lock();
            (Arc::clone(&shared.registry), shared.updates)
        };
        // Without a lock: a shard's state factory may read the registry.
        let started = start(&registry)?;
        let _serialized = self.updating.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = Arc::clone(&self.lock().registry);
        if self.lock().updates != updates {
            // No client has seen the older snapshot, so no list counts as changed.
            let swap = SnapshotSwap::new(Default::default(), started.len(), broadcast.clone());
            for shard in &started {
                let snapshot = Snapshot::build_for(&newest, limits, signing_key, shard.number(), None, None)?;
                shard.replace(snapshot, Arc::clone(&swap));
            }
        }
        let mut shared = self.lock();
        shared.shards.extend(started);
        shared.compiled = None;
        shared.limits = *limits;
        shared.signing_key = Some(signing_key.clone());
        shared.broadcast = broadcast.clone();
        Ok(())
    }
}

impl Shared {
    /// The key that signs cursors; a constant one while no shard runs, since no client sees them.
    fn signing_key(&self) -> SigningKey {
        self.signing_key.clone().unwrap_or_else(|| SigningKey::new(b""))
    }
}

impl Publish for Broadcast {
    fn resource_updated(&self, uri: &str) {
        self.publish(Event::resource_updated(uri));
    }
}
