//! The ring against real sockets: what it promises to the shard, one test a promise. Runs under AddressSanitizer too
//! (scripts/test.sh).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use corelane_ring::{Event, Ring, RingConfig, SocketId, UnixSocket, bind};
use glommio::{LocalExecutorBuilder, Placement};
use socket2::{Domain, SockAddr, Socket, Type};

/// Runs `test` on an executor's thread, with a ring that listens.
fn with_ring<T: Send + 'static>(
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

struct Harness {
    ring: Ring,
    events: Vec<Event>,
}

impl Harness {
    /// Turns the ring until an event satisfies `pick`; the others stay in order.
    async fn wait<T>(&mut self, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(index) = self.events.iter().position(|event| pick(event).is_some()) {
                let event = self.events.remove(index);
                return pick(&event).unwrap();
            }
            self.ring.turn(&mut self.events).unwrap();
            if self.events.is_empty() {
                assert!(Instant::now() < deadline, "nothing happened in 20 s");
                let soon = Some(Instant::now() + Duration::from_millis(50));
                self.ring.park(soon, |_| false).await.unwrap();
            }
        }
    }

    async fn accepted(&mut self) -> SocketId {
        self.wait(|event| match event {
            Event::Accepted { socket, .. } => Some(*socket),
            _ => None,
        })
        .await
    }

    /// Receives until `length` bytes have come.
    async fn received(&mut self, from: SocketId, length: usize) -> Vec<u8> {
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

    async fn closed(&mut self, who: SocketId) {
        self.wait(|event| matches!(event, Event::Closed { socket } if *socket == who).then_some(())).await;
    }

    async fn sent(&mut self, to: SocketId) -> (usize, bool) {
        self.wait(|event| match event {
            Event::Sent { socket, buffer, outcome } if *socket == to => Some((buffer.len(), outcome.is_ok())),
            _ => None,
        })
        .await
    }

    /// Turns for a while, without waiting for anything.
    async fn idle(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.ring.turn(&mut self.events).unwrap();
            self.ring.park(Some(Instant::now() + Duration::from_millis(5)), |_| false).await.unwrap();
        }
    }
}

fn small(sockets_max: u32, buffers: u16) -> RingConfig {
    RingConfig { sockets_max, buffers, buffer_bytes: 512, submission_entries: 64, completion_entries: 128 }
}

#[test]
fn bytes_go_in_and_come_out() {
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
fn a_close_while_receiving_sends_fin() {
    with_ring(small(16, 16), async |ring, address| {
        let mut client = TcpStream::connect(address).unwrap();
        let socket = ring.accepted().await;
        ring.idle(Duration::from_millis(20)).await;
        ring.ring.close(socket);
        ring.closed(socket).await;
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 0, "an end, not a reset");
    });
}

#[test]
fn late_data_never_reaches_the_slots_next_tenant() {
    // One slot only, so that every connection is the next tenant of the same slot.
    with_ring(small(1, 16), async |ring, address| {
        for round in 0..200_u32 {
            let mut client = TcpStream::connect(address).unwrap();
            let socket = ring.accepted().await;
            let mine = round.to_le_bytes();
            client.write_all(&mine).unwrap();
            assert_eq!(ring.received(socket, 4).await, mine, "only this tenant's bytes");
            // Data on its way while the slot is being closed.
            let late = thread::spawn(move || {
                for _ in 0..50 {
                    if client.write_all(b"late").is_err() {
                        break;
                    }
                }
            });
            ring.ring.close(socket);
            assert!(ring.ring.send(socket, vec![1]).is_err(), "a closed socket takes no buffer");
            ring.closed(socket).await;
            late.join().unwrap();
            assert!(ring.ring.send(socket, vec![1]).is_err(), "nor does a stale id");
        }
        assert_eq!((ring.ring.sockets(), ring.ring.buffers_held()), (0, 0));
    });
}

#[test]
fn a_socket_takes_one_send_at_a_time_and_gives_every_buffer_back() {
    with_ring(small(16, 16), async |ring, address| {
        let mut client = TcpStream::connect(address).unwrap();
        let socket = ring.accepted().await;
        // More than the socket's buffers hold: the kernel takes it in parts.
        let big = vec![7; 8 * 1024 * 1024];
        ring.ring.send(socket, big).unwrap();
        let refused = ring.ring.send(socket, vec![1, 2, 3]).unwrap_err();
        assert_eq!(refused.0, [1, 2, 3]);
        let reading = thread::spawn(move || {
            let mut read = vec![0; 8 * 1024 * 1024];
            client.read_exact(&mut read).unwrap();
            assert!(read.iter().all(|&byte| byte == 7));
            client
        });
        assert_eq!(ring.sent(socket).await, (8 * 1024 * 1024, true));
        let client = reading.join().unwrap();
        // A reader that never reads: closing must still get the buffer back.
        ring.ring.send(socket, vec![9; 8 * 1024 * 1024]).unwrap();
        ring.idle(Duration::from_millis(20)).await;
        ring.ring.close(socket);
        assert_eq!(ring.sent(socket).await, (8 * 1024 * 1024, false));
        ring.closed(socket).await;
        drop(client);
    });
}

#[test]
fn half_a_close_lets_the_peer_finish() {
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
fn a_paused_socket_makes_its_peer_wait() {
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
            assert!(written < 64 * 1024 * 1024, "the peer was never made to wait");
        }
        ring.idle(Duration::from_millis(50)).await;
        assert!(ring.events.is_empty(), "{:?}", ring.events);
        ring.ring.resume_receive(socket);
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(ring.received(socket, written).await.len(), written, "and nothing is lost");
    });
}

#[test]
fn receiving_goes_on_after_the_buffers_ran_out() {
    with_ring(small(64, 4), async |ring, address| {
        let mut clients: Vec<_> = (0..32).map(|_| TcpStream::connect(address).unwrap()).collect();
        let mut sockets = Vec::new();
        for _ in 0..32 {
            sockets.push(ring.accepted().await);
        }
        // Thirty-two senders, four buffers, all of them held.
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
        assert_eq!(ring.ring.buffers_held(), 4, "the kernel has none left");
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
            assert!(Instant::now() < deadline + Duration::from_secs(20), "{total} of 32,000 bytes came");
        }
        assert_eq!((total, ring.ring.buffers_held()), (32_000, 0));
    });
}

#[test]
fn a_full_table_stops_accepting_until_a_slot_is_free() {
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
        assert_eq!(next.index(), sockets[0].index(), "the slot is used again");
        assert_ne!(next, sockets[0], "by another tenant");
        drop(clients);
    });
}

#[test]
fn a_reset_is_an_event_and_not_an_end() {
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
fn more_completions_than_the_queue_holds_are_not_lost() {
    // 128 entries, 1,000 connections in one burst before the ring turns once.
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
fn a_parked_ring_that_nobody_wakes_sleeps() {
    with_ring(small(16, 16), async |ring, _| {
        for _ in 0..5 {
            ring.ring.turn(&mut ring.events).unwrap();
            let asleep = Instant::now();
            ring.ring.park(Some(asleep + Duration::from_millis(80)), |_| false).await.unwrap();
            assert!(asleep.elapsed() >= Duration::from_millis(60), "{:?}", asleep.elapsed());
        }
    });
}

#[test]
fn a_thread_without_a_ring_wakes_a_parked_one() {
    with_ring(small(16, 16), async |ring, _| {
        for _ in 0..100 {
            let waker = ring.ring.waker();
            let work = Arc::new(AtomicBool::new(false));
            let queue = Arc::clone(&work);
            let waking = thread::spawn(move || {
                thread::sleep(Duration::from_millis(2));
                queue.store(true, Ordering::SeqCst);
                waker.wake();
            });
            let asleep = Instant::now();
            let ready = |_: &mut std::task::Context<'_>| work.load(Ordering::SeqCst);
            ring.ring.park(Some(asleep + Duration::from_secs(20)), ready).await.unwrap();
            assert!(asleep.elapsed() < Duration::from_secs(10));
            waking.join().unwrap();
        }
    });
}

#[test]
fn waiting_ring_with_a_short_preemption_timer_hears_every_wake() {
    const WAKES: usize = 1000;
    let queued = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    // glommio parks with a runnable task when its timer fires before the first task of a round has run. So an executor may not
    // even begin, and then another one is tried; and this one is not asked for a further round when the ring is dropped.
    let begin = || {
        let (woken, wakes) = std::sync::mpsc::channel();
        let (waker_of, wakers) = std::sync::mpsc::channel();
        let queue = Arc::clone(&queued);
        let sleeper = LocalExecutorBuilder::new(Placement::Unbound)
            .io_memory(64 * 1024)
            .preempt_timer(Duration::from_micros(20))
            .spawn(move || async move {
                let mut ring = Ring::new(small(16, 16)).unwrap();
                let mut events = Vec::new();
                // Nobody waits for an executor that begins late.
                if waker_of.send(ring.waker()).is_err() {
                    return;
                }
                for wake in 1..=WAKES {
                    while queue.load(Ordering::SeqCst) < wake {
                        ring.wait(None, || queue.load(Ordering::SeqCst) >= wake).unwrap();
                        ring.turn(&mut events).unwrap();
                    }
                    woken.send(()).unwrap();
                }
            })
            .unwrap();
        wakers.recv_timeout(Duration::from_secs(5)).ok().map(|waker| (waker, wakes, sleeper))
    };
    let (waker, wakes, sleeper) = (0..20).find_map(|_| begin()).expect("no executor began");
    for wake in 0..WAKES {
        if wake % 10 == 0 {
            // So that it sleeps; most of the others race with its falling asleep.
            thread::sleep(Duration::from_millis(1));
        }
        queued.fetch_add(1, Ordering::SeqCst);
        waker.wake();
        wakes.recv_timeout(Duration::from_secs(20)).expect("a wake-up was lost");
    }
    sleeper.join().unwrap();
}

#[test]
fn waiting_ring_that_nobody_wakes_blocks_until_its_limit() {
    with_ring(small(16, 16), async |ring, _| {
        ring.ring.turn(&mut ring.events).unwrap();
        for _ in 0..5 {
            let asleep = Instant::now();
            ring.ring.wait(Some(Duration::from_millis(80)), || false).unwrap();
            assert!(asleep.elapsed() >= Duration::from_millis(60), "{:?}", asleep.elapsed());
        }
    });
}

#[test]
fn ring_shuts_down_while_a_read_of_its_eventfd_is_under_way() {
    with_ring(small(16, 16), async |ring, _| {
        // Leaves the executor's read behind.
        ring.ring.park(Some(Instant::now() + Duration::from_millis(20)), |_| false).await.unwrap();
        let _ = futures_lite::future::poll_once(
            ring.ring.park(Some(Instant::now() + Duration::from_secs(20)), |_| false),
        )
        .await;
    });
}

/// Resident memory of this process, in KiB.
fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_hundred_thousand_aborted_connections_leave_nothing_behind() {
    const CYCLES: usize = 100_000;
    const AT_ONCE: usize = 50;
    with_ring(RingConfig { sockets_max: 256, ..RingConfig::default() }, async |ring, address| {
        let mut baseline = None;
        let mut done = 0;
        while done < CYCLES {
            let clients = thread::spawn(move || {
                for number in 0..AT_ONCE {
                    let mut client = TcpStream::connect(address).unwrap();
                    // A third goes silently, a third in the middle of a request, a third with a reset.
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

fn dialling(from: Option<SocketAddr>) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    if let Some(from) = from {
        socket.bind(&SockAddr::from(from)).unwrap();
    }
    socket
}

impl Harness {
    /// The outcome of the dial of this name.
    async fn dialled(&mut self, name: u64) -> std::io::Result<SocketId> {
        self.wait(|event| match event {
            Event::Connected { token, socket } if *token == name => Some(Ok(*socket)),
            Event::ConnectFailed { token, error } if *token == name => {
                Some(Err(std::io::Error::from(error.kind())))
            }
            _ => None,
        })
        .await
    }
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

#[test]
fn a_unix_socket_is_accepted_from_paused_and_given_up() {
    with_ring(small(64, 16), async |ring, _| {
        let path = std::env::temp_dir().join(format!("corelane-ring-{}.sock", std::process::id()));
        let unix = UnixSocket::bind(&path).unwrap();
        // A second ring that shares it, and never accepts.
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
        // In one turn, so that the accept is cancelled and armed again.
        ring.ring.pause_accept(listener);
        ring.ring.resume_accept(listener);
        waiting.push(UnixStream::connect(&path).unwrap());
        ring.accepted().await;
        ring.ring.stop_listening(listener);
        ring.idle(Duration::from_millis(20)).await;
        let _waits = UnixStream::connect(&path).expect("the other ring's listener is open");
        ring.idle(Duration::from_millis(50)).await;
        assert_eq!(accepted(&ring.events), 0);
        drop(file);
        assert!(!path.exists());
    });
}
