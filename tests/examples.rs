//! Tests of the examples: each behaves as its file documents.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use serde_json::json;
use support::{Client, ServerProcess, example};

/// Starts an example that serves.
fn serve(name: &str) -> (ServerProcess, Client) {
    let server = ServerProcess::spawn(example(name, &["serve", "--listen", "127.0.0.1:0", "--shards", "1"]));
    let client = server.connect();
    (server, client)
}

#[test]
fn hello_serves_each_kind_of_tool_through_the_library_command_line() {
    let (server, mut client) = serve("hello");
    let name = json!({"name": "Ann"});
    assert_eq!(client.call("greet", name.clone())["content"][0]["text"], "Hello, Ann!");
    assert_eq!(client.call("greet_later", name)["content"][0]["text"], "Hello at last, Ann!");
    let missing = client.call("read_greeting", json!({}));
    assert_eq!(missing["isError"], true);
    assert!(missing["content"][0]["text"].as_str().unwrap().contains("No such file"), "{missing}");
    server.stop();
}

#[test]
fn structured_returns_content_matching_its_output_schema() {
    let (server, mut client) = serve("structured");
    let result =
        client.modern("tools/call", json!({"name": "count", "arguments": {"text": "two words"}})).json();
    assert_eq!(result["result"]["structuredContent"], json!({"words": 2, "characters": 9}));
    let tool = client.modern("tools/list", json!({})).json()["result"]["tools"][0].clone();
    assert_eq!(tool["outputSchema"]["properties"]["words"]["type"], "integer");
    server.stop();
}

#[test]
fn state_counts_per_shard() {
    let (server, mut client) = serve("state");
    for times in 1..=3 {
        let result = client.call("greet", json!({"name": "Ann"}));
        assert_eq!(result["content"][0]["text"], format!("Hello, Ann! Greeted on shard 0: {times}"));
    }
    server.stop();
}

#[test]
fn changing_adds_and_removes_a_tool() {
    let (server, mut client) = serve("changing");
    let added = client.call("add_tool", json!({"name": "moo", "reply": "Moo!"}));
    assert_eq!(added["content"][0]["text"], "added");
    assert_eq!(client.call("moo", json!({}))["content"][0]["text"], "Moo!");
    let refused = client.call("add_tool", json!({"name": "no such name!", "reply": ""}));
    assert_eq!(refused["isError"], true);
    assert_eq!(client.call("remove_tool", json!({"name": "moo"}))["content"][0]["text"], "removed");
    assert_eq!(client.legacy("tools/call", json!({"name": "moo"})).error_code(), -32602);
    server.stop();
}

#[test]
fn raw_receives_unparsed_json() {
    let (server, mut client) = serve("raw");
    let call = json!({"name": "query", "arguments": {"table": "users"}});
    let result = client.modern("tools/call", call).json()["result"].clone();
    assert_eq!(result["structuredContent"], json!({"from": "users", "rows": []}));
    assert_eq!(client.call("query", json!({"table": "secrets"}))["isError"], true);
    assert_eq!(client.call("depth", json!({"a": [[], {"b": 1}]}))["content"][0]["text"], "3");
    server.stop();
}

#[test]
fn notes_are_read_listed_completed_and_reported_missing() {
    let (server, mut client) = serve("notes");
    let written = client.call("write", json!({"title": "milk", "text": "Two bottles"}));
    assert_eq!(written["content"][0]["text"], "note://milk");
    let read = client.legacy("resources/read", json!({"uri": "note://milk"})).json();
    let contents = json!([{"uri": "note://milk", "mimeType": "text/plain", "text": "Two bottles"}]);
    assert_eq!(read["result"]["contents"], contents);
    assert_eq!(client.legacy("resources/read", json!({"uri": "note://rye"})).error_code(), -32002);
    let asked = json!({
        "ref": {"type": "ref/resource", "uri": "note://{title}"},
        "argument": {"name": "title", "value": "mi"}
    });
    let completed = client.legacy("completion/complete", asked).json();
    assert_eq!(completed["result"]["completion"]["values"], json!(["milk"]));
    server.stop();
}

#[test]
fn prompts_substitute_their_arguments() {
    let (server, mut client) = serve("prompts");
    let arguments = json!({"language": "rust", "code": "fn main() {}"});
    let filled = client.legacy("prompts/get", json!({"name": "review", "arguments": arguments})).json();
    let messages = filled["result"]["messages"].as_array().unwrap();
    let roles: Vec<_> = messages.iter().map(|message| message["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "user", "assistant"]);
    assert!(messages[0]["content"]["text"].as_str().unwrap().contains("correctness"));
    let incomplete = client.legacy("prompts/get", json!({"name": "review", "arguments": {}}));
    assert_eq!(incomplete.error_code(), -32602);
    server.stop();
}

#[test]
fn tasks_run_synchronously_for_clients_without_the_extension() {
    let (server, mut client) = serve("tasks");
    let baked = client.call("bake", json!({"loaves": 3}));
    assert_eq!(baked["content"][0]["text"], "3 loaves");
    server.stop();
}

#[cfg(feature = "tokio")]
#[test]
fn fetch_uses_an_http_client_on_tokio() {
    let (server, mut client) = serve("fetch");
    let (page, _) = serve("hello");
    let missing = client.call("fetch", json!({"url": format!("http://{}/nothing", page.address)}));
    let text = missing["content"][0]["text"].as_str().unwrap();
    assert!(missing["isError"] == true && text.contains("404"), "{text}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        std::io::Read::read(&mut stream, &mut [0; 1024]).unwrap();
        let page = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\na page!";
        std::io::Write::write_all(&mut stream, page.as_bytes()).unwrap();
    });
    assert_eq!(client.call("fetch", json!({"url": url}))["content"][0]["text"], "a page!");
    answering.join().unwrap();
    server.stop();
    page.stop();
}
