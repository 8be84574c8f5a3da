//! The request state of a call that returned `input_required`: no other state is held between the rounds.
//! <https://modelcontextprotocol.io/specification/2026-07-28/basic/patterns/mrtr>

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/input_server.rs"]
mod input_server;
mod support;

use std::{
    io::Write,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use corelane::{Config, Context, Limits, NoArguments, Running, Server, Tool};
use input_server::{accept, ask, asked, form, name_of, retry, server};
use serde_json::{Value, json};
use support::{
    eventually,
    peer::{Peer, PeerRequest, config, connect, connect_to, end, start},
};

#[test]
fn request_state_carries_answers_of_earlier_rounds() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let (first, state) = asked(&peer.request(&ask("twice")));
    let key = |requests: &Value| requests.as_object().unwrap().keys().next().unwrap().clone();
    assert_eq!(first[key(&first)]["params"]["message"], "First?");
    let (second, state) =
        asked(&peer.request(&retry(&ask("twice"), &state, json!({key(&first): accept("a")}))));
    assert_eq!(second.as_object().unwrap().len(), 1, "{second}");
    assert_eq!(second[key(&second)]["params"]["message"], "Second?");
    assert_ne!(key(&first), key(&second), "keys are unique in the call");
    let (third, state) =
        asked(&peer.request(&retry(&ask("twice"), &state, json!({key(&second): accept("b")}))));
    assert_eq!(key(&third), "third");
    let answer = peer.request(&retry(&ask("twice"), &state, json!({"third": accept("c")})));
    assert_eq!(answer.text(), "a, b, c");
    end(running);
}

#[test]
fn forged_or_foreign_request_state_is_rejected() {
    let running = start(server(), 1, Limits::default());
    let elsewhere = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let answers = json!({"user_name": accept("Ann")});
    let (_, state) = asked(&peer.request(&ask("once")));
    let about =
        |topic: &str| PeerRequest::call("about", json!({"topic": topic})).can(json!({"elicitation": {}}));
    let prompt = |topic: &str| {
        PeerRequest::new("prompts/get", json!({"name": "ask", "arguments": {"topic": topic}}))
            .can(json!({"elicitation": {}}))
    };
    let (_, of_about) = asked(&peer.request(&about("tea")));
    let (_, of_prompt) = asked(&peer.request(&prompt("tea")));
    let (_, of_resource) =
        asked(&peer.request(&PeerRequest::read("test://ask").can(json!({"elicitation": {}}))));
    let (_, foreign) = asked(&connect(&elsewhere).request(&ask("once")));
    let mut refuse = |ask: PeerRequest, state: &Value| {
        let answer = peer.request(&retry(&ask, state, answers.clone()));
        assert_eq!(answer.refused(), (200, -32602), "{} {state}", ask.params);
    };
    refuse(ask("other"), &state);
    refuse(ask("once"), &foreign);
    refuse(ask("once"), &of_about);
    refuse(about("coffee"), &of_about);
    refuse(prompt("coffee"), &of_prompt);
    refuse(prompt("tea"), &of_about);
    refuse(about("tea"), &of_prompt);
    refuse(PeerRequest::read("test://ask/blocking").can(json!({"elicitation": {}})), &of_resource);
    refuse(
        PeerRequest::call("once", json!({})).can(json!({"elicitation": {}})).with("arguments", json!({})),
        &of_about,
    );
    let text = state.as_str().unwrap();
    for position in (0..text.len()).step_by(5) {
        let mut bytes = text.as_bytes().to_vec();
        bytes[position] = if bytes[position] == b'A' { b'B' } else { b'A' };
        refuse(ask("once"), &json!(String::from_utf8(bytes).unwrap()));
    }
    for forged in [json!(""), json!("x"), json!(format!("{text}A")), json!(&text[1..]), json!("é")] {
        refuse(ask("once"), &forged);
    }
    for wrong in [json!(7), json!({}), json!([text])] {
        refuse(ask("once"), &wrong);
    }
    // Methods without `input_required` reject request state too.
    refuse(PeerRequest::call("shard", json!({})), &json!("forged"));
    // The valid states are still accepted.
    assert_eq!(peer.request(&retry(&about("tea"), &of_about, answers.clone())).text(), "Ann of tea");
    end(running);
    end(elsewhere);
}

#[test]
fn request_state_expires_at_its_time_to_live() {
    for ttl in [Duration::from_millis(300), Duration::from_secs(1)] {
        let limits = Limits { request_state_ttl: ttl, ..Limits::default() };
        let running = start(server(), 1, limits);
        let mut peer = connect(&running);
        let began = Instant::now();
        let (_, state) = asked(&peer.request(&ask("once")));
        let again = retry(&ask("once"), &state, json!({"user_name": accept("Ann")}));
        eventually("its expiry", || {
            let answer = peer.request(&again);
            if answer.error().is_null() {
                assert_eq!(answer.text(), "Hello, Ann");
                return false;
            }
            assert_eq!(answer.refused(), (200, -32602), "{ttl:?}");
            assert!(began.elapsed() >= ttl, "{:?} of {ttl:?}", began.elapsed());
            true
        });
        end(running);
    }
}

/// A key file that outlives a process.
struct SecretFile(PathBuf);

impl SecretFile {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("corelane-{name}-{}", std::process::id()));
        std::fs::File::create(&path).unwrap().write_all(b"f3Kq8Zr1xWm5Tn7Yb2Vc9Lp4Hd6Gs0Ja").unwrap();
        Self(path)
    }

    fn start(&self, shards: usize) -> Running {
        let config = Config { secret_file: Some(self.0.clone()), ..config(shards, Limits::default()) };
        server().build().start(&config).unwrap()
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn no_state_is_held_between_rounds() {
    let secret = SecretFile::new("rounds");
    let running = secret.start(3);
    let (mut one, mut two) = (connect_to(&running, 0), connect_to(&running, 2));
    let (requests, state) = asked(&one.request(&ask("twice")));
    let key = requests.as_object().unwrap().keys().next().unwrap().clone();
    drop(one);
    // On another shard, and on another connection.
    let (requests, state) = asked(&two.request(&retry(&ask("twice"), &state, json!({key: accept("a")}))));
    let key = requests.as_object().unwrap().keys().next().unwrap().clone();
    drop(two);
    end(running);
    // On another process with the same key.
    let running = secret.start(1);
    let mut peer = connect(&running);
    let (_, state) = asked(&peer.request(&retry(&ask("twice"), &state, json!({key: accept("b")}))));
    let answer = peer.request(&retry(&ask("twice"), &state, json!({"third": accept("c")})));
    assert_eq!(answer.text(), "a, b, c");
    end(running);
}

#[test]
fn call_that_returned_input_required_frees_its_slot() {
    let begun = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&begun);
    let tool = Tool::new("asks").run_async(async move |_: NoArguments, cx: Context| {
        count.fetch_add(1, Ordering::SeqCst);
        cx.elicit(form("Who?")).await.map(|name| name_of(&name))
    });
    let limits = Limits { calls_in_flight_max: 2, ..Limits::default() };
    let running = start(Server::builder("test", "0").tool(tool), 1, limits);
    let mut peers: Vec<Peer> = (0..10).map(|_| connect(&running)).collect();
    for _ in 0..10 {
        for peer in &mut peers {
            asked(&peer.request(&ask("asks")));
        }
    }
    assert_eq!(begun.load(Ordering::SeqCst), 100);
    end(running);
}
