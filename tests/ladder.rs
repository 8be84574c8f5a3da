//! Precedence of rejections: of several faults the earliest check determines the code, the status and the metric. The
//! order is Host and Origin, path and verb, media type and JSON, JSON-RPC shape, metadata, protocol version, standard
//! headers, method, parameters.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use corelane::{Capability, Config, NoArguments, Running, Server, Tool};
use serde_json::{Value, json};
use support::{Client, Reply, ServerProcess, modern, peer::end};

const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";

fn start() -> ServerProcess {
    ServerProcess::start(&["--shards", "1", "--stats"])
}

/// Status and code of a rejection.
fn refused(reply: &Reply) -> (u16, i64) {
    (reply.status, reply.error_code())
}

fn echo_call() -> (String, String) {
    modern("tools/call", json!({"name": "echo", "arguments": {"message": "x"}}))
}

fn with_meta(meta: Value) -> String {
    json!({"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": {"_meta": meta}}).to_string()
}

const DISCOVER: &str = "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: server/discover\r\n";

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

#[test]
fn incomplete_request_metadata_is_rejected() {
    let server = start();
    let mut client = server.connect();
    let whole = json!({VERSION: "2026-07-28", CAPABILITIES: {}});
    assert_eq!(client.post(DISCOVER, with_meta(whole.clone())).status, 200, "clientInfo is optional");
    let mut change = |key: &str, value: Option<Value>| {
        let mut meta = whole.clone();
        match value {
            Some(value) => meta[key] = value,
            None => drop(meta.as_object_mut().unwrap().remove(key)),
        }
        client.post(DISCOVER, with_meta(meta))
    };
    for (key, value) in [
        (VERSION, None),
        (VERSION, Some(json!(20_260_728))),
        (CAPABILITIES, None),
        (CAPABILITIES, Some(json!([]))),
        (CAPABILITIES, Some(Value::Null)),
        (CLIENT_INFO, Some(json!({"name": "x"}))),
        (CLIENT_INFO, Some(json!("x"))),
        (LOG_LEVEL, Some(json!("loud"))),
    ] {
        let reply = change(key, value.clone());
        assert_eq!(refused(&reply), (400, -32602), "{key} {value:?}");
        assert!(reply.json()["error"]["message"].as_str().unwrap().contains("io.modelcontextprotocol/"));
    }
    for (key, value) in [
        (CLIENT_INFO, json!({"name": "x", "version": "1", "more": 2})),
        (LOG_LEVEL, json!("warning")),
        ("com.example/other", json!([1])),
        ("traceparent", json!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")),
    ] {
        assert_eq!(change(key, Some(value)).status, 200, "{key}");
    }
    for params in [json!({}), json!({"_meta": {}}), json!({"_meta": 1})] {
        let body =
            json!({"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": params}).to_string();
        assert_eq!(refused(&client.post(DISCOVER, body)), (400, -32602), "{params}");
    }
    let bare = r#"{"jsonrpc":"2.0","id":1,"method":"server/discover"}"#;
    assert_eq!(refused(&client.post(DISCOVER, bare)), (400, -32602));
    let stats = server.stop();
    assert!(stats.contains("refused invalid_params: 12"), "{stats}");
}

#[test]
fn request_is_processed_independently_of_earlier_ones() {
    let server = start();
    let mut client = server.connect();
    let (headers, body) = echo_call();
    for _ in 0..2 {
        assert_eq!(client.post(&headers, &body).status, 200);
        // Nothing of the previous request is remembered: this one has no metadata of its own.
        let bare = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
        assert_eq!(refused(&client.post("MCP-Protocol-Version: 2026-07-28\r\n", bare)), (400, -32602));
        assert_eq!(client.post("", bare).status, 200, "a request without modern metadata is legacy");
    }
    server.stop();
}

#[test]
fn version_mismatch_is_reported_before_an_unsupported_version() {
    let server = start();
    let mut client = server.connect();
    let (headers, body) = echo_call();
    let future = body.replace("2026-07-28", "v999.0.0");
    assert_eq!(refused(&client.post(&headers, &future)), (400, -32020), "header 2026-07-28, body v999");
    let reply = client.post(&headers.replace("2026-07-28", "v999.0.0"), &future);
    assert_eq!(refused(&reply), (400, -32022));
    let data = reply.json()["error"]["data"].clone();
    assert_eq!(data["requested"], "v999.0.0");
    let discovered =
        client.modern("server/discover", json!({})).json()["result"]["supportedVersions"].clone();
    for version in data["supported"].as_array().unwrap() {
        assert!(discovered.as_array().unwrap().contains(version), "{version}");
    }
    // A legacy revision cannot be requested this way, so it is not offered.
    let claimed = body.replace("2026-07-28", "2025-11-25");
    let reply = client.post(&headers.replace("2026-07-28", "2025-11-25"), &claimed);
    assert_eq!(refused(&reply), (400, -32022));
    assert_eq!(reply.json()["error"]["data"]["supported"], json!(["2026-07-28"]));
    // Missing headers are checked only for a supported version.
    assert_eq!(refused(&client.post("", &future)), (400, -32022), "no headers at all");
    assert_eq!(
        refused(&client.post("Mcp-Method: ping\r\n", &future)),
        (400, -32020),
        "a header that contradicts the body"
    );
    server.stop();
}

#[test]
fn standard_headers_differing_from_the_body_are_rejected() {
    let server = start();
    let mut client = server.connect();
    let (headers, body) = echo_call();
    assert_eq!(client.post(&headers, &body).status, 200);
    for (from, to) in [
        ("MCP-Protocol-Version: 2026-07-28\r\n", ""),
        ("MCP-Protocol-Version: 2026-07-28", "MCP-Protocol-Version: 2025-11-25"),
        (
            "MCP-Protocol-Version: 2026-07-28",
            "MCP-Protocol-Version: 2026-07-28\r\nMCP-Protocol-Version: 2026-07-28",
        ),
        ("Mcp-Method: tools/call\r\n", ""),
        ("Mcp-Method: tools/call", "Mcp-Method: tools/list"),
        ("Mcp-Method: tools/call", "Mcp-Method: TOOLS/CALL"),
        ("Mcp-Method: tools/call", "Mcp-Method: =?base64?dG9vbHMvY2FsbA==?="),
        ("Mcp-Name: echo\r\n", ""),
        ("Mcp-Name: echo", "Mcp-Name: add"),
        ("Mcp-Name: echo", "Mcp-Name: Echo"),
        ("Mcp-Name: echo", "Mcp-Name: ech\u{f6}"),
        ("Mcp-Name: echo", "Mcp-Name: =?base64?ZWNobw?="),
        ("Mcp-Name: echo", "Mcp-Name: =?base64?ZWNo!bw==?="),
        ("Mcp-Name: echo", "Mcp-Name: =?base64?ZWNobx==?="),
        ("Mcp-Name: echo", "Mcp-Name: =?base64?/w==?="),
        ("Mcp-Name: echo", "Mcp-Name: =?BASE64?ZWNobw==?="),
        ("Mcp-Name: echo\r\n", "Mcp-Name: echo\r\nMcp-Name: echo\r\n"),
    ] {
        let reply = client.post(&headers.replace(from, to), &body);
        assert_eq!(refused(&reply), (400, -32020), "{from} -> {to}");
        assert_eq!(reply.json()["id"], 1);
    }
    for (from, to) in [
        ("Mcp-Name: echo", "mcp-name: \t echo  "),
        ("Mcp-Name: echo", "MCP-NAME: =?base64?ZWNobw==?="),
        ("Mcp-Method", "MCP-METHOD"),
        ("Mcp-Method: tools/call", "Mcp-Method:tools/call"),
    ] {
        assert_eq!(client.post(&headers.replace(from, to), &body).status, 200, "{from} -> {to}");
    }
    // The other methods with a name are checked before their parameters.
    for (method, key) in [("prompts/get", "name"), ("resources/read", "uri")] {
        let (headers, body) = modern(method, json!({key: "a"}));
        let named = headers.replace("Mcp-Name: a\r\n", "");
        assert_eq!(refused(&client.post(&named, &body)), (400, -32020), "{method}");
        assert_eq!(
            refused(&client.post(&format!("{named}Mcp-Name: a\r\n"), &body)),
            (200, -32602),
            "{method}"
        );
    }
    let stats = server.stop();
    assert!(stats.contains("refused header_mismatch: 19"), "{stats}");
}

#[test]
fn methods_of_the_other_era_are_not_found() {
    let server = start();
    let mut client = server.connect();
    for method in [
        "initialize",
        "ping",
        "logging/setLevel",
        "resources/subscribe",
        "resources/unsubscribe",
        "tasks/list",
        "tasks/result",
        "unknown/method",
    ] {
        let reply = client.modern(method, json!({}));
        assert_eq!(refused(&reply), (404, -32601), "{method}");
        assert_eq!(reply.json()["id"], 1);
    }
    for method in
        ["server/discover", "subscriptions/listen", "tasks/get", "tasks/list", "Ping", "tools/call "]
    {
        assert_eq!(refused(&client.legacy(method, json!({"name": "x"}))), (200, -32601), "{method}");
    }
    let stats = server.stop();
    assert!(stats.contains("refused unknown_method: 14"), "{stats}");
}

#[test]
fn legacy_version_header_is_optional_and_checked() {
    let server = start();
    let mut client = server.connect();
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        assert_eq!(client.post(&format!("MCP-Protocol-Version: {version}\r\n"), list).status, 200);
    }
    // Treated as 2025-03-26, which has no output schema.
    let assumed = client.post("", list).json();
    assert_eq!(assumed["result"]["tools"][1].get("outputSchema"), None);
    let reply = client.post("MCP-Protocol-Version: 1999-01-01\r\n", list);
    assert_eq!(refused(&reply), (400, -32000));
    let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("1999-01-01") && message.contains("2025-11-25"), "{message}");
    let reply = client.post("Mcp-Method: evil\r\nMcp-Name: evil\r\n", list);
    assert_eq!(reply.status, 200, "headers of the 2026 era are ignored in the legacy era");
    let stats = server.stop();
    assert!(stats.contains("refused unknown_legacy_version: 1"), "{stats}");
}

#[test]
fn initialize_negotiates_only_legacy_versions() {
    let server = start();
    let mut client = server.connect();
    let params = |asked: &str| json!({"protocolVersion": asked, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    for (asked, agreed) in [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("1999-01-01", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
    ] {
        let result = client.legacy("initialize", params(asked)).json()["result"].clone();
        assert_eq!(result["protocolVersion"], agreed, "{asked}");
        assert_eq!(result["serverInfo"]["name"], "corelane");
        let completions = (agreed >= "2025-03-26").then(|| json!({}));
        assert_eq!(result["capabilities"].get("completions"), completions.as_ref(), "{asked}");
        assert_eq!(result["capabilities"]["resources"], json!({"subscribe": true, "listChanged": true}));
        assert!(
            result["capabilities"].get("extensions").is_none(),
            "extensions do not exist in the legacy era"
        );
        assert_eq!(result.get("resultType"), None, "no result type in the legacy era");
    }
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params("2025-11-25")})
        .to_string();
    for header in ["2026-07-28", "2027-01-01", "foo", "1999-01-01", "2025-03-26\r\nMCP-Protocol-Version: foo"]
    {
        let reply = client.post(&format!("MCP-Protocol-Version: {header}\r\n"), &body);
        assert_eq!(reply.json()["result"]["protocolVersion"], "2025-11-25", "{header}: the body negotiates");
    }
    for params in [json!({}), json!({"protocolVersion": 1})] {
        assert_eq!(refused(&client.legacy("initialize", params)), (200, -32602));
    }
    assert_eq!(client.legacy("ping", json!({})).json()["result"], json!({}), "an empty result");
    server.stop();
}

#[test]
fn discovery_and_lists_describe_the_registry() {
    let server = start();
    let mut client = server.connect();
    let discovered = client.modern("server/discover", json!({})).json()["result"].clone();
    assert_eq!(discovered["resultType"], "complete");
    assert_eq!(discovered["supportedVersions"][0], "2026-07-28");
    assert_eq!(
        discovered["capabilities"],
        json!({
            "tools": {"listChanged": true},
            "resources": {"subscribe": true, "listChanged": true},
            "prompts": {"listChanged": true},
            "completions": {},
            "logging": {},
            "extensions": {"io.modelcontextprotocol/tasks": {}}
        }),
        "only implemented capabilities are advertised"
    );
    assert!(discovered["ttlMs"].is_u64() && discovered["cacheScope"] == "public", "caching hints");
    assert_eq!(
        discovered["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "corelane",
        "the server names itself"
    );
    assert!(discovered.get("serverInfo").is_none() && discovered.get("protocolVersion").is_none());
    let first = client.modern("tools/list", json!({})).body;
    for _ in 0..3 {
        assert_eq!(server.connect().modern("tools/list", json!({})).body, first, "equal on every connection");
    }
    for cursor in [json!("nonsense"), json!("0"), json!("+1"), json!("01"), json!("-1"), json!(1), json!("")]
    {
        let reply = client.modern("tools/list", json!({"cursor": cursor}));
        assert_eq!(refused(&reply), (200, -32602), "{cursor}");
    }
    server.stop();
}

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
