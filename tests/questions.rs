//! Server requests to legacy clients: their form in each revision, capabilities, matching of responses to calls, and
//! calls without a response. <https://modelcontextprotocol.io/specification/2025-11-25/client/elicitation>

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    thread,
    time::{Duration, Instant},
};

use corelane::{
    AskError, CallError, Config, Context, Elicited, Form, Limits, ListRoots, NoArguments, Page, Ping,
    Question, RemoteContext, Running, Sampling, Server, ServerBuilder, Tool, time::sleep,
};
use futures_lite::future::zip;
use serde_json::{Value, json};
use support::{
    await_metric,
    peer::{end, observed_config},
    session::{Session, SessionReply},
};

const NEWEST: &str = "2025-11-25";
const ABLE: fn() -> Value = || json!({"sampling": {}, "elicitation": {"form": {}, "url": {}}, "roots": {}});

#[derive(Clone, Copy, serde::Deserialize, schemars::JsonSchema)]
struct Which {
    /// The question's number
    n: u64,
}

fn form(message: &str) -> Form<Which> {
    Form::<Which>::new(message)
}

/// The same server requests from a handler of every kind.
macro_rules! asking {
    ($server:expr, $name:literal, $ask:expr) => {
        $server
            .tool(
                Tool::new(concat!($name, "_async"))
                    .run_async(async |_: NoArguments, cx: Context| describe(cx.ask($ask).await)),
            )
            .tool(
                Tool::new(concat!($name, "_blocking"))
                    .run_blocking(|_: NoArguments, cx: RemoteContext| describe(cx.block_on(cx.ask($ask)))),
            )
    };
}

/// Describes the answer or the error as text.
fn describe<A: std::fmt::Debug>(answer: Result<A, AskError>) -> String {
    match answer {
        Ok(answer) => format!("{answer:?}"),
        Err(error) => format!("error {error:?}"),
    }
}

fn server() -> ServerBuilder {
    let server = Server::builder("questions", "0");
    let server = asking!(
        server,
        "form",
        Form::<Value>::with_schema(
            "Which?",
            json!({"type": "object", "properties": {"n": {"type": "integer"}}})
        )
    );
    let server = asking!(server, "page", Page::new("Log in", "https://example.com/login"));
    let server = asking!(
        server,
        "model",
        Sampling::question("Why?", 10).system_prompt("Be brief").temperature(0.5).stop_sequence("END")
    );
    let server = asking!(server, "roots", ListRoots::default());
    let server = asking!(server, "ping", Ping);
    server
        .tool(Tool::new("which").input::<Which>().run_async(async |which, cx| {
            let answer = cx.ask(form(&which.n.to_string())).await?.accepted().map(|answer| answer.n);
            Ok::<_, CallError>(format!("{} {answer:?}", which.n))
        }))
        .tool(Tool::new("two").run_async(async |_: NoArguments, cx| {
            let (one, other) = zip(cx.ask(form("one").key("one")), cx.ask(form("other").key("other"))).await;
            let number = |answer: Elicited<Which>| answer.accepted().map(|answer| answer.n);
            Ok::<_, CallError>(format!("{:?} {:?}", number(one?), number(other?)))
        }))
        .tool(Tool::new("slow_after").run_async(async |_: NoArguments, cx| {
            cx.ask(Ping).await?;
            sleep(Duration::from_secs(30)).await;
            Ok::<_, CallError>("too late")
        }))
        .tool(Tool::new("fail").run_async(async |_: NoArguments, cx| {
            cx.ask(form("Which?")).await?;
            Ok::<_, CallError>("answered")
        }))
        .tool(Tool::new("quick").run_blocking(|_: NoArguments, _cx| "quick"))
}

fn start(shards: usize, limits: Limits) -> Running {
    server().build().start(&observed_config(shards, limits)).unwrap()
}

fn open(running: &Running) -> Session {
    Session::open(running.addresses()[0], NEWEST, ABLE())
}

/// Calls a tool that sends a server request and answers it. Returns the request and the result of the call.
fn ask(session: &Session, tool: &str, result: Value) -> (Value, String) {
    let mut reply = session.call(1, tool, json!({}));
    let question = reply.message();
    assert_eq!(session.answer(&question["id"], result), 202);
    (question, reply.text())
}

fn accept(n: u64) -> Value {
    json!({"action": "accept", "content": {"n": n}})
}

fn elicits_a_form(session: &Session, tool: &str, revision: &str) {
    let (question, outcome) = ask(session, tool, json!({"action": "accept", "content": {"n": 7}}));
    assert_eq!((&question["jsonrpc"], &question["method"]), (&json!("2.0"), &json!("elicitation/create")));
    assert!(question["id"].is_string());
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
    let mut params = json!({"message": "Which?", "requestedSchema": schema});
    if revision == NEWEST {
        params["mode"] = json!("form");
    }
    assert_eq!(question["params"], params, "{revision}");
    assert!(outcome.starts_with("Accepted(") && outcome.contains('7'), "{outcome}");
}

#[test]
fn server_requests_follow_the_revision_for_every_kind_of_handler() {
    let running = start(2, Limits::default());
    for revision in [NEWEST, "2025-06-18", "2025-03-26", "2024-11-05"] {
        let session = Session::open(running.addresses()[0], revision, ABLE());
        for runs in ["async", "blocking"] {
            let (form, page) = (format!("form_{runs}"), format!("page_{runs}"));
            if revision < "2025-06-18" {
                let outcome = session.call(1, &form, json!({})).text();
                assert_eq!(outcome, "error Unsupported(ElicitationForm)", "{revision} knows no forms");
            } else {
                elicits_a_form(&session, &form, revision);
            }
            if revision < NEWEST {
                let outcome = session.call(1, &page, json!({})).text();
                assert_eq!(outcome, "error Unsupported(ElicitationUrl)", "{revision} knows no pages");
            } else {
                let (question, outcome) = ask(&session, &page, json!({"action": "accept"}));
                let params = &question["params"];
                assert_eq!(
                    (&params["mode"], &params["url"]),
                    (&json!("url"), &json!("https://example.com/login"))
                );
                assert!(params["elicitationId"].is_string(), "{params}");
                assert_eq!(outcome, "Accepted(())");
            }
            let sampled = json!({"role": "assistant", "content": {"type": "text", "text": "So"}, "model": "m", "stopReason": "endTurn"});
            let (question, outcome) = ask(&session, &format!("model_{runs}"), sampled);
            assert_eq!(question["method"], "sampling/createMessage");
            assert_eq!(
                question["params"],
                json!({"messages": [{"role": "user", "content": {"type": "text", "text": "Why?"}}], "maxTokens": 10,
                       "systemPrompt": "Be brief", "temperature": 0.5, "stopSequences": ["END"]})
            );
            assert!(outcome.contains("\"So\"") && outcome.contains("endTurn"), "{outcome}");
            let (question, outcome) = ask(
                &session,
                &format!("roots_{runs}"),
                json!({"roots": [{"uri": "file:///a", "name": "a"}]}),
            );
            assert_eq!(question["method"], "roots/list");
            assert!(outcome.contains("file:///a"), "{outcome}");
            let (question, outcome) = ask(&session, &format!("ping_{runs}"), json!({}));
            assert_eq!((question["method"].as_str(), outcome.as_str()), (Some("ping"), "()"));
        }
    }
    end(running);
}

#[cfg(feature = "tokio")]
#[test]
fn tokio_handler_sends_server_requests() {
    let tool = Tool::new("tokio").run_tokio(|_: NoArguments, cx: RemoteContext| async move {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let one = describe(cx.ask(Ping).await);
        let other = cx.ask(form("Which?")).await?.accepted().map(|answer| answer.n);
        Ok::<_, CallError>(format!("{one} {other:?}"))
    });
    let running = server().tool(tool).build().start(&observed_config(3, Limits::default())).unwrap();
    let session = open(&running);
    for n in 0..20 {
        let mut reply = session.call(1, "tokio", json!({}));
        session.answer(&reply.message()["id"], json!({}));
        session.answer(&reply.message()["id"], accept(n));
        assert_eq!(reply.text(), format!("() Some({n})"));
    }
    end(running);
}

#[test]
fn url_elicitations_have_distinct_ids() {
    let running = start(2, Limits::default());
    let session = open(&running);
    let mut calls: Vec<SessionReply> =
        (0..8).map(|number| session.call(number, "page_async", json!({}))).collect();
    let ids: std::collections::BTreeSet<String> = calls
        .iter_mut()
        .map(|call| call.message()["params"]["elicitationId"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 8, "the client distinguishes them by their ids: {ids:?}");
    end_with(running, &session, 8);
}

/// Stops a server whose calls no longer wait.
fn end_with(running: Running, session: &Session, calls: usize) {
    for number in 0..calls {
        session.notify("notifications/cancelled", json!({"requestId": number}));
    }
    end(running);
}

#[test]
fn responses_reach_their_calls_from_any_connection() {
    const CALLS: usize = 64;
    let running = start(4, Limits::default());
    let session = open(&running);
    let mut calls: Vec<SessionReply> =
        (0..CALLS).map(|number| session.call(number, "which", json!({"n": number}))).collect();
    let mut questions: Vec<(usize, Value)> = calls
        .iter_mut()
        .enumerate()
        .map(|(number, call)| {
            let question = call.message();
            assert_eq!(question["params"]["message"], number.to_string());
            (number, question["id"].clone())
        })
        .collect();
    let ids: std::collections::BTreeSet<String> = questions.iter().map(|(_, id)| id.to_string()).collect();
    assert_eq!(ids.len(), CALLS);
    // In another order than they were sent.
    questions.sort_by_key(|(number, _)| number * 37 % CALLS);
    for (number, id) in &questions {
        assert_eq!(session.answer(id, accept(1000 + *number as u64)), 202);
    }
    for (number, call) in calls.iter_mut().enumerate() {
        assert_eq!(call.text(), format!("{number} Some({})", 1000 + number));
    }
    end(running);
}

#[test]
fn call_deadline_is_paused_while_server_requests_are_open() {
    let limits = Limits { call_deadline: Duration::from_millis(300), ..Limits::default() };
    let running = start(2, limits);
    let session = open(&running);
    for late in ["one", "other"] {
        let mut reply = session.call(1, "two", json!({}));
        let mut ids: Vec<(String, Value)> = (0..2)
            .map(|_| reply.message())
            .map(|question| {
                (question["params"]["message"].as_str().unwrap().to_owned(), question["id"].clone())
            })
            .collect();
        ids.sort_by_key(|(message, _)| message == late);
        session.answer(&ids[0].1, accept(u64::from(ids[0].0 == "other")));
        // Longer than the deadline of the call.
        thread::sleep(Duration::from_millis(600));
        session.answer(&ids[1].1, accept(u64::from(ids[1].0 == "other")));
        assert_eq!(reply.text(), "Some(0) Some(1)", "{late} was late");
    }
    // Once all are answered, the deadline applies.
    let mut reply = session.call(1, "slow_after", json!({}));
    // The server request waits longer than the deadline of the call.
    thread::sleep(Duration::from_millis(400));
    session.answer(&reply.message()["id"], json!({}));
    let asked = Instant::now();
    assert_eq!(reply.response()["result"]["isError"], true);
    assert!(asked.elapsed() < Duration::from_secs(5));
    assert_eq!(end(running).refusals("deadline"), 1);
}

#[test]
fn client_responses_reach_the_handler_unchanged() {
    let running = start(2, Limits::default());
    let session = open(&running);
    for runs in ["async", "blocking"] {
        let tool = format!("form_{runs}");
        for (answer, expected) in [
            (json!({"action": "decline"}), "Declined"),
            (json!({"action": "cancel"}), "Cancelled"),
            (json!({"action": "dance"}), "error Malformed"),
            (json!({}), "error Malformed"),
        ] {
            assert_eq!(ask(&session, &tool, answer).1, expected);
        }
        let mut reply = session.call(1, &tool, json!({}));
        let id = reply.message()["id"].clone();
        let not_now = json!({"jsonrpc": "2.0", "id": id, "error": {"code": -7, "message": "not now"}});
        assert_eq!(session.post(&not_now).status, 202);
        let outcome = reply.text();
        assert!(
            outcome.contains("Refused") && outcome.contains("-7") && outcome.contains("not now"),
            "{outcome}"
        );
    }
    assert_eq!(ask(&session, "model_async", json!({"content": "a text"})).1, "error Malformed");
    assert_eq!(ask(&session, "roots_async", json!({"roots": 1})).1, "error Malformed");
    // A handler that returns the error.
    let mut reply = session.call(1, "fail", json!({}));
    let id = reply.message()["id"].clone();
    session.post(&json!({"jsonrpc": "2.0", "id": id, "error": {"code": -7, "message": "not now"}}));
    let outcome = reply.response();
    assert_eq!(outcome["error"]["code"], -32603);
    assert!(outcome["error"]["message"].as_str().unwrap().contains("not now"), "{outcome}");
    end(running);
}

#[test]
fn answer_to_a_form_that_is_costly_to_validate_is_refused_and_counted() {
    let running = start(1, Limits { validation_inline_work_max: 1000, ..Limits::default() });
    let session = open(&running);
    let content: Value = (0..1000).map(|number| (format!("n{number}"), json!(number))).collect();
    for tool in ["form_async", "form_blocking"] {
        assert!(ask(&session, tool, accept(7)).1.starts_with("Accepted("), "{tool}");
        let (_, outcome) = ask(&session, tool, json!({"action": "accept", "content": content}));
        assert_eq!(outcome, "error BudgetExceeded", "{tool}");
        let (_, outcome) = ask(&session, tool, json!({"action": "accept", "content": {"n": "7"}}));
        assert_eq!(outcome, "error Malformed", "{tool}");
    }
    assert_eq!(end(running).refusals("answer_work"), 2);
}

#[test]
fn malformed_response_leaves_the_server_request_open() {
    let running = start(4, Limits::default());
    let (session, other) = (open(&running), open(&running));
    let mut reply = session.call(1, "form_async", json!({}));
    let question = reply.message();
    let id = question["id"].as_str().unwrap();
    let mut forged = id.to_owned();
    let last = if forged.pop() == Some('A') { 'B' } else { 'A' };
    forged.push(last);
    let without = Session { id: String::new(), ..session.clone() };
    let response = |id: &Value, result: Value| json!({"jsonrpc": "2.0", "id": id, "result": result});
    for _ in 0..8 {
        for (session, body) in [
            (&other, response(&json!(id), accept(1))),
            (&without, response(&json!(id), accept(1))),
            (&session, response(&json!(forged), accept(1))),
            (&session, response(&json!(0), accept(1))),
            (&session, json!({"jsonrpc": "2.0", "id": id, "result": [1]})),
        ] {
            let mut refused = session.post(&body);
            assert_eq!((refused.status, refused.error_code()), (400, -32600), "{body}");
        }
    }
    assert!(reply.is_quiet());
    session.answer(&question["id"], accept(2));
    assert!(reply.text().starts_with("Accepted("));
    end(running);
}

#[test]
fn surplus_response_is_counted_and_dropped() {
    let running = start(4, Limits::default());
    let session = open(&running);
    let mut reply = session.call(1, "two", json!({}));
    let questions = [reply.message(), reply.message()];
    let place = |number: usize| u64::from(questions[number]["params"]["message"] == "other");
    assert_eq!(session.answer(&questions[0]["id"], accept(place(0))), 202);
    for _ in 0..10 {
        assert_eq!(session.answer(&questions[0]["id"], accept(99)), 202);
    }
    session.answer(&questions[1]["id"], accept(place(1)));
    assert_eq!(reply.text(), "Some(0) Some(1)");
    for _ in 0..10 {
        assert_eq!(session.answer(&questions[1]["id"], accept(99)), 202, "the call has ended");
    }
    assert_eq!(end(running).events("answer_unexpected"), 20);
}

#[test]
fn client_without_the_capability_is_not_asked_and_the_handler_gets_the_reason() {
    let running = start(2, Limits::default());
    let address = running.addresses()[0];
    let nobody = Session::stateless(address);
    let outcome = nobody.call(1, "ping_async", json!({})).text();
    assert!(outcome.contains("CannotWait") && outcome.contains("session"), "{outcome}");
    for (capabilities, able) in [
        (json!({}), ["ping"].as_slice()),
        (json!({"elicitation": {}}), &["ping", "form"]),
        (json!({"elicitation": {"url": {}}}), &["ping", "page"]),
        (json!({"sampling": {}}), &["ping", "model"]),
        (json!({"roots": {"listChanged": true}}), &["ping", "roots"]),
    ] {
        let session = Session::open(address, NEWEST, capabilities.clone());
        for (number, tool) in ["ping", "form", "page", "model", "roots"].into_iter().enumerate() {
            let mut reply = session.call(number, &format!("{tool}_async"), json!({}));
            if able.contains(&tool) {
                assert!(reply.message()["method"].is_string(), "{tool} with {capabilities}");
                session.notify("notifications/cancelled", json!({"requestId": number}));
            } else {
                assert!(reply.text().starts_with("error Unsupported("), "{tool} with {capabilities}");
            }
        }
    }
    // A client that accepts no event stream would not receive the request.
    let session = Session::open(address, NEWEST, ABLE());
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "ping_async"}});
    let mut reply = session.post_with("Accept: application/json\r\n", &call);
    assert!(reply.text().contains("cannot be reached"));
    end(running);
}

#[test]
fn unanswered_blocking_handler_frees_its_thread() {
    let one = Limits { blocking_threads_max: 1, blocking_waiting_max: 1, ..Limits::default() };
    let limits = Limits { question_timeout: Duration::from_millis(200), ..one };
    let config = Config { blocking_threads: Some(1), ..observed_config(1, limits) };
    let running = server().build().start(&config).unwrap();
    let session = open(&running);
    let mut reply = session.call(1, "form_blocking", json!({}));
    reply.message();
    assert_eq!(reply.response()["result"]["isError"], true, "in time");
    assert_eq!(session.call(2, "quick", json!({})).text(), "quick");
    let config = Config { limits: one, ..config };
    let patient = server().build().start(&config).unwrap();
    let session = open(&patient);
    let mut reply = session.call(1, "form_blocking", json!({}));
    reply.message();
    session.notify("notifications/cancelled", json!({"requestId": 1}));
    assert_eq!(session.call(2, "quick", json!({})).text(), "quick", "cancelled during the wait");
    end(running);
    end(patient);
}

#[test]
fn unanswered_blocking_calls_do_not_delay_others() {
    let limits = Limits { blocking_threads_max: 1, blocking_waiting_max: 8, ..Limits::default() };
    let config = Config { blocking_threads: Some(1), ..observed_config(1, limits) };
    let running = server().build().start(&config).unwrap();
    let tools = ["form_blocking", "page_blocking", "model_blocking", "roots_blocking", "ping_blocking"];
    let mut silent = Vec::new();
    for tool in tools.into_iter().cycle().take(8) {
        let session = open(&running);
        let mut reply = session.call(1, tool, json!({}));
        assert!(reply.message()["method"].is_string(), "{tool}");
        silent.push((session, reply));
    }
    let session = open(&running);
    assert_eq!(session.call(1, "quick", json!({})).text(), "quick");
    // At the limit of waiting calls one more server request is rejected, and the thread is free again.
    let refused = session.call(2, "ping_blocking", json!({})).text();
    assert!(refused.contains("CannotWait") && refused.contains("blocking_waiting_max"), "{refused}");
    assert_eq!(session.call(3, "quick", json!({})).text(), "quick");
    // When one call ends, its slot is free.
    silent[0].0.notify("notifications/cancelled", json!({"requestId": 1}));
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        // A rejection is immediate and in JSON; a server request begins a stream.
        if session.call(4, "ping_blocking", json!({})).is_stream() {
            break;
        }
        assert!(Instant::now() < until, "the slot of a cancelled call was not freed");
    }
    session.notify("notifications/cancelled", json!({"requestId": 4}));
    for (session, _reply) in &silent[1..] {
        session.notify("notifications/cancelled", json!({"requestId": 1}));
    }
    drop(silent);
    end(running);
}

#[test]
fn server_request_on_a_broken_stream_is_answered_and_the_result_replayed() {
    let running = start(3, Limits::default());
    for n in 0..6 {
        let session = open(&running);
        let mut reply = session.call(1, "which", json!({"n": n}));
        let question = loop {
            let event = reply.event().unwrap();
            if event.data.is_some() {
                break event;
            }
        };
        if n % 2 == 0 {
            // As if the client only closed its sending side: the server detects the disconnect when it writes.
            drop(reply);
        } else {
            reply.reset();
            await_metric(running.admin_address().unwrap(), "corelane_replay_streams_attached", 0.0);
        }
        assert_eq!(session.answer(&question.data.as_ref().unwrap()["id"], accept(n)), 202);
        assert_eq!(session.get(question.id.as_deref()).text(), format!("{n} Some({n})"));
    }
    end(running);
}

/// Each kind of question names its capability, and a custom key is kept.
#[test]
fn questions_name_the_capability_they_need() {
    assert_eq!(form("x").key("k").needs(), Form::<Which>::new("y").needs());
    assert_eq!(Question::key(&form("x").key("k")), Some("k"));
    assert_eq!(Ping.needs(), None);
}
