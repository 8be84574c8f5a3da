//! U+2028 and U+2029 in events: clients that split lines as ECMAScript does would cut an event there and wait for its end.
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation>

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::Duration;

use corelane::{
    Context, Level, Limits, NoArguments, ProtocolError, Reply, Resource, Server, ServerBuilder, Structured,
    Tool, time::sleep,
};
use serde_json::{Value, json, value::RawValue};
use support::{
    peer::{LOG_LEVEL, PeerRequest, SUBSCRIPTION, connect, end, start},
    session::Session,
};

const TEXT: &str = "a\u{2028}b\u{2029}c";
const URI: &str = "test://a";

/// JSON that a handler passes on as it is, with line terminators between tokens.
const RAW: &str = "{\r\n  \"raw\": \"a\u{2028}b\u{2029}c\"\n}";

/// Sends messages, so that the reply becomes a stream.
macro_rules! messages {
    ($cx:ident) => {{
        $cx.progress(1.0, None, Some(TEXT));
        $cx.log(Level::Info, json!({TEXT: TEXT}));
    }};
}

fn server() -> ServerBuilder {
    let raw = || (TEXT, Structured(RawValue::from_string(RAW.to_owned()).unwrap()));
    Server::builder("separators", "0")
        .tool(Tool::new("inline").run(move |_: NoArguments, cx| {
            messages!(cx);
            raw()
        }))
        .tool(Tool::new("async").run_async(async move |_: NoArguments, cx: Context| {
            messages!(cx);
            raw()
        }))
        .tool(Tool::new("blocking").run_blocking(move |_: NoArguments, cx| {
            messages!(cx);
            raw()
        }))
        .tool(Tool::new("fails").run_async(async |_: NoArguments, cx: Context| {
            messages!(cx);
            Err::<Reply, _>(ProtocolError::invalid_params(TEXT))
        }))
        .tool(Tool::new("touch").run(|_: NoArguments, cx| cx.resource_updated(URI)))
        .tool(Tool::new("resumed").run_async(async move |_: NoArguments, cx: Context| {
            cx.disconnect(Duration::from_millis(1));
            sleep(Duration::from_millis(20)).await;
            cx.log(Level::Info, json!({TEXT: TEXT}));
            raw()
        }))
        .resource(Resource::new("test://a", "a").run(|_, _cx| TEXT))
        .tool(Tool::new("plain").run(move |_: NoArguments, _cx| raw()))
}

fn ask(tool: &str) -> PeerRequest {
    PeerRequest::call(tool, json!({})).id(TEXT).token(TEXT).meta(LOG_LEVEL, "debug")
}

// The readers of `support` reject each event that contains one of the characters.

#[test]
fn line_separators_are_escaped_in_replies_that_become_streams() {
    let running = start(server(), 1, Limits::default());
    for tool in ["inline", "async", "blocking"] {
        let answer = connect(&running).request(&ask(tool));
        assert!(answer.is_stream, "{tool}");
        let params: Vec<&Value> = answer.notes().iter().map(|note| &note["params"]).collect();
        assert_eq!(
            (params.len(), &params[0]["message"], &params[0]["progressToken"]),
            (2, &json!(TEXT), &json!(TEXT))
        );
        assert_eq!(params[1]["data"], json!({TEXT: TEXT}), "{tool}");
        assert_eq!(answer.result()["structuredContent"], json!({"raw": TEXT}), "{tool}");
        assert_eq!((answer.text(), &answer.last()["id"]), (TEXT.to_owned(), &json!(TEXT)), "{tool}");
    }
    let failed = connect(&running).request(&ask("fails"));
    assert_eq!((failed.is_stream, &failed.error()["message"]), (true, &json!(TEXT)));
    end(running);
}

#[test]
fn line_separators_are_unchanged_in_plain_replies() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    peer.send(ask("plain").bytes());
    let mut reply = vec![0; 16 * 1024];
    let count = std::io::Read::read(&mut peer.stream, &mut reply).unwrap();
    let reply = String::from_utf8(reply[..count].to_vec()).unwrap();
    assert!(reply.contains("application/json") && reply.contains(&format!("\"text\":\"{TEXT}\"")), "{reply}");
    end(running);
}

#[test]
fn line_separators_are_escaped_in_subscriptions() {
    let running = start(server(), 2, Limits::default());
    let mut listening = connect(&running);
    listening.open(&PeerRequest::listen(json!({"resourceSubscriptions": [URI]})).id(TEXT));
    let id = |message: &Value| message["params"]["_meta"][SUBSCRIPTION].clone();
    assert_eq!(id(&listening.message()), TEXT);
    connect(&running).request(&PeerRequest::call("touch", json!({})));
    let updated = listening.message();
    assert_eq!((id(&updated), &updated["params"]["uri"]), (json!(TEXT), &json!(URI)));
    running.stopper().drain();
    assert_eq!(listening.message()["id"], TEXT);
    running.join().unwrap();
}

#[test]
fn line_separators_are_escaped_in_replies_of_a_session_and_in_replays() {
    let running = start(server(), 2, Limits::default());
    let session = Session::open(running.addresses()[0], "2025-11-25", json!({}));
    for tool in ["inline", "async"] {
        let mut reply = session.call(TEXT, tool, json!({}));
        assert!(reply.is_stream(), "{tool}");
        assert_eq!(reply.response()["result"]["content"][0]["text"], TEXT, "{tool}");
    }
    let mut cut = session.call(TEXT, "resumed", json!({}));
    let first = cut.event().unwrap();
    drop(cut);
    let mut resumed = session.get(first.id.as_deref());
    assert_eq!(resumed.message()["params"]["data"], json!({TEXT: TEXT}));
    assert_eq!(resumed.response()["result"]["content"][0]["text"], TEXT);
    end(running);
}

#[test]
fn line_separators_are_escaped_in_a_batch() {
    let running = start(server(), 1, Limits::default());
    let session = Session::open(running.addresses()[0], "2025-03-26", json!({}));
    let call = |id: &str, tool: &str| json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool, "arguments": {}}});
    let mut reply = session.post(&json!([call(TEXT, "plain"), call("2", "async")]));
    assert!(reply.is_stream());
    let mut answers = 0;
    while answers < 2 {
        let message = reply.message();
        if message.get("result").is_some() {
            assert_eq!(message["result"]["content"][0]["text"], TEXT, "{message}");
            answers += 1;
        }
    }
    end(running);
}
