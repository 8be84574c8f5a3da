//! Topics that clients subscribe to, and the notifications of their changes
//! (<https://modelcontextprotocol.io/specification/2026-07-28/basic/patterns/subscriptions>,
//! <https://modelcontextprotocol.io/specification/2025-11-25/server/resources#subscriptions>). An event is encoded once for all subscribers.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{json::write_string, registry::List};

/// Number of events encoded since the process started.
static ENCODED: AtomicU64 = AtomicU64::new(0);

/// Number of events encoded since the process started: once for all subscribers, or for each one.
#[must_use]
pub fn events_encoded() -> u64 {
    ENCODED.load(Ordering::Relaxed)
}

/// A resource, a list or a task that may change. The first byte of the string is the kind. Clones share the string.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(Arc<str>);

impl Topic {
    /// The topic of a resource, by its URI.
    #[must_use]
    pub fn resource(uri: &str) -> Self {
        Self(format!("r{uri}").into())
    }

    /// The topic of a list.
    #[must_use]
    pub fn list(list: List) -> Self {
        Self(format!("l{}", list_method(list)).into())
    }

    /// The topic of a task, by its id.
    #[must_use]
    pub fn task(id: &str) -> Self {
        Self(format!("t{id}").into())
    }

    /// Whether this is a list. The names of other topics come from clients.
    #[must_use]
    pub fn is_list(&self) -> bool {
        self.0.starts_with('l')
    }

    /// Size of the URI or task id in bytes; 0 for a list, whose name does not come from a client.
    #[must_use]
    pub fn client_bytes(&self) -> usize {
        if self.is_list() { 0 } else { self.0.len() - 1 }
    }

    /// The URI of a resource; `None` for other topics.
    #[must_use]
    pub fn as_resource(&self) -> Option<&str> {
        self.0.strip_prefix('r')
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0.get(1..).unwrap_or_default())
    }
}

fn list_method(list: List) -> &'static str {
    match list {
        List::Tools => "notifications/tools/list_changed",
        List::Resources | List::Templates => "notifications/resources/list_changed",
        List::Prompts => "notifications/prompts/list_changed",
    }
}

/// A notification of a change, encoded once for all subscribers.
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    topic: Topic,
    method: &'static str,
    /// Length of the encoded members of `params` in `modern`.
    params_bytes: usize,
    /// The message of revision 2026-07-28, up to the subscription id.
    modern: Vec<u8>,
    /// The whole message of legacy revisions; empty where they have no such notification.
    legacy: Vec<u8>,
}

/// The bytes between the method and the members of `params`.
const PARAMS: &[u8] = b",\"params\":{";

fn start_of(method: &str) -> String {
    format!("{{\"jsonrpc\":\"2.0\",\"method\":\"{method}\"")
}

/// The bytes after the subscription id: the ends of `_meta`, `params` and the message.
const MODERN_END: &[u8] = b"}}}";
const SUBSCRIPTION_ID: &str = "\"_meta\":{\"io.modelcontextprotocol/subscriptionId\":";

impl Event {
    /// The event of a changed resource.
    #[must_use]
    pub fn resource_updated(uri: &str) -> Self {
        let mut params = b"\"uri\":".to_vec();
        write_string(&mut params, uri);
        Self::new(Topic::resource(uri), "notifications/resources/updated", &params)
    }

    /// The event of a changed list.
    #[must_use]
    pub fn list_changed(list: List) -> Self {
        Self::new(Topic::list(list), list_method(list), b"")
    }

    /// The event of a changed task (SEP-2663, `notifications/tasks`). `write` appends the members of the task, without braces, which
    /// have about `length` bytes.
    #[must_use]
    pub fn task_changed(id: &str, length: usize, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        const START: &[u8] = b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/tasks\",\"params\":{";
        ENCODED.fetch_add(1, Ordering::Relaxed);
        let mut modern = Vec::with_capacity(START.len() + length + 1 + SUBSCRIPTION_ID.len());
        modern.extend_from_slice(START);
        write(&mut modern);
        let params_bytes = modern.len() - START.len();
        modern.push(b',');
        modern.extend_from_slice(SUBSCRIPTION_ID.as_bytes());
        let (topic, legacy) = (Topic::task(id), Vec::new());
        Self { topic, method: "notifications/tasks", params_bytes, modern, legacy }
    }

    /// The same event, encoded again: the fallback of encoding it once for all subscribers.
    #[cold]
    #[must_use]
    pub fn encoded_again(&self) -> Self {
        let params = self.modern.get(start_of(self.method).len() + PARAMS.len()..).unwrap_or_default();
        let again =
            Self::new(self.topic.clone(), self.method, params.get(..self.params_bytes).unwrap_or_default());
        if self.legacy.is_empty() { Self { legacy: Vec::new(), ..again } } else { again }
    }

    fn new(topic: Topic, method: &'static str, params: &[u8]) -> Self {
        ENCODED.fetch_add(1, Ordering::Relaxed);
        let start = start_of(method).into_bytes();
        let mut modern = start.clone();
        modern.extend_from_slice(PARAMS);
        modern.extend_from_slice(params);
        if !params.is_empty() {
            modern.push(b',');
        }
        modern.extend_from_slice(SUBSCRIPTION_ID.as_bytes());
        let mut legacy = start;
        if !params.is_empty() {
            legacy.extend_from_slice(PARAMS);
            legacy.extend_from_slice(params);
            legacy.push(b'}');
        }
        legacy.push(b'}');
        Self { topic, method, params_bytes: params.len(), modern, legacy }
    }

    /// The topic that has changed.
    #[must_use]
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Appends the message for the subscription with this id, which is JSON; `None` for a legacy session, which has no
    /// subscription ids.
    pub fn write(&self, out: &mut Vec<u8>, subscription: Option<&[u8]>) {
        match subscription {
            Some(id) => {
                out.extend_from_slice(&self.modern);
                out.extend_from_slice(id);
                out.extend_from_slice(MODERN_END);
            }
            None => out.extend_from_slice(&self.legacy),
        }
    }
}

/// Appends the result that ends the subscription with this id, which is JSON
/// (<https://modelcontextprotocol.io/specification/2026-07-28/basic/patterns/subscriptions>).
pub fn write_listen_ended(out: &mut Vec<u8>, id: &[u8]) {
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    out.extend_from_slice(id);
    out.extend_from_slice(b",\"result\":{\"resultType\":\"complete\",");
    out.extend_from_slice(SUBSCRIPTION_ID.as_bytes());
    out.extend_from_slice(id);
    out.extend_from_slice(b"}}}");
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn written(event: &Event, subscription: Option<&[u8]>) -> Value {
        let mut out = Vec::new();
        event.write(&mut out, subscription);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn event_that_is_encoded_again_is_the_same() {
        let before = events_encoded();
        for event in [
            Event::resource_updated("test://\"a\""),
            Event::list_changed(List::Tools),
            Event::task_changed("t", 12, |out| out.extend_from_slice(b"\"taskId\":\"t\"")),
        ] {
            assert_eq!(event.encoded_again(), event);
        }
        assert!(events_encoded() >= before + 6);
    }

    #[test]
    fn event_carries_the_subscription_id_with_its_type() {
        let event = Event::resource_updated("test://\"a\"");
        let expected = |id: Value| {
            json!({"jsonrpc": "2.0", "method": "notifications/resources/updated",
                   "params": {"uri": "test://\"a\"", "_meta": {"io.modelcontextprotocol/subscriptionId": id}}})
        };
        assert_eq!(written(&event, Some(b"7")), expected(json!(7)));
        assert_eq!(written(&event, Some(b"\"7\"")), expected(json!("7")));
        assert_eq!(
            written(&event, None),
            json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": "test://\"a\""}})
        );
        let list = Event::list_changed(List::Templates);
        assert_eq!(
            written(&list, None),
            json!({"jsonrpc": "2.0", "method": "notifications/resources/list_changed"})
        );
        assert_eq!(list.topic(), &Topic::list(List::Resources));
    }
}
