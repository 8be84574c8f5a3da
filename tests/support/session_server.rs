//! A server whose tools use the session of their call, and its sessions.

#![allow(unreachable_pub, dead_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use corelane::{
    CallError, Context, Form, Level, Limits, NoArguments, Page, Ping, Prompt, Resource, Running, Sampling,
    Server, Tool, time::sleep,
};
use serde_json::{Value, json};

pub use crate::support::peer::observed_config as config;
use crate::support::{await_metric, session::Session};

pub const NEWEST: &str = "2025-11-25";
pub const ABLE: fn() -> Value =
    || json!({"sampling": {}, "elicitation": {"form": {}, "url": {}}, "roots": {}});

#[derive(serde::Deserialize, schemars::JsonSchema)]
pub struct Name {
    pub name: String,
}

pub async fn greet(cx: &Context) -> Result<String, CallError> {
    let answer = cx.elicit(Form::<Name>::new("Name?")).await?;
    Ok(match answer.action() {
        "accept" => format!("Hello, {}!", answer.accepted().unwrap().name),
        other => other.to_owned(),
    })
}

pub fn server() -> Server {
    let server = Server::builder("sessions", "0")
        .tool(Tool::new("greet").run_async(async |_: NoArguments, cx| greet(&cx).await))
        .tool(Tool::new("greet_blocking").run_blocking(|_: NoArguments, cx| {
            let answer = cx.block_on(cx.elicit(Form::<Name>::new("Name?")))?;
            Ok::<_, CallError>(
                answer.accepted().map_or_else(String::new, |answer| format!("Hello, {}!", answer.name)),
            )
        }))
        .tool(Tool::new("model").run_async(async |_: NoArguments, cx| {
            Ok::<_, CallError>(cx.sample(Sampling::question("Why?", 10)).await?.text().to_owned())
        }))
        .tool(Tool::new("open_page").run_async(async |_: NoArguments, cx| {
            Ok::<_, CallError>(cx.elicit(Page::new("Log in", "https://example.com")).await?.action())
        }))
        .tool(Tool::new("alive").run_async(async |_: NoArguments, cx| {
            cx.ask(Ping).await?;
            Ok::<_, CallError>("alive")
        }))
        .tool(Tool::new("log").run_async(async |_: NoArguments, cx| {
            cx.log(Level::Debug, "fine");
            cx.log_as("part", Level::Error, json!({"bad": 1}));
            "logged"
        }))
        .tool(Tool::new("wait").run_async(async |_: NoArguments, cx| {
            cx.progress(1.0, None, Some("waiting"));
            sleep(Duration::from_secs(30)).await;
            "waited"
        }))
        .tool(Tool::new("poll").run_async(async |_: NoArguments, cx| {
            cx.disconnect(Duration::from_millis(200));
            sleep(Duration::from_millis(100)).await;
            "polled"
        }))
        .tool(Tool::new("cut").run_async(async |_: NoArguments, cx| {
            cx.log(Level::Error, "began");
            sleep(Duration::from_millis(300)).await;
            "not lost"
        }))
        .tool(Tool::new("echo").input::<Name>().run(|arguments, _cx| arguments.name))
        .tool(Tool::new("echo_later").input::<Name>().run_async(async |arguments, _cx| {
            sleep(Duration::from_millis(2)).await;
            arguments.name
        }))
        .tool(Tool::new("touch").run(|_: NoArguments, cx| cx.resource_updated("test://a")))
        .resource(Resource::new("test://a", "a").run(|_, _cx| "a"))
        .prompt(Prompt::new("p").run(|_: NoArguments, _cx| "p"));
    server.build()
}

pub fn start(shards: usize, limits: Limits) -> Running {
    server().start(&config(shards, limits)).unwrap()
}

pub fn open(running: &Running) -> Session {
    Session::open(running.addresses()[0], NEWEST, ABLE())
}

/// Waits until no stream has a connection.
pub fn await_detached(running: &Running) {
    await_metric(running.admin_address().unwrap(), "corelane_replay_streams_attached", 0.0);
}

/// This number of connections reaches each of four shards except with a probability of 0.1 %.
pub const MANY: usize = 32;
