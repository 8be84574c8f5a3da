//! Calls that return `input_required` and are retried with the answers.
//! <https://modelcontextprotocol.io/specification/2026-07-28/basic/patterns/mrtr>

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/input_server.rs"]
mod input_server;
mod support;

use corelane::Limits;
use input_server::{accept, ask, asked, retry, server};
use serde_json::{Value, json};
use support::peer::{PeerRequest, connect, end, start};

#[test]
fn call_that_needs_input_is_retried_with_the_answer() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let (requests, state) = asked(&peer.request(&ask("once")));
    assert_eq!(
        requests,
        json!({"user_name": {"method": "elicitation/create", "params": {
            "mode": "form",
            "message": "Your name?",
            "requestedSchema": {
                "type": "object",
                "properties": {"name": {"type": "string", "description": "What people call you"}},
                "required": ["name"],
            },
        }}})
    );
    support::schema::check_modern("InputRequests", &requests);
    let answer = peer.request(&retry(&ask("once"), &state, json!({"user_name": accept("Ann")})));
    assert_eq!(
        (answer.result()["resultType"].as_str(), answer.text().as_str()),
        (Some("complete"), "Hello, Ann")
    );
    // Request state is not single-use: no record of its use is kept.
    let answer = peer.request(&retry(&ask("once"), &state, json!({"user_name": accept("Bob")})));
    assert_eq!(answer.text(), "Hello, Bob");
    let metrics = end(running);
    assert_eq!(metrics.events("input_required"), 1);
}

#[test]
fn answers_without_request_state_are_accepted_when_the_key_is_known() {
    let running = start(server(), 1, Limits::default());
    let first = ask("once").with("inputResponses", json!({"user_name": accept("Ann")}));
    assert_eq!(connect(&running).request(&first).text(), "Hello, Ann");
    end(running);
}

#[test]
fn several_input_requests_are_sent_in_one_result() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let whole = PeerRequest::call("at_once", json!({})).can(json!({"elicitation": {}, "roots": {}}));
    let (requests, state) = asked(&peer.request(&whole));
    assert_eq!(requests["roots"]["method"], "roots/list");
    assert_eq!(requests["name"]["method"], "elicitation/create");
    let roots = json!({"roots": [{"uri": "file:///home", "name": "home"}]});
    // One answer of two: the missing one is requested again.
    let (left, state) = asked(&peer.request(&retry(&whole, &state, json!({"roots": roots}))));
    assert_eq!(left.as_object().unwrap().keys().collect::<Vec<_>>(), ["name"]);
    let answer = peer.request(&retry(&whole, &state, json!({"name": accept("Ann")})));
    assert_eq!(answer.text(), "Ann in file:///home");
    end(running);
}

#[test]
fn declined_and_cancelled_elicitations_reach_the_handler() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let (_, state) = asked(&peer.request(&ask("once")));
    for action in ["decline", "cancel"] {
        let answer = peer.request(&retry(&ask("once"), &state, json!({"user_name": {"action": action}})));
        assert_eq!(answer.text(), format!("Hello, {action}"));
    }
    end(running);
}

#[test]
fn malformed_input_responses_are_rejected_and_missing_ones_requested_again() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let (_, state) = asked(&peer.request(&ask("once")));
    for responses in [
        json!([]),
        json!("x"),
        json!(1),
        json!({"user_name": null}),
        json!({"user_name": "accept"}),
        json!({"user_name": ["accept"]}),
        json!({"user_name": accept("Ann"), "other": null}),
    ] {
        let answer = peer.request(&retry(&ask("once"), &state, responses.clone()));
        assert_eq!(answer.refused(), (200, -32602), "{responses}");
    }
    for responses in [
        json!({}),
        json!({"someone": accept("Ann")}),
        json!({"user_name": {}}),
        json!({"user_name": {"action": "perhaps"}}),
        json!({"user_name": {"action": "accept"}}),
        json!({"user_name": {"action": "accept", "content": {"name": 7}}}),
    ] {
        let (again, _) = asked(&peer.request(&retry(&ask("once"), &state, responses.clone())));
        assert!(again.get("user_name").is_some(), "{responses}");
    }
    // Unknown answers beside the expected one are ignored.
    let answer = peer.request(&retry(
        &ask("once"),
        &state,
        json!({"user_name": accept("Ann"), "x": {"action": "accept"}, "": {}}),
    ));
    assert_eq!(answer.text(), "Hello, Ann");
    // A malformed answer is not remembered.
    let wrong = json!({"user_name": {"action": "perhaps"}});
    let (_, state) = asked(&peer.request(&retry(&ask("once"), &state, wrong)));
    let answer = peer.request(&retry(&ask("once"), &state, json!({"user_name": accept("Eve")})));
    assert_eq!(answer.text(), "Hello, Eve");
    end(running);
}

#[test]
fn input_is_requested_only_for_capabilities_declared_in_the_request() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    for (tool, declared, needed) in [
        ("once", json!({}), json!({"elicitation": {"form": {}}})),
        ("once", json!({"elicitation": {"url": {}}}), json!({"elicitation": {"form": {}}})),
        ("once", json!({"sampling": {}, "roots": {}}), json!({"elicitation": {"form": {}}})),
        ("page", json!({"elicitation": {}}), json!({"elicitation": {"url": {}}})),
        ("sample", json!({"elicitation": {}}), json!({"sampling": {}})),
        ("blocking", json!({}), json!({"elicitation": {"form": {}}})),
        #[cfg(feature = "tokio")]
        ("tokio", json!({}), json!({"elicitation": {"form": {}}})),
    ] {
        // Capabilities declared in an earlier request do not count.
        let all = json!({"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}});
        asked(&peer.request(&PeerRequest::call(tool, json!({})).can(all)));
        let answer = peer.request(&PeerRequest::call(tool, json!({})).can(declared.clone()));
        assert_eq!(answer.refused(), (400, -32021), "{tool} {declared}");
        assert_eq!(answer.error()["data"], json!({"requiredCapabilities": needed}), "{tool} {declared}");
    }
    for ask in
        [PeerRequest::new("prompts/get", json!({"name": "ask_blocking"})), PeerRequest::read("test://ask")]
    {
        assert_eq!(peer.request(&ask).refused(), (400, -32021), "{}", ask.method);
    }
    // Of two input requests at once, the undeclared one is not sent.
    let half = PeerRequest::call("at_once", json!({})).can(json!({"elicitation": {}}));
    let (requests, state) = asked(&peer.request(&half));
    assert_eq!(requests.as_object().unwrap().keys().collect::<Vec<_>>(), ["name"]);
    let answer = peer.request(&retry(&half, &state, json!({"name": accept("Ann")})));
    assert_eq!(answer.refused(), (400, -32021));
    assert_eq!(answer.error()["data"], json!({"requiredCapabilities": {"roots": {}}}));
    end(running);
}

#[test]
fn url_elicitation_and_sampling_follow_the_revision() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let page = PeerRequest::call("page", json!({})).can(json!({"elicitation": {"url": {}}}));
    let (requests, state) = asked(&peer.request(&page));
    let params = json!({"mode": "url", "message": "Pay", "url": "https://example.com/pay"});
    assert_eq!(
        requests,
        json!({"pay": {"method": "elicitation/create", "params": params}}),
        "no elicitation id since 2026-07-28"
    );
    support::schema::check_modern("InputRequests", &requests);
    for action in ["accept", "decline", "cancel"] {
        let answer = peer.request(&retry(&page, &state, json!({"pay": {"action": action}})));
        assert_eq!(answer.text(), action);
    }
    let sample = PeerRequest::call("sample", json!({})).can(json!({"sampling": {}}));
    let (requests, state) = asked(&peer.request(&sample));
    support::schema::check_modern("InputRequests", &requests);
    let request = &requests["model"];
    assert_eq!(request["method"], "sampling/createMessage");
    assert_eq!(
        request["params"],
        json!({
            "messages": [
                {"role": "user", "content": {"type": "text", "text": "What is the answer?"}},
                {"role": "assistant", "content": {"type": "text", "text": "So far"}},
            ],
            "maxTokens": 10,
            "systemPrompt": "Be brief",
        })
    );
    let response = json!({"role": "assistant", "content": {"type": "text", "text": "42"}, "model": "m"});
    assert_eq!(peer.request(&retry(&sample, &state, json!({"model": response}))).text(), "42");
    end(running);
}

#[test]
fn ping_of_the_client_is_an_error_in_the_2026_era() {
    let running = start(server(), 1, Limits::default());
    let answer = connect(&running).request(&ask("ping"));
    assert_eq!(answer.refused(), (200, -32603));
    end(running);
}

#[test]
fn prompts_and_resources_return_input_required() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let can = json!({"elicitation": {}});
    let prompt = PeerRequest::new("prompts/get", json!({"name": "ask", "arguments": {"topic": "tea"}}))
        .can(can.clone());
    let (requests, state) = asked(&peer.request(&prompt));
    assert_eq!(requests["user_name"]["params"]["message"], "Who?");
    let answer = peer.request(&retry(&prompt, &state, json!({"user_name": accept("Ann")})));
    assert_eq!(answer.result()["messages"][0]["content"]["text"], "Ann on tea");
    let read = PeerRequest::read("test://ask").can(can.clone());
    let (_, state) = asked(&peer.request(&read));
    let answer = peer.request(&retry(&read, &state, json!({"user_name": accept("Ann")})));
    assert_eq!(answer.result()["contents"], json!([{"uri": "test://ask", "text": "Ann"}]));
    for ask in [
        PeerRequest::new("prompts/get", json!({"name": "ask_blocking"})).can(can.clone()),
        PeerRequest::read("test://ask/blocking").can(can),
    ] {
        let (_, state) = asked(&peer.request(&ask));
        let (left, state) = asked(&peer.request(&retry(&ask, &state, json!({"user_name": accept("Ann")}))));
        assert_eq!(left.as_object().unwrap().keys().collect::<Vec<_>>(), ["second"]);
        let answer = peer.request(&retry(&ask, &state, json!({"second": accept("Bob")})));
        assert!(answer.result().to_string().contains("Ann and Bob"), "{}", answer.result());
    }
    end(running);
}

#[test]
fn blocking_and_tokio_handlers_request_input_in_sequence() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let tools: &[&str] = &[
        "blocking",
        #[cfg(feature = "tokio")]
        "tokio",
    ];
    for tool in tools {
        for _ in 0..20 {
            let (first, state) = asked(&peer.request(&ask(tool)));
            assert_eq!(first["user_name"]["params"]["message"], "First?");
            let (second, state) =
                asked(&peer.request(&retry(&ask(tool), &state, json!({"user_name": accept("A")}))));
            assert_eq!(second["second"]["params"]["message"], "Second?");
            let answer = peer.request(&retry(&ask(tool), &state, json!({"second": {"action": "decline"}})));
            assert_eq!(answer.text(), "A and decline", "{tool}");
        }
    }
    let (_, state) = asked(&peer.request(&ask("stubborn")));
    let answer = peer.request(&retry(&ask("stubborn"), &state, json!({"user_name": accept("A")})));
    assert_eq!(answer.text(), "not this");
    end(running);
}

#[test]
fn input_required_result_ends_an_event_stream() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let asking = ask("speaks_first").token("p");
    let answer = peer.request(&asking);
    assert_eq!((answer.is_stream, answer.notes().len()), (true, 1));
    let (_, state) = asked(&answer);
    let answer = peer.request(&retry(&asking, &state, json!({"user_name": accept("Ann")})));
    assert_eq!((answer.notes().len(), answer.text().as_str()), (2, "Ann"));
    end(running);
}

#[test]
fn lists_are_complete_and_every_result_has_a_type() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let (_, state) = asked(&peer.request(&ask("once")));
    for method in
        ["tools/list", "prompts/list", "resources/list", "resources/templates/list", "server/discover"]
    {
        let plain = PeerRequest::new(method, json!({})).can(json!({"elicitation": {}}));
        for ask in [plain.clone(), retry(&plain, &state, json!({"user_name": accept("Ann")}))] {
            assert_eq!(peer.request(&ask).result()["resultType"], "complete", "{method}");
        }
    }
    end(running);
}

#[test]
fn answer_to_a_form_that_is_costly_to_validate_is_refused_and_counted() {
    let running = start(server(), 1, Limits { validation_inline_work_max: 1000, ..Limits::default() });
    let mut peer = connect(&running);
    let content: Value = (0..1000).map(|number| (format!("n{number}"), json!(number))).collect();
    for tool in ["once", "blocking"] {
        let (_, state) = asked(&peer.request(&ask(tool)));
        let responses = json!({"user_name": {"action": "accept", "content": content}});
        let refused = peer.request(&retry(&ask(tool), &state, responses));
        assert_eq!(refused.error()["code"], -32603, "{tool}: {}", refused.last());
        let message = refused.error()["message"].as_str().unwrap();
        assert!(message.contains("validation_inline_work_max"), "{message}");
        // Any other answer that does not match is asked for again.
        let responses = json!({"user_name": {"action": "accept", "content": {"name": 7}}});
        asked(&peer.request(&retry(&ask(tool), &state, responses)));
    }
    assert_eq!(end(running).refusals("answer_work"), 2);
}
