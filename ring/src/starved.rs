//! Sockets that wait for receive buffers, by group.

use std::collections::{HashMap, VecDeque};

use super::slots::SocketId;

/// Number of buffers that one multishot receive may fill before the kernel turns to other sockets (`MULTISHOT_MAX_RETRY` of
/// Linux's `io_uring/net.c`).
pub(super) const BUFFERS_PER_RECEIVE: usize = 32;

/// Sockets that wait for receive buffers. In each pass every group gets the same number of buffers, so that neither many sockets nor
/// many bytes of one group hold the others back.
#[derive(Default)]
pub(super) struct Starved {
    queues: HashMap<u64, VecDeque<SocketId>>,
    /// The groups with a queue, in the order in which they are served.
    order: VecDeque<u64>,
}

/// The receives to submit in a pass.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pass {
    /// Sockets of groups with few of them, which receive as many buffers as there are.
    pub(super) multishot: Vec<SocketId>,
    /// Sockets that receive one buffer.
    pub(super) once: Vec<SocketId>,
}

impl Starved {
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Appends a socket to the queue of its group.
    pub(super) fn push(&mut self, socket: SocketId, group: u64) {
        let queue = self.queues.entry(group).or_default();
        if queue.is_empty() {
            self.order.push_back(group);
        }
        queue.push_back(socket);
    }

    /// Takes the sockets that half of `available` buffers suffice for, and at least one of each group. The other half is for sockets
    /// that receive already.
    pub(super) fn take(&mut self, available: usize) -> Pass {
        let mut pass = Pass::default();
        let part = (available / 2 / self.order.len().max(1)).max(1);
        for group in std::mem::take(&mut self.order) {
            let Some(queue) = self.queues.get_mut(&group) else { continue };
            if queue.len() * BUFFERS_PER_RECEIVE <= part {
                pass.multishot.extend(queue.drain(..));
            } else {
                pass.once.extend(queue.drain(..queue.len().min(part)));
            }
            if queue.is_empty() {
                self.queues.remove(&group);
            } else {
                self.order.push_back(group);
            }
        }
        pass
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(index: u32) -> SocketId {
        SocketId { index, generation: 0 }
    }

    fn starved(sockets: impl IntoIterator<Item = (u32, u64)>) -> Starved {
        let mut starved = Starved::default();
        sockets.into_iter().for_each(|(index, group)| starved.push(socket(index), group));
        starved
    }

    #[test]
    fn sockets_of_a_group_with_many_receive_one_buffer_each_within_its_part() {
        let many = (0..300).map(|index| (index, 1));
        let mut starved = starved(many.chain([(300, 2), (301, 3), (302, 3)]));
        let pass = starved.take(1024);
        assert_eq!(pass.multishot, [300, 301, 302].map(socket));
        assert_eq!(pass.once, (0..170).map(socket).collect::<Vec<_>>());
        let rest = starved.take(1024);
        assert_eq!(rest, Pass { multishot: Vec::new(), once: (170..300).map(socket).collect() });
        assert!(starved.is_empty() && starved.queues.is_empty());
    }

    #[test]
    fn sockets_are_served_in_the_order_in_which_they_began_to_wait() {
        let mut starved = starved((0..5).map(|index| (index, 1)));
        assert_eq!(starved.take(6).once, [0, 1, 2].map(socket));
        starved.push(socket(0), 1);
        assert_eq!(starved.take(6).once, [3, 4, 0].map(socket));
    }

    #[test]
    fn each_pass_takes_a_socket_of_every_group_however_few_buffers_there_are() {
        let mut starved = starved((0..6).map(|index| (index, u64::from(index % 3))));
        assert_eq!(starved.take(0).once, [0, 1, 2].map(socket));
        assert_eq!(starved.take(0).once, [3, 4, 5].map(socket));
        assert!(starved.is_empty());
    }
}
