//! Reading a request in its handler: each accessor in each kind of handler, over HTTP of both eras and at standard input and
//! output.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    io::{BufRead, BufReader, Write},
    process::Stdio,
};

use corelane::{Completer, Limits, NoArguments, Prompt, RegistryError, Resource, Server, Tool};
use serde_json::{Value, json};
use support::{Client, ServerProcess, example, session::Session};

const NEWEST_LEGACY: &str = "2025-11-25";

/// The kinds of handlers; a completer cannot run on tokio.
fn kinds() -> Vec<&'static str> {
    let mut kinds = vec!["inline", "async", "blocking"];
    if cfg!(feature = "tokio") {
        kinds.push("tokio");
    }
    kinds
}

/// A request of something that reports: its method, its parameters, the name it has there, and how it runs.
struct Reporter {
    method: &'static str,
    params: Value,
    name: String,
    kind: &'static str,
}

/// Everything that reports.
fn reporters() -> Vec<Reporter> {
    let mut all = vec![Reporter {
        method: "tools/call",
        params: json!({"name": "raw"}),
        name: "raw".into(),
        kind: "inline",
    }];
    for kind in kinds() {
        let mut add = |method, params, name: String| all.push(Reporter { method, params, name, kind });
        add("tools/call", json!({"name": kind}), kind.to_owned());
        add("prompts/get", json!({"name": kind}), kind.to_owned());
        add("resources/read", json!({"uri": format!("one://{kind}")}), format!("one://{kind}"));
        add("resources/read", json!({"uri": format!("{kind}://x")}), format!("{kind}://{{of}}"));
        if kind != "tokio" {
            let reference = json!({"type": "ref/prompt", "name": "completed"});
            let params = json!({"ref": reference, "argument": {"name": kind, "value": ""}});
            add("completion/complete", params, "completed".to_owned());
        }
    }
    all
}

/// The report of a handler.
fn report(result: &Value) -> Value {
    let texts = ["/content/0/text", "/messages/0/content/text", "/contents/0/text", "/completion/values/0"];
    let text = texts.iter().find_map(|text| result.pointer(text)?.as_str());
    serde_json::from_str(text.unwrap_or_else(|| panic!("no report: {result}"))).unwrap()
}

fn meta() -> Value {
    json!({
        "com.example/trace": {"id": "t-1"},
        "io.modelcontextprotocol/clientInfo": {"name": "tester", "version": "2", "title": "A tester"},
    })
}

fn modern_meta() -> Value {
    let mut meta = meta();
    meta["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
    meta["io.modelcontextprotocol/clientCapabilities"] = json!({});
    meta
}

/// The header lines that a request of 2026-07-28 must have.
fn modern_headers(method: &str, params: &Value) -> String {
    let name = params["name"].as_str().or(params["uri"].as_str());
    let name = name.map_or(String::new(), |name| format!("Mcp-Name: {name}\r\n"));
    format!("MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: {method}\r\n{name}")
}

const HEADERS: &str = "x-tenant: acme\r\nX-Undeclared: there\r\nAuthorization: Bearer s3cret\r\n";

fn start() -> ServerProcess {
    ServerProcess::observed(example("context", &["serve", "--listen", "127.0.0.1:0"]))
}

/// As a client of 2026-07-28: the reply of a tool.
fn call(client: &mut Client, tool: &str, headers: impl AsRef<[u8]>, meta: Value) -> support::Reply {
    let params = json!({"name": tool, "_meta": meta});
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string();
    let mut request = format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{}",
        body.len(),
        modern_headers("tools/call", &params),
    )
    .into_bytes();
    request.extend_from_slice(headers.as_ref());
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(body.as_bytes());
    client.send(request).read()
}

/// The address of a client as the server reads it: none before Linux 6.7.
fn peer(client: &Client) -> Value {
    let is_known = corelane_ring::probe().unwrap().peer_address;
    if is_known { json!(client.stream.local_addr().unwrap().to_string()) } else { Value::Null }
}

#[test]
fn every_kind_of_handler_reads_a_modern_http_request() {
    let server = start();
    let mut client = server.connect();
    let peer = peer(&client);
    for Reporter { method, mut params, name, kind } in reporters() {
        let headers = format!("{HEADERS}{}", modern_headers(method, &params));
        params["_meta"] = modern_meta();
        let body = json!({"jsonrpc": "2.0", "id": "r-7", "method": method, "params": params}).to_string();
        // Such a client has no session, so the header that would name one is read as any other.
        let reply = client.post(&format!("{headers}Mcp-Session-Id: none\r\n"), body);
        let expected = json!({
            "tenant": "acme",
            "undeclared": if kind == "inline" { json!("there") } else { Value::Null },
            "authorized": true,
            "trace": "t-1",
            "client": ["tester", "2", "A tester"],
            "session": null,
            "id": "r-7",
            "peer": peer,
            "tool": name,
            "revision": "2026-07-28",
        });
        assert_eq!(report(&reply.json()["result"]), expected, "{method} {kind}");
    }
    server.stop();
}

#[test]
fn every_kind_of_handler_reads_a_legacy_http_request() {
    let server = start();
    let session = Session::open(server.address, NEWEST_LEGACY, json!({}));
    let mut client = server.connect();
    let peer = peer(&client);
    for Reporter { method, mut params, name, kind } in reporters() {
        let ask = |client: &mut Client, headers: &str, params: &Value| {
            let body = json!({"jsonrpc": "2.0", "id": 12, "method": method, "params": params}).to_string();
            report(&client.post(&format!("{HEADERS}{headers}"), body).json()["result"])
        };
        let expected = json!({
            "tenant": "acme",
            "undeclared": if kind == "inline" { json!("there") } else { Value::Null },
            "authorized": true,
            "trace": null,
            "client": null,
            "session": session.id,
            "id": "12",
            "peer": peer,
            "tool": name,
            "revision": NEWEST_LEGACY,
        });
        let in_session = format!("Mcp-Session-Id: {}\r\n", session.id);
        assert_eq!(ask(&mut client, &in_session, &params), expected, "{method} {kind}");
        // Without a session, and with a description of the client that came with the request.
        params["_meta"] = meta();
        let said = ask(&mut client, "MCP-Protocol-Version: 2025-11-25\r\n", &params);
        let expected = [json!(null), json!("t-1"), json!(["tester", "2", "A tester"])];
        assert_eq!(
            [&said["session"], &said["trace"], &said["client"]],
            expected.each_ref(),
            "{method} {kind}"
        );
    }
    server.stop();
}

#[test]
fn every_kind_of_handler_reads_a_request_at_standard_input() {
    let mut command = example("context", &["stdio"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut ask = |id: Value, method: &str, params: &Value| -> Value {
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        writeln!(input, "{request}").unwrap();
        serde_json::from_str::<Value>(&output.next().unwrap().unwrap()).unwrap()["result"].clone()
    };
    let info = json!({"name": "shaken", "version": "1"});
    let handshake = json!({"protocolVersion": NEWEST_LEGACY, "capabilities": {}, "clientInfo": info});
    ask(json!(0), "initialize", &handshake);
    for Reporter { method, mut params, name, kind } in reporters() {
        let expected = |client: Value, trace: Value, revision: &str| {
            json!({
                "tenant": null,
                "undeclared": null,
                "authorized": false,
                "trace": trace,
                "client": client,
                "session": null,
                "id": "-3",
                "peer": null,
                "tool": name,
                "revision": revision,
            })
        };
        // The description in the handshake is not stored.
        let legacy = report(&ask(json!(-3), method, &params));
        assert_eq!(legacy, expected(Value::Null, Value::Null, NEWEST_LEGACY), "{method} {kind}");
        params["_meta"] = modern_meta();
        let modern = report(&ask(json!(-3), method, &params));
        let client = json!(["tester", "2", "A tester"]);
        assert_eq!(modern, expected(client, json!("t-1"), "2026-07-28"), "{method} {kind}");
    }
    drop(input);
    assert!(child.wait().unwrap().success());
}

#[test]
fn repeated_headers_are_joined_and_other_bytes_than_utf_8_replaced() {
    let server = start();
    let mut client = server.connect();
    for kind in kinds() {
        let mut tenant = |headers: &[u8]| {
            report(&call(&mut client, kind, headers, modern_meta()).json()["result"])["tenant"].clone()
        };
        assert_eq!(tenant(b"X-TENANT:  acme \t\r\n"), "acme", "{kind}: without the whitespace around it");
        assert_eq!(tenant(b"X-Tenant: a\r\nAccept: */*\r\nx-tenant: b, c\r\n"), "a, b, c", "{kind}");
        assert_eq!(tenant(b"X-Tenant: \r\n"), "", "{kind}: empty is not absent");
        assert_eq!(tenant(b"X-Tenant-Name: a\r\n"), Value::Null, "{kind}");
        assert_eq!(tenant(b"X-Tenant: a\xffb\r\n"), "a\u{fffd}b", "{kind}");
    }
    server.stop();
}

#[test]
fn calls_read_nothing_that_was_not_declared() {
    let server = start();
    let reply = call(&mut server.connect(), "undeclared", HEADERS, modern_meta());
    let said = report(&reply.json()["result"]);
    for accessor in ["tenant", "undeclared", "trace", "client", "session"] {
        assert_eq!(said[accessor], Value::Null, "{accessor}");
    }
    assert_eq!(
        (&said["authorized"], &said["id"], &said["tool"]),
        (&json!(false), &json!("1"), &json!("undeclared"))
    );
    server.stop();
}

/// The bytes that a header of `X-Tenant` has at its limit, beside what `modern_meta` has.
fn tenant_bytes_max() -> usize {
    let texts = ["X-Tenant", "com.example/trace", "id", "t-1", "io.modelcontextprotocol/clientInfo"];
    let info = ["name", "tester", "version", "2", "title", "A tester"];
    let values = 6;
    4096 - values * 32 - texts.iter().chain(&info).map(|text| text.len()).sum::<usize>()
}

#[test]
fn a_call_that_would_copy_more_than_4_kib_is_refused() {
    let server = start();
    let mut client = server.connect();
    let tenant = |bytes: usize| format!("X-Tenant: {}\r\n", "t".repeat(bytes));
    for kind in kinds() {
        let fits = call(&mut client, kind, tenant(tenant_bytes_max()), modern_meta());
        let said = report(&fits.json()["result"]);
        assert_eq!(said["tenant"].as_str().unwrap().len(), tenant_bytes_max(), "{kind}");
        let beyond = call(&mut client, kind, tenant(tenant_bytes_max() + 1), modern_meta());
        if kind == "inline" {
            assert_eq!(beyond.status, 200, "nothing is copied");
            continue;
        }
        assert_eq!((beyond.status, beyond.error_code()), (400, -32600), "{kind}");
        let message = beyond.json()["error"]["message"].clone();
        assert_eq!(message, "The headers and _meta members that this call reads exceed 4096 bytes");
    }
    // Many small values in `_meta` are counted, and so is one large text.
    for trace in [json!(vec![0; 200]), json!("t".repeat(4096))] {
        let mut meta = modern_meta();
        meta["com.example/trace"] = trace;
        assert_eq!(call(&mut client, "async", "", meta.clone()).error_code(), -32600);
        assert_eq!(
            call(&mut client, "undeclared", "", meta).status,
            200,
            "what is not declared is not counted"
        );
    }
    assert_eq!(refused(&server, "request_copy_too_large"), kinds().len() - 1 + 2);
    server.stop();
}

/// How many requests `/metrics` counts as refused for a reason.
fn refused(server: &ServerProcess, reason: &str) -> usize {
    let mut client = Client::connect(server.admin());
    let text = String::from_utf8(client.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").read().body);
    let text = text.unwrap();
    let label = format!("reason=\"{reason}\"");
    let values =
        text.lines().filter(|line| line.contains(&label)).map(|line| line.rsplit(' ').next().unwrap());
    values.map(|value| value.parse::<usize>().unwrap()).sum()
}

#[test]
fn header_values_are_not_logged() {
    let mut command = example("context", &["serve", "--listen", "127.0.0.1:0", "--log", "trace"]);
    command.stderr(Stdio::piped());
    let server = ServerProcess::spawn(command);
    let mut client = server.connect();
    for kind in kinds() {
        assert_eq!(call(&mut client, kind, HEADERS, modern_meta()).status, 200);
        let beyond = format!("{HEADERS}X-Tenant: {}\r\n", "s3cret".repeat(700));
        call(&mut client, kind, beyond, modern_meta());
    }
    drop(client);
    server.signal("-TERM");
    let before = server.before.clone();
    let (_, stdout, stderr) = server.wait(std::time::Duration::from_secs(20));
    assert!(!format!("{before}{stdout}{stderr}").contains("s3cret"));
}

#[test]
fn a_header_that_is_no_token_is_refused_at_start() {
    let tool = || Tool::new("t").headers(["x-tenant", "x tenant"]).run_async(async |_: NoArguments, _| "");
    let refusal = |server: corelane::ServerBuilder| match server.build().registry().read(|registry| {
        corelane::internals::registry::Snapshot::build(
            registry,
            &Limits::default(),
            &corelane::internals::signed_token::SigningKey::new(b"key"),
        )
        .map(drop)
    }) {
        Err(RegistryError::HeaderName { of, header }) => (of, header),
        other => panic!("{other:?}"),
    };
    let server = || Server::builder("test", "0");
    let refused = |of: &str, header: &str| (of.to_owned(), header.to_owned());
    assert_eq!(refusal(server().tool(tool())), refused("t", "x tenant"));
    let prompt = Prompt::new("p").headers([""]).run(|_: NoArguments, _| "");
    assert_eq!(refusal(server().prompt(prompt)), refused("p", ""));
    let resource = Resource::new("test://r", "r").headers(["x:"]).run(|_, _| "");
    assert_eq!(refusal(server().resource(resource)), refused("test://r", "x:"));
    let completer = Completer::new("a", |_, _| vec![""]).headers(["ä"]);
    let template = corelane::ResourceTemplate::new("test://{a}", "r").complete(completer);
    let template = template.run(|_, _| "");
    assert_eq!(refusal(server().template(template)).1, "ä");
}
