//! New connections while a shard is stuck, and sockets of other processes on the server's port.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use corelane::{Config, Limits, NoArguments, Running, Server, Tool};
use serde_json::json;
use socket2::{Domain, Socket, Type};
use support::{
    Client, ServerProcess, await_metric, eventually, metric,
    peer::{Peer, PeerRequest, config, connect, connect_to, end, shard_tool},
};

const CONNECTIONS: usize = 32;

/// Ends one call of the tool `hold`.
type Release = mpsc::Sender<()>;

/// A server on two shards, on TCP and on a Unix socket, with a tool that holds its shard until it is released.
fn start() -> (Running, Release) {
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let hold = Tool::new("hold").run(move |_: NoArguments, _| {
        loop {
            // Not locked while it waits: the tool may hold both shards.
            if released.lock().unwrap().try_recv() != Err(mpsc::TryRecvError::Empty) {
                return "held";
            }
            thread::sleep(Duration::from_millis(5));
        }
    });
    let server = Server::builder("stuck", "1").tool(shard_tool()).tool(hold).build();
    let limits = Limits { drain_timeout: Duration::from_secs(60), ..Limits::default() };
    let mut config = Config { admin: Some("127.0.0.1:0".parse().unwrap()), ..config(2, limits) };
    config.listen.push(format!("http+unix:{}", unix_path()).parse().unwrap());
    (server.start(&config).unwrap(), release)
}

/// Each test has a process of its own.
fn unix_path() -> String {
    std::env::temp_dir().join(format!("corelane-stuck-{}.sock", std::process::id())).display().to_string()
}

fn call(tool: &str) -> PeerRequest {
    PeerRequest::call(tool, json!({}))
}

/// Makes the shard of this connection stuck, as the `count`th one.
fn hold(peer: &mut Peer, running: &Running, count: f64) {
    peer.send(call("hold").bytes());
    await_metric(running.admin_address().unwrap(), "corelane_shard_stuck", count);
}

fn release(release: &Release, peer: &mut Peer) {
    release.send(()).unwrap();
    assert_eq!(peer.answer(&call("hold")).text(), "held");
}

/// Opens a connection and returns it with the number of the shard that answers it.
fn served(running: &Running) -> (Peer, String) {
    let mut peer = connect(running);
    let shard = peer.request(&call("shard")).text();
    (peer, shard)
}

/// The connections that shards have handed to others.
fn handed_over(admin: SocketAddr) -> usize {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let lines = text.lines().filter(|line| line.contains("event=\"connection_handed_over\""));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum()
}

#[test]
fn new_connections_are_served_while_a_shard_is_stuck_and_on_both_afterwards() {
    let (running, sender) = start();
    let admin = running.admin_address().unwrap();
    let mut held = connect_to(&running, 0);
    for _ in 0..2 {
        hold(&mut held, &running, 1.0);
        let peers: Vec<_> = (0..CONNECTIONS).map(|_| served(&running)).collect();
        assert!(peers.iter().all(|(_, shard)| shard == "1"));
        assert_eq!(metric(admin, "corelane_shard_stuck"), 1.0, "the shard is stuck all the time");
        release(&sender, &mut held);
        drop(peers);
        eventually("connections that the kernel gives to the shard", || {
            let before = handed_over(admin);
            let peers: Vec<_> = (0..CONNECTIONS).map(|_| served(&running)).collect();
            let of = |number: &str| peers.iter().filter(|(_, shard)| shard == number).count();
            of("0") > handed_over(admin) - before && of("1") > 0
        });
    }
    end(running);
}

#[test]
fn new_connections_to_a_unix_socket_are_served_while_a_shard_is_stuck() {
    let (running, sender) = start();
    let mut held = connect_to(&running, 0);
    hold(&mut held, &running, 1.0);
    for _ in 0..CONNECTIONS {
        let stream = UnixStream::connect(unix_path()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        assert_eq!(Client::over(stream).legacy("ping", json!({})).status, 200);
    }
    release(&sender, &mut held);
    end(running);
}

#[test]
fn connections_that_arrive_while_all_shards_are_stuck_are_served_afterwards() {
    let (running, sender) = start();
    let mut held = [0, 1].map(|shard| connect_to(&running, shard));
    for (peer, count) in held.iter_mut().zip([1.0, 2.0]) {
        hold(peer, &running, count);
    }
    let mut waiting: Vec<Peer> = (0..CONNECTIONS).map(|_| connect(&running)).collect();
    for peer in &mut waiting {
        peer.send(call("shard").bytes());
    }
    (0..2).for_each(|_| sender.send(()).unwrap());
    assert!(held.iter_mut().all(|peer| peer.answer(&call("hold")).text() == "held"));
    for peer in &mut waiting {
        peer.answer(&call("shard"));
    }
    end(running);
}

#[test]
fn drain_that_begins_while_a_shard_is_stuck_loses_no_connection() {
    let (running, sender) = start();
    let mut held = connect_to(&running, 0);
    held.send(call("hold").bytes());
    // Some wait in the backlog of the stuck shard, from before it was found to be.
    let mut waiting: Vec<Peer> = (0..CONNECTIONS).map(|_| connect(&running)).collect();
    for peer in &mut waiting {
        peer.send(call("shard").bytes());
    }
    await_metric(running.admin_address().unwrap(), "corelane_shard_stuck", 1.0);
    let (address, stopper) = (running.addresses()[0], running.stopper());
    stopper.drain();
    let late: Vec<_> = (0..4).map(|_| thread::spawn(move || is_served_or_refused(address))).collect();
    // The listener of the other shard is closed meanwhile.
    thread::sleep(Duration::from_secs(2));
    release(&sender, &mut held);
    for peer in &mut waiting {
        peer.answer(&call("shard"));
    }
    assert!(late.into_iter().all(|client| client.join().unwrap()));
    running.join().unwrap();
}

/// Whether a client that connects during a drain is answered, or refused before it has a connection.
fn is_served_or_refused(address: SocketAddr) -> bool {
    match TcpStream::connect(address) {
        Ok(stream) => {
            let mut peer = Peer::over(stream);
            peer.send(call("shard").bytes());
            ["0", "1"].contains(&peer.answer(&call("shard")).text().as_str())
        }
        Err(error) => error.kind() == ErrorKind::ConnectionRefused,
    }
}

#[test]
fn socket_of_another_process_that_joins_the_port_gets_no_connection() {
    let server = ServerProcess::start(&["--shards", "2"]);
    let foreign = join(server.address).unwrap();
    foreign.set_nonblocking(true).unwrap();
    for _ in 0..CONNECTIONS {
        let mut client = server.connect();
        assert_eq!(client.legacy("ping", json!({})).status, 200);
    }
    match foreign.accept() {
        Ok((mut stream, _)) => panic!("a connection: {:?}", stream.read(&mut [0; 256])),
        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
    }
    server.stop();
}

#[test]
fn port_of_a_single_shard_cannot_be_joined() {
    let server = ServerProcess::start(&["--shards", "1"]);
    for address in [server.address, SocketAddr::from(([0, 0, 0, 0], server.address.port()))] {
        assert_eq!(join(address).err().unwrap().kind(), ErrorKind::AddrInUse, "{address}");
    }
    server.stop();
}

/// Listens on an address that is in use, as a process of the same user can.
fn join(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_port(true)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(128)?;
    Ok(socket.into())
}
