//! Memory: parts of requests, and replies that are not read.

use std::{collections::VecDeque, io, sync::Mutex};

use serde_json::json;

use super::{
    attacker::{Attacker, SOURCE},
    bystander::Bystander,
    definition::Attack,
    wire::{Connection, legacy_call},
};

/// Length of a body that is not sent whole, and of a line: just below the limits of the server.
const BODY_BYTES: usize = 3_900_000;
const LINE_BYTES: usize = 9_900_000;
/// Length of a result that is not read.
const RESULT_BYTES: usize = 3_000_000;
/// Connections held by each attack.
const HALF_BODIES: usize = 300;
const UNREAD: usize = 60;
const HALF_LINES: usize = 60;

pub(super) fn attacks() -> Vec<Attack> {
    let attack = |id, description, run| Attack { id, description, bystander: Bystander::LargeMessages, run };
    vec![
        attack("half_bodies", "300 connections with a body of 3.9 MB without its end", half_bodies),
        attack("unread_results", "60 connections that do not read results of 3 MB", unread_results),
        attack("half_lines", "60 connections with 9.9 MB of a line", half_lines),
    ]
}

/// Opens connections with `open`, keeps the newest `count`, and resets the others.
fn keep_newest(attacker: &Attacker<'_>, count: usize, open: impl Fn() -> io::Result<Connection> + Sync) {
    let held = Mutex::new(VecDeque::new());
    attacker.repeat(1, |_| {
        let connection = open()?;
        attacker.count(1);
        let mut held = held.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        held.push_back(connection);
        if held.len() > count {
            held.pop_front().into_iter().for_each(Connection::reset);
        }
        Ok(())
    });
    held.into_inner().unwrap_or_default().into_iter().for_each(Connection::reset);
}

fn echo(attacker: &Attacker<'_>, length: usize) -> Vec<u8> {
    legacy_call(attacker.target, None, "echo", &json!({"message": "x".repeat(length)}))
}

fn half_bodies(attacker: &Attacker<'_>) {
    let request = echo(attacker, BODY_BYTES);
    let half = request.get(..request.len() - 10).unwrap_or_default();
    keep_newest(attacker, HALF_BODIES, || {
        let mut connection = attacker.connect()?;
        connection.send(half)?;
        Ok(connection)
    });
}

fn unread_results(attacker: &Attacker<'_>) {
    let request = echo(attacker, RESULT_BYTES);
    keep_newest(attacker, UNREAD, || {
        let mut connection = Connection::open(attacker.address, SOURCE, Some(4096))?;
        connection.send(&request)?;
        // A connection that was closed for lack of memory does not take the second request.
        let _ = connection.send(&request);
        Ok(connection)
    });
}

fn half_lines(attacker: &Attacker<'_>) {
    let line = format!("{{\"x\":\"{}", "y".repeat(LINE_BYTES)).into_bytes();
    keep_newest(attacker, HALF_LINES, || {
        let mut connection = attacker.connect_lines()?;
        connection.send(&line)?;
        Ok(connection)
    });
}
