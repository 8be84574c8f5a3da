//! The server of `tests/context.rs`: tools, prompts, resources and completers of every kind that report what they read of their
//! request.

use std::{collections::BTreeMap, process::ExitCode};

use corelane::{Completer, NoArguments, Prompt, PromptArgument, Resource, ResourceTemplate, Server, Tool};
use serde_json::json;

/// The values of each kind of context, as JSON.
macro_rules! report {
    ($cx:expr) => {{
        let cx = $cx;
        let client = cx.client();
        json!({
            "tenant": cx.header("x-TENANT"),
            "undeclared": cx.header("x-undeclared"),
            "authorized": cx.header("authorization").is_some(),
            "trace": cx.meta("com.example/trace").and_then(|trace| trace.get("id")?.as_str()),
            "client": client.map(|client| [Some(client.name), Some(client.version), client.title]),
            "session": cx.session_id(),
            "id": cx.request_id().to_string(),
            "peer": cx.peer(),
            "tool": cx.tool(),
            "revision": cx.caller().revision.as_str(),
        })
        .to_string()
    }};
}

/// Declares the headers and members that contexts which outlive the request's bytes read.
macro_rules! reading {
    ($builder:expr) => {
        $builder
            .headers(["X-Tenant", "Authorization"])
            .headers(["Mcp-Session-Id"])
            .request_meta(["com.example/trace"])
            .client_info()
    };
}

/// The URIs of a template: its name, and the rest.
type Variables = corelane::Read<BTreeMap<String, String>>;

fn main() -> ExitCode {
    let argument = |name: &str| PromptArgument { name: name.into(), ..PromptArgument::default() };
    let completed = ["inline", "async", "blocking"].into_iter();
    let prompt = completed.fold(Prompt::new("completed").argument(argument("none")), |prompt, name| {
        prompt.argument(argument(name))
    });
    let server = Server::builder("context", "0")
        .tool(Tool::new("inline").run(|_: NoArguments, cx| report!(cx)))
        .tool(Tool::new("raw").run_raw(|_, cx, reply| reply.text(&report!(cx))))
        .tool(reading!(Tool::new("async")).run_async(async |_: NoArguments, cx| report!(cx)))
        .tool(reading!(Tool::new("blocking")).run_blocking(|_: NoArguments, cx| report!(cx)))
        .tool(Tool::new("undeclared").run_async(async |_: NoArguments, cx| report!(cx)))
        .prompt(Prompt::new("inline").run(|_: NoArguments, cx| report!(cx)))
        .prompt(reading!(Prompt::new("async")).run_async(async |_: NoArguments, cx| report!(cx)))
        .prompt(reading!(Prompt::new("blocking")).run_blocking(|_: NoArguments, cx| report!(cx)))
        .prompt(
            prompt
                .complete(Completer::new("inline", |_, cx| vec![report!(cx)]))
                .complete(reading!(Completer::new_async("async", async |_, cx| vec![report!(cx)])))
                .complete(reading!(Completer::new_blocking("blocking", |_, cx| vec![report!(cx)])))
                .run(|_: BTreeMap<String, String>, _| ""),
        )
        .resource(Resource::new("one://inline", "one").run(|_, cx| report!(cx)))
        .resource(reading!(Resource::new("one://async", "one")).run_async(async |_, cx| report!(cx)))
        .resource(reading!(Resource::new("one://blocking", "one")).run_blocking(|_, cx| report!(cx)))
        .template(ResourceTemplate::new("inline://{of}", "any").run(|_: Variables, cx| report!(cx)))
        .template(
            reading!(ResourceTemplate::new("async://{of}", "any"))
                .run_async(async |_: Variables, cx| report!(cx)),
        )
        .template(
            reading!(ResourceTemplate::new("blocking://{of}", "any"))
                .run_blocking(|_: Variables, cx| report!(cx)),
        );
    #[cfg(feature = "tokio")]
    let server = server
        .tool(reading!(Tool::new("tokio")).run_tokio(async |_: NoArguments, cx| report!(cx)))
        .prompt(reading!(Prompt::new("tokio")).run_tokio(async |_: NoArguments, cx| report!(cx)))
        .resource(reading!(Resource::new("one://tokio", "one")).run_tokio(async |_, cx| report!(cx)))
        .template(
            reading!(ResourceTemplate::new("tokio://{of}", "any"))
                .run_tokio(async |_: Variables, cx| report!(cx)),
        );
    server.main()
}
