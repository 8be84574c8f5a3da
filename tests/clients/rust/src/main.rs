//! The official Rust client uses a running server the way an application would.
//!
//! `corelane-client-check URL legacy|auto|pinned`
//!
//! Prints a line for each step and exits 0, or the reason to stderr and exits 1.

use std::{
    fmt::Debug,
    process::ExitCode,
    time::{Duration, Instant},
};

use rmcp::{
    ClientLifecycleMode, ClientServiceExt, ServiceError,
    model::{
        CallToolRequestParams, CallToolResult, ClientRequest, ContentBlock, PingRequest, ProtocolVersion,
        ServerResult,
    },
    service::{QuitReason, RoleClient, RunningService},
    transport::StreamableHttpClientTransport,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

const OVERALL_TIMEOUT: Duration = Duration::from_secs(60);

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Checked<T> = Result<T, Failure>;

fn check(holds: bool, what: &str, seen: impl Debug) -> Checked<()> {
    if holds { Ok(()) } else { Err(format!("{what}, got {seen:?}").into()) }
}

/// How the session starts, and the revision it must end up with.
fn lifecycle(mode: &str) -> Option<(ClientLifecycleMode, ProtocolVersion)> {
    let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
    match mode {
        // The initialize handshake.
        "legacy" => Some((ClientLifecycleMode::Initialize, ProtocolVersion::V_2025_11_25)),
        // Asks server/discover, would fall back to initialize.
        "auto" => Some((
            ClientLifecycleMode::Auto { preferred_versions, legacy_version: None },
            ProtocolVersion::V_2026_07_28,
        )),
        // Asks server/discover, never falls back.
        "pinned" => {
            Some((ClientLifecycleMode::Discover { preferred_versions }, ProtocolVersion::V_2026_07_28))
        }
        _ => None,
    }
}

fn call_of(tool: &'static str, arguments: Value) -> CallToolRequestParams {
    let params = CallToolRequestParams::new(tool);
    match arguments {
        Value::Object(arguments) => params.with_arguments(arguments),
        _ => params,
    }
}

fn texts(result: &CallToolResult) -> Vec<&str> {
    let texts = result.content.iter().map(|block| match block {
        ContentBlock::Text(text) => text.text.as_str(),
        _ => "",
    });
    texts.collect()
}

/// The text of a result that is one text block and no error.
fn text_of(result: &CallToolResult) -> Checked<&str> {
    match (texts(result).as_slice(), result.is_error) {
        (&[text], None | Some(false)) => Ok(text),
        _ => Err(format!("one text block, got {result:?}").into()),
    }
}

struct Session {
    mode: String,
    client: RunningService<RoleClient, ()>,
}

impl Session {
    fn step(&self, said: impl std::fmt::Display) {
        println!("rust {}: {said}", self.mode);
    }

    async fn call(&self, tool: &'static str, arguments: Value) -> Checked<CallToolResult> {
        Ok(self.client.call_tool(call_of(tool, arguments)).await?)
    }

    async fn start(&self, version: &ProtocolVersion) -> Checked<()> {
        let info = self.client.peer_info().ok_or("the server says nothing of itself")?;
        check(info.protocol_version == *version, "the expected version", &info)?;
        check(info.capabilities.tools.is_some(), "the tools capability", &info)?;
        self.step(format_args!("start {version}"));
        if *version == ProtocolVersion::V_2025_11_25 {
            let pong = self.client.send_request(ClientRequest::PingRequest(PingRequest::default())).await?;
            check(matches!(pong, ServerResult::EmptyResult(_)), "an empty ping result", &pong)?;
            self.step("ping");
        }
        Ok(())
    }

    /// The tools as listed, every page, past whatever the client keeps.
    async fn tools(&self) -> Checked<Value> {
        self.client.clear_response_cache().await;
        Ok(serde_json::to_value(self.client.list_all_tools().await?)?)
    }

    async fn list(&self) -> Checked<Value> {
        let tools = self.tools().await?;
        for name in ["echo", "add", "sleep", "digest"] {
            let tool = tools
                .as_array()
                .and_then(|tools| tools.iter().find(|tool| tool.get("name").is_some_and(|is| is == name)));
            let has_schema =
                tool.and_then(|tool| tool.pointer("/inputSchema/type")).is_some_and(|root| root == "object");
            check(has_schema, &format!("tool {name} with an inputSchema"), &tools)?;
        }
        self.step("list");
        Ok(tools)
    }

    async fn calls(&self) -> Checked<()> {
        for message in MESSAGES {
            let echoed = self.call("echo", json!({"message": message})).await?;
            check(text_of(&echoed)? == message, "echo returns its message", &echoed)?;
        }
        self.step("echo");

        let added = self.call("add", json!({"a": 2, "b": 40.5})).await?;
        text_of(&added)?;
        check(added.structured_content == Some(json!({"sum": 42.5})), "add sums", &added)?;
        self.step("add");

        for arguments in [json!({"text": "abc"}), json!({"text": "abc", "rounds": 1})] {
            let digest = self.call("digest", arguments).await?;
            check(text_of(&digest)? == SHA256_OF_ABC, "the SHA-256 of abc", &digest)?;
        }
        self.step("digest");
        Ok(())
    }

    async fn sleeps(&self) -> Checked<()> {
        let start = Instant::now();
        let mut sleeps = JoinSet::new();
        for _ in 0..20 {
            let peer = self.client.peer().clone();
            sleeps.spawn(async move { peer.call_tool(call_of("sleep", json!({"ms": 300}))).await });
        }
        while let Some(slept) = sleeps.join_next().await {
            check(text_of(&slept??)? == "slept 300 ms", "each sleep slept", ())?;
        }
        // One after the other these take 6 s: half of that leaves room for a busy machine and still shows overlap.
        let elapsed = start.elapsed();
        check(elapsed < Duration::from_secs(3), "twenty sleeps overlap (under 3 s)", elapsed)?;
        self.step("twenty sleeps");
        Ok(())
    }

    async fn errors(&self) -> Checked<()> {
        // A bad argument is for the model to correct, so it is a result; an unknown tool is a protocol error.
        for (tool, arguments, named) in [
            ("echo", json!({"message": 5}), "message"),
            ("echo", json!({}), "message"),
            ("add", json!({"a": 1, "b": 2, "c": 3}), "c"),
            ("sleep", json!({"ms": 60_001}), "ms"),
        ] {
            let refused = self.call(tool, arguments).await?;
            let names = texts(&refused).iter().any(|text| text.contains(named));
            check(refused.is_error == Some(true) && names, "isError that names the argument", &refused)?;
        }
        self.step("invalid arguments");

        let overflow = self.call("add", json!({"a": 1e308, "b": 1e308})).await?;
        check(overflow.is_error == Some(true), "isError of a tool that fails", &overflow)?;
        self.step("failing tool");

        match self.call("no-such-tool", json!({})).await {
            Err(error) => match error.downcast_ref::<ServiceError>() {
                Some(ServiceError::McpError(error)) if error.code.0 == -32602 => {}
                _ => return Err(format!("-32602 for an unknown tool, got {error:?}").into()),
            },
            Ok(result) => return Err(format!("-32602 for an unknown tool, got {result:?}").into()),
        }
        self.step("unknown tool");
        Ok(())
    }
}

const MESSAGES: [&str; 4] = [
    "",
    "héllo \"lane\"\n",
    "\\ / \u{8}\u{c}\t\r \u{0}\u{1f}\u{7f} </script>",
    "日本語 👩‍👩‍👧 \u{2028}\u{10ffff}",
];
const SHA256_OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

async fn session(url: &str, mode: &str) -> Checked<()> {
    let (lifecycle, version) = lifecycle(mode).ok_or(USAGE)?;
    let client = ().serve_with_lifecycle(StreamableHttpClientTransport::from_uri(url), lifecycle).await?;
    let session = Session { mode: mode.to_owned(), client };
    session.start(&version).await?;
    let listed = session.list().await?;
    session.calls().await?;
    session.sleeps().await?;
    session.errors().await?;
    check(session.tools().await? == listed, "the same tools as before the calls", &listed)?;
    session.step("list again");
    let Session { mode, client } = session;
    let end = client.cancel().await?;
    check(matches!(end, QuitReason::Cancelled | QuitReason::Closed), "a clean close", &end)?;
    println!("rust {mode}: close");
    Ok(())
}

const USAGE: &str = "usage: corelane-client-check URL legacy|auto|pinned";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, mode] = arguments.as_slice() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let ended = tokio::time::timeout(OVERALL_TIMEOUT, session(url, mode)).await;
    match ended.unwrap_or_else(|_| Err(format!("not finished in {OVERALL_TIMEOUT:?}").into())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rust {mode}: {error}");
            ExitCode::FAILURE
        }
    }
}
