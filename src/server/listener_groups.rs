//! The shards that get new connections: not those that are stuck or being restarted.

use std::io;

use corelane_ring::ListenerGroup;
use tracing::warn;

/// The listeners of all addresses whose port the shards share, each group in the order of the shards.
#[derive(Default)]
pub(super) struct ListenerGroups {
    /// Empty if the server has one shard, or no TCP address; and once the kernel has rejected a program.
    groups: Vec<ListenerGroup>,
    /// The shards that get no new connections.
    skipped: Vec<usize>,
    /// Whether all shards accept from one socket, as they do on a Unix socket.
    pub(super) share_socket: bool,
}

impl ListenerGroups {
    /// Adds the listeners of an address. Further connections are distributed over them at random, and not over sockets with which
    /// another process joins the port.
    pub(super) fn add(&mut self, group: ListenerGroup) {
        self.groups.push(group);
        self.apply();
    }

    /// Sets the shards that get no new connections, in ascending order. If these are all shards, none is skipped.
    pub(super) fn skip(&mut self, skipped: Vec<usize>) {
        if skipped != self.skipped {
            self.skipped = skipped;
            self.apply();
        }
    }

    /// Leaves the choice to the kernel, for good: once a listener is closed, the others have other numbers.
    pub(super) fn reset(&mut self) {
        for group in self.groups.drain(..) {
            // The kernel removes the program with the last listener.
            let _ = group.reset();
        }
    }

    fn apply(&mut self) {
        let skip = |group: &ListenerGroup| group.skip(|shard| self.skipped.contains(&shard));
        if let Err(error) = self.groups.iter().try_for_each(skip) {
            self.reset();
            report(&error);
        }
    }
}

/// Logs that the kernel chooses the shard of a connection; once, as there are no groups then.
#[cold]
fn report(error: &io::Error) {
    warn!(
        %error,
        "the kernel rejected a program for the listeners (SO_ATTACH_REUSEPORT_CBPF): \
         shards that are stuck get new connections like others; \
         remedy: allow this socket option, if a sandbox forbids it"
    );
}
