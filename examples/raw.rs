//! Hand-written schemas and raw JSON, for tools that are defined at run time:
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
        // Arguments and result as JSON values.
        .tool(
            Tool::new("query")
                .description("Returns an empty result for a table")
                .input_schema(schema)
                .output_schema(json!({"type": "object", "required": ["rows"]}))
                .run(|arguments: Value, _cx| json!({"from": arguments.get("table"), "rows": []})),
        )
        // The arguments are read from the receive buffer without a copy.
        .tool(
            Tool::new("depth")
                .description("Returns the nesting depth of its arguments")
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
