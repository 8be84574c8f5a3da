//! `server/discover` (<https://modelcontextprotocol.io/specification/2026-07-28/server/discover>).

use crate::mcp::{model::method::RpcMethod, outcome::Outcome};
use crate::{
    jsonrpc::{Id, write_result},
    registry::Snapshot,
};

pub(crate) fn answer<'a>(snapshot: &Snapshot, id: Id<'_>, out: &mut Vec<u8>) -> Outcome<'a> {
    write_result(out, id, |out| out.extend_from_slice(snapshot.discover()));
    Outcome::Reply(RpcMethod::Discover)
}
