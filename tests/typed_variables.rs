//! Variables of templates and arguments of prompts that are parsed into types.
//! <https://modelcontextprotocol.io/specification/2026-07-28/server/resources#resource-templates>

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/declared_server.rs"]
mod declared_server;
mod support;

use corelane::{Context, Limits, Prompt, Read, ResourceTemplate, Server, ServerBuilder};
use declared_server::{Place, read};
use serde_json::json;
use support::{
    Client,
    peer::{PeerRequest, config, connect, end, start},
};

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
