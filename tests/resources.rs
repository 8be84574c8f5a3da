//! Resources, prompts, completion, and pagination of their lists.
//! <https://modelcontextprotocol.io/specification/2026-07-28/server>

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{collections::BTreeMap, thread, time::Duration};

use corelane::{
    Annotations, CacheScope, CallError, Completer, Completing, Completion, Content, Contents, Context, Icon,
    Limits, LiveRegistry, Messages, NoArguments, Prompt, PromptArgument, ProtocolError, Read, Resource,
    ResourceTemplate, Role, Running, Server, ServerBuilder, Theme, Tool, ToolAnnotations, time::sleep,
};
use serde_json::{Value, json};
use support::{
    Client,
    peer::{Peer, PeerRequest, config, connect, connect_to, end, shard_tool, start},
    schema::{LEGACY, MODERN, Schema},
};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Place {
    city: String,
    country: Option<String>,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Review {
    /// What is reviewed
    code: String,
    language: Option<String>,
}

fn server() -> ServerBuilder {
    let server = Server::builder("test", "0")
        .resource(
            Resource::new("test://text", "text").mime_type("text/plain").run(|_, _| "héllo \"x\"\n\u{0}"),
        )
        .resource(
            Resource::new("test://blob", "blob")
                .run(|_, _| Contents::blob(&[0, 1, 255]).mime_type("image/x")),
        )
        .resource(
            Resource::new("test://many", "many")
                .mime_type("text/x-default")
                .cache(Duration::from_millis(1500), CacheScope::Public)
                .run(|uri, _| {
                    vec![
                        Contents::text("one"),
                        Contents::text("two").uri(format!("{uri}/2")).mime_type("text/x-own").meta("k", 1),
                        Contents::blob(b"three"),
                    ]
                }),
        )
        .resource(Resource::new("test://fixed", "fixed").contents([Contents::text("always")]))
        .resource(Resource::new("test://none", "none").run(|_, _| None::<String>))
        .resource(Resource::new("test://empty", "empty").run(|_, _| Vec::<Contents>::new()))
        .resource(
            Resource::new("test://fails", "fails")
                .run(|_, _| Err::<String, _>(CallError::Told("no luck".into()))),
        )
        .resource(Resource::new("test://own", "own").run(|_, _| {
            let error = ProtocolError { code: 4711, message: "mine".into(), data: Some(json!([1])) };
            Err::<String, CallError>(error.into())
        }))
        .resource(Resource::new("test://panic", "panic").run(|_, _| -> String { panic!("inside") }))
        .resource(
            Resource::new("test://panic/async", "panic")
                .run_async(async |_, _| -> String { panic!("inside") }),
        )
        .resource(Resource::new("test://slow", "slow").deadline(Duration::from_millis(100)).run_async(
            async |_, _| {
                sleep(Duration::from_secs(60)).await;
                "never"
            },
        ))
        .resource(Resource::new("test://async", "async").run_async(async |uri: String, _: Context| {
            sleep(Duration::from_millis(5)).await;
            format!("async {uri}")
        }))
        .resource(Resource::new("test://blocking", "blocking").run_blocking(|uri: String, _| {
            thread::sleep(Duration::from_millis(5));
            format!("blocking {uri}")
        }))
        .template(
            ResourceTemplate::new("test://of/{city}{?country}", "of")
                .mime_type("text/plain")
                .cache(Duration::from_secs(60), CacheScope::Public)
                .variables::<Place>()
                .complete(Completer::of("city", ["Berlin", "Bern", "Paris"]))
                .complete(Completer::new("country", |completing: Completing, _| {
                    let city = completing.arguments.get("city").cloned().unwrap_or_default();
                    vec![format!("{}|{city}", completing.value)]
                }))
                .run(|read: Read<Place>, _| {
                    format!("{} {} {:?}", read.uri, read.variables.city, read.variables.country)
                }),
        )
        .template(ResourceTemplate::new("test://later/{+path}", "later").run_async(
            async |read: Read<BTreeMap<String, String>>, _: Context| read.variables["path"].clone(),
        ))
        .template(
            ResourceTemplate::new("test://thread/{name}", "thread")
                .run_blocking(|read: Read<BTreeMap<String, String>>, _| read.variables.get("name").cloned()),
        )
        .prompt(
            Prompt::new("review")
                .arguments::<Review>()
                .complete(Completer::of("language", ["Rust", "Ruby", "C"]))
                .run(|review: Review, _| {
                    Messages::new()
                        .description("A review")
                        .user(format!("Review {} in {:?}", review.code, review.language))
                        .assistant("Gladly")
                }),
        )
        .prompt(
            Prompt::new("map")
                .argument(PromptArgument { name: "a".into(), required: true, ..PromptArgument::default() })
                .argument(PromptArgument { name: "b".into(), ..PromptArgument::default() })
                .complete(Completer::new("b", |completing: Completing, _| {
                    let count = completing.value.parse::<usize>().unwrap();
                    (0..count).map(|number| number.to_string()).collect::<Completion>()
                }))
                .run(|arguments: BTreeMap<String, String>, _| format!("{arguments:?}")),
        )
        .prompt(Prompt::new("media").run(|_: NoArguments, _| {
            Messages::new()
                .user(Content::image(&[1], "image/png"))
                .user(Content::audio(&[2], "audio/wav"))
                .user(Content::resource_link("test://text", "text"))
                .assistant(Content::resource_text("test://text", "text/plain", "inside"))
        }))
        .prompt(Prompt::new("async").run_async(async |_: NoArguments, _: Context| {
            sleep(Duration::from_millis(5)).await;
            "async"
        }))
        .prompt(Prompt::new("blocking").run_blocking(|_: NoArguments, _| "blocking"))
        .prompt(
            Prompt::new("fails").run(|_: NoArguments, _| Err::<String, _>(CallError::Told("no luck".into()))),
        )
        .prompt(Prompt::new("panic").run_blocking(|_: NoArguments, _| -> String { panic!("inside") }))
        .prompt(
            Prompt::new("completes")
                .argument(PromptArgument { name: "total".into(), ..PromptArgument::default() })
                .argument(PromptArgument { name: "async".into(), ..PromptArgument::default() })
                .argument(PromptArgument { name: "blocking".into(), ..PromptArgument::default() })
                .argument(PromptArgument { name: "fails".into(), ..PromptArgument::default() })
                .argument(PromptArgument { name: "nothing".into(), ..PromptArgument::default() })
                .complete(Completer::new("total", |_, _| Completion {
                    values: vec!["first".into()],
                    total: Some(5000),
                }))
                .complete(Completer::new_async("async", async |completing: Completing, _: Context| {
                    sleep(Duration::from_millis(5)).await;
                    vec![format!("async {}", completing.value)]
                }))
                .complete(Completer::new_blocking("blocking", |completing: Completing, _| {
                    vec![format!("blocking {}", completing.value)]
                }))
                .complete(Completer::new("fails", |_, _| {
                    Err::<Vec<String>, _>(CallError::Protocol(ProtocolError::invalid_params("not so")))
                }))
                .run(|_: BTreeMap<String, String>, _| "completes"),
        );
    #[cfg(feature = "tokio")]
    let server = server
        .resource(
            Resource::new("test://tokio", "tokio").run_tokio(|uri, _| async move { format!("tokio {uri}") }),
        )
        .prompt(Prompt::new("tokio").run_tokio(|_: NoArguments, _| async { "tokio" }));
    server
}

fn read(peer: &mut Peer, uri: &str) -> Value {
    peer.request(&PeerRequest::read(uri)).result().clone()
}

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

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Order {
    Up,
    Down,
}

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[allow(dead_code, reason = "compared by their debug output")]
struct Count(u128);

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[allow(dead_code, reason = "compared by their debug output")]
struct Typed {
    count: Count,
    ratio: Option<f32>,
    flag: Option<bool>,
    order: Option<Order>,
    letter: Option<char>,
}

#[derive(Debug, serde::Deserialize)]
#[allow(dead_code, reason = "compared by their debug output")]
struct Tagged {
    tags: Vec<String>,
    numbers: Option<Vec<u8>>,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Nested {
    #[allow(dead_code, reason = "never read")]
    place: Place,
}

#[test]
fn typed_variables_and_arguments_are_parsed_from_text() {
    let server = Server::builder("test", "0")
        .template(
            ResourceTemplate::new("test://typed/{count}{?ratio,flag,order,letter}", "typed")
                .variables::<Typed>()
                .run(|read: Read<Typed>, _| format!("{:?}", read.variables)),
        )
        .template(
            ResourceTemplate::new("test://tagged{/tags*}{?numbers}", "tagged")
                .variables::<Tagged>()
                .run_async(async |read: Read<Tagged>, _: Context| format!("{:?}", read.variables)),
        )
        .prompt(
            Prompt::new("typed").arguments::<Typed>().run_blocking(|typed: Typed, _| format!("{typed:?}")),
        );
    let running = start(server, 1, Limits::default());
    let mut peer = connect(&running);
    let mut legacy = Client::connect(running.addresses()[0]);
    let all = "Typed { count: Count(340282366920938463463374607431768211455), ratio: Some(0.5), flag: Some(true), \
               order: Some(Down), letter: Some('é') }";
    let few = "Typed { count: Count(5), ratio: None, flag: None, order: None, letter: None }";
    for (uri, text) in [
        (
            "test://typed/340282366920938463463374607431768211455?ratio=0.5&flag=true&order=down&letter=%C3%A9",
            all,
        ),
        ("test://typed/5.0", few),
        ("test://tagged/a%2Fb/c?numbers=1%2C2", "Tagged { tags: [\"a/b\", \"c\"], numbers: Some([1, 2]) }"),
        ("test://tagged/a", "Tagged { tags: [\"a\"], numbers: None }"),
    ] {
        assert_eq!(read(&mut peer, uri)["contents"][0]["text"], text, "{uri}");
        let reply = legacy.legacy("resources/read", json!({"uri": uri})).json();
        assert_eq!(reply["result"]["contents"][0]["text"], text, "{uri}");
    }
    for (uri, name) in [("test://typed/x", "count"), ("test://typed/1?order=sideways", "order")] {
        let answer = peer.request(&PeerRequest::read(uri));
        assert_eq!(answer.refused(), (200, -32602), "{uri}");
        assert!(answer.error()["message"].as_str().unwrap().contains(name), "{uri}: {}", answer.error());
    }
    let arguments = json!({
        "count": "340282366920938463463374607431768211455",
        "ratio": "0.5",
        "flag": "true",
        "order": "down",
        "letter": "é",
    });
    for (arguments, text) in [(arguments, all), (json!({"count": "5"}), few)] {
        let params = json!({"name": "typed", "arguments": arguments});
        let result = peer.request(&PeerRequest::new("prompts/get", params.clone())).result().clone();
        assert_eq!(result["messages"][0]["content"]["text"], text);
        let reply = legacy.legacy("prompts/get", params).json();
        assert_eq!(reply["result"]["messages"][0]["content"]["text"], text);
    }
    let params = json!({"name": "typed", "arguments": {"count": "5", "flag": "maybe"}});
    let answer = peer.request(&PeerRequest::new("prompts/get", params));
    assert_eq!(answer.refused(), (200, -32602));
    assert!(answer.error()["message"].as_str().unwrap().contains("flag"), "{}", answer.error());
    end(running);
}

#[test]
fn types_that_cannot_be_parsed_from_text_are_start_errors() {
    let start_error = |server: ServerBuilder| {
        let error = server.build().start(&config(1, Limits::default())).err();
        error.map(|error| error.to_string()).unwrap_or_default()
    };
    let builder = || Server::builder("test", "0");
    let prompt = Prompt::new("nested").arguments::<Nested>().run(|_: Nested, _| "");
    let error = start_error(builder().prompt(prompt));
    assert!(error.contains("\"nested\"") && error.contains("`place` is a struct"), "{error}");
    let nested = ResourceTemplate::new("test://{place}", "nested").variables::<Nested>();
    let error = start_error(builder().template(nested.run(|_: Read<Nested>, _| "")));
    assert!(error.contains("test://{place}") && error.contains("`place` is a struct"), "{error}");
    let misspelt = ResourceTemplate::new("test://{citty}", "misspelt").variables::<Place>();
    let error = start_error(builder().template(misspelt.run(|_: Read<Place>, _| "")));
    assert!(error.contains("`city` is required"), "{error}");
}

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

#[test]
fn advertised_capabilities_work_and_others_are_not_found() {
    let methods = [
        ("prompts", "prompts/list"),
        ("resources", "resources/list"),
        ("resources", "resources/templates/list"),
        ("tools", "tools/list"),
    ];
    let prompt = || Prompt::new("p").run(|_: NoArguments, _| "p");
    for server in [
        Server::builder("none", "0"),
        Server::builder("prompt", "0").prompt(prompt()),
        Server::builder("template", "0").template(ResourceTemplate::new("test://{x}", "t").run(|_, _| "t")),
        server(),
    ] {
        let running = start(server, 1, Limits::default());
        let mut peer = connect(&running);
        let discovered = peer.request(&PeerRequest::new("server/discover", json!({})));
        let capabilities = &discovered.result()["capabilities"];
        assert_eq!(discovered.result()["cacheScope"], "public");
        for (capability, method) in methods {
            let answer = peer.request(&PeerRequest::new(method, json!({})));
            match capabilities.get(capability) {
                Some(declared) => {
                    assert_eq!(declared["listChanged"], true);
                    assert!(
                        answer.result()["ttlMs"].is_u64() && answer.result()["cacheScope"] == "public",
                        "caching hints of lists"
                    );
                }
                None => assert_eq!(answer.refused(), (404, -32601), "{method}"),
            }
        }
        if capabilities.get("resources").is_none() {
            assert_eq!(peer.request(&PeerRequest::read("test://x")).refused(), (404, -32601));
        }
        end(running);
    }
}

/// Five entries of each kind, in pages of two.
fn paged() -> ServerBuilder {
    (0..5).fold(Server::builder("paged", "0"), |server, number| {
        server
            .tool(Tool::new(format!("t{number}")).run(|_: NoArguments, _| "x"))
            .prompt(Prompt::new(format!("t{number}")).run(|_: NoArguments, _| "x"))
            .resource(Resource::new(format!("test://t{number}"), format!("t{number}")).run(|_, _| "x"))
            .template(
                ResourceTemplate::new(format!("test://t{number}/{{x}}"), format!("t{number}"))
                    .run(|_, _| "x"),
            )
    })
}

const LISTS: [(&str, &str); 4] = [
    ("tools/list", "tools"),
    ("prompts/list", "prompts"),
    ("resources/list", "resources"),
    ("resources/templates/list", "resourceTemplates"),
];

fn start_paged(shards: usize) -> (Running, LiveRegistry) {
    let server = paged().tool(shard_tool()).build();
    let registry = server.registry();
    let limits = Limits { list_page_items_max: 2, ..Limits::default() };
    (server.start(&config(shards, limits)).unwrap(), registry)
}

/// The names on a page, and the next cursor.
fn page(
    peer: &mut Peer,
    (method, member): (&'static str, &str),
    cursor: Option<&Value>,
) -> (Vec<String>, Option<Value>) {
    let params = cursor.map_or(json!({}), |cursor| json!({"cursor": cursor}));
    let answer = peer.request(&PeerRequest::new(method, params));
    let entries = answer.result()[member].as_array().unwrap();
    let names = entries.iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect();
    (names, answer.result().get("nextCursor").cloned())
}

#[test]
fn list_pages_continue_on_any_shard() {
    const SHARDS: usize = 3;
    let (running, _registry) = start_paged(SHARDS);
    let mut peers: Vec<Peer> = (0..SHARDS).map(|shard| connect_to(&running, shard)).collect();
    for list in LISTS {
        let (mut names, mut cursor) = page(&mut peers[0], list, None);
        let mut pages = 1;
        while let Some(next) = cursor {
            // Every shard returns the same page for a cursor.
            let all: Vec<_> = peers.iter_mut().map(|peer| page(peer, list, Some(&next))).collect();
            assert!(all.iter().all(|page| *page == all[0]), "{all:?}");
            names.extend(all[0].0.clone());
            cursor = all[0].1.clone();
            pages += 1;
        }
        assert_eq!(pages, 3, "{list:?}");
        let mut expected: Vec<String> = (0..5).map(|number| format!("t{number}")).collect();
        expected.extend((list.1 == "tools").then(|| "shard".to_owned()));
        assert_eq!(names, expected, "in order of registration");
    }
    end(running);
}

#[test]
fn cursor_is_valid_only_for_its_own_list_and_generation() {
    let (running, registry) = start_paged(2);
    let mut peer = connect(&running);
    let cursors: Vec<Value> = LISTS.iter().map(|list| page(&mut peer, *list, None).1.unwrap()).collect();
    for (number, (method, _)) in LISTS.into_iter().enumerate() {
        let mut refused = |cursor: Value| {
            let answer = peer.request(&PeerRequest::new(method, json!({"cursor": cursor})));
            assert_eq!(answer.refused(), (200, -32602), "{method} {cursor}");
        };
        for (other, cursor) in cursors.iter().enumerate() {
            if other != number {
                refused(cursor.clone());
            }
        }
        let own = cursors[number].as_str().unwrap();
        for wrong in [json!(""), json!("1"), json!(1), json!({}), json!(format!("{own}A")), json!(own[1..])] {
            refused(wrong);
        }
        let flipped = if own.starts_with('A') { "B" } else { "A" };
        refused(json!(format!("{flipped}{}", &own[1..])));
        // A cursor of another process.
        let (other, _registry) = start_paged(1);
        refused(page(&mut connect(&other), LISTS[number], None).1.unwrap());
        end(other);
    }
    // A change of one list leaves the cursors of the others valid.
    registry.update(|registry| registry.add(Tool::new("more").run(|_: NoArguments, _| "x"))).unwrap();
    support::eventually("the change", || page(&mut peer, LISTS[0], None).1.as_ref() != Some(&cursors[0]));
    assert_eq!(
        peer.request(&PeerRequest::new("tools/list", json!({"cursor": cursors[0]}))).refused(),
        (200, -32602)
    );
    for (list, cursor) in LISTS.into_iter().zip(&cursors).skip(1) {
        assert_eq!(page(&mut peer, list, Some(cursor)).0, ["t2", "t3"]);
    }
    end(running);
}

#[test]
fn thousand_tools_are_listed() {
    let server = (0..1000).fold(Server::builder("many", "0"), |server, number| {
        server.tool(
            Tool::new(format!("tool-{number:04}"))
                .description("One of many")
                .input::<Place>()
                .run(|_: Place, _| "x"),
        )
    });
    let expected: Vec<String> = (0..1000).map(|number| format!("tool-{number:04}")).collect();
    for (page_items, pages) in [(1000, 1), (64, 16)] {
        let limits = Limits { list_page_items_max: page_items, ..Limits::default() };
        let running = start(server.clone(), 1, limits);
        let mut peer = connect(&running);
        for _ in 0..3 {
            let (mut names, mut cursor) = page(&mut peer, LISTS[0], None);
            let mut count = 1;
            while let Some(next) = cursor {
                let (more, after) = page(&mut peer, LISTS[0], Some(&next));
                names.extend(more);
                cursor = after;
                count += 1;
            }
            assert_eq!((count, &names), (pages, &expected));
        }
        assert_eq!(peer.request(&PeerRequest::call("tool-0999", json!({"city": "Bern"}))).text(), "x");
        end(running);
    }
}

/// An entry with every optional field.
fn decorated() -> ServerBuilder {
    let icon = || Icon {
        src: "https://example.com/i.png".into(),
        mime_type: Some("image/png".into()),
        sizes: vec!["48x48".into()],
        theme: Some(Theme::Dark),
    };
    let annotations = || Annotations {
        audience: vec![Role::User],
        priority: Some(0.5),
        last_modified: Some("2026-07-28T00:00:00Z".into()),
    };
    Server::builder("decorated", "0")
        .tool(
            Tool::new("t")
                .title("T")
                .description("D")
                .icon(icon())
                .annotations(ToolAnnotations { read_only_hint: Some(true), ..ToolAnnotations::default() })
                .meta("k", 1)
                .output_schema(json!({"type": "object"}))
                .run(|_: NoArguments, _| json!({})),
        )
        .prompt(
            Prompt::new("p")
                .title("P")
                .description("D")
                .icon(icon())
                .meta("k", 1)
                .argument(PromptArgument {
                    name: "a".into(),
                    title: Some("A".into()),
                    description: Some("D".into()),
                    required: true,
                })
                .run(|_: BTreeMap<String, String>, _| "p"),
        )
        .resource(
            Resource::new("test://r", "r")
                .title("R")
                .description("D")
                .mime_type("text/plain")
                .size(7)
                .icon(icon())
                .annotations(annotations())
                .meta("k", 1)
                .run(|_, _| "r"),
        )
        .template(
            ResourceTemplate::new("test://r/{x}", "m")
                .title("M")
                .description("D")
                .mime_type("text/plain")
                .icon(icon())
                .annotations(annotations())
                .meta("k", 1)
                .run(|_, _| "m"),
        )
}

#[test]
fn entries_are_listed_with_the_fields_of_each_revision() {
    let running = start(decorated(), 1, Limits::default());
    let mut client = Client::connect(running.addresses()[0]);
    let schemas = Schema::all();
    let revisions = LEGACY.into_iter().chain([MODERN]);
    for (number, revision) in revisions.enumerate() {
        // Ordered by revision: the fields that each revision introduced.
        let [since_03, since_06, since_25] = [number >= 1, number >= 2, number >= 3];
        let mut list = |method: &'static str, member: &str| {
            let reply = if revision == MODERN {
                client.modern(method, json!({}))
            } else {
                let body = json!({"jsonrpc": "2.0", "id": 1, "method": method}).to_string();
                client.post(&format!("MCP-Protocol-Version: {revision}\r\n"), body)
            };
            reply.json()["result"][member][0].clone()
        };
        for ((method, member), kind) in
            LISTS.into_iter().zip(["Tool", "Prompt", "Resource", "ResourceTemplate"])
        {
            let entry = list(method, member);
            let has = |key: &str| entry.get(key).is_some();
            assert_eq!(entry["description"], "D", "{revision} {kind}");
            assert_eq!((has("title"), has("_meta")), (since_06, since_06), "{revision} {kind}");
            assert_eq!(has("icons"), since_25, "{revision} {kind}");
            match kind {
                "Tool" => {
                    assert_eq!((has("annotations"), has("outputSchema")), (since_03, since_06), "{revision}");
                }
                "Prompt" => {
                    assert_eq!(entry["arguments"][0].get("title").is_some(), since_06, "{revision}");
                    assert_eq!(entry["arguments"][0]["required"], true);
                }
                _ => {
                    assert_eq!(entry["annotations"].get("lastModified").is_some(), since_06, "{revision}");
                    assert_eq!(entry["annotations"]["audience"], json!(["user"]));
                    assert_eq!(entry["mimeType"], "text/plain");
                }
            }
            if since_25 {
                let icon = json!({"src": "https://example.com/i.png", "mimeType": "image/png", "sizes": ["48x48"], "theme": "dark"});
                assert_eq!(entry["icons"], json!([icon]));
            }
            if let Some(schemas) = &schemas {
                let name = match kind {
                    "Tool" => "Tool",
                    "Prompt" => "Prompt",
                    "Resource" => "Resource",
                    _ => "ResourceTemplate",
                };
                schemas[number].check("an entry", &[name], &entry);
            }
        }
    }
    end(running);
}

#[test]
fn extension_is_declared_with_a_prefixed_id_and_visible_to_handlers() {
    let tool = Tool::new("colour").run_async(async |_: NoArguments, cx: Context| {
        cx.extension("com.example/colour")
            .map_or_else(|| "none".to_owned(), |settings| settings["is"].to_string())
    });
    let server = Server::builder("test", "0").extension("com.example/colour", json!({"v": 1})).tool(tool);
    let running = start(server, 1, Limits::default());
    let mut peer = connect(&running);
    let discovered = peer.request(&PeerRequest::new("server/discover", json!({})));
    assert_eq!(discovered.result()["capabilities"]["extensions"]["com.example/colour"], json!({"v": 1}));
    assert_eq!(peer.request(&PeerRequest::call("colour", json!({}))).text(), "none");
    let able = json!({"extensions": {"com.example/colour": {"is": "red"}}});
    assert_eq!(peer.request(&PeerRequest::call("colour", json!({})).can(able)).text(), "\"red\"");
    end(running);
    let nameless = Server::builder("test", "0").extension("colour", json!({})).build();
    let refused = nameless.start(&config(1, Limits::default())).err().unwrap().to_string();
    assert!(refused.contains("prefix"), "{refused}");
}
