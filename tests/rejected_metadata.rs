//! Checks of metadata, protocol version, standard headers and method, in this order: of several faults the earliest check
//! determines the code, the status and the metric.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/rejections.rs"]
mod rejections;
mod support;

use rejections::{
    CAPABILITIES, CLIENT_INFO, DISCOVER, LOG_LEVEL, VERSION, echo_call, refused, start, with_meta,
};
use serde_json::{Value, json};
use support::modern;

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
