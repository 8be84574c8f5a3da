//! `connection_leak`: a client opens 150 connections, sends a request on each and closes none, against a limit of 100.
//!
//! `connections_max` of the server is 100, and `head_timeout` and `keep_alive_timeout` are 1 s. The bystander has 32 connections.
//! `connections_reserve` is as many as the client opens: on a busy machine all may arrive before the server stops accepting.
//!
//! - Right refusal: the server stops accepting, with reason `connections_max`; further connections wait in the kernel until a tenth has
//!   been closed as idle, and are then served.
//! - Detected: `corelane_refusals_total` with reason `connections_max` grows.
//! - Recovered: a new connection of another client, opened behind the 150, gets the right reply to `echo`, although the client closes
//!   none. The fault ends when the last of its connections is open.
//! - Lost: a request on one of the 150 that is never answered.

use std::{io, time::Instant};

use serde_json::json;

use super::{
    definition::Fault,
    observation::{Failure, Observation},
    scene::{Scene, patient_reply},
};
use crate::attack::wire::legacy;

/// Connections of the client.
const LEAKED: usize = 150;

pub(super) fn fault() -> Fault {
    Fault {
        settings: &[
            ("limits", "connections_max", "100"),
            ("limits", "connections_reserve", "150"),
            ("limits", "head_timeout", "\"1s\""),
            ("limits", "keep_alive_timeout", "\"1s\""),
        ],
        ..Fault::new(
            "connection_leak",
            "150 connections of one client that it never closes, at a limit of 100",
            inject,
        )
    }
}

fn inject(scene: &Scene<'_>) -> Result<Observation, Failure> {
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    let ping = legacy(&scene.server.target, None, &message);
    let before = scene.sample().refusals("connections_max");
    let mut observation = Observation::new("refusals_total", "connections_max");
    let mut leaked = Vec::new();
    let (opened, shown) = scene.watch(
        |sample| sample.refusals("connections_max") > before,
        || {
            for _ in 0..LEAKED {
                let mut connection = scene.connect()?;
                connection.send(&ping)?;
                leaked.push(connection);
            }
            Ok::<_, io::Error>(Instant::now())
        },
    );
    let ended = opened?;
    observation.shown_at(shown);
    let mut neighbour = scene.connect_neighbour()?;
    observation.recovered = match scene.echo(&mut neighbour) {
        Ok(()) => Some(ended.elapsed()),
        Err(error) => {
            observation.hurt = Some(format!("a new client was not served: {error}"));
            None
        }
    };
    for connection in &mut leaked {
        match patient_reply(connection) {
            Ok((head, _)) if head.status == 200 => {}
            Ok((head, _)) => observation.wrong(format!("status {}", head.status)),
            Err(error) => observation.lost(1, &error),
        }
    }
    if observation.detected.is_none() {
        observation.wrong("150 connections were accepted at once");
    }
    Ok(observation)
}
