//! Tests of the session table.

use super::*;
use crate::call::{Capabilities, Revision};

/// A table with a session 1 that has an open stream, and a session 2 that has none.
fn table() -> (SessionTable, StreamId) {
    let mut table = SessionTable::new(0, Instance::default(), &Limits::default());
    let mut subscriptions = Subscriptions::new(&Limits { subscriptions_max: 100, ..Limits::default() });
    for key in [1, 2] {
        let (revision, capabilities) = (Revision::V2025_11_25, Capabilities::default());
        let session =
            Session { key, home: 0, revision, capabilities, expires: 10, peer: [0; 3], is_foreign: false };
        assert!(table.insert(&session, 0, &mut subscriptions).is_some());
    }
    let attachment = Attachment { shard: 0, socket: corelane_ring::SocketId::default() };
    let id = table.open(1, attachment).unwrap().stream;
    assert_eq!(table.check_invariants(), Ok(()));
    (table, id)
}

#[test]
fn violated_invariants_are_found() {
    type Damage = fn(&mut SessionTable, StreamId);
    let damages: [(&str, Damage); 9] = [
        ("1 streams are open, 2 counted", |table, _| table.entries.get_mut(&1).unwrap().attached = 2),
        ("1 has no stream", |table, _| table.entries.get_mut(&1).unwrap().streams.clear()),
        ("which is not its own", |table, id| table.entries.get_mut(&2).unwrap().streams.insert(0, id)),
        ("which is gone", |table, id| _ = table.streams.remove(id)),
        ("2 is idle and not listed", |table, _| table.idle.clear()),
        ("not listed by expiry", |table, _| table.expiries.clear()),
        ("pinned and not the newest", |table, id| table.streams.pin(id, false)),
        ("a message waits", |table, id| table.streams.push(id, (*b"{}").into())),
        ("two streams have one connection", |table, id| {
            let attachment = table.streams.get(id).unwrap().attachment.unwrap();
            _ = table.open_reply(1, attachment, Box::default());
        }),
    ];
    for (expected, damage) in damages {
        let (mut table, id) = table();
        damage(&mut table, id);
        let found = table.check_invariants().unwrap_err();
        assert!(found.contains(expected), "{found} instead of {expected}");
    }
}
