//! Discovery and lists: capabilities, extensions, and the fields of entries.
//! <https://modelcontextprotocol.io/specification/2026-07-28/server/discover>

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/declared_server.rs"]
mod declared_server;
mod support;

use std::collections::BTreeMap;

use corelane::{
    Annotations, Context, Icon, Limits, NoArguments, Prompt, PromptArgument, Resource, ResourceTemplate,
    Role, Server, ServerBuilder, Theme, Tool, ToolAnnotations,
};
use declared_server::{LISTS, server};
use serde_json::json;
use support::{
    Client,
    peer::{PeerRequest, config, connect, end, start},
    schema::{LEGACY, MODERN, Schema},
};

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
