//! What clients subscribe to, and the notifications that tell of it (checklist M-60 to M-69, L-60, L-62). An event is
//! encoded once, whoever hears of it.

use std::fmt;

use crate::{json::write_string, registry::List};

/// Something that may change. A text, so that it can be looked up; the first letter tells its kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(Box<str>);

impl Topic {
    /// A resource, by its URI.
    #[must_use]
    pub fn resource(uri: &str) -> Self {
        Self(format!("r{uri}").into())
    }

    /// A list.
    #[must_use]
    pub fn list(list: List) -> Self {
        Self(format!("l{}", list_method(list)).into())
    }

    /// A task, by its id.
    #[must_use]
    pub fn task(id: &str) -> Self {
        Self(format!("t{id}").into())
    }

    /// Whether this is a list: the others have names that clients chose.
    #[must_use]
    pub fn is_list(&self) -> bool {
        self.0.starts_with('l')
    }

    /// The URI, if this is a resource.
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

/// A change, encoded for all who hear of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    topic: Topic,
    /// Since 2026-07-28: everything before the subscription's id.
    modern: Vec<u8>,
    /// Before it: the whole message. Empty for what is not known there.
    legacy: Vec<u8>,
}

/// Closes what [`Event::modern`] leaves open behind the id: `_meta`, `params` and the message.
const MODERN_END: &[u8] = b"}}}";
const SUBSCRIPTION_ID: &str = "\"_meta\":{\"io.modelcontextprotocol/subscriptionId\":";

impl Event {
    /// A resource has changed.
    #[must_use]
    pub fn resource_updated(uri: &str) -> Self {
        let mut params = b"\"uri\":".to_vec();
        write_string(&mut params, uri);
        Self::new(Topic::resource(uri), "notifications/resources/updated", &params)
    }

    /// A list has changed.
    #[must_use]
    pub fn list_changed(list: List) -> Self {
        Self::new(Topic::list(list), list_method(list), b"")
    }

    /// A task has: `task` is its members, without braces (checklist X-10).
    #[must_use]
    pub fn task_changed(id: &str, task: &[u8]) -> Self {
        let event = Self::new(Topic::task(id), "notifications/tasks", task);
        Self { legacy: Vec::new(), ..event }
    }

    fn new(topic: Topic, method: &str, params: &[u8]) -> Self {
        let start = format!("{{\"jsonrpc\":\"2.0\",\"method\":\"{method}\"").into_bytes();
        let mut modern = start.clone();
        modern.extend_from_slice(b",\"params\":{");
        modern.extend_from_slice(params);
        if !params.is_empty() {
            modern.push(b',');
        }
        modern.extend_from_slice(SUBSCRIPTION_ID.as_bytes());
        let mut legacy = start;
        if !params.is_empty() {
            legacy.extend_from_slice(b",\"params\":{");
            legacy.extend_from_slice(params);
            legacy.push(b'}');
        }
        legacy.push(b'}');
        Self { topic, modern, legacy }
    }

    /// What has changed.
    #[must_use]
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Appends the message for the subscription of this id; for a legacy session, which has none, the whole is the same for
    /// all.
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

/// Appends the result that ends the subscription of this id, which is JSON, in order (checklist M-66).
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
    fn m_62_an_event_carries_the_subscriptions_id_with_its_type() {
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
