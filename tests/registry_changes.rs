//! Schemas compiled by a change of the registry. In a separate file, hence process, because the counter is
//! process-wide.

#![allow(clippy::unwrap_used)]

use corelane::{Config, Server, Tool, internals::schema};
use serde_json::{Value, json};

fn tool(name: &str, property: Value) -> Tool {
    Tool::new(name.to_owned())
        .input_schema::<Value>(json!({"type": "object", "properties": {"a": property}}))
        .run(|_, _| "done")
}

/// The number of schemas compiled by `act`.
fn compiled(act: impl FnOnce()) -> u64 {
    let before = schema::compiled();
    act();
    schema::compiled() - before
}

#[test]
fn registry_change_compiles_only_new_schemas() {
    const TOOLS: u64 = 50;
    const SHARDS: u64 = 2;
    let distinct = |number: u64| tool(&format!("tool{number}"), json!({"maxLength": number}));
    let mut builder = Server::builder("many", "1");
    for number in 0..TOOLS {
        builder = builder.tool(distinct(number));
    }
    let server = builder.build();
    let registry = server.registry();
    let config = Config {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        shards: Some(usize::try_from(SHARDS).unwrap()),
        admin: None,
        ..Config::default()
    };
    let mut running = None;
    assert_eq!(compiled(|| running = Some(server.start(&config).unwrap())), TOOLS, "once for all shards");

    let add = |tool: Tool| compiled(|| registry.update(|registry| registry.add(tool)).unwrap());
    assert_eq!(add(distinct(TOOLS)), 1);
    assert_eq!(add(tool("equal", json!({"maxLength": 0}))), 0, "an equal schema is in use");
    assert_eq!(
        add(tool("pattern", json!({"pattern": "^(a|b)+c"}))),
        SHARDS,
        "a pattern's once for each shard"
    );
    assert_eq!(add(tool("same-pattern", json!({"pattern": "^(a|b)+c"}))), 0);
    let change = |change: fn(&mut corelane::Registry)| compiled(|| registry.update(change).unwrap());
    assert_eq!(change(|_| {}), 0);
    assert_eq!(change(|registry| _ = registry.remove::<Tool>("tool0")), 0, "all others change position");
    assert_eq!(change(|registry| registry.info.title = Some("Many".to_owned())), 0);
    assert_eq!(registry.read(|registry| registry.tools().len()), 53);

    let running = running.unwrap();
    running.stopper().drain();
    running.join().unwrap();
}
