//! State per shard, which needs no lock: `cargo run --example state -- serve`

use std::{cell::RefCell, collections::HashMap, process::ExitCode};

use corelane::{Server, Tool};

/// Number of greetings per name on this shard.
type Greeted = RefCell<HashMap<String, u64>>;

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Greet {
    name: String,
}

fn main() -> ExitCode {
    Server::builder("state", "1.0.0")
        .shard_state(|_shard| Greeted::default())
        .tool(Tool::new("greet").description("Greets somebody and counts").input::<Greet>().run(
            |Greet { name }, cx| {
                let mut greeted = cx.state::<Greeted>().borrow_mut();
                let times = greeted.entry(name.clone()).or_default();
                *times += 1;
                format!("Hello, {name}! Greeted on shard {}: {times}", cx.caller().shard)
            },
        ))
        .main()
}
