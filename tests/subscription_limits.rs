//! Bounds of the resources that subscriptions take from other clients: memory of URIs, time of a shard.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    time::Duration,
};

use corelane::{Config, Limits, ResourceTemplate, Running, Server, config::Endpoint};
use serde_json::{Value, json};
use support::{
    await_metric, metric,
    peer::{Peer, PeerRequest},
    session::Session,
};

fn start(limits: Limits) -> Running {
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let config = Config {
        listen: vec![any.into(), "tcp://127.0.0.1:0".parse().unwrap()],
        admin: Some(any),
        shards: Some(1),
        limits,
        ..Config::default()
    };
    let item = ResourceTemplate::new("test://{item}", "item").run(|_, _| "item");
    Server::builder("limits", "0").template(item).build().start(&config).unwrap()
}

fn address(running: &Running, number: usize) -> std::net::SocketAddr {
    let Endpoint::Tcp(address) = running.listeners()[number].endpoint else { panic!("no address") };
    address
}

/// A URI of this length; `name` distinguishes it.
fn uri(name: usize, length: usize) -> String {
    format!("test://{name:0>width$}", width = length - "test://".len())
}

fn listen(uris: &[String]) -> PeerRequest {
    PeerRequest::listen(json!({"resourceSubscriptions": uris}))
}

/// A newline-delimited connection.
struct Lines {
    input: TcpStream,
    output: BufReader<TcpStream>,
}

impl Lines {
    fn connect(running: &Running) -> Self {
        let input = TcpStream::connect(address(running, 1)).unwrap();
        input.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        let output = BufReader::new(input.try_clone().unwrap());
        Self { input, output }
    }

    fn request(&mut self, id: usize, method: &str, params: Value) -> Value {
        let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.input.write_all(format!("{message}\n").as_bytes()).unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn subscribe(&mut self, uri: &str) -> Option<i64> {
        self.request(1, "resources/subscribe", json!({"uri": uri}))["error"]["code"].as_i64()
    }

    fn listen(&mut self, id: usize, uris: &[String]) -> Option<i64> {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "0"},
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let params = json!({"_meta": meta, "notifications": {"resourceSubscriptions": uris}});
        self.request(id, "subscriptions/listen", params)["error"]["code"].as_i64()
    }
}

/// On HTTP of both eras and on newline-delimited connections.
#[test]
fn subscribed_uris_of_one_client_are_bounded_in_bytes() {
    let limits = Limits { subscription_uri_bytes_max: 100, subscriber_bytes_max: 250, ..Limits::default() };
    let running = start(limits);
    let mut peer = Peer::connect(address(&running, 0));
    let answer = peer.request(&listen(&[uri(0, 100), uri(1, 100), uri(2, 51)]));
    assert_eq!(answer.refused(), (200, -32603));
    assert!(answer.error()["message"].as_str().unwrap().contains("limits.subscriber_bytes_max"));
    peer.open(&listen(&[uri(0, 100), uri(1, 100), uri(2, 50)]));
    let session = Session::open(address(&running, 0), "2025-11-25", json!({}));
    let subscribe = |name, length| {
        let reply = session.request(1, "resources/subscribe", json!({"uri": uri(name, length)})).response();
        reply["error"]["code"].as_i64()
    };
    assert_eq!([subscribe(3, 100), subscribe(4, 100), subscribe(5, 51)], [None, None, Some(-32603)]);
    assert_eq!(subscribe(3, 100), None, "already subscribed");
    session.request(1, "resources/unsubscribe", json!({"uri": uri(3, 100)})).response();
    assert_eq!(subscribe(5, 100), None);
    let mut lines = Lines::connect(&running);
    lines.request(1, "initialize", support::session::handshake("2025-11-25", json!({})));
    assert_eq!([(); 3].map(|()| lines.subscribe(&uri(6, 100))), [None; 3], "one subscription");
    assert_eq!([lines.subscribe(&uri(7, 100)), lines.subscribe(&uri(8, 51))], [None, Some(-32603)]);
    let mut lines = Lines::connect(&running);
    assert_eq!(lines.listen(1, &[uri(9, 100)]), None);
    assert_eq!(lines.listen(2, &[uri(9, 100)]), None);
    assert_eq!(lines.listen(3, &[uri(9, 51)]), Some(-32603), "of all subscriptions of the connection");
    running.stopper().drain();
    assert_eq!(running.join().unwrap().refusals("subscription_bytes"), 4);
}

#[test]
fn subscribed_uris_of_a_shard_are_bounded_in_bytes_and_shared_between_subscribers() {
    let limits = Limits {
        subscription_uri_bytes_max: 100,
        subscriber_bytes_max: 200,
        subscription_bytes_max: 300,
        // One client may use all of them.
        peer_share_percent: 100,
        ..Limits::default()
    };
    let running = start(limits);
    let admin = running.admin_address().unwrap();
    let connect = || Peer::connect(address(&running, 0));
    let shared = listen(&[uri(0, 100), uri(1, 100)]);
    let mut peers: Vec<Peer> = (0..5).map(|_| connect()).collect();
    peers.iter_mut().for_each(|peer| _ = peer.open(&shared));
    assert_eq!(metric(admin, "corelane_subscription_bytes"), 200.0);
    let mut other = connect();
    other.open(&listen(&[uri(2, 100)]));
    assert_eq!(connect().request(&listen(&[uri(2, 64)])).refused(), (200, -32603));
    let session = Session::open(address(&running, 0), "2025-11-25", json!({}));
    let subscribe =
        |name, length| session.request(1, "resources/subscribe", json!({"uri": uri(name, length)})).status;
    assert_eq!([subscribe(0, 100), subscribe(3, 64)], [200, 503]);
    drop(peers);
    await_metric(admin, "corelane_subscription_bytes", 200.0);
    assert_eq!(subscribe(3, 64), 200);
    running.stopper().drain();
    running.join().unwrap();
}

/// A scan of the URIs before costs 50,000 × 1,000 comparisons.
#[test]
fn repeated_uris_of_one_request_cost_the_same_wherever_they_repeat() {
    let running = start(Limits::default());
    let cost = |repeated: usize| {
        let mut uris: Vec<String> = (0..1000).map(|name| uri(name, 20)).collect();
        uris.extend((0..50_000).map(|_| uri(repeated, 20)));
        // A parameter that is not valid, so that nothing is subscribed to.
        let filter = json!({"resourceSubscriptions": uris, "taskIds": ["t"]});
        let mut peer = Peer::connect(address(&running, 0));
        let started = std::time::Instant::now();
        let answer = peer.request(&PeerRequest::listen(filter));
        assert!(answer.error()["code"].is_number());
        started.elapsed()
    };
    let best = |repeated| (0..3).map(|_| cost(repeated)).min().unwrap();
    let (first, last) = (best(0), best(999));
    assert!(last < first * 5, "{first:?} for repetitions of the first, {last:?} of the last");
    running.stopper().drain();
    running.join().unwrap();
}
