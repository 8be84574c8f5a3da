//! Tasks, and requests about them (SEP-2663).

use std::{
    collections::BTreeMap,
    time::{Duration, UNIX_EPOCH},
};

use serde_json::{Value, json};

use crate::mcp::model::method::RpcMethod;
use crate::{
    call::InputRequest,
    json::{write_string, write_unsigned},
    signed_token::{SigningKey, TokenKind},
};

/// Identifies a task: its shard, its slot, and its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TaskKey {
    /// The shard that owns the task.
    pub shard: u16,
    /// Index of the slot.
    pub index: u32,
    /// Generation of the slot.
    pub generation: u32,
    /// Random number that differs between processes.
    pub nonce: u64,
}

impl TaskKey {
    /// The task id as sent to clients: signed, so that it cannot be guessed.
    #[must_use]
    pub fn sign(self, signing_key: &SigningKey) -> String {
        let mut payload = self.shard.to_le_bytes().to_vec();
        payload.extend_from_slice(&self.index.to_le_bytes());
        payload.extend_from_slice(&self.generation.to_le_bytes());
        payload.extend_from_slice(&self.nonce.to_le_bytes());
        signing_key.sign(TokenKind::Task, &payload, &[])
    }

    /// Verifies a task id; `None` where this server did not sign it.
    #[must_use]
    pub fn verify(text: &str, signing_key: &SigningKey) -> Option<Self> {
        let payload = signing_key.verify(TokenKind::Task, text.as_bytes(), &[])?;
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

/// A request about a task, for the shard that owns it.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskRequest {
    /// The task.
    pub key: TaskKey,
    /// The action.
    pub action: TaskAction,
}

/// The action of a request about a task.
#[derive(Clone, Debug, PartialEq)]
pub enum TaskAction {
    /// Returns the status.
    Get,
    /// Answers input requests, by their keys.
    Update(BTreeMap<String, Value>),
    /// Cancels the task.
    Cancel,
}

impl TaskAction {
    /// The method of the request.
    #[must_use]
    pub fn method(&self) -> RpcMethod {
        match self {
            Self::Get => RpcMethod::TasksGet,
            Self::Update(_) => RpcMethod::TasksUpdate,
            Self::Cancel => RpcMethod::TasksCancel,
        }
    }
}

/// The status of a task.
#[derive(Clone, Debug, PartialEq)]
pub enum TaskStatus {
    /// The call is running.
    Working,
    /// The call waits for answers to these requests.
    InputRequired(BTreeMap<String, InputRequest>),
    /// The call returned this result: the members of an object, without braces.
    Completed(Vec<u8>),
    /// The call failed with this JSON-RPC error object.
    Failed(Vec<u8>),
    /// The task was cancelled.
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

    /// Whether the status is final.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Completed(_) | Self::Failed(_) | Self::Cancelled)
    }
}

/// A task as sent to clients.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskView {
    /// The task id.
    pub id: String,
    /// The status.
    pub status: TaskStatus,
    /// Time of creation, since the Unix epoch.
    pub created: Duration,
    /// Time of the last change, since the Unix epoch.
    pub updated: Duration,
    /// Time to live since the creation; `None` is unlimited.
    pub ttl: Option<Duration>,
    /// Interval at which clients should poll.
    pub poll_interval: Duration,
}

/// Length of the members of a task beside its result or error, in bytes, and more.
const MEMBERS_BYTES: usize = 512;

impl TaskView {
    /// About the number of bytes that [`TaskView::write`] appends.
    #[must_use]
    pub fn length(&self) -> usize {
        match &self.status {
            TaskStatus::Completed(text) | TaskStatus::Failed(text) => text.len() + MEMBERS_BYTES,
            TaskStatus::InputRequired(_) | TaskStatus::Working | TaskStatus::Cancelled => MEMBERS_BYTES,
        }
    }

    /// Appends the members without braces; with the input requests, the result or the error if `detailed`.
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
        for (name, time) in [("createdAt", self.created), ("lastUpdatedAt", self.updated)] {
            member(
                name,
                &humantime_serde::re::humantime::format_rfc3339_millis(UNIX_EPOCH + time).to_string(),
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
            TaskStatus::InputRequired(requests) => {
                let requests: Value = requests
                    .iter()
                    .map(|(key, request)| {
                        (key.clone(), json!({"method": request.method, "params": request.params}))
                    })
                    .collect();
                out.extend_from_slice(b",\"inputRequests\":");
                out.extend_from_slice(requests.to_string().as_bytes());
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
