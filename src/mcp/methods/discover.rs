//! `server/discover` (<https://modelcontextprotocol.io/specification/2026-07-28/server/discover>).

use crate::mcp::{model::method::RpcMethod, outcome::Outcome};
use crate::{
    jsonrpc::{Id, begin_result, finish_result},
    registry::Snapshot,
};

pub(crate) fn answer<'a>(snapshot: &Snapshot, id: Id<'_>, out: &mut Vec<u8>) -> Outcome<'a> {
    begin_result(out, id);
    out.extend_from_slice(snapshot.discover());
    finish_result(out);
    Outcome::Reply(RpcMethod::Discover)
}
