//! A long call: a task for clients with the tasks extension, a wait with progress for others:
//! `cargo run --example tasks -- serve`

use std::{process::ExitCode, time::Duration};

use corelane::{CallError, Form, Server, TaskTerms, Tool, time::sleep};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Bake {
    /// Number of loaves
    #[schemars(range(max = 1000))]
    loaves: u32,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Sure {
    /// Whether to continue
    sure: bool,
}

/// Tasks are kept for an hour; clients poll every half second.
const TERMS: TaskTerms =
    TaskTerms { ttl: Some(Duration::from_secs(3600)), poll_interval: Duration::from_millis(500) };

fn main() -> ExitCode {
    Server::builder("bakery", "1.0.0")
        .tool(Tool::new("bake").description("Bakes bread").input::<Bake>().task(TERMS).run_async(
            async |bake, cx| {
                // In a task this sets the status `input_required` and waits; otherwise the call waits or returns `input_required`.
                if bake.loaves > 100 {
                    let form = Form::<Sure>::new(format!("Really {} loaves?", bake.loaves));
                    if !cx.elicit(form).await?.accepted().is_some_and(|answer| answer.sure) {
                        return Ok("nothing was baked".to_owned());
                    }
                }
                for loaf in 1..=bake.loaves {
                    sleep(Duration::from_millis(5)).await;
                    cx.progress(loaf.into(), Some(bake.loaves.into()), None);
                }
                Ok::<_, CallError>(format!("{} loaves", bake.loaves))
            },
        ))
        .main()
}
