//! The fixtures of the official conformance suite: `cargo run --example everything -- serve`
//!
//! `scripts/conformance.sh --start` runs the suite against it. The suite defines names, keys and texts.

use std::process::ExitCode;
use std::{future::Future, time::Duration};

use corelane::{
    CallError, Capability, Completer, Content, Contents, Context, Elicited, Form, Level, ListRoots, Messages,
    NoArguments, Prompt, ProtocolError, Resource, ResourceTemplate, Root, Sampled, Sampling, Server,
    ServerBuilder, TaskTerms, Tool, time::sleep,
};
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
    let server = [contents, schemas, talking, asking, input, tasks, resources, prompts, modern]
        .into_iter()
        .fold(server, |server, add| add(server))
        .build();
    // These tools change the registry, so they are added once it exists.
    let registry = server.registry();
    for (name, change) in
        [("test_trigger_tool_change", change_tools as Change), ("test_trigger_prompt_change", change_prompts)]
    {
        let changing = registry.clone();
        let tool = Tool::new(name)
            .description("Changes a list")
            .run_blocking(move |_: NoArguments, _cx| changing.update(change).map(|()| "changed"));
        if let Err(error) = registry.update(|registry| registry.add(tool)) {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    }
    server.main()
}

type Change = fn(&mut corelane::Registry);

/// Adds a tool, or removes it.
fn change_tools(registry: &mut corelane::Registry) {
    if registry.remove::<Tool>("came_and_goes").is_none() {
        registry.add(Tool::new("came_and_goes").description("Comes and goes").run(|_, _cx| "here"));
    }
}

/// Adds a prompt, or removes it.
fn change_prompts(registry: &mut corelane::Registry) {
    if registry.remove::<Prompt>("came_and_goes").is_none() {
        registry.add(Prompt::new("came_and_goes").description("Comes and goes").run(|_, _cx| "here"));
    }
}

/// Every type of content. The first tool returns text, because the suite calls it without arguments and expects no error.
fn contents(server: ServerBuilder) -> ServerBuilder {
    server
        .tool(
            Tool::new("test_simple_text")
                .description("Returns text")
                .run(|_, _cx| "This is a simple text response for testing."),
        )
        .tool(
            Tool::new("test_image_content")
                .description("Returns an image")
                .run(|_, _cx| Content::image(PNG, "image/png")),
        )
        .tool(
            Tool::new("test_audio_content")
                .description("Returns audio")
                .run(|_, _cx| Content::audio(WAV, "audio/wav")),
        )
        .tool(Tool::new("test_embedded_resource").description("Returns a resource").run(|_, _cx| {
            Content::resource_text(
                "test://embedded-resource",
                "text/plain",
                "This is an embedded resource content.",
            )
        }))
        .tool(Tool::new("test_multiple_content_types").description("Returns three types of content").run(
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
        ))
        .tool(
            Tool::new("test_error_handling")
                .description("Fails")
                .run(|_, _cx| Err::<(), _>("This tool intentionally returns an error for testing")),
        )
}

/// Hand-written schemas: every keyword must reach the client verbatim.
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
                .description("Returns the contact")
                .input_schema(contact)
                .run(|arguments: Value, _cx| arguments.to_string()),
        )
        .tool(
            Tool::new("test_x_mcp_header")
                .description("Returns the region, which a header repeats")
                .input::<Region>()
                .run(|arguments, _cx| arguments.region),
        )
}

/// Fixtures for 2026-07-28 only.
fn modern(server: ServerBuilder) -> ServerBuilder {
    server
        .tool(
            Tool::new("test_missing_capability")
                .description("Requires the sampling capability")
                .requires(Capability::Sampling)
                .run(|_, _cx| "Success"),
        )
        // The suite forbids server requests on the reply stream and unrequested log messages; these tools send neither.
        .tool(
            Tool::new("test_streaming_elicitation")
                .description("Replies without a server request")
                .run(|_, _cx| "No request was sent"),
        )
        .tool(
            Tool::new("test_logging_tool")
                .description("Sends no log message")
                .run(|_, _cx| "No message was logged"),
        )
}

/// Interval between two notifications.
const PACE: Duration = Duration::from_millis(50);

/// Notifications during a call.
fn talking(server: ServerBuilder) -> ServerBuilder {
    server
        .tool(Tool::new("test_tool_with_progress").description("Sends progress").run_async(
            async |_: NoArguments, cx| {
                for progress in [0.0, 50.0, 100.0] {
                    cx.progress(progress, Some(100.0), None);
                    sleep(PACE).await;
                }
                "done"
            },
        ))
        .tool(Tool::new("test_tool_with_logging").description("Sends log messages").run_async(
            async |_: NoArguments, cx| {
                cx.log(Level::Info, "Tool execution started");
                sleep(PACE).await;
                cx.log(Level::Info, "Tool processing data");
                sleep(PACE).await;
                cx.log(Level::Info, "Tool execution completed");
                "logged"
            },
        ))
        .tool(
            Tool::new("test_reconnection")
                .description("Disconnects the client, which resumes the stream")
                .run_async(async |_: NoArguments, cx| {
                    cx.disconnect(Duration::from_millis(500));
                    sleep(PACE).await;
                    "Reconnection test completed successfully"
                }),
        )
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Question {
    /// The prompt for the model
    prompt: String,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Message {
    /// The message for the user
    message: String,
}

/// Server requests on the stream of a legacy session.
fn asking(server: ServerBuilder) -> ServerBuilder {
    server
        .tool(Tool::new("test_sampling").description("Requests a completion from the model of the client").input::<Question>().run_async(
            async |question, cx| {
                let answer = cx.sample(Sampling::question(question.prompt, 100)).await?;
                Ok::<_, CallError>(format!("LLM response: {}", answer.text()))
            },
        ))
        .tool(Tool::new("test_elicitation").description("Requests input from the user").input::<Message>().run_async(
            async |message, cx| {
                let schema = json!({
                    "type": "object",
                    "properties": {
                        "username": {"type": "string", "description": "User's response"},
                        "email": {"type": "string", "description": "User's email address"}
                    },
                    "required": ["username", "email"]
                });
                describe("User response", &ask(&cx, &message.message, schema).await?)
            },
        ))
        .tool(Tool::new("test_elicitation_sep1034_defaults").description("Requests input with defaults").run_async(
            async |_: NoArguments, cx| {
                let schema = json!({"type": "object", "properties": {
                    "name": {"type": "string", "default": "John Doe"},
                    "age": {"type": "integer", "default": 30},
                    "score": {"type": "number", "default": 95.5},
                    "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
                    "verified": {"type": "boolean", "default": true}
                }});
                describe("Elicitation completed", &ask(&cx, "Please review these values", schema).await?)
            },
        ))
        .tool(Tool::new("test_elicitation_sep1330_enums").description("Requests choices").run_async(
            async |_: NoArguments, cx| {
                let options = ["option1", "option2", "option3"];
                let titled = json!([
                    {"const": "value1", "title": "First Option"},
                    {"const": "value2", "title": "Second Option"},
                    {"const": "value3", "title": "Third Option"}
                ]);
                let schema = json!({"type": "object", "properties": {
                    "untitledSingle": {"type": "string", "enum": options},
                    "titledSingle": {"type": "string", "oneOf": titled},
                    "legacyEnum": {"type": "string", "enum": ["opt1", "opt2", "opt3"],
                                   "enumNames": ["Option One", "Option Two", "Option Three"]},
                    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": options}},
                    "titledMulti": {"type": "array", "items": {"anyOf": titled}}
                }});
                describe("Elicitation completed", &ask(&cx, "Please choose", schema).await?)
            },
        ))
}

/// Requests a form from the user.
async fn ask(cx: &Context, message: &str, schema: Value) -> Result<Elicited<Value>, CallError> {
    Ok(cx.elicit(Form::<Value>::with_schema(message, schema)).await?)
}

/// Formats an answer as text.
fn describe(what: &str, answer: &Elicited<Value>) -> Result<String, CallError> {
    let content = answer.clone().accepted().unwrap_or_default();
    Ok(format!("{what}: action={}, content={content}", answer.action()))
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Name {
    name: String,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Color {
    color: String,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Confirmed {
    ok: bool,
}

/// Requests the name of the user, under the key that the suite answers.
async fn user_name(cx: &Context) -> Result<String, CallError> {
    let answer = cx.elicit(Form::<Name>::new("What is your name?").key("user_name")).await?;
    Ok(answer.accepted().map_or_else(|| "stranger".to_owned(), |answer| answer.name))
}

async fn confirmed(cx: &Context) -> Result<bool, CallError> {
    let answer = cx.elicit(Form::<Confirmed>::new("Please confirm").key("confirm")).await?;
    Ok(answer.accepted().is_some_and(|answer| answer.ok))
}

fn names(roots: &[Root]) -> String {
    roots.iter().map(|root| root.name.as_deref().unwrap_or(&root.uri)).collect::<Vec<_>>().join(", ")
}

/// Awaits two answers together, so that both are requested at once.
async fn both<A, B>(one: impl Future<Output = A>, other: impl Future<Output = B>) -> (A, B) {
    futures_lite::future::zip(one, other).await
}

/// Calls that need input: the same code in both eras.
fn input(server: ServerBuilder) -> ServerBuilder {
    let ask = |name: &'static str| Tool::new(name).description("Needs input");
    server
        .tool(ask("test_input_required_result_elicitation").run_async(async |_: NoArguments, cx| {
            Ok::<_, CallError>(format!("Hello, {}!", user_name(&cx).await?))
        }))
        .tool(ask("test_input_required_result_sampling").run_async(async |_: NoArguments, cx| {
            let question = Sampling::question("What is the capital of France?", 100).key("capital_question");
            Ok::<_, CallError>(cx.sample(question).await?.text().to_owned())
        }))
        .tool(ask("test_input_required_result_list_roots").run_async(async |_: NoArguments, cx| {
            let roots = cx.ask(ListRoots::default().key("client_roots")).await?;
            Ok::<_, CallError>(format!("Roots: {}", names(&roots)))
        }))
        .tool(ask("test_input_required_result_request_state").run_async(async |_: NoArguments, cx| {
            confirmed(&cx).await?;
            Ok::<_, CallError>("state-ok")
        }))
        .tool(ask("test_input_required_result_tampered_state").run_async(async |_: NoArguments, cx| {
            confirmed(&cx).await?;
            Ok::<_, CallError>("state-ok")
        }))
        .tool(ask("test_input_required_result_multiple_inputs").run_async(async |_: NoArguments, cx| {
            let greeting = cx.sample(Sampling::question("Generate a greeting", 50).key("greeting"));
            let roots = cx.ask(ListRoots::default().key("client_roots"));
            let (name, (greeting, roots)) = both(user_name(&cx), both(greeting, roots)).await;
            let (greeting, roots): (Sampled, Vec<Root>) = (greeting?, roots?);
            Ok::<_, CallError>(format!("{} {} ({})", greeting.text(), name?, names(&roots)))
        }))
        .tool(ask("test_input_required_result_multi_round").run_async(async |_: NoArguments, cx| {
            let name = cx.elicit(Form::<Name>::new("Step 1: What is your name?").key("step1")).await?;
            let color =
                cx.elicit(Form::<Color>::new("Step 2: What is your favorite color?").key("step2")).await?;
            let (name, color) =
                (name.accepted().map(|answer| answer.name), color.accepted().map(|answer| answer.color));
            Ok::<_, CallError>(format!("{} likes {}", name.unwrap_or_default(), color.unwrap_or_default()))
        }))
        .tool(ask("test_input_required_result_capabilities").run_async(async |_: NoArguments, cx| {
            // Uses a capability that the client declared.
            if cx.caller().capabilities.has(Capability::Sampling) {
                let answer = cx.sample(Sampling::question("Say something", 100).key("question")).await?;
                return Ok(answer.text().to_owned());
            }
            Ok::<_, CallError>(format!("Hello, {}!", user_name(&cx).await?))
        }))
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Compute {
    seconds: f64,
    label: Option<String>,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Delete {
    filename: String,
}

/// Retention of tasks, and the poll interval.
const TERMS: TaskTerms =
    TaskTerms { ttl: Some(Duration::from_secs(300)), poll_interval: Duration::from_millis(100) };

/// Calls that become tasks.
fn tasks(server: ServerBuilder) -> ServerBuilder {
    server
        .tool(
            Tool::new("greet")
                .description("Greets immediately")
                .input::<Name>()
                .run(|arguments, _cx| format!("Hello, {}!", arguments.name)),
        )
        .tool(
            Tool::new("slow_compute")
                .description("Computes for some seconds")
                .input::<Compute>()
                .deadline(Duration::from_secs(120))
                .task(TERMS)
                .run_async(async |arguments, _cx| {
                    sleep(Duration::from_secs_f64(arguments.seconds.clamp(0.0, 60.0))).await;
                    format!("computed {}", arguments.label.unwrap_or_default())
                }),
        )
        .tool(Tool::new("failing_job").description("Fails as a task").run_async(
            async |_: NoArguments, cx| {
                cx.require_task(TERMS)?;
                sleep(Duration::from_secs(1)).await;
                Err::<(), _>(CallError::Told("The job failed".to_owned()))
            },
        ))
        .tool(
            Tool::new("protocol_error_job").description("Fails with a protocol error").task(TERMS).run_async(
                async |_: NoArguments, _cx| Err::<(), _>(ProtocolError::internal("The job broke")),
            ),
        )
        .tool(
            Tool::new("confirm_delete")
                .description("Requests confirmation before deleting")
                .input::<Delete>()
                .task(TERMS)
                .run_async(async |arguments, cx| {
                    let question = format!("Delete {}?", arguments.filename);
                    let schema = json!({"type": "object", "properties": {"confirm": {"type": "boolean"}}});
                    let answer = ask(&cx, &question, schema).await?;
                    let done = if answer.accepted().is_some() { "deleted" } else { "kept" };
                    Ok::<_, CallError>(format!("{} was {done}", arguments.filename))
                }),
        )
        .tool(Tool::new("multi_input").description("Requests two inputs at once").task(TERMS).run_async(
            async |_: NoArguments, cx| {
                let schema = json!({"type": "object", "properties": {"value": {"type": "string"}}});
                let (one, other) =
                    both(ask(&cx, "First?", schema.clone()), ask(&cx, "Second?", schema)).await;
                Ok::<_, CallError>(format!("{} and {}", one?.action(), other?.action()))
            },
        ))
        .tool(
            Tool::new("test_tool_with_task")
                .description("Requests input, then continues as a task")
                .run_async(async |_: NoArguments, cx| {
                    let name = user_name(&cx).await?;
                    cx.become_task(TERMS)?;
                    sleep(PACE).await;
                    Ok::<_, CallError>(format!("Hello, {name}!"))
                }),
        )
}

#[derive(serde::Deserialize)]
struct Id {
    id: String,
}

fn resources(server: ServerBuilder) -> ServerBuilder {
    server
        .resource(
            Resource::new("test://static-text", "static-text")
                .description("Text")
                .mime_type("text/plain")
                .contents([Contents::text("This is the content of the static text resource.")]),
        )
        .resource(
            Resource::new("test://static-binary", "static-binary")
                .description("An image")
                .mime_type("image/png")
                .contents([Contents::blob(PNG)]),
        )
        .resource(
            Resource::new("test://watched-resource", "watched-resource")
                .description("Text with subscriptions")
                .mime_type("text/plain")
                .contents([Contents::text("Watched")]),
        )
        .template(
            ResourceTemplate::new("test://template/{id}/data", "template")
                .description("Data for an id")
                .mime_type("application/json")
                .variables::<Id>()
                .run(|read, _cx| {
                    let id = read.variables.id;
                    json!({"id": id, "templateTest": true, "data": format!("Data for ID: {id}")}).to_string()
                }),
        )
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Two {
    /// The first
    arg1: String,
    /// The second
    arg2: String,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Embedded {
    /// URI of the embedded resource
    resource_uri: String,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Used {
    context: String,
}

fn prompts(server: ServerBuilder) -> ServerBuilder {
    server
        .prompt(
            Prompt::new("test_simple_prompt")
                .description("A prompt without arguments")
                .run(|_: NoArguments, _cx| "This is a simple prompt for testing."),
        )
        .prompt(
            Prompt::new("test_prompt_with_arguments")
                .description("A prompt with two arguments")
                .arguments::<Two>()
                .complete(Completer::of("arg1", ["testing", "tested", "other"]))
                .run(|two, _cx| format!("Prompt with arguments: arg1='{}', arg2='{}'", two.arg1, two.arg2)),
        )
        .prompt(
            Prompt::new("test_prompt_with_embedded_resource")
                .description("A prompt with a resource")
                .arguments::<Embedded>()
                .run(|embedded, _cx| {
                    let text = "Embedded resource content for testing.";
                    Messages::new()
                        .user(Content::resource_text(&embedded.resource_uri, "text/plain", text))
                        .user("Please process the embedded resource above.")
                }),
        )
        .prompt(Prompt::new("test_prompt_with_image").description("A prompt with an image").run(
            |_: NoArguments, _cx| {
                Messages::new().user(Content::image(PNG, "image/png")).user("Please analyze the image above.")
            },
        ))
        .prompt(
            Prompt::new("test_input_required_result_prompt")
                .description("A prompt that needs input")
                .run_async(async |_: NoArguments, cx| {
                    let form = Form::<Used>::new("What context should the prompt use?").key("user_context");
                    let context = cx.elicit(form).await?.accepted().map(|used| used.context);
                    Ok::<_, CallError>(format!("Use this context: {}", context.unwrap_or_default()))
                }),
        )
}
