//! `tool_panic`: a client calls tools that panic, inline, async and blocking.
//!
//! - Right refusal: JSON-RPC error -32603 with status 200, for each call, on a connection that stays open.
//! - Detected: `corelane_tool_errors_total` with reason `panic` grows.
//! - Recovered: the connection of the last panic gets the right reply to `echo`.
//! - Lost: a call without a reply.

use std::time::Instant;

use serde_json::json;

use super::{
    definition::Fault,
    observation::{Failure, Observation},
    scene::{Scene, error_code, patient_reply},
};
use crate::attack::tools::PANICS;

/// Calls of each tool.
const CALLS: usize = 50;
const METRIC: &str = "corelane_tool_errors_total";
const LABEL: &str = "reason=\"panic\"";

pub(super) fn fault() -> Fault {
    Fault::new("tool_panic", "150 calls of tools that panic: inline, async and blocking", inject)
}

fn inject(scene: &Scene<'_>) -> Result<Observation, Failure> {
    let mut connection = scene.connect()?;
    scene.echo(&mut connection)?;
    let before = scene.sample().sum(METRIC, LABEL);
    let mut observation = Observation::new("tool_errors_total", "-32603");
    let ((), shown) = scene.watch(
        |sample| sample.sum(METRIC, LABEL) > before,
        || {
            for tool in PANICS.into_iter().cycle().take(CALLS * PANICS.len()) {
                let sent = connection.send(&scene.call(tool, &json!({})));
                match sent.and_then(|()| patient_reply(&mut connection)) {
                    Ok((head, body)) if head.status == 200 && error_code(&body) == Some(-32603) => {}
                    Ok((head, body)) => observation.wrong(format!(
                        "{tool} was answered with status {}: {}",
                        head.status,
                        String::from_utf8_lossy(&body)
                    )),
                    Err(error) => observation.lost(1, &error),
                }
            }
        },
    );
    observation.shown_at(shown);
    observation.recovered = scene.recover(Instant::now(), || scene.echo(&mut connection));
    Ok(observation)
}
