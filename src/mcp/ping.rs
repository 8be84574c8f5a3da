//! `ping` (legacy): exactly `{}`.

use super::{method::CallMethod, outcome::Outcome};
use crate::jsonrpc::{Id, begin_result, finish_result};

pub(super) fn answer<'a>(id: Id<'_>, out: &mut Vec<u8>) -> Outcome<'a> {
    begin_result(out, id);
    finish_result(out);
    Outcome::Reply(CallMethod::Ping)
}
