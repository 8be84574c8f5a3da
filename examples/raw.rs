//! Schemas and JSON written by hand, for tools whose shape is only known when the program runs:
//! `cargo run --example raw -- serve`

use std::process::ExitCode;

use corelane::{Server, Tool};
use serde_json::{Value, json};

fn main() -> ExitCode {
    let schema = json!({
        "type": "object",
        "properties": {"table": {"enum": ["users", "orders"]}, "limit": {"type": "integer", "maximum": 100}},
        "required": ["table"]
    });
    Server::builder("raw", "1.0.0")
        // A value in, a value out.
        .tool(
            Tool::new("query")
                .description("Pretends to query a table")
                .input_schema(schema)
                .output_schema(json!({"type": "object", "required": ["rows"]}))
                .run(|arguments: Value, _cx| json!({"from": arguments.get("table"), "rows": []})),
        )
        // Nothing is copied: the arguments are read where they were received.
        .tool(
            Tool::new("depth")
                .description("How deep its arguments go")
                .input_schema::<()>(json!({}))
                .run_raw(|arguments, _cx, reply| reply.text(&depth(arguments).to_string())),
        )
        .main()
}

fn depth(node: corelane::Node<'_>) -> usize {
    let members = node.members().into_iter().flatten().map(|(_, value)| value);
    let elements = node.elements().into_iter().flatten();
    let deepest = members.chain(elements).map(depth).max();
    let own = usize::from(node.is_object() || node.is_array());
    own + deepest.unwrap_or(0)
}
