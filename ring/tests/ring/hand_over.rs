//! Sockets that move between the rings of two threads.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::mpsc::{Receiver, Sender, channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use corelane_ring::{Arrival, Event, Ring, RingConfig, RingHandle, SocketId};
use glommio::{LocalExecutorBuilder, Placement};

use crate::harness::{Harness, small, with_ring};

/// Runs another ring, which answers received bytes with `there: ` and the same bytes, until `end` is dropped. Reports each
/// arrival.
struct Other {
    handle: RingHandle,
    arrivals: Receiver<Arrival>,
    end: Sender<()>,
    thread: JoinHandle<()>,
}

impl Other {
    fn start(config: RingConfig) -> Self {
        let (handles, handle) = channel();
        let (arrived, arrivals) = channel();
        let (end, ended) = channel::<()>();
        let thread = thread::spawn(move || {
            let run = move || async move {
                let mut ring = Ring::new(config).unwrap();
                handles.send(ring.handle().unwrap()).unwrap();
                let mut events = Vec::new();
                while ended.try_recv() != Err(std::sync::mpsc::TryRecvError::Disconnected) {
                    ring.turn(&mut events).unwrap();
                    for event in events.drain(..) {
                        match event {
                            Event::Accepted { listener, arrival, .. } => {
                                assert_eq!(listener.index(), 0);
                                arrived.send(arrival).unwrap();
                            }
                            Event::Received { socket, buffer } => {
                                ring.send(socket, [b"there: ", buffer.bytes()].concat()).unwrap();
                            }
                            Event::PeerClosed { socket } => ring.close(socket),
                            _ => {}
                        }
                    }
                    let soon = Some(std::time::Instant::now() + Duration::from_millis(20));
                    ring.park(soon, |_| false).await.unwrap();
                }
                ring.shut_down().await;
            };
            LocalExecutorBuilder::new(Placement::Unbound).spawn(run).unwrap().join().unwrap();
        });
        Self { handle: handle.recv().unwrap(), arrivals, end, thread }
    }

    fn end(self) {
        drop(self.end);
        self.thread.join().unwrap();
    }
}

/// Runs `test` with a listening ring, the listener's address, and another ring of this configuration. Returns `None` without
/// running it where the kernel does not hand sockets over.
fn with_other<T: Send + 'static>(
    config: RingConfig,
    test: impl AsyncFnOnce(&mut Harness, SocketAddr, Other) -> T + Send + 'static,
) -> Option<T> {
    if !with_ring(small(8, 8), async |harness, _| harness.ring.handle().is_some()) {
        return None;
    }
    let other = Other::start(config);
    Some(with_ring(small(8, 8), async move |harness, address| test(harness, address, other).await))
}

async fn accept(harness: &mut Harness) -> (SocketId, corelane_ring::ListenerId) {
    harness
        .wait(|event| match event {
            Event::Accepted { socket, listener, .. } => Some((*socket, *listener)),
            _ => None,
        })
        .await
}

/// Waits for the end of a hand-over: whether the socket has left.
async fn has_left(harness: &mut Harness, leaving: SocketId) -> bool {
    harness
        .wait(|event| match event {
            Event::HandedOver { socket } if *socket == leaving => Some(true),
            Event::HandOverFailed { socket } if *socket == leaving => Some(false),
            _ => None,
        })
        .await
}

fn read(client: &mut TcpStream, length: usize) -> String {
    let mut bytes = vec![0; length];
    client.read_exact(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn accepted_connection_is_served_by_another_ring_with_bytes_sent_before() {
    let served = with_other(small(8, 8), async |harness, address, other| {
        harness.ring.hold_accepted();
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"early").unwrap();
        let (socket, listener) = accept(harness).await;
        assert!(harness.ring.hand_over(socket, &other.handle, listener, Arrival::HandedOver));
        assert!(
            !harness.ring.hand_over(socket, &other.handle, listener, Arrival::HandedOver),
            "it is leaving"
        );
        assert!(has_left(harness, socket).await);
        harness.closed(socket).await;
        assert_eq!(harness.ring.sockets(), 0);
        (client, other)
    });
    let Some((mut client, other)) = served else { return };
    // The first ring has ended.
    assert_eq!(read(&mut client, 12), "there: early");
    assert_eq!(other.arrivals.recv().unwrap(), Arrival::HandedOver);
    drop(client);
    other.end();
}

#[test]
fn connection_moves_after_its_reply_was_sent() {
    with_other(small(8, 8), async |harness, address, other| {
        let mut client = TcpStream::connect(address).unwrap();
        let (socket, listener) = accept(harness).await;
        client.write_all(b"one").unwrap();
        assert_eq!(harness.received(socket, 3).await, b"one");
        harness.ring.send(socket, b"here: one".to_vec()).unwrap();
        assert!(harness.ring.hand_over(socket, &other.handle, listener, Arrival::Moved));
        assert!(has_left(harness, socket).await);
        assert_eq!(harness.sent(socket).await, (9, true));
        client.write_all(b"two").unwrap();
        assert_eq!(read(&mut client, 19), "here: onethere: two");
        assert_eq!(other.arrivals.recv().unwrap(), Arrival::Moved);
        drop(client);
        other.end();
    });
}

#[test]
fn bytes_that_arrive_before_the_socket_leaves_keep_it() {
    with_other(small(8, 8), async |harness, address, other| {
        let mut client = TcpStream::connect(address).unwrap();
        let (socket, listener) = accept(harness).await;
        client.write_all(b"one").unwrap();
        thread::sleep(Duration::from_millis(20));
        // Not reaped yet.
        assert!(harness.ring.hand_over(socket, &other.handle, listener, Arrival::Moved));
        assert!(!has_left(harness, socket).await);
        assert_eq!(harness.received(socket, 3).await, b"one");
        client.write_all(b"two").unwrap();
        assert_eq!(harness.received(socket, 3).await, b"two");
        // Nothing of the first attempt is left.
        assert!(harness.ring.hand_over(socket, &other.handle, listener, Arrival::Moved));
        assert!(has_left(harness, socket).await);
        client.write_all(b"three").unwrap();
        assert_eq!(read(&mut client, 12), "there: three");
        drop(client);
        other.end();
    });
}

#[test]
fn socket_stays_where_the_other_ring_is_full_or_has_ended() {
    with_other(small(1, 8), async |harness, address, other| {
        let to = other.handle.clone();
        let mut clients: Vec<_> = (0..2).map(|_| TcpStream::connect(address).unwrap()).collect();
        let (first, listener) = accept(harness).await;
        assert!(harness.ring.hand_over(first, &to, listener, Arrival::HandedOver));
        assert!(has_left(harness, first).await);
        let (second, _) = accept(harness).await;
        assert!(harness.ring.hand_over(second, &to, listener, Arrival::HandedOver));
        assert!(!has_left(harness, second).await, "the other ring is full");
        other.end();
        assert!(harness.ring.hand_over(second, &to, listener, Arrival::HandedOver));
        assert!(!has_left(harness, second).await, "the other ring has ended");
        let mut outcomes = Vec::new();
        for client in &mut clients {
            client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            client.write_all(b"x").unwrap();
            outcomes.push(client.read(&mut [0]).map_err(|error| error.kind()));
        }
        // The one that has left is closed with the other ring.
        let closed = outcomes
            .iter()
            .filter(|outcome| !matches!(outcome, Err(ErrorKind::WouldBlock | ErrorKind::Interrupted)));
        assert_eq!(closed.count(), 1, "{outcomes:?}");
        assert_eq!(harness.received(second, 1).await, b"x");
    });
}

#[test]
fn socket_that_is_closed_while_it_leaves_is_closed_once() {
    with_other(small(8, 8), async |harness, address, other| {
        for is_waiting in [false, true] {
            let client = TcpStream::connect(address).unwrap();
            let (socket, listener) = accept(harness).await;
            if is_waiting {
                // Until the send has completed.
                harness.ring.send(socket, vec![0; 1000]).unwrap();
            }
            assert!(harness.ring.hand_over(socket, &other.handle, listener, Arrival::HandedOver));
            harness.ring.close(socket);
            harness.closed(socket).await;
            assert_eq!(harness.ring.sockets(), 0);
            assert!(
                !harness.ring.hand_over(socket, &other.handle, listener, Arrival::HandedOver),
                "the id is stale"
            );
            drop(client);
        }
        other.end();
    });
}
