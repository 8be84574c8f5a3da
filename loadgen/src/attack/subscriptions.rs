//! Subscriptions: their topics, the bytes of their URIs, and the streams of sessions.

use std::{io, sync::OnceLock, time::Duration};

use serde_json::json;

use super::{
    attacker::Attacker,
    bystander::Bystander,
    definition::Attack,
    wire::{Connection, get_stream, legacy, listen, open_session},
};

/// Connections of the attack with many URIs, and URIs of each.
const LISTENS: usize = 256;
const URIS: usize = 1024;
/// Length of a URI: all of one connection fit into the default of `subscriber_bytes_max`.
const URI_BYTES: usize = 240;
/// Sessions with a stream: above the former maximum of 1,024 streams.
const STREAMS: usize = 1100;
/// Time for which streams are held before they are opened again.
const HELD: Duration = Duration::from_millis(200);

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        Attack {
            id: "listens",
            description: "256 listens of 1,024 URIs, opened again and again",
            bystander: Bystander::Listens,
            run: listens,
        },
        Attack {
            id: "session_subscriptions",
            description: "legacy subscriptions of one session, as many as possible",
            bystander: Bystander::Listens,
            run: session_subscriptions,
        },
        Attack {
            id: "session_streams",
            description: "1,100 sessions with a stream, opened again and again",
            bystander: Bystander::SessionStreams,
            run: session_streams,
        },
    ]
}

fn uri(number: usize) -> String {
    format!("page://{number:0>width$}", width = URI_BYTES - "page://".len())
}

/// Opens connections with `open` until there are so many, holds them, and resets them.
fn open_and_hold(
    attacker: &Attacker<'_>,
    count: usize,
    mut open: impl FnMut(usize) -> io::Result<Connection>,
) -> io::Result<()> {
    let mut held = Vec::new();
    let mut failure = Ok(());
    while held.len() < count && failure.is_ok() && !attacker.is_over() {
        match open(held.len()) {
            Ok(connection) => held.push(connection),
            Err(error) => failure = Err(error),
        }
    }
    attacker.hold(HELD);
    held.into_iter().for_each(Connection::reset);
    failure
}

fn listens(attacker: &Attacker<'_>) {
    // Each is made when it is first sent, so that the attack begins at once.
    let requests: Vec<OnceLock<Vec<u8>>> = (0..LISTENS).map(|_| OnceLock::new()).collect();
    let make = |number: usize| {
        let uris: Vec<String> = (number * URIS..(number + 1) * URIS).map(uri).collect();
        listen(attacker.target, &uris)
    };
    attacker.repeat(1, |_| {
        open_and_hold(attacker, LISTENS, |number| {
            let Some(request) = requests.get(number) else { return Err(io::ErrorKind::InvalidInput.into()) };
            let mut connection = attacker.connect()?;
            connection.send(request.get_or_init(|| make(number)))?;
            attacker.count(1);
            connection.reply()?;
            Ok(connection)
        })
    });
}

fn session_subscriptions(attacker: &Attacker<'_>) {
    const PIPELINED: usize = 32;
    attacker.repeat(1, |_| {
        let mut connection = attacker.connect()?;
        let session = open_session(&mut connection, attacker.target, &json!({}))?;
        let mut number = 0;
        while !attacker.is_over() {
            let mut bytes = Vec::new();
            for _ in 0..PIPELINED {
                let params = json!({"uri": uri(number)});
                let message =
                    json!({"jsonrpc": "2.0", "id": 1, "method": "resources/subscribe", "params": params});
                bytes.extend(legacy(attacker.target, Some(&session), &message));
                number += 1;
            }
            connection.send(&bytes)?;
            attacker.count(PIPELINED as u64);
            for _ in 0..PIPELINED {
                connection.reply()?;
            }
        }
        Ok(())
    });
}

fn session_streams(attacker: &Attacker<'_>) {
    attacker.repeat(1, |_| {
        open_and_hold(attacker, STREAMS, |_| {
            let mut connection = attacker.connect()?;
            let session = open_session(&mut connection, attacker.target, &json!({}))?;
            connection.send(&get_stream(attacker.target, &session))?;
            attacker.count(3);
            connection.receive()?;
            Ok(connection)
        })
    });
}
