//! Connecting sockets, and adopting connected ones.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    os::unix::net::UnixStream,
    thread,
};

use corelane_ring::RingConfig;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::harness::{small, with_ring};

fn unconnected(from: Option<SocketAddr>) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    if let Some(from) = from {
        socket.bind(&SockAddr::from(from)).unwrap();
    }
    socket
}

#[test]
fn connected_socket_sends_and_receives_from_its_bound_address() {
    with_ring(small(16, 16), async |ring, _| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        ring.ring.connect(unconnected(Some("127.0.0.9:0".parse().unwrap())), address.into(), 7);
        let socket = ring.connected(7).await.unwrap();
        let (mut peer, from) = listener.accept().unwrap();
        assert_eq!(from.ip().to_string(), "127.0.0.9");
        ring.ring.send(socket, b"there".to_vec()).unwrap();
        let mut there = [0; 5];
        let reading = thread::spawn(move || {
            peer.read_exact(&mut there).unwrap();
            peer.write_all(b"and back").unwrap();
            there
        });
        assert_eq!(ring.received(socket, 8).await, b"and back");
        assert_eq!(&reading.join().unwrap(), b"there");
        ring.ring.close(socket);
        ring.closed(socket).await;
    });
}

#[test]
fn refused_connect_fails_and_frees_its_slot() {
    with_ring(small(4, 16), async |ring, address| {
        let closed_port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for round in 0..20 {
            ring.ring.connect(unconnected(None), closed_port.into(), round);
            let error = ring.connected(round).await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        }
        // Both ends of the connection occupy one of the four slots.
        ring.ring.connect(unconnected(None), address.into(), 99);
        ring.connected(99).await.unwrap();
        ring.accepted().await;
        assert_eq!(ring.ring.sockets(), 2);
    });
}

#[test]
fn connected_sockets_use_no_descriptor_and_a_full_table_rejects() {
    with_ring(RingConfig { sockets_max: 40, ..small(40, 16) }, async |ring, address| {
        let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        // Both ends occupy a slot of the ring.
        for token in 0..20 {
            ring.ring.connect(unconnected(None), address.into(), token);
            ring.connected(token).await.unwrap();
            ring.accepted().await;
        }
        let before = descriptors();
        ring.ring.connect(unconnected(None), address.into(), 20);
        assert!(ring.connected(20).await.is_err());
        assert_eq!(ring.ring.sockets(), 40);
        assert!(descriptors() <= before, "the connect keeps its file descriptor");
    });
}

#[test]
fn ring_with_pending_connects_is_dropped() {
    with_ring(small(16, 16), async |ring, address| {
        for token in 0..8 {
            ring.ring.connect(unconnected(None), address.into(), token);
        }
        // The harness shuts the ring down with all of them pending.
    });
}

#[test]
fn adopted_socket_sends_and_receives_and_uses_no_descriptor() {
    with_ring(small(16, 16), async |ring, _| {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let before = descriptors();
        ring.ring.adopt(ours.into(), 5);
        let socket = ring.connected(5).await.unwrap();
        assert_eq!(descriptors(), before - 1);
        theirs.write_all(b"there").unwrap();
        assert_eq!(ring.received(socket, 5).await, b"there");
        ring.ring.send(socket, b"and back".to_vec()).unwrap();
        ring.sent(socket).await;
        ring.ring.close(socket);
        ring.closed(socket).await;
        let mut back = Vec::new();
        theirs.read_to_end(&mut back).unwrap();
        assert_eq!(back, b"and back");
    });
}

#[test]
fn adoption_into_a_full_table_fails() {
    with_ring(small(1, 16), async |ring, _| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ring.ring.adopt(ours.into(), 1);
        ring.connected(1).await.unwrap();
        ring.ring.adopt(theirs.into(), 2);
        assert!(ring.connected(2).await.is_err(), "the table is full");
    });
}
