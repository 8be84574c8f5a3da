//! `message_flood_10x`: one client sends ten times as many calls at once as the server admits.
//!
//! `calls_in_flight_max` of the server is 256. The client sends 2,560 calls of `sleep` on ten connections of newline-delimited JSON. Some
//! of the bystander's calls need a place among the calls in flight too.
//!
//! - Right refusal: JSON-RPC error -32000 for the calls beyond the limit; the others are answered with their results.
//! - Detected: `corelane_refusals_total` with reason `busy` or `peer_share` grows.
//! - Recovered: a further call of `sleep` of the client is answered with its result.
//! - Lost: a call without an answer.

use std::{
    io,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    definition::Fault,
    lines::LineClient,
    observation::{Failure, Observation},
    sample::Sample,
    scene::Scene,
};
use crate::{
    attack::{bystander::Bystander, wire::call},
    request::modern_meta,
};

/// Connections, and calls in flight on each: the default of `calls_per_line_max`.
const CONNECTIONS: usize = 10;
const CALLS: usize = 256;
/// Duration of a call in milliseconds: longer than sending all of them takes.
const CALL_MS: u64 = 500;
/// Time limit for sending the calls of a connection.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn fault() -> Fault {
    Fault {
        settings: &[("limits", "calls_in_flight_max", "256")],
        bystander: Bystander::Calls,
        ..Fault::new("message_flood_10x", "2,560 calls at once of one client, at a limit of 256", inject)
    }
}

fn inject(scene: &Scene<'_>) -> Result<Observation, Failure> {
    let refusals = |sample: &Sample| sample.refusals("busy") + sample.refusals("peer_share");
    let clients: io::Result<Vec<_>> = (0..CONNECTIONS).map(|_| LineClient::connect(scene)).collect();
    let mut clients = clients?;
    let calls: Vec<u8> = (0..CALLS).flat_map(|id| sleep(id, CALL_MS)).collect();
    let before = refusals(&scene.sample());
    let mut observation = Observation::new("refusals_total", "-32000");
    let (sent, shown) = scene.watch(
        |sample| refusals(sample) > before,
        || clients.iter_mut().try_for_each(|client| client.send_within(&calls, SEND_TIMEOUT)),
    );
    sent?;
    observation.shown_at(shown);
    let mut refused = 0;
    for client in &mut clients {
        for answered in 0..CALLS {
            match client.next().map(|reply| outcome(&reply)) {
                Ok(Answer::Slept) => {}
                Ok(Answer::Busy) => refused += 1,
                Ok(Answer::Other(reply)) => observation.wrong(reply),
                Err(error) => {
                    observation.lost((CALLS - answered) as u64, &error);
                    break;
                }
            }
        }
    }
    if refused == 0 {
        observation.wrong("no call was refused");
    }
    observation.recovered = scene.recover(Instant::now(), || {
        let mut client = LineClient::connect(scene)?;
        client.send(&sleep(0, 0))?;
        match outcome(&client.next()?) {
            Answer::Slept => Ok(()),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    });
    Ok(observation)
}

enum Answer {
    Slept,
    Busy,
    Other(String),
}

fn outcome(reply: &Value) -> Answer {
    let text = reply.pointer("/result/content/0/text").and_then(Value::as_str);
    if text.is_some_and(|text| text.starts_with("slept ")) {
        return Answer::Slept;
    }
    match reply.pointer("/error/code").and_then(Value::as_i64) {
        Some(-32000) => Answer::Busy,
        _ => Answer::Other(format!("a call was answered with {reply}")),
    }
}

/// The line of a call of `sleep`.
fn sleep(id: usize, ms: u64) -> Vec<u8> {
    let mut message = call("sleep", &json!({"ms": ms}));
    if let Some(message) = message.as_object_mut() {
        message.insert("id".to_owned(), json!(id));
        if let Some(params) = message.get_mut("params").and_then(Value::as_object_mut) {
            params.insert("_meta".to_owned(), modern_meta());
        }
    }
    format!("{message}\n").into_bytes()
}
