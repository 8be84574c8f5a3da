//! The server of the bare binary: one tool of each kind, a resource, a template and a prompt, to try the features with.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    BorrowedArguments, CacheScope, Completer, Prompt, Resource, ResourceTemplate, Server, ServerBuilder,
    Structured, Tool,
};

#[derive(Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Echo<'a> {
    /// Text to return
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
    /// Text to hash
    text: String,
    /// Number of rounds: each further one hashes the digest before it
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 10_000_000))]
    rounds: u32,
}

/// URI of the resource that `touch` increments.
const COUNTER: &str = "demo://counter";

#[derive(Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Touch<'a> {
    /// demo://counter
    uri: &'a str,
}

impl BorrowedArguments for Touch<'static> {
    type Of<'a> = Touch<'a>;
}

#[derive(Deserialize, JsonSchema)]
struct Greet {
    /// Who is greeted
    name: String,
}

fn one() -> u32 {
    1
}

/// The demo server.
#[must_use]
pub fn server() -> ServerBuilder {
    let counter = Arc::new(AtomicU64::new(0));
    let touched = Arc::clone(&counter);
    Server::builder("corelane", env!("CARGO_PKG_VERSION"))
        .tool(
            Tool::new("echo")
                .description("Returns the message")
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
                crate::time::sleep(Duration::from_millis(arguments.ms)).await;
                format!("slept {} ms", arguments.ms)
            },
        ))
        .tool(
            Tool::new("digest")
                .description("SHA-256 of a text, in lowercase hexadecimal")
                .input::<Digest>()
                .run_blocking(|arguments, _cx| digest(&arguments)),
        )
        .tool(
            Tool::new("touch")
                .description("Increments demo://counter and notifies subscribers")
                .input::<Touch<'static>>()
                .run_borrowed(move |arguments, cx, reply| {
                    if arguments.uri != COUNTER {
                        return reply.error(&format!("only {COUNTER} can be touched"));
                    }
                    let count = touched.fetch_add(1, Ordering::Relaxed) + 1;
                    cx.resource_updated(COUNTER);
                    reply.text(&count.to_string());
                }),
        )
        .resource(
            Resource::new(COUNTER, "counter")
                .description("How often it was touched")
                .mime_type("text/plain")
                .run(move |_uri, _cx| counter.load(Ordering::Relaxed).to_string()),
        )
        .template(
            ResourceTemplate::new("demo://greeting/{name}", "greeting")
                .description("A greeting for somebody")
                .mime_type("text/plain")
                .cache(Duration::from_secs(60), CacheScope::Public)
                .variables::<Greet>()
                .complete(Completer::of("name", NAMES))
                .run(|read, _cx| format!("Hello, {}!", read.variables.name)),
        )
        .prompt(
            Prompt::new("greet")
                .description("Asks the model to greet somebody")
                .arguments::<Greet>()
                .complete(Completer::of("name", NAMES))
                .run(|arguments, _cx| format!("Please greet {} in one friendly sentence.", arguments.name)),
        )
}

/// Completions of `name`.
const NAMES: [&str; 3] = ["Ada", "Alan", "Grace"];

fn add(arguments: &Add) -> Result<Structured<Sum>, &'static str> {
    let sum = arguments.a + arguments.b;
    // JSON has no infinity.
    if sum.is_finite() { Ok(Structured(Sum { sum })) } else { Err("the sum is out of range") }
}

fn digest(arguments: &Digest) -> String {
    let mut digest = Sha256::digest(arguments.text.as_bytes());
    for _ in 1..arguments.rounds {
        digest = Sha256::digest(digest);
    }
    format!("{digest:x}")
}
