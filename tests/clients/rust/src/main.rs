//! Drives the official Rust client as an application would.
//!
//! `corelane-client-check demo|talking legacy|auto|pinned URL`
//!
//! `corelane-client-check demo|talking legacy|auto|pinned COMMAND ARGUMENT...`
//!
//! Connects to a URL over HTTP, or starts a command and connects to its standard input and output. Prints one line per step
//! and exits 0, or prints the error to stderr and exits 1.

#![forbid(unsafe_code)]

mod check;
mod demo;
mod talking;

use std::{process::ExitCode, time::Duration};

use rmcp::{
    ClientLifecycleMode, ClientServiceExt,
    model::{CallToolResult, ClientRequest, PingRequest, ProtocolVersion, ServerResult},
    service::{QuitReason, RoleClient, RunningService},
    transport::{StreamableHttpClientTransport, TokioChildProcess},
};
use serde_json::Value;
use tokio::process::Command;

use check::{Checked, call_of, check};
use talking::Talker;

const OVERALL_TIMEOUT: Duration = Duration::from_secs(60);

/// The start of a session in a mode, and the revision it must negotiate.
fn lifecycle(mode: &str) -> Option<(ClientLifecycleMode, ProtocolVersion)> {
    let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
    match mode {
        // The initialize handshake.
        "legacy" => Some((ClientLifecycleMode::Initialize, ProtocolVersion::V_2025_11_25)),
        // Sends server/discover; falls back to initialize on failure.
        "auto" => Some((
            ClientLifecycleMode::Auto { preferred_versions, legacy_version: None },
            ProtocolVersion::V_2026_07_28,
        )),
        // Sends server/discover; never falls back.
        "pinned" => {
            Some((ClientLifecycleMode::Discover { preferred_versions }, ProtocolVersion::V_2026_07_28))
        }
        _ => None,
    }
}

struct Session {
    mode: String,
    is_legacy: bool,
    client: RunningService<RoleClient, Talker>,
}

impl Session {
    fn step(&self, step: impl std::fmt::Display) {
        println!("rust {}: {step}", self.mode);
    }

    async fn call(&self, tool: impl Into<String>, arguments: Value) -> Checked<CallToolResult> {
        Ok(self.client.call_tool(call_of(tool, arguments)).await?)
    }

    async fn start(&self, version: &ProtocolVersion) -> Checked<()> {
        let info = self.client.peer_info().ok_or("the server sent no information about itself")?;
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

    /// All pages of the tool list, bypassing the cache of the client.
    async fn tools(&self) -> Checked<Value> {
        self.client.clear_response_cache().await;
        Ok(serde_json::to_value(self.client.list_all_tools().await?)?)
    }
}

async fn session(session: &str, mode: &str, target: &[String]) -> Checked<()> {
    let (lifecycle, version) = lifecycle(mode).ok_or(USAGE)?;
    let (program, arguments) = target.split_first().ok_or(USAGE)?;
    let talker = Talker::default();
    let client = if program.starts_with("http:") {
        let transport = StreamableHttpClientTransport::from_uri(program.as_str());
        talker.serve_with_lifecycle(transport, lifecycle).await?
    } else {
        let mut command = Command::new(program);
        command.args(arguments);
        talker.serve_with_lifecycle(TokioChildProcess::new(command)?, lifecycle).await?
    };
    let is_legacy = version == ProtocolVersion::V_2025_11_25;
    let held = Session { mode: mode.to_owned(), is_legacy, client };
    held.start(&version).await?;
    match session {
        "demo" => held.demo().await?,
        "talking" => held.talking().await?,
        _ => return Err(USAGE.into()),
    }
    let Session { mode, client, .. } = held;
    let end = client.cancel().await?;
    check(matches!(end, QuitReason::Cancelled | QuitReason::Closed), "a clean close", &end)?;
    println!("rust {mode}: close");
    Ok(())
}

const USAGE: &str = "usage: corelane-client-check demo|talking legacy|auto|pinned URL|COMMAND [ARGUMENT...]";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, mode, target @ ..] = arguments.as_slice() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let ended = tokio::time::timeout(OVERALL_TIMEOUT, session(name, mode, target)).await;
    match ended.unwrap_or_else(|_| Err(format!("not finished in {OVERALL_TIMEOUT:?}").into())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rust {mode}: {error}");
            ExitCode::FAILURE
        }
    }
}
