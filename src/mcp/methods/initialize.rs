//! `initialize` (legacy): negotiates a revision. Over HTTP the caller opens a session
//! (<https://modelcontextprotocol.io/specification/2025-11-25/basic/lifecycle#initialization>).

use crate::mcp::{
    envelope::client::Handshake,
    envelope::era::Params,
    error::{ErrorKind, RequestError},
    outcome::Outcome,
    router_context::RouterContext,
};
use crate::{
    call::{Capabilities, Capability, Revision},
    json::{Node, write_string},
    jsonrpc::{Id, write_result},
};

pub(crate) fn answer<'a>(
    context: &RouterContext<'a, '_>,
    id: Id<'_>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Outcome<'a>, RequestError> {
    let invalid =
        || RequestError::new(ErrorKind::InvalidMethodParams, "params.protocolVersion must be a string");
    let requested = params.get("protocolVersion").and_then(Node::as_str).ok_or_else(invalid)?;
    let negotiated = Revision::parse(requested.as_bytes())
        .filter(|revision| !revision.is_modern())
        .unwrap_or(Revision::LATEST_LEGACY);
    write_result(out, id, |out| {
        out.extend_from_slice(b"\"protocolVersion\":");
        write_string(out, negotiated.as_str());
        out.push(b',');
        out.extend_from_slice(context.snapshot.initialize(negotiated));
    });
    let handshake = handshake(negotiated, params);
    Ok(Outcome::Initialized(handshake))
}

/// The result of the negotiation: the revision and the client's capabilities under it.
fn handshake(revision: Revision, params: &Params<'_>) -> Handshake {
    let declared = params.get("capabilities").map(Capabilities::read).unwrap_or_default();
    // Capabilities that the revision does not define are ignored, although the client declares them.
    let undefined = match revision {
        Revision::V2024_11_05 | Revision::V2025_03_26 => {
            Capabilities::default().with(Capability::ElicitationForm).with(Capability::ElicitationUrl)
        }
        Revision::V2025_06_18 => Capabilities::default().with(Capability::ElicitationUrl),
        Revision::V2025_11_25 | Revision::V2026_07_28 => Capabilities::default(),
    };
    Handshake { revision, capabilities: declared.without(undefined), level: None }
}
