//! The server the official conformance suite tests: `cargo run --example everything -- serve`
//!
//! `scripts/conformance.sh --start` runs the suite against it. Names and texts are the suite's.

use std::process::ExitCode;

use corelane::{Capability, Content, Server, ServerBuilder, Tool};
use serde_json::{Value, json};

/// One pixel.
const PNG: &[u8] = include_bytes!("everything/pixel.png");
/// One sample of silence.
const WAV: &[u8] = include_bytes!("everything/silence.wav");

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Region {
    /// Repeated in the header Mcp-Param-Region
    #[schemars(extend("x-mcp-header" = "Region"))]
    region: String,
}

fn main() -> ExitCode {
    let server = Server::builder("everything", env!("CARGO_PKG_VERSION"));
    modern(schemas(contents(server))).main()
}

/// Every kind of content. A text comes first, because the suite calls the first tool without arguments and expects no
/// error.
fn contents(server: ServerBuilder) -> ServerBuilder {
    server
        .tool(
            Tool::new("test_simple_text")
                .description("Answers with a text")
                .run(|_, _cx| "This is a simple text response for testing."),
        )
        .tool(
            Tool::new("test_image_content")
                .description("Answers with an image")
                .run(|_, _cx| Content::image(PNG, "image/png")),
        )
        .tool(
            Tool::new("test_audio_content")
                .description("Answers with a sound")
                .run(|_, _cx| Content::audio(WAV, "audio/wav")),
        )
        .tool(Tool::new("test_embedded_resource").description("Answers with a resource").run(|_, _cx| {
            Content::resource_text(
                "test://embedded-resource",
                "text/plain",
                "This is an embedded resource content.",
            )
        }))
        .tool(
            Tool::new("test_multiple_content_types").description("Answers with three kinds of content").run(
                |_, _cx| {
                    vec![
                        Content::text("Multiple content types test:"),
                        Content::image(PNG, "image/png"),
                        Content::resource_text(
                            "test://mixed-content-resource",
                            "application/json",
                            r#"{"test":"data","value":123}"#,
                        ),
                    ]
                },
            ),
        )
        .tool(
            Tool::new("test_error_handling")
                .description("Fails")
                .run(|_, _cx| Err::<(), _>("This tool intentionally returns an error for testing")),
        )
}

/// Schemas that no type derives: every keyword must reach the client as it stands here.
fn schemas(server: ServerBuilder) -> ServerBuilder {
    let contact = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": {"street": {"type": "string"}, "city": {"type": "string"}}
            }
        },
        "properties": {
            "name": {"type": "string"},
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {"type": "string", "enum": ["phone", "email"]},
            "phone": {"type": "string"},
            "email": {"type": "string"}
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": false
    });
    server
        .tool(
            Tool::new("json_schema_2020_12_tool")
                .title("JSON Schema 2020-12")
                .description("Says the contact back")
                .input_schema(contact)
                .run(|arguments: Value, _cx| arguments.to_string()),
        )
        .tool(
            Tool::new("test_x_mcp_header")
                .description("Says the region back, which a header repeats")
                .input::<Region>()
                .run(|arguments, _cx| arguments.region),
        )
}

/// What only a request of 2026-07-28 can ask for.
fn modern(server: ServerBuilder) -> ServerBuilder {
    server
        .tool(
            Tool::new("test_missing_capability")
                .description("Needs a client that samples")
                .requires(Capability::Sampling)
                .run(|_, _cx| "Success"),
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
}
