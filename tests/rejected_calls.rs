//! Calls that are rejected for their parameters: headers of arguments, capabilities, and the call itself.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/rejections.rs"]
mod rejections;
mod support;

use corelane::{Capability, Config, NoArguments, Running, Server, Tool};
use rejections::{CAPABILITIES, refused, start};
use serde_json::{Value, json};
use support::{Client, modern, peer::end};

fn running(tools: impl IntoIterator<Item = Tool>) -> Running {
    let server = tools.into_iter().fold(Server::builder("test", "1"), |server, tool| server.tool(tool));
    let config =
        Config { listen: vec!["127.0.0.1:0".parse().unwrap()], shards: Some(1), ..Config::default() };
    server.build().start(&config).unwrap()
}

#[test]
fn argument_headers_differing_from_the_body_are_rejected() {
    let schema = json!({"type": "object", "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"},
        "inner": {"type": "object", "properties": {
            "count": {"type": "integer", "x-mcp-header": "Count"},
            "dry": {"type": "boolean", "x-mcp-header": "Dry-Run"}
        }}
    }});
    let tool = Tool::new("place").input_schema(schema).run(|arguments: Value, _| arguments.to_string());
    let running = running([tool]);
    let mut client = Client::connect(running.addresses()[0]);
    let mut call = |arguments: Value, lines: &str| {
        let (headers, body) = modern("tools/call", json!({"name": "place", "arguments": arguments}));
        let reply = client.post(&format!("{headers}{lines}"), body);
        if reply.status == 200 { 0 } else { refused(&reply).1 }
    };
    let region = |text: &str| json!({"region": text});
    let count = |number: Value| json!({"inner": {"count": number}});
    let accepted = [
        (region("Hello"), "Mcp-Param-Region: Hello"),
        (region("Hello"), "mcp-param-region:\t Hello \t"),
        (region("Hello"), "Mcp-Param-Region: =?base64?SGVsbG8=?="),
        (region("Grüße"), "Mcp-Param-Region: =?base64?R3LDvMOfZQ==?="),
        (region("SGVsbG8="), "Mcp-Param-Region: SGVsbG8="),
        (region("=?base64?SGVsbG8="), "Mcp-Param-Region: =?base64?SGVsbG8="),
        (region("Hello"), "Mcp-Param-Region: Hello\r\nMcp-Param-Unknown: anything"),
        (count(json!(42)), "Mcp-Param-Count: 42"),
        (count(json!(42.0)), "Mcp-Param-Count: 42"),
        (count(json!(42)), "Mcp-Param-Count: 42.0"),
        (count(json!(9_007_199_254_740_991_i64)), "Mcp-Param-Count: 9007199254740991"),
        (json!({"inner": {"dry": true}}), "Mcp-Param-Dry-Run: true"),
        (json!({}), "X: y"),
        (json!({}), "Mcp-Param-Region: ignored"),
        (json!({"region": null}), "X: y"),
    ];
    for (arguments, lines) in accepted {
        assert_eq!(call(arguments.clone(), &format!("{lines}\r\n")), 0, "{arguments} {lines}");
    }
    let refused = [
        (region("Hello"), "X: y"),
        (region("Hello"), "Mcp-Param-Region: hello"),
        (region("Hello"), "Mcp-Param-Region: =?base64?SGVsbG8?="),
        (region("Hello"), "Mcp-Param-Region: =?base64?SGVs!!!bG8=?="),
        (region("Hello"), "Mcp-Param-Region: =?base64?/////w==?="),
        (region("Hello"), "Mcp-Param-Region: Hello\r\nMcp-Param-Region: Hello"),
        (region("Grüße"), "Mcp-Param-Region: Grüße"),
        (count(json!(42)), "Mcp-Param-Count: 43"),
        (count(json!(42)), "Mcp-Param-Count: forty-two"),
        (count(json!(42)), "Mcp-Param-Count: NaN"),
        (count(json!(9_223_372_036_854_775_808_u64)), "Mcp-Param-Count: 9223372036854775809"),
        (count(json!(9_007_199_254_740_993_i64)), "Mcp-Param-Count: 9007199254740992.0"),
        (count(json!(9_007_199_254_740_993_i64)), "Mcp-Param-Count: 9007199254740992"),
        (json!({"inner": {"dry": true}}), "Mcp-Param-Dry-Run: True"),
    ];
    let wrong = refused.len() as u64;
    for (arguments, lines) in refused {
        assert_eq!(call(arguments.clone(), &format!("{lines}\r\n")), -32020, "{arguments} {lines}");
    }
    let legacy = client.legacy("tools/call", json!({"name": "place", "arguments": {"region": "Hello"}}));
    assert_eq!(legacy.status, 200, "ignored in the legacy era");
    assert_eq!(end(running).refusals("header_mismatch"), wrong);
}

#[test]
fn missing_client_capability_is_named_in_the_error() {
    let tool = Tool::new("ask").requires(Capability::Sampling).requires(Capability::ElicitationUrl);
    let running = running([tool.run(|_: NoArguments, _| "asked")]);
    let mut client = Client::connect(running.addresses()[0]);
    let mut call = |capabilities: Value| {
        let (headers, body) = modern("tools/call", json!({"name": "ask"}));
        let mut body: Value = serde_json::from_str(&body).unwrap();
        body["params"]["_meta"][CAPABILITIES] = capabilities;
        client.post(&headers, body.to_string())
    };
    let reply = call(json!({"elicitation": {}}));
    assert_eq!(refused(&reply), (400, -32021));
    let needed = json!({"sampling": {}, "elicitation": {"url": {}}});
    assert_eq!(reply.json()["error"]["data"], json!({"requiredCapabilities": needed}));
    let reply = call(json!({"sampling": {}, "elicitation": {"form": {}}}));
    assert_eq!(reply.json()["error"]["data"]["requiredCapabilities"], json!({"elicitation": {"url": {}}}));
    assert_eq!(call(needed).status, 200);
    assert_eq!(refused(&call(json!({}))), (400, -32021), "capabilities of earlier requests do not count");
    let legacy = client.legacy("tools/call", json!({"name": "ask"}));
    assert_eq!(refused(&legacy), (200, -32602), "-32021 exists only in the 2026 era");
    assert_eq!(end(running).refusals("missing_capability"), 3);
}

#[test]
fn call_errors_are_distinguished_by_cause() {
    let server = start();
    let mut client = server.connect();
    for era in [Client::legacy, Client::modern] {
        let unknown = era(&mut client, "tools/call", json!({"name": "nope", "arguments": {}}));
        assert_eq!(refused(&unknown), (200, -32602));
        assert_eq!(unknown.json()["error"]["message"], "Unknown tool: nope");
        let long = era(&mut client, "tools/call", json!({"name": "é".repeat(1000)}));
        let message = long.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.len() < 100, "{message}");
        for params in [json!({"name": "echo", "arguments": []}), json!({"name": "echo", "arguments": "x"})] {
            assert_eq!(refused(&era(&mut client, "tools/call", params.clone())), (200, -32602), "{params}");
        }
        let wrong = era(&mut client, "tools/call", json!({"name": "add", "arguments": {"a": "x", "c": 1}}));
        assert_eq!(
            (wrong.status, &wrong.json()["result"]["isError"]),
            (200, &json!(true)),
            "the model can correct it"
        );
        let extra = json!({"name": "add", "arguments": {"a": 1, "b": 2}, "task": {}, "more": [1]});
        assert_eq!(
            era(&mut client, "tools/call", extra).json()["result"].get("isError"),
            None,
            "absent arguments and unknown fields are accepted"
        );
    }
    for params in [json!({}), json!({"name": 1})] {
        assert_eq!(refused(&client.legacy("tools/call", params.clone())), (200, -32602), "{params}");
    }
    server.stop();
}
