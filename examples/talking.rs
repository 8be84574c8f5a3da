//! Handlers that communicate with their client: `cargo run --example talking -- serve`, or `-- stdio`
//!
//! Elicitation, sampling and roots; progress and log messages; resource updates and a tool added at run time.

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use corelane::{
    AskError, Completer, Elicited, Form, Level, Prompt, RegistryError, Resource, ResourceTemplate, Sampling,
    Server, Tool,
};
use schemars::JsonSchema;
use serde::Deserialize;

/// The form for the user.
#[derive(Deserialize, JsonSchema)]
struct Name {
    /// Your name
    name: String,
}

#[derive(Deserialize, JsonSchema)]
struct Question {
    /// The question for the model
    question: String,
}

#[derive(Deserialize, JsonSchema)]
struct Count {
    /// The last number
    #[schemars(range(min = 1, max = 600))]
    to: u32,
}

#[derive(Deserialize, JsonSchema)]
struct Greet {
    /// The name of the person
    name: String,
    /// The language of the greeting
    language: Option<String>,
}

/// The resource that `turn` changes.
const PAGE: &str = "book://page";
const LANGUAGES: [&str; 3] = ["English", "Esperanto", "Finnish"];

fn main() -> ExitCode {
    let page = Arc::new(AtomicU32::new(1));
    let turned = Arc::clone(&page);
    let server = Server::builder("talking", "1.0.0")
        .instructions("Ask it to ask you.")
        .tool(Tool::new("ask_name").description("Requests a name from the user").run_async(async |_, cx| {
            let greeting = match cx.elicit(Form::<Name>::new("What is your name?")).await? {
                Elicited::Accepted(name) => format!("Hello, {}!", name.name),
                refused => format!("No name: {}", refused.action()),
            };
            Ok::<_, AskError>(greeting)
        }))
        .tool(
            Tool::new("ask_model")
                .description("Requests a completion from the model of the client")
                .input::<Question>()
                .run_async(async |arguments, cx| {
                    let sampled = cx.sample(Sampling::question(arguments.question, 100)).await;
                    sampled.map(|sampled| format!("{} says: {}", sampled.model, sampled.text()))
                }),
        )
        // A blocking tool waits for the answer on its thread.
        .tool(Tool::new("ask_roots").description("Requests the roots of the client").run_blocking(|_, cx| {
            cx.block_on(cx.roots())
                .map(|roots| roots.into_iter().map(|root| root.uri).collect::<Vec<_>>().join(" "))
        }))
        // Takes a tenth of a second per number unless the client cancels the call.
        .tool(
            Tool::new("count")
                .description("Counts with progress and log messages")
                .input::<Count>()
                .run_async(async |arguments, cx| {
                    for number in 1..=arguments.to {
                        cx.progress(number.into(), Some(arguments.to.into()), Some("counting"));
                        cx.log_as("counter", Level::Info, format!("counted {number}"));
                        corelane::time::sleep(Duration::from_millis(100)).await;
                    }
                    format!("counted to {}", arguments.to)
                }),
        )
        .tool(Tool::new("turn").description("Turns the page and notifies subscribers").run(move |_, cx| {
            let number = turned.fetch_add(1, Ordering::Relaxed) + 1;
            // Written to standard error if standard output is the transport.
            println!("turned to page {number}");
            cx.resource_updated(PAGE);
            format!("page {number}")
        }))
        .resource(
            Resource::new(PAGE, "page")
                .description("The current page")
                .mime_type("text/plain")
                .run(move |_uri, _cx| format!("This is page {}.", page.load(Ordering::Relaxed))),
        )
        .template(
            ResourceTemplate::new("book://chapter/{name}", "chapter")
                .mime_type("text/plain")
                .variables::<Name>()
                .complete(Completer::of("name", ["beginning", "middle", "end"]))
                .run(|read, _cx| format!("The chapter called {}.", read.variables.name)),
        )
        .prompt(
            Prompt::new("greet")
                .description("Asks the model to greet somebody")
                .arguments::<Greet>()
                .complete(Completer::of("language", LANGUAGES))
                .run(|greet, _cx| {
                    let language = greet.language.as_deref().unwrap_or("English");
                    format!("Greet {} in {language}.", greet.name)
                }),
        )
        .build();
    // A registry change compiles schemas, so a blocking tool makes it. Every shard applies the change, and subscribed clients
    // receive a `list_changed` notification.
    let registry = server.registry();
    let growing = registry.clone();
    let grown = AtomicU32::new(0);
    let grow = Tool::new("grow").description("Adds a tool").run_blocking(move |_, _cx| {
        let name = format!("grown_{}", grown.fetch_add(1, Ordering::Relaxed) + 1);
        growing.update(|registry| registry.add(Tool::new(name.clone()).run(|_, _cx| "I am new here.")))?;
        Ok::<_, RegistryError>(name)
    });
    match registry.update(|registry| registry.add(grow)) {
        Ok(()) => server.main(),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
