//! Accepting connections.

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use corelane_ring::{Event, RingConfig, UnixSocket, bind_first};

use crate::harness::{small, with_ring};

#[test]
fn full_table_stops_accepting_until_a_slot_is_free() {
    with_ring(small(4, 16), async |ring, address| {
        let clients: Vec<_> = (0..6).map(|_| TcpStream::connect(address).unwrap()).collect();
        let mut sockets = Vec::new();
        for _ in 0..4 {
            sockets.push(ring.accepted().await);
        }
        let (listener, error) = ring
            .wait(|event| match event {
                Event::AcceptFailed { listener, error } => Some((*listener, error.raw_os_error())),
                _ => None,
            })
            .await;
        assert_eq!(error, Some(libc::ENFILE));
        ring.ring.close(sockets[0]);
        ring.closed(sockets[0]).await;
        ring.ring.resume_accept(listener);
        let next = ring.accepted().await;
        assert_eq!(next.index(), sockets[0].index(), "the slot is reused");
        assert_ne!(next, sockets[0], "with another generation");
        drop(clients);
    });
}

#[test]
fn reset_is_a_receive_error_and_accepting_continues() {
    with_ring(small(16, 16), async |ring, address| {
        let client = socket2::Socket::from(TcpStream::connect(address).unwrap());
        let socket = ring.accepted().await;
        client.set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        let errno = ring
            .wait(|event| match event {
                Event::ReceiveFailed { error, .. } => Some(error.raw_os_error()),
                _ => None,
            })
            .await;
        assert_eq!(errno, Some(libc::ECONNRESET));
        ring.ring.close(socket);
        ring.closed(socket).await;
        drop(TcpStream::connect(address).unwrap());
        ring.accepted().await;
    });
}

#[test]
fn completions_beyond_the_queue_are_not_lost() {
    // 1,000 connections in one burst, before a turn of a ring with 128 entries.
    with_ring(small(2000, 16), async |ring, address| {
        ring.ring.turn(&mut ring.events).unwrap();
        let clients: Vec<_> = (0..1000).map(|_| TcpStream::connect(address).unwrap()).collect();
        for mut client in &clients {
            client.write_all(b"x").unwrap();
        }
        for _ in 0..1000 {
            ring.accepted().await;
        }
        let mut bytes = 0;
        while bytes < 1000 {
            bytes += ring
                .wait(|event| match event {
                    Event::Received { buffer, .. } => Some(buffer.len()),
                    _ => None,
                })
                .await;
        }
        assert_eq!(bytes, 1000);
    });
}

#[test]
fn unix_listener_is_paused_resumed_and_stopped() {
    with_ring(small(64, 16), async |ring, _| {
        let path = std::env::temp_dir().join(format!("corelane-ring-{}.sock", std::process::id()));
        let unix = UnixSocket::bind(&path).unwrap();
        // A second ring that shares the socket and never accepts.
        let _other = unix.listener().unwrap();
        let listener = ring.ring.listen(unix.listener().unwrap());
        let file = unix.into_file();
        for _ in 0..10 {
            let mut client = UnixStream::connect(&path).unwrap();
            let socket = ring.accepted().await;
            client.write_all(b"hello").unwrap();
            assert_eq!(ring.received(socket, 5).await, b"hello");
        }
        let accepted =
            |events: &[Event]| events.iter().filter(|event| matches!(event, Event::Accepted { .. })).count();
        ring.ring.pause_accept(listener);
        ring.idle(Duration::from_millis(20)).await;
        let mut waiting: Vec<_> = (0..5).map(|_| UnixStream::connect(&path).unwrap()).collect();
        ring.idle(Duration::from_millis(50)).await;
        assert_eq!(accepted(&ring.events), 0);
        ring.ring.resume_accept(listener);
        for _ in 0..5 {
            ring.accepted().await;
        }
        // Both in one turn, so that the accept is cancelled and armed again.
        ring.ring.pause_accept(listener);
        ring.ring.resume_accept(listener);
        waiting.push(UnixStream::connect(&path).unwrap());
        ring.accepted().await;
        ring.ring.stop_listening(listener);
        ring.idle(Duration::from_millis(20)).await;
        let _waits = UnixStream::connect(&path).expect("the listener of the other ring is open");
        ring.idle(Duration::from_millis(50)).await;
        assert_eq!(accepted(&ring.events), 0);
        drop(file);
        assert!(!path.exists());
    });
}
/// Resident memory of the process, in KiB.
fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn aborted_connections_leak_neither_descriptors_nor_memory() {
    const CYCLES: usize = 100_000;
    const AT_ONCE: usize = 50;
    with_ring(RingConfig { sockets_max: 256, ..RingConfig::default() }, async |ring, address| {
        let mut baseline = None;
        let mut done = 0;
        while done < CYCLES {
            let clients = thread::spawn(move || {
                for number in 0..AT_ONCE {
                    let mut client = TcpStream::connect(address).unwrap();
                    // A third closes silently, a third within a request, a third with a reset.
                    if number % 3 == 1 {
                        let _ = client.write_all(b"POST /mcp HT");
                    } else if number % 3 == 2 {
                        let _ = socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO));
                    }
                }
            });
            let mut gone = 0;
            while gone < AT_ONCE {
                ring.ring.turn(&mut ring.events).unwrap();
                if ring.events.is_empty() {
                    ring.ring.park(Some(Instant::now() + Duration::from_secs(1)), |_| false).await.unwrap();
                }
                for event in std::mem::take(&mut ring.events) {
                    match event {
                        Event::Accepted { socket, .. } if socket.index() % 2 == 0 => {
                            let _ = ring.ring.send(socket, b"hello".to_vec());
                        }
                        Event::PeerClosed { socket } | Event::ReceiveFailed { socket, .. } => {
                            ring.ring.close(socket)
                        }
                        Event::Closed { .. } => gone += 1,
                        _ => {}
                    }
                }
            }
            clients.join().unwrap();
            done += AT_ONCE;
            if done == CYCLES / 10 {
                baseline = Some((descriptors(), resident_kib()));
            }
        }
        let (descriptors_before, resident_before) = baseline.unwrap();
        assert_eq!((ring.ring.sockets(), ring.ring.buffers_held()), (0, 0));
        assert_eq!(descriptors(), descriptors_before);
        let grown = resident_kib().saturating_sub(resident_before);
        assert!(grown < 4096, "{grown} KiB more than after a tenth of the cycles");
    });
}

#[test]
fn queue_of_a_stopped_listener_is_accepted() {
    with_ring(small(64, 16), async |ring, _| {
        let tcp = bind_first("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = tcp.local_addr().unwrap();
        let path = std::env::temp_dir().join(format!("corelane-ring-queue-{}.sock", std::process::id()));
        let unix = UnixSocket::bind(&path).unwrap();
        let listeners = [ring.ring.listen(tcp), ring.ring.listen(unix.listener().unwrap())];
        listeners.iter().for_each(|listener| ring.ring.pause_accept(*listener));
        ring.idle(Duration::from_millis(20)).await;
        let over_tcp: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
        let over_unix: Vec<_> = (0..3).map(|_| UnixStream::connect(&path).unwrap()).collect();
        for listener in listeners {
            ring.ring.refuse_connections(listener);
            ring.ring.stop_listening(listener);
        }
        assert!(TcpStream::connect(address).is_err() && UnixStream::connect(&path).is_err());
        for mut client in &over_tcp {
            client.write_all(b"x").unwrap();
        }
        for mut client in &over_unix {
            client.write_all(b"x").unwrap();
        }
        let mut peers = 0;
        for _ in 0..6 {
            let peer = ring
                .wait(|event| match event {
                    Event::Accepted { peer, .. } => Some(peer.map(SocketAddr::from)),
                    _ => None,
                })
                .await;
            let is_client = |peer| over_tcp.iter().any(|client| client.local_addr().unwrap() == peer);
            peers += usize::from(peer.is_some_and(is_client));
        }
        assert_eq!(peers, 3, "with their addresses");
        let mut bytes = 0;
        while bytes < 6 {
            bytes += ring
                .wait(|event| match event {
                    Event::Received { buffer, .. } => Some(buffer.len()),
                    _ => None,
                })
                .await;
        }
    });
}

#[test]
fn taken_listeners_keep_their_queues_and_refuse_connections_as_before() {
    with_ring(small(64, 16), async |ring, _| {
        let tcp = bind_first("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = tcp.local_addr().unwrap();
        let path = std::env::temp_dir().join(format!("corelane-ring-taken-{}.sock", std::process::id()));
        let unix = UnixSocket::bind(&path).unwrap();
        let listeners = [ring.ring.listen(tcp), ring.ring.listen(unix.listener().unwrap())];
        listeners.iter().for_each(|listener| ring.ring.pause_accept(*listener));
        ring.idle(Duration::from_millis(20)).await;
        let _over_tcp: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
        let _over_unix: Vec<_> = (0..3).map(|_| UnixStream::connect(&path).unwrap()).collect();
        listeners.iter().for_each(|listener| ring.ring.refuse_connections(*listener));
        // The first one is the harness's.
        let taken: Vec<_> = ring.ring.take_listeners().into_iter().flatten().skip(1).collect();
        assert_eq!(taken.len(), 2);
        for listener in taken {
            let listener = ring.ring.listen(listener);
            ring.ring.stop_listening(listener);
        }
        for _ in 0..6 {
            ring.accepted().await;
        }
        assert!(ring.ring.take_listeners().iter().all(Option::is_none), "all were stopped or taken");
        assert!(TcpStream::connect(address).is_err() && UnixStream::connect(&path).is_err());
    });
}
