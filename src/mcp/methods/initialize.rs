//! `initialize` (legacy): agrees on a revision, and opens a session (checklist V-05, L-01, L-55).

use crate::mcp::{
    envelope::client::{Handshake, Transport},
    envelope::params::Params,
    model::method::CallMethod,
    outcome::Outcome,
    refusal::{Refusal, Refused},
    response::refuse::refuse,
    world::World,
};
use crate::{
    call::{Capabilities, Capability, Revision},
    json::{Node, write_string},
    jsonrpc::{Id, begin_result, finish_result},
};

pub(crate) fn answer<'a>(
    world: &mut World<'a, '_>,
    transport: Transport<'_>,
    id: Id<'_>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Outcome<'a> {
    let Some(requested) = params.get("protocolVersion").and_then(Node::as_str) else {
        let refusal = Refusal::new(Refused::InvalidMethodParams, "params.protocolVersion must be a string");
        return refuse(out, Some(id), Revision::LATEST_LEGACY, CallMethod::Initialize, refusal);
    };
    let agreed = Revision::parse(requested.as_bytes())
        .filter(|revision| !revision.is_modern())
        .unwrap_or(Revision::LATEST_LEGACY);
    begin_result(out, id);
    out.extend_from_slice(b"\"protocolVersion\":");
    write_string(out, agreed.as_str());
    out.push(b',');
    out.extend_from_slice(world.snapshot.initialize(agreed));
    finish_result(out);
    let handshake = handshake(agreed, params);
    let session = match transport {
        Transport::Http(_) => {
            let entropy = (world.entropy)();
            Some(world.sessions.open(agreed, handshake.capabilities, world.now, entropy))
        }
        Transport::Line(_) => None,
    };
    Outcome::Agreed(handshake, session)
}

/// The handshake a legacy `initialize` comes to.
fn handshake(revision: Revision, params: &Params<'_>) -> Handshake {
    let declared = params.get("capabilities").map(Capabilities::read).unwrap_or_default();
    // What a revision does not know is not asked for under it, whatever its client declares.
    let unknown = match revision {
        Revision::V2024_11_05 | Revision::V2025_03_26 => {
            Capabilities::default().with(Capability::ElicitationForm).with(Capability::ElicitationUrl)
        }
        Revision::V2025_06_18 => Capabilities::default().with(Capability::ElicitationUrl),
        Revision::V2025_11_25 | Revision::V2026_07_28 => Capabilities::default(),
    };
    Handshake { revision, capabilities: declared.without(unknown), level: None }
}
