//! Requests that are rejected before their metadata is read, in this order: Host and Origin, path and verb, media type and JSON,
//! JSON-RPC shape. Of several faults the earliest check determines the code, the status and the metric.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/rejections.rs"]
mod rejections;
mod support;

use rejections::{echo_call, refused, start};
use serde_json::{Value, json};
use support::modern;

#[test]
fn forbidden_host_or_origin_is_rejected_before_anything_else() {
    let server = start();
    for verb in ["GET", "POST", "DELETE", "OPTIONS", "HEAD", "PUT"] {
        for path in ["/mcp", "/", "/other", "/mcp/"] {
            for names in [
                "Host: evil.example",
                "Host: localhost.evil.example",
                "Host: localhost.",
                "Host: 0.0.0.0",
                "Host: user@localhost",
                "Host: localhost\r\nOrigin: http://evil.example",
                "Host: localhost\r\nOrigin: null",
                "Host: localhost\r\nOrigin: http://localhost:1\r\nOrigin: http://evil.example",
            ] {
                let mut client = server.connect();
                let reply = client.send(format!("{verb} {path} HTTP/1.1\r\n{names}\r\n\r\n")).read();
                assert_eq!(reply.status, 403, "{verb} {path} {names}");
                assert_eq!(reply.header("access-control-allow-origin"), None);
            }
        }
    }
    let stats = server.stop();
    assert!(stats.contains("refused host_forbidden: 120"), "{stats}");
    assert!(stats.contains("refused origin_forbidden: 72"), "{stats}");
    assert!(!stats.contains("tools/call"), "no tool was called: {stats}");
}

#[test]
fn unknown_paths_and_verbs_are_rejected() {
    let server = start();
    let mut client = server.connect();
    let mut ask = |line: &str| client.send(format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n")).read();
    assert_eq!(ask("GET /").status, 404);
    assert_eq!(ask("OPTIONS /other").status, 404);
    for verb in ["PUT", "PATCH", "BREW"] {
        let reply = ask(&format!("{verb} /mcp"));
        assert_eq!(
            (reply.status, reply.header("allow")),
            (405, Some("POST, GET, DELETE, OPTIONS")),
            "{verb}"
        );
    }
    let options = ask("OPTIONS /mcp");
    assert_eq!((options.status, options.header("allow")), (204, Some("POST, GET, DELETE, OPTIONS")));
    assert_eq!(options.header("content-length"), None, "a 204 has no content length");
    server.stop();
}

#[test]
fn preflight_lists_allowed_headers_and_methods() {
    let server = start();
    let mut client = server.connect();
    let origin = "http://localhost:3000";
    let asked = "Access-Control-Request-Method: POST\r\n\
                 Access-Control-Request-Headers: content-type, mcp-param-region, x-evil, mcp-param-a b";
    let head = format!("OPTIONS /mcp HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\n{asked}\r\n\r\n");
    let reply = client.send(head).read();
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (204, Some(origin)));
    assert_eq!(reply.header("vary"), Some("Origin"));
    assert_eq!(reply.header("access-control-allow-methods"), Some("POST, GET, DELETE, OPTIONS"));
    let allowed = reply.header("access-control-allow-headers").unwrap();
    for name in ["content-type", "authorization", "mcp-protocol-version", "mcp-name", "mcp-param-region"] {
        assert!(allowed.split(", ").any(|allowed| allowed == name), "{name} is not in {allowed}");
    }
    assert!(!allowed.contains("x-evil") && !allowed.contains("a b"), "{allowed}");
    // Every later reply is readable by that page, rejections too.
    let (headers, body) = echo_call();
    for (headers, status) in [(headers.clone(), 200), (headers.replace("echo", "add"), 400)] {
        let reply = client.post(&format!("Origin: {origin}\r\n{headers}"), &body);
        assert_eq!((reply.status, reply.header("access-control-allow-origin")), (status, Some(origin)));
        assert!(reply.header("access-control-expose-headers").unwrap().contains("Mcp-Session-Id"));
    }
    let sleep = json!({"name": "sleep", "arguments": {"ms": 1}});
    let (headers, body) = modern("tools/call", sleep);
    let reply = client.post(&format!("Origin: {origin}\r\n{headers}"), body);
    assert_eq!(reply.header("access-control-allow-origin"), Some(origin), "a later reply");
    let missing =
        client.send(format!("GET /x HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\n\r\n")).read();
    assert_eq!((missing.status, missing.header("access-control-allow-origin")), (404, Some(origin)));
    server.stop();
}

#[test]
fn body_that_is_not_json_is_rejected() {
    let server = start();
    let body = echo_call().1;
    for (media_type, status) in [
        ("Content-Type: application/json", 200),
        ("content-type: Application/JSON; charset=utf-8", 200),
        ("Content-Type: text/plain", 415),
        ("Content-Type: application/json-seq", 415),
        ("Content-Type: application/jsonx", 415),
        ("Content-Type: multipart/form-data; boundary=application/json", 415),
        ("Content-Type: application/json\r\nContent-Type: text/plain", 415),
        ("X: y", 415),
    ] {
        let head = echo_call().0;
        let bytes = format!(
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\n{media_type}\r\n{head}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        assert_eq!(server.connect().send(bytes).read().status, status, "CSRF: {media_type}");
    }
    let mut client = server.connect();
    for body in ["", "{", "nul", "\u{feff}{}", "{\"a\":1,}", "[1,]", "{\"a\":\"\\ud800\"}"] {
        assert_eq!(refused(&client.post("", body)), (400, -32700), "{body}");
    }
    let mut latin = echo_call().1.into_bytes();
    let at = latin.iter().position(|&byte| byte == b'x').unwrap();
    latin[at] = 0xff;
    assert_eq!(refused(&client.post("", latin)), (400, -32700), "UTF-8 only");
    let stats = server.stop();
    assert!(
        stats.contains("refused media_type_unsupported: 6") && stats.contains("refused not_json: 8"),
        "{stats}"
    );
}

#[test]
fn json_that_is_not_a_request_is_rejected() {
    let server = start();
    let mut client = server.connect();
    for body in [
        "1",
        "\"x\"",
        "null",
        "[]",
        "{}",
        r#"{"id":1,"method":"ping"}"#,
        r#"{"jsonrpc":2.0,"id":1,"method":"ping"}"#,
        r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":18446744073709551616,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":2}"#,
        r#"{"jsonrpc":"2.0","id":1,"Method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":3}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/list"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","name":"add"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"a":1,"a":2}}}"#,
    ] {
        assert_eq!(refused(&client.post("", body)), (400, -32600), "{body}");
    }
    let stats = server.stop();
    assert!(stats.contains("refused invalid_request: 18"), "{stats}");
}

#[test]
fn request_id_is_echoed_verbatim_or_omitted() {
    let server = start();
    let mut client = server.connect();
    for id in ["0", "1", "\"1\"", "\"\"", "-9223372036854775808", "9223372036854775807", "\"\\u0000é\""] {
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
        let written: Value = serde_json::from_str(id).unwrap();
        assert_eq!(client.post("", body).json()["id"], written, "{id}");
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"none"}}"#);
        let reply = client.post("", body).json();
        assert_eq!((&reply["id"], &reply["error"]["code"]), (&written, &json!(-32601)));
        assert!(reply["error"]["message"].is_string() && reply.get("result").is_none());
    }
    for body in ["{", "[]", r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#] {
        assert_eq!(client.post("", body).json().get("id"), None, "never null: {body}");
    }
    server.stop();
}

#[test]
fn notifications_are_accepted_without_a_response() {
    let server = start();
    let mut client = server.connect();
    let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let unknown = r#"{"jsonrpc":"2.0","method":"notifications/anything","params":{"x":1}}"#;
    for version in ["", "MCP-Protocol-Version: 2025-06-18\r\n", "MCP-Protocol-Version: 2026-07-28\r\n"] {
        for body in [initialized, unknown] {
            let reply = client.post(version, body);
            assert_eq!((reply.status, reply.body.len()), (202, 0), "{version} {body}");
            assert_eq!(reply.header("content-length"), Some("0"));
        }
    }
    for version in
        ["MCP-Protocol-Version: 1999-01-01\r\n", "MCP-Protocol-Version: a\r\nMCP-Protocol-Version: a\r\n"]
    {
        let reply = client.post(version, initialized);
        assert_eq!(reply.status, 400, "an unsupported version: {version}");
        assert_eq!(reply.json().get("id"), None);
    }
    server.stop();
}
