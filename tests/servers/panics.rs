//! The server of the panics in `tests/log.rs`: each tool panics with the text of its argument.

use std::process::ExitCode;

use corelane::{Server, Tool};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Deserialize, JsonSchema)]
struct Panic {
    text: String,
}

#[allow(clippy::panic, reason = "its purpose")]
fn fail(panic: &Panic) -> String {
    panic!("{}", panic.text)
}

fn main() -> ExitCode {
    Server::builder("panics", "0")
        .tool(Tool::new("inline").input::<Panic>().run(|arguments, _cx| fail(&arguments)))
        .tool(Tool::new("async").input::<Panic>().run_async(async |arguments, _cx| fail(&arguments)))
        .tool(Tool::new("blocking").input::<Panic>().run_blocking(|arguments, _cx| fail(&arguments)))
        .main()
}
