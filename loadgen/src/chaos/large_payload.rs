//! `large_payload_100mb`: bodies of 100 MB with a length and in chunks, and a line of 100 MB.
//!
//! - Right refusal: status 413 for the bodies, before they have been sent, and an error line -32600 for the line. The process grows by
//!   less than the payload.
//! - Detected: `corelane_refusals_total` with reason `body_too_large` grows.
//! - Recovered: a new connection gets the right reply to `echo`, and the connection of the line one to `ping`.
//! - Lost: a payload without a refusal.

use std::{
    io,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    definition::Fault,
    lines::LineClient,
    observation::{Failure, Observation},
    scene::{Scene, patient_reply},
};

/// Length of a payload, and of the parts in which it is sent.
const PAYLOAD_BYTES: usize = 100_000_000;
const PART_BYTES: usize = 100_000;
/// Time limit for sending a part of a line.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// By how much the process may grow: the limits of a body and of a line, doubled by growing buffers, and what the bystander uses.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

pub(super) fn fault() -> Fault {
    let description = "bodies of 100 MB with a length and in chunks, and a line of 100 MB";
    Fault::new("large_payload_100mb", description, inject)
}

fn inject(scene: &Scene<'_>) -> Result<Observation, Failure> {
    let before = scene.sample().refusals("body_too_large");
    let peak = |scene: &Scene<'_>| scene.server.footprint().unwrap_or_default().peak_bytes;
    let peak_before = peak(scene);
    let mut lines = LineClient::connect(scene)?;
    let mut observation = Observation::new("refusals_total", "413, -32600");
    let ((), shown) = scene.watch(
        |sample| sample.refusals("body_too_large") > before,
        || {
            for framing in
                [format!("Content-Length: {PAYLOAD_BYTES}"), "Transfer-Encoding: chunked".to_owned()]
            {
                match send_body(scene, &framing) {
                    Ok((413, sent)) if sent < PAYLOAD_BYTES => {}
                    Ok((status, sent)) => {
                        observation.wrong(format!("{framing}: status {status} after {sent} bytes"));
                    }
                    Err(error) => observation.lost(1, &format!("{framing}: {error}")),
                }
            }
            match send_line(&mut lines) {
                Ok(-32600) => {}
                Ok(code) => observation.wrong(format!("the line was answered with code {code}")),
                Err(error) => observation.lost(1, &format!("the line: {error}")),
            }
        },
    );
    observation.shown_at(shown);
    observation.recovered = scene.recover(Instant::now(), || {
        scene.echo(&mut scene.connect()?)?;
        lines.send(b"{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"ping\"}\n")?;
        lines.next()?.get("result").map(|_| ()).ok_or_else(|| io::Error::other("no result"))
    });
    let grown = peak(scene).saturating_sub(peak_before);
    if grown > GROWTH_BYTES_MAX {
        observation.wrong(format!("the process grew by {} MiB", grown >> 20));
    }
    Ok(observation)
}

/// Sends a body until there is a reply. Returns its status, and the number of bytes that were sent before.
fn send_body(scene: &Scene<'_>, framing: &str) -> io::Result<(u16, usize)> {
    let mut connection = scene.connect()?;
    let target = &scene.server.target;
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\n{framing}\r\n\r\n",
        target.path, target.host
    );
    connection.send(head.as_bytes())?;
    let mut part = vec![b' '; PART_BYTES];
    if framing.contains("chunked") {
        part = [format!("{PART_BYTES:x}\r\n").as_bytes(), &part, b"\r\n"].concat();
    }
    let mut sent = 0;
    // The server may close behind its reply, which is read below.
    while sent < PAYLOAD_BYTES && !connection.has_input() && connection.send(&part).is_ok() {
        sent += PART_BYTES;
    }
    Ok((patient_reply(&mut connection)?.0.status, sent))
}

/// Sends a line of the length of the payload, and returns the code of the reply.
fn send_line(lines: &mut LineClient) -> io::Result<i64> {
    lines.send(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":{\"x\":\"")?;
    let part = vec![b'x'; PART_BYTES];
    for _ in 0..PAYLOAD_BYTES / PART_BYTES {
        lines.send_within(&part, SEND_TIMEOUT)?;
    }
    lines.send(b"\"}}\n")?;
    let reply = lines.next()?;
    let code = reply.pointer("/error/code").and_then(Value::as_i64);
    code.ok_or_else(|| io::Error::other(format!("no error: {reply}")))
}
