//! `ping` (<https://modelcontextprotocol.io/specification/2025-11-25/basic/utilities/ping>): the result is `{}`.

use crate::jsonrpc::{Id, begin_result, finish_result};
use crate::mcp::{model::method::RpcMethod, outcome::Outcome};

pub(crate) fn answer<'a>(id: Id<'_>, out: &mut Vec<u8>) -> Outcome<'a> {
    begin_result(out, id);
    finish_result(out);
    Outcome::Reply(RpcMethod::Ping)
}
