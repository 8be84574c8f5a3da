//! The tools of the bare binary: one of each kind, so that a newcomer sees each answer.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{BorrowedArguments, Server, ServerBuilder, Structured, Tool};

#[derive(Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Echo<'a> {
    /// What to say back
    message: &'a str,
}

impl BorrowedArguments for Echo<'static> {
    type Of<'a> = Echo<'a>;
}

#[derive(Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Add {
    /// First summand
    a: f64,
    /// Second summand
    b: f64,
}

#[derive(Serialize, JsonSchema)]
struct Sum {
    /// The sum
    sum: f64,
}

#[derive(Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Sleep {
    /// Milliseconds, a minute at most
    #[schemars(range(max = 60_000))]
    ms: u64,
}

#[derive(Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Digest {
    /// What to hash
    text: String,
    /// How often: each further round hashes the digest before it
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 10_000_000))]
    rounds: u32,
}

fn one() -> u32 {
    1
}

/// The demo server.
#[must_use]
pub fn server() -> ServerBuilder {
    Server::builder("corelane", env!("CARGO_PKG_VERSION"))
        .tool(
            Tool::new("echo")
                .description("Says a message back")
                .input::<Echo<'static>>()
                .run_borrowed(|arguments, _cx, reply| reply.text(arguments.message)),
        )
        .tool(
            Tool::new("add")
                .description("Adds two numbers")
                .input::<Add>()
                .output::<Sum>()
                .run(|arguments, _cx| add(&arguments)),
        )
        .tool(Tool::new("sleep").description("Answers after some milliseconds").input::<Sleep>().run_async(
            async |arguments, _cx| {
                crate::glommio::timer::sleep(Duration::from_millis(arguments.ms)).await;
                format!("slept {} ms", arguments.ms)
            },
        ))
        .tool(
            Tool::new("digest")
                .description("SHA-256 of a text, in lowercase hexadecimal")
                .input::<Digest>()
                .run_blocking(|arguments, _cx| digest(&arguments)),
        )
}

fn add(arguments: &Add) -> Result<Structured<Sum>, &'static str> {
    let sum = arguments.a + arguments.b;
    // JSON knows no infinity.
    if sum.is_finite() { Ok(Structured(Sum { sum })) } else { Err("the sum is out of range") }
}

fn digest(arguments: &Digest) -> String {
    let mut digest = Sha256::digest(arguments.text.as_bytes());
    for _ in 1..arguments.rounds {
        digest = Sha256::digest(digest);
    }
    format!("{digest:x}")
}
