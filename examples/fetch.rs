//! A tool that needs the reactor of tokio for an HTTP client, on a runtime off the cores of the shards:
//! `cargo run --features tokio --example fetch -- serve`

use std::process::ExitCode;

use corelane::{Server, Tool};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Fetch {
    /// An http: URL
    url: String,
}

fn main() -> ExitCode {
    let client = reqwest::Client::new();
    Server::builder("fetch", "1.0.0")
        .tool(Tool::new("fetch").description("Fetches a page").input::<Fetch>().run_tokio(
            async move |Fetch { url }, _cx| client.get(url).send().await?.error_for_status()?.text().await,
        ))
        .main()
}
