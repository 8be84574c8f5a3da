//! Receive buffers of a shard: a client that sends more than all of them leaves another client its part.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use corelane::{Config, Limits, Server};
use serde_json::json;
use support::{
    eventually, metric,
    peer::{Peer, PeerRequest, config, end, shard_tool},
    post, stream_from,
};

/// The address of the client with many connections, and their number.
const OTHER: &str = "127.0.0.2";
const CONNECTIONS: usize = 64;
/// Length of the text of a request: more than a hundred of the 1,024 buffers.
const TEXT_BYTES: usize = 200_000;
/// Length of the bodies of the other client, and of the part that it sends.
const BODY_BYTES: usize = 2_000_000;
const PART_BYTES: usize = 1_900_000;

/// Sends parts of bodies on all connections, always as many bytes as the sockets take. A connection is reset after its part.
fn flood(address: SocketAddr, stopped: &AtomicBool) {
    let request = post("", "x".repeat(BODY_BYTES));
    let connect = || {
        let stream = stream_from(OTHER, address);
        stream.set_nonblocking(true).unwrap();
        (stream, 0)
    };
    let mut connections: Vec<(TcpStream, usize)> = (0..CONNECTIONS).map(|_| connect()).collect();
    while !stopped.load(Ordering::Relaxed) {
        for connection in &mut connections {
            let (stream, position) = connection;
            while *position < PART_BYTES
                && let Ok(written) = stream.write(&request[*position..PART_BYTES])
            {
                *position += written;
            }
            if *position == PART_BYTES {
                *connection = connect();
            }
        }
    }
}

#[test]
fn client_that_sends_more_than_all_buffers_leaves_another_one_its_part() {
    if !corelane_ring::probe().unwrap().peer_address {
        eprintln!("SKIPPED: the server reads no addresses before Linux 6.7");
        return;
    }
    let admin = Some("127.0.0.1:0".parse().unwrap());
    let config = Config { admin, ..config(1, Limits::default()) };
    let running = Server::builder("test", "0").tool(shard_tool()).build().start(&config).unwrap();
    let (address, admin) = (running.addresses()[0], running.admin_address().unwrap());
    let stopped = Arc::<AtomicBool>::default();
    let is_stopped = Arc::clone(&stopped);
    let flooding = thread::spawn(move || flood(address, &is_stopped));
    let mut bystander = Peer::over(stream_from("127.0.0.1", address));
    let received = || metric(admin, "corelane_received_bytes_total") as usize;
    eventually("parts of bodies on all connections", || received() > CONNECTIONS * PART_BYTES);
    let request = PeerRequest::call("shard", json!({"text": "x".repeat(TEXT_BYTES)}));
    let mut meanwhile: Vec<usize> = (0..10)
        .map(|_| {
            let before = received();
            bystander.request(&request).text();
            (received() - before) / TEXT_BYTES
        })
        .collect();
    stopped.store(true, Ordering::Relaxed);
    flooding.join().unwrap();
    drop(bystander);
    end(running);
    meanwhile.sort_unstable();
    // Where each connection gets as many buffers, the other client's get 64 times as many and more: about 900 texts. Its part is a few in
    // each of several turns.
    assert!(meanwhile[5] <= CONNECTIONS * 2, "texts received from the other client meanwhile: {meanwhile:?}");
}
