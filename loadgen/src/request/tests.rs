//! Rendering of requests and checks of replies.

use super::*;

fn target() -> Target {
    Target::parse("http://127.0.0.1:8080/mcp").unwrap()
}

fn tool(name: &str, arguments: &str, era: Era) -> Request {
    let operation = Operation::Tool { name: name.to_owned(), arguments: arguments.to_owned() };
    Request::new(&target(), era, operation, 1, false).unwrap()
}

fn rendered(request: &Request, number: u64) -> (SentRequest, String, Value) {
    let mut out = Vec::new();
    let sent = request.write(0, number, Some("s1"), &mut StdRng::seed_from_u64(number), &mut out);
    let text = String::from_utf8(out).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
    assert_eq!(length.parse::<usize>().unwrap(), body.len());
    (sent, head.to_owned(), serde_json::from_str(body).unwrap())
}

#[test]
fn request_headers_match_the_body() {
    let (sent, head, body) = rendered(&tool("greet", r#"{"who":"{{random:4}}"}"#, Era::Modern), 3);
    assert_eq!(body["id"], sent.id);
    assert_eq!(body["params"]["name"], "greet");
    assert_eq!(body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
    for line in [
        "MCP-Protocol-Version: 2026-07-28",
        "Mcp-Method: tools/call",
        "Mcp-Name: greet",
        "Mcp-Session-Id: s1",
    ] {
        assert!(head.lines().any(|found| found == line), "{line} is not in {head}");
    }
    let (_, head, body) = rendered(&tool("gr\u{fc}\u{df}", "{}", Era::Legacy), 3);
    assert!(!head.contains("Mcp-Name"));
    assert!(body["params"].get("_meta").is_none());
    let (_, head, _) = rendered(&tool("gr\u{fc}", "{}", Era::Modern), 3);
    assert!(head.contains("Mcp-Name: =?base64?Z3LDvA==?="), "{head}");
}

#[test]
fn wrong_replies_are_rejected_with_their_error() {
    for arguments in [r#"{"message":"a \"quoted\" text"}"#, r#"{"message":"n {{counter}} {{random:5}}"}"#] {
        let request = tool("echo", arguments, Era::Modern);
        let (sent, _, body) = rendered(&request, 9);
        let message = body["params"]["arguments"]["message"].clone();
        let reply = |id: Value, text: Value, error: bool| {
            json!({"jsonrpc": "2.0", "id": id, "result": {"resultType": "complete", "isError": error,
                "content": [{"type": "text", "text": text}]}})
            .to_string()
        };
        let check = |status, body: &str| request.check(&sent, status, body.as_bytes());
        assert_eq!(check(200, &reply(json!(sent.id), message.clone(), false)), Ok(()));
        assert_eq!(check(200, &reply(json!(sent.id + 1), message.clone(), false)), Err(ReplyError::Id));
        assert_eq!(check(200, &reply(json!("1"), message.clone(), false)), Err(ReplyError::Id));
        assert_eq!(check(200, &reply(json!(sent.id), json!("other"), false)), Err(ReplyError::Echo));
        assert_eq!(check(200, &reply(json!(sent.id), message.clone(), true)), Err(ReplyError::ToolError));
        assert_eq!(check(503, ""), Err(ReplyError::Status(503)));
        assert_eq!(check(200, "ok"), Err(ReplyError::NotJson));
        let error = json!({"jsonrpc": "2.0", "id": sent.id, "error": {"code": -32602, "message": "no"}});
        assert_eq!(check(200, &error.to_string()), Err(ReplyError::Error));
        let more = json!({"jsonrpc": "2.0", "id": sent.id, "result": {"resultType": "input_required"}});
        assert_eq!(check(200, &more.to_string()), Err(ReplyError::Incomplete));
        let nothing = json!({"jsonrpc": "2.0", "id": sent.id, "result": {}});
        assert_eq!(check(200, &nothing.to_string()), Err(ReplyError::Echo));
    }
}

#[test]
fn arguments_that_are_not_an_object_are_rejected() {
    for arguments in ["{", "[1]", "{{bogus}}", "hello"] {
        let operation = Operation::Tool { name: "echo".to_owned(), arguments: arguments.to_owned() };
        let error = Request::new(&target(), Era::Modern, operation, 1, false).unwrap_err().to_string();
        assert!(error.contains("echo") && !error.contains('\n'), "{error}");
    }
}

#[test]
fn stdio_request_is_a_single_line() {
    let target = Target::stdio("server --flag").unwrap();
    let arguments = "{\n \"message\":\r\n \"a\\nb {{counter}}\"}".to_owned();
    let operation = Operation::Tool { name: "echo".to_owned(), arguments };
    let request = Request::new(&target, Era::Modern, operation, 1, false).unwrap();
    let mut out = Vec::new();
    let sent = request.write(0, 5, None, &mut StdRng::seed_from_u64(1), &mut out);
    assert_eq!(out.len(), request.length());
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text.find(['\n', '\r']), Some(text.len() - 1), "{text}");
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(body["params"]["arguments"]["message"], "a\nb 1000000005");
    assert_eq!((body["id"].as_u64(), id_of(text.as_bytes())), (Some(sent.id), Some(sent.id)));
    assert_eq!(
        initialized(&target).iter().position(|byte| *byte == b'\n'),
        Some(initialized(&target).len() - 1)
    );
}

#[test]
fn initialize_request_has_its_params_and_no_version_header() {
    let request = Request::new(&target(), Era::Legacy, Operation::Initialize, 1, false).unwrap();
    let (_, head, body) = rendered(&request, 1);
    assert_eq!(body["params"]["protocolVersion"], "2025-11-25");
    assert!(!head.contains("MCP-Protocol-Version"));
}
