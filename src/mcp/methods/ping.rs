//! `ping` (<https://modelcontextprotocol.io/specification/2025-11-25/basic/utilities/ping>): the result is `{}`.

use crate::jsonrpc::{Id, write_result};
use crate::mcp::{model::method::RpcMethod, outcome::Outcome};

pub(crate) fn answer<'a>(id: Id<'_>, out: &mut Vec<u8>) -> Outcome<'a> {
    write_result(out, id, |_| {});
    Outcome::Reply(RpcMethod::Ping)
}
