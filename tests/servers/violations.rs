//! The server of `tests/violations.rs`: one tool for each explained kind of invalid argument.

use std::process::ExitCode;

use corelane::{BorrowedArguments, Prompt, ResourceTemplate, Server, Tool};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only deserialised")]
struct Weather {
    city: String,
    unit: Option<Unit>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Unit {
    Metric,
    Imperial,
}

/// Stricter than the schema of its tools.
#[derive(Deserialize)]
#[allow(dead_code, reason = "only deserialised")]
struct Order {
    lines: Vec<Line>,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "only deserialised")]
struct Line {
    count: u8,
}

impl BorrowedArguments for Order {
    type Of<'a> = Self;
}

#[derive(Deserialize, JsonSchema)]
#[allow(dead_code, reason = "only deserialised")]
struct Lines {
    lines: u8,
}

fn main() -> ExitCode {
    let kind = |name: &str, size: &str| {
        json!({
            "type": "object",
            "properties": {"kind": {"const": name}, size: {"type": "number"}},
            "required": ["kind", size]
        })
    };
    let draw = json!({
        "type": "object",
        "properties": {"shape": {"oneOf": [kind("circle", "radius"), kind("square", "side")]}, "gone": false}
    });
    let order = |name: &'static str| Tool::new(name).input_schema::<Order>(json!({"type": "object"}));
    Server::builder("violations", "0")
        .tool(Tool::new("weather").input::<Weather>().run(|_, _cx| "fine"))
        .tool(Tool::new("draw").input_schema::<Value>(draw).run(|_, _cx| "drawn"))
        .tool(order("inline").run(|_, _cx| ()))
        .tool(order("borrowed").run_borrowed(|_, _cx, _reply| ()))
        .tool(order("async").run_async(async |_, _cx| ()))
        .tool(order("blocking").run_blocking(|_, _cx| ()))
        .prompt(Prompt::new("review").arguments::<Lines>().run(|_, _cx| ""))
        .template(ResourceTemplate::new("log://{lines}", "log").variables::<Lines>().run(|_, _cx| ""))
        .main()
}
