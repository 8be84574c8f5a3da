//! The demo server with the tools the named workloads need besides: `corelane-fixture serve …`, with corelane's command
//! line. The suite starts it by itself.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use corelane::{Content, Tool, demo};
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

/// Holds the shard up, as a tool that computes.
fn work_for(delay: Duration) {
    let until = Instant::now() + delay;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}
