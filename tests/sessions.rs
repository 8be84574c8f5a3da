//! Legacy sessions on every shard: ids, event streams, and server requests.
//! <https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#session-management>

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    collections::BTreeSet,
    fs, thread,
    time::{Duration, Instant},
};

use corelane::{
    CallError, Config, Context, Form, Level, Limits, NoArguments, Page, Ping, Prompt, Resource, Running,
    Sampling, Server, Tool, time::sleep,
};
use serde_json::{Value, json};
use support::{
    ServerProcess, await_metric, eventually, metric,
    peer::end,
    session::{Session, handshake},
};

const NEWEST: &str = "2025-11-25";
const ABLE: fn() -> Value = || json!({"sampling": {}, "elicitation": {"form": {}, "url": {}}, "roots": {}});

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Name {
    name: String,
}

async fn greet(cx: &Context) -> Result<String, CallError> {
    let answer = cx.elicit(Form::<Name>::new("Name?")).await?;
    Ok(match answer.action() {
        "accept" => format!("Hello, {}!", answer.accepted().unwrap().name),
        other => other.to_owned(),
    })
}

fn server() -> Server {
    let server = Server::builder("sessions", "0")
        .tool(Tool::new("greet").run_async(async |_: NoArguments, cx| greet(&cx).await))
        .tool(Tool::new("greet_blocking").run_blocking(|_: NoArguments, cx| {
            let answer = cx.block_on(cx.elicit(Form::<Name>::new("Name?")))?;
            Ok::<_, CallError>(
                answer.accepted().map_or_else(String::new, |answer| format!("Hello, {}!", answer.name)),
            )
        }))
        .tool(Tool::new("model").run_async(async |_: NoArguments, cx| {
            Ok::<_, CallError>(cx.sample(Sampling::question("Why?", 10)).await?.text().to_owned())
        }))
        .tool(Tool::new("open_page").run_async(async |_: NoArguments, cx| {
            Ok::<_, CallError>(cx.elicit(Page::new("Log in", "https://example.com")).await?.action())
        }))
        .tool(Tool::new("alive").run_async(async |_: NoArguments, cx| {
            cx.ask(Ping).await?;
            Ok::<_, CallError>("alive")
        }))
        .tool(Tool::new("log").run_async(async |_: NoArguments, cx| {
            cx.log(Level::Debug, "fine");
            cx.log_as("part", Level::Error, json!({"bad": 1}));
            "logged"
        }))
        .tool(Tool::new("wait").run_async(async |_: NoArguments, cx| {
            cx.progress(1.0, None, Some("waiting"));
            sleep(Duration::from_secs(30)).await;
            "waited"
        }))
        .tool(Tool::new("poll").run_async(async |_: NoArguments, cx| {
            cx.disconnect(Duration::from_millis(200));
            sleep(Duration::from_millis(100)).await;
            "polled"
        }))
        .tool(Tool::new("cut").run_async(async |_: NoArguments, cx| {
            cx.log(Level::Error, "began");
            sleep(Duration::from_millis(300)).await;
            "not lost"
        }))
        .tool(Tool::new("echo").input::<Name>().run(|arguments, _cx| arguments.name))
        .tool(Tool::new("echo_later").input::<Name>().run_async(async |arguments, _cx| {
            sleep(Duration::from_millis(2)).await;
            arguments.name
        }))
        .tool(Tool::new("touch").run(|_: NoArguments, cx| cx.resource_updated("test://a")))
        .resource(Resource::new("test://a", "a").run(|_, _cx| "a"))
        .prompt(Prompt::new("p").run(|_: NoArguments, _cx| "p"));
    server.build()
}

fn config(shards: usize, limits: Limits) -> Config {
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    Config { listen: vec![any.into()], admin: Some(any), shards: Some(shards), limits, ..Config::default() }
}

fn start(shards: usize, limits: Limits) -> Running {
    server().start(&config(shards, limits)).unwrap()
}

fn open(running: &Running) -> Session {
    Session::open(running.addresses()[0], NEWEST, ABLE())
}

/// Waits until no stream has a connection.
fn await_detached(running: &Running) {
    await_metric(running.admin_address().unwrap(), "corelane_replay_streams_attached", 0.0);
}

/// This number of connections reaches each of four shards except with a probability of 0.1 %.
const MANY: usize = 32;

#[test]
fn session_id_is_visible_ascii_random_and_valid_on_every_shard() {
    let running = start(4, Limits::default());
    let ids: BTreeSet<String> = (0..50).map(|_| open(&running).id).collect();
    assert_eq!(ids.len(), 50);
    assert!(ids.iter().all(|id| id.len() >= 40 && id.bytes().all(|byte| (0x21..=0x7e).contains(&byte))));
    let session = Session::open(running.addresses()[0], "2025-06-18", ABLE());
    for number in 0..MANY {
        assert_eq!(session.call(number, "echo", json!({"name": "x"})).text(), "x");
    }
    // A modern request has no session, whatever its headers contain.
    let (headers, body) = support::modern("server/discover", json!({}));
    let headers = format!("{headers}Mcp-Session-Id: nonsense\r\n");
    let reply = support::Client::connect(running.addresses()[0]).post(&headers, body);
    assert_eq!((reply.status, reply.header("mcp-session-id")), (200, None));
    end(running);
}

#[test]
fn unknown_and_deleted_sessions_are_rejected_on_every_shard() {
    let running = start(4, Limits::default());
    let session = open(&running);
    let foreign = Session { id: open(&start(1, Limits::default())).id, ..session.clone() };
    let forged = Session { id: session.id.replace(|_: char| true, "A"), ..session.clone() };
    for unknown in [foreign, forged, Session { id: "nonsense".to_owned(), ..session.clone() }] {
        let mut reply = unknown.request(1, "tools/list", json!({}));
        assert_eq!((reply.status, reply.error_code()), (404, -32001));
        assert_eq!((unknown.get(None).status, unknown.delete()), (404, 404));
        assert_eq!(unknown.notify("notifications/initialized", json!({})), 404);
    }
    for _ in 0..MANY {
        assert_eq!(session.request(1, "ping", json!({})).status, 200);
    }
    assert_eq!(session.delete(), 204);
    for _ in 0..MANY {
        assert_eq!(
            session.request(1, "ping", json!({})).status,
            404,
            "every shard has removed the session before the reply"
        );
    }
    assert_eq!(session.delete(), 404);
    assert!(end(running).refusals("unknown_session") > MANY as u64);
}

#[test]
fn session_expires_at_its_maximum_age() {
    // The expiry has a resolution of one second: the session expires between one and two seconds.
    let running = start(1, Limits { session_ttl: Duration::from_secs(2), ..Limits::default() });
    let began = Instant::now();
    let session = open(&running);
    assert_eq!(session.request(1, "ping", json!({})).status, 200);
    eventually("its expiry", || session.request(1, "ping", json!({})).status == 404);
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    end(running);
}

#[test]
fn negotiated_version_overrides_a_known_version_header() {
    let running = start(4, Limits::default());
    let older = Session::open(running.addresses()[0], "2025-06-18", json!({"elicitation": {}}));
    let unable = Session::open(running.addresses()[0], NEWEST, json!({}));
    let greet = |session: &Session, version: &str| {
        let headers = format!("Accept: text/event-stream\r\nMCP-Protocol-Version: {version}\r\n");
        let call =
            json!({"jsonrpc": "2.0", "id": version, "method": "tools/call", "params": {"name": "greet"}});
        session.post_with(&headers, &call)
    };
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", NEWEST].into_iter().cycle().take(MANY) {
        let mut reply = greet(&older, version);
        let question = reply.message();
        assert_eq!(question["params"].get("mode"), None, "2025-06-18 has no modes: {version}");
        older.answer(&question["id"], json!({"action": "decline"}));
        assert_eq!(reply.text(), "decline");
        assert!(
            greet(&unable, version).response()["error"].is_object(),
            "a header does not add capabilities"
        );
    }
    let mut unknown = greet(&older, "1999-01-01");
    assert_eq!((unknown.status, unknown.error_code()), (400, -32000));
    end(running);
}

#[test]
fn deleted_sessions_are_rejected_whatever_is_deleted_later() {
    let running = start(2, Limits { session_notes_max: 3, ..Limits::default() });
    let sessions: Vec<Session> = (0..20).map(|_| open(&running)).collect();
    // Sessions that a peer opened no later than one whose record was evicted are rejected too.
    assert!(sessions.iter().all(|session| matches!(session.delete(), 204 | 404)));
    // Ids expire by the second.
    std::thread::sleep(Duration::from_millis(1100));
    let later = open(&running);
    for _ in 0..4 {
        let statuses = sessions.iter().map(|session| session.request(1, "ping", json!({})).status);
        assert_eq!(statuses.collect::<Vec<u16>>(), [404; 20]);
        assert_eq!(later.request(1, "ping", json!({})).status, 200);
    }
    end(running);
}

#[test]
fn session_methods_without_a_session_are_rejected() {
    let running = start(2, Limits::default());
    let without = Session::stateless(running.addresses()[0]);
    for (method, params) in [
        ("logging/setLevel", json!({"level": "info"})),
        ("resources/subscribe", json!({"uri": "test://a"})),
        ("resources/unsubscribe", json!({"uri": "test://a"})),
    ] {
        let mut reply = without.request(1, method, params);
        assert_eq!((reply.status, reply.error_code()), (400, -32000), "{method}");
    }
    assert_eq!((without.get(None).status, without.delete()), (400, 400));
    for (method, params) in [
        ("tools/list", json!({})),
        ("resources/read", json!({"uri": "test://a"})),
        ("prompts/get", json!({"name": "p"})),
        ("ping", json!({})),
    ] {
        assert!(without.request(1, method, params).response()["result"].is_object(), "{method}");
    }
    let response = without.call(1, "greet", json!({})).response();
    assert!(response["error"]["message"].as_str().unwrap().contains("capability"), "{response}");
    end(running);
}

#[test]
fn session_ids_signed_by_a_secret_file_survive_restart_and_resharding() {
    let file = std::env::temp_dir().join(format!("corelane-secret-{}", std::process::id()));
    fs::write(&file, "a key of at least thirty-two bytes, which this is").unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let config = std::env::temp_dir().join(format!("corelane-secret-{}.toml", std::process::id()));
    fs::write(&config, format!("[security]\nsecret_file = {:?}\n", file.display().to_string())).unwrap();
    let start =
        |shards: &str| ServerProcess::start(&["--config", config.to_str().unwrap(), "--shards", shards]);
    let server = start("4");
    let sessions: Vec<Session> = (0..40).map(|_| Session::open(server.address, NEWEST, json!({}))).collect();
    server.stop();
    for (shards, all) in [("4", true), ("8", true), ("1", false)] {
        let server = start(shards);
        let statuses = sessions.iter().map(|session| {
            let session = Session { address: server.address, ..session.clone() };
            session.request(1, "ping", json!({})).status
        });
        let statuses: Vec<u16> = statuses.collect();
        let known = statuses.iter().filter(|status| **status == 200).count();
        assert!(
            statuses.iter().all(|status| matches!(status, 200 | 404)),
            "an unexpected status: {statuses:?}"
        );
        assert!(if all { known == 40 } else { known < 40 }, "{shards}: {known}");
        server.stop();
    }
    // Two processes share the key: each accepts the ids of the other.
    let (one, other) = (start("2"), start("2"));
    for _ in 0..8 {
        let session = Session::open(one.address, NEWEST, json!({}));
        let there = Session { address: other.address, ..session };
        assert_eq!(there.request(1, "ping", json!({})).status, 200);
    }
    one.stop();
    other.stop();
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--config", config.to_str().unwrap()];
    let refused = |why: &str| {
        let output = support::corelane(&arguments).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(
            stderr.contains("secret_file") && stderr.contains(why) && stderr.lines().count() == 1,
            "{stderr}"
        );
    };
    fs::write(&file, "short").unwrap();
    refused("32 bytes");
    fs::remove_file(&file).unwrap();
    refused("No such file");
    fs::remove_file(config).unwrap();
    fs::remove_file(format!("{}.sessions", file.display())).unwrap();
}

#[test]
fn abandoned_sessions_use_no_memory() {
    let server = ServerProcess::start(&["--shards", "1"]);
    let mut client = server.connect();
    let mut open = |count: usize| {
        for _ in 0..count {
            assert_eq!(client.legacy("initialize", handshake(NEWEST, json!({}))).status, 200);
        }
    };
    open(2_000);
    let before = server.status("VmRSS");
    open(20_000);
    let grown = server.status("VmRSS").saturating_sub(before);
    assert!(grown < 2_000, "{grown} KiB for 20,000 sessions");
    server.stop();
}

#[test]
fn resource_updates_reach_subscribed_sessions_across_shards() {
    let server = server();
    let registry = server.registry();
    let running = server.start(&config(3, Limits::default())).unwrap();
    for round in 0..12 {
        let session = open(&running);
        let mut stream = session.get(None);
        assert_eq!((stream.status, stream.is_stream()), (200, true));
        let subscribed = session.request("s", "resources/subscribe", json!({"uri": "test://a"})).response();
        assert_eq!(subscribed, json!({"jsonrpc": "2.0", "id": "s", "result": {}}));
        session.call(1, "touch", json!({})).response();
        let updated = json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": "test://a"}});
        assert_eq!(stream.message(), updated);
        session.request(2, "resources/unsubscribe", json!({"uri": "test://a"})).response();
        session.call(3, "touch", json!({})).response();
        registry
            .update(|registry| registry.replace(Tool::new(format!("t{round}")).run(|_, _cx| "")))
            .unwrap();
        let notification = stream.message();
        assert_eq!(
            notification["method"], "notifications/tools/list_changed",
            "a list change, and no resource update after unsubscribing"
        );
        registry
            .update(|registry| {
                registry.replace(Prompt::new(format!("p{round}")).run(|_: NoArguments, _cx| ""))
            })
            .unwrap();
        assert_eq!(stream.message()["method"], "notifications/prompts/list_changed");
    }
    let unknown =
        open(&running).request(1, "resources/subscribe", json!({"uri": "test://none"})).error_code();
    assert_eq!(unknown, -32002);
    end(running);
}

#[test]
fn missed_events_are_replayed_on_one_stream() {
    let running = start(3, Limits::default());
    for _ in 0..8 {
        let session = open(&running);
        session.request(1, "resources/subscribe", json!({"uri": "test://a"})).response();
        let mut stream = session.get(None);
        session.call(2, "touch", json!({})).response();
        let first = loop {
            let event = stream.event().unwrap();
            if event.data.is_some() {
                break event;
            }
        };
        drop(stream);
        let id = first.id.unwrap();
        await_detached(&running);
        session.call(3, "touch", json!({})).response();
        session.call(4, "touch", json!({})).response();
        let mut resumed = session.get(Some(&id));
        assert_eq!(resumed.message()["method"], "notifications/resources/updated");
        assert_eq!(resumed.message()["method"], "notifications/resources/updated");
        session.call(5, "touch", json!({})).response();
        let last = resumed.event().unwrap();
        assert!(last.id.unwrap() > id, "the numbers continue");
        let other = open(&running);
        let changed = other.get(Some(&id)).message()["method"].as_str().unwrap().to_owned();
        assert!(changed.ends_with("/list_changed"), "not an event of another session: {changed}");
        assert_eq!(session.get(Some("nonsense")).status, 200);
    }
    end(running);
}

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

#[test]
fn session_streams_send_keep_alives_and_end_at_drain() {
    let running = start(1, Limits { stream_keep_alive: Duration::from_millis(100), ..Limits::default() });
    let session = open(&running);
    let request = format!(
        "GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nMcp-Session-Id: {}\r\n\r\n",
        session.id
    );
    let mut raw = std::net::TcpStream::connect(session.address).unwrap();
    std::io::Write::write_all(&mut raw, request.as_bytes()).unwrap();
    raw.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    let mut bytes = Vec::new();
    while String::from_utf8_lossy(&bytes).matches(": keep-alive").count() < 2 {
        let mut part = [0; 4096];
        let count = std::io::Read::read(&mut raw, &mut part).unwrap();
        assert!(count > 0, "it ended: {}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&part[..count]);
    }
    running.stopper().drain();
    std::io::Read::read_to_end(&mut raw, &mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.ends_with("0\r\n\r\n"), "a complete reply: {text}");
    running.join().unwrap();
}
