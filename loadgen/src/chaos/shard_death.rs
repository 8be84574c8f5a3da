//! `shard_death`: the executor of one of two shards ends, with a panic outside of every connection, as a bug of the server would end it.
//!
//! `turn_slow` of the server is 20 ms, and its log panics at the line about a slow turn of one tool, which the client calls.
//!
//! - Right refusal: the connections of the shard are closed, and its sessions answer 404; those of the other shard go on.
//! - Detected: `corelane_shard_up` of the shard is 0, or `corelane_events_total` with `shard_restarted` grows.
//! - Recovered: every shard answers, and eight new connections get the right reply to `echo`.
//! - Lost: a session that is answered with neither 200 nor 404. Calls in flight on the shard are aborted with their connections, at most
//!   one on each: these are reported apart, and every other call of the bystander that fails is lost.
//! - Hurt: a connection of another client on the other shard that is not served any more.

use std::{
    io::{self, ErrorKind},
    time::Instant,
};

use serde_json::json;

use super::{
    definition::{Fault, Log},
    observation::{Failure, Observation},
    scene::{Scene, patient_reply, result_text},
};
use crate::{
    attack::{
        tools::SHARD,
        wire::{Connection, legacy, open_session},
    },
    fault_injection,
};

/// Connections and sessions of other clients, over both shards.
const NEIGHBOURS: usize = 16;
/// New connections that must be served by the shards.
const NEW: usize = 8;

pub(super) fn fault() -> Fault {
    Fault {
        settings: &[("limits", "turn_slow", "\"20ms\"")],
        shards: 2,
        log: Log::Panicking,
        ..Fault::new("shard_death", "the executor of one of two shards ends with a panic", inject)
    }
}

fn inject(scene: &Scene<'_>) -> Result<Observation, Failure> {
    let mut neighbours = Vec::new();
    for _ in 0..NEIGHBOURS {
        let mut connection = scene.connect_neighbour()?;
        let session = open_session(&mut connection, &scene.server.target, &json!({}))?;
        let shard = shard_of(scene, &mut connection)?;
        neighbours.push((connection, session, shard));
    }
    let mut guilty = scene.connect()?;
    let dying = shard_of(scene, &mut guilty)?;
    let before = scene.sample();
    let restarts = before.events("shard_restarted");
    let mut observation = Observation::new("shard_up, events_total", "closed, 404");
    observation.aborts_max = before.sum("corelane_connections", &format!("shard=\"{dying}\"")) as u64;
    let (ended, shown) = scene.watch(
        |sample| sample.events("shard_restarted") > restarts || sample.sum("corelane_shard_up", "") < 2.0,
        || {
            let _ = guilty.send(&scene.call(fault_injection::TOOL, &json!({})));
            // The reply may be on its way or not.
            while patient_reply(&mut guilty).is_ok() {}
            Instant::now()
        },
    );
    observation.shown_at(shown);
    observation.recovered = scene.recover(ended, || {
        let sample = scene.sample();
        if sample.sum("corelane_shard_up", "") < 2.0 || sample.events("shard_restarted") <= restarts {
            return Err(ErrorKind::WouldBlock.into());
        }
        (0..NEW).try_for_each(|_| scene.echo(&mut scene.connect()?))
    });
    let mut ended_sessions = 0;
    for (mut connection, session, shard) in neighbours {
        let is_served = scene.echo(&mut connection).is_ok();
        if shard != dying && !is_served {
            observation.hurt = Some(format!("a connection of shard {shard} was closed"));
        }
        if shard == dying && is_served {
            observation.wrong("a connection of the shard outlived it");
        }
        match ping(scene, &session) {
            Ok(404) => ended_sessions += 1,
            Ok(200) => {}
            Ok(status) => observation.wrong(format!("a session was answered with status {status}")),
            Err(error) => observation.lost(1, &format!("a session: {error}")),
        }
    }
    if ended_sessions == 0 || ended_sessions == NEIGHBOURS {
        observation.wrong(format!("{ended_sessions} of {NEIGHBOURS} sessions ended"));
    }
    Ok(observation)
}

/// The number of the shard of a connection.
fn shard_of(scene: &Scene<'_>, connection: &mut Connection) -> io::Result<String> {
    connection.send(&scene.call(SHARD, &json!({})))?;
    let (_, body) = patient_reply(connection)?;
    result_text(&body).ok_or_else(|| io::Error::other(String::from_utf8_lossy(&body).into_owned()))
}

/// The status of a request in a session, on a new connection.
fn ping(scene: &Scene<'_>, session: &str) -> io::Result<u16> {
    let mut connection = scene.connect_neighbour()?;
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    connection.send(&legacy(&scene.server.target, Some(session), &message))?;
    Ok(patient_reply(&mut connection)?.0.status)
}
