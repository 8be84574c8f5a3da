//! `invalid_payload`: requests whose heads are no HTTP or ambiguous, and whose bodies are no JSON, no JSON-RPC, or no request of the
//! protocol.
//!
//! - Right refusal: for a head a status from 400 to 505; for a body the status and the code of the table below, on a connection that
//!   stays open.
//! - Detected: `corelane_refusals_total` with reason `not_json` grows.
//! - Recovered: the connection of the last body gets the right reply to `echo`.
//! - Lost: a request without a reply.

use std::time::Instant;

use super::{
    definition::Fault,
    observation::{Failure, Observation},
    scene::{Scene, error_code, patient_reply},
};
use crate::{attack::malformed::HEADS, request::Request};

/// Bodies of 2025-11-25, with the status and the code of their refusal. `None`: a result with `isError`, so that the model can correct
/// its arguments.
const BODIES: [(&str, u16, Option<i64>); 12] = [
    ("{", 400, Some(-32700)),
    ("nul", 400, Some(-32700)),
    ("\u{fffd}{}", 400, Some(-32700)),
    ("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"} x", 400, Some(-32700)),
    ("{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"ping\"}", 400, Some(-32600)),
    ("{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"ping\"}", 400, Some(-32600)),
    ("{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"method\":\"ping\"}", 400, Some(-32600)),
    ("{\"jsonrpc\":\"2.0\",\"id\":1,\"Method\":\"ping\"}", 400, Some(-32600)),
    ("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"no/such\"}", 200, Some(-32601)),
    ("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{}}", 200, Some(-32602)),
    (
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"no\"}}",
        200,
        Some(-32602),
    ),
    (
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"echo\",\"arguments\":{\"message\":7}}}",
        200,
        None,
    ),
];
/// How often each request is sent.
const ROUNDS: usize = 10;

pub(super) fn fault() -> Fault {
    let description = "320 requests that are no HTTP, no JSON, no JSON-RPC, or not of the protocol";
    Fault::new("invalid_payload", description, inject)
}

fn inject(scene: &Scene<'_>) -> Result<Observation, Failure> {
    let mut connection = scene.connect()?;
    scene.echo(&mut connection)?;
    let before = scene.sample().refusals("not_json");
    let mut observation = Observation::new("refusals_total", "400, -32700 …");
    let ((), shown) = scene.watch(
        |sample| sample.refusals("not_json") > before,
        || {
            for _ in 0..ROUNDS {
                for (body, status, code) in BODIES {
                    let sent = connection.send(&Request::post_with(&scene.server.target, "", body));
                    match sent.and_then(|()| patient_reply(&mut connection)) {
                        Ok((head, reply)) if head.status == status && is_right(&reply, code) => {}
                        Ok((head, reply)) => observation.wrong(format!(
                            "{body} was answered with status {}: {}",
                            head.status,
                            String::from_utf8_lossy(&reply)
                        )),
                        Err(error) => observation.lost(1, &error),
                    }
                }
                HEADS.iter().for_each(|head| send_head(scene, head, &mut observation));
            }
        },
    );
    observation.shown_at(shown);
    observation.recovered = scene.recover(Instant::now(), || scene.echo(&mut connection));
    Ok(observation)
}

fn is_right(reply: &[u8], code: Option<i64>) -> bool {
    let is_error_result = memchr::memmem::find(reply, b"\"isError\":true").is_some();
    code.map_or(is_error_result, |code| error_code(reply) == Some(code))
}

/// Sends a head on a connection of its own.
fn send_head(scene: &Scene<'_>, head: &[u8], observation: &mut Observation) {
    let replied = scene.connect().and_then(|mut connection| {
        connection.send(head)?;
        patient_reply(&mut connection)
    });
    match replied {
        Ok((reply, _)) if (400..=505).contains(&reply.status) => {}
        Ok((reply, _)) => {
            let head = String::from_utf8_lossy(head);
            observation.wrong(format!("{head:?} was answered with status {}", reply.status));
        }
        Err(error) => observation.lost(1, &format!("{:?}: {error}", String::from_utf8_lossy(head))),
    }
}
