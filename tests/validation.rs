//! Large arguments are validated on the blocking pool, with the same replies as on the shard.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use corelane::{Config, Limits, Running, Server, ServerBuilder, Tool};
use serde_json::{Value, json};
use support::{Client, await_calls_in_flight, hold, post};

/// Arguments that take more work than this are validated on the pool.
const INLINE_WORK_MAX: usize = 1000;

fn start(server: ServerBuilder, limits: Limits) -> Running {
    serve(server, Limits { validation_inline_work_max: INLINE_WORK_MAX, ..limits })
}

fn serve(server: ServerBuilder, limits: Limits) -> Running {
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
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

/// Serves a tool with the schema and the default limits. Asserts that a call with the arguments leaves the shard: it waits for the only
/// thread of the pool, while another client is served.
#[track_caller]
fn assert_validated_off_the_shard(schema: Value, arguments: &Value, is_valid: bool) {
    let (hold, entered, leave) = hold();
    let costly = Tool::new("costly").input_schema::<Value>(schema).run(|_: Value, _| "valid");
    let limits = Limits { blocking_threads_max: 1, ..Limits::default() };
    let running = serve(server().tool(hold).tool(costly), limits);
    let connect = || Client::connect(running.addresses()[0]);
    let (mut holding, mut attacking, mut other) = (connect(), connect(), connect());
    holding.send(call("hold", json!({})));
    entered.wait();
    attacking.send(call("costly", arguments.clone()));
    await_calls_in_flight(&running, 2);
    for _ in 0..10 {
        assert_eq!(other.call("inline", json!({"list": [3]}))["content"][0]["text"], "3");
    }
    leave.wait();
    let result = attacking.read().json()["result"].clone();
    assert_eq!(result["isError"] != json!(true), is_valid, "{result}");
    assert_eq!(holding.read().json()["result"]["content"][0]["text"], "held");
    let metrics = end(running);
    assert_eq!(metrics.refusals("validation_work"), 0);
    assert_eq!(metrics.refusals("invalid_arguments"), u64::from(!is_valid));
}

fn object_of(property: &str, schema: &Value) -> Value {
    json!({"type": "object", "properties": {property: schema}})
}

/// A pattern whose deterministic automaton has 2^`bits` states.
fn large_pattern(bits: usize) -> Value {
    json!({"pattern": format!("^[ab]*a[ab]{{{bits}}}[^ab]")})
}

#[test]
fn multiple_of_90_000_numbers_is_validated_off_the_shard() {
    let numbers: Vec<f64> = (0..90_000).map(|number| f64::from(number) / 4.0).collect();
    let schema = object_of("list", &json!({"items": {"multipleOf": 0.25}}));
    assert_validated_off_the_shard(schema, &json!({"list": numbers}), true);
}

#[test]
fn pattern_properties_of_29_000_keys_are_validated_off_the_shard() {
    let members: Value = (0..29_000).map(|number| (format!("key-{number}"), json!(1))).collect();
    let schema = json!({
        "type": "object",
        "patternProperties": {"^[a-z]+-[0-9]+$": {"type": "integer"}, "^x-": {"type": "string"}, "[0-9]{9}$": false},
        "additionalProperties": false
    });
    assert_validated_off_the_shard(schema, &members, true);
}

#[test]
fn long_string_for_a_large_pattern_is_validated_off_the_shard() {
    let text = format!("{}!", "ab".repeat(3200));
    assert_validated_off_the_shard(object_of("text", &large_pattern(501)), &json!({"text": text}), true);
}

#[test]
fn all_of_50_branches_is_validated_off_the_shard() {
    let branches: Vec<Value> = (0..50).map(|number| json!({"minimum": number})).collect();
    let schema = object_of("list", &json!({"items": {"allOf": branches}}));
    assert_validated_off_the_shard(schema, &json!({"list": vec![50; 10_000]}), true);
}

#[test]
fn unique_items_whose_hashes_are_equal_are_validated_off_the_shard() {
    // Nested empty arrays: the library compares each with each.
    let nested = |depth: usize| (0..depth).fold(json!([]), |inner, _| json!([inner]));
    let list: Vec<Value> = (0..900).map(|number| json!([nested(number % 30), nested(number / 30)])).collect();
    let schema = object_of("list", &json!({"uniqueItems": true}));
    assert_validated_off_the_shard(schema, &json!({"list": list}), true);
}

#[test]
fn list_of_10_000_violations_is_written_off_the_shard() {
    // Validation itself ends at the first violation.
    let schema = object_of("list", &json!({"items": {"type": "integer"}}));
    assert_validated_off_the_shard(schema, &json!({"list": vec!["a"; 10_000]}), false);
}

#[test]
fn id_in_another_notation_does_not_keep_validation_on_the_shard() {
    let (hold, entered, leave) = hold();
    let running = start(server().tool(hold), Limits { blocking_threads_max: 1, ..Limits::default() });
    let connect = || Client::connect(running.addresses()[0]);
    let (mut holding, mut attacking, mut other) = (connect(), connect(), connect());
    holding.send(call("hold", json!({})));
    entered.wait();
    // The document is decoded again for the text of the id.
    let params = json!({"name": "inline", "arguments": list(&json!(5))});
    let body = format!("{{\"jsonrpc\":\"2.0\",\"id\":1e0,\"method\":\"tools/call\",\"params\":{params}}}");
    attacking.send(post("", body));
    await_calls_in_flight(&running, 2);
    assert_eq!(other.call("inline", json!({"list": [3]}))["content"][0]["text"], "3");
    leave.wait();
    let reply = attacking.read();
    assert_eq!(reply.json()["result"]["content"][0]["text"], "5");
    assert!(String::from_utf8_lossy(&reply.body).contains("\"id\":1e0"), "the id is returned as written");
    end(running);
}

#[test]
fn megabyte_for_a_large_pattern_is_refused_without_matching() {
    let costly = Tool::new("costly")
        .input_schema::<Value>(object_of("text", &large_pattern(500)))
        .run(|_: Value, _| "valid");
    let running = serve(server().tool(costly), Limits::default());
    let connect = || Client::connect(running.addresses()[0]);
    let (mut attacking, mut other) = (connect(), connect());
    for _ in 0..3 {
        let refused = attacking.call("costly", json!({"text": "ab".repeat(500_000)}));
        let text = refused["content"][0]["text"].as_str().unwrap();
        assert_eq!(refused["isError"], true);
        assert!(text.contains("validation_work_max"), "the limit is named: {text}");
        assert_eq!(other.call("inline", json!({"list": [3]}))["content"][0]["text"], "3");
    }
    assert_eq!(
        attacking.call("costly", json!({"text": "ab!"}))["isError"],
        json!(true),
        "the pattern is enforced"
    );
    assert_eq!(end(running).refusals("validation_work"), 3);
}

#[test]
fn batch_has_one_budget_of_validation() {
    let costly = Tool::new("costly")
        .input_schema::<Value>(object_of("text", &large_pattern(500)))
        .run(|_: Value, _| "valid");
    let running = serve(server().tool(costly), Limits::default());
    let mut client = Client::connect(running.addresses()[0]);
    let message = |id: usize, text: &str| {
        let params = json!({"name": "costly", "arguments": {"text": text}});
        json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})
    };
    let short = format!("{}!", "ab".repeat(260));
    let batch: Vec<Value> = (0..20).map(|id| message(id, &short)).collect();
    let version = "MCP-Protocol-Version: 2025-03-26\r\n";
    let replies = client.post(version, Value::from(batch).to_string()).json();
    let refused = |reply: &&Value| {
        let text = reply["result"]["content"][0]["text"].as_str().unwrap();
        text.contains("validation_inline_work_max") && reply["result"]["isError"] == json!(true)
    };
    let replies = replies.as_array().unwrap();
    let count = replies.iter().filter(refused).count();
    assert!(replies.len() == 20 && count > 0, "{replies:?}");
    assert_eq!(end(running).refusals("validation_work"), u64::try_from(count).unwrap());
}

#[test]
fn document_of_two_million_values_is_refused_before_it_is_parsed() {
    let running = serve(server(), Limits::default());
    let connect = || Client::connect(running.addresses()[0]);
    let (mut attacking, mut other) = (connect(), connect());
    let ones = format!("[{}1]", "1,".repeat(1_900_000));
    let ping = format!("{{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\",\"params\":{ones}}}");
    for (body, id) in [(ones, Value::Null), (ping, json!(7))] {
        let reply = attacking.post("", body);
        assert_eq!((reply.status, reply.error_code()), (400, -32600));
        assert_eq!(reply.json()["id"], id);
        assert_eq!(other.call("inline", json!({"list": [3]}))["content"][0]["text"], "3");
    }
    assert_eq!(end(running).refusals("json_too_many_nodes"), 2);
}

#[test]
fn structured_content_for_a_large_pattern_is_refused_without_matching() {
    #[derive(serde::Serialize)]
    struct Text {
        text: String,
    }
    let echo = Tool::new("echo_structured")
        .input_schema::<Value>(json!({"type": "object"}))
        .output_schema(object_of("text", &large_pattern(500)))
        .run(|arguments: Value, _| {
            let length = usize::try_from(arguments["length"].as_u64().unwrap()).unwrap();
            corelane::Structured(Text { text: "ab".repeat(length / 2) })
        });
    let running = serve(server().tool(echo), Limits::default());
    let mut client = Client::connect(running.addresses()[0]);
    let params = |length: usize| json!({"name": "echo_structured", "arguments": {"length": length}});
    let reply = client.legacy("tools/call", params(1_000_000)).json();
    assert!(reply["error"]["message"].as_str().unwrap().contains("validation_work_max"), "{reply}");
    let reply = client.legacy("tools/call", params(4)).json();
    assert!(
        reply["error"]["message"].as_str().unwrap().contains("/text"),
        "the pattern is enforced: {reply}"
    );
    end(running);
}
