//! Calls in flight: legacy calls go on when their connection has closed.

use serde_json::{Value, json};

use super::{
    attacker::Attacker,
    bystander::Bystander,
    definition::Attack,
    tools,
    wire::{call, legacy_call, open_session},
};
use crate::request::Request;

/// Calls of one batch: the maximum of the server.
const BATCH: usize = 100;

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        Attack {
            id: "asks_closed",
            description: "legacy calls that ask their client, connection closed after the question",
            bystander: Bystander::Calls,
            run: asks,
        },
        Attack {
            id: "sleeps_reset",
            description: "legacy calls of sleep, connection reset at once",
            bystander: Bystander::Calls,
            run: |attacker| {
                let call = legacy_call(attacker.target, None, "sleep", &json!({"ms": 60_000}));
                reset_after(attacker, &call, 1);
            },
        },
        Attack {
            id: "batches_reset",
            description: "batches of 100 calls of sleep, connection reset at once",
            bystander: Bystander::Calls,
            run: |attacker| {
                let batch = Value::from(vec![call("sleep", &json!({"ms": 60_000})); BATCH]).to_string();
                let version = "MCP-Protocol-Version: 2025-03-26\r\n";
                let batch = Request::post_with(attacker.target, version, &batch);
                reset_after(attacker, &batch, BATCH as u64);
            },
        },
    ]
}

fn reset_after(attacker: &Attacker<'_>, bytes: &[u8], requests: u64) {
    attacker.repeat(2, |_| {
        let mut connection = attacker.connect()?;
        connection.send(bytes)?;
        attacker.count(requests);
        connection.reset();
        Ok(())
    });
}

fn asks(attacker: &Attacker<'_>) {
    attacker.repeat(2, |_| {
        let mut connection = attacker.connect()?;
        let session = open_session(&mut connection, attacker.target, &json!({"roots": {}}))?;
        let ask = legacy_call(attacker.target, Some(&session), tools::ASK, &json!({}));
        while !attacker.is_over() {
            let mut connection = attacker.connect()?;
            connection.send(&ask)?;
            attacker.count(1);
            // The question.
            connection.reply()?;
            connection.reset();
        }
        Ok(())
    });
}
