//! The four lists, whose pages were encoded when the registry was compiled
//! (<https://modelcontextprotocol.io/specification/2026-07-28/server/utilities/pagination>).

use crate::mcp::{
    envelope::era::Params,
    error::{ErrorKind, RequestError},
    model::method::RpcMethod,
    outcome::Outcome,
};
use crate::{
    call::Revision,
    jsonrpc::{Id, write_result},
    registry::{List, Snapshot},
};

pub(crate) fn answer<'a>(
    snapshot: &Snapshot,
    list: List,
    method: RpcMethod,
    revision: Revision,
    id: Id<'_>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Outcome<'a>, RequestError> {
    let page = match params.cursor.filter(|cursor| !cursor.is_null()) {
        None => snapshot.page(list, revision, None),
        // An empty cursor is invalid.
        Some(cursor) => cursor.as_str().and_then(|cursor| snapshot.page(list, revision, Some(cursor))),
    };
    let invalid = || RequestError::new(ErrorKind::InvalidMethodParams, "Invalid cursor");
    let page = page.ok_or_else(invalid)?;
    write_result(out, id, |out| page.iter().for_each(|part| out.extend_from_slice(part)));
    Ok(Outcome::Reply(method))
}
