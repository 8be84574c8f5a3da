//! Completion of arguments.
//! <https://modelcontextprotocol.io/specification/2026-07-28/server/utilities/completion>

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/declared_server.rs"]
mod declared_server;
mod support;

use corelane::{Limits, NoArguments, Prompt, Server};
use declared_server::server;
use serde_json::{Value, json};
use support::peer::{PeerRequest, connect, end, start};

fn of_prompt(name: &str, argument: &str, value: &str) -> Value {
    json!({"ref": {"type": "ref/prompt", "name": name}, "argument": {"name": argument, "value": value}})
}

fn of_template(uri: &str, argument: &str, value: &str) -> Value {
    json!({"ref": {"type": "ref/resource", "uri": uri}, "argument": {"name": argument, "value": value}})
}

const TEMPLATE: &str = "test://of/{city}{?country}";

#[test]
fn prompt_and_template_arguments_are_completed() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let mut complete = |params: Value| {
        let answer = peer.request(&PeerRequest::new("completion/complete", params));
        answer.result()["completion"].clone()
    };
    let all = |values: &[&str]| json!({"values": values, "total": values.len(), "hasMore": false});
    assert_eq!(complete(of_prompt("review", "language", "ru")), all(&["Rust", "Ruby"]));
    assert_eq!(complete(of_prompt("review", "language", "x")), all(&[]));
    assert_eq!(complete(of_prompt("review", "code", "x")), all(&[]), "the argument has no completer");
    assert_eq!(complete(of_template(TEMPLATE, "city", "BER")), all(&["Berlin", "Bern"]));
    let mut in_context = of_template(TEMPLATE, "country", "c");
    assert_eq!(complete(in_context.clone()), all(&["c|"]));
    in_context["context"] = json!({"arguments": {"city": "Bern", "other": "x"}});
    assert_eq!(complete(in_context), all(&["c|Bern"]));
    assert_eq!(complete(of_prompt("completes", "async", "v")), all(&["async v"]));
    assert_eq!(complete(of_prompt("completes", "blocking", "v")), all(&["blocking v"]));
    assert_eq!(
        complete(of_prompt("completes", "total", "")),
        json!({"values": ["first"], "total": 5000, "hasMore": true})
    );
    for (count, sent, more) in [(99, 99, false), (100, 100, false), (101, 100, true), (1000, 100, true)] {
        let completion = complete(of_prompt("map", "b", &count.to_string()));
        let values: Vec<String> = (0..sent).map(|number| number.to_string()).collect();
        assert_eq!(completion, json!({"values": values, "total": count, "hasMore": more}));
    }
    end(running);
}

#[test]
fn invalid_completion_references_are_rejected() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let argument = json!({"name": "language", "value": ""});
    let reference = json!({"type": "ref/prompt", "name": "review"});
    for params in [
        json!({}),
        of_prompt("no such", "language", ""),
        of_prompt("review", "no such", ""),
        of_template("test://of/{city}", "city", ""),
        of_template("test://of/Bern", "city", ""),
        of_template(TEMPLATE, "no such", ""),
        json!({"ref": "review", "argument": argument}),
        json!({"ref": {"type": "ref/tool", "name": "review"}, "argument": argument}),
        json!({"ref": {"name": "review"}, "argument": argument}),
        json!({"ref": {"type": "ref/prompt", "name": 1}, "argument": argument}),
        json!({"ref": reference}),
        json!({"ref": reference, "argument": {"name": "language"}}),
        json!({"ref": reference, "argument": {"value": ""}}),
        json!({"ref": reference, "argument": {"name": "language", "value": 1}}),
        json!({"ref": reference, "argument": argument, "context": []}),
        json!({"ref": reference, "argument": argument, "context": {"arguments": "x"}}),
        of_prompt("completes", "fails", ""),
    ] {
        let answer = peer.request(&PeerRequest::new("completion/complete", params.clone()));
        assert_eq!(answer.refused(), (200, -32602), "{params}");
    }
    end(running);
    // Without completers the method does not exist and is not advertised.
    let bare = Server::builder("bare", "0").prompt(Prompt::new("review").run(|_: NoArguments, _| "x"));
    let bare = start(bare, 1, Limits::default());
    let answer =
        connect(&bare).request(&PeerRequest::new("completion/complete", of_prompt("review", "x", "")));
    assert_eq!(answer.refused(), (404, -32601));
    end(bare);
}
