//! `echo` served by turbomcp's own HTTP server.

use turbomcp::prelude::*;

#[derive(Clone)]
struct Echo;

#[server(name = "peer-turbomcp", version = "0.0.0")]
impl Echo {
    /// Returns the message
    #[tool]
    async fn echo(&self, message: String) -> McpResult<String> {
        Ok(message)
    }
}

// One worker, because the benchmark gives every server one core.
#[tokio::main(worker_threads = 1)]
async fn main() -> McpResult<()> {
    let port = std::env::args().nth(1).expect("usage: peer-turbomcp PORT");
    Echo.run_http(&format!("127.0.0.1:{port}")).await
}
