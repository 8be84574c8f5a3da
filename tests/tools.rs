//! Tools of every kind, behaving and misbehaving, through the builder of the library.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use corelane::{
    Annotations, BorrowedArguments, Config, Content, Icon, Limits, NoArguments, ProtocolError, Reply, Role,
    Running, Server, ServerBuilder, StartError, Structured, Tool, ToolAnnotations, time,
};
use serde_json::{Value, json};
use support::{
    Client, DropCounter, await_calls_in_flight, await_metric, eventually, metric, modern, peer::end, post,
    settled,
};

fn start(server: ServerBuilder, limits: Limits) -> Running {
    server.build().start(&config(limits)).unwrap()
}

fn config(limits: Limits) -> Config {
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    Config { listen: vec![any.into()], admin: Some(any), shards: Some(1), limits, ..Config::default() }
}

fn connect(running: &Running) -> Client {
    Client::connect(running.addresses()[0])
}

fn call(tool: &str) -> String {
    json!({"jsonrpc": "2.0", "id": tool, "method": "tools/call", "params": {"name": tool}}).to_string()
}

#[allow(clippy::unused_unit, reason = "the type of a tool that never returns must be named")]
fn server() -> ServerBuilder {
    Server::builder("test", "0")
        .tool(Tool::new("panic_inline").run(|_, _| -> String { panic!("inline") }))
        .tool(Tool::new("panic_async").run_async(async |_, _| -> String { panic!("async") }))
        .tool(Tool::new("panic_blocking").run_blocking(|_, _| -> String { panic!("blocking") }))
        .tool(Tool::new("fail").run(|_, _| -> Result<String, String> { Err("no luck".to_owned()) }))
        .tool(Tool::new("nothing").run(|_: NoArguments, _| ()))
        .tool(Tool::new("wait").run_async(async |_, _| {
            time::sleep(Duration::from_secs(1)).await;
            "waited"
        }))
}

#[test]
fn panicking_tool_returns_an_error_and_the_shard_continues() {
    let running = start(server(), Limits::default());
    let mut client = connect(&running);
    for tool in ["panic_inline", "panic_async", "panic_blocking"] {
        let reply = client.post("", call(tool));
        assert_eq!((reply.status, reply.error_code()), (200, -32603), "{tool}");
        assert_eq!(reply.json()["id"], tool);
        assert_eq!(reply.json()["error"]["message"], "The tool failed", "no internal detail is disclosed");
    }
    let metrics = end(running);
    assert_eq!(metrics.refusals("tool_panicked"), 3);
}

#[test]
fn failing_tool_returns_is_error_and_empty_results_are_valid() {
    let running = start(server(), Limits::default());
    let mut client = connect(&running);
    let failed = client.post("", call("fail")).json()["result"].clone();
    assert_eq!(failed, json!({"content": [{"type": "text", "text": "no luck"}], "isError": true}));
    assert_eq!(client.post("", call("nothing")).json()["result"], json!({"content": []}));
    end(running);
}

#[test]
fn call_beyond_the_concurrency_limit_is_rejected_as_busy() {
    let limits = Limits { calls_in_flight_max: 4, ..Limits::default() };
    let running = start(server(), limits);
    let mut waiting: Vec<Client> = (0..4).map(|_| connect(&running)).collect();
    for client in &mut waiting {
        client.send(post("", call("wait")));
    }
    await_calls_in_flight(&running, 4);
    let refused = connect(&running).post("", call("wait"));
    assert_eq!((refused.status, refused.error_code()), (503, -32000));
    assert_eq!(refused.json()["id"], "wait");
    for client in &mut waiting {
        assert_eq!(client.read().json()["result"]["content"][0]["text"], "waited");
    }
    assert_eq!(connect(&running).post("", call("wait")).status, 200, "the slot is free again");
    assert_eq!(end(running).refusals("busy"), 1);
}

#[test]
fn replies_of_async_tools_count_towards_the_outbox_limit() {
    let big = Tool::new("big").run_async(async |_: NoArguments, _| "x".repeat(1024 * 1024));
    let running = start(Server::builder("test", "0").tool(big), Limits::default());
    let mut client = connect(&running);
    const CALLS: usize = 300;
    for _ in 0..CALLS {
        client.send(post("", call("big")));
    }
    let admin = running.admin_address().unwrap();
    settled("the bytes sent", || metric(admin, "corelane_sent_bytes_total"));
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kib: usize = resident.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib < 150 * 1024, "{kib} KiB while 300 MiB of replies were owed");
    for _ in 0..CALLS {
        assert_eq!(client.read().body.len(), 1024 * 1024 + 77);
    }
    end(running);
}

#[test]
fn full_blocking_queue_rejects_the_call_and_frees_its_slot() {
    let (release, gate) = mpsc::channel::<()>();
    let gate = std::sync::Arc::new(std::sync::Mutex::new(gate));
    let hold = move |_: NoArguments, _| {
        gate.lock().unwrap().recv().unwrap();
        "held"
    };
    let limits = Limits {
        blocking_queue_max: 2,
        blocking_threads_max: 4,
        calls_in_flight_max: 100,
        ..Limits::default()
    };
    let running = start(Server::builder("test", "0").tool(Tool::new("hold").run_blocking(hold)), limits);
    // More calls than threads and queue hold together.
    let mut clients: Vec<Client> = (0..40).map(|_| connect(&running)).collect();
    for client in &mut clients {
        client.send(post("", call("hold")));
    }
    // Each of them is rejected, queued or running.
    let admin = running.admin_address().unwrap();
    eventually("the arrival of all", || {
        metric(admin, "corelane_refusals_total") + metric(admin, "corelane_calls_in_flight") == 40.0
    });
    for _ in 0..40 {
        release.send(()).unwrap();
    }
    let statuses: Vec<u16> = clients.iter_mut().map(|client| client.read().status).collect();
    let held = statuses.iter().filter(|status| **status == 200).count();
    // At least two are queued; scheduling determines how many a thread had taken by then.
    assert!((2..40).contains(&held), "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 503)), "{statuses:?}");
    let metrics = end(running);
    assert_eq!(metrics.refusals("busy"), 40 - held as u64);
}

#[test]
fn blocking_pool_has_the_configured_number_of_threads() {
    let tool = Tool::new("block").run_blocking(|_: NoArguments, _| thread::sleep(Duration::from_millis(300)));
    let any = "127.0.0.1:0".parse().unwrap();
    let config =
        Config { listen: vec![any], shards: Some(1), blocking_threads: Some(40), ..Config::default() };
    let running = Server::builder("test", "0").tool(tool).build().start(&config).unwrap();
    let mut clients: Vec<Client> = (0..40).map(|_| connect(&running)).collect();
    let asked = Instant::now();
    for client in &mut clients {
        client.send(post("", call("block")));
    }
    for client in &mut clients {
        assert_eq!(client.read().status, 200);
    }
    assert!(asked.elapsed() < Duration::from_secs(2), "sequential calls would take twelve seconds");
    end(running);
}

#[test]
fn twenty_blocking_calls_run_concurrently_by_default() {
    let all = std::sync::Arc::new(std::sync::Barrier::new(20));
    let tool = Tool::new("meet").run_blocking(move |_: NoArguments, _| {
        all.wait();
    });
    let running = start(Server::builder("test", "0").tool(tool), Limits::default());
    let mut clients: Vec<Client> = (0..20).map(|_| connect(&running)).collect();
    for client in &mut clients {
        client.send(post("", call("meet")));
    }
    for client in &mut clients {
        assert_eq!(client.read().status, 200);
    }
    end(running);
}

#[test]
fn disconnected_client_leaves_its_legacy_call_running() {
    let running = start(server(), Limits::default());
    for _ in 0..10 {
        connect(&running).send(post("", call("wait")));
    }
    let admin = running.admin_address().unwrap();
    await_metric(admin, "corelane_connections_accepted_total", 10.0);
    await_metric(admin, "corelane_connections", 0.0);
    await_calls_in_flight(&running, 0);
    assert_eq!(connect(&running).post("", call("nothing")).status, 200);
    end(running);
}

#[test]
fn connections_are_bounded_and_accepted_again_after_others_close() {
    let limits = Limits { connections_max: 10, ..Limits::default() };
    let running = start(server(), limits);
    let mut inside: Vec<Client> = (0..10).map(|_| connect(&running)).collect();
    for client in &mut inside {
        assert_eq!(client.post("", call("nothing")).status, 200);
    }
    let mut outside: Vec<Client> = (0..10).map(|_| connect(&running)).collect();
    for client in &mut outside {
        client.send(post("", call("nothing")));
    }
    let admin = running.admin_address().unwrap();
    eventually("a refusal", || metric(admin, "corelane_refusals_total") >= 1.0);
    assert_eq!(metric(admin, "corelane_connections"), 10.0, "the limit is ten");
    drop(inside);
    for client in &mut outside {
        assert_eq!(client.read().status, 200);
    }
    assert!(end(running).refusals("connections_max") >= 1);
}

#[test]
fn invalid_registry_is_a_start_error_naming_the_tool() {
    let nothing = || Tool::new("same").run(|_: NoArguments, _| ());
    let start_error = |server: ServerBuilder| -> String {
        let config = Config { listen: vec!["127.0.0.1:0".parse().unwrap()], ..Config::default() };
        match server.build().start(&config) {
            Err(error @ StartError::Registry(_)) => error.to_string(),
            other => panic!("{:?}", other.err()),
        }
    };
    let builder = || Server::builder("test", "0");
    assert!(start_error(builder().tool(nothing()).tool(nothing())).contains("\"same\""));
    for name in ["", "a b", "a/b", "ä", &"x".repeat(129)] {
        let tool = Tool::new(name.to_owned()).run(|_: NoArguments, _| ());
        assert!(start_error(builder().tool(tool)).contains("1 to 128"), "{name:?}");
    }
    let tool = Tool::new("bell").description("ding\u{7}").run(|_: NoArguments, _| ());
    assert!(start_error(builder().tool(tool)).contains("control characters"));
    let tool = Tool::new("choice").input::<Choice>().run(|_, _| ());
    assert!(start_error(builder().tool(tool)).contains("\"object\""), "a string is not an object");
    let tool = Tool::new("number").input::<u32>().run(|_, _| ());
    assert!(start_error(builder().tool(tool)).contains("\"object\""), "the root type is an object");
}

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
enum Choice {
    #[allow(dead_code, reason = "never made")]
    Plain,
    #[allow(dead_code, reason = "never made")]
    Holds { a: u8 },
}

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[allow(dead_code, reason = "compared by their debug output")]
enum External {
    Circle { radius: f64 },
    Square(u32),
}

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(tag = "shape")]
#[allow(dead_code, reason = "compared by their debug output")]
enum Internal {
    Nothing,
    Square { side: u32 },
    Of(Side),
}

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(tag = "shape", content = "value")]
#[allow(dead_code, reason = "compared by their debug output")]
enum Adjacent {
    Nothing,
    Square(u32),
}

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[allow(dead_code, reason = "compared by their debug output")]
struct Side {
    side: u32,
}

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "compared by their debug output")]
enum Untagged {
    Side(Side),
    Nested(Box<Internal>),
}

#[derive(Debug, serde::Deserialize, schemars::JsonSchema, PartialEq, Eq, PartialOrd, Ord)]
struct UserId(u64);

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[allow(dead_code, reason = "compared by their debug output")]
struct Keyed {
    users: std::collections::BTreeMap<UserId, bool>,
    flags: std::collections::BTreeMap<i8, u128>,
}

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[allow(dead_code, reason = "compared by their debug output")]
struct Wide {
    text: String,
    numbers: Vec<u128>,
    signed: Option<i128>,
}

impl BorrowedArguments for Wide {
    type Of<'a> = Self;
}

#[test]
fn integers_of_128_bits_are_valid_arguments_for_every_kind_of_tool() {
    let runs = Arc::new(AtomicUsize::new(0));
    let run = || {
        let runs = Arc::clone(&runs);
        move |wide: Wide| {
            runs.fetch_add(1, Ordering::SeqCst);
            format!("{:?} {:?}", wide.numbers, wide.signed)
        }
    };
    let tool = |name: &'static str| Tool::new(name).input::<Wide>();
    let (inline, borrowed, one, other) = (run(), run(), run(), run());
    let server = Server::builder("test", "0")
        .tool(tool("inline").run(move |wide, _| inline(wide)))
        .tool(tool("borrowed").run_borrowed(move |wide, _, reply| reply.text(&borrowed(wide))))
        .tool(tool("async").run_async(async move |wide, _| one(wide)))
        .tool(tool("blocking").run_blocking(move |wide, _| other(wide)));
    #[cfg(feature = "tokio")]
    let third = run();
    #[cfg(feature = "tokio")]
    let server = server.tool(tool("tokio").run_tokio(async move |wide, _| third(wide)));
    let tools: Vec<&str> = ["inline", "borrowed", "async", "blocking"]
        .into_iter()
        .chain(cfg!(feature = "tokio").then_some("tokio"))
        .collect();
    let running = start(server, Limits::default());
    let mut client = connect(&running);
    // Escapes are decoded in place, so the digits are searched between strings that are no longer valid JSON.
    let request = |name: &str, numbers: &str| {
        let arguments = format!(
            r#"{{"text":"\"\",5\"","numbers":{numbers},"signed":-170141183460469231731687303715884105728}}"#
        );
        let params = format!(r#"{{"arguments":{arguments},"name":"{name}"}}"#);
        format!(r#"{{"jsonrpc":"2.0","id":1.0,"method":"tools/call","params":{params}}}"#)
    };
    let wide = "[1,340282366920938463463374607431768211455,18446744073709551616]";
    let text = format!("{} Some({})", wide.replace(',', ", "), i128::MIN);
    for (number, name) in tools.iter().enumerate() {
        let reply = client.post("", request(name, wide)).json();
        assert_eq!(reply["result"]["content"][0]["text"], text, "{name}: {reply}");
        let refused = client.post("", request(name, "[1,340282366920938463463374607431768211456]")).json();
        let text = refused["result"]["content"][0]["text"].as_str().unwrap();
        let beginning = "Invalid arguments: /numbers/1: invalid type: floating point";
        assert!(text.starts_with(beginning), "{name}: {refused}");
        assert_eq!(runs.load(Ordering::SeqCst), number + 1, "{name} ran once");
    }
    // In a batch each call runs once too.
    let batch = format!("[{},{}]", request("inline", "[7]"), request("inline", wide));
    let answers = client.post("", batch).json();
    assert_eq!(answers[1]["result"]["content"][0]["text"], text, "{answers}");
    assert_eq!(runs.load(Ordering::SeqCst), tools.len() + 2);
    end(running);
}

#[test]
fn enums_and_maps_are_valid_arguments() {
    macro_rules! shows {
        ($server:expr, $($name:literal $type:ty),*) => {
            $server$(.tool(Tool::new($name).input::<$type>().run(|value, _| format!("{value:?}"))))*
        };
    }
    let long = "x".repeat(128);
    let server = shows!(Server::builder("test", "0"), "external" External, "internal" Internal,
        "adjacent" Adjacent, "untagged" Untagged, "keyed" Keyed, "option" Option<Side>);
    let running = start(server.tool(Tool::new(long.clone()).run(|_, _| "long")), Limits::default());
    let mut client = connect(&running);
    for (tool, arguments, text) in [
        ("external", json!({"Circle": {"radius": 1}}), "Circle { radius: 1.0 }"),
        ("external", json!({"Square": 2.0}), "Square(2)"),
        ("internal", json!({"shape": "Nothing"}), "Nothing"),
        ("internal", json!({"shape": "Square", "side": 2.0}), "Square { side: 2 }"),
        ("internal", json!({"side": 2.0, "shape": "Of"}), "Of(Side { side: 2 })"),
        ("adjacent", json!({"shape": "Nothing"}), "Nothing"),
        ("adjacent", json!({"value": 3.0, "shape": "Square"}), "Square(3)"),
        ("untagged", json!({"side": 4.0}), "Side(Side { side: 4 })"),
        ("untagged", json!({"shape": "Nothing"}), "Nested(Nothing)"),
        ("option", json!({"side": 5}), "Some(Side { side: 5 })"),
        (
            "keyed",
            json!({"users": {"7": true}, "flags": {"-1": 2.0}}),
            "Keyed { users: {UserId(7): true}, flags: {-1: 2} }",
        ),
        (&long, json!({}), "long"),
    ] {
        let params = json!({"name": tool, "arguments": arguments});
        let reply = client.modern("tools/call", params).json();
        assert_eq!(reply["result"]["content"][0]["text"], text, "{tool} {arguments}: {reply}");
    }
    let reply =
        client.modern("tools/call", json!({"name": "internal", "arguments": {"shape": "Round"}})).json();
    assert_eq!(reply["result"]["isError"], true, "{reply}");
    let listed = client.modern("tools/list", json!({})).json();
    for tool in listed["result"]["tools"].as_array().unwrap() {
        assert_eq!(tool["inputSchema"]["type"], "object", "{}", tool["name"]);
    }
    end(running);
}

#[test]
fn lists_are_paged_with_cursors() {
    let mut builder = Server::builder("test", "0");
    for number in 0..25 {
        builder = builder.tool(Tool::new(format!("tool-{number}")).run(|_: NoArguments, _| ()));
    }
    let running = start(builder, Limits { list_page_items_max: 10, ..Limits::default() });
    let mut client = connect(&running);
    let mut names: Vec<Value> = Vec::new();
    let mut params = json!({});
    let mut pages = 0;
    loop {
        let page = client.modern("tools/list", params).json()["result"].clone();
        assert_eq!(page["cacheScope"], "public", "the same on all pages");
        names.extend(page["tools"].as_array().unwrap().iter().map(|tool| tool["name"].clone()));
        pages += 1;
        match page.get("nextCursor") {
            Some(cursor) => params = json!({"cursor": cursor}),
            None => break,
        }
    }
    let expected: Vec<Value> = (0..25).map(|number| json!(format!("tool-{number}"))).collect();
    assert_eq!((names, pages), (expected, 3), "every tool once, in order");
    end(running);
}

#[test]
fn every_content_type_reaches_the_client() {
    let annotations = Annotations {
        audience: vec![Role::User],
        priority: Some(0.5),
        last_modified: Some("2026-01-01T00:00:00Z".into()),
    };
    let all = Tool::new("all").run(move |_: NoArguments, _| {
        vec![
            Content::text("t").annotations(annotations.clone()).meta("com.example/k", 1),
            Content::image(b"\x89PNG", "image/png"),
            Content::audio(b"RIFF", "audio/wav"),
            Content::resource_link("file:///a", "a"),
            Content::resource_text("file:///b", "text/plain", "b"),
            Content::resource_blob("file:///c", "application/octet-stream", &[0, 255]),
        ]
    });
    let meta = Tool::new("meta").run(|_: NoArguments, _| {
        let mut reply = Reply::default();
        reply.text("t");
        reply.meta("com.example/took", 6);
        reply.meta("com.example/took", 7);
        reply.meta("io.modelcontextprotocol/serverInfo", "forged");
        reply
    });
    let running = start(Server::builder("test", "0").tool(all).tool(meta), Limits::default());
    let mut client = connect(&running);
    let content = client.modern("tools/call", json!({"name": "all"})).json()["result"]["content"].clone();
    assert_eq!(
        content,
        json!([
            {"type": "text", "text": "t", "_meta": {"com.example/k": 1},
             "annotations": {"audience": ["user"], "priority": 0.5, "lastModified": "2026-01-01T00:00:00Z"}},
            {"type": "image", "data": "iVBORw==", "mimeType": "image/png"},
            {"type": "audio", "data": "UklGRg==", "mimeType": "audio/wav"},
            {"type": "resource_link", "uri": "file:///a", "name": "a"},
            {"type": "resource", "resource": {"uri": "file:///b", "mimeType": "text/plain", "text": "b"}},
            {"type": "resource", "resource": {"uri": "file:///c", "mimeType": "application/octet-stream", "blob": "AP8="}},
        ])
    );
    let meta = client.modern("tools/call", json!({"name": "meta"})).json()["result"]["_meta"].clone();
    assert_eq!(
        (&meta["com.example/took"], &meta["io.modelcontextprotocol/serverInfo"]["name"]),
        (&json!(7), &json!("test"))
    );
    assert_eq!(
        client.call("meta", json!({}))["_meta"],
        json!({"com.example/took": 7}),
        "no other fields in the legacy era"
    );
    end(running);
}

#[test]
fn tools_are_listed_with_the_fields_of_the_revision() {
    let tool = Tool::new("full")
        .title("Full")
        .description("Everything")
        .icon(Icon { src: "https://example.com/i.png".into(), sizes: vec!["48x48".into()], ..Icon::default() })
        .annotations(ToolAnnotations { read_only_hint: Some(true), ..ToolAnnotations::default() })
        .meta("com.example/k", "v")
        .input_schema::<Value>(json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": {"a": {"$anchor": "b"}}}))
        .output_schema(json!({"type": "array"}))
        .run(|_: Value, _| Structured([1]));
    let server = Server::builder("test", "0").title("Test").website_url("https://example.com").tool(tool);
    let running = start(server, Limits::default());
    let mut client = connect(&running);
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": {"a": {"$anchor": "b"}}, "type": "object"
    });
    let full = json!({
        "name": "full", "title": "Full", "description": "Everything", "inputSchema": schema, "outputSchema": {"type": "array"},
        "icons": [{"src": "https://example.com/i.png", "sizes": ["48x48"]}], "annotations": {"readOnlyHint": true},
        "_meta": {"com.example/k": "v"}
    });
    assert_eq!(
        client.modern("tools/list", json!({})).json()["result"]["tools"][0],
        full,
        "schemas are listed verbatim"
    );
    let mut listed = |version: &str| {
        let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
        let reply = client.post(&format!("MCP-Protocol-Version: {version}\r\n"), list).json();
        let tool = reply["result"]["tools"][0].as_object().unwrap().clone();
        let mut keys: Vec<_> = tool.keys().cloned().collect();
        keys.sort();
        keys
    };
    let known = ["description", "inputSchema", "name"];
    assert_eq!(listed("2024-11-05"), known);
    assert_eq!(listed("2025-03-26"), ["annotations", "description", "inputSchema", "name"]);
    assert_eq!(listed("2025-06-18"), ["_meta", "annotations", "description", "inputSchema", "name", "title"]);
    assert_eq!(
        listed("2025-11-25"),
        ["_meta", "annotations", "description", "icons", "inputSchema", "name", "title"]
    );
    let initialized = client.legacy("initialize", json!({"protocolVersion": "2025-06-18"})).json();
    assert_eq!(initialized["result"]["serverInfo"], json!({"name": "test", "version": "0", "title": "Test"}));
    end(running);
}

#[test]
fn structured_content_is_validated_against_the_output_schema() {
    let promise = || json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    let tool = |name: &'static str, run: fn(Value, corelane::InlineContext<'_>) -> Result<Value, String>| {
        Tool::new(name).input_schema(json!({})).output_schema(promise()).run(run)
    };
    let later =
        Tool::new("later").output_schema(promise()).run_async(async |_: NoArguments, _| json!({"n": "x"}));
    let silent = Tool::new("silent").output_schema(promise()).run(|_: NoArguments, _| "no structure");
    let running = start(
        Server::builder("test", "0")
            .tool(tool("kept", |_, _| Ok(json!({"n": 1}))))
            .tool(tool("broken", |_, _| Ok(json!({"n": 1.5}))))
            .tool(tool("failed", |_, _| Err("no luck".to_owned())))
            .tool(later)
            .tool(silent),
        Limits::default(),
    );
    let mut client = connect(&running);
    assert_eq!(
        client.post("", call("kept")).json()["result"]["content"][0]["text"],
        "{\"n\":1}",
        "also as text"
    );
    for (name, part) in [("broken", "/n"), ("later", "/n"), ("silent", "no structured content")] {
        let reply = client.post("", call(name));
        assert_eq!((reply.status, reply.error_code()), (200, -32603), "{name}");
        let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(part) && message.contains(name), "{message}");
    }
    assert_eq!(
        client.post("", call("failed")).json()["result"]["isError"],
        true,
        "an error has no output schema"
    );
    assert_eq!(end(running).refusals("invalid_output"), 3);
}

#[test]
fn protocol_error_of_a_tool_is_a_json_rpc_error() {
    let refuse = |_: NoArguments, _: corelane::InlineContext<'_>| -> Result<(), ProtocolError> {
        Err(ProtocolError { code: 7, message: "not today".into(), data: Some(json!({"try": "tomorrow"})) })
    };
    let running =
        start(Server::builder("test", "0").tool(Tool::new("refuse").run(refuse)), Limits::default());
    let reply = connect(&running).post("", call("refuse"));
    let error = json!({"code": 7, "message": "not today", "data": {"try": "tomorrow"}});
    assert_eq!((reply.status, &reply.json()["error"]), (200, &error));
    end(running);
}

/// Two tools that run until they are cancelled, one async and one blocking that polls for cancellation. Both count
/// their starts and ends.
fn endless(began: &Arc<AtomicUsize>, ended: &Arc<AtomicUsize>) -> ServerBuilder {
    let (one, other) = (Arc::clone(ended), Arc::clone(ended));
    let (one_began, other_began) = (Arc::clone(began), Arc::clone(began));
    let forever = Tool::new("forever").run_async(async move |_: NoArguments, _| {
        let _dropped = DropCounter(Arc::clone(&one));
        one_began.fetch_add(1, Ordering::SeqCst);
        std::future::pending::<String>().await
    });
    let spin = Tool::new("spin").run_blocking(move |_: NoArguments, cx| {
        other_began.fetch_add(1, Ordering::SeqCst);
        while !cx.is_cancelled() {
            thread::sleep(Duration::from_millis(1));
        }
        other.fetch_add(1, Ordering::SeqCst);
    });
    server().tool(forever).tool(spin)
}

#[test]
fn call_past_its_deadline_is_cancelled_with_is_error() {
    let ended = Arc::new(AtomicUsize::new(0));
    let brief = Tool::new("brief").deadline(Duration::from_millis(50));
    let brief = brief.run_async(async |_: NoArguments, _| std::future::pending::<String>().await);
    let limits = Limits { call_deadline: Duration::from_millis(300), ..Limits::default() };
    let running = start(endless(&Arc::default(), &ended).tool(brief), limits);
    let mut client = connect(&running);
    for tool in ["forever", "spin", "brief"] {
        let reply = client.post("", call(tool)).json();
        assert_eq!(reply["result"]["isError"], true, "{tool}");
        assert_eq!(reply["result"]["content"][0]["text"], "The tool did not answer in time");
    }
    assert_eq!(client.post("", call("nothing")).status, 200, "the connection continues");
    eventually("the end of both", || ended.load(Ordering::SeqCst) == 2);
    assert_eq!(end(running).refusals("deadline"), 3);
}

#[test]
fn modern_call_is_cancelled_on_disconnect() {
    let (began, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let running = start(endless(&began, &ended), Limits::default());
    for tool in ["forever", "spin"] {
        let before = ended.load(Ordering::SeqCst);
        let (headers, body) = modern("tools/call", json!({"name": tool}));
        let mut client = connect(&running);
        client.send(post(&headers, body));
        // A call in flight has not necessarily started.
        eventually("its start", || began.load(Ordering::SeqCst) == before + 1);
        assert_eq!(ended.load(Ordering::SeqCst), before, "{tool} still runs");
        drop(client);
        eventually("cancellation", || ended.load(Ordering::SeqCst) == before + 1);
        await_calls_in_flight(&running, 0);
    }
    assert_eq!(end(running).events("cancelled"), 2);
}

#[test]
fn legacy_call_continues_after_disconnect() {
    let done = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&done);
    let tool = Tool::new("finish").run_async(async move |_: NoArguments, _| {
        time::sleep(Duration::from_millis(200)).await;
        count.fetch_add(1, Ordering::SeqCst);
    });
    let running = start(Server::builder("test", "0").tool(tool), Limits::default());
    connect(&running).send(post("", call("finish")));
    eventually("its end", || done.load(Ordering::SeqCst) == 1);
    assert_eq!(end(running).events("cancelled"), 0);
}

#[test]
fn async_handlers_spawn_tasks_and_apply_timeouts() {
    let (sender, dropped) = mpsc::channel::<()>();
    let tool = Tool::new("several").run_async(async move |_: NoArguments, _| {
        let one = corelane::spawn_local(async { 1 });
        let two = corelane::spawn_local(async {
            time::sleep(Duration::from_millis(1)).await;
            2
        });
        let sender = sender.clone();
        let never = corelane::spawn_local(async move {
            std::future::pending::<()>().await;
            drop(sender);
        });
        let elapsed = time::timeout(Duration::from_millis(5), never).await;
        let in_time = time::timeout(Duration::from_secs(600), async { 3 }).await;
        format!("{} {} {elapsed:?} {in_time:?}", one.await, two.await)
    });
    let running = start(Server::builder("test", "0").tool(tool), Limits::default());
    let reply = connect(&running).post("", call("several"));
    assert_eq!(reply.json()["result"]["content"][0]["text"], "1 2 Err(Elapsed) Ok(3)");
    end(running);
    assert_eq!(dropped.recv(), Err(mpsc::RecvError), "the task was cancelled, and the tool dropped");
}

#[test]
fn blocking_thread_counts_as_in_flight_after_its_caller_disconnects() {
    let (release, gate) = mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let (started, has_started) = mpsc::channel::<()>();
    let hold = Tool::new("hold").run_blocking(move |_: NoArguments, _| {
        started.send(()).unwrap();
        gate.lock().unwrap().recv().unwrap();
    });
    let limits = Limits { calls_in_flight_max: 1, ..Limits::default() };
    let running = start(server().tool(hold), limits);
    let (headers, body) = modern("tools/call", json!({"name": "hold"}));
    let mut client = connect(&running);
    client.send(post(&headers, body));
    // A job that is cancelled in the queue of the pool frees its slot at once.
    has_started.recv().unwrap();
    drop(client);
    let admin = running.admin_address().unwrap();
    eventually("the connection's end", || metric(admin, "corelane_connections") == 0.0);
    let refused = connect(&running).post("", call("wait"));
    assert_eq!(
        (refused.status, refused.error_code(), refused.header("retry-after")),
        (503, -32000, Some("1"))
    );
    release.send(()).unwrap();
    eventually("a free slot", || connect(&running).post("", call("wait")).status == 200);
    end(running);
}

#[test]
fn each_shard_has_its_own_state() {
    let made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&made);
    let server = Server::builder("test", "0")
        .shard_state(move |shard| {
            count.fetch_add(1, Ordering::SeqCst);
            (shard, Cell::new(0_u32))
        })
        .tool(Tool::new("next").run(|_: NoArguments, cx| {
            let (shard, calls) = cx.state::<(usize, Cell<u32>)>();
            calls.set(calls.get() + 1);
            format!("{shard} {} {}", cx.caller().shard, calls.get())
        }))
        .tool(
            Tool::new("later")
                .run_async(async |_: NoArguments, cx| cx.state::<(usize, Cell<u32>)>().1.get().to_string()),
        )
        .tool(Tool::new("wrong").run(|_: NoArguments, cx| cx.state::<String>().clone()));
    let config =
        Config { listen: vec!["127.0.0.1:0".parse().unwrap()], shards: Some(3), ..Config::default() };
    let running = server.build().start(&config).unwrap();
    let mut seen = std::collections::HashMap::<String, u32>::new();
    for _ in 0..60 {
        let result = connect(&running).call("next", json!({}));
        let text = result["content"][0]["text"].as_str().unwrap().to_owned();
        let [state, shard, calls] = text.split(' ').collect::<Vec<_>>()[..] else { panic!("{text}") };
        assert_eq!(state, shard);
        let expected = seen.entry(shard.to_owned()).or_default();
        *expected += 1;
        assert_eq!(calls.parse(), Ok(*expected), "only this shard increments its counter");
    }
    assert!(made.load(Ordering::SeqCst) == 3 && seen.len() > 1, "{seen:?}");
    let later = connect(&running).call("later", json!({}));
    assert_ne!(later["content"][0]["text"], "0");
    assert_eq!(
        connect(&running).post("", call("wrong")).error_code(),
        -32603,
        "no such state: the tool failed"
    );
    end(running);
}

#[test]
fn registry_change_is_atomic_for_every_request() {
    // Each version is one number in three places: the names of both tools, and their replies.
    let version = |number: usize| {
        ["a", "b"].map(|letter| {
            Tool::new(format!("{letter}{number}"))
                .description(format!("version {number}"))
                .run(move |_: NoArguments, _| number.to_string())
        })
    };
    let [a, b] = version(0);
    let server = Server::builder("test", "0").tool(a).tool(b).build();
    let registry = server.registry();
    let config =
        Config { listen: vec!["127.0.0.1:0".parse().unwrap()], shards: Some(2), ..Config::default() };
    let running = server.start(&config).unwrap();
    let changing = thread::spawn(move || {
        for number in 1..=300 {
            let names: Vec<_> = registry
                .read(|registry| registry.tools().iter().map(|tool| tool.name().to_owned()).collect());
            registry
                .update(|registry| {
                    names.iter().for_each(|name| drop(registry.remove::<Tool>(name)));
                    version(number).into_iter().for_each(|tool| registry.add(tool));
                })
                .unwrap();
            thread::sleep(Duration::from_millis(1));
        }
        let error =
            registry.update(|registry| registry.add(Tool::new("bad name").run(|_, _| ()))).unwrap_err();
        assert!(error.to_string().contains("bad name"), "{error}");
    });
    let mut clients: Vec<Client> = (0..8).map(|_| connect(&running)).collect();
    let mut newest = vec![0; clients.len()];
    while newest.iter().any(|newest| *newest < 300) {
        for (client, newest) in clients.iter_mut().zip(&mut newest) {
            let list = client.legacy("tools/list", json!({})).json()["result"]["tools"].clone();
            let number: usize = list[0]["name"].as_str().unwrap()[1..].parse().unwrap();
            assert_eq!(list.as_array().unwrap().len(), 2);
            for (tool, letter) in list.as_array().unwrap().iter().zip(["a", "b"]) {
                assert_eq!(tool["name"], format!("{letter}{number}"));
                assert_eq!(tool["description"], format!("version {number}"));
            }
            assert!(number >= *newest, "versions on a shard never decrease");
            *newest = number;
            let reply = client.legacy("tools/call", json!({"name": format!("b{number}")})).json();
            match reply["result"]["content"][0]["text"].as_str() {
                Some(text) => assert_eq!(text, number.to_string()),
                None => assert_eq!(reply["error"]["code"], -32602, "replaced between list and call"),
            }
        }
    }
    changing.join().unwrap();
    end(running);
}

#[test]
fn call_in_flight_completes_with_its_original_tool_after_replacement() {
    let slow = Tool::new("slow").output_schema(json!({"type": "object"}));
    let slow = slow.run_async(async |_: NoArguments, _| {
        time::sleep(Duration::from_secs(1)).await;
        json!({"n": 1})
    });
    let server = Server::builder("test", "0").tool(slow).build();
    let registry = server.registry();
    let running = server.start(&config(Limits::default())).unwrap();
    let mut client = connect(&running);
    client.send(post("", call("slow")));
    await_calls_in_flight(&running, 1);
    let strict =
        Tool::new("slow").output_schema(json!({"type": "string"})).run(|_: NoArguments, _| json!("new"));
    assert!(registry.update(|registry| registry.replace(strict)).unwrap().is_some());
    assert_eq!(client.read().json()["result"]["content"][0]["text"], "{\"n\":1}");
    assert_eq!(client.post("", call("slow")).json()["result"]["content"][0]["text"], "\"new\"");
    end(running);
}

#[test]
fn arguments_beyond_the_validation_budget_are_rejected() {
    let schema =
        json!({"properties": {"list": {"items": {"anyOf": [{"type": "string"}, {"type": "number"}]}}}});
    let tool = Tool::new("many").input_schema(schema).run(|_: Value, _| "fits");
    let running = start(
        Server::builder("test", "0").tool(tool),
        Limits { validation_work_max: 20_000, ..Limits::default() },
    );
    let mut client = connect(&running);
    let mut many = |elements: usize| client.call("many", json!({"list": vec![1; elements]}));
    assert_eq!(many(100)["content"][0]["text"], "fits");
    let refused = many(1000);
    let text = refused["content"][0]["text"].as_str().unwrap();
    assert_eq!(refused["isError"], true);
    assert!(text.starts_with("Invalid arguments: ") && text.contains("validation_work_max"), "{text}");
    assert_eq!(end(running).refusals("validation_work"), 1);
}

#[test]
fn pipelining_connection_does_not_starve_others() {
    let running = start(server(), Limits::default());
    let flood = post("", call("nothing")).repeat(20_000);
    let flooder = connect(&running);
    let mut writer = flooder.stream.try_clone().unwrap();
    let writing = thread::spawn(move || std::io::Write::write_all(&mut writer, &flood));
    let reading = thread::spawn(move || {
        let mut flooder = flooder;
        for _ in 0..20_000 {
            flooder.read();
        }
        Instant::now()
    });
    let mut client = connect(&running);
    for _ in 0..100 {
        assert_eq!(client.post("", call("nothing")).status, 200);
    }
    let served = Instant::now();
    let flooded = reading.join().unwrap();
    writing.join().unwrap().unwrap();
    assert!(served < flooded, "a hundred requests were answered before the twenty thousand pipelined ones");
    end(running);
}

#[cfg(feature = "tokio")]
mod on_tokio {
    use corelane::{Prompt, RemoteContext, Resource, ResourceTemplate};
    use tokio::sync::Semaphore;

    use super::*;

    /// Borrows the context of a call across an await.
    async fn greet(
        cx: &RemoteContext,
        pause: &Semaphore,
        name: &str,
    ) -> Result<String, tokio::sync::AcquireError> {
        let _permit = pause.acquire().await?;
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(format!("{name} on shard {}", cx.caller().shard))
    }

    #[test]
    fn tokio_async_closures_borrow_context_and_captures() {
        let pause = Arc::new(Semaphore::new(1));
        let pauses = [(); 4].map(|()| Arc::clone(&pause));
        let [one, two, three, four] = pauses;
        let server = Server::builder("test", "0")
            .tool(Tool::new("tool").run_tokio(async move |_: NoArguments, cx| {
                let cx = &cx;
                let greeting = greet(cx, &one, "tool").await?;
                cx.progress(1.0, None, None);
                Ok::<_, tokio::sync::AcquireError>(greeting)
            }))
            .resource(
                Resource::new("test://r", "r").run_tokio(async move |uri, cx| greet(&cx, &two, &uri).await),
            )
            .template(
                ResourceTemplate::new("test://t/{a}", "t")
                    .run_tokio(async move |read, cx| greet(&cx, &three, &read.variables["a"]).await),
            )
            .prompt(
                Prompt::new("prompt")
                    .run_tokio(async move |_: NoArguments, cx| greet(&cx, &four, "prompt").await),
            );
        let running = start(server, Limits::default());
        let mut client = connect(&running);
        // Each call receives the captures of the closure again.
        for _ in 0..3 {
            assert_eq!(client.call("tool", json!({}))["content"][0]["text"], "tool on shard 0");
            for (uri, text) in [("test://r", "test://r on shard 0"), ("test://t/x", "x on shard 0")] {
                let result = client.legacy("resources/read", json!({"uri": uri})).json();
                assert_eq!(result["result"]["contents"][0]["text"], text);
            }
            let prompt = client.legacy("prompts/get", json!({"name": "prompt"})).json();
            assert_eq!(prompt["result"]["messages"][0]["content"]["text"], "prompt on shard 0");
        }
        end(running);
    }

    #[test]
    fn tokio_tool_has_a_reactor_a_deadline_and_panic_isolation() {
        let ended = Arc::new(AtomicUsize::new(0));
        let dropped = Arc::clone(&ended);
        let server = Server::builder("test", "0")
            .tool(Tool::new("sleep").run_tokio(|_: NoArguments, _| async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                "slept"
            }))
            .tool(Tool::new("panic").run_tokio(|_: NoArguments, _| async { panic!("tokio") as String }))
            .tool(Tool::new("forever").deadline(Duration::from_millis(50)).run_tokio(
                move |_: NoArguments, _| {
                    let dropped = DropCounter(Arc::clone(&dropped));
                    async move {
                        let _dropped = dropped;
                        std::future::pending::<String>().await
                    }
                },
            ));
        let running = start(server, Limits::default());
        let mut client = connect(&running);
        assert_eq!(client.call("sleep", json!({}))["content"][0]["text"], "slept");
        assert_eq!(client.post("", call("panic")).error_code(), -32603);
        assert_eq!(client.call("forever", json!({}))["isError"], true);
        eventually("cancellation", || ended.load(Ordering::SeqCst) == 1);
        let mut clients: Vec<Client> = (0..100).map(|_| connect(&running)).collect();
        for client in &mut clients {
            client.send(post("", call("sleep")));
        }
        for client in &mut clients {
            assert_eq!(client.read().json()["result"]["content"][0]["text"], "slept");
        }
        end(running);
    }
}

/// Panics on drop.
struct PanicsOnDrop;

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic!("dropped");
        }
    }
}

#[test]
fn tool_panicking_during_cancellation_frees_its_slot() {
    let tool =
        Tool::new("grumpy").deadline(Duration::from_millis(50)).run_async(async |_: NoArguments, _| {
            let _grumpy = PanicsOnDrop;
            std::future::pending::<String>().await
        });
    let limits = Limits { calls_in_flight_max: 1, ..Limits::default() };
    let running = start(server().tool(tool), limits);
    let mut client = connect(&running);
    for _ in 0..3 {
        assert_eq!(client.call("grumpy", json!({}))["isError"], true);
        eventually("a free slot", || connect(&running).post("", call("wait")).status == 200);
    }
    end(running);
}

#[test]
fn shard_start_hook_may_read_and_change_the_registry() {
    let server = Server::builder("test", "0").tool(Tool::new("first").run(|_: NoArguments, _| ()));
    let slot = Arc::new(std::sync::OnceLock::<corelane::LiveRegistry>::new());
    let registry = Arc::clone(&slot);
    let server = server.shard_state(move |shard| {
        let registry = registry.get().unwrap();
        let added = Tool::new(format!("of-shard-{shard}")).run(|_: NoArguments, _| ());
        registry.update(|registry| registry.add(added)).unwrap();
        registry.read(|outer| registry.read(|inner| assert_eq!(outer.tools().len(), inner.tools().len())));
    });
    let server = server.build();
    assert!(slot.set(server.registry()).is_ok());
    let config =
        Config { listen: vec!["127.0.0.1:0".parse().unwrap()], shards: Some(2), ..Config::default() };
    let running = server.start(&config).unwrap();
    eventually("both tools on every shard", || {
        (0..10).all(|_| {
            let list = connect(&running).legacy("tools/list", json!({})).json();
            list["result"]["tools"].as_array().unwrap().len() == 3
        })
    });
    end(running);
}

#[test]
fn restarted_server_receives_registry_changes() {
    let server = Server::builder("test", "0").tool(Tool::new("first").run(|_: NoArguments, _| ())).build();
    let config =
        Config { listen: vec!["127.0.0.1:0".parse().unwrap()], shards: Some(1), ..Config::default() };
    for round in 1..=3 {
        let running = server.start(&config).unwrap();
        let tool = Tool::new(format!("tool-{round}")).run(|_: NoArguments, _| ());
        server.registry().update(|registry| registry.add(tool)).unwrap();
        eventually("the change", || {
            let list = connect(&running).legacy("tools/list", json!({})).json();
            list["result"]["tools"].as_array().unwrap().len() == round + 1
        });
        end(running);
    }
}

#[test]
fn steady_call_completions_do_not_starve_other_connections() {
    let done = Tool::new("done").run_blocking(|_: NoArguments, _| ());
    let running = start(server().tool(done), Limits::default());
    const CALLS: usize = 300;
    let mut busy: Vec<Client> = (0..40).map(|_| connect(&running)).collect();
    for client in &mut busy {
        client.send(post("", call("done")).repeat(CALLS));
    }
    let mut other = connect(&running);
    for _ in 0..20 {
        assert_eq!(other.post("", call("nothing")).status, 200);
    }
    // If the shard were starved, all of these would have been answered before.
    let mut waiting = 0;
    for client in &mut busy {
        client.stream.set_nonblocking(true).unwrap();
        let mut buffer = vec![0; 1024 * 1024];
        let mut received = 0;
        while let Ok(count @ 1..) = std::io::Read::read(&mut client.stream, &mut buffer[received..]) {
            received += count;
        }
        let answers = String::from_utf8_lossy(&buffer[..received]).matches("HTTP/1.1 200").count();
        waiting += usize::from(answers < CALLS);
    }
    assert!(waiting > 0, "twenty pings took longer than twelve thousand calls");
    drop(busy);
    end(running);
}
