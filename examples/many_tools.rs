//! Measures the cost of many tools: start time, memory, and the time of one change.
//!
//! `cargo run --profile quick --example many_tools [TOOLS] [SHARDS] [distinct|equal]`

#![allow(clippy::unwrap_used, reason = "a measurement program")]

use std::time::{Duration, Instant};

use corelane::{Config, Server, Tool};
use serde_json::{Value, json};

fn schema(number: usize) -> Value {
    let name = format!("name{number}");
    json!({
        "type": "object",
        "properties": {
            &name: {"type": "string", "description": "A name", "maxLength": 40},
            "code": {"type": "string", "pattern": "^[a-z]+(-[a-z0-9]+)*$"},
            "count": {"type": "integer", "minimum": 0},
            "mode": {"enum": ["fast", "slow"]}
        },
        "required": [name],
        "additionalProperties": false
    })
}

fn tool(number: usize, schema_number: usize) -> Tool {
    Tool::new(format!("tool{number}"))
        .description("One of many tools")
        .input_schema::<Value>(schema(schema_number))
        .run(|_, _| "done")
}

/// Resident memory in MB, current and peak.
fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default() / 1024.0
    };
    format!("{:.0} MB resident, {:.0} MB peak", line("VmRSS"), line("VmHWM"))
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let tools: usize = arguments.next().map_or(2_000, |tools| tools.parse().unwrap());
    let shards: usize = arguments.next().map_or(2, |shards| shards.parse().unwrap());
    let is_distinct = arguments.next().as_deref() != Some("equal");
    let mut builder = Server::builder("many tools", "1");
    for number in 0..tools {
        builder = builder.tool(tool(number, if is_distinct { number } else { 0 }));
    }
    let config = Config {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        shards: Some(shards),
        admin: None,
        ..Config::default()
    };
    println!("declared: {}", resident());
    let started = Instant::now();
    let server = builder.build();
    let registry = server.registry();
    let running = server.start(&config).unwrap();
    println!("{tools} tools on {shards} shards: start {:?}; {}", started.elapsed(), resident());
    for number in tools..tools + 5 {
        let started = Instant::now();
        registry.update(|registry| registry.add(tool(number, number))).unwrap();
        println!("one more tool: {:?}", started.elapsed());
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("{}", resident());
    running.stopper().drain();
    running.join().unwrap();
}
