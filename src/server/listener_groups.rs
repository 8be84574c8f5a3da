//! The shards that get new connections: not those that are stuck or being restarted.

use std::io;

use corelane_ring::ListenerGroup;
use tracing::warn;

/// The listeners of all addresses whose port the shards share, each group in the order of the shards.
#[derive(Default)]
pub(super) struct ListenerGroups {
    /// Empty if the server has one shard, or no TCP address.
    groups: Vec<ListenerGroup>,
    /// The kernel chooses by itself.
    is_reset: bool,
    /// The shards that get no new connections.
    skipped: Vec<usize>,
    /// Whether all shards accept from one socket, as they do on a Unix socket.
    pub(super) share_socket: bool,
}

impl ListenerGroups {
    /// Adds the listeners of an address. Further connections are distributed over them at random, and not over sockets with which
    /// another process joins the port.
    pub(super) fn add(&mut self, group: ListenerGroup) {
        if !self.is_reset {
            self.groups.push(group);
            self.apply();
        }
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
        self.is_reset = true;
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

/// Logs that the kernel chooses the shard of a connection. This is once, as all groups are reset.
#[cold]
fn report(error: &io::Error) {
    warn!(
        %error,
        "the kernel rejected a program for the listeners (SO_ATTACH_REUSEPORT_CBPF): \
         shards that are stuck get new connections like others; \
         remedy: allow this socket option, if a sandbox forbids it"
    );
}

#[cfg(test)]
mod tests {
    use std::{
        net::TcpListener,
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering::Relaxed},
        },
    };

    use corelane_ring::Listener;
    use tracing::{Event, Metadata, Subscriber, span};

    use super::*;

    /// Counts log lines.
    struct Lines(Arc<AtomicU32>);

    impl Subscriber for Lines {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }

        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

        fn event(&self, _: &Event<'_>) {
            self.0.fetch_add(1, Relaxed);
        }

        fn enter(&self, _: &span::Id) {}

        fn exit(&self, _: &span::Id) {}
    }

    #[test]
    fn rejected_program_is_logged_once() {
        let lines = Arc::<AtomicU32>::default();
        // The kernel rejects a program for a listener that shares no port.
        let listeners = [0, 1].map(|_| Listener::from(TcpListener::bind("127.0.0.1:0").unwrap()));
        tracing::subscriber::with_default(Lines(Arc::clone(&lines)), || {
            let mut groups = ListenerGroups::default();
            listeners.iter().for_each(|listener| groups.add(ListenerGroup::new([listener])));
            groups.skip(vec![0]);
            groups.skip(Vec::new());
        });
        assert_eq!(lines.load(Relaxed), 1);
    }
}
