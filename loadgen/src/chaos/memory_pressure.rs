//! `memory_pressure`: a client sends bodies of 3.9 MB without their ends, until the server holds all the memory that it may.
//!
//! `memory_max` of the server is 256 MiB, and its timeouts are longer than the time in which it answers all requests but one.
//!
//! - Right refusal: status 503 to requests of the client that holds its share. Requests that were admitted before are answered when their
//!   ends arrive; where the memory for a reply is missing too, the connection is closed and counted.
//! - Detected: `corelane_refusals_total` with reason `memory_max` grows.
//! - Recovered: when the client has closed its connections, a whole request of 3.9 MB is answered.
//! - Lost: a request whose connection was closed without a reply and without being counted as refused.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{
    definition::Fault,
    observation::{Failure, Observation},
    scene::{Scene, patient_reply, result_text},
};

/// Length of the text of a request, and number of requests: more than the memory of the server.
const TEXT_BYTES: usize = 3_900_000;
const REQUESTS: usize = 60;
/// Bytes at the end of a request that are sent later.
const END_BYTES: usize = 10;
/// Time limit for sending a request.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn fault() -> Fault {
    Fault {
        settings: &[
            ("server", "memory_max", "\"256MiB\""),
            ("limits", "body_timeout", "\"10min\""),
            ("limits", "body_total_timeout", "\"10min\""),
        ],
        ..Fault::new("memory_pressure", "60 requests of 3.9 MB without their ends, of one client", inject)
    }
}

fn inject(scene: &Scene<'_>) -> Result<Observation, Failure> {
    let request = scene.call("echo", &json!({"message": "x".repeat(TEXT_BYTES)}));
    let (half, end) = request.split_at_checked(request.len() - END_BYTES).unwrap_or_default();
    let before = scene.sample().refusals("memory_max");
    let mut observation = Observation::new("refusals_total", "503");
    let mut held = Vec::new();
    let (opened, shown) = scene.watch(
        |sample| sample.refusals("memory_max") > before,
        || {
            for _ in 0..REQUESTS {
                let mut connection = scene.connect()?;
                // The server may refuse the request while it is sent.
                let _ = connection.send_within(half, SEND_TIMEOUT);
                held.push(connection);
            }
            Ok::<_, std::io::Error>(())
        },
    );
    opened?;
    observation.shown_at(shown);
    let (mut refusals, mut closed) = (0.0, 0.0);
    for mut connection in held {
        if !connection.has_input() {
            let _ = connection.send_within(end, SEND_TIMEOUT);
        }
        match patient_reply(&mut connection) {
            Ok((head, _)) if head.status == 503 => refusals += 1.0,
            Ok((head, body)) if head.status == 200 => {
                if result_text(&body).is_none_or(|text| text.len() != TEXT_BYTES) {
                    observation.wrong("an admitted request got a wrong reply");
                }
            }
            Ok((head, _)) => observation.wrong(format!("status {}", head.status)),
            Err(_) => closed += 1.0,
        }
    }
    let counted = scene.sample().refusals("memory_max") - before;
    if refusals == 0.0 {
        observation.wrong("no request was refused");
    }
    if refusals + closed > counted {
        let uncounted = refusals + closed - counted;
        observation.lost(uncounted as u64, &"a connection was closed without a reply, and not counted");
    }
    observation.recovered = scene.recover(Instant::now(), || {
        let mut connection = scene.connect()?;
        connection.send_within(&request, SEND_TIMEOUT)?;
        let (head, body) = patient_reply(&mut connection)?;
        let is_right = head.status == 200 && result_text(&body).is_some_and(|text| text.len() == TEXT_BYTES);
        is_right.then_some(()).ok_or_else(|| std::io::Error::other(format!("status {}", head.status)))
    });
    Ok(observation)
}
