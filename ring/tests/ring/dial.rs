//! Connecting to an address, and adopting connected sockets.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    os::unix::net::UnixStream,
    thread,
};

use corelane_ring::RingConfig;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::harness::{small, with_ring};

fn dialling(from: Option<SocketAddr>) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    if let Some(from) = from {
        socket.bind(&SockAddr::from(from)).unwrap();
    }
    socket
}

#[test]
fn a_dialled_connection_carries_bytes_both_ways_from_the_address_it_was_bound_to() {
    with_ring(small(16, 16), async |ring, _| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        ring.ring.connect(dialling(Some("127.0.0.9:0".parse().unwrap())), address.into(), 7);
        let socket = ring.dialled(7).await.unwrap();
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
fn a_refused_dial_says_so_and_leaves_its_slot() {
    with_ring(small(4, 16), async |ring, address| {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for round in 0..20 {
            ring.ring.connect(dialling(None), nobody.into(), round);
            let error = ring.dialled(round).await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        }
        // Both ends of this one take a slot of the four.
        ring.ring.connect(dialling(None), address.into(), 99);
        ring.dialled(99).await.unwrap();
        ring.accepted().await;
        assert_eq!(ring.ring.sockets(), 2);
    });
}

#[test]
fn dialled_connections_take_no_descriptors_and_a_full_table_refuses() {
    with_ring(RingConfig { sockets_max: 40, ..small(40, 16) }, async |ring, address| {
        let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        // Both ends are in this table.
        for name in 0..20 {
            ring.ring.connect(dialling(None), address.into(), name);
            ring.dialled(name).await.unwrap();
            ring.accepted().await;
        }
        let before = descriptors();
        ring.ring.connect(dialling(None), address.into(), 20);
        assert!(ring.dialled(20).await.is_err());
        assert_eq!(ring.ring.sockets(), 40);
        assert!(descriptors() <= before, "a dial keeps its descriptor");
    });
}

#[test]
fn a_ring_dropped_while_it_dials_lets_go() {
    with_ring(small(16, 16), async |ring, address| {
        for name in 0..8 {
            ring.ring.connect(dialling(None), address.into(), name);
        }
        // The harness shuts the ring down with all of them under way.
    });
}

#[test]
fn an_adopted_connection_carries_bytes_both_ways_and_keeps_no_descriptor() {
    with_ring(small(16, 16), async |ring, _| {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let before = descriptors();
        ring.ring.adopt(ours.into(), 5);
        let socket = ring.dialled(5).await.unwrap();
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
fn what_cannot_be_adopted_is_told_by_its_name() {
    with_ring(small(1, 16), async |ring, _| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ring.ring.adopt(ours.into(), 1);
        ring.dialled(1).await.unwrap();
        ring.ring.adopt(theirs.into(), 2);
        assert!(ring.dialled(2).await.is_err(), "the table is full");
    });
}
