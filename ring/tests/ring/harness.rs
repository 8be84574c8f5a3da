//! Harness: a ring on an executor's thread, driven by a test.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use corelane_ring::{Event, Ring, RingConfig, SocketId, bind};
use glommio::{LocalExecutorBuilder, Placement};

/// Runs `test` on an executor's thread, with a listening ring and the listener's address.
pub(crate) fn with_ring<T: Send + 'static>(
    config: RingConfig,
    test: impl AsyncFnOnce(&mut Harness, SocketAddr) -> T + Send + 'static,
) -> T {
    LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(64 * 1024)
        .spawn(move || async move {
            let mut ring = Ring::new(config).unwrap();
            let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let address = listener.local_addr().unwrap();
            ring.listen(listener);
            let mut harness = Harness { ring, events: Vec::new() };
            let result = test(&mut harness, address).await;
            harness.ring.shut_down().await;
            result
        })
        .unwrap()
        .join()
        .unwrap()
}

pub(crate) struct Harness {
    pub(crate) ring: Ring,
    pub(crate) events: Vec<Event>,
}

impl Harness {
    /// Turns the ring until `pick` returns a value for an event; the other events keep their order.
    pub(crate) async fn wait<T>(&mut self, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(index) = self.events.iter().position(|event| pick(event).is_some()) {
                let event = self.events.remove(index);
                return pick(&event).unwrap();
            }
            self.ring.turn(&mut self.events).unwrap();
            if self.events.is_empty() {
                assert!(Instant::now() < deadline, "no event within 20 s");
                let soon = Some(Instant::now() + Duration::from_millis(50));
                self.ring.park(soon, |_| false).await.unwrap();
            }
        }
    }

    pub(crate) async fn accepted(&mut self) -> SocketId {
        self.wait(|event| match event {
            Event::Accepted { socket, .. } => Some(*socket),
            _ => None,
        })
        .await
    }

    /// Receives at least `length` bytes.
    pub(crate) async fn received(&mut self, from: SocketId, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let part = self
                .wait(|event| match event {
                    Event::Received { socket, buffer } if *socket == from => Some(buffer.bytes().to_vec()),
                    _ => None,
                })
                .await;
            bytes.extend(part);
        }
        bytes
    }

    pub(crate) async fn closed(&mut self, closing: SocketId) {
        self.wait(|event| matches!(event, Event::Closed { socket } if *socket == closing).then_some(()))
            .await;
    }

    pub(crate) async fn sent(&mut self, to: SocketId) -> (usize, bool) {
        self.wait(|event| match event {
            Event::Sent { socket, buffer, outcome } if *socket == to => Some((buffer.len(), outcome.is_ok())),
            _ => None,
        })
        .await
    }

    /// Turns the ring for `time`.
    pub(crate) async fn idle(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.ring.turn(&mut self.events).unwrap();
            self.ring.park(Some(Instant::now() + Duration::from_millis(5)), |_| false).await.unwrap();
        }
    }

    /// Waits for the outcome of the connect or adoption with this token.
    pub(crate) async fn connected(&mut self, expected: u64) -> std::io::Result<SocketId> {
        self.wait(|event| match event {
            Event::Connected { token, socket } if *token == expected => Some(Ok(*socket)),
            Event::ConnectFailed { token, error } if *token == expected => {
                Some(Err(std::io::Error::from(error.kind())))
            }
            _ => None,
        })
        .await
    }
}

pub(crate) fn small(sockets_max: u32, buffers: u16) -> RingConfig {
    RingConfig {
        sockets_max,
        buffers,
        buffer_bytes: 512,
        large_buffers: 4,
        large_buffer_bytes: 4096,
        submission_entries: 64,
        completion_entries: 128,
    }
}
