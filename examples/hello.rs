//! A server with one tool of each kind: `cargo run --example hello -- serve`

use std::{process::ExitCode, time::Duration};

use corelane::{Server, Tool};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Greet {
    /// The name of the person
    name: String,
}

fn main() -> ExitCode {
    Server::builder("hello", "1.0.0")
        // Fast tools run on the core, inline.
        .tool(
            Tool::new("greet")
                .description("Greets somebody")
                .input::<Greet>()
                .run(|arguments, _cx| format!("Hello, {}!", arguments.name)),
        )
        // Async tools wait without blocking the core.
        .tool(
            Tool::new("greet_later").description("Greets somebody after a delay").input::<Greet>().run_async(
                async |arguments, _cx| {
                    corelane::time::sleep(Duration::from_millis(100)).await;
                    format!("Hello at last, {}!", arguments.name)
                },
            ),
        )
        // Blocking tools run on separate threads; an error becomes a result that the model can read.
        .tool(
            Tool::new("read_greeting")
                .description("Reads a greeting from a file")
                .run_blocking(|_, _cx| std::fs::read_to_string("greeting.txt")),
        )
        .main()
}
