//! The memory budget of the shard's connections.

use corelane_ring::SocketId;

use super::{Shard, connection_of, spare::CHECK_INTERVAL};
use crate::{
    connection::Phase,
    http1::{Framer, RejectReason},
    memory::{COUNTED_MIN, OverBudget},
    peer::PeerKey,
    runtime::{Tick, instant_after},
};

impl Shard {
    /// Whether memory is kept for reuse that is freed if it is not used until the next check.
    pub(super) fn has_spare_memory(&self) -> bool {
        let subscriptions = &self.pipeline.dispatcher.state.subscriptions;
        self.spare.has_excess() || self.pipeline.has_spare_memory() || subscriptions.has_excess()
    }

    /// Frees memory that was not used since the last check, and schedules the next one.
    #[cold]
    pub(super) fn free_unused_memory(&mut self) {
        self.spare.free_unused();
        self.pipeline.free_unused_memory();
        self.dispatcher().state.subscriptions.free_unused();
        self.spare_check_at = instant_after(self.now, CHECK_INTERVAL);
    }

    /// Counts the bytes that a connection holds in buffers. Beyond the budget, another one is closed first, or this one is refused.
    #[inline]
    pub(super) fn count_memory(&mut self, socket: SocketId) {
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        let bytes = connection.buffered_bytes();
        if bytes >= COUNTED_MIN || self.pipeline.dispatcher.memory.is_counting() {
            self.count_buffers(socket, bytes);
        }
    }

    #[cold]
    fn count_buffers(&mut self, socket: SocketId, bytes: usize) {
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        let peer = PeerKey::new(connection.peer);
        match self.pipeline.dispatcher.memory.excess(socket, peer, bytes) {
            Some(largest) if largest == socket => return self.refuse_memory(socket),
            Some(largest) => self.refuse_memory(largest),
            None => {}
        }
        loop {
            match self.pipeline.dispatcher.memory.count(socket, peer, bytes) {
                Ok(()) => return,
                Err(OverBudget::Close(largest)) => self.refuse_memory(largest),
                Err(OverBudget::Refuse) => return self.refuse_memory(socket),
            }
        }
    }

    /// Frees the memory of a connection. Input is dropped and answered, with 503 or an error line, before the connection is closed; a
    /// connection whose replies need the memory is closed at once.
    fn refuse_memory(&mut self, socket: SocketId) {
        let is_sending = self.pipeline.dispatcher.memory.is_sending(socket);
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        let peer = connection.peer;
        let can_answer = match connection.phase {
            Phase::Closing { .. } | Phase::Lingering => false,
            _ if connection.json_lines.is_some() => !is_sending && connection.out.len() < COUNTED_MIN,
            phase => matches!(phase, Phase::Head | Phase::Body { .. }) && connection.out.is_empty(),
        };
        if !can_answer {
            self.pipeline.rejected("memory_max", peer);
            self.close(socket);
            return;
        }
        self.pipeline.dispatcher.memory.release(socket);
        let reason = RejectReason::MemoryShort;
        if let Some(lines) = &mut connection.json_lines {
            lines.drop_input();
            self.pipeline.reject_line(reason.name(), reason.message(), peer, &mut connection.out);
        } else {
            self.pipeline.dispatcher.observer.set_peer(peer);
            connection.framer = Framer::default();
            self.pipeline.reject(reason, None, &mut connection.out);
        }
        connection.phase = Phase::Closing { linger: true };
        connection.deadline = Tick::NEVER;
        self.mark(socket);
    }
}
