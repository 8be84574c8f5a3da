//! What a call says while it runs, and what it asks: progress, log messages, questions to the client, becoming a task.

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

/// Something a call tells the server while it runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// A notification for the client: a whole JSON-RPC message.
    Message(Vec<u8>),
    /// A question for the client; its answer is brought to [`Conversation::answer`].
    Ask {
        /// What the call knows it by.
        key: String,
        /// The question.
        request: InputRequest,
    },
    /// Ends the reply's stream, not the call: the client comes back for the rest (checklist L-23).
    Disconnect {
        /// When, as a hint to the client.
        retry: Duration,
    },
    /// The call goes on as a task.
    Task(TaskTerms),
}

/// On what terms a call becomes a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskTerms {
    /// How long the task is kept, from its creation.
    pub ttl: Option<Duration>,
    /// How often a client should ask.
    pub poll_interval: Duration,
}

/// How a question reaches the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asking {
    /// Not at all, and why.
    Never(&'static str),
    /// The call ends with it, and starts again with the answer (2026-07-28).
    Replay,
    /// The call waits for the answer.
    Wait,
}

/// What a request brought along for its call.
#[derive(Clone, Debug)]
pub struct CallDetails {
    /// The token progress is reported under, as JSON.
    pub progress_token: Option<Box<str>>,
    /// The least severe log messages the client wants; none without one.
    pub log_level: Option<Level>,
    /// How the client can be asked.
    pub asking: Asking,
    /// Answers to questions of earlier rounds, by key.
    pub answers: BTreeMap<String, Value>,
    /// The extensions the client declared, with their settings.
    pub extensions: Map<String, Value>,
    /// What the schemas of forms are compiled within.
    pub schema_limits: SchemaLimits,
    /// The call becomes a task before its handler begins.
    pub task: Option<TaskTerms>,
}

impl Default for CallDetails {
    fn default() -> Self {
        Self {
            progress_token: None,
            log_level: None,
            asking: Asking::Never("this request cannot wait for it"),
            answers: BTreeMap::new(),
            extensions: Map::new(),
            schema_limits: Limits::default().schema(),
            task: None,
        }
    }
}

/// Takes a note to the shard; `false` when there is no room for it.
pub type Carrier = Box<dyn Fn(Note) -> bool + Send + Sync>;

/// Counts the handlers that hold a thread while they wait for their client.
pub trait WaitGauge: Send + Sync {
    /// A handler begins to wait; `false` when as many wait as may.
    fn begin(&self) -> bool;

    /// One that began has ended to wait.
    fn end(&self);
}

/// One wait that was counted, until it ends.
struct Waiting<'a>(&'a dyn WaitGauge);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

enum Outlet {
    /// An inline call's: kept until it has ended.
    Held(Mutex<Vec<Note>>),
    Carried(Carrier),
}

/// One call's talk with its client. Shared by the handler and whoever runs it.
pub struct Conversation {
    revision: Revision,
    capabilities: Capabilities,
    progress_token: Option<Box<str>>,
    log_level: Option<Level>,
    extensions: Map<String, Value>,
    schema_limits: SchemaLimits,
    outlet: Outlet,
    /// Of a handler that holds a thread while it waits.
    wait_gauge: Option<Arc<dyn WaitGauge>>,
    talk: Mutex<Talk>,
}

struct Talk {
    asking: Asking,
    /// The last progress that was told.
    progress: f64,
    /// Questions so far, for their numbers.
    questions: u32,
    answers: BTreeMap<String, Value>,
    /// What must be answered before the call can go on, where it is to start again.
    unanswered: BTreeMap<String, InputRequest>,
    /// Who waits for an answer.
    waiting: BTreeMap<String, Option<Waker>>,
    /// Nobody listens any more.
    ended: bool,
}

impl std::fmt::Debug for Conversation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Conversation").field("revision", &self.revision).finish_non_exhaustive()
    }
}

impl Conversation {
    /// Of a call that runs between two requests: what it says is kept, and it cannot wait.
    #[must_use]
    pub fn held(revision: Revision, capabilities: Capabilities, details: CallDetails) -> Self {
        let asking = Asking::Never("an inline handler cannot wait");
        Self::new(revision, capabilities, CallDetails { asking, ..details }, Outlet::Held(Mutex::default()))
    }

    /// Of a call whose notes are carried to its shard.
    #[must_use]
    pub fn carried(
        revision: Revision,
        capabilities: Capabilities,
        details: CallDetails,
        carrier: Carrier,
    ) -> Self {
        Self::new(revision, capabilities, details, Outlet::Carried(carrier))
    }

    /// The same, of a handler that holds a thread while it waits for an answer: `gauge` counts it meanwhile.
    #[must_use]
    pub fn with_wait_gauge(self, gauge: Arc<dyn WaitGauge>) -> Self {
        Self { wait_gauge: Some(gauge), ..self }
    }

    fn new(revision: Revision, capabilities: Capabilities, details: CallDetails, outlet: Outlet) -> Self {
        let talk = Talk {
            asking: details.asking,
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
            outlet,
            wait_gauge: None,
            talk: Mutex::new(talk),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Talk> {
        self.talk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, note: Note) -> bool {
        match &self.outlet {
            Outlet::Held(notes) => {
                notes.lock().unwrap_or_else(PoisonError::into_inner).push(note);
                true
            }
            Outlet::Carried(carrier) => carrier(note),
        }
    }

    fn notify(&self, method: &str, params: &Value) {
        let message = json!({"jsonrpc": "2.0", "method": method, "params": params});
        // Where there is no room for it, the client misses one: nothing may be waited for here.
        self.say(Note::Message(message.to_string().into_bytes()));
    }

    /// What an inline call has said.
    #[must_use]
    pub fn take_held(&self) -> Vec<Note> {
        match &self.outlet {
            Outlet::Held(notes) => std::mem::take(&mut notes.lock().unwrap_or_else(PoisonError::into_inner)),
            Outlet::Carried(_) => Vec::new(),
        }
    }

    /// Tells how far the call is. Only what is more than before is told, and only to who asked (checklist M-90).
    pub(super) fn progress(&self, progress: f64, total: Option<f64>, message: Option<&str>) {
        let Some(token) = &self.progress_token else { return };
        {
            let mut talk = self.lock();
            if talk.ended || !progress.is_finite() || progress <= talk.progress {
                return;
            }
            talk.progress = progress;
        }
        let mut params = Map::new();
        // It was JSON when it came.
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

    /// Sends a log message, if the client wants any of its level (checklist M-95).
    pub(super) fn log(&self, level: Level, logger: Option<&str>, data: &(impl Serialize + ?Sized)) {
        if !self.logs(level) || self.lock().ended {
            return;
        }
        let mut params = Map::new();
        params.insert("level".into(), level.as_str().into());
        if let Some(logger) = logger {
            params.insert("logger".into(), logger.into());
        }
        // What cannot be written is not told.
        params.insert("data".into(), serde_json::to_value(data).unwrap_or_default());
        self.notify("notifications/message", &Value::Object(params));
    }

    /// Ends the reply's stream before the call has ended.
    pub(super) fn disconnect(&self, retry: Duration) {
        self.say(Note::Disconnect { retry });
    }

    /// The settings of an extension, if the client declared it.
    pub(super) fn extension(&self, id: &str) -> Option<&Value> {
        self.extensions.get(id)
    }

    /// Makes the call a task, if the client knows tasks. Whether it is one now.
    ///
    /// # Errors
    /// When it cannot wait.
    pub fn become_task(&self, terms: TaskTerms) -> Result<bool, AskError> {
        if !self.capabilities.has(Capability::Tasks) || !self.revision.is_modern() {
            return Ok(false);
        }
        if matches!(self.outlet, Outlet::Held(_)) {
            return Err(AskError::CannotWait("an inline handler cannot become a task"));
        }
        if !self.say(Note::Task(terms)) {
            return Err(AskError::NoAnswer);
        }
        // From here on there is somebody to wait: the task.
        self.lock().asking = Asking::Wait;
        Ok(true)
    }

    /// Asks the client.
    pub(super) async fn ask<Q: Question>(&self, question: Q) -> Result<Q::Answer, AskError> {
        if let Some(needed) = question.needs().filter(|needed| !self.capabilities.has(*needed)) {
            return Err(AskError::Unsupported(needed));
        }
        let key = {
            let mut talk = self.lock();
            talk.questions += 1;
            question.key().map_or_else(|| format!("question-{}", talk.questions), str::to_owned)
        };
        let mut is_asked = false;
        // Counted from the first poll that waits to the end of the question, on any thread.
        let mut waiting = None;
        poll_fn(|context| {
            let mut talk = self.lock();
            match talk.asking {
                Asking::Never(why) => return Poll::Ready(Err(AskError::CannotWait(why))),
                Asking::Replay => {
                    let read = |answer| question.read(answer, &self.schema_limits);
                    if let Some(answer) = talk.answers.get(&key).and_then(read) {
                        return Poll::Ready(Ok(answer));
                    }
                    if question.needs().is_none() {
                        return Poll::Ready(Err(AskError::CannotWait("this revision knows no such request")));
                    }
                    // Whoever polls this sees that there is something to be asked, and ends the call with it.
                    talk.unanswered
                        .entry(key.clone())
                        .or_insert_with(|| question.request(self.revision, &key));
                    return Poll::Pending;
                }
                Asking::Wait => {}
            }
            if let Some(answer) = talk.answers.remove(&key) {
                talk.waiting.remove(&key);
                return Poll::Ready(read(&question, &answer, &self.schema_limits));
            }
            if talk.ended {
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
            talk.waiting.insert(key.clone(), Some(context.waker().clone()));
            drop(talk);
            if !std::mem::replace(&mut is_asked, true) {
                let request = question.request(self.revision, &key);
                if !self.say(Note::Ask { key: key.clone(), request }) {
                    return Poll::Ready(Err(AskError::NoAnswer));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// What must be answered before the call can go on: then it ends here, and starts again with the answers.
    #[must_use]
    pub fn take_unanswered(&self) -> BTreeMap<String, InputRequest> {
        std::mem::take(&mut self.lock().unanswered)
    }

    /// Whether there is any.
    #[must_use]
    pub fn has_unanswered(&self) -> bool {
        !self.lock().unanswered.is_empty()
    }

    /// All answers so far, for the next round.
    #[must_use]
    pub fn answers(&self) -> BTreeMap<String, Value> {
        self.lock().answers.clone()
    }

    /// Brings the answer to a question: the result, or an error as `{"code": …, "message": …}`. `false` if nobody waits for
    /// it.
    pub fn answer(&self, key: &str, answer: Result<Value, (i64, String)>) -> bool {
        let mut talk = self.lock();
        let Some(waker) = talk.waiting.remove(key) else { return false };
        let answer = match answer {
            Ok(value) => value,
            Err((code, message)) => json!({ERROR: {"code": code, "message": message}}),
        };
        talk.answers.insert(key.to_owned(), answer);
        drop(talk);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Nobody listens any more: what is said from here on is dropped, what is asked is not answered.
    pub fn end(&self) {
        let mut talk = self.lock();
        talk.ended = true;
        let waiting = std::mem::take(&mut talk.waiting);
        drop(talk);
        waiting.into_values().flatten().for_each(Waker::wake);
    }
}

/// Member under which a client's error is kept among the answers; no result has it.
const ERROR: &str = "\u{0}error";

fn read<Q: Question>(question: &Q, answer: &Value, limits: &SchemaLimits) -> Result<Q::Answer, AskError> {
    if let Some(error) = answer.get(ERROR) {
        return Err(AskError::Refused {
            code: error.get("code").and_then(Value::as_i64).unwrap_or_default(),
            message: error.get("message").and_then(Value::as_str).unwrap_or_default().to_owned(),
        });
    }
    question.read(answer, limits).ok_or(AskError::Malformed)
}

/// Whole numbers without a fraction: easier to read, and the same to JSON.
fn number(value: f64) -> Value {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    #[allow(clippy::cast_possible_truncation, reason = "whole and at most 2^53")]
    if value.fract() == 0.0 && value.abs() <= EXACT_MAX { (value as i64).into() } else { value.into() }
}
