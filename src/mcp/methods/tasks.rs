//! The requests and results of the tasks extension
//! (<https://github.com/modelcontextprotocol/ext-tasks/blob/main/specification/2026-07-28/tasks.md>).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::mcp::{
    envelope::client::Client,
    envelope::era::Params,
    error::{ErrorKind, RequestError, missing_capability},
    model::method::RpcMethod,
    model::task::{TaskAction, TaskKey, TaskRequest, TaskView},
    outcome::Outcome,
    response::error::reject,
};
use crate::{
    call::Capability,
    json::Node,
    jsonrpc::{Id, write_result},
    registry::Snapshot,
    signed_token::SigningKey,
};

/// Handles `tasks/get`, `tasks/update` and `tasks/cancel`.
pub(crate) fn request<'a>(
    method: RpcMethod,
    signing_key: &SigningKey,
    client: &Client<'a>,
    request_id: Id<'a>,
    params: &Params<'a>,
) -> Result<Outcome<'a>, RequestError> {
    let invalid = |message: &'static str| RequestError::new(ErrorKind::InvalidMethodParams, message);
    if !client.capabilities.has(Capability::Tasks) {
        return Err(missing_capability(Capability::Tasks));
    }
    let id = params
        .get("taskId")
        .and_then(Node::as_str)
        .ok_or_else(|| invalid("params.taskId must be a string"))?;
    let key = TaskKey::verify(id, signing_key).ok_or_else(unknown_task)?;
    let action = match method {
        RpcMethod::TasksUpdate => {
            let answers = params.input_responses.and_then(Node::members);
            let answers = answers.ok_or_else(|| invalid("params.inputResponses must be an object"))?;
            let read = |(key, answer): (&str, Node<'_>)| {
                let answer = Some(answer).filter(|answer| answer.is_object())?;
                Some((key.to_owned(), Value::deserialize(answer).ok()?))
            };
            let answers: Option<BTreeMap<String, Value>> = answers.map(read).collect();
            TaskAction::Update(answers.ok_or_else(|| invalid("an input response must be an object"))?)
        }
        RpcMethod::TasksCancel => TaskAction::Cancel,
        _ => TaskAction::Get,
    };
    Ok(Outcome::Task(request_id, TaskRequest { key, action }))
}

fn unknown_task() -> RequestError {
    RequestError::new(ErrorKind::UnknownTask, "Unknown task")
}

/// Encodes the error for a task that does not exist or has expired.
pub fn write_unknown_task(out: &mut Vec<u8>, id: Id<'_>, method: RpcMethod) -> Outcome<'static> {
    reject(out, Some(id), crate::call::Revision::V2026_07_28, method, unknown_task())
}

/// Encodes the result of a call that became a task.
pub fn write_task_created(out: &mut Vec<u8>, snapshot: &Snapshot, id: Id<'_>, task: &TaskView) {
    write_task_result(out, snapshot, id, "task", |out| task.write(out, false));
}

/// Encodes the result of `tasks/get`.
pub fn write_task(out: &mut Vec<u8>, snapshot: &Snapshot, id: Id<'_>, task: &TaskView) {
    write_task_result(out, snapshot, id, "complete", |out| task.write(out, true));
}

/// Encodes the result of `tasks/update` and `tasks/cancel`.
pub fn write_task_acknowledged(out: &mut Vec<u8>, snapshot: &Snapshot, id: Id<'_>) {
    write_task_result(out, snapshot, id, "complete", |_| {});
}

fn write_task_result(
    out: &mut Vec<u8>,
    snapshot: &Snapshot,
    id: Id<'_>,
    kind: &str,
    members: impl FnOnce(&mut Vec<u8>),
) {
    write_result(out, id, |out| {
        out.extend_from_slice(b"\"resultType\":\"");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\",");
        let before = out.len();
        members(out);
        if out.len() > before {
            out.push(b',');
        }
        out.extend_from_slice(b"\"_meta\":{");
        out.extend_from_slice(snapshot.server_info());
        out.push(b'}');
    });
}
