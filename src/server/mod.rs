//! Server lifecycle: builds the server, opens the listeners, starts shards and the blocking pool, waits for signals, drains and
//! joins.

mod builder;
mod drain;
mod ended_sessions;
mod error;
mod executor;
mod launch;
mod listener_groups;
mod listening;
mod live_registry;
mod machine;
mod memory;
mod placement;
mod rollback;
mod running;
mod secret_file;
mod serve;
mod shard_thread;
mod stdio;
#[cfg(test)]
mod tests;
mod watchdog;

pub use builder::{Server, ServerBuilder};
pub use error::StartError;
pub use live_registry::LiveRegistry;
pub use running::{Running, Stopper};
