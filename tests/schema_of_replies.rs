//! Verifies every kind of reply against the official JSON Schema of its revision.
//!
//! The schemas are those of the specification, `REVISION/schema.json` below `$CORELANE_SCHEMAS` or
//! `../shared/mcp/schema`. Without them the tests print a notice and check nothing; where `CI` is set they fail.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use corelane::{Config, Limits, NoArguments, Running, Tool, demo};
use serde_json::{Value, json};
use support::{
    Client, Reply, await_calls_in_flight, modern, post,
    schema::{MODERN, NEWEST_LEGACY, Schema, check_message},
};

/// Tests the validation that all other tests use.
#[test]
fn recorded_message_violating_the_schema_is_detected() {
    if Schema::all().is_none() {
        return;
    }
    let fits = |message: Value| std::panic::catch_unwind(|| check_message(NEWEST_LEGACY, &message)).is_ok();
    let result = |result| json!({"jsonrpc": "2.0", "id": 1, "result": result});
    let text = json!({"type": "text", "text": "x"});
    for (message, is_right) in [
        (result(json!({})), true),
        (result(json!({"content": [text]})), true),
        (result(json!({"content": text})), false),
        (result(json!({"content": [{"type": "text"}]})), false),
        (result(json!({"resultType": "complete", "content": [text]})), true),
        (result(json!({"resultType": "complete", "tools": []})), false),
        (result(json!({"something": "else"})), false),
        (json!({"jsonrpc": "1.0", "id": 1, "result": {}}), false),
        (json!({"jsonrpc": "2.0", "id": null, "result": {}}), false),
        (json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32600, "message": "x"}}), true),
        (json!({"jsonrpc": "2.0", "id": 1, "error": {"code": "x", "message": "x"}}), false),
        (
            json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": 1}}),
            true,
        ),
        (
            json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "loud", "data": 1}}),
            false,
        ),
        (json!({"jsonrpc": "2.0", "id": "q", "method": "roots/list"}), true),
        (json!({"jsonrpc": "2.0", "id": "q", "method": "roots/burn"}), false),
    ] {
        assert_eq!(fits(message.clone()), is_right, "{message}");
    }
}

impl Schema {
    /// Checks a reply with a result of this type to the request with id 1.
    #[track_caller]
    fn result(&self, what: &str, name: &'static str, reply: &Reply) -> Value {
        let message = reply.json();
        assert_eq!((reply.status, &message["id"]), (200, &json!(1)), "{} {what}: {message}", self.revision);
        self.check(what, &["JSONRPCResultResponse", "JSONRPCResponse"], &message);
        self.check(what, &[name], &message["result"]);
        message["result"].clone()
    }

    /// Checks an error with this code. Its id is that of the request, or absent if the id was unreadable.
    #[track_caller]
    fn error(&self, what: &str, code: i64, reply: &Reply) {
        let message = reply.json();
        let error = &message["error"];
        assert_eq!(error["code"], code, "{} {what}: {message}", self.revision);
        // Before 2025-11-25 the schema requires an id, which such a reply cannot have.
        if message.get("id").is_some() || self.revision >= "2025-11-25" {
            self.check(what, &["JSONRPCErrorResponse", "JSONRPCError"], &message);
        }
        if !self.is_modern() {
            return;
        }
        match code {
            -32700 => self.check(what, &["ParseError"], error),
            -32600 => self.check(what, &["InvalidRequestError"], error),
            -32601 => self.check(what, &["MethodNotFoundError"], error),
            -32602 => self.check(what, &["InvalidParamsError"], error),
            -32603 => self.check(what, &["InternalError"], error),
            -32020 => self.check(what, &["HeaderMismatchError"], &message),
            -32021 => self.check(what, &["MissingRequiredClientCapabilityError"], &message),
            -32022 => self.check(what, &["UnsupportedProtocolVersionError"], &message),
            _ => {}
        }
    }
}

/// The demo server with pages of two tools, a tool that panics, and a limit of one call at a time.
fn start() -> Running {
    let limits = Limits { list_page_items_max: 2, calls_in_flight_max: 1, ..Limits::default() };
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    let config =
        Config { listen: vec![any.into()], admin: Some(any), shards: Some(1), limits, ..Config::default() };
    let panic = Tool::new("panic").description("Panics").run(|_: NoArguments, _| -> String { panic!("no") });
    demo::server().instructions("Try echo").tool(panic).build().start(&config).unwrap()
}

/// Sends requests in one revision.
struct Peer {
    client: Client,
    revision: &'static str,
}

impl Peer {
    fn bytes(&self, method: &str, params: Value) -> Vec<u8> {
        if self.revision == MODERN {
            let (headers, body) = modern(method, params);
            return post(&headers, body);
        }
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        post(&self.header(), body.to_string())
    }

    fn header(&self) -> String {
        format!("MCP-Protocol-Version: {}\r\n", self.revision)
    }

    fn request(&mut self, method: &str, params: Value) -> Reply {
        let bytes = self.bytes(method, params);
        self.client.send(bytes).read()
    }

    fn call(&mut self, tool: &str, arguments: Value) -> Reply {
        self.request("tools/call", json!({"name": tool, "arguments": arguments}))
    }

    /// Sends a body unchanged, under the header of the revision.
    fn raw(&mut self, body: &str) -> Reply {
        let header = self.header();
        self.client.post(&header, body)
    }
}

/// Runs a check in every revision, each on its own connection.
fn in_every_revision(check: impl Fn(&Schema, &mut Peer, &Running)) {
    let Some(schemas) = Schema::all() else { return };
    let running = start();
    for schema in &schemas {
        let client = Client::connect(running.addresses()[0]);
        check(schema, &mut Peer { client, revision: schema.revision }, &running);
    }
    running.stopper().drain();
    running.join().unwrap();
}

#[test]
fn schema_violations_are_detected() {
    for schema in Schema::all().unwrap_or_default() {
        for wrong in [json!({}), json!({"content": [{"type": "text"}], "resultType": "complete"})] {
            assert!(!schema.faults("CallToolResult", &wrong).is_empty(), "{}: {wrong}", schema.revision);
        }
        let untyped = json!({"content": []});
        assert_eq!(schema.faults("CallToolResult", &untyped).is_empty(), !schema.is_modern());
        assert_eq!(schema.unnamed("EmptyResult", &json!({"_meta": {}, "other": 1})), ["other"]);
    }
}

#[test]
fn discovery_and_initialize_results_match_the_schema() {
    in_every_revision(|schema, peer, _| {
        if schema.is_modern() {
            let discovered =
                schema.result("discover", "DiscoverResult", &peer.request("server/discover", json!({})));
            assert_eq!(discovered["instructions"], "Try echo");
            return;
        }
        let info = json!({"name": "test", "version": "0"});
        let params = json!({"protocolVersion": schema.revision, "capabilities": {}, "clientInfo": info});
        let agreed = schema.result("initialize", "InitializeResult", &peer.request("initialize", params));
        assert_eq!(agreed["protocolVersion"], schema.revision);
        let pong = schema.result("ping", "EmptyResult", &peer.request("ping", json!({})));
        assert_eq!(pong, json!({}));
    });
}

#[test]
fn list_pages_match_the_schema() {
    in_every_revision(|schema, peer, _| {
        let mut params = json!({});
        let mut names = Vec::new();
        loop {
            let page = schema.result("tools/list", "ListToolsResult", &peer.request("tools/list", params));
            for tool in page["tools"].as_array().unwrap() {
                schema.check("a tool", &["Tool"], tool);
                for part in ["inputSchema", "outputSchema"] {
                    let promised = tool.get(part);
                    promised.map(jsonschema::meta::validate).transpose().unwrap();
                }
                names.push(tool["name"].clone());
            }
            match page.get("nextCursor") {
                Some(cursor) => params = json!({"cursor": cursor}),
                None => break,
            }
        }
        assert_eq!(names, ["echo", "add", "sleep", "digest", "touch", "panic"]);
    });
}

#[test]
fn call_results_match_the_schema() {
    in_every_revision(|schema, peer, _| {
        for (tool, arguments, is_error) in [
            ("echo", json!({"message": "héllo \"lane\"\n\u{0}"}), false),
            ("add", json!({"a": 2, "b": 40.5}), false),
            ("sleep", json!({"ms": 1}), false),
            ("digest", json!({"text": "abc", "rounds": 2}), false),
            ("add", json!({"a": 1e308, "b": 1e308}), true),
            ("echo", json!({"message": 5}), true),
            ("digest", json!({}), true),
        ] {
            let result = schema.result(tool, "CallToolResult", &peer.call(tool, arguments));
            assert_eq!(result.get("isError").is_some(), is_error, "{tool}: {result}");
            let is_structured = tool == "add" && !is_error && schema.revision >= "2025-06-18";
            assert_eq!(result.get("structuredContent").is_some(), is_structured, "{tool}: {result}");
        }
    });
}

#[test]
fn method_errors_match_the_schema() {
    in_every_revision(|schema, peer, _| {
        schema.error("unknown tool", -32602, &peer.call("no-such-tool", json!({})));
        schema.error("arguments", -32602, &peer.call("echo", json!([])));
        schema.error("no name", -32602, &peer.request("tools/call", json!({})));
        schema.error("cursor", -32602, &peer.request("tools/list", json!({"cursor": "no"})));
        schema.error("unknown method", -32601, &peer.request("no/such", json!({})));
        let removed = if schema.is_modern() { "ping" } else { "server/discover" };
        schema.error("the other era's method", -32601, &peer.request(removed, json!({})));
        schema.error("panic", -32603, &peer.call("panic", json!({})));
        if !schema.is_modern() {
            schema.error("initialize", -32602, &peer.request("initialize", json!({})));
        }
    });
}

#[test]
fn rejected_messages_match_the_schema() {
    in_every_revision(|schema, peer, _| {
        schema.error("not JSON", -32700, &peer.raw("{"));
        for body in [
            "[]",
            "1",
            "{}",
            r#"{"jsonrpc": "1.0", "id": 1, "method": "ping"}"#,
            r#"{"jsonrpc": "2.0", "id": 1.5, "method": "ping"}"#,
            r#"{"jsonrpc": "2.0", "id": null, "method": "ping"}"#,
            r#"{"jsonrpc": "2.0", "id": 1, "method": 1}"#,
            r#"{"jsonrpc": "2.0", "id": 1, "result": {}}"#,
        ] {
            schema.error(body, -32600, &peer.raw(body));
        }
    });
}

#[test]
fn metadata_errors_match_the_schema() {
    in_every_revision(|schema, peer, _| {
        let body = r#"{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}"#;
        if !schema.is_modern() {
            let unsupported = peer.client.post("MCP-Protocol-Version: 2000-01-01\r\n", body);
            schema.error("unknown revision", -32000, &unsupported);
            return;
        }
        schema.error("no _meta", -32602, &peer.raw(body));
        let (headers, body) = modern("tools/list", json!({}));
        for (from, to) in [("Mcp-Method: tools/list", "Mcp-Method: ping"), (MODERN, "2025-11-25")] {
            let reply = peer.client.post(&headers.replace(from, to), &body);
            schema.error("mismatch", -32020, &reply);
        }
        let unknown = "2999-01-01";
        let reply = peer.client.post(&headers.replace(MODERN, unknown), body.replace(MODERN, unknown));
        schema.error("unknown revision", -32022, &reply);
        assert_eq!(reply.json()["error"]["data"]["requested"], unknown);
    });
}

#[test]
fn http_and_busy_errors_match_the_schema() {
    in_every_revision(|schema, peer, running| {
        let list = String::from_utf8(peer.bytes("tools/list", json!({}))).unwrap();
        for (from, to, status) in [
            ("POST /mcp", "POST /other", 404),
            ("application/json", "text/plain", 415),
            ("Host: localhost", "Host: evil.example", 403),
            ("Host: localhost", "Host: localhost\r\nOrigin: http://evil.example", 403),
        ] {
            // A rejected request with a body closes its connection.
            let reply = Client::connect(running.addresses()[0]).send(list.replace(from, to)).read();
            assert_eq!(reply.status, status, "{} {to}", schema.revision);
            schema.error(to, reply.error_code(), &reply);
        }
        // A call of another connection takes the only slot.
        let mut elsewhere = Client::connect(running.addresses()[0]);
        elsewhere.send(peer.bytes("tools/call", json!({"name": "sleep", "arguments": {"ms": 1000}})));
        await_calls_in_flight(running, 1);
        let busy = peer.call("sleep", json!({"ms": 1}));
        assert_eq!(busy.status, 503);
        schema.error("busy", -32000, &busy);
        assert_eq!(elsewhere.read().status, 200);
    });
}
