//! A task, and what is asked of it.

use std::{
    collections::BTreeMap,
    time::{Duration, UNIX_EPOCH},
};

use serde_json::{Value, json};

use crate::mcp::model::method::CallMethod;
use crate::{
    json::{write_string, write_unsigned},
    registry::InputRequest,
    signed_token::{Purpose, Secret},
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
