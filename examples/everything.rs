//! The server the official conformance suite tests: `cargo run --example everything -- serve`
//!
//! `scripts/conformance.sh --start` runs the suite against it. Names and texts are the suite's.

use std::process::ExitCode;

use corelane::{Server, Tool};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Region {
    /// Repeated in the header Mcp-Param-Region
    #[schemars(extend("x-mcp-header" = "Region"))]
    region: String,
}

fn main() -> ExitCode {
    Server::builder("everything", env!("CARGO_PKG_VERSION"))
        // First, because the suite calls the first tool without arguments and expects no error.
        .tool(
            Tool::new("test_simple_text")
                .description("Answers with a text")
                .run(|_, _cx| "This is a simple text response for testing."),
        )
        .tool(
            Tool::new("test_error_handling")
                .description("Fails")
                .run(|_, _cx| Err::<(), _>("This tool intentionally returns an error for testing")),
        )
        .tool(
            Tool::new("test_x_mcp_header")
                .description("Says the region back, which a header repeats")
                .input::<Region>()
                .run(|arguments, _cx| arguments.region),
        )
        // A tool that asks for nothing also keeps to what the suite forbids: no request to the client on the reply's
        // stream, and no log message that the client did not ask for.
        .tool(
            Tool::new("test_streaming_elicitation")
                .description("Answers on the reply's stream")
                .run(|_, _cx| "Nothing was asked"),
        )
        .tool(
            Tool::new("test_logging_tool")
                .description("Logs nothing unasked")
                .run(|_, _cx| "Nothing was logged"),
        )
        .main()
}
