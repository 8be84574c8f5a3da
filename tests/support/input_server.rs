//! A server whose handlers request input, and the rounds of a call.

#![allow(unreachable_pub, dead_code)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use corelane::{
    AskError, CallError, Contents, Context, Elicited, Form, ListRoots, NoArguments, Page, Ping, Prompt,
    RemoteContext, Resource, Role, Sampling, Server, ServerBuilder, Tool,
};
use serde_json::{Value, json};

use crate::support::peer::{Answer, PeerRequest, shard_tool};

#[derive(serde::Deserialize, schemars::JsonSchema)]
pub struct Name {
    /// What people call you
    pub name: String,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
pub struct Topic {
    pub topic: String,
}

pub fn form(message: &str) -> Form<Name> {
    Form::new(message)
}

pub fn name_of(name: &Elicited<Name>) -> String {
    match name {
        Elicited::Accepted(name) => name.name.clone(),
        other => other.action().to_owned(),
    }
}

/// Two answers awaited together.
pub async fn both<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let (mut a, mut b) = (std::pin::pin!(a), std::pin::pin!(b));
    let (mut of_a, mut of_b) = (None, None);
    std::future::poll_fn(move |context| {
        use std::task::Poll;
        if of_a.is_none()
            && let Poll::Ready(answer) = a.as_mut().poll(context)
        {
            of_a = Some(answer);
        }
        if of_b.is_none()
            && let Poll::Ready(answer) = b.as_mut().poll(context)
        {
            of_b = Some(answer);
        }
        if of_a.is_some() && of_b.is_some() {
            return Poll::Ready((of_a.take().unwrap(), of_b.take().unwrap()));
        }
        Poll::Pending
    })
    .await
}

pub fn server() -> ServerBuilder {
    let server = Server::builder("test", "0")
        .tool(shard_tool())
        .tool(Tool::new("once").run_async(async |_: NoArguments, cx: Context| {
            let name = cx.elicit(form("Your name?").key("user_name")).await?;
            Ok::<_, AskError>(format!("Hello, {}", name_of(&name)))
        }))
        .tool(Tool::new("other").run_async(async |_: NoArguments, cx: Context| {
            let name = cx.elicit(form("Your name?").key("user_name")).await?;
            Ok::<_, AskError>(format!("Other, {}", name_of(&name)))
        }))
        .tool(Tool::new("about").input::<Topic>().run_async(async |about: Topic, cx: Context| {
            let name = cx.elicit(form("Who?").key("user_name")).await?;
            Ok::<_, AskError>(format!("{} of {}", name_of(&name), about.topic))
        }))
        .tool(Tool::new("twice").run_async(async |_: NoArguments, cx: Context| {
            let first = cx.elicit(form("First?")).await?;
            let second = cx.elicit(form("Second?")).await?;
            let third = cx.elicit(form("Third?").key("third")).await?;
            Ok::<_, CallError>(format!("{}, {}, {}", name_of(&first), name_of(&second), name_of(&third)))
        }))
        .tool(Tool::new("at_once").run_async(async |_: NoArguments, cx: Context| {
            let (name, roots) =
                both(cx.elicit(form("Your name?").key("name")), cx.ask(ListRoots::default().key("roots")))
                    .await;
            let (name, roots) = (name?, roots?);
            Ok::<_, AskError>(format!("{} in {}", name_of(&name), roots[0].uri))
        }))
        .tool(Tool::new("page").run_async(async |_: NoArguments, cx: Context| {
            let agreed = cx.elicit(Page::new("Pay", "https://example.com/pay").key("pay")).await?;
            Ok::<_, AskError>(agreed.action().to_owned())
        }))
        .tool(Tool::new("sample").run_async(async |_: NoArguments, cx: Context| {
            let question =
                Sampling::question("What is the answer?", 10).system_prompt("Be brief").key("model");
            let question = question.message(Role::Assistant, "So far".into());
            Ok::<_, AskError>(cx.sample(question).await?.text().to_owned())
        }))
        .tool(Tool::new("ping").run_async(async |_: NoArguments, cx: Context| {
            cx.ask(Ping).await?;
            Ok::<_, AskError>("pong")
        }))
        .tool(Tool::new("speaks_first").run_async(async |_: NoArguments, cx: Context| {
            cx.progress(1.0, None, None);
            let name = cx.elicit(form("Your name?").key("user_name")).await?;
            cx.progress(2.0, None, None);
            Ok::<_, AskError>(name_of(&name))
        }))
        .tool(Tool::new("blocking").run_blocking(|_: NoArguments, cx| blocking(&cx)))
        .tool(Tool::new("stubborn").run_blocking(|_: NoArguments, cx| {
            // An unanswered input request is the result of the call, whatever the handler returns after it.
            let _ = cx.block_on(cx.elicit(form("Your name?").key("user_name")));
            "not this"
        }))
        .prompt(Prompt::new("ask").arguments::<Topic>().run_async(async |about: Topic, cx: Context| {
            let name = cx.elicit(form("Who?").key("user_name")).await?;
            Ok::<_, AskError>(format!("{} on {}", name_of(&name), about.topic))
        }))
        .prompt(Prompt::new("ask_blocking").run_blocking(|_: NoArguments, cx| blocking(&cx)))
        .resource(Resource::new("test://ask", "ask").run_async(async |_uri, cx: Context| {
            let name = cx.elicit(form("Who?").key("user_name")).await?;
            Ok::<_, AskError>(Contents::text(name_of(&name)))
        }))
        .resource(
            Resource::new("test://ask/blocking", "ask").run_blocking(|_uri, cx: RemoteContext| blocking(&cx)),
        );
    #[cfg(feature = "tokio")]
    let server = server.tool(Tool::new("tokio").run_tokio(|_: NoArguments, cx| async move {
        let first = cx.elicit(form("First?").key("user_name")).await?;
        let second = cx.elicit(form("Second?").key("second")).await?;
        Ok::<_, CallError>(format!("{} and {}", name_of(&first), name_of(&second)))
    }));
    server
}

pub fn blocking(cx: &RemoteContext) -> Result<String, CallError> {
    let first = cx.block_on(cx.elicit(form("First?").key("user_name")))?;
    let second = cx.block_on(cx.elicit(form("Second?").key("second")))?;
    Ok(format!("{} and {}", name_of(&first), name_of(&second)))
}

pub fn ask(tool: &str) -> PeerRequest {
    PeerRequest::call(tool, json!({})).can(json!({"elicitation": {}}))
}

pub fn accept(name: &str) -> Value {
    json!({"action": "accept", "content": {"name": name}})
}

/// Calls and expects `input_required`: the input requests by key, and the request state.
#[track_caller]
pub fn asked(answer: &Answer) -> (Value, Value) {
    let result = answer.result();
    assert_eq!(answer.status, 200);
    assert_eq!(result["resultType"], "input_required", "{result}");
    for absent in ["content", "contents", "messages", "isError", "ttlMs", "cacheScope"] {
        assert!(result.get(absent).is_none(), "{absent}: {result}");
    }
    for (key, request) in result["inputRequests"].as_object().unwrap() {
        let members: Vec<_> = request.as_object().unwrap().keys().collect();
        assert_eq!(members, ["method", "params"], "{key}");
    }
    (result["inputRequests"].clone(), result["requestState"].clone())
}

/// The retry: the same request with answers.
pub fn retry(ask: &PeerRequest, state: &Value, responses: Value) -> PeerRequest {
    ask.clone().id("retry").with("requestState", state.clone()).with("inputResponses", responses)
}
