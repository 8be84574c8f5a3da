//! Prompts with argument completion: `cargo run --example prompts -- serve`

use std::process::ExitCode;

use corelane::{Completer, Content, Messages, Prompt, Server};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Review {
    /// The language of the code
    language: String,
    /// The code
    code: String,
    /// The main aspect of the review
    focus: Option<String>,
}

fn main() -> ExitCode {
    Server::builder("prompts", "1.0.0")
        .prompt(
            Prompt::new("review")
                .title("Code review")
                .description("Asks the model to review some code")
                .arguments::<Review>()
                .complete(Completer::of("language", ["python", "rust", "typescript"]))
                .run(|review, _cx| {
                    let focus = review.focus.unwrap_or_else(|| "correctness".to_owned());
                    Messages::new()
                        .description(format!("A review of {} code", review.language))
                        .user(format!("Review this {} code. Look at {focus} above all.", review.language))
                        .user(Content::text(review.code))
                        .assistant("I will go through it line by line.")
                }),
        )
        .main()
}
