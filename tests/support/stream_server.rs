//! A server with resources that change, and sessions that subscribe to them.

#![allow(unreachable_pub, dead_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{collections::BTreeMap, io::Read, time::Duration};

use corelane::{Level, Limits, NoArguments, Resource, Running, Server, Tool, time::sleep};
use serde_json::json;

pub use crate::support::peer::observed_config as config;
use crate::support::{
    Client,
    session::{Event, Session, SessionReply},
    uninterrupted,
};

pub const NEWEST: &str = "2025-11-25";
pub const UPDATED: &str = "notifications/resources/updated";

pub fn server() -> Server {
    Server::builder("streams", "0")
        .tool(Tool::new("shard").run(|_: NoArguments, cx| cx.caller().shard.to_string()))
        .tool(Tool::new("touch").run(|_: NoArguments, cx| cx.resource_updated("test://a")))
        .tool(Tool::new("touch_long").run(|_: NoArguments, cx| cx.resource_updated(&long_uri())))
        .tool(Tool::new("touch_for_long").run_async(async |_: NoArguments, cx| {
            for _ in 0..300 {
                cx.resource_updated("test://a");
                sleep(Duration::from_millis(1)).await;
            }
        }))
        .tool(Tool::new("talk").run_async(async |_: NoArguments, cx| {
            for number in 0..3 {
                cx.log(Level::Info, number);
                sleep(Duration::from_millis(20)).await;
            }
            "talked"
        }))
        .tool(Tool::new("poll").run_async(async |_: NoArguments, cx| {
            cx.disconnect(Duration::from_millis(100));
            sleep(Duration::from_millis(50)).await;
            "polled"
        }))
        .resource(Resource::new("test://a", "a").run(|_, _cx| "a"))
        .resource(Resource::new("test://b", "b").run(|_, _cx| "b"))
        .resource(Resource::new(long_uri(), "long").run(|_, _cx| "long"))
        .build()
}

pub fn long_uri() -> String {
    format!("test://{}", "x".repeat(1500))
}

pub fn start(shards: usize, limits: Limits) -> Running {
    server().start(&config(shards, limits)).unwrap()
}

pub fn open(running: &Running) -> Session {
    Session::open(running.addresses()[0], NEWEST, json!({}))
}

pub fn subscribe(session: &Session, uri: &str) {
    let reply = session.request("s", "resources/subscribe", json!({"uri": uri})).response();
    assert_eq!(reply["result"], json!({}), "{reply}");
}

pub fn touch(session: &Session) {
    session.call("t", "touch", json!({})).response();
}

/// The next event with data.
pub fn next_event(stream: &mut SessionReply) -> Event {
    loop {
        let event = stream.event().expect("the stream has ended");
        if event.data.is_some() {
            return event;
        }
    }
}

pub fn method(event: &Event) -> &str {
    event.data.as_ref().unwrap()["method"].as_str().unwrap_or("")
}

/// The text of a reply up to and including `words`.
pub fn read_until(raw: &mut std::net::TcpStream, words: &str) -> String {
    let mut text = String::new();
    while !text.contains(words) {
        let mut part = [0; 4096];
        let count = uninterrupted(|| raw.read(&mut part)).unwrap();
        assert!(count > 0, "the reply ended: {text}");
        text.push_str(std::str::from_utf8(&part[..count]).unwrap());
    }
    text
}

/// The number of an event within its stream.
pub fn number(event: &Event) -> u64 {
    event.id.as_ref().unwrap().rsplit('-').next().unwrap().parse().unwrap()
}

/// One connection to every shard.
pub fn one_each(running: &Running, shards: usize) -> BTreeMap<String, Client> {
    let mut clients = BTreeMap::new();
    for _ in 0..2000 {
        let mut client = Client::connect(running.addresses()[0]);
        let shard = client.call("shard", json!({}))["content"][0]["text"].as_str().unwrap().to_owned();
        clients.entry(shard).or_insert(client);
        if clients.len() == shards {
            return clients;
        }
    }
    panic!("only {:?} of {shards} shards replied", clients.keys());
}
