//! Utilities of the legacy era: log levels, progress, cancellation, batches, and arbitrary request ids.
//! <https://modelcontextprotocol.io/specification/2025-11-25/basic/utilities/cancellation>

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use corelane::{Config, Level, Limits, NoArguments, Resource, Running, Server, Tool, time::sleep};
use serde_json::{Value, json};
use support::{
    Client, DropCounter, await_calls_in_flight, eventually,
    peer::end,
    post,
    session::{Event, Session, SessionReply, handshake},
};

const NEWEST: &str = "2025-11-25";
const LEVELS: [(Level, &str); 8] = [
    (Level::Debug, "debug"),
    (Level::Info, "info"),
    (Level::Notice, "notice"),
    (Level::Warning, "warning"),
    (Level::Error, "error"),
    (Level::Critical, "critical"),
    (Level::Alert, "alert"),
    (Level::Emergency, "emergency"),
];

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Say {
    text: String,
}

fn server(dropped: &Arc<AtomicUsize>) -> Server {
    let (quiet, loud) = (Arc::clone(dropped), Arc::clone(dropped));
    Server::builder("utilities", "0")
        .tool(Tool::new("log").run_async(async |_: NoArguments, cx| {
            LEVELS.iter().for_each(|(level, name)| cx.log(*level, name));
        }))
        .tool(Tool::new("log_inline").run(|_: NoArguments, cx| {
            LEVELS.iter().for_each(|(level, name)| cx.log(*level, name));
        }))
        .tool(Tool::new("log_and_panic").run(|_: NoArguments, cx| {
            cx.log(Level::Info, "about to panic");
            assert!(!cx.logs(Level::Info), "panics");
        }))
        .tool(Tool::new("count").run_async(async |_: NoArguments, cx| {
            for (progress, message) in
                [(1.0, Some("one")), (1.0, Some("again")), (0.5, None), (2.5, Some("more"))]
            {
                cx.progress(progress, Some(3.0), message);
            }
        }))
        .tool(Tool::new("wait").run_async(async move |_: NoArguments, _cx| {
            let _dropped = DropCounter(Arc::clone(&quiet));
            sleep(Duration::from_secs(30)).await;
            "waited"
        }))
        .tool(Tool::new("wait_loudly").run_async(async move |_: NoArguments, cx| {
            let _dropped = DropCounter(Arc::clone(&loud));
            cx.progress(1.0, None, None);
            sleep(Duration::from_secs(30)).await;
            "waited"
        }))
        .tool(Tool::new("nap").run_async(async |_: NoArguments, _cx| {
            sleep(Duration::from_millis(300)).await;
            "napped"
        }))
        .tool(Tool::new("say").input::<Say>().run(|say, _cx| say.text))
        .tool(Tool::new("say_later").input::<Say>().run_async(async |say, _cx| {
            sleep(Duration::from_millis(1)).await;
            say.text
        }))
        .resource(Resource::new("test://a", "a").run(|_, _cx| "a"))
        .build()
}

fn start(shards: usize, limits: Limits) -> (Running, Arc<AtomicUsize>) {
    let dropped = Arc::default();
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let config = Config {
        listen: vec![any.into()],
        admin: Some(any),
        shards: Some(shards),
        limits,
        ..Config::default()
    };
    (server(&dropped).start(&config).unwrap(), dropped)
}

fn open(running: &Running, revision: &str) -> Session {
    Session::open(running.addresses()[0], revision, json!({}))
}

fn call(id: impl Into<Value>, tool: &str, text: &str) -> Value {
    let arguments = if tool.starts_with("say") { json!({"text": text}) } else { json!({}) };
    json!({"jsonrpc": "2.0", "id": id.into(), "method": "tools/call", "params": {"name": tool, "arguments": arguments}})
}

/// The log messages of a call that reach the client.
fn logged(session: &Session, tool: &str) -> Vec<String> {
    let mut reply = session.call(1, tool, json!({}));
    if !reply.is_stream() {
        reply.json();
        return Vec::new();
    }
    std::iter::from_fn(|| reply.event())
        .filter_map(|event| event.data)
        .filter(|message| message["method"] == "notifications/message")
        .map(|message| {
            assert_eq!(message["params"]["level"], message["params"]["data"]);
            message["params"]["level"].as_str().unwrap().to_owned()
        })
        .collect()
}

#[test]
fn log_level_filters_messages_on_every_shard_until_changed() {
    let (running, _) = start(4, Limits::default());
    let session = open(&running, "2025-06-18");
    let unasked: Vec<&str> = LEVELS[1..].iter().map(|(_, name)| *name).collect();
    for tool in ["log", "log_inline", "log_inline"] {
        assert_eq!(logged(&session, tool), unasked, "{tool}: from level info by default");
    }
    for (number, (_, level)) in LEVELS.iter().enumerate() {
        let set = session.request("s", "logging/setLevel", json!({"level": level})).response();
        assert_eq!(set, json!({"jsonrpc": "2.0", "id": "s", "result": {}}));
        let expected: Vec<&str> = LEVELS[number..].iter().map(|(_, name)| *name).collect();
        for tool in ["log", "log_inline", "log", "log_inline", "log", "log_inline"] {
            assert_eq!(logged(&session, tool), expected, "{tool} at {level}");
        }
    }
    for params in [json!({"level": "WARNING"}), json!({"level": 3}), json!({}), json!({"level": ""})] {
        let mut refused = session.request(1, "logging/setLevel", params.clone());
        assert_eq!((refused.status, refused.error_code()), (200, -32602), "{params}");
    }
    assert_eq!(logged(&session, "log"), ["emergency"], "a rejected level changes nothing");
    end(running);
}

#[test]
fn inline_log_messages_reach_only_the_client_of_the_call() {
    let (running, _) = start(1, Limits::default());
    let session = open(&running, "2025-06-18");
    for round in 0..3 {
        assert_eq!(logged(&session, "log_inline").len(), 7, "{round}");
        assert!(!session.call(3, "say", json!({"text": "x"})).is_stream(), "this one logs nothing");
        let failed = session.call(4, "log_and_panic", json!({})).response();
        assert_eq!(failed["error"]["code"], -32603);
        assert!(!session.call(5, "say", json!({"text": "x"})).is_stream(), "earlier messages are not sent");
    }
    let nobody = Session::stateless(running.addresses()[0]);
    assert_eq!(logged(&nobody, "log_inline").len(), 7, "no session is needed");
    end(running);
}

#[test]
fn session_log_levels_are_bounded_and_the_oldest_is_evicted() {
    let (running, _) = start(2, Limits { session_notes_max: 2, ..Limits::default() });
    let sessions: Vec<Session> = (0..3).map(|_| open(&running, NEWEST)).collect();
    for session in &sessions {
        session.request(1, "logging/setLevel", json!({"level": "alert"})).response();
    }
    let mut counts: Vec<usize> = sessions.iter().map(|session| logged(session, "log").len()).collect();
    counts.sort_unstable();
    assert_eq!(counts, [2, 2, 7], "one of the levels was evicted");
    assert!(sessions.iter().all(|session| session.request(1, "ping", json!({})).status == 200));
    end(running);
}

#[test]
fn progress_has_its_token_increases_and_follows_the_revision() {
    let (running, _) = start(2, Limits::default());
    for (revision, has_message) in
        [("2024-11-05", false), ("2025-03-26", true), ("2025-06-18", true), (NEWEST, true)]
    {
        let session = open(&running, revision);
        for token in [json!("t"), json!(7), json!("7"), json!(-1)] {
            let params = json!({"name": "count", "_meta": {"progressToken": token}});
            let mut reply = session.request(1, "tools/call", params);
            let mut messages: Vec<Value> =
                std::iter::from_fn(|| reply.event()).filter_map(|event| event.data).collect();
            assert!(messages.pop().unwrap()["result"].is_object());
            let params = |progress: Value, message: &str| {
                let mut params = json!({"progressToken": token, "progress": progress, "total": 3});
                if has_message {
                    params["message"] = json!(message);
                }
                json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
            };
            assert_eq!(messages, [params(json!(1), "one"), params(json!(2.5), "more")], "{revision}");
        }
        assert!(!session.call(1, "count", json!({})).is_stream(), "no progress without a token");
        let mut refused =
            session.request(1, "tools/call", json!({"name": "count", "_meta": {"progressToken": 1.5}}));
        assert_eq!(refused.error_code(), -32602, "a token is a string or an integer");
    }
    let nobody = Session::stateless(running.addresses()[0]);
    let params = json!({"name": "count", "_meta": {"progressToken": 1}});
    assert_eq!(
        nobody.request(1, "tools/call", params).message()["params"]["progress"],
        1,
        "no session is needed"
    );
    end(running);
}

#[test]
fn silent_call_is_cancelled_and_its_post_ends_without_a_response() {
    let (running, dropped) = start(4, Limits::default());
    let (session, other) = (open(&running, NEWEST), open(&running, NEWEST));
    for number in 0..16 {
        // Ids of both types; a number never equals a string.
        let (id, wrong) = if number % 2 == 0 {
            (json!(number), json!(number.to_string()))
        } else {
            (json!(number.to_string()), json!(number))
        };
        let waiting = {
            let (session, id) = (session.clone(), id.clone());
            thread::spawn(move || {
                let mut reply = session.call(id, "wait", json!({}));
                (reply.status, reply.is_quiet(), reply.header("content-length").map(str::to_owned))
            })
        };
        await_calls_in_flight(&running, 1);
        other.notify("notifications/cancelled", json!({"requestId": id}));
        session.notify("notifications/cancelled", json!({"requestId": wrong}));
        let without = Session { id: String::new(), ..session.clone() };
        assert_eq!(without.notify("notifications/cancelled", json!({"requestId": id})), 202);
        // Each shard processes its messages before it reports.
        await_calls_in_flight(&running, 1);
        assert_eq!(dropped.load(Ordering::SeqCst), number, "no cancellation matches the call");
        assert_eq!(
            session.notify("notifications/cancelled", json!({"requestId": id, "reason": "enough"})),
            202
        );
        let (status, goes_on, length) = waiting.join().unwrap();
        assert_eq!((status, goes_on), (202, true), "{length:?}");
        eventually("the handler's end", || dropped.load(Ordering::SeqCst) == number + 1);
    }
    assert_eq!(end(running).events("cancelled"), 16);
}

/// Sends a message whose id is written as given, on its own connection.
fn post_text(session: &Session, body: &str) -> SessionReply {
    let headers =
        format!("Accept: application/json, text/event-stream\r\nMcp-Session-Id: {}\r\n", session.id);
    let request = String::from_utf8(post(&headers, body)).unwrap();
    SessionReply::of(session.address, &session.revision, &request)
}

#[test]
fn cancellation_leaves_calls_of_other_sessions_with_the_same_id() {
    // With one shard both calls are in one table.
    for shards in [1, 3] {
        let (running, dropped) = start(shards, Limits::default());
        let ids = [("1000", "1000"), ("1000", "1e3"), ("1e3", "1000"), ("1e3", "1e3"), ("1000.0", "1e3")];
        for (id, named) in ids {
            let sessions = [open(&running, NEWEST), open(&running, NEWEST)];
            let before = dropped.load(Ordering::SeqCst);
            let calls = sessions.clone().map(|session| {
                let call = format!(
                    r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"wait","arguments":{{}}}}}}"#
                );
                thread::spawn(move || post_text(&session, &call).status)
            });
            await_calls_in_flight(&running, 2);
            let mut left = 2;
            for (session, call) in sessions.iter().zip(calls) {
                let cancel = format!(
                    r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{named}}}}}"#
                );
                assert_eq!(post_text(session, &cancel).status, 202);
                assert_eq!(call.join().unwrap(), 202, "{id} by {named}: the cancelled call's POST ends");
                left -= 1;
                await_calls_in_flight(&running, left);
                // The first session again: its call has ended, and the call of the other session is unaffected.
                assert_eq!(post_text(&sessions[0], &cancel).status, 202);
                assert_eq!(sessions[1].request(1, "ping", json!({})).response()["result"], json!({}));
                let ended = u32::try_from(dropped.load(Ordering::SeqCst) - before).unwrap();
                assert_eq!(ended, 2 - left, "{id} by {named}");
            }
        }
        end(running);
    }
}

#[test]
fn cancelled_stream_ends_without_another_event_even_when_resumed() {
    let (running, dropped) = start(3, Limits::default());
    for number in 0..6 {
        let session = open(&running, NEWEST);
        let ask = || {
            session.request("w", "tools/call", json!({"name": "wait_loudly", "_meta": {"progressToken": 1}}))
        };
        let cancel = || session.notify("notifications/cancelled", json!({"requestId": "w"}));
        let mut reply = ask();
        reply.message();
        cancel();
        assert_eq!(reply.event(), None, "not even an event without data");
        assert!(reply.is_quiet(), "the connection continues");
        let mut reply = ask();
        let event = loop {
            let event: Event = reply.event().unwrap();
            if event.data.is_some() {
                break event;
            }
        };
        let mut resumed = session.get(event.id.as_deref());
        assert_eq!(resumed.status, 200);
        cancel();
        while let Some(event) = resumed.event() {
            assert_eq!(event.data, None);
        }
        eventually("the end of both", || dropped.load(Ordering::SeqCst) == 2 * number + 2);
        assert_eq!(session.get(event.id.as_deref()).status, 400, "nothing is left to resume");
    }
    end(running);
}

#[test]
fn batch_is_accepted_without_a_session_and_rejected_by_later_revisions() {
    let (running, _) = start(2, Limits::default());
    let nobody = Session::stateless(running.addresses()[0]);
    let batch = json!([call(1, "say", "a"), call("1", "say", "b")]);
    let accept = "Accept: application/json, text/event-stream\r\n";
    for headers in [accept.to_owned(), format!("{accept}MCP-Protocol-Version: 2025-03-26\r\n")] {
        let answers = nobody.post_with(&headers, &batch).json();
        let ids: Vec<&Value> = answers.as_array().unwrap().iter().map(|answer| &answer["id"]).collect();
        assert_eq!(ids, [&json!(1), &json!("1")], "in order, with their JSON types");
        assert_eq!(answers[1]["result"]["content"][0]["text"], "b");
    }
    for version in ["2024-11-05", "2025-06-18", NEWEST, "2026-07-28", "1999-01-01"] {
        let mut refused = nobody.post_with(&format!("{accept}MCP-Protocol-Version: {version}\r\n"), &batch);
        assert_eq!((refused.status, refused.error_code()), (400, -32600), "{version}");
    }
    for nonsense in [json!([]), json!([1]), json!([[]]), json!([{}])] {
        let mut refused = nobody.post(&nonsense);
        let reply = refused.json();
        let error = if reply.is_array() { &reply[0] } else { &reply };
        assert_eq!(error["error"]["code"], -32600, "{nonsense}: {reply}");
    }
    end(running);
}

#[test]
fn batch_of_a_session_may_contain_every_method() {
    let (running, _) = start(4, Limits::default());
    for _ in 0..8 {
        let session = open(&running, "2025-03-26");
        let batch = json!([
            {"jsonrpc": "2.0", "id": "l", "method": "logging/setLevel", "params": {"level": "alert"}},
            {"jsonrpc": "2.0", "method": "notifications/initialized"},
            {"jsonrpc": "2.0", "id": "s", "method": "resources/subscribe", "params": {"uri": "test://a"}},
            {"jsonrpc": "2.0", "id": "p", "method": "ping"},
            call("n", "say", "now"),
            call("t", "say_later", "then"),
            {"jsonrpc": "2.0", "id": "i", "method": "initialize", "params": handshake("2025-03-26", json!({}))},
            {"jsonrpc": "2.0", "id": "?", "method": "no/such"},
        ]);
        let mut reply = session.post(&batch);
        let mut answers = std::collections::BTreeMap::new();
        while let Some(event) = reply.event() {
            let answer = event.data.unwrap();
            let id = answer["id"].as_str().unwrap_or_else(|| panic!("no id: {answer}")).to_owned();
            assert!(answers.insert(id, answer).is_none(), "one response per request");
        }
        assert_eq!(answers.len(), 7, "{answers:?}");
        for id in ["l", "s", "p"] {
            assert_eq!(answers[id]["result"], json!({}));
        }
        assert_eq!(answers["n"]["result"]["content"][0]["text"], "now");
        assert_eq!(answers["t"]["result"]["content"][0]["text"], "then");
        assert_eq!(
            (&answers["i"]["error"]["code"], &answers["?"]["error"]["code"]),
            (&json!(-32600), &json!(-32601))
        );
        assert_eq!(logged(&session, "log"), ["alert", "emergency"], "the batch set the level");
        let gone = session.clone();
        assert_eq!(session.delete(), 204);
        let mut refused = gone.post(&json!([call(1, "say", "x")]));
        assert_eq!((refused.status, refused.error_code()), (404, -32001), "an unknown session");
    }
    end(running);
}

#[test]
fn cancelled_call_of_a_batch_leaves_the_others_answered() {
    let (running, dropped) = start(3, Limits::default());
    for number in 0..6 {
        let session = open(&running, "2025-03-26");
        let mut reply =
            session.post(&json!([call("w", "wait", ""), call("n", "nap", ""), call("s", "say", "x")]));
        assert_eq!(session.notify("notifications/cancelled", json!({"requestId": "w"})), 202);
        let ids: BTreeSet<String> = std::iter::from_fn(|| reply.event())
            .map(|event| event.data.unwrap()["id"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(ids, ["n", "s"].map(str::to_owned).into());
        assert!(reply.is_quiet(), "the connection continues");
        eventually("the handler's end", || dropped.load(Ordering::SeqCst) == number + 1);
        // With every call cancelled the stream ends empty.
        let mut reply = session.post(&json!([call("n", "nap", "")]));
        session.notify("notifications/cancelled", json!({"requestId": "n"}));
        assert_eq!(reply.event(), None);
    }
    end(running);
}

/// Concurrent clients with separate connections, requests per client, and requests pipelined together.
const CLIENTS: usize = 200;
const REQUESTS: usize = 500;
const AT_ONCE: usize = 50;

#[test]
fn responses_with_equal_ids_reach_their_own_clients_100_000_times() {
    let (running, _) = start(4, Limits::default());
    let address = running.addresses()[0];
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            thread::spawn(move || {
                let mut clients: Vec<(usize, Client)> =
                    (thread..CLIENTS).step_by(8).map(|client| (client, Client::connect(address))).collect();
                let mut answered = 0;
                for start in (0..REQUESTS).step_by(AT_ONCE) {
                    let numbers = start..start + AT_ONCE;
                    for (client, connection) in &mut clients {
                        let bytes: Vec<u8> = numbers
                            .clone()
                            .flat_map(|number| {
                                let tool = if number % 10 == 0 { "say_later" } else { "say" };
                                post("", call(number, tool, &format!("{client}/{number}")).to_string())
                            })
                            .collect();
                        connection.send(bytes);
                    }
                    for (client, connection) in &mut clients {
                        for number in numbers.clone() {
                            let reply = connection.read();
                            let body = String::from_utf8_lossy(&reply.body);
                            let (id, text) =
                                (format!("\"id\":{number},"), format!("\"text\":\"{client}/{number}\""));
                            assert!(body.contains(&id) && body.contains(&text), "{id} {text}: {body}");
                            answered += 1;
                        }
                    }
                }
                answered
            })
        })
        .collect();
    let answered: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(answered, CLIENTS * REQUESTS);
    end(running);
}
