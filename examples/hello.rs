//! A server with one tool of each kind: `cargo run --example hello -- serve`

use std::{process::ExitCode, time::Duration};

use corelane::{Server, Tool};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Greet {
    /// Whom to greet
    name: String,
}

fn main() -> ExitCode {
    Server::builder("hello", "1.0.0")
        // Fast tools run on the core, at once.
        .tool(
            Tool::new("greet")
                .description("Greets somebody")
                .input::<Greet>()
                .run(|arguments, _cx| format!("Hello, {}!", arguments.name)),
        )
        // Async tools wait without holding the core up.
        .tool(Tool::new("greet_later").description("Takes its time").input::<Greet>().run_async(
            async |arguments, _cx| {
                corelane::time::sleep(Duration::from_millis(100)).await;
                format!("Hello at last, {}!", arguments.name)
            },
        ))
        // Blocking tools run on threads of their own; an error becomes a result the model can read.
        .tool(
            Tool::new("read_greeting")
                .description("Reads a greeting from a file")
                .run_blocking(|_, _cx| std::fs::read_to_string("greeting.txt")),
        )
        .main()
}
