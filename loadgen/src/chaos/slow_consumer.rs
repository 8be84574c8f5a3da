//! `slow_consumer`: clients request results of 3 MB and read nothing.
//!
//! `write_timeout` of the server is 400 ms.
//!
//! - Right refusal: each connection is closed and counted, with reason `write_timeout`.
//! - Detected: `corelane_refusals_total` with reason `write_timeout` grows.
//! - Recovered: all connections of the clients are closed, and no connection of the server waits for a reader. The fault ends when the
//!   last result has been requested.
//! - Lost: nothing: the results were sent to clients that do not read them.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{
    definition::Fault,
    observation::{Failure, Observation},
    scene::Scene,
};
use crate::attack::{attacker::SOURCE, wire::Connection};

/// Clients, the length of a result, and the receive buffer of a client in bytes.
const CLIENTS: usize = 20;
const RESULT_BYTES: usize = 3_000_000;
const RECEIVE_BUFFER: usize = 4096;
/// Time limit for sending a request.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn fault() -> Fault {
    Fault {
        settings: &[("limits", "write_timeout", "\"400ms\"")],
        ..Fault::new("slow_consumer", "20 clients that do not read results of 3 MB", inject)
    }
}

fn inject(scene: &Scene<'_>) -> Result<Observation, Failure> {
    let request = scene.call("echo", &json!({"message": "x".repeat(RESULT_BYTES)}));
    let before = scene.sample().refusals("write_timeout");
    let mut observation = Observation::new("refusals_total", "write_timeout");
    let mut clients = Vec::new();
    let (sent, shown) = scene.watch(
        |sample| sample.refusals("write_timeout") > before,
        || {
            for _ in 0..CLIENTS {
                let mut client = Connection::open(scene.server.address(), SOURCE, Some(RECEIVE_BUFFER))?;
                client.send_within(&request, SEND_TIMEOUT)?;
                clients.push(client);
            }
            Ok::<_, std::io::Error>(Instant::now())
        },
    );
    let ended = sent?;
    observation.shown_at(shown);
    let all = before + CLIENTS as f64;
    observation.recovered = scene.settle(ended, |sample| {
        let waiting = sample.sum("corelane_connection_states", "state=\"writing\"");
        sample.refusals("write_timeout") >= all && waiting == 0.0
    });
    Ok(observation)
}
