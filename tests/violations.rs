//! Invalid arguments are answered with the expected value and its location, over HTTP and stdio.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    io::{BufRead, BufReader, Write},
    process::Stdio,
};

use serde_json::{Value, json};
use support::{ServerProcess, example, modern};

/// Requests, and the beginnings of the expected replies.
fn cases() -> Vec<(&'static str, Value, &'static str)> {
    let tool = |name: &str, arguments: Value| json!({"name": name, "arguments": arguments});
    let mut cases = Vec::new();
    for (name, arguments, text) in [
        ("weather", json!({"city": 1}), "/city: the value is not of type \"string\""),
        (
            "weather",
            json!({"city": "Ulm", "citty": "Ulm"}),
            "(root): unknown argument \"citty\", did you mean \"city\"?",
        ),
        (
            "weather",
            json!({"city": "Ulm", "unit": "metrical"}),
            "/unit: must be one of \"imperial\", \"metric\", null",
        ),
        ("draw", json!({"gone": 1}), "/gone: \"gone\" is not allowed here"),
        (
            "draw",
            json!({"shape": {"kind": "cirle"}}),
            "/shape: /shape/kind must be one of \"circle\", \"square\"",
        ),
        (
            "draw",
            json!({"shape": {"kind": "square", "side": "x"}}),
            "/shape: fits none of 2 alternatives; of the closest: /shape/side the value is not of type \"number\"",
        ),
    ] {
        cases.push(("tools/call", tool(name, arguments), text));
    }
    // These match the schema but not the type.
    for name in ["inline", "borrowed", "async", "blocking"] {
        let arguments = json!({"lines": [{"count": 1}, {"count": 300}]});
        cases.push((
            "tools/call",
            tool(name, arguments),
            "/lines/1/count: invalid value: integer `300`, expected u8",
        ));
        cases.push(("tools/call", tool(name, json!({})), "(root): missing field `lines`"));
    }
    cases.push((
        "prompts/get",
        tool("review", json!({"lines": "many"})),
        "/lines: invalid type: string \"many\"",
    ));
    cases.push(("resources/read", json!({"uri": "log://many"}), "/lines: invalid type: string \"many\""));
    cases
}

/// Checks the beginning of a reply.
fn check(answer: &Value, method: &str, params: &Value, text: &str) {
    let explanation = if method == "tools/call" {
        assert_eq!(answer["result"]["isError"], true, "{answer}");
        &answer["result"]["content"][0]["text"]
    } else {
        assert_eq!(answer["error"]["code"], -32602, "{answer}");
        &answer["error"]["message"]
    };
    let wrong = if method == "resources/read" { "Invalid URI" } else { "Invalid arguments" };
    let explanation = explanation.as_str().unwrap();
    assert!(explanation.starts_with(&format!("{wrong}: {text}")), "{params}: {explanation}");
}

#[test]
fn invalid_arguments_are_explained_over_http() {
    let server = ServerProcess::spawn(example("violations", &["serve", "--listen", "127.0.0.1:0"]));
    let mut client = server.connect();
    for (method, params, text) in cases() {
        let (headers, body) = modern(method, params.clone());
        let uri = params["uri"].as_str().map_or(String::new(), |uri| format!("Mcp-Name: {uri}\r\n"));
        let answer = client.post(&format!("{headers}{uri}"), body).json();
        check(&answer, method, &params, text);
    }
    server.stop();
}

#[test]
fn invalid_arguments_are_explained_on_stdio() {
    let mut command = example("violations", &["stdio"]);
    let mut server =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut input = server.stdin.take().unwrap();
    let mut output = BufReader::new(server.stdout.take().unwrap());
    for (method, params, text) in cases() {
        let (_, request) = modern(method, params.clone());
        writeln!(input, "{request}").unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        check(&serde_json::from_str(&line).unwrap(), method, &params, text);
    }
    drop(input);
    assert!(server.wait().unwrap().success());
}
