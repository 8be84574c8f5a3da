//! A server that talks with its client while it works: `cargo run --example talking -- serve`, or `-- stdio`
//!
//! It asks the person, the model and the client; tells how far a call is; changes what it offers while it runs.

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

/// What a person fills in.
#[derive(Deserialize, JsonSchema)]
struct Name {
    /// What you are called
    name: String,
}

#[derive(Deserialize, JsonSchema)]
struct Question {
    /// What the model is asked
    question: String,
}

#[derive(Deserialize, JsonSchema)]
struct Count {
    /// How far to count
    #[schemars(range(min = 1, max = 600))]
    to: u32,
}

#[derive(Deserialize, JsonSchema)]
struct Greet {
    /// Who is greeted
    name: String,
    /// In which language
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
        .tool(Tool::new("ask_name").description("Asks the person for a name").run_async(async |_, cx| {
            let said = match cx.elicit(Form::<Name>::new("What is your name?")).await? {
                Elicited::Accepted(name) => format!("Hello, {}!", name.name),
                refused => format!("No name: {}", refused.action()),
            };
            Ok::<_, AskError>(said)
        }))
        .tool(Tool::new("ask_model").description("Asks the client's model").input::<Question>().run_async(
            async |arguments, cx| {
                let said = cx.sample(Sampling::question(arguments.question, 100)).await;
                said.map(|said| format!("{} says: {}", said.model, said.text()))
            },
        ))
        // A blocking tool asks too: it waits on its own thread.
        .tool(Tool::new("ask_roots").description("Asks where the client works").run_blocking(|_, cx| {
            cx.block_on(cx.roots())
                .map(|roots| roots.into_iter().map(|root| root.uri).collect::<Vec<_>>().join(" "))
        }))
        // A tenth of a second for each number, unless the client cancels the call.
        .tool(Tool::new("count").description("Counts, and tells how far it is").input::<Count>().run_async(
            async |arguments, cx| {
                for number in 1..=arguments.to {
                    cx.progress(number.into(), Some(arguments.to.into()), Some("counting"));
                    cx.log_as("counter", Level::Info, format!("counted {number}"));
                    corelane::time::sleep(Duration::from_millis(100)).await;
                }
                format!("counted to {}", arguments.to)
            },
        ))
        .tool(Tool::new("turn").description("Turns the page, and tells the readers").run(move |_, cx| {
            let number = turned.fetch_add(1, Ordering::Relaxed) + 1;
            // Goes to standard error when standard output is the client's.
            println!("turned to page {number}");
            cx.resource_updated(PAGE);
            format!("page {number}")
        }))
        .resource(
            Resource::new(PAGE, "page")
                .description("The open page")
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
    // Changing the registry takes a moment, so a blocking tool does it. Every shard takes the change up; clients that
    // listen are told that the list has changed.
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
