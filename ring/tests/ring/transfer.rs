//! Receiving, sending and closing.

use std::{
    collections::{HashMap, HashSet},
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use corelane_ring::{Event, RingConfig};

use crate::harness::{Harness, small, with_ring};

#[test]
fn received_bytes_are_echoed() {
    with_ring(small(16, 16), async |ring, address| {
        let client = thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            let sent: Vec<u8> = (0..100_000_u32).map(|byte| byte as u8).collect();
            let mut reader = stream.try_clone().unwrap();
            let expected = sent.clone();
            let reading = thread::spawn(move || {
                let mut read = vec![0; expected.len()];
                reader.read_exact(&mut read).unwrap();
                assert!(read == expected);
            });
            stream.write_all(&sent).unwrap();
            reading.join().unwrap();
        });
        let socket = ring.accepted().await;
        let mut echoed = 0;
        while echoed < 100_000 {
            let part = ring.received(socket, 1).await;
            echoed += part.len();
            ring.ring.send(socket, part).unwrap();
            assert!(ring.sent(socket).await.1);
        }
        client.join().unwrap();
        ring.wait(|event| matches!(event, Event::PeerClosed { .. }).then_some(())).await;
        ring.ring.close(socket);
        ring.closed(socket).await;
        assert_eq!((ring.ring.sockets(), ring.ring.buffers_held()), (0, 0));
    });
}

#[test]
fn close_while_receiving_sends_fin() {
    with_ring(small(16, 16), async |ring, address| {
        let mut client = TcpStream::connect(address).unwrap();
        let socket = ring.accepted().await;
        ring.idle(Duration::from_millis(20)).await;
        ring.ring.close(socket);
        ring.closed(socket).await;
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 0, "the end of the stream, not a reset");
    });
}

#[test]
fn late_data_is_not_received_by_the_next_connection_of_the_slot() {
    // With one slot, every connection reuses the slot of the previous one.
    with_ring(small(1, 16), async |ring, address| {
        for round in 0..200_u32 {
            let mut client = TcpStream::connect(address).unwrap();
            let socket = ring.accepted().await;
            let mine = round.to_le_bytes();
            client.write_all(&mine).unwrap();
            assert_eq!(ring.received(socket, 4).await, mine, "only the bytes of this connection");
            // Data in transit while the slot is being closed.
            let late = thread::spawn(move || {
                for _ in 0..50 {
                    if client.write_all(b"late").is_err() {
                        break;
                    }
                }
            });
            ring.ring.close(socket);
            assert!(ring.ring.send(socket, vec![1]).is_err(), "a closed socket rejects the buffer");
            ring.closed(socket).await;
            late.join().unwrap();
            assert!(ring.ring.send(socket, vec![1]).is_err(), "a stale id is rejected");
        }
        assert_eq!((ring.ring.sockets(), ring.ring.buffers_held()), (0, 0));
    });
}

#[test]
fn second_send_is_rejected_and_every_buffer_is_returned() {
    // More than the kernel can hold for a connection (`tcp_wmem` and `tcp_rmem`), also after the peer's buffer has grown by
    // reading, so that it is sent in parts and never completes where the peer does not read.
    const BIG: usize = 64 * 1024 * 1024;
    with_ring(small(16, 16), async |ring, address| {
        let mut client = TcpStream::connect(address).unwrap();
        let socket = ring.accepted().await;
        ring.ring.send(socket, vec![7; BIG]).unwrap();
        let refused = ring.ring.send(socket, vec![1, 2, 3]).unwrap_err();
        assert_eq!(refused.0, [1, 2, 3]);
        let reading = thread::spawn(move || {
            let mut read = vec![0; BIG];
            client.read_exact(&mut read).unwrap();
            assert!(read.iter().all(|&byte| byte == 7));
            client
        });
        assert_eq!(ring.sent(socket).await, (BIG, true));
        let client = reading.join().unwrap();
        // The peer does not read; closing must still return the buffer.
        ring.ring.send(socket, vec![9; BIG]).unwrap();
        ring.idle(Duration::from_millis(20)).await;
        ring.ring.close(socket);
        assert_eq!(ring.sent(socket).await, (BIG, false));
        ring.closed(socket).await;
        drop(client);
    });
}

#[test]
fn unacknowledged_bytes_are_those_that_the_peer_has_not_received() {
    const BIG: usize = 16 * 1024 * 1024;
    with_ring(small(16, 16), async |ring, address| {
        let mut client = TcpStream::connect(address).unwrap();
        let socket = ring.accepted().await;
        let acknowledged = async |ring: &mut Harness| {
            ring.ring.query_acknowledged(socket);
            ring.wait(|event| match event {
                Event::Acknowledged { sent, unacknowledged, .. } => Some((*sent, *unacknowledged)),
                _ => None,
            })
            .await
        };
        assert_eq!(acknowledged(ring).await, (0, 0));
        ring.ring.send(socket, vec![7; BIG]).unwrap();
        ring.idle(Duration::from_millis(200)).await;
        let (sent, unacknowledged) = acknowledged(ring).await;
        if unacknowledged == 0 {
            eprintln!("SKIPPED: the kernel does not count acknowledged bytes (before Linux 6.7)");
            return;
        }
        assert!(unacknowledged < sent && sent < BIG as u64, "{sent} {unacknowledged}");
        let reading = thread::spawn(move || {
            client.read_exact(&mut vec![0; BIG]).unwrap();
            client
        });
        assert_eq!(ring.sent(socket).await, (BIG, true));
        let client = reading.join().unwrap();
        assert_eq!(
            acknowledged(ring).await,
            (0, 0),
            "no send is in flight, and the peer has received everything"
        );
        drop(client);
    });
}

#[test]
fn half_closed_connection_receives_the_rest() {
    with_ring(small(16, 16), async |ring, address| {
        let mut client = TcpStream::connect(address).unwrap();
        let socket = ring.accepted().await;
        ring.ring.send(socket, b"bye".to_vec()).unwrap();
        assert!(ring.sent(socket).await.1);
        ring.ring.shutdown_write(socket);
        let mut read = Vec::new();
        ring.idle(Duration::from_millis(20)).await;
        client.read_to_end(&mut read).unwrap();
        assert_eq!(read, b"bye");
        client.write_all(b"thanks").unwrap();
        assert_eq!(ring.received(socket, 6).await, b"thanks");
        drop(client);
        ring.wait(|event| matches!(event, Event::PeerClosed { .. }).then_some(())).await;
        ring.ring.close(socket);
        ring.closed(socket).await;
    });
}

#[test]
fn paused_socket_blocks_its_peer() {
    with_ring(small(16, 16), async |ring, address| {
        let mut client = TcpStream::connect(address).unwrap();
        client.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        let socket = ring.accepted().await;
        ring.ring.pause_receive(socket);
        ring.idle(Duration::from_millis(50)).await;
        ring.events.clear();
        let mut written = 0;
        while let Ok(count) = client.write(&[5; 64 * 1024]) {
            written += count;
            assert!(written < 64 * 1024 * 1024, "the peer is never blocked");
        }
        ring.idle(Duration::from_millis(50)).await;
        assert!(ring.events.is_empty(), "{:?}", ring.events);
        ring.ring.resume_receive(socket);
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(ring.received(socket, written).await.len(), written, "no byte is lost");
    });
}

#[test]
fn receiving_resumes_after_buffers_are_exhausted() {
    with_ring(small(64, 4), async |ring, address| {
        let mut clients: Vec<_> = (0..32).map(|_| TcpStream::connect(address).unwrap()).collect();
        let mut sockets = Vec::new();
        for _ in 0..32 {
            sockets.push(ring.accepted().await);
        }
        // 32 senders and four buffers, all of which are held.
        for client in &mut clients {
            client.write_all(&[3; 1000]).unwrap();
        }
        let mut held = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(5);
        while held.len() < 4 && Instant::now() < deadline {
            ring.ring.turn(&mut ring.events).unwrap();
            held.append(&mut ring.events);
        }
        ring.idle(Duration::from_millis(50)).await;
        assert_eq!(ring.ring.buffers_held(), 4, "the kernel has no buffer left");
        let mut total: usize = 0;
        let count = |events: Vec<Event>| -> usize {
            events
                .iter()
                .map(|event| if let Event::Received { buffer, .. } = event { buffer.len() } else { 0 })
                .sum()
        };
        total += count(held);
        while total < 32_000 {
            ring.ring.turn(&mut ring.events).unwrap();
            total += count(std::mem::take(&mut ring.events));
            ring.ring.park(Some(Instant::now() + Duration::from_millis(1)), |_| false).await.unwrap();
            assert!(Instant::now() < deadline + Duration::from_secs(20), "{total} of 32,000 bytes received");
        }
        assert_eq!((total, ring.ring.buffers_held()), (32_000, 0));
    });
}

/// Number of distinct buffers in which bytes are received, if each of `clients` connections sends one byte in each of `rounds` rounds,
/// and all bytes of a round are held until the last one has been received.
fn buffers_used(clients: usize, rounds: usize) -> usize {
    // A queue that overflows ends the receives whose completions it has no room for.
    let config = RingConfig { completion_entries: 2048, ..small(1024, 1024) };
    with_ring(config, async move |ring, address| {
        let mut streams: Vec<_> = (0..clients).map(|_| TcpStream::connect(address).unwrap()).collect();
        for _ in 0..clients {
            ring.accepted().await;
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut used = HashSet::new();
        for _ in 0..rounds {
            for stream in &mut streams {
                stream.write_all(b"a").unwrap();
            }
            let mut held = Vec::new();
            while held.len() < clients {
                assert!(Instant::now() < deadline, "{} of {clients} bytes received", held.len());
                ring.ring.turn(&mut ring.events).unwrap();
                held.extend(ring.events.drain(..).filter_map(|event| match event {
                    Event::Received { buffer, .. } => Some(buffer),
                    _ => None,
                }));
            }
            used.extend(held.iter().map(|buffer| buffer.bytes().as_ptr()));
        }
        used.len()
    })
}

#[test]
fn requests_of_few_connections_use_no_more_buffers_than_needed_at_one_time() {
    // Of 1024 buffers.
    assert_eq!(buffers_used(4, 400), 256);
    assert_eq!(buffers_used(300, 1), 300, "more are available once they are needed");
}

/// Writes as many bytes as the sockets take without blocking.
fn fill_sockets(clients: &mut [TcpStream]) {
    for client in clients {
        while client.write(&[7; 64 * 1024]).is_ok() {}
    }
}

#[test]
fn few_bytes_are_received_soon_beside_many_sockets_with_more_than_all_buffers() {
    const HEAVY: usize = 16;
    with_ring(small(64, 64), async |ring, address| {
        let mut heavy: Vec<_> = (0..HEAVY).map(|_| TcpStream::connect(address).unwrap()).collect();
        for client in &mut heavy {
            ring.accepted().await;
            client.set_nonblocking(true).unwrap();
        }
        let mut light = TcpStream::connect(address).unwrap();
        let socket = ring.accepted().await;
        let mut turns = Vec::new();
        for _ in 0..20 {
            light.write_all(b"few bytes").unwrap();
            for turn in 0..1000 {
                fill_sockets(&mut heavy);
                ring.ring.turn(&mut ring.events).unwrap();
                let received =
                    |event: Event| matches!(event, Event::Received { socket: from, .. } if from == socket);
                if ring.events.drain(..).any(received) {
                    turns.push(turn);
                    break;
                }
            }
        }
        turns.sort_unstable();
        assert!(turns.len() == 20 && turns[10] <= 4, "turns until the bytes were received: {turns:?}");
    });
}

/// The turns until `length` bytes of a socket are received beside many others of one group with more than all buffers.
fn turns_until_received(group: u64, length: usize) -> usize {
    const HEAVY: usize = 32;
    with_ring(small(64, 256), async move |ring, address| {
        let mut heavy: Vec<_> = (0..HEAVY).map(|_| TcpStream::connect(address).unwrap()).collect();
        for client in &mut heavy {
            ring.accepted().await;
            client.set_nonblocking(true).unwrap();
        }
        let mut light = TcpStream::connect(address).unwrap();
        let socket = ring.accepted().await;
        ring.ring.set_group(socket, group);
        let mut turns = Vec::new();
        for _ in 0..20 {
            light.write_all(&vec![1; length]).unwrap();
            let mut left = length;
            for turn in 0..1000 {
                fill_sockets(&mut heavy);
                ring.ring.turn(&mut ring.events).unwrap();
                for event in ring.events.drain(..) {
                    if let Event::Received { socket: from, buffer } = event
                        && from == socket
                    {
                        left -= buffer.len();
                    }
                }
                if left == 0 {
                    turns.push(turn);
                    break;
                }
            }
        }
        turns.sort_unstable();
        assert_eq!(turns.len(), 20, "the bytes are received");
        turns[10]
    })
}

#[test]
fn socket_of_another_group_has_its_part_of_the_buffers_beside_many_sockets_with_more_than_all() {
    // More than 100 buffers.
    let turns = [0, 1].map(|group| turns_until_received(group, 50_000));
    assert!(turns[1] <= 8 && turns[1] * 4 <= turns[0], "turns in the same group and in another: {turns:?}");
}

/// Bytes that differ from those one buffer earlier or later.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index % 251) as u8).collect()
}

/// Writes `bytes` to a new connection, on a thread.
fn write_all(address: SocketAddr, bytes: Vec<u8>) -> thread::JoinHandle<TcpStream> {
    thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&bytes).unwrap();
        stream
    })
}

#[test]
fn bytes_are_received_in_order_while_the_size_of_the_buffers_changes() {
    with_ring(small(16, 16), async |ring, address| {
        let sent = pattern(2_000_000);
        let client = write_all(address, sent.clone());
        let socket = ring.accepted().await;
        let (mut received, mut large) = (Vec::new(), 0);
        for number in 0.. {
            if received.len() == sent.len() {
                break;
            }
            let part = ring
                .wait(|event| match event {
                    Event::Received { buffer, .. } => Some(buffer.bytes().to_vec()),
                    _ => None,
                })
                .await;
            large += usize::from(part.len() > 512);
            received.extend(part);
            match number % 7 {
                0 | 3 => ring.ring.receive_large(socket),
                2 | 6 => ring.ring.resume_receive(socket),
                5 => {
                    ring.ring.pause_receive(socket);
                    ring.ring.receive_large(socket);
                }
                _ => {}
            }
        }
        assert!(received == sent && large > 10, "{large} parts in large buffers");
        ring.ring.resume_receive(socket);
        let mut client = client.join().unwrap();
        client.write_all(b"few bytes").unwrap();
        assert_eq!(ring.received(socket, 9).await, b"few bytes");
        assert_eq!(ring.ring.buffers_held(), 0);
    });
}

#[test]
fn paused_socket_is_received_in_large_buffers() {
    with_ring(small(16, 16), async |ring, address| {
        let client = write_all(address, pattern(20_000));
        let socket = ring.accepted().await;
        ring.ring.pause_receive(socket);
        ring.ring.receive_large(socket);
        assert!(ring.received(socket, 20_000).await == pattern(20_000));
        client.join().unwrap();
    });
}

#[test]
fn each_turn_receives_one_large_buffer_of_a_socket_and_all_sockets_take_turns() {
    const SOCKETS: usize = 6;
    const ROUNDS: usize = 60;
    with_ring(small(16, 16), async |ring, address| {
        let mut clients = Vec::new();
        let mut sockets = Vec::new();
        for _ in 0..SOCKETS {
            let client = TcpStream::connect(address).unwrap();
            client.set_nonblocking(true).unwrap();
            clients.push(client);
            let socket = ring.accepted().await;
            ring.ring.receive_large(socket);
            sockets.push(socket);
        }
        ring.idle(Duration::from_millis(20)).await;
        let mut received = [0; SOCKETS];
        for _ in 0..ROUNDS {
            fill_sockets(&mut clients);
            ring.ring.turn(&mut ring.events).unwrap();
            let mut in_turn = [0; SOCKETS];
            for event in ring.events.drain(..) {
                if let Event::Received { socket, .. } = event {
                    in_turn[sockets.iter().position(|known| *known == socket).unwrap()] += 1;
                }
            }
            assert!(in_turn.iter().all(|count| *count <= 1), "buffers of a turn: {in_turn:?}");
            assert!(in_turn.iter().sum::<usize>() <= 4, "there are four large buffers: {in_turn:?}");
            received.iter_mut().zip(in_turn).for_each(|(total, count)| *total += count);
        }
        let (least, most) = (received.iter().min().unwrap(), received.iter().max().unwrap());
        assert!(*least > 0 && most - least <= 2, "buffers of each socket: {received:?}");
    });
}

#[test]
fn rest_of_bytes_that_filled_a_buffer_is_received_in_large_ones() {
    const CLIENTS: usize = 8;
    const EACH: usize = 100_000;
    with_ring(small(16, 16), async |ring, address| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| write_all(address, pattern(EACH))).collect();
        let (mut received, mut large) = (0, 0);
        while received < CLIENTS * EACH {
            let length = ring
                .wait(|event| match event {
                    Event::Received { buffer, .. } => Some(buffer.len()),
                    _ => None,
                })
                .await;
            received += length;
            large += if length > 512 { length } else { 0 };
        }
        clients.into_iter().for_each(|client| drop(client.join().unwrap()));
        assert!(large * 2 > received, "{large} of {received} bytes in large buffers");
    });
}

#[test]
fn socket_with_fewer_bytes_than_buffers_takes_turns_with_those_that_wait() {
    const WAITING: usize = 40;
    with_ring(small(64, 256), async |ring, address| {
        let mut clients: Vec<_> = (0..WAITING).map(|_| TcpStream::connect(address).unwrap()).collect();
        for client in &mut clients {
            client.set_nonblocking(true).unwrap();
            ring.accepted().await;
        }
        let mut newest = TcpStream::connect(address).unwrap();
        newest.set_nonblocking(true).unwrap();
        let socket = ring.accepted().await;
        let mut received = HashMap::new();
        for turn in 0..200 {
            fill_sockets(&mut clients);
            // Once the others wait: 80 buffers of the half that are left to those that do not.
            if turn > 20 {
                let _ = newest.write(&[7; 40_000]);
            }
            ring.ring.turn(&mut ring.events).unwrap();
            for event in ring.events.drain(..) {
                if let Event::Received { socket, buffer } = event {
                    *received.entry(socket).or_insert(0) += buffer.len();
                }
            }
        }
        let newest = received.remove(&socket).unwrap();
        let most = *received.values().max().unwrap();
        assert!(received.len() == WAITING && newest <= most * 4, "{newest} bytes, others {received:?}");
    });
}

#[test]
fn bytes_of_one_socket_do_not_make_more_buffers_available() {
    let config = RingConfig { completion_entries: 2048, ..small(16, 1024) };
    with_ring(config, async move |ring, address| {
        let sent = pattern(4_000_000);
        let client = write_all(address, sent.clone());
        ring.accepted().await;
        let (mut used, mut length) = (HashSet::new(), 0);
        while length < sent.len() {
            let (start, bytes) = ring
                .wait(|event| match event {
                    Event::Received { buffer, .. } => Some((buffer.bytes().as_ptr(), buffer.len())),
                    _ => None,
                })
                .await;
            used.insert(start);
            length += bytes;
        }
        client.join().unwrap();
        assert_eq!(used.len(), 256, "of 1024 buffers");
    });
}
