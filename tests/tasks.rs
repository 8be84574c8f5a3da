//! The tasks extension, end to end.
//! <https://github.com/modelcontextprotocol/ext-tasks/blob/main/specification/2026-07-28/tasks.md>

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use corelane::{
    CallError, Capability, Config, Context, Elicited, Form, Limits, NoArguments, ProtocolError, Running,
    Server, ServerBuilder, TaskTerms, Tool, time::sleep,
};
use serde_json::{Value, json};
use support::{
    eventually,
    peer::{
        Answer, LOG_LEVEL, Peer, PeerRequest, SUBSCRIPTION, config, connect, connect_to, end, shard_tool,
        start,
    },
};

const TASKS: &str = "io.modelcontextprotocol/tasks";

fn terms() -> TaskTerms {
    TaskTerms { ttl: Some(Duration::from_secs(60)), poll_interval: Duration::from_millis(50) }
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Name {
    name: String,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Wait {
    ms: u64,
}

fn server() -> ServerBuilder {
    let server = Server::builder("test", "0")
        .tool(shard_tool())
        .tool(Tool::new("slow").input::<Wait>().task(terms()).run_async(async |wait: Wait, _| {
            sleep(Duration::from_millis(wait.ms)).await;
            "slept"
        }))
        .tool(Tool::new("at_once").task(terms()).run_async(async |_: NoArguments, _| "at once"))
        .tool(Tool::new("by_itself").run_async(async |_: NoArguments, cx: Context| {
            let is_task = cx.become_task(terms())?;
            sleep(Duration::from_millis(20)).await;
            Ok::<_, CallError>(format!("task: {is_task}"))
        }))
        .tool(
            Tool::new("only_task")
                .requires(Capability::Tasks)
                .task(terms())
                .run_async(async |_: NoArguments, _| "as a task"),
        )
        .tool(Tool::new("only_task_too").run_async(async |_: NoArguments, cx: Context| {
            cx.require_task(terms())?;
            Ok::<_, ProtocolError>("as a task")
        }))
        .tool(Tool::new("blocking").task(terms()).run_blocking(|_: NoArguments, cx| {
            thread::sleep(Duration::from_millis(20));
            format!("blocking, cancelled: {}", cx.is_cancelled())
        }))
        .tool(
            Tool::new("returns_error")
                .task(terms())
                .run_async(async |_: NoArguments, _| Err::<(), _>("no luck".to_owned())),
        )
        .tool(Tool::new("fails").task(terms()).run_async(async |_: NoArguments, _| {
            let data = Some(json!({"why": "x"}));
            Err::<(), _>(ProtocolError { code: -32603, message: "broken }}".into(), data })
        }))
        .tool(Tool::new("panics").task(terms()).run_async(async |_: NoArguments, _| panic!("no") as &str))
        .tool(
            Tool::new("structured")
                .task(terms())
                .output_schema(json!({"type": "object"}))
                .run_async(async |_: NoArguments, _| json!({"a": {"b": {}}})),
        )
        .tool(Tool::new("asks").task(terms()).run_async(async |_: NoArguments, cx: Context| {
            cx.progress(1.0, None, None);
            cx.log(corelane::Level::Error, "not delivered");
            let first = cx.elicit(Form::<Name>::new("First?").key("first")).await?;
            let second = cx.elicit(Form::<Name>::new("Second?").key("second")).await?;
            let name_of =
                |name: Elicited<Name>| name.accepted().map_or("nobody".to_owned(), |name| name.name);
            Ok::<_, CallError>(format!("{} and {}", name_of(first), name_of(second)))
        }))
        .tool(Tool::new("asks_blocking").task(terms()).run_blocking(|_: NoArguments, cx| {
            let name = cx.block_on(cx.elicit(Form::<Name>::new("Who?").key("who")))?;
            Ok::<_, CallError>(format!("blocking {}", name.action()))
        }));
    #[cfg(feature = "tokio")]
    let server =
        server.tool(Tool::new("asks_tokio").task(terms()).run_tokio(|_: NoArguments, cx| async move {
            let name = cx.elicit(Form::<Name>::new("Who?").key("who")).await?;
            Ok::<_, CallError>(format!("tokio {}", name.action()))
        }));
    server
}

fn with_tasks() -> Value {
    json!({"elicitation": {}, "extensions": {TASKS: {}}})
}

fn call(tool: &str) -> PeerRequest {
    PeerRequest::call(tool, json!({})).can(with_tasks())
}

fn about(method: &'static str, task: &Value) -> PeerRequest {
    PeerRequest::new(method, json!({"taskId": task})).can(with_tasks())
}

/// Calls a tool that becomes a task; returns the task id.
#[track_caller]
fn create(peer: &mut Peer, ask: &PeerRequest) -> Value {
    let answer = peer.request(ask);
    assert_eq!(answer.result()["resultType"], "task", "{}", answer.last());
    assert!(!answer.is_stream, "a task sends nothing on the stream of its request");
    answer.result()["taskId"].clone()
}

#[track_caller]
fn get(peer: &mut Peer, task: &Value) -> Value {
    let answer = peer.request(&about("tasks/get", task));
    check_task(answer.result());
    answer.result().clone()
}

/// Polls until the task has this status.
#[track_caller]
fn wait_for(peer: &mut Peer, task: &Value, status: &str) -> Value {
    let mut last = Value::Null;
    eventually(&format!("the status {status}"), || {
        let view = get(peer, task);
        let has_status = view["status"] == status;
        assert!(has_status || last["status"] != "completed", "{last} then {view}");
        last = view;
        has_status
    });
    last
}

/// Checks the fields of a task, and those that only some statuses have.
#[track_caller]
fn check_task(view: &Value) {
    let status = view["status"].as_str().unwrap();
    assert!(view["taskId"].as_str().unwrap().len() >= 32, "{view}");
    for moment in ["createdAt", "lastUpdatedAt"] {
        let moment = view[moment].as_str().unwrap();
        assert!(moment.len() == "2026-07-28T00:00:00.000Z".len() && moment.ends_with('Z'), "{moment}");
    }
    assert!(view["lastUpdatedAt"].as_str() >= view["createdAt"].as_str(), "{view}");
    assert_eq!((&view["ttlMs"], &view["pollIntervalMs"]), (&json!(60_000), &json!(50)), "{view}");
    for absent in ["task", "ttl", "pollInterval", "requestState"] {
        assert!(view.get(absent).is_none(), "{absent}: {view}");
    }
    for (member, of) in [("result", "completed"), ("error", "failed"), ("inputRequests", "input_required")] {
        assert_eq!(view.get(member).is_some(), status == of, "{member}: {view}");
    }
}

#[test]
fn tasks_extension_is_declared_without_the_legacy_capability() {
    let running = start(server(), 1, Limits::default());
    let discovered = connect(&running).request(&PeerRequest::new("server/discover", json!({})));
    let capabilities = &discovered.result()["capabilities"];
    assert_eq!(capabilities["extensions"][TASKS], json!({}));
    assert!(capabilities.get("tasks").is_none(), "{capabilities}");
    end(running);
}

#[test]
fn optional_task_tool_runs_synchronously_without_the_extension() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    for (tool, text) in
        [("at_once", "at once"), ("by_itself", "task: false"), ("blocking", "blocking, cancelled: false")]
    {
        for capabilities in [json!({}), json!({"extensions": {}}), json!({"extensions": {TASKS: true}})] {
            // Parameters of other revisions are ignored.
            let ask = PeerRequest::call(tool, json!({})).can(capabilities).with("task", json!({"ttl": 1000}));
            let answer = peer.request(&ask);
            assert_eq!(
                (answer.result()["resultType"].as_str(), answer.text().as_str()),
                (Some("complete"), text)
            );
        }
    }
    let legacy = support::Client::connect(running.addresses()[0]).call("at_once", json!({}));
    assert_eq!(legacy["content"][0]["text"], "at once");
    end(running);
}

#[test]
fn task_only_tool_without_the_extension_names_the_missing_capability() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    for tool in ["only_task", "only_task_too"] {
        let answer = peer.request(&PeerRequest::call(tool, json!({})));
        assert_eq!(answer.refused(), (400, -32021), "{tool}");
        let needed = &answer.error()["data"]["requiredCapabilities"];
        assert_eq!(needed, &json!({"extensions": {TASKS: {}}}), "{tool}");
        let task = create(&mut peer, &call(tool));
        let view = wait_for(&mut peer, &task, "completed");
        assert_eq!(view["result"]["content"][0]["text"], "as a task");
    }
    end(running);
}

#[test]
fn task_is_returned_immediately_and_its_result_on_get() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let ask = PeerRequest::call("slow", json!({"ms": 300}))
        .can(with_tasks())
        .id("the-call")
        .token("p")
        .meta(LOG_LEVEL, "debug");
    let asked = Instant::now();
    let created = peer.request(&ask);
    assert!(asked.elapsed() < Duration::from_millis(250), "{:?}", asked.elapsed());
    assert!(!created.is_stream);
    let created = created.result();
    assert_eq!((created["resultType"].as_str(), created["status"].as_str()), (Some("task"), Some("working")));
    check_task(created);
    let task = created["taskId"].clone();
    let view = get(&mut peer, &task);
    assert_eq!((view["resultType"].as_str(), view["status"].as_str()), (Some("complete"), Some("working")));
    let view = wait_for(&mut peer, &task, "completed");
    assert_eq!(view["result"]["content"], json!([{"type": "text", "text": "slept"}]));
    assert_eq!(view["result"]["resultType"], "complete");
    support::schema::check_modern("CallToolResult", &view["result"]);
    assert_eq!(view["createdAt"], created["createdAt"]);
    // Long enough that a time taken from the clock would differ.
    thread::sleep(Duration::from_millis(20));
    assert_eq!(get(&mut peer, &task), view, "and it does not change");
    end(running);
}

#[test]
fn immediately_completed_calls_are_still_returned_as_tasks() {
    let running = start(server(), 2, Limits::default());
    let mut peers = [connect_to(&running, 0), connect_to(&running, 1)];
    for round in 0..50 {
        for tool in ["at_once", "by_itself", "blocking"] {
            let (here, there) = (round % 2, (round + 1) % 2);
            let task = create(&mut peers[here], &call(tool));
            // From any shard, immediately.
            get(&mut peers[there], &task);
            let view = wait_for(&mut peers[there], &task, "completed");
            assert!(view["result"]["content"][0]["text"].is_string(), "{view}");
        }
    }
    end(running);
}

#[test]
fn task_status_reports_every_kind_of_completion() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let task = create(&mut peer, &call("returns_error"));
    let view = wait_for(&mut peer, &task, "completed");
    assert_eq!(
        (&view["result"]["isError"], &view["result"]["content"][0]["text"]),
        (&json!(true), &json!("no luck"))
    );
    let task = create(&mut peer, &call("fails"));
    let view = wait_for(&mut peer, &task, "failed");
    assert_eq!(view["error"], json!({"code": -32603, "message": "broken }}", "data": {"why": "x"}}));
    let task = create(&mut peer, &call("panics"));
    let view = wait_for(&mut peer, &task, "failed");
    assert_eq!(view["error"]["code"], -32603);
    let task = create(&mut peer, &call("structured"));
    let view = wait_for(&mut peer, &task, "completed");
    assert_eq!(view["result"]["structuredContent"], json!({"a": {"b": {}}}));
    end(running);
}

#[test]
fn task_is_found_from_every_shard_by_its_id() {
    const SHARDS: usize = 3;
    let running = start(server(), SHARDS, Limits::default());
    let mut peers: Vec<Peer> = (0..SHARDS).map(|shard| connect_to(&running, shard)).collect();
    for owner in 0..SHARDS {
        let task =
            create(&mut peers[owner], &PeerRequest::call("slow", json!({"ms": 100})).can(with_tasks()));
        for peer in &mut peers {
            assert_eq!(get(peer, &task)["taskId"], task);
        }
        for peer in &mut peers {
            wait_for(peer, &task, "completed");
        }
    }
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..20 {
        ids.insert(create(&mut peers[0], &call("at_once")).to_string());
    }
    assert_eq!(ids.len(), 20);
    end(running);
}

#[test]
fn task_input_is_answered_in_parts_from_any_shard() {
    let running = start(server(), 2, Limits::default());
    let (mut owner, mut other) = (connect_to(&running, 0), connect_to(&running, 1));
    let task = create(&mut owner, &call("asks").token("p").meta(LOG_LEVEL, "debug"));
    let view = wait_for(&mut other, &task, "input_required");
    let asked = &view["inputRequests"];
    assert_eq!(asked.as_object().unwrap().keys().collect::<Vec<_>>(), ["first"]);
    assert_eq!(asked["first"]["method"], "elicitation/create");
    assert_eq!(asked["first"]["params"]["message"], "First?");
    assert!(asked["first"].get("id").is_none() && asked["first"].get("jsonrpc").is_none());
    support::schema::check_modern("InputRequests", asked);

    let update = |responses: Value| about("tasks/update", &task).with("inputResponses", responses);
    // Unknown keys are ignored, and an empty update is accepted.
    for responses in [json!({}), json!({"second": {"action": "cancel"}, "other": {"action": "accept"}})] {
        let acknowledged = other.request(&update(responses));
        assert_eq!(acknowledged.result()["resultType"], "complete");
        assert_eq!(
            acknowledged.result().as_object().unwrap().keys().collect::<Vec<_>>(),
            ["resultType", "_meta"]
        );
        assert_eq!(get(&mut owner, &task)["status"], "input_required");
    }
    other.request(&update(json!({"first": {"action": "accept", "content": {"name": "Ada"}}}))).result();
    eventually("the second question", || get(&mut other, &task)["inputRequests"].get("second").is_some());
    let view = get(&mut owner, &task);
    assert_eq!(view["inputRequests"].as_object().unwrap().len(), 1, "only outstanding requests: {view}");
    // The first has been answered already.
    let again =
        json!({"first": {"action": "accept", "content": {"name": "Eve"}}, "second": {"action": "decline"}});
    owner.request(&update(again)).result();
    let view = wait_for(&mut other, &task, "completed");
    assert_eq!(view["result"]["content"][0]["text"], "Ada and nobody");
    // The task has ended: acknowledged without effect.
    other.request(&update(json!({"second": {"action": "accept", "content": {"name": "Eve"}}}))).result();
    assert_eq!(get(&mut owner, &task), view);
    end(running);
}

#[test]
fn blocking_and_tokio_tasks_wait_for_early_input_requests() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let tools: &[&str] = &[
        "asks_blocking",
        #[cfg(feature = "tokio")]
        "asks_tokio",
    ];
    for round in 0..30 {
        for tool in tools {
            let task = create(&mut peer, &call(tool));
            let view = wait_for(&mut peer, &task, "input_required");
            assert_eq!(view["inputRequests"]["who"]["params"]["message"], "Who?", "{round}");
            let responses = json!({"who": {"action": "decline"}});
            peer.request(&about("tasks/update", &task).with("inputResponses", responses)).result();
            let view = wait_for(&mut peer, &task, "completed");
            let text = view["result"]["content"][0]["text"].as_str().unwrap();
            assert!(text.ends_with("decline"), "{round} {tool} {text}");
        }
    }
    end(running);
}

#[test]
fn malformed_task_input_is_rejected() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let task = create(&mut peer, &call("asks"));
    for responses in [json!(null), json!([]), json!("x"), json!({"first": null}), json!({"first": "accept"})]
    {
        let answer = peer.request(&about("tasks/update", &task).with("inputResponses", responses.clone()));
        assert_eq!(answer.refused(), (200, -32602), "{responses}");
    }
    let answer = peer.request(&about("tasks/update", &task));
    assert_eq!(answer.refused(), (200, -32602), "no responses");
    assert_eq!(wait_for(&mut peer, &task, "input_required")["status"], "input_required");
    end(running);
}

/// A running handler, which is counted until it ends or is dropped.
struct Active(Arc<AtomicUsize>);

impl Active {
    fn count(active: &Arc<AtomicUsize>) -> Self {
        active.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(active))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn cancelled_task_stops_and_stays_cancelled() {
    let inside = Arc::new(AtomicUsize::new(0));
    let inside_handler = Arc::clone(&inside);
    let tool = Tool::new("forever").task(terms()).run_async(async move |_: NoArguments, _| {
        let _active = Active::count(&inside_handler);
        sleep(Duration::from_secs(600)).await;
    });
    let running = start(server().tool(tool), 2, Limits::default());
    let (mut owner, mut other) = (connect_to(&running, 0), connect_to(&running, 1));
    let task = create(&mut owner, &call("forever"));
    eventually("its start", || inside.load(Ordering::SeqCst) == 1);
    let acknowledged = other.request(&about("tasks/cancel", &task));
    assert_eq!(
        acknowledged.result().as_object().unwrap().keys().collect::<Vec<_>>(),
        ["resultType", "_meta"]
    );
    let view = wait_for(&mut owner, &task, "cancelled");
    eventually("its end", || inside.load(Ordering::SeqCst) == 0);
    // Cancelled again: acknowledged without effect.
    owner.request(&about("tasks/cancel", &task)).result();
    assert_eq!(get(&mut other, &task), view);
    // A task that waits for input, and a task that has ended.
    let asking = create(&mut owner, &call("asks"));
    wait_for(&mut owner, &asking, "input_required");
    other.request(&about("tasks/cancel", &asking)).result();
    wait_for(&mut other, &asking, "cancelled");
    let ended = create(&mut owner, &call("at_once"));
    let view = wait_for(&mut owner, &ended, "completed");
    other.request(&about("tasks/cancel", &ended)).result();
    assert_eq!(get(&mut owner, &ended), view);
    end(running);
}

#[test]
fn cancelled_task_waiting_for_input_frees_its_thread() {
    let limits = Limits { blocking_threads_max: 1, blocking_waiting_max: 1, ..Limits::default() };
    let config = Config { blocking_threads: Some(1), ..config(1, limits) };
    let running = server().build().start(&config).unwrap();
    let mut peer = connect(&running);
    for round in 0..5 {
        let task = create(&mut peer, &call("asks_blocking"));
        wait_for(&mut peer, &task, "input_required");
        peer.request(&about("tasks/cancel", &task)).result();
        wait_for(&mut peer, &task, "cancelled");
        let answer = peer.request(&PeerRequest::call("blocking", json!({})));
        assert_eq!(answer.text(), "blocking, cancelled: false", "{round}");
    }
    end(running);
}

#[test]
fn call_that_sent_progress_becomes_a_task_without_further_messages() {
    let tool = Tool::new("speaks").run_async(async |_: NoArguments, cx: Context| {
        cx.progress(1.0, None, None);
        sleep(Duration::from_millis(20)).await;
        cx.require_task(terms())?;
        cx.progress(2.0, None, None);
        cx.log(corelane::Level::Error, "not delivered");
        sleep(Duration::from_millis(20)).await;
        cx.progress(3.0, None, None);
        Ok::<_, ProtocolError>("spoken")
    });
    let running = start(server().tool(tool), 1, Limits::default());
    let mut peer = connect(&running);
    let answer = peer.request(&call("speaks").token("p").meta(LOG_LEVEL, "debug"));
    assert!(answer.is_stream);
    let progress: Vec<_> = answer.notes().iter().map(|note| note["params"]["progress"].clone()).collect();
    assert_eq!(progress, [1]);
    assert_eq!(answer.result()["resultType"], "task");
    let task = answer.result()["taskId"].clone();
    // The connection continues and receives only replies.
    let view = wait_for(&mut peer, &task, "completed");
    assert_eq!(view["result"]["content"][0]["text"], "spoken");
    // After the stream began the error cannot have a status.
    let answer = peer.request(&PeerRequest::call("speaks", json!({})).token("p"));
    assert_eq!((answer.is_stream, answer.refused()), (true, (200, -32021)));
    end(running);
}

#[test]
fn task_continues_after_its_connection_closes() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let task = create(&mut peer, &PeerRequest::call("slow", json!({"ms": 200})).can(with_tasks()));
    drop(peer);
    let mut peer = connect(&running);
    assert_eq!(get(&mut peer, &task)["status"], "working");
    wait_for(&mut peer, &task, "completed");
    end(running);
}

#[test]
fn removed_task_methods_and_clients_without_the_extension_are_rejected() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    for method in ["tasks/result", "tasks/list"] {
        assert_eq!(
            peer.request(&PeerRequest::new(method, json!({"taskId": "x"})).can(with_tasks())).refused(),
            (404, -32601)
        );
    }
    let task = create(&mut peer, &call("at_once"));
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        for capabilities in [json!({}), json!({"extensions": {}}), json!({"tasks": {}})] {
            let answer = peer.request(&about(method, &task).can(capabilities));
            assert_eq!(answer.refused(), (400, -32021), "{method}");
            let needed = &answer.error()["data"]["requiredCapabilities"];
            assert_eq!(needed, &json!({"extensions": {TASKS: {}}}));
        }
    }
    end(running);
}

#[test]
fn task_name_header_must_match_the_task_id() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let task = create(&mut peer, &call("at_once"));
    let whole = String::from_utf8(about("tasks/get", &task).bytes()).unwrap();
    let line = format!("Mcp-Name: {}\r\n", task.as_str().unwrap());
    assert!(whole.contains(&line));
    for instead in ["", "Mcp-Name: other\r\n"] {
        peer.send(whole.replace(&line, instead));
        let answer = peer.answer(&about("tasks/get", &task));
        assert_eq!(answer.refused(), (400, -32020), "{instead:?}");
    }
    end(running);
}

#[test]
fn forged_or_malformed_task_ids_are_unknown() {
    let running = start(server(), 2, Limits::default());
    let other = start(server(), 2, Limits::default());
    let mut peer = connect(&running);
    let own = create(&mut peer, &call("at_once"));
    let text = own.as_str().unwrap();
    let foreign = create(&mut connect(&other), &call("at_once"));
    let flipped = |position: usize| {
        let mut bytes = text.as_bytes().to_vec();
        bytes[position] = if bytes[position] == b'A' { b'B' } else { b'A' };
        json!(String::from_utf8(bytes).unwrap())
    };
    let mut forged = vec![foreign, json!(""), json!("1"), json!(&text[1..]), json!(format!("{text}A"))];
    forged.extend((0..text.len()).step_by(7).map(flipped));
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        for id in &forged {
            let answer = peer.request(&about(method, id).with("inputResponses", json!({})));
            assert_eq!(answer.refused(), (200, -32602), "{method} {id}");
        }
        for id in [json!(7), json!(null), json!({})] {
            let answer = peer.request(&about(method, &id).with("inputResponses", json!({})));
            assert_eq!(answer.refused(), (200, -32602), "{method} {id}");
        }
    }
    assert_eq!(wait_for(&mut peer, &own, "completed")["status"], "completed");
    end(running);
    end(other);
}

#[test]
fn tasks_are_kept_until_their_time_to_live() {
    let limits = Limits { task_ttl: Duration::from_secs(1), tasks_max: 2, ..Limits::default() };
    let short = TaskTerms { ttl: None, poll_interval: Duration::from_millis(10) };
    let inside = Arc::new(AtomicUsize::new(0));
    let inside_handler = Arc::clone(&inside);
    let server = server()
        .tool(Tool::new("short").task(short).run_async(async |_: NoArguments, _| "short"))
        .tool(Tool::new("long").task(short).run_async(async move |_: NoArguments, _| {
            let _active = Active::count(&inside_handler);
            sleep(Duration::from_secs(600)).await;
        }));
    let running = start(server, 1, limits);
    let mut peer = connect(&running);
    for round in 0..2 {
        let began = Instant::now();
        // One task ends, the other does not: both expire and free their slots.
        let tasks = [create(&mut peer, &call("short")), create(&mut peer, &call("long"))];
        assert_eq!(
            peer.request(&call("short")).refused(),
            (503, -32000),
            "{round}: a third task is rejected"
        );
        assert_eq!(inside.load(Ordering::SeqCst), 1);
        for task in &tasks {
            let mut found = 0;
            eventually("its expiry", || {
                let asked = Instant::now();
                let answer = peer.request(&about("tasks/get", task));
                if answer.error().is_null() {
                    assert_eq!(answer.result()["ttlMs"], 1000);
                    found += 1;
                    return false;
                }
                assert_eq!(answer.refused(), (200, -32602));
                // Not before the announced time.
                assert!(Instant::now() - began >= Duration::from_millis(1000), "{:?}", asked - began);
                true
            });
            assert!(found > 0 || task != &tasks[0], "{round}");
        }
        eventually("the end of the running calls", || inside.load(Ordering::SeqCst) == 0);
    }
    let metrics = end(running);
    assert_eq!(metrics.refusals("busy"), 2);
}

#[test]
fn task_beyond_the_limit_is_rejected_and_slots_are_reused() {
    let limits = Limits { tasks_max: 3, task_ttl: Duration::from_secs(1), ..Limits::default() };
    let terms = TaskTerms { ttl: Some(Duration::from_secs(1)), poll_interval: Duration::from_millis(10) };
    let server = Server::builder("test", "0")
        .tool(Tool::new("kept").task(terms).run_async(async |_: NoArguments, _| "kept"))
        .tool(Tool::new("asks").run_async(async move |_: NoArguments, cx: Context| {
            cx.progress(1.0, None, None);
            sleep(Duration::from_millis(10)).await;
            cx.become_task(terms)?;
            Ok::<_, CallError>("asks")
        }));
    let running = start(server, 1, limits);
    let mut peer = connect(&running);
    for _ in 0..3 {
        create(&mut peer, &call("kept"));
    }
    let busy = peer.request(&call("kept"));
    assert_eq!(busy.refused(), (503, -32000));
    assert!(busy.header("retry-after").is_some());
    // Once the stream has begun, the status has been sent.
    let busy = peer.request(&call("asks").token("p"));
    assert_eq!((busy.is_stream, busy.refused()), (true, (200, -32000)));
    assert_eq!(
        peer.request(&PeerRequest::call("kept", json!({}))).text(),
        "kept",
        "a client without the extension is served"
    );
    eventually("a free slot", || peer.request(&call("kept")).status == 200);
    end(running);
}

/// Opens a subscription to tasks and returns the acknowledged filter.
fn listen(peer: &mut Peer, tasks: &[&Value]) -> Value {
    peer.open(&PeerRequest::listen(json!({"taskIds": tasks})).can(with_tasks()).id("listen"));
    peer.message()["params"]["notifications"].clone()
}

/// The next change of a task.
#[track_caller]
fn next_change(peer: &mut Peer) -> Value {
    let message = peer.message();
    assert_eq!(message["method"], "notifications/tasks", "{message}");
    let params = message["params"].clone();
    assert_eq!(params["_meta"], json!({SUBSCRIPTION: "listen"}), "{message}");
    assert!(params.get("resultType").is_none(), "{message}");
    check_task(&params);
    params
}

#[test]
fn task_changes_are_published_on_every_shard() {
    const SHARDS: usize = 3;
    let running = start(server(), SHARDS, Limits::default());
    let mut asker = connect_to(&running, 0);
    let task = create(&mut asker, &PeerRequest::call("slow", json!({"ms": 400})).can(with_tasks()));
    let other = create(&mut asker, &PeerRequest::call("slow", json!({"ms": 200})).can(with_tasks()));
    let mut listeners: Vec<Peer> = (0..SHARDS).map(|shard| connect_to(&running, shard)).collect();
    for listener in &mut listeners {
        assert_eq!(listen(listener, &[&task]), json!({"taskIds": [task]}));
    }
    for listener in &mut listeners {
        let params = next_change(listener);
        assert_eq!(
            (&params["taskId"], &params["status"]),
            (&task, &json!("completed")),
            "not the task {other}"
        );
        assert_eq!(params["result"]["content"][0]["text"], "slept");
    }
    end(running);
}

#[test]
fn task_input_and_completion_events_arrive_in_order() {
    let running = start(server(), 2, Limits::default());
    let (mut asker, mut listener) = (connect_to(&running, 0), connect_to(&running, 1));
    let task = create(&mut asker, &call("asks").token("p").meta(LOG_LEVEL, "debug"));
    wait_for(&mut asker, &task, "input_required");
    listen(&mut listener, &[&task]);
    let answer = |peer: &mut Peer, key: &str| {
        let responses = json!({key: {"action": "accept", "content": {"name": key}}});
        peer.request(&about("tasks/update", &task).with("inputResponses", responses)).result().clone()
    };
    answer(&mut asker, "first");
    // Changes in quick succession may be coalesced.
    let mut view = next_change(&mut listener);
    if view["status"] == "working" {
        view = next_change(&mut listener);
    }
    assert_eq!(view["inputRequests"].as_object().unwrap().keys().collect::<Vec<_>>(), ["second"]);
    answer(&mut asker, "second");
    let mut view = next_change(&mut listener);
    if view["status"] == "working" {
        view = next_change(&mut listener);
    }
    assert_eq!(
        (&view["status"], &view["result"]["content"][0]["text"]),
        (&json!("completed"), &json!("first and second"))
    );
    listener.expect_quiet(Duration::from_millis(50));

    let task = create(&mut asker, &call("asks"));
    let mut listener = connect_to(&running, 1);
    listen(&mut listener, &[&task]);
    asker.request(&about("tasks/cancel", &task)).result();
    let mut view = next_change(&mut listener);
    while view["status"] != "cancelled" {
        view = next_change(&mut listener);
    }
    end(running);
}

#[test]
fn task_subscription_without_the_extension_is_rejected() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let task = create(&mut peer, &call("at_once"));
    let answer = peer.request(&PeerRequest::listen(json!({"taskIds": [task], "toolsListChanged": true})));
    assert_eq!(answer.refused(), (400, -32021));
    assert_eq!(answer.error()["data"]["requiredCapabilities"], json!({"extensions": {TASKS: {}}}));
    for filter in [json!({"taskIds": "x"}), json!({"taskIds": [1]}), json!({"taskIds": {}})] {
        assert_eq!(peer.request(&PeerRequest::listen(filter).can(with_tasks())).refused(), (200, -32602));
    }
    end(running);
}

#[test]
fn task_id_of_a_shard_that_no_longer_exists_is_unknown() {
    let secret = std::env::temp_dir().join(format!("corelane-tasks-{}", std::process::id()));
    std::fs::File::create(&secret).unwrap().write_all(b"f3Kq8Zr1xWm5Tn7Yb2Vc9Lp4Hd6Gs0Ja").unwrap();
    let serve = |shards: usize| -> Running {
        let config = Config { secret_file: Some(secret.clone()), ..config(shards, Limits::default()) };
        server().build().start(&config).unwrap()
    };
    let running = serve(2);
    let task = create(&mut connect_to(&running, 1), &call("at_once"));
    end(running);
    for shards in [1, 2] {
        let running = serve(shards);
        for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
            let answer: Answer =
                connect(&running).request(&about(method, &task).with("inputResponses", json!({})));
            assert_eq!(answer.refused(), (200, -32602), "{method} of {shards}");
        }
        end(running);
    }
    std::fs::remove_file(secret).unwrap();
}
