//! The tools and the resource template that the attacks need, which the fixture server adds.

use std::time::Duration;

use corelane::{Content, Context, ListRoots, NoArguments, ResourceTemplate, ServerBuilder, TaskTerms, Tool};
use serde_json::{Value, json};

/// Environment variable of the fixture server: if it is set, there are the tools of this module and those that panic.
pub const ATTACKS_VARIABLE: &str = "CORELANE_FIXTURE_ATTACKS";

/// Name of the tool that becomes a task and ends at once.
pub(super) const TASK: &str = "task";
/// Name of the tool that becomes a task with a result of [`LARGE_BYTES`].
pub(super) const LARGE_TASK: &str = "large_task";
/// Name of the tool that asks its client for its roots.
pub(super) const ASK: &str = "ask";
/// Names of the tools with schemas that are expensive to validate.
pub(super) const MULTIPLE_OF: &str = "multiple_of";
pub(super) const PATTERN_PROPERTIES: &str = "pattern_properties";
pub(super) const PATTERN: &str = "pattern";
pub(super) const ALL_OF: &str = "all_of";
/// Names of the fixture's tools that panic.
pub(crate) const PANICS: [&str; 3] = ["panic_inline", "panic_async", "panic_blocking"];

/// Name of the tool that returns the number of its shard.
pub(crate) const SHARD: &str = "shard";

/// Length of the result of [`LARGE_TASK`].
const LARGE_BYTES: usize = 3_000_000;

/// Adds the tools and the template of the attacks.
#[must_use]
pub fn add_tools(server: ServerBuilder) -> ServerBuilder {
    let terms = TaskTerms { ttl: Some(Duration::from_secs(60)), poll_interval: Duration::from_millis(100) };
    let task = Tool::new(TASK).task(terms).run_async(async |_: NoArguments, _| "done");
    let large = Tool::new(LARGE_TASK).task(terms).run_blocking(|_: NoArguments, _| "x".repeat(LARGE_BYTES));
    let ask = Tool::new(ASK)
        .run_async(async |_: NoArguments, cx: Context| format!("{:?}", cx.ask(ListRoots::default()).await));
    let shard = Tool::new(SHARD).run(|_: NoArguments, cx| cx.caller().shard.to_string());
    // The arguments are not converted, which would take more time than their validation.
    let validated = |name, schema: Value| {
        Tool::new(name)
            .input_schema::<()>(schema)
            .run_raw(|_arguments, _cx, reply| reply.push(Content::text("valid")))
    };
    let object_of =
        |property: &str, schema: Value| json!({"type": "object", "properties": {property: schema}});
    let branches: Vec<Value> = (0..50).map(|number| json!({"minimum": number})).collect();
    let patterns = json!({
        "^[a-z]+-[0-9]+$": {"type": "integer"}, "^x-": {"type": "string"}, "[0-9]{9}$": false,
    });
    server
        .tool(task)
        .tool(large)
        .tool(ask)
        .tool(shard)
        .tool(validated(MULTIPLE_OF, object_of("list", json!({"items": {"multipleOf": 0.25}}))))
        .tool(validated(
            PATTERN_PROPERTIES,
            json!({"type": "object", "patternProperties": patterns, "additionalProperties": false}),
        ))
        // The deterministic automaton of the pattern would have 2^500 states.
        .tool(validated(PATTERN, object_of("text", json!({"pattern": "^[ab]*a[ab]{500}[^ab]"}))))
        .tool(validated(ALL_OF, object_of("list", json!({"items": {"allOf": branches}}))))
        .template(ResourceTemplate::new("page://{number}", "page").run(|_, _| "text"))
}
