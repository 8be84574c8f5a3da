//! Pages of lists, and their cursors.
//! <https://modelcontextprotocol.io/specification/2026-07-28/server/utilities/pagination>

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/declared_server.rs"]
mod declared_server;
mod support;

use corelane::{
    Limits, LiveRegistry, NoArguments, Prompt, Resource, ResourceTemplate, Running, Server, ServerBuilder,
    Tool,
};
use declared_server::{LISTS, Place};
use serde_json::{Value, json};
use support::peer::{Peer, PeerRequest, config, connect, connect_to, end, shard_tool, start};

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
