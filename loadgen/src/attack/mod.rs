//! Attacks: one client uses up what all clients share, while a bystander from another address is served.
//!
//! | file | what the attacker takes |
//! |---|---|
//! | `tasks` | the table of tasks, and memory by their results |
//! | `calls` | the places of calls in flight, by connections that close or reset |
//! | `pool` | the threads and the queue of the blocking pool |
//! | `subscriptions` | topics, bytes of URIs, session streams |
//! | `validation` | time of the shard, by arguments that are expensive to validate or to parse |
//! | `admin` | connections of the admin address |
//! | `panics` | space in the log |
//! | `buffers` | memory, by parts of requests and by replies that are not read |
//! | `malformed` | anything, by requests that are malformed or aborted at every stage |
//!
//! An attack is measured against two servers on one core ([`measure`]): it is sent to the server of the bystander, and, as the
//! control, to the other one. Both cases use the same processor time, so that the difference is what the server lets one client
//! take from another. [`endure`] sends all attacks to one server, which may be in a memory group.

mod admin;
pub(crate) mod attacker;
mod buffers;
pub(crate) mod bystander;
mod calls;
mod definition;
mod endure;
mod footprint;
pub(crate) mod launch;
pub(crate) mod malformed;
mod measure;
mod memory_group;
mod panics;
mod pool;
pub(crate) mod server;
mod settings;
mod subscriptions;
mod tasks;
pub(crate) mod tools;
mod validation;
pub(crate) mod wire;

pub use definition::Attack;
pub use endure::{Endured, Length, endure};
pub use footprint::Footprint;
pub use measure::{Bars, Verdict, measure};
pub use memory_group::MemoryGroup;
pub use settings::Settings;
pub use tools::{ATTACKS_VARIABLE, add_tools};

/// Returns all attacks, in the order of the table of [the module](self).
#[must_use]
pub fn all() -> Vec<Attack> {
    [
        tasks::attacks(),
        calls::attacks(),
        pool::attacks(),
        subscriptions::attacks(),
        validation::attacks(),
        admin::attacks(),
        panics::attacks(),
        buffers::attacks(),
        malformed::attacks(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_of_attacks_are_unique() {
        let mut ids: Vec<&str> = super::all().iter().map(|attack| attack.id).collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count);
    }
}
