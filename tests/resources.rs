//! Resources and templates.
//! <https://modelcontextprotocol.io/specification/2026-07-28/server/resources>

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/declared_server.rs"]
mod declared_server;
mod support;

use corelane::Limits;
use declared_server::{read, server};
use serde_json::json;
use support::{
    Client,
    peer::{PeerRequest, connect, end, start},
};

#[test]
fn resources_with_text_bytes_or_several_contents_are_read() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let text = read(&mut peer, "test://text");
    assert_eq!(
        text["contents"],
        json!([{"uri": "test://text", "mimeType": "text/plain", "text": "héllo \"x\"\n\u{0}"}])
    );
    assert_eq!(
        (&text["ttlMs"], &text["cacheScope"]),
        (&json!(0), &json!("private")),
        "the defaults of caching hints"
    );
    let blob = read(&mut peer, "test://blob");
    assert_eq!(blob["contents"], json!([{"uri": "test://blob", "mimeType": "image/x", "blob": "AAH/"}]));
    let many = read(&mut peer, "test://many");
    assert_eq!(
        many["contents"],
        json!([
            {"uri": "test://many", "mimeType": "text/x-default", "text": "one"},
            {"uri": "test://many/2", "mimeType": "text/x-own", "text": "two", "_meta": {"k": 1}},
            {"uri": "test://many", "mimeType": "text/x-default", "blob": "dGhyZWU="},
        ])
    );
    assert_eq!((&many["ttlMs"], &many["cacheScope"]), (&json!(1500), &json!("public")));
    assert_eq!(
        read(&mut peer, "test://fixed")["contents"],
        json!([{"uri": "test://fixed", "text": "always"}])
    );
    let kinds: &[&str] = &[
        "async",
        "blocking",
        #[cfg(feature = "tokio")]
        "tokio",
    ];
    for kind in kinds {
        let uri = format!("test://{kind}");
        assert_eq!(read(&mut peer, &uri)["contents"][0]["text"], format!("{kind} {uri}"));
    }
    end(running);
}

#[test]
fn legacy_resource_results_have_no_modern_fields() {
    let running = start(server(), 1, Limits::default());
    let mut client = Client::connect(running.addresses()[0]);
    for uri in ["test://text", "test://async", "test://of/Bern"] {
        let result = client.legacy("resources/read", json!({"uri": uri})).json()["result"].clone();
        assert_eq!(result.as_object().unwrap().keys().collect::<Vec<_>>(), ["contents"], "{uri}");
    }
    for (method, params) in [
        ("prompts/get", json!({"name": "async"})),
        (
            "completion/complete",
            json!({"ref": {"type": "ref/prompt", "name": "map"}, "argument": {"name": "a", "value": ""}}),
        ),
        ("resources/list", json!({})),
        ("resources/templates/list", json!({})),
        ("prompts/list", json!({})),
    ] {
        let result = client.legacy(method, params).json()["result"].clone();
        for absent in ["resultType", "ttlMs", "cacheScope", "_meta"] {
            assert!(result.get(absent).is_none(), "{method} {absent}");
        }
    }
    end(running);
}

#[test]
fn missing_resource_has_the_error_code_of_its_era() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let mut client = Client::connect(running.addresses()[0]);
    for uri in [
        "test://nowhere",
        "test://none",
        "test://empty",
        "test://of/a/b",
        "TEST://text",
        "text",
        "",
        "test://é \"quoted\"",
    ] {
        let answer = peer.request(&PeerRequest::read(uri));
        assert_eq!(answer.refused(), (200, -32602), "{uri}");
        assert_eq!(answer.error()["data"], json!({"uri": uri}));
        let reply = client.legacy("resources/read", json!({"uri": uri}));
        assert_eq!((reply.status, reply.error_code()), (200, -32002), "{uri}");
        assert_eq!(reply.json()["error"]["data"], json!({"uri": uri}));
    }
    for params in [json!({}), json!({"uri": 7}), json!({"uri": null}), json!({"uri": ["test://text"]})] {
        let answer = peer.request(&PeerRequest::new("resources/read", params.clone()));
        assert_eq!(answer.refused(), (200, -32602), "{params}");
        assert_eq!(client.legacy("resources/read", params).error_code(), -32602);
    }
    end(running);
}

#[test]
fn resource_handler_errors_reach_the_client() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let failed = peer.request(&PeerRequest::read("test://fails"));
    assert_eq!((failed.refused(), failed.error()["message"].as_str()), ((200, -32603), Some("no luck")));
    let own = peer.request(&PeerRequest::read("test://own"));
    assert_eq!(own.error(), &json!({"code": 4711, "message": "mine", "data": [1]}));
    for uri in ["test://panic", "test://panic/async"] {
        let panicked = peer.request(&PeerRequest::read(uri));
        assert_eq!(panicked.refused(), (200, -32603), "{uri}");
        assert!(!panicked.error()["message"].as_str().unwrap().contains("inside"), "{uri}");
    }
    let slow = peer.request(&PeerRequest::read("test://slow"));
    assert_eq!(slow.refused(), (200, -32603));
    assert_eq!(read(&mut peer, "test://fixed")["contents"][0]["text"], "always");
    let metrics = end(running);
    assert_eq!((metrics.refusals("tool_panicked"), metrics.refusals("deadline")), (2, 1));
}

#[test]
fn templates_match_and_decode_their_variables() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    for (uri, expected) in [
        ("test://of/Bern", "Bern None"),
        ("test://of/S%C3%A3o%20Paulo?country=Brasil", "São Paulo Some(\"Brasil\")"),
        ("test://of/a%2Fb%3F?country=", "a/b? Some(\"\")"),
        ("test://of/..%2f..%2fetc", "../../etc None"),
    ] {
        let result = read(&mut peer, uri);
        assert_eq!(result["contents"][0]["text"], format!("{uri} {expected}"));
        assert_eq!(result["contents"][0]["uri"], uri, "as requested");
        assert_eq!((&result["ttlMs"], &result["cacheScope"]), (&json!(60_000), &json!("public")));
    }
    assert_eq!(read(&mut peer, "test://later/a/b%20c")["contents"][0]["text"], "a/b c");
    assert_eq!(read(&mut peer, "test://thread/x")["contents"][0]["text"], "x");
    for uri in ["test://of/%FF", "test://of/%00", "test://of/%zz", "test://of/Bern?country=a&country=b"] {
        assert_eq!(peer.request(&PeerRequest::read(uri)).refused(), (200, -32602), "{uri}");
    }
    end(running);
}
