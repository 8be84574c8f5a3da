//! The channel from a running call to its client: progress, log messages, requests to the client, becoming a task.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    time::Duration,
};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    capability::{Capabilities, Capability},
    error::AskError,
    input::{InputRequest, Question},
    level::Level,
    revision::Revision,
};
use crate::config::{Limits, SchemaLimits};

/// A message of a running call to its shard.
#[derive(Clone, Debug, PartialEq)]
pub enum CallMessage {
    /// A notification for the client: a whole JSON-RPC message.
    Message(Vec<u8>),
    /// A request to the client; the response is passed to [`ClientChannel::answer`].
    Ask {
        /// Identifies the request within the call.
        key: String,
        /// The request.
        request: InputRequest,
    },
    /// Closes the reply's stream, not the call; the client reconnects for the rest
    /// (<https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#resumability-and-redelivery>).
    Disconnect {
        /// The reconnection time that the client is given.
        retry: Duration,
    },
    /// The call becomes a task.
    Task(TaskTerms),
    /// An answer of the client was refused, because its validation takes more work than allowed.
    AnswerRefused,
}

/// The terms of a task that a call becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskTerms {
    /// Time to live of the task, from its creation; `None` is the server's default.
    pub ttl: Option<Duration>,
    /// The interval at which clients should poll the task.
    pub poll_interval: Duration,
}

/// How a request of a call reaches the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElicitationMode {
    /// Not at all, for this reason.
    Unsupported(&'static str),
    /// The call ends with an `input_required` result and starts again with the answer
    /// (<https://modelcontextprotocol.io/specification/2026-07-28/basic/patterns/mrtr>).
    Retry,
    /// The call stays in flight and waits for the answer.
    Await,
}

/// The parts of a request that its channel needs.
#[derive(Clone, Debug)]
pub struct CallDetails {
    /// The progress token, as JSON.
    pub progress_token: Option<Box<str>>,
    /// The lowest level of log messages that the client gets; `None` is no messages.
    pub log_level: Option<Level>,
    /// How the call can send requests to the client.
    pub elicitation: ElicitationMode,
    /// Answers to the requests of earlier rounds, by key.
    pub answers: BTreeMap<String, Value>,
    /// The extensions the client declared, with their settings.
    pub extensions: Map<String, Value>,
    /// Limits of the schemas of forms.
    pub schema_limits: SchemaLimits,
    /// The call becomes a task on these terms before its handler begins.
    pub task: Option<TaskTerms>,
}

impl Default for CallDetails {
    fn default() -> Self {
        Self {
            progress_token: None,
            log_level: None,
            elicitation: ElicitationMode::Unsupported("this request cannot wait for it"),
            answers: BTreeMap::new(),
            extensions: Map::new(),
            schema_limits: Limits::default().schema(),
            task: None,
        }
    }
}

/// Sends a message to the shard; `false` when there is no room for it.
pub type MessageSender = Box<dyn Fn(CallMessage) -> bool + Send + Sync>;

/// Counts the handlers that hold a thread while they wait for their client.
pub trait WaitGauge: Send + Sync {
    /// A handler begins to wait; `false` at the limit, and then it is not counted.
    fn begin(&self) -> bool;

    /// A handler that was counted no longer waits.
    fn end(&self);
}

/// One counted wait; ends when it is dropped.
struct Waiting<'a>(&'a dyn WaitGauge);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// The destination of the messages of a call.
enum Sink {
    /// A buffer, for an inline call: the messages are taken when it has returned.
    Buffer(Mutex<Vec<CallMessage>>),
    /// The queue of the shard, for any other call.
    Queue(MessageSender),
}

/// The channel between one call and its client, shared by the call's context, the table of calls in flight and the code that runs the handler.
pub struct ClientChannel {
    revision: Revision,
    capabilities: Capabilities,
    progress_token: Option<Box<str>>,
    log_level: Option<Level>,
    extensions: Map<String, Value>,
    schema_limits: SchemaLimits,
    sink: Sink,
    /// Counts a blocking handler, which occupies a thread while it waits; `None` for others.
    wait_gauge: Option<Arc<dyn WaitGauge>>,
    state: Mutex<ChannelState>,
}

struct ChannelState {
    elicitation: ElicitationMode,
    /// The last progress that was sent.
    progress: f64,
    /// Number of requests so far, for their default keys.
    questions: u32,
    answers: BTreeMap<String, Value>,
    /// Requests that end the call in [`ElicitationMode::Retry`], by key.
    unanswered: BTreeMap<String, InputRequest>,
    /// Wakers of the requests that wait for an answer, by key.
    waiting: BTreeMap<String, Option<Waker>>,
    /// The call has been detached from its client: messages are dropped, and requests fail.
    ended: bool,
}

impl std::fmt::Debug for ClientChannel {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ClientChannel").field("revision", &self.revision).finish_non_exhaustive()
    }
}

impl ClientChannel {
    /// The channel of an inline call, whose messages are buffered until [`Self::take_buffered`].
    #[must_use]
    pub fn buffered(revision: Revision, capabilities: Capabilities, details: CallDetails) -> Self {
        Self::new(revision, capabilities, details, Sink::Buffer(Mutex::default()))
    }

    /// The channel of a call whose messages go through `sender`.
    #[must_use]
    pub fn queued(
        revision: Revision,
        capabilities: Capabilities,
        details: CallDetails,
        sender: MessageSender,
    ) -> Self {
        Self::new(revision, capabilities, details, Sink::Queue(sender))
    }

    /// The same for a handler that occupies a thread while it waits for an answer: `gauge` counts it for that time.
    #[must_use]
    pub fn with_wait_gauge(self, gauge: Arc<dyn WaitGauge>) -> Self {
        Self { wait_gauge: Some(gauge), ..self }
    }

    fn new(revision: Revision, capabilities: Capabilities, details: CallDetails, sink: Sink) -> Self {
        let state = ChannelState {
            elicitation: details.elicitation,
            progress: f64::NEG_INFINITY,
            questions: 0,
            answers: details.answers,
            unanswered: BTreeMap::new(),
            waiting: BTreeMap::new(),
            ended: false,
        };
        Self {
            revision,
            capabilities,
            progress_token: details.progress_token,
            log_level: details.log_level,
            extensions: details.extensions,
            schema_limits: details.schema_limits,
            sink,
            wait_gauge: None,
            state: Mutex::new(state),
        }
    }

    fn lock(&self) -> MutexGuard<'_, ChannelState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, message: CallMessage) -> bool {
        match &self.sink {
            Sink::Buffer(messages) => {
                messages.lock().unwrap_or_else(PoisonError::into_inner).push(message);
                true
            }
            Sink::Queue(sender) => sender(message),
        }
    }

    fn notify(&self, method: &str, params: &Value) {
        let message = json!({"jsonrpc": "2.0", "method": method, "params": params});
        // If the queue is full, the notification is dropped: a handler must not wait here.
        self.send(CallMessage::Message(message.to_string().into_bytes()));
    }

    /// Takes the messages of an inline call.
    #[must_use]
    pub fn take_buffered(&self) -> Vec<CallMessage> {
        match &self.sink {
            Sink::Buffer(messages) => {
                std::mem::take(&mut messages.lock().unwrap_or_else(PoisonError::into_inner))
            }
            Sink::Queue(_) => Vec::new(),
        }
    }

    /// Sends a progress notification, if the request has a progress token and `progress` is more than before
    /// (<https://modelcontextprotocol.io/specification/2026-07-28/basic/patterns/progress>).
    pub(super) fn progress(&self, progress: f64, total: Option<f64>, message: Option<&str>) {
        let Some(token) = &self.progress_token else { return };
        {
            let mut state = self.lock();
            if state.ended || !progress.is_finite() || progress <= state.progress {
                return;
            }
            state.progress = progress;
        }
        let mut params = Map::new();
        // The token was encoded as JSON when the request was received.
        params.insert("progressToken".into(), serde_json::from_str(token).unwrap_or_default());
        params.insert("progress".into(), number(progress));
        if let Some(total) = total.filter(|total| total.is_finite()) {
            params.insert("total".into(), number(total));
        }
        if let Some(message) = message.filter(|_| self.revision >= Revision::V2025_03_26) {
            params.insert("message".into(), message.into());
        }
        self.notify("notifications/progress", &Value::Object(params));
    }

    /// Whether a log message of this level would be sent.
    pub(super) fn logs(&self, level: Level) -> bool {
        self.log_level.is_some_and(|least| level >= least)
    }

    /// Sends a log message, if the client receives messages of this level
    /// (<https://modelcontextprotocol.io/specification/2026-07-28/server/utilities/logging>).
    pub(super) fn log(&self, level: Level, logger: Option<&str>, data: &(impl Serialize + ?Sized)) {
        if !self.logs(level) || self.lock().ended {
            return;
        }
        let mut params = Map::new();
        params.insert("level".into(), level.as_str().into());
        if let Some(logger) = logger {
            params.insert("logger".into(), logger.into());
        }
        // A value that serde cannot write is sent as null.
        params.insert("data".into(), serde_json::to_value(data).unwrap_or_default());
        self.notify("notifications/message", &Value::Object(params));
    }

    /// Closes the reply's stream before the call has ended.
    pub(super) fn disconnect(&self, retry: Duration) {
        self.send(CallMessage::Disconnect { retry });
    }

    /// The settings of an extension, if the client declared it.
    pub(super) fn extension(&self, id: &str) -> Option<&Value> {
        self.extensions.get(id)
    }

    /// Makes the call a task, if the client declared the tasks extension. Returns whether the call is a task now.
    ///
    /// # Errors
    /// When the shard's queue of messages is full.
    pub fn become_task(&self, terms: TaskTerms) -> Result<bool, AskError> {
        if !self.capabilities.has(Capability::Tasks) || !self.revision.is_modern() {
            return Ok(false);
        }
        if !self.send(CallMessage::Task(terms)) {
            return Err(AskError::NoAnswer);
        }
        // A task can wait: its client polls it and answers with `tasks/update`.
        self.lock().elicitation = ElicitationMode::Await;
        Ok(true)
    }

    /// Sends a request to the client and waits for the answer, as [`ElicitationMode`] describes.
    pub(super) async fn ask<Q: Question>(&self, question: Q) -> Result<Q::Answer, AskError> {
        if let Some(needed) = question.needs().filter(|needed| !self.capabilities.has(*needed)) {
            return Err(AskError::Unsupported(needed));
        }
        let key = {
            let mut state = self.lock();
            state.questions += 1;
            question.key().map_or_else(|| format!("question-{}", state.questions), str::to_owned)
        };
        let mut is_asked = false;
        // Counted from the first poll that waits until this future ends, on any thread.
        let mut waiting = None;
        poll_fn(|context| {
            let mut state = self.lock();
            match state.elicitation {
                ElicitationMode::Unsupported(why) => return Poll::Ready(Err(AskError::CannotWait(why))),
                ElicitationMode::Retry => {
                    match state.answers.get(&key).map(|answer| self.read(&question, answer)) {
                        // A malformed answer is asked for again.
                        None | Some(Err(AskError::Malformed)) => {}
                        Some(answer) => return Poll::Ready(answer),
                    }
                    if question.needs().is_none() {
                        return Poll::Ready(Err(AskError::CannotWait("this revision knows no such request")));
                    }
                    // The runtime checks `has_unanswered` after each poll, and then ends the call.
                    state
                        .unanswered
                        .entry(key.clone())
                        .or_insert_with(|| question.request(self.revision, &key));
                    return Poll::Pending;
                }
                ElicitationMode::Await => {}
            }
            if let Some(answer) = state.answers.remove(&key) {
                state.waiting.remove(&key);
                return Poll::Ready(self.read(&question, &answer));
            }
            if state.ended {
                return Poll::Ready(Err(AskError::NoAnswer));
            }
            if let (Some(gauge), None) = (self.wait_gauge.as_deref(), &waiting) {
                if !gauge.begin() {
                    return Poll::Ready(Err(AskError::CannotWait(
                        "as many blocking handlers as may (blocking_waiting_max) wait for their clients",
                    )));
                }
                waiting = Some(Waiting(gauge));
            }
            state.waiting.insert(key.clone(), Some(context.waker().clone()));
            drop(state);
            if !std::mem::replace(&mut is_asked, true) {
                let request = question.request(self.revision, &key);
                if !self.send(CallMessage::Ask { key: key.clone(), request }) {
                    return Poll::Ready(Err(AskError::NoAnswer));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Reads the client's answer to a question. One that is refused for the work of its validation is reported to the shard.
    fn read<Q: Question>(&self, question: &Q, answer: &Value) -> Result<Q::Answer, AskError> {
        if let Some(error) = answer.get(ERROR) {
            return Err(AskError::Refused {
                code: error.get("code").and_then(Value::as_i64).unwrap_or_default(),
                message: error.get("message").and_then(Value::as_str).unwrap_or_default().to_owned(),
            });
        }
        if let Some(answer) = question.read(answer, &self.schema_limits) {
            return Ok(answer);
        }
        if question.exceeds_limits(answer, &self.schema_limits) {
            self.send(CallMessage::AnswerRefused);
            return Err(AskError::BudgetExceeded);
        }
        Err(AskError::Malformed)
    }

    /// Takes the requests that end the call in [`ElicitationMode::Retry`].
    #[must_use]
    pub fn take_unanswered(&self) -> BTreeMap<String, InputRequest> {
        std::mem::take(&mut self.lock().unanswered)
    }

    /// Whether there are requests that end the call.
    #[must_use]
    pub fn has_unanswered(&self) -> bool {
        !self.lock().unanswered.is_empty()
    }

    /// All answers so far, by key: for the state of the next round.
    #[must_use]
    pub fn answers(&self) -> BTreeMap<String, Value> {
        self.lock().answers.clone()
    }

    /// Passes the client's answer to the request with this key: the result, or an error's code and message. `false` if no such
    /// request waits.
    pub fn answer(&self, key: &str, answer: Result<Value, (i64, String)>) -> bool {
        let mut state = self.lock();
        let Some(waker) = state.waiting.remove(key) else { return false };
        let answer = match answer {
            Ok(value) => value,
            Err((code, message)) => json!({ERROR: {"code": code, "message": message}}),
        };
        state.answers.insert(key.to_owned(), answer);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Detaches the call from its client: further messages are dropped, and requests fail with [`AskError::NoAnswer`].
    pub fn close(&self) {
        let mut state = self.lock();
        state.ended = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_values().flatten().for_each(Waker::wake);
    }
}

/// Member of an answer that holds the client's error; no result has a member of this name.
const ERROR: &str = "\u{0}error";

/// A number as JSON, without a fraction if it is whole.
fn number(value: f64) -> Value {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    #[allow(clippy::cast_possible_truncation, reason = "whole and at most 2^53")]
    if value.fract() == 0.0 && value.abs() <= EXACT_MAX { (value as i64).into() } else { value.into() }
}
