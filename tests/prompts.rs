//! Prompts and their arguments.
//! <https://modelcontextprotocol.io/specification/2026-07-28/server/prompts>

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/declared_server.rs"]
mod declared_server;
mod support;

use corelane::Limits;
use declared_server::server;
use serde_json::{Value, json};
use support::{
    Client,
    peer::{PeerRequest, connect, end, start},
    schema::Schema,
};

#[test]
fn prompt_arguments_are_substituted() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let mut get = |params: Value| peer.request(&PeerRequest::new("prompts/get", params)).result().clone();
    let text = |role: &str, text: &str| json!({"role": role, "content": {"type": "text", "text": text}});
    let review =
        get(json!({"name": "review", "arguments": {"code": "x", "language": "Rust", "more": "is let be"}}));
    assert_eq!(review["description"], "A review");
    assert_eq!(
        review["messages"],
        json!([text("user", "Review x in Some(\"Rust\")"), text("assistant", "Gladly")])
    );
    let without = get(json!({"name": "review", "arguments": {"code": ""}}));
    assert_eq!(without["messages"][0], text("user", "Review  in None"));
    assert_eq!(
        get(json!({"name": "map", "arguments": {"a": "1"}}))["messages"],
        json!([text("user", "{\"a\": \"1\"}")])
    );
    let kinds: &[&str] = &[
        "async",
        "blocking",
        #[cfg(feature = "tokio")]
        "tokio",
    ];
    for kind in kinds {
        let result = get(json!({"name": kind}));
        assert_eq!(result["messages"], json!([text("user", kind)]));
        assert!(result.get("description").is_none() && result.get("ttlMs").is_none());
    }
    let media = get(json!({"name": "media", "arguments": {}}));
    let kinds: Vec<_> =
        media["messages"].as_array().unwrap().iter().map(|message| &message["content"]["type"]).collect();
    assert_eq!(kinds, ["image", "audio", "resource_link", "resource"]);
    end(running);
}

#[test]
fn unknown_prompts_and_invalid_arguments_are_rejected() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let mut client = Client::connect(running.addresses()[0]);
    for params in [
        json!({}),
        json!({"name": 7}),
        json!({"name": "no such"}),
        json!({"name": "Review", "arguments": {"code": "x"}}),
        json!({"name": "review"}),
        json!({"name": "review", "arguments": {}}),
        json!({"name": "review", "arguments": {"language": "Rust"}}),
        json!({"name": "review", "arguments": {"code": 7}}),
        json!({"name": "review", "arguments": {"code": null}}),
        json!({"name": "review", "arguments": {"code": "x", "language": ["Rust"]}}),
        json!({"name": "review", "arguments": {"code": "x", "more": true}}),
        json!({"name": "review", "arguments": ["x"]}),
        json!({"name": "review", "arguments": null}),
        json!({"name": "map", "arguments": {"b": "1"}}),
    ] {
        let answer = peer.request(&PeerRequest::new("prompts/get", params.clone()));
        assert_eq!(answer.refused(), (200, -32602), "{params}");
        let reply = client.legacy("prompts/get", params.clone());
        assert_eq!((reply.status, reply.error_code()), (200, -32602), "{params}");
    }
    for name in ["fails", "panic"] {
        assert_eq!(
            peer.request(&PeerRequest::new("prompts/get", json!({"name": name}))).refused(),
            (200, -32603),
            "{name}"
        );
    }
    end(running);
}

#[test]
fn content_unknown_to_an_older_revision_becomes_text() {
    let running = start(server(), 1, Limits::default());
    let mut client = Client::connect(running.addresses()[0]);
    for (revision, expected) in [
        ("2024-11-05", ["image", "text", "text", "resource"]),
        ("2025-03-26", ["image", "audio", "text", "resource"]),
        ("2025-06-18", ["image", "audio", "resource_link", "resource"]),
        ("2025-11-25", ["image", "audio", "resource_link", "resource"]),
    ] {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "prompts/get", "params": {"name": "media"}});
        let reply = client.post(&format!("MCP-Protocol-Version: {revision}\r\n"), body.to_string());
        let result = reply.json()["result"].clone();
        let messages = result["messages"].as_array().unwrap();
        let kinds: Vec<_> =
            messages.iter().map(|message| message["content"]["type"].as_str().unwrap()).collect();
        assert_eq!(kinds, expected, "{revision}");
        if revision == "2024-11-05" {
            assert_eq!(messages[1]["content"]["text"], "[audio, audio/wav]");
            assert_eq!(messages[2]["content"]["text"], "text: test://text");
        }
        if let Some(schemas) = Schema::all() {
            let schema = schemas.iter().find(|schema| schema.revision == revision).unwrap();
            schema.check("a prompt", &["GetPromptResult"], &result);
        }
    }
    end(running);
}
