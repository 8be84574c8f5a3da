//! Calls in legacy sessions, from any connection: server requests, log messages, cancellation, and batches.
//! <https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#sending-messages-to-the-server>

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/session_server.rs"]
mod session_server;
mod support;

use std::{collections::BTreeSet, thread, time::Duration};

use corelane::Limits;
use serde_json::{Value, json};
use session_server::{ABLE, MANY, NEWEST, await_detached, open, start};
use support::{
    metric,
    peer::end,
    session::{Session, handshake},
};

#[test]
fn server_requests_are_sent_on_the_call_stream_and_answered_from_any_connection() {
    let running = start(4, Limits::default());
    let session = open(&running);
    for (number, tool) in ["greet", "greet_blocking"].into_iter().cycle().take(MANY).enumerate() {
        let mut reply = session.call(number, tool, json!({}));
        let question = reply.message();
        assert_eq!(question["method"], "elicitation/create");
        assert_eq!(question["params"]["mode"], "form");
        let answer = json!({"action": "accept", "content": {"name": format!("n{number}")}});
        assert_eq!(session.answer(&question["id"], answer.clone()), 202);
        assert_eq!(reply.text(), format!("Hello, n{number}!"));
        assert_eq!(session.answer(&question["id"], answer), 202, "a second answer is dropped");
    }
    let mut reply = session.call("m", "model", json!({}));
    let question = reply.message();
    assert_eq!(
        (&question["method"], &question["params"]["maxTokens"]),
        (&json!("sampling/createMessage"), &json!(10))
    );
    let message = json!({"role": "assistant", "content": {"type": "text", "text": "Because"}, "model": "m"});
    session.answer(&question["id"], message);
    assert_eq!(reply.text(), "Because");
    let mut reply = session.call("p", "open_page", json!({}));
    let question = reply.message();
    assert!(question["params"]["elicitationId"].is_string(), "{question}");
    session.answer(&question["id"], json!({"action": "decline"}));
    assert_eq!(reply.text(), "decline");
    let mut reply = session.call("a", "alive", json!({}));
    let question = reply.message();
    assert_eq!(question["method"], "ping");
    session.answer(&question["id"], json!({}));
    assert_eq!(reply.text(), "alive");
    // An error is an answer too.
    let mut reply = session.call("e", "greet", json!({}));
    let question = reply.message();
    let refused =
        json!({"jsonrpc": "2.0", "id": question["id"], "error": {"code": -1, "message": "busy eating"}});
    assert_eq!(session.post(&refused).status, 202);
    assert!(reply.response()["error"]["message"].as_str().unwrap().contains("busy eating"));
    end(running);
}

#[test]
fn responses_to_unknown_requests_are_rejected() {
    let running = start(2, Limits::default());
    let (session, other) = (open(&running), open(&running));
    let mut reply = session.call(1, "greet", json!({}));
    let question = reply.message();
    let answer = json!({"action": "cancel"});
    assert_eq!(other.answer(&question["id"], answer.clone()), 400, "the request was sent to another session");
    for id in [json!("nonsense"), json!(1), json!("")] {
        assert_eq!(session.answer(&id, answer.clone()), 400, "{id}");
    }
    let without = Session { id: String::new(), ..session.clone() };
    assert_eq!(without.answer(&question["id"], answer.clone()), 400);
    assert_eq!(session.answer(&question["id"], answer), 202);
    assert_eq!(reply.text(), "cancel");
    let unable = Session::open(running.addresses()[0], NEWEST, json!({}));
    let response = unable.call(1, "greet", json!({})).response();
    assert!(response["error"]["message"].as_str().unwrap().contains("elicitation"), "{response}");
    assert!(end(running).refusals("unknown_request") >= 5);
}

#[test]
fn unanswered_server_request_ends_its_call_at_the_deadline() {
    let limits = Limits {
        question_timeout: Duration::from_millis(300),
        call_deadline: Duration::from_millis(100),
        ..Limits::default()
    };
    let running = start(1, limits);
    let session = open(&running);
    let mut reply = session.call(1, "greet", json!({}));
    let question = reply.message();
    // The deadline of the call does not run while the client prepares its answer; the wait is longer.
    thread::sleep(Duration::from_millis(200));
    session.answer(&question["id"], json!({"action": "decline"}));
    assert_eq!(reply.text(), "decline");
    let mut reply = session.call(2, "greet", json!({}));
    reply.message();
    assert_eq!(reply.response()["result"]["isError"], true);
    end(running);
}

#[test]
fn log_messages_follow_the_session_level_on_every_shard() {
    let running = start(4, Limits::default());
    let (session, silent) = (open(&running), open(&running));
    assert_eq!(session.request(1, "logging/setLevel", json!({"level": "loud"})).error_code(), -32602);
    let set = session.request(2, "logging/setLevel", json!({"level": "warning"})).response();
    assert_eq!(set["result"], json!({}));
    let set = silent.request(2, "logging/setLevel", json!({"level": "alert"})).response();
    assert_eq!(set["result"], json!({}));
    for number in 0..MANY {
        let mut reply = session.call(number, "log", json!({}));
        let expected = json!({"level": "error", "logger": "part", "data": {"bad": 1}});
        assert_eq!(reply.message()["params"], expected, "without the debug message");
        assert_eq!(reply.text(), "logged");
        assert!(!silent.call(number, "log", json!({})).is_stream(), "sessions have separate levels");
    }
    end(running);
}

#[test]
fn call_is_cancelled_only_from_connections_of_its_session() {
    let running = start(4, Limits::default());
    let (session, other) = (open(&running), open(&running));
    for number in 0..12 {
        let params = json!({"name": "wait", "arguments": {}, "_meta": {"progressToken": number}});
        let mut reply = session.request(number, "tools/call", params);
        let progress = reply.message();
        assert_eq!(progress["params"]["progressToken"], number);
        let cancel = json!({"requestId": number, "reason": "enough"});
        assert_eq!(other.notify("notifications/cancelled", cancel.clone()), 202);
        // Every shard has handled it before it reports.
        let in_flight = metric(running.admin_address().unwrap(), "corelane_calls_in_flight");
        assert_eq!(in_flight, 1.0, "ids of other sessions are distinct");
        assert_eq!(session.notify("notifications/cancelled", cancel), 202);
        while reply.event().is_some_and(|event| event.data.is_none()) {}
    }
    for params in [json!({"requestId": 999}), json!({}), json!({"requestId": 1.5})] {
        assert_eq!(session.notify("notifications/cancelled", params), 202, "unknown ids are ignored");
    }
    assert_eq!(end(running).events("cancelled"), 12);
}

#[test]
fn long_call_releases_its_connection_and_is_resumed() {
    let running = start(3, Limits::default());
    for number in 0..9 {
        let session = open(&running);
        let mut reply = session.call(number, "poll", json!({}));
        let primed = reply.event().unwrap();
        assert!(primed.id.is_some() && primed.data.is_none(), "{primed:?}");
        let last = loop {
            match reply.event() {
                Some(event) => assert!(event.data.is_none() && event.retry == Some(200), "{event:?}"),
                None => break primed.id.clone().unwrap(),
            }
        };
        assert_eq!(session.get(Some(&last)).text(), "polled");
        // A broken connection behaves the same.
        session.request("l", "logging/setLevel", json!({"level": "debug"})).response();
        let mut reply = session.call("cut", "cut", json!({}));
        let began = loop {
            let event = reply.event().unwrap();
            if event.data.is_some() {
                break event;
            }
        };
        reply.reset();
        await_detached(&running);
        assert_eq!(session.get(began.id.as_deref()).text(), "not lost");
    }
    let older = Session::open(running.addresses()[0], "2025-06-18", ABLE());
    let mut reply = older.call(1, "greet", json!({}));
    let question = reply.event().unwrap().data.expect("older clients cannot read an event without data");
    older.answer(&question["id"], json!({"action": "cancel"}));
    assert_eq!(reply.text(), "cancel");
    end(running);
}

#[test]
fn batches_are_answered_in_2025_03_26() {
    let running = start(2, Limits { batch_messages_max: 10, ..Limits::default() });
    let session = Session::open(running.addresses()[0], "2025-03-26", json!({}));
    let call = |id: Value, tool: &str| json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool, "arguments": {"name": id.to_string()}}});
    let note = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let inline = session
        .post(&json!([call(json!(1), "echo"), note, call(json!("b"), "echo"), call(json!(3), "none")]))
        .json();
    let ids: Vec<&Value> = inline.as_array().unwrap().iter().map(|answer| &answer["id"]).collect();
    assert_eq!(ids, [&json!(1), &json!("b"), &json!(3)]);
    assert_eq!(
        (&inline[0]["result"]["content"][0]["text"], &inline[2]["error"]["code"]),
        (&json!("1"), &json!(-32602))
    );
    let mut mixed = session.post(&json!([
        call(json!(1), "echo_later"),
        call(json!(2), "echo"),
        call(json!(3), "echo_later")
    ]));
    let mut answered = BTreeSet::new();
    while let Some(event) = mixed.event() {
        let answer = event.data.unwrap();
        assert_eq!(answer["result"]["content"][0]["text"], answer["id"].to_string());
        answered.insert(answer["id"].as_u64().unwrap());
    }
    assert_eq!(answered, [1, 2, 3].into());
    assert_eq!(session.post(&json!([note, note])).status, 202);
    let mut empty = session.post(&json!([]));
    assert_eq!((empty.status, empty.error_code()), (400, -32600));
    let mut many = session.post(&json!(vec![note; 11]));
    assert_eq!((many.status, many.error_code()), (400, -32600));
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": handshake("2025-03-26", json!({}))});
    let refused = session.post(&json!([hello, call(json!(2), "echo")])).json();
    assert_eq!((&refused[0]["error"]["code"], &refused[1]["id"]), (&json!(-32600), &json!(2)));
    for revision in ["2025-06-18", NEWEST] {
        let session = Session::open(running.addresses()[0], revision, json!({}));
        let mut reply = session.post(&json!([call(json!(1), "echo")]));
        assert_eq!((reply.status, reply.error_code()), (400, -32600), "{revision}");
    }
    end(running);
}

#[test]
fn clients_with_equal_ids_receive_their_own_responses() {
    let running = start(2, Limits::default());
    let address = running.addresses()[0];
    let clients: Vec<_> = (0..64)
        .map(|client| {
            thread::spawn(move || {
                let mut connection = support::Client::connect(address);
                for number in 0..100 {
                    let name = format!("{client} {number}");
                    let tool = if number % 3 == 0 { "echo_later" } else { "echo" };
                    let result = connection.call(tool, json!({"name": name}));
                    assert_eq!(result["content"][0]["text"], name);
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    end(running);
}
