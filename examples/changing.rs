//! Tools added and removed at run time: `cargo run --example changing -- serve`

use std::process::ExitCode;

use corelane::{Server, Tool};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Add {
    /// Name of the new tool
    name: String,
    /// Reply of the new tool
    reply: String,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Remove {
    name: String,
}

fn main() -> ExitCode {
    let server = Server::builder("changing", "1.0.0").build();
    let registry = server.registry();
    let (adding, removing) = (registry.clone(), registry.clone());
    let add = Tool::new("add_tool").description("Adds a tool").input::<Add>().run_blocking(
        move |Add { name, reply }, _cx| {
            let tool =
                Tool::new(name).description("A tool added at run time").run(move |_, _cx| reply.clone());
            adding.update(|registry| registry.replace(tool)).map(|_| "added")
        },
    );
    let remove = Tool::new("remove_tool").description("Removes a tool").input::<Remove>().run_blocking(
        move |Remove { name }, _cx| {
            let removed = removing.update(|registry| registry.remove::<Tool>(&name));
            removed.map(|tool| if tool.is_some() { "removed" } else { "no such tool" })
        },
    );
    let changed = registry.update(|registry| {
        registry.add(add);
        registry.add(remove);
    });
    if let Err(error) = changed {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    server.main()
}
