//! Structured results with an output schema derived from a type: `cargo run --example structured -- serve`

use std::process::ExitCode;

use corelane::{Server, Structured, Tool, ToolAnnotations};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Text {
    /// The text
    text: String,
}

#[derive(serde::Serialize, schemars::JsonSchema)]
struct Counts {
    words: usize,
    characters: usize,
}

fn main() -> ExitCode {
    Server::builder("structured", "1.0.0")
        .tool(
            Tool::new("count")
                .title("Count words")
                .description("Counts the words and characters of a text")
                .annotations(ToolAnnotations { read_only_hint: Some(true), ..ToolAnnotations::default() })
                .input::<Text>()
                .output::<Counts>()
                .run(|Text { text }, _cx| {
                    let (words, characters) = (text.split_whitespace().count(), text.chars().count());
                    Structured(Counts { words, characters })
                }),
        )
        .main()
}
