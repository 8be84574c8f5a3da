//! `ping` (legacy): exactly `{}`.

use super::outcome::{CallMethod, Outcome};
use crate::{
    http::Status,
    jsonrpc::{Id, begin_result, finish_result},
};

pub(super) fn answer<'a>(id: Id<'_>, out: &mut Vec<u8>) -> Outcome<'a> {
    begin_result(out, id);
    finish_result(out);
    Outcome::Reply(Status::Ok, CallMethod::Ping)
}
