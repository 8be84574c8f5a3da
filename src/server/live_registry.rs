//! The registry of a server that runs: changed from any thread, served by every shard.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{
    config::Limits,
    mcp::Event,
    mesh::Broadcast,
    registry::{Publish, Registry, RegistryError, Snapshot},
    shard::{ShardHandle, Takeover},
    signed_token::Secret,
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
    /// `registry`, compiled for one shard with the limits and the secret below, once it has changed.
    compiled: Option<Snapshot>,
    /// How often it has changed.
    changes: u64,
    limits: Limits,
    secret: Option<Secret>,
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

    /// Changes the registry. What is new is compiled here, on the calling thread; then every shard takes it up
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
        let changed = Arc::new(changed);
        let (registry, compiled, shards, limits, secret, broadcast) = {
            let mut shared = self.lock();
            shared.shards.retain(|shard| !shard.has_ended());
            let secret = shared.secret();
            (
                Arc::clone(&shared.registry),
                shared.compiled.clone(),
                shared.shards.clone(),
                shared.limits,
                secret,
                shared.broadcast.clone(),
            )
        };
        // One at least, so that a mistake is found also while nothing runs.
        let first_shard = shards.first().map_or(0, ShardHandle::number);
        let before: Vec<Option<Snapshot>> =
            shards.iter().map(|shard| shard.newest().map(|served| served.snapshot)).collect();
        let first_before = match before.first() {
            Some(Some(before)) => before.clone(),
            _ => match compiled {
                Some(compiled) => compiled,
                None => Snapshot::build(&registry, &limits, &secret)?,
            },
        };
        let first = Snapshot::build_for(&changed, &limits, &secret, first_shard, Some(&first_before), None)?;
        let encoded = first.encoded();
        let others = shards.iter().zip(&before).skip(1).map(|(shard, before)| {
            Snapshot::build_for(&changed, &limits, &secret, shard.number(), before.as_ref(), Some(encoded))
        });
        let others: Vec<_> = others.collect::<Result<_, _>>()?;
        let lists = encoded.changed_since(first_before.encoded());
        let takeover = Takeover::new(lists, shards.len(), broadcast);
        let compiled = first.clone();
        for (shard, snapshot) in shards.iter().zip(std::iter::once(first).chain(others)) {
            shard.replace(snapshot, Arc::clone(&takeover));
        }
        let mut shared = self.lock();
        let replaced = (shared.compiled.replace(compiled), std::mem::replace(&mut shared.registry, changed));
        shared.changes += 1;
        drop(shared);
        drop(replaced);
        Ok(value)
    }

    /// Tells the subscribers of a resource, on all shards, that it has changed; from any thread.
    pub fn resource_updated(&self, uri: &str) {
        let broadcast = self.lock().broadcast.clone();
        broadcast.publish(Event::resource_updated(uri));
    }

    /// Starts shards with what is registered now, and changes them from then on.
    pub(crate) fn attach<E: From<RegistryError>>(
        &self,
        limits: &Limits,
        secret: &Secret,
        broadcast: &Broadcast,
        start: impl FnOnce(&Arc<Registry>) -> Result<Vec<ShardHandle>, E>,
    ) -> Result<(), E> {
        let (registry, changes) = {
            let shared = self.lock();
            (Arc::clone(&shared.registry), shared.changes)
        };
        // Without a lock: what a shard does when it starts may look at the registry.
        let started = start(&registry)?;
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = Arc::clone(&self.lock().registry);
        if self.lock().changes != changes {
            // Nobody has seen the one before.
            let takeover = Takeover::new(Default::default(), started.len(), broadcast.clone());
            for shard in &started {
                let snapshot = Snapshot::build_for(&newest, limits, secret, shard.number(), None, None)?;
                shard.replace(snapshot, Arc::clone(&takeover));
            }
        }
        let mut shared = self.lock();
        shared.shards.extend(started);
        shared.compiled = None;
        shared.limits = *limits;
        shared.secret = Some(secret.clone());
        shared.broadcast = broadcast.clone();
        Ok(())
    }
}

impl Shared {
    /// The key cursors are signed with; while nothing is served, any will do.
    fn secret(&self) -> Secret {
        self.secret.clone().unwrap_or_else(|| Secret::new(b""))
    }
}

impl Publish for Broadcast {
    fn resource_updated(&self, uri: &str) {
        self.publish(Event::resource_updated(uri));
    }
}
