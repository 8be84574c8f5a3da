//! A server with resources, templates, prompts and completion, and the lists of a server.

#![allow(unreachable_pub, dead_code)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::{collections::BTreeMap, thread, time::Duration};

use corelane::{
    CacheScope, CallError, Completer, Completing, Completion, Content, Contents, Context, Messages,
    NoArguments, Prompt, PromptArgument, ProtocolError, Read, Resource, ResourceTemplate, Server,
    ServerBuilder, time::sleep,
};
use serde_json::{Value, json};

use crate::support::peer::{Peer, PeerRequest};

#[derive(serde::Deserialize, schemars::JsonSchema)]
pub struct Place {
    pub city: String,
    pub country: Option<String>,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
pub struct Review {
    /// What is reviewed
    pub code: String,
    pub language: Option<String>,
}

pub fn server() -> ServerBuilder {
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

pub fn read(peer: &mut Peer, uri: &str) -> Value {
    peer.request(&PeerRequest::read(uri)).result().clone()
}

pub const LISTS: [(&str, &str); 4] = [
    ("tools/list", "tools"),
    ("prompts/list", "prompts"),
    ("resources/list", "resources"),
    ("resources/templates/list", "resourceTemplates"),
];
