//! Tools that come and go while the server runs: `cargo run --example changing -- serve`

use std::process::ExitCode;

use corelane::{Server, Tool};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Learn {
    /// What to call the new tool
    name: String,
    /// What it shall say
    says: String,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Forget {
    name: String,
}

fn main() -> ExitCode {
    let server = Server::builder("changing", "1.0.0").build();
    let registry = server.registry();
    let (learning, forgetting) = (registry.clone(), registry.clone());
    let learn = Tool::new("learn").description("Learns a new tool").input::<Learn>().run_blocking(
        move |Learn { name, says }, _cx| {
            let tool = Tool::new(name).description("Learned").run(move |_, _cx| says.clone());
            learning.update(|registry| registry.replace(tool)).map(|_| "learned")
        },
    );
    let forget = Tool::new("forget").description("Forgets a tool").input::<Forget>().run_blocking(
        move |Forget { name }, _cx| {
            let forgotten = forgetting.update(|registry| registry.remove::<Tool>(&name));
            forgotten.map(|tool| if tool.is_some() { "forgotten" } else { "never knew it" })
        },
    );
    let added = registry.update(|registry| {
        registry.add(learn);
        registry.add(forget);
    });
    if let Err(error) = added {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    server.main()
}
