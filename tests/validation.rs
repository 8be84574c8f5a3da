//! Large arguments are validated on the blocking pool, and what follows is as if they had been validated on the shard.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::sync::{Arc, Barrier};

use corelane::{Config, Limits, NoArguments, Running, Server, ServerBuilder, Tool};
use serde_json::{Value, json};
use support::{Client, await_calls_in_flight, post};

/// Arguments of more values than this are validated on the pool.
const INLINE_VALUES_MAX: usize = 16;

fn start(server: ServerBuilder, limits: Limits) -> Running {
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    let limits = Limits { validation_inline_values_max: INLINE_VALUES_MAX, ..limits };
    let config = Config {
        listen: vec![any.into()],
        admin: Some(any),
        shards: Some(1),
        blocking_threads: Some(1),
        limits,
        ..Config::default()
    };
    server.build().start(&config).unwrap()
}

fn end(running: Running) -> corelane::ShardMetrics {
    running.stopper().drain();
    running.join().unwrap()
}

fn schema() -> Value {
    json!({"type": "object", "properties": {"list": {"type": "array", "items": {"type": ["integer", "string"]}}}})
}

/// Echoes the last element of its list, in each way a tool may run.
fn server() -> ServerBuilder {
    fn last(arguments: &Value) -> String {
        arguments["list"].as_array().and_then(|list| list.last()).unwrap_or(&Value::Null).to_string()
    }
    let tool = |name| Tool::new(name).input_schema::<Value>(schema());
    Server::builder("test", "0")
        .tool(tool("inline").run(|arguments: Value, cx| {
            cx.progress(1.0, None, None);
            last(&arguments)
        }))
        .tool(tool("async").run_async(async |arguments: Value, _| last(&arguments)))
        .tool(tool("blocking").run_blocking(|arguments: Value, _| last(&arguments)))
        .tool(
            Tool::new("wide")
                .input_schema::<Wide>(schema())
                .run(|arguments: Wide, _| arguments.list.last().copied().unwrap_or_default().to_string()),
        )
}

#[derive(serde::Deserialize)]
struct Wide {
    list: Vec<u128>,
}

fn list(last: &Value) -> Value {
    let mut list = vec![json!(7); 100];
    list.push(last.clone());
    json!({"list": list})
}

/// A tool that occupies a thread of the pool: entered, and until it may leave.
fn hold() -> (Tool, Arc<Barrier>, Arc<Barrier>) {
    let (entered, leave) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let (inside, out) = (Arc::clone(&entered), Arc::clone(&leave));
    let tool = Tool::new("hold").run_blocking(move |_: NoArguments, _| {
        inside.wait();
        out.wait();
        "held"
    });
    (tool, entered, leave)
}

fn call(tool: &str, arguments: Value) -> Vec<u8> {
    let params = json!({"name": tool, "arguments": arguments});
    post("", json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string())
}

#[test]
fn large_arguments_reach_a_handler_of_each_kind_unchanged() {
    let running = start(server(), Limits::default());
    let mut client = Client::connect(running.addresses()[0]);
    for tool in ["inline", "async", "blocking"] {
        for last in [json!(1), json!("escapes \" \\ \n \u{1F600}"), json!(u64::MAX), json!(-1)] {
            let result = client.call(tool, list(&last));
            assert_eq!(result["content"][0]["text"], last.to_string(), "{tool}");
            assert_eq!(result["isError"], Value::Null, "{tool}");
        }
    }
    // Beyond 64 bits, where the digits are read from the text.
    let sevens = "7,".repeat(100);
    let body = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{{\"name\":\"wide\",\
         \"arguments\":{{\"list\":[{sevens}340282366920938463463374607431768211455]}}}}}}"
    );
    let reply = client.post("", body).json();
    assert_eq!(reply["result"]["content"][0]["text"], u128::MAX.to_string(), "{reply}");
    end(running);
}

#[test]
fn invalid_large_arguments_are_answered_with_the_path_of_each_violation() {
    let running = start(server(), Limits::default());
    let mut client = Client::connect(running.addresses()[0]);
    for tool in ["inline", "async", "blocking"] {
        let small = client.call(tool, json!({"list": [true]}));
        let large = client.call(tool, list(&json!(true)));
        for (result, path) in [(small, "/list/0"), (large, "/list/100")] {
            let text = result["content"][0]["text"].as_str().unwrap();
            assert_eq!(result["isError"], true);
            assert!(text.starts_with("Invalid arguments: ") && text.contains(path), "{text}");
        }
    }
    // Each is counted once, and not also as an error of the handler.
    let metrics = support::metric(running.admin_address().unwrap(), "corelane_tool_errors_total");
    assert_eq!(metrics, 6.0);
    assert_eq!(end(running).refusals("invalid_arguments"), 6);
}

#[test]
fn shard_serves_other_connections_while_large_arguments_wait_for_the_pool() {
    let (hold, entered, leave) = hold();
    let limits = Limits { blocking_threads_max: 1, ..Limits::default() };
    let running = start(server().tool(hold), limits);
    let connect = || Client::connect(running.addresses()[0]);
    let (mut holding, mut waiting, mut other) = (connect(), connect(), connect());
    holding.send(call("hold", json!({})));
    entered.wait();
    waiting.send(call("inline", list(&json!(5))));
    await_calls_in_flight(&running, 2);
    assert_eq!(other.call("inline", json!({"list": [3]}))["content"][0]["text"], "3");
    leave.wait();
    assert_eq!(waiting.read().json()["result"]["content"][0]["text"], "5");
    assert_eq!(holding.read().json()["result"]["content"][0]["text"], "held");
    end(running);
}

#[test]
fn large_arguments_that_find_no_room_in_the_queue_of_the_pool_are_refused_as_busy() {
    let (hold, entered, leave) = hold();
    let limits = Limits { blocking_threads_max: 1, blocking_queue_max: 1, ..Limits::default() };
    let running = start(server().tool(hold), limits);
    let connect = || Client::connect(running.addresses()[0]);
    let (mut holding, mut queued, mut refused) = (connect(), connect(), connect());
    holding.send(call("hold", json!({})));
    entered.wait();
    queued.send(call("inline", list(&json!(5))));
    await_calls_in_flight(&running, 2);
    let reply = refused.send(call("inline", list(&json!(6)))).read();
    assert_eq!((reply.status, reply.error_code()), (503, -32000));
    leave.wait();
    assert_eq!(queued.read().json()["result"]["content"][0]["text"], "5");
    assert_eq!(holding.read().json()["result"]["content"][0]["text"], "held");
    end(running);
}
