//! Tools of every kind, well and badly behaved, behind the library's builder.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{sync::mpsc, thread, time::Duration};

use corelane::{Config, Limits, NoArguments, Running, Server, ServerBuilder, StartError, Tool, glommio};
use serde_json::{Value, json};
use support::{Client, post};

fn start(server: ServerBuilder, limits: Limits) -> Running {
    let config =
        Config { listen: vec!["127.0.0.1:0".parse().unwrap()], shards: Some(1), limits, ..Config::default() };
    server.build().start(&config).unwrap()
}

fn connect(running: &Running) -> Client {
    Client::connect(running.addresses()[0])
}

fn end(running: Running) -> corelane::metrics::ShardMetrics {
    running.stopper().drain();
    running.join().unwrap()
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
            glommio::timer::sleep(Duration::from_millis(300)).await;
            "waited"
        }))
}

#[test]
fn a_panicking_tool_is_an_error_reply_and_the_shard_goes_on() {
    let running = start(server(), Limits::default());
    let mut client = connect(&running);
    for tool in ["panic_inline", "panic_async", "panic_blocking"] {
        let reply = client.post("", call(tool));
        assert_eq!((reply.status, reply.error_code()), (200, -32603), "{tool}");
        assert_eq!(reply.json()["id"], tool);
        assert_eq!(reply.json()["error"]["message"], "The tool failed", "nothing of the inside is told");
    }
    let metrics = end(running);
    assert_eq!(metrics.refusals("tool_panicked"), 3);
}

#[test]
fn a_failing_tool_tells_the_model_and_an_empty_result_is_one() {
    let running = start(server(), Limits::default());
    let mut client = connect(&running);
    let failed = client.post("", call("fail")).json()["result"].clone();
    assert_eq!(failed, json!({"content": [{"type": "text", "text": "no luck"}], "isError": true}));
    assert_eq!(client.post("", call("nothing")).json()["result"], json!({"content": []}));
    end(running);
}

#[test]
fn as_many_calls_as_the_limit_run_and_one_more_is_told_busy() {
    let limits = Limits { calls_in_flight_max: 4, ..Limits::default() };
    let running = start(server(), limits);
    let mut waiting: Vec<Client> = (0..4).map(|_| connect(&running)).collect();
    for client in &mut waiting {
        client.send(post("", call("wait")));
    }
    thread::sleep(Duration::from_millis(100));
    let refused = connect(&running).post("", call("wait"));
    assert_eq!((refused.status, refused.error_code()), (503, -32000));
    assert_eq!(refused.json()["id"], "wait");
    for client in &mut waiting {
        assert_eq!(client.read().json()["result"]["content"][0]["text"], "waited");
    }
    assert_eq!(connect(&running).post("", call("wait")).status, 200, "there is room again");
    assert_eq!(end(running).refusals("busy"), 1);
}

#[test]
fn replies_of_async_tools_count_towards_the_outbox_too() {
    let big = Tool::new("big").run_async(async |_: NoArguments, _| "x".repeat(1024 * 1024));
    let running = start(Server::builder("test", "0").tool(big), Limits::default());
    let mut client = connect(&running);
    const CALLS: usize = 300;
    for _ in 0..CALLS {
        client.send(post("", call("big")));
    }
    thread::sleep(Duration::from_secs(2));
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
fn a_full_blocking_queue_is_told_and_frees_its_ticket() {
    let (release, gate) = mpsc::channel::<()>();
    let gate = std::sync::Arc::new(std::sync::Mutex::new(gate));
    let hold = move |_: NoArguments, _| {
        gate.lock().unwrap().recv().unwrap();
        "held"
    };
    let limits = Limits { blocking_queue_max: 2, calls_in_flight_max: 100, ..Limits::default() };
    let running = start(Server::builder("test", "0").tool(Tool::new("hold").run_blocking(hold)), limits);
    // More than threads and queue can take together.
    let mut clients: Vec<Client> = (0..40).map(|_| connect(&running)).collect();
    for client in &mut clients {
        client.send(post("", call("hold")));
    }
    thread::sleep(Duration::from_millis(300));
    for _ in 0..40 {
        release.send(()).unwrap();
    }
    let statuses: Vec<u16> = clients.iter_mut().map(|client| client.read().status).collect();
    let held = statuses.iter().filter(|status| **status == 200).count();
    assert!((3..40).contains(&held), "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 503)), "{statuses:?}");
    let metrics = end(running);
    assert_eq!(metrics.refusals("busy"), 40 - held as u64);
}

#[test]
fn a_client_that_leaves_does_not_get_in_the_way_of_its_call() {
    let running = start(server(), Limits::default());
    for _ in 0..10 {
        connect(&running).send(post("", call("wait")));
    }
    thread::sleep(Duration::from_millis(500));
    assert_eq!(connect(&running).post("", call("nothing")).status, 200);
    end(running);
}

#[test]
fn connections_are_bounded_and_accepted_again_when_some_have_gone() {
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
    thread::sleep(Duration::from_millis(100));
    let last = outside.last_mut().unwrap();
    last.stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(std::io::Read::read(&mut last.stream, &mut [0; 1]).is_err(), "not accepted while ten are open");
    last.stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    drop(inside);
    for client in &mut outside {
        assert_eq!(client.read().status, 200);
    }
    assert!(end(running).refusals("connections_max") >= 1);
}

#[test]
fn a_registry_that_cannot_be_served_is_a_start_error_that_names_the_tool() {
    let nothing = || Tool::new("same").run(|_: NoArguments, _| ());
    let told = |server: ServerBuilder| -> String {
        let config = Config { listen: vec!["127.0.0.1:0".parse().unwrap()], ..Config::default() };
        match server.build().start(&config) {
            Err(error @ StartError::Registry(_)) => error.to_string(),
            other => panic!("{:?}", other.err()),
        }
    };
    let builder = || Server::builder("test", "0");
    assert!(told(builder().tool(nothing()).tool(nothing())).contains("\"same\""));
    for name in ["", "a b", "a/b", "ä", &"x".repeat(65)] {
        let tool = Tool::new(name.to_owned()).run(|_: NoArguments, _| ());
        assert!(told(builder().tool(tool)).contains("1 to 64"), "T-06: {name:?}");
    }
    let tool = Tool::new("bell").description("ding\u{7}").run(|_: NoArguments, _| ());
    assert!(told(builder().tool(tool)).contains("control characters"));
    let tool = Tool::new("number").input::<u32>().run(|_, _| ());
    assert!(told(builder().tool(tool)).contains("\"object\""), "T-04");
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
        names.extend(page["tools"].as_array().unwrap().iter().map(|tool| tool["name"].clone()));
        pages += 1;
        match page.get("nextCursor") {
            Some(cursor) => params = json!({"cursor": cursor}),
            None => break,
        }
    }
    let expected: Vec<Value> = (0..25).map(|number| json!(format!("tool-{number}"))).collect();
    assert_eq!((names, pages), (expected, 3), "G-01, T-02");
    end(running);
}
