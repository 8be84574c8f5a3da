//! The protocol as newline-delimited JSON: order of responses, both eras, cancellation, subscriptions, and server requests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/line_peer.rs"]
mod line_peer;
mod support;

use std::{thread, time::Duration};

use line_peer::{
    ERAS, LIMIT, Piped, SUBSCRIPTION, call, cancel, code, echo, legacy, limits, listen, modern, modern_as,
    sleep, text,
};
use serde_json::{Value, json};
use support::{corelane, example};

#[test]
fn requests_are_answered_in_order_of_completion() {
    let mut server = Piped::demo();
    server.peer.initialize("2025-11-25", &json!({}));
    for request in ERAS {
        server.peer.send(&request(1, "tools/call", sleep(600)));
        server.peer.send(&request(2, "tools/call", sleep(200)));
        server.peer.send(&request(3, "tools/call", echo()));
        for id in [3, 2, 1] {
            assert_eq!(server.peer.next()["id"], id);
        }
    }
    server.end();
}

#[test]
fn line_before_initialize_must_name_a_known_revision() {
    let mut server = Piped::demo();
    let peer = &mut server.peer;
    assert_eq!(code(&peer.request(&legacy(1, "tools/list", json!({})))), -32600);
    assert_eq!(code(&peer.request(&modern_as(&json!(7), 2, "tools/list", json!({})))), -32602);
    let bare = json!({"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}});
    assert_eq!(code(&peer.request(&legacy(3, "tools/list", bare))), -32602);
    for unknown in ["2099-01-01", "2025-11-25"] {
        let refused = peer.request(&modern_as(&json!(unknown), 4, "tools/list", json!({})));
        assert_eq!(code(&refused), -32022);
        let data = &refused["error"]["data"];
        assert_eq!(data["requested"], unknown);
        assert!(data["supported"].as_array().unwrap().contains(&json!("2026-07-28")), "{refused}");
    }
    // None of the above has made this a legacy connection.
    assert_eq!(code(&peer.request(&legacy(5, "tools/list", json!({})))), -32600);
    // Only this method needs no handshake.
    assert_eq!(peer.request(&legacy(6, "ping", json!({})))["result"], json!({}));
    server.end();
}

#[test]
fn eras_alternate_on_one_connection() {
    for discovers_first in [true, false] {
        let mut server = Piped::demo();
        let peer = &mut server.peer;
        if discovers_first {
            let discovered = peer.request(&modern(1, "server/discover", json!({})));
            assert_eq!(discovered["result"]["supportedVersions"][0], "2026-07-28", "{discovered}");
        }
        peer.initialize("2025-06-18", &json!({}));
        let discovered = peer.request(&modern(2, "server/discover", json!({})));
        assert_eq!(discovered["result"]["resultType"], "complete");
        for round in 0..3 {
            let old = peer.request(&legacy(10 + round, "tools/list", json!({})));
            assert!(old["result"]["tools"].is_array() && old["result"].get("resultType").is_none(), "{old}");
            let new = peer.request(&modern(20 + round, "tools/list", json!({})));
            assert_eq!(new["result"]["resultType"], "complete");
        }
        assert_eq!(peer.request(&legacy(30, "ping", json!({})))["result"], json!({}));
        // The 2026 era has no ping.
        assert_eq!(code(&peer.request(&modern(31, "ping", json!({})))), -32601);
        server.end();
    }
}

#[test]
fn cancelled_call_is_not_answered_and_has_no_pending_reply() {
    let mut server = Piped::demo();
    server.peer.initialize("2025-11-25", &json!({}));
    for (id, request) in (1..).zip(ERAS) {
        server.peer.send(&request(id, "tools/call", sleep(30_000))).send(&cancel(id));
        // Cancellations of unknown or completed calls and malformed ones are ignored.
        server.peer.send(&cancel("nobody")).send(&cancel(0)).send(&cancel(Value::Null));
        assert_eq!(text(&server.peer.request(&request(9, "tools/call", echo()))), "x");
    }
    server.peer.is_silent();
    server.end();
}

#[test]
fn cancelled_calls_free_their_slots_of_the_connection() {
    let config = limits("places", "calls_per_line_max = 4");
    let mut server = Piped::start(corelane(&["stdio", "--config", &config]));
    for id in 0..20 {
        server.peer.send(&modern(id, "tools/call", sleep(30_000))).send(&cancel(id));
    }
    assert_eq!(text(&server.peer.request(&modern(99, "tools/call", echo()))), "x");
    server.end();
}

#[test]
fn invalid_line_is_answered_without_an_id_and_the_connection_continues() {
    let mut server = Piped::demo();
    let peer = &mut server.peer;
    for (line, expected) in [
        ("{nope", -32700),
        ("\u{0}", -32700),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping""#, -32700),
        ("5", -32600),
        ("[]", -32600),
        (r#"{"jsonrpc":"1.0"}"#, -32600),
    ] {
        let refused = peer.send_text(line).send_text("\n").next();
        assert_eq!((code(&refused), refused.get("id")), (expected, None), "{line}: {refused}");
    }
    // Empty lines are not messages; a carriage return is part of the line end.
    peer.send_text("\n\r\n\n").send_text(format!("{}\r\n", modern(1, "tools/list", json!({}))));
    assert_eq!(peer.next()["id"], 1);
    let whole = format!("{}\n", modern(2, "tools/list", json!({})));
    for part in whole.as_bytes().chunks(40) {
        peer.send_text(part);
        // A pause between the parts makes the server read most of them separately.
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(peer.next()["id"], 2);
    // The last line needs no line feed.
    peer.send_text(modern(3, "tools/list", json!({})).to_string()).close();
    assert_eq!(peer.next()["id"], 3);
    server.end();
}

#[test]
fn oversized_line_is_rejected_and_skipped() {
    let config = limits("bytes", "line_bytes_max = 1024");
    let mut server = Piped::start(corelane(&["stdio", "--config", &config]));
    for length in [1025, 200_000] {
        let refused = server.peer.send_text(format!("{}\n", "x".repeat(length))).next();
        assert_eq!((code(&refused), refused.get("id")), (-32600, None), "{refused}");
    }
    assert_eq!(server.peer.request(&modern(1, "tools/list", json!({})))["id"], 1);
    server.end();
}

#[test]
fn subscription_on_json_lines_is_acknowledged_notified_and_cancelled_by_id() {
    let mut server = Piped::talking();
    let peer = &mut server.peer;
    for id in [json!(7), json!("seven")] {
        let acknowledged = peer.request(&listen(id.clone()));
        assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
        assert_eq!(acknowledged["params"]["_meta"][SUBSCRIPTION], id);
    }
    peer.send(&modern(1, "tools/call", call("turn", json!({}))));
    peer.send(&modern(2, "tools/call", call("grow", json!({}))));
    let messages: Vec<_> = (0..6).map(|_| peer.next()).collect();
    let notifications = messages.iter().filter(|message| message.get("id").is_none());
    let mut events: Vec<_> = notifications
        .map(|events| {
            format!("{} {}", events["method"].as_str().unwrap(), events["params"]["_meta"][SUBSCRIPTION])
        })
        .collect();
    events.sort_unstable();
    assert_eq!(
        events,
        [
            "notifications/resources/updated \"seven\"",
            "notifications/resources/updated 7",
            "notifications/tools/list_changed \"seven\"",
            "notifications/tools/list_changed 7",
        ]
    );
    // One is cancelled and receives nothing more; the server ends the other.
    peer.send(&cancel(7)).send(&modern(3, "tools/call", call("turn", json!({}))));
    assert_eq!(peer.next_two()[0]["params"]["_meta"][SUBSCRIPTION], "seven");
    peer.is_silent();
    server.terminate();
    let ended = server.peer.next();
    assert_eq!((&ended["id"], &ended["result"]["resultType"]), (&json!("seven"), &json!("complete")));
    assert_eq!(ended["result"]["_meta"][SUBSCRIPTION], "seven");
    server.peer.has_ended(LIMIT);
    assert!(server.wait(LIMIT).0.success());
}

#[test]
fn legacy_json_lines_connection_receives_list_changes_and_subscribed_updates() {
    let mut server = Piped::talking();
    let peer = &mut server.peer;
    peer.initialize("2025-11-25", &json!({}));
    let turn = |id: i64| legacy(id, "tools/call", call("turn", json!({})));
    assert_eq!(peer.request(&turn(1))["id"], 1);
    let page = json!({"uri": "book://page"});
    assert_eq!(peer.request(&legacy(2, "resources/subscribe", page.clone()))["result"], json!({}));
    let [notification, _] = peer.send(&turn(3)).next_two();
    assert_eq!(notification["method"], "notifications/resources/updated");
    assert_eq!(notification["params"], page);
    assert_eq!(peer.request(&legacy(4, "resources/unsubscribe", page))["result"], json!({}));
    let [notification, _] = peer.send(&legacy(5, "tools/call", call("grow", json!({})))).next_two();
    assert_eq!(notification["method"], "notifications/tools/list_changed");
    assert_eq!(peer.request(&turn(6))["id"], 6);
    peer.is_silent();
    server.end();
}

#[test]
fn legacy_json_lines_client_answers_server_requests_during_a_call() {
    let mut server = Piped::talking();
    let peer = &mut server.peer;
    peer.initialize("2025-11-25", &json!({"elicitation": {}, "roots": {}}));
    let question = peer.request(&legacy(1, "tools/call", call("ask_name", json!({}))));
    assert_eq!(
        (&question["method"], &question["params"]["mode"]),
        (&json!("elicitation/create"), &json!("form"))
    );
    // Other calls continue meanwhile.
    assert_eq!(peer.request(&legacy(2, "ping", json!({})))["id"], 2);
    let accepted = json!({"action": "accept", "content": {"name": "Ann"}});
    let accept = json!({"jsonrpc": "2.0", "id": question["id"], "result": accepted});
    let answer = peer.request(&accept);
    assert_eq!((&answer["id"], text(&answer)), (&json!(1), "Hello, Ann!"));
    // A second response matches no open request.
    peer.send(&accept);
    let question = peer.request(&legacy(3, "tools/call", call("ask_roots", json!({}))));
    assert_eq!(question["method"], "roots/list");
    let refusal = json!({"code": -32603, "message": "not today"});
    let answer = peer.request(&json!({"jsonrpc": "2.0", "id": question["id"], "error": refusal}));
    assert_eq!(answer["id"], 3);
    assert!(answer.to_string().contains("not today"), "{answer}");
    // The client did not declare this capability.
    let refused = peer.request(&legacy(4, "tools/call", call("ask_model", json!({"question": "?"}))));
    assert_eq!(refused["id"], 4);
    assert!(refused.to_string().contains("sampling"), "{refused}");
    server.end();
}

#[test]
fn responses_are_read_at_the_call_limit() {
    let config = limits("asking", "calls_per_line_max = 1");
    let mut server = Piped::start(example("talking", &["stdio", "--config", &config]));
    let peer = &mut server.peer;
    peer.initialize("2025-11-25", &json!({"elicitation": {}}));
    let question = peer.request(&legacy(1, "tools/call", call("ask_name", json!({}))));
    let refused = peer.request(&legacy(2, "tools/call", call("ask_name", json!({}))));
    assert_eq!((&refused["id"], code(&refused)), (&json!(2), -32000));
    assert_eq!(peer.request(&legacy(3, "ping", json!({})))["id"], 3);
    let accepted = json!({"action": "accept", "content": {"name": "Ann"}});
    let answer = peer.request(&json!({"jsonrpc": "2.0", "id": question["id"], "result": accepted}));
    assert_eq!((&answer["id"], text(&answer)), (&json!(1), "Hello, Ann!"));
    // The slot is free again.
    let question = peer.request(&legacy(4, "tools/call", call("ask_name", json!({}))));
    assert_eq!(question["method"], "elicitation/create");
    let declined = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}});
    assert_eq!(peer.request(&declined)["id"], 4);
    server.end();
}

#[test]
fn call_that_needs_input_is_retried_on_json_lines() {
    let mut server = Piped::talking();
    let can = json!({"elicitation": {"form": {}}});
    let mut params = call("ask_name", json!({}));
    params["_meta"] = json!({"io.modelcontextprotocol/clientCapabilities": can});
    let asked = server.peer.request(&modern(1, "tools/call", params.clone()))["result"].clone();
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    let (key, question) = asked["inputRequests"].as_object().unwrap().iter().next().unwrap();
    assert_eq!(question["method"], "elicitation/create");
    params["inputResponses"] = json!({key: {"action": "accept", "content": {"name": "Ann"}}});
    params["requestState"] = asked["requestState"].clone();
    let answer = server.peer.request(&modern(2, "tools/call", params));
    assert_eq!((&answer["id"], text(&answer)), (&json!(2), "Hello, Ann!"));
    server.end();
}

#[test]
fn progress_and_log_messages_precede_the_response() {
    let mut server = Piped::talking();
    server.peer.initialize("2025-11-25", &json!({}));
    let level = legacy(1, "logging/setLevel", json!({"level": "info"}));
    assert_eq!(server.peer.request(&level)["result"], json!({}));
    for request in ERAS {
        let mut params = call("count", json!({"to": 2}));
        params["_meta"] = json!({"progressToken": "p", "io.modelcontextprotocol/logLevel": "info"});
        server.peer.send(&request(2, "tools/call", params));
        for number in [1, 2] {
            let progress = server.peer.next();
            assert_eq!(progress["method"], "notifications/progress");
            assert_eq!(
                (&progress["params"]["progressToken"], &progress["params"]["progress"]),
                (&json!("p"), &json!(number))
            );
            assert_eq!(server.peer.next()["method"], "notifications/message");
        }
        assert_eq!(text(&server.peer.next()), "counted to 2");
    }
    server.end();
}

#[test]
fn line_of_2025_03_26_may_be_a_batch() {
    let ids = |answers: &Value| -> Vec<i64> {
        let answers = answers.as_array().unwrap_or_else(|| panic!("{answers}"));
        answers.iter().map(|answer| answer["id"].as_i64().unwrap()).collect()
    };
    let mut server = Piped::demo();
    let peer = &mut server.peer;
    peer.initialize("2025-03-26", &json!({}));
    let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let ping = |id: i64| legacy(id, "ping", json!({}));
    assert_eq!(ids(&peer.request(&json!([ping(1), initialized, legacy(2, "tools/call", echo())]))), [1, 2]);
    // A slow call answers later and does not delay others.
    assert_eq!(ids(&peer.request(&json!([legacy(3, "tools/call", sleep(200)), ping(4)]))), [4]);
    assert_eq!(peer.next()["id"], 3);
    // Responses are in the order of the requests.
    let page = json!({"uri": "demo://counter"});
    assert_eq!(ids(&peer.request(&json!([legacy(5, "resources/subscribe", page), ping(6)]))), [5, 6]);
    peer.send(&json!([initialized]));
    assert_eq!(code(&peer.request(&json!([]))), -32600);
    peer.is_silent();
    server.end();
    // Later revisions have no batches.
    let mut server = Piped::demo();
    server.peer.initialize("2025-06-18", &json!({}));
    assert_eq!(code(&server.peer.request(&json!([ping(1)]))), -32600);
    server.end();
}
