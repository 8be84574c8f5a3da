//! The blocking pool: many long calls of one connection.

use serde_json::json;

use super::{attacker::Attacker, bystander::Bystander, definition::Attack, wire::call};
use crate::request::modern_meta;

/// Calls in flight of the attacker.
const CALLS: usize = 200;
/// Rounds of SHA-256 of one call: some tens of milliseconds.
const ROUNDS: u32 = 1_000_000;

pub(super) fn attacks() -> Vec<Attack> {
    vec![Attack {
        id: "pool_digests",
        description: "200 long digests of one connection, always",
        bystander: Bystander::Pool,
        run: digests,
    }]
}

fn digests(attacker: &Attacker<'_>) {
    let mut line = call("digest", &json!({"text": "text", "rounds": ROUNDS}));
    if let Some(params) = line.get_mut("params").and_then(serde_json::Value::as_object_mut) {
        params.insert("_meta".to_owned(), modern_meta());
    }
    let text = line.to_string();
    // The ids of calls in flight differ.
    let lines = |ids: std::ops::Range<usize>| -> Vec<u8> {
        let numbered = |id| text.replacen("\"id\":1", &format!("\"id\":{id}"), 1) + "\n";
        ids.map(numbered).collect::<String>().into_bytes()
    };
    attacker.repeat(1, |_| {
        let mut connection = attacker.connect_lines()?;
        connection.send(&lines(0..CALLS))?;
        attacker.count(CALLS as u64);
        let mut next = CALLS;
        while !attacker.is_over() {
            let replies = match connection.receive() {
                Ok(bytes) => memchr::memchr_iter(b'\n', bytes).count(),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            };
            connection.send(&lines(next..next + replies))?;
            attacker.count(replies as u64);
            next += replies;
        }
        Ok(())
    });
}
