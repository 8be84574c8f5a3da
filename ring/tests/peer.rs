//! The peer's address of accepted connections, against real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    io::Write,
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use corelane_ring::{Event, ListenerId, PeerAddress, Ring, RingConfig, SocketId, UnixSocket, bind, probe};
use glommio::{LocalExecutorBuilder, Placement};
use socket2::{Domain, SockRef, Socket, Type};

/// Runs `test` on an executor's thread, with a ring.
fn with_ring(test: impl AsyncFnOnce(&mut Harness) + Send + 'static) {
    let config = RingConfig {
        sockets_max: 64,
        buffers: 16,
        buffer_bytes: 512,
        large_buffers: 4,
        large_buffer_bytes: 4096,
        submission_entries: 8,
        completion_entries: 128,
    };
    LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(64 * 1024)
        .spawn(move || async move {
            let mut harness = Harness { ring: Ring::new(config).unwrap(), events: Vec::new() };
            test(&mut harness).await;
            harness.ring.shut_down().await;
        })
        .unwrap()
        .join()
        .unwrap();
}

struct Harness {
    ring: Ring,
    events: Vec<Event>,
}

impl Harness {
    /// Turns the ring until there are events.
    async fn turn(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.events.is_empty() {
            self.ring.turn(&mut self.events).unwrap();
            if self.events.is_empty() {
                assert!(Instant::now() < deadline, "no event in 20 s");
                let soon = Some(Instant::now() + Duration::from_millis(50));
                self.ring.park(soon, |_| false).await.unwrap();
            }
        }
    }

    async fn accepted(&mut self) -> (ListenerId, SocketId, Option<PeerAddress>) {
        self.turn().await;
        match self.events.remove(0) {
            Event::Accepted { listener, socket, peer, .. } => (listener, socket, peer),
            event => panic!("{event:?} before an accept"),
        }
    }

    async fn accepted_peer(&mut self) -> Option<SocketAddr> {
        self.accepted().await.2.map(SocketAddr::from)
    }
}

/// Listens on IPv6, and on IPv4 too unless `only_v6`.
fn bind_v6(only_v6: bool) -> TcpListener {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
    socket.set_only_v6(only_v6).unwrap();
    socket.bind(&"[::]:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(16).unwrap();
    socket.into()
}

/// Whether the kernel can be queried; says so loudly where it cannot.
fn has_peers() -> bool {
    let has_peers = probe().unwrap().peer_address;
    if !has_peers {
        eprintln!("SKIPPED: this kernel has no SOCKET_URING_OP_GETSOCKOPT (Linux 6.7)");
    }
    has_peers
}

#[test]
fn accepted_ipv4_connection_carries_its_peers_address() {
    if !has_peers() {
        return;
    }
    with_ring(async |ring| {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        ring.ring.listen(listener);
        let client = TcpStream::connect(address).unwrap();
        assert_eq!(ring.accepted_peer().await, Some(client.local_addr().unwrap()));
    });
}

#[test]
fn accepted_ipv6_connection_carries_its_peers_address() {
    if !has_peers() {
        return;
    }
    with_ring(async |ring| {
        let listener = bind_v6(true);
        let port = listener.local_addr().unwrap().port();
        ring.ring.listen(listener);
        let client = TcpStream::connect(("::1", port)).unwrap();
        assert_eq!(ring.accepted_peer().await, Some(client.local_addr().unwrap()));
    });
}

#[test]
fn dual_stack_listener_returns_ipv4_peers_as_ipv4() {
    if !has_peers() {
        return;
    }
    with_ring(async |ring| {
        let listener = bind_v6(false);
        let port = listener.local_addr().unwrap().port();
        ring.ring.listen(listener);
        let clients = ["127.0.0.1", "::1"].map(|address| TcpStream::connect((address, port)).unwrap());
        for client in &clients {
            assert_eq!(ring.accepted_peer().await, Some(client.local_addr().unwrap()));
        }
    });
}

#[test]
fn connections_of_one_burst_carry_their_own_addresses() {
    if !has_peers() {
        return;
    }
    with_ring(async |ring| {
        let listeners: Vec<_> = (0..2).map(|_| bind("127.0.0.1:0".parse().unwrap()).unwrap()).collect();
        let addresses: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        for listener in listeners {
            ring.ring.listen(listener);
        }
        // More than the submission queue has entries.
        for _ in 0..3 {
            let clients: Vec<_> =
                (0..20).map(|number| TcpStream::connect(addresses[number % 2]).unwrap()).collect();
            let mut expected: Vec<_> = clients
                .iter()
                .map(|client| (client.peer_addr().unwrap(), client.local_addr().unwrap()))
                .collect();
            let mut accepted = Vec::new();
            for _ in 0..20 {
                ring.events.retain(|event| matches!(event, Event::Accepted { .. }));
                let (listener, socket, peer) = ring.accepted().await;
                accepted.push((addresses[listener.index()], peer.unwrap().into()));
                ring.ring.close(socket);
            }
            expected.sort();
            accepted.sort();
            assert_eq!(accepted, expected);
            while ring.ring.sockets() > 0 {
                ring.events.clear();
                ring.turn().await;
            }
            ring.events.clear();
        }
    });
}

#[test]
fn address_precedes_bytes_that_were_sent_before_the_accept() {
    with_ring(async |ring| {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let mut clients: Vec<_> = (0..10).map(|_| TcpStream::connect(address).unwrap()).collect();
        clients.iter_mut().for_each(|client| client.write_all(b"early").unwrap());
        ring.ring.listen(listener);
        let (mut accepted, mut received) = (Vec::new(), 0);
        while received < 10 {
            ring.turn().await;
            for event in ring.events.drain(..) {
                match event {
                    Event::Accepted { socket, .. } => accepted.push(socket),
                    Event::Received { socket, buffer } => {
                        assert!(accepted.contains(&socket));
                        assert_eq!(buffer.bytes(), b"early");
                        received += 1;
                    }
                    event => panic!("{event:?}"),
                }
            }
        }
    });
}

#[test]
fn peer_that_reset_its_connection_before_the_accept_is_accepted() {
    with_ring(async |ring| {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        ring.ring.listen(listener);
        let (_, socket, _) = ring.accepted().await;
        ring.turn().await;
        assert!(matches!(ring.events.remove(0), Event::ReceiveFailed { .. }));
        ring.ring.close(socket);
        ring.turn().await;
        assert_eq!(ring.ring.sockets(), 0);
    });
}

#[test]
fn unix_socket_connection_has_no_address() {
    with_ring(async |ring| {
        let path = std::env::temp_dir().join(format!("corelane-ring-peer-{}.sock", std::process::id()));
        let unix = UnixSocket::bind(&path).unwrap();
        ring.ring.listen(unix.listener().unwrap());
        let _file = unix.into_file();
        let _client = UnixStream::connect(&path).unwrap();
        assert_eq!(ring.accepted_peer().await, None);
    });
}

#[test]
fn adopted_connection_is_reported_without_a_query() {
    with_ring(async |ring| {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let adopted = TcpStream::connect(address).unwrap();
        ring.ring.listen(listener);
        ring.ring.adopt(adopted.into(), 7);
        let mut names = Vec::new();
        while names.len() < 2 {
            ring.turn().await;
            names.extend(ring.events.drain(..).map(|event| match event {
                Event::Connected { token, .. } => token,
                Event::Accepted { .. } => 0,
                event => panic!("{event:?}"),
            }));
        }
        names.sort_unstable();
        assert_eq!(names, [0, 7]);
    });
}

#[test]
fn ring_dropped_while_it_queries_ends_at_once() {
    with_ring(async |ring| {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        ring.ring.listen(listener);
        ring.ring.submit().unwrap();
        let _clients: Vec<_> = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
        // The accepts are reaped, the queries are queued.
        ring.ring.turn(&mut ring.events).unwrap();
        let dropped = Instant::now();
        drop(std::mem::replace(&mut ring.ring, Ring::new(RingConfig::default()).unwrap()));
        assert!(dropped.elapsed() < Duration::from_secs(1), "{:?}", dropped.elapsed());
    });
}
