//! The demo server with the tools the named workloads need besides: `corelane-fixture serve …`, with corelane's command
//! line. The suite starts it by itself.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use corelane::{Content, Prompt, PromptArgument, Tool, demo};
use corelane_loadgen::{fields, planted};
use serde_json::{Value, json};

/// As the bare binary, so that what is measured is the same.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let mut server = demo::server();
    for count in [1, 5, 20] {
        server = server.tool(
            Tool::new(format!("strings_{count}"))
                .description("Counts its strings")
                .input_schema::<()>(fields::strings_schema(count))
                .run_raw(|arguments, _cx, reply| {
                    let count = arguments.members().into_iter().flatten().count();
                    reply.push(Content::text(count.to_string()));
                }),
        );
    }
    for count in [5, 20, 100] {
        server = server
            .tool(
                Tool::new(format!("schema_{count}"))
                    .description("Takes fields with rules")
                    .input_schema::<()>(fields::mixed_schema(count))
                    .run_raw(|_arguments, _cx, reply| reply.push(Content::text("valid"))),
            )
            .tool(
                Tool::new(format!("json_{count}"))
                    .description("Gives back what it was given")
                    .input_schema(json!({"type": "object"}))
                    .output_schema(json!({"type": "object"}))
                    .run(|arguments: Value, _cx| arguments),
            );
    }
    for count in [0, 10, 50] {
        server = server.prompt(prompt(count));
    }
    let delay = planted::delay_of_this_process();
    server
        .tool(
            Tool::new(planted::TOOL)
                .description("Takes the time that was planted")
                .input_schema::<()>(json!({"type": "object"}))
                .run_raw(move |_arguments, _cx, reply| {
                    work_for(delay);
                    reply.push(Content::text("done"));
                }),
        )
        .main()
}

/// A prompt whose text says all of its variables.
fn prompt(count: usize) -> Prompt {
    let mut prompt = Prompt::new(format!("variables_{count}"))
        .description("Says its variables")
        .argument(PromptArgument { name: "parameter_0".to_owned(), ..Default::default() });
    for number in 1..count {
        prompt =
            prompt.argument(PromptArgument { name: format!("parameter_{number}"), ..Default::default() });
    }
    prompt.run(|arguments, _cx| {
        let said: Vec<String> = arguments.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        said.join("\n")
    })
}

/// Holds the shard up, as a tool that computes.
fn work_for(delay: Duration) {
    let until = Instant::now() + delay;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}
