//! The admin address: connections with half a head.

use std::{collections::VecDeque, sync::Mutex, thread, time::Duration};

use super::{
    attacker::{Attacker, SOURCE},
    bystander::Bystander,
    definition::Attack,
    wire::Connection,
};

/// Connections held: several times the maximum of the server.
const HELD: usize = 200;
/// Pause between two connections: there are at most 5,000 in a second, because connecting alone is no part of the attack.
const PAUSE: Duration = Duration::from_micros(200);

pub(super) fn attacks() -> Vec<Attack> {
    vec![Attack {
        id: "admin_partial_heads",
        description: "connections with half a head at the admin address",
        bystander: Bystander::Health,
        run: partial_heads,
    }]
}

fn partial_heads(attacker: &Attacker<'_>) {
    let held = Mutex::new(VecDeque::new());
    attacker.repeat(1, |_| {
        let mut connection = Connection::open(attacker.admin, SOURCE, None)?;
        connection.send(b"GET /healthz HTTP/1.1\r\nHo")?;
        attacker.count(1);
        thread::sleep(PAUSE);
        let mut held = held.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        held.push_back(connection);
        if held.len() > HELD {
            held.pop_front().into_iter().for_each(Connection::reset);
        }
        Ok(())
    });
    held.into_inner().unwrap_or_default().into_iter().for_each(Connection::reset);
}
