//! `echo` served by the official Rust SDK: stateless, JSON replies.

use std::sync::Arc;

use axum::Router;
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ServerHandler, schemars, tool, tool_handler, tool_router};

#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Message {
    message: String,
}

// The router is built once and shared; the macros would otherwise build one for every request.
struct Echo {
    tools: ToolRouter<Self>,
}

#[tool_router]
impl Echo {
    /// Returns the message
    #[tool]
    fn echo(&self, Parameters(Message { message }): Parameters<Message>) -> String {
        message
    }
}

#[tool_handler(router = self.tools)]
impl ServerHandler for Echo {}

// One worker, because the benchmark gives every server one core.
#[tokio::main(worker_threads = 1)]
async fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).expect("usage: peer-rmcp PORT");
    let config =
        StreamableHttpServerConfig::default().with_legacy_session_mode(false).with_json_response(true);
    let echo = Arc::new(Echo { tools: Echo::tool_router() });
    let service =
        StreamableHttpService::new(move || Ok(echo.clone()), NeverSessionManager::default().into(), config);
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    axum::serve(listener, Router::new().route_service("/mcp", service)).await
}
