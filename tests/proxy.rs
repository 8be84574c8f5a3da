//! The client behind a trusted proxy: from a PROXY protocol header, `X-Forwarded-For` or `Forwarded`, and from no other source.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{net::SocketAddr, time::Duration};

use corelane::{
    Config, ForwardedHeader, InlineContext, Limits, NoArguments, Proxy, Running, Server, Tool, time,
};
use serde_json::{Value, json};
use support::{Client, await_calls_in_flight, peer::end, post, stream_from};

/// An address of a trusted proxy.
const PROXY: &str = "127.0.1.1";

/// A server with one shard that trusts 127.0.1.0/24, over HTTP and as newline-delimited JSON.
fn start(header: ForwardedHeader, limits: Limits) -> Running {
    let config = Config {
        listen: vec!["127.0.0.1:0".parse().unwrap(), "tcp://127.0.0.1:0".parse().unwrap()],
        admin: Some("127.0.0.1:0".parse().unwrap()),
        shards: Some(1),
        proxy: Proxy { trusted: vec!["127.0.1.0/24".parse().unwrap()], header },
        limits,
        ..Config::default()
    };
    let peer = Tool::new("peer").run(|_: NoArguments, cx: InlineContext<'_>| {
        cx.peer().map_or("none".to_owned(), |peer| peer.to_string())
    });
    let hold = Tool::new("hold").run_async(async |_: NoArguments, _| {
        time::sleep(Duration::from_secs(20)).await;
        "held"
    });
    Server::builder("proxied", "1").tool(peer).tool(hold).build().start(&config).unwrap()
}

fn call(tool: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": {}}})
}

/// The IP address that a tool sees as the peer's.
fn peer_of(client: &mut Client, headers: &str) -> String {
    let text = client.post(headers, call("peer").to_string()).json()["result"]["content"][0]["text"].clone();
    let address: SocketAddr = text.as_str().unwrap().parse().unwrap();
    address.ip().to_string()
}

/// A PROXY protocol header, version 2, for a connection of an IPv4 client.
fn proxy_header(client: [u8; 4]) -> Vec<u8> {
    let addresses = [&client[..], &[127, 0, 0, 1], &[200, 1], &[31, 144]].concat();
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", &addresses[..]].concat()
}

#[test]
fn forwarded_client_is_the_peer_only_of_a_trusted_proxy() {
    let running = start(ForwardedHeader::XForwardedFor, Limits::default());
    let address = running.addresses()[0];
    let mut proxy = Client::connect_from(PROXY, address);
    assert_eq!(peer_of(&mut proxy, "X-Forwarded-For: 192.0.2.7, 198.51.100.2\r\n"), "198.51.100.2");
    // Each request has its own client.
    assert_eq!(peer_of(&mut proxy, "X-Forwarded-For: 2001:db8::1, 127.0.1.9\r\n"), "2001:db8::1");
    assert_eq!(peer_of(&mut proxy, ""), PROXY);
    assert_eq!(peer_of(&mut proxy, "Forwarded: for=192.0.2.7\r\n"), PROXY);
    let mut other = Client::connect_from("127.0.0.9", address);
    assert_eq!(peer_of(&mut other, "X-Forwarded-For: 192.0.2.7\r\n"), "127.0.0.9");
    end(running);
    let running = start(ForwardedHeader::Forwarded, Limits::default());
    let mut proxy = Client::connect_from(PROXY, running.addresses()[0]);
    assert_eq!(peer_of(&mut proxy, "Forwarded: for=192.0.2.7;proto=https\r\n"), "192.0.2.7");
    assert_eq!(peer_of(&mut proxy, "X-Forwarded-For: 192.0.2.7\r\n"), PROXY);
    end(running);
}

#[test]
fn proxy_protocol_header_states_the_client_in_any_parts() {
    let running = start(ForwardedHeader::XForwardedFor, Limits::default());
    let address = running.addresses()[0];
    let request = post("", call("peer").to_string());
    let bytes = [proxy_header([192, 0, 2, 7]), request].concat();
    for split in [0, 1, 12, 15, 16, 27, 28, 29, bytes.len()] {
        let mut proxy = Client::connect_from(PROXY, address);
        proxy.send(&bytes[..split]);
        std::thread::sleep(Duration::from_millis(20));
        let reply = proxy.send(&bytes[split..]).read();
        let text = reply.json()["result"]["content"][0]["text"].clone();
        assert_eq!(text, "192.0.2.7:51201", "{split}");
        assert_eq!(peer_of(&mut proxy, ""), "192.0.2.7");
    }
    // A proxy may omit it. Other peers may not send one.
    assert_eq!(peer_of(&mut Client::connect_from(PROXY, address), ""), PROXY);
    let mut other = Client::connect_from("127.0.0.9", address);
    assert_eq!(other.send(&bytes).read().status, 400);
    let mut malformed = proxy_header([192, 0, 2, 7]);
    malformed[12] = 0x31;
    let mut proxy = Client::connect_from(PROXY, address);
    assert!(proxy.send(&malformed).is_closed());
    assert_eq!(end(running).refusals("proxy_header"), 1);
}

#[test]
fn proxy_protocol_header_precedes_lines_of_json() {
    let running = start(ForwardedHeader::XForwardedFor, Limits::default());
    let listener = running.listeners()[1].to_string();
    let address = listener.strip_prefix("tcp://").unwrap().parse().unwrap();
    let mut stream = stream_from(PROXY, address);
    let mut message = call("peer");
    message["params"]["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let line = format!("{message}\n");
    std::io::Write::write_all(&mut stream, &[proxy_header([192, 0, 2, 7]), line.into()].concat()).unwrap();
    let mut reply = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stream), &mut reply).unwrap();
    assert!(reply.contains("192.0.2.7:51201"), "{reply}");
    end(running);
}

#[test]
fn clients_behind_one_proxy_have_shares_of_their_own() {
    let limits =
        Limits { calls_in_flight_max: 64, drain_timeout: Duration::from_millis(200), ..Limits::default() };
    let running = start(ForwardedHeader::XForwardedFor, limits);
    let address = running.addresses()[0];
    let begin = |client: &str| {
        let mut proxy = Client::connect_from(PROXY, address);
        proxy.send(post(&format!("X-Forwarded-For: {client}\r\n"), call("hold").to_string()));
        proxy
    };
    let heavy: Vec<Client> = (0..60).map(|_| begin("192.0.2.1")).collect();
    await_calls_in_flight(&running, 60);
    assert_eq!(begin("192.0.2.1").read().status, 503);
    let other: Vec<Client> = (0..4).map(|_| begin("192.0.2.2")).collect();
    await_calls_in_flight(&running, 64);
    drop((heavy, other));
    assert_eq!(end(running).refusals("peer_share"), 1);
}
