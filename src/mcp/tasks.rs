//! The tasks extension (SEP-2663; checklist ): reading its requests, writing its results.

use std::{
    collections::BTreeMap,
    time::{Duration, UNIX_EPOCH},
};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    era::{Client, Params, Refusal},
    outcome::{CallMethod, Outcome, Refused},
    router::refuse,
    subscriptions::missing_capability,
};
use crate::{
    json::{Node, write_string, write_unsigned},
    jsonrpc::{Id, begin_result, finish_result},
    registry::{Capability, InputRequest, Snapshot},
    seal::{Purpose, Secret},
};

/// Names a task: who keeps it, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TaskKey {
    /// The shard that keeps it.
    pub shard: u16,
    /// Its place there.
    pub index: u32,
    /// Which of the tasks that had this place.
    pub generation: u32,
    /// What tells it from the tasks of another process.
    pub nonce: u64,
}

impl TaskKey {
    /// The id on the wire: signed, so that nobody guesses one.
    #[must_use]
    pub fn seal(self, secret: &Secret) -> String {
        let mut payload = self.shard.to_le_bytes().to_vec();
        payload.extend_from_slice(&self.index.to_le_bytes());
        payload.extend_from_slice(&self.generation.to_le_bytes());
        payload.extend_from_slice(&self.nonce.to_le_bytes());
        secret.seal(Purpose::Task, &payload, &[])
    }

    /// The task an id of this server's names.
    #[must_use]
    pub fn open(text: &str, secret: &Secret) -> Option<Self> {
        let payload = secret.open(Purpose::Task, text.as_bytes(), &[])?;
        let (shard, rest) = payload.split_first_chunk()?;
        let (index, rest) = rest.split_first_chunk()?;
        let (generation, rest) = rest.split_first_chunk()?;
        let (nonce, rest) = rest.split_first_chunk()?;
        rest.is_empty().then_some(Self {
            shard: u16::from_le_bytes(*shard),
            index: u32::from_le_bytes(*index),
            generation: u32::from_le_bytes(*generation),
            nonce: u64::from_le_bytes(*nonce),
        })
    }
}

/// What is asked of a task's keeper.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskRequest {
    /// Which task.
    pub key: TaskKey,
    /// What to do with it.
    pub action: TaskAction,
}

/// What is to be done with a task.
#[derive(Clone, Debug, PartialEq)]
pub enum TaskAction {
    /// Tell how it is.
    Get,
    /// Bring it answers to its questions.
    Update(BTreeMap<String, Value>),
    /// Give it up.
    Cancel,
}

impl TaskAction {
    /// The method that asks for it.
    #[must_use]
    pub fn method(&self) -> CallMethod {
        match self {
            Self::Get => CallMethod::TasksGet,
            Self::Update(_) => CallMethod::TasksUpdate,
            Self::Cancel => CallMethod::TasksCancel,
        }
    }
}

/// Reads `tasks/get`, `tasks/update` and `tasks/cancel`.
pub(super) fn request<'a>(
    method: CallMethod,
    secret: &Secret,
    client: &Client<'a>,
    id: Id<'a>,
    params: &Params<'a>,
    out: &mut Vec<u8>,
) -> Outcome<'a> {
    match read(method, secret, client, params) {
        Ok(request) => Outcome::Task(id, request),
        Err(refusal) => refuse(out, Some(id), client.revision, method, refusal),
    }
}

fn read(
    method: CallMethod,
    secret: &Secret,
    client: &Client<'_>,
    params: &Params<'_>,
) -> Result<TaskRequest, Refusal> {
    let invalid = |told: &'static str| Refusal::new(Refused::InvalidMethodParams, told);
    if !client.capabilities.has(Capability::Tasks) {
        return Err(missing_capability(Capability::Tasks));
    }
    let id = params
        .get("taskId")
        .and_then(Node::as_str)
        .ok_or_else(|| invalid("params.taskId must be a string"))?;
    let key = TaskKey::open(id, secret).ok_or_else(unknown_task)?;
    let action = match method {
        CallMethod::TasksUpdate => {
            let answers = params.input_responses.and_then(Node::members);
            let answers = answers.ok_or_else(|| invalid("params.inputResponses must be an object"))?;
            let read = |(key, answer): (&str, Node<'_>)| {
                let answer = Some(answer).filter(|answer| answer.is_object())?;
                Some((key.to_owned(), Value::deserialize(answer).ok()?))
            };
            let answers: Option<BTreeMap<String, Value>> = answers.map(read).collect();
            TaskAction::Update(answers.ok_or_else(|| invalid("an input response must be an object"))?)
        }
        CallMethod::TasksCancel => TaskAction::Cancel,
        _ => TaskAction::Get,
    };
    Ok(TaskRequest { key, action })
}

fn unknown_task() -> Refusal {
    Refusal::new(Refused::UnknownTask, "Unknown task")
}

/// Refuses a request about a task that is not kept here any more.
pub fn write_unknown_task(out: &mut Vec<u8>, id: Id<'_>, method: CallMethod) -> Outcome<'static> {
    refuse(out, Some(id), crate::registry::Revision::V2026_07_28, method, unknown_task())
}

/// How a task is.
#[derive(Clone, Debug, PartialEq)]
pub enum TaskStatus {
    /// It runs.
    Working,
    /// It waits for answers to these questions.
    InputRequired(BTreeMap<String, InputRequest>),
    /// It has ended with this result: an object's members, without braces.
    Completed(Vec<u8>),
    /// It has ended with this error: a JSON-RPC error object.
    Failed(Vec<u8>),
    /// It was given up.
    Cancelled,
}

impl TaskStatus {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Working => "working",
            Self::InputRequired(_) => "input_required",
            Self::Completed(_) => "completed",
            Self::Failed(_) => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether it will not change any more.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Completed(_) | Self::Failed(_) | Self::Cancelled)
    }
}

/// A task, as clients see it.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskView {
    /// Its id.
    pub id: String,
    /// How it is.
    pub status: TaskStatus,
    /// Since when it is there, from 1970.
    pub created: Duration,
    /// When it last changed, from 1970.
    pub updated: Duration,
    /// How long it is kept from its creation; without end if `None`.
    pub ttl: Option<Duration>,
    /// How often a client should ask.
    pub poll_interval: Duration,
}

impl TaskView {
    /// Appends its members without braces; with what it asks or came to, if `detailed`.
    pub fn write(&self, out: &mut Vec<u8>, detailed: bool) {
        let milliseconds = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let mut member = |name: &str, text: &str| {
            out.push(b'"');
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
            write_string(out, text);
            out.push(b',');
        };
        member("taskId", &self.id);
        member("status", self.status.as_str());
        for (name, moment) in [("createdAt", self.created), ("lastUpdatedAt", self.updated)] {
            member(
                name,
                &humantime_serde::re::humantime::format_rfc3339_millis(UNIX_EPOCH + moment).to_string(),
            );
        }
        out.extend_from_slice(b"\"ttlMs\":");
        match self.ttl {
            Some(ttl) => write_unsigned(out, milliseconds(ttl)),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"pollIntervalMs\":");
        write_unsigned(out, milliseconds(self.poll_interval).max(1));
        if !detailed {
            return;
        }
        match &self.status {
            TaskStatus::InputRequired(asked) => {
                let asked: Value = asked
                    .iter()
                    .map(|(key, asked)| {
                        (key.clone(), json!({"method": asked.method, "params": asked.params}))
                    })
                    .collect();
                out.extend_from_slice(b",\"inputRequests\":");
                out.extend_from_slice(asked.to_string().as_bytes());
            }
            TaskStatus::Completed(members) => {
                out.extend_from_slice(b",\"result\":{");
                out.extend_from_slice(members);
                out.push(b'}');
            }
            TaskStatus::Failed(error) => {
                out.extend_from_slice(b",\"error\":");
                out.extend_from_slice(error);
            }
            TaskStatus::Working | TaskStatus::Cancelled => {}
        }
    }
}

/// Writes the answer to a call that has become a task (checklist X-03).
pub fn write_task_created(out: &mut Vec<u8>, snapshot: &Snapshot, id: Id<'_>, task: &TaskView) {
    write_task_result(out, snapshot, id, "task", |out| task.write(out, false));
}

/// Writes the answer to `tasks/get`.
pub fn write_task(out: &mut Vec<u8>, snapshot: &Snapshot, id: Id<'_>, task: &TaskView) {
    write_task_result(out, snapshot, id, "complete", |out| task.write(out, true));
}

/// Writes the answer to `tasks/update` and `tasks/cancel`: that it was heard.
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
    begin_result(out, id);
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
    finish_result(out);
}
