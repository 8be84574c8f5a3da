//! `subscriptions/listen` (<https://modelcontextprotocol.io/specification/2026-07-28/basic/patterns/subscriptions>).

use std::collections::HashSet;

use foldhash::fast::RandomState;

use crate::mcp::{
    envelope::client::Client,
    envelope::era::Params,
    error::{ErrorKind, RequestError, missing_capability},
    model::events::Topic,
    outcome::{Outcome, SubscriptionRequest},
    router_context::RouterContext,
};
use crate::{
    call::Capability,
    config::Limits,
    json::{Node, write_string},
    jsonrpc::{Id, write_id},
    registry::{List, Lists},
};

/// Handles `subscriptions/listen`.
pub(crate) fn listen<'a>(
    context: &RouterContext<'a, '_>,
    client: &Client<'a>,
    id: Id<'_>,
    params: &Params<'a>,
) -> Result<Outcome<'a>, RequestError> {
    let RouterContext { snapshot, limits, .. } = *context;
    let invalid = |message: &'static str| RequestError::new(ErrorKind::InvalidMethodParams, message);
    let filter = params
        .get("notifications")
        .filter(|filter| filter.is_object())
        .ok_or_else(|| invalid("params.notifications must be an object"))?;
    let is_present = |node: &Node<'_>| !node.is_null();
    let mut lists = Lists::default();
    for (name, list) in [
        ("toolsListChanged", List::Tools),
        ("promptsListChanged", List::Prompts),
        ("resourcesListChanged", List::Resources),
    ] {
        match filter.get(name).filter(is_present).map(|value| value.as_bool()) {
            None | Some(Some(false)) => {}
            // A list that is not offered is left out of the acknowledgment.
            Some(Some(true)) if snapshot.offers(list) => lists = lists.with(list),
            Some(Some(true)) => {}
            Some(None) => return Err(invalid("a filter of params.notifications must be a boolean")),
        }
    }
    let uris_max = limits.subscription_topics_max;
    let texts = |name: &str, message: &'static str| -> Result<Vec<String>, RequestError> {
        let Some(listed) = filter.get(name).filter(is_present) else { return Ok(Vec::new()) };
        let elements = listed.elements().ok_or_else(|| invalid(message))?;
        let mut texts = Vec::with_capacity(elements.len().min(uris_max));
        let mut seen = HashSet::with_hasher(RandomState::default());
        for element in elements {
            let text = element.as_str().ok_or_else(|| invalid(message))?;
            if seen.insert(text) {
                if texts.len() >= uris_max {
                    return Err(RequestError::new(
                        ErrorKind::TooManySubscriptions,
                        "Too many subscriptions in one request",
                    ));
                }
                check_length(text, limits)?;
                texts.push(text.to_owned());
            }
        }
        Ok(texts)
    };
    let mut uris = texts("resourceSubscriptions", "resourceSubscriptions must be a list of URIs")?;
    if !snapshot.offers(List::Resources) {
        uris.clear();
    }
    let tasks = texts("taskIds", "taskIds must be a list of texts")?;
    if !tasks.is_empty() && !client.capabilities.has(Capability::Tasks) {
        return Err(missing_capability(Capability::Tasks));
    }
    let acknowledged = acknowledgement(id, lists, &uris, &tasks);
    let topics = lists
        .iter()
        .map(Topic::list)
        .chain(uris.iter().map(|uri| Topic::resource(uri)))
        .chain(tasks.iter().map(|id| Topic::task(id)));
    Ok(Outcome::Listen(SubscriptionRequest { id: id.to_owned(), topics: topics.collect(), acknowledged }))
}

/// The first message of the stream: what of the request is subscribed to.
fn acknowledgement(id: Id<'_>, lists: Lists, uris: &[String], tasks: &[String]) -> Vec<u8> {
    let mut acknowledged =
        b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\",\"params\":{\
                             \"_meta\":{\"io.modelcontextprotocol/subscriptionId\":"
            .to_vec();
    write_id(&mut acknowledged, id);
    acknowledged.extend_from_slice(b"},\"notifications\":{");
    let mut is_first = true;
    let mut member = |acknowledged: &mut Vec<u8>, name: &str| {
        if !std::mem::replace(&mut is_first, false) {
            acknowledged.push(b',');
        }
        write_string(acknowledged, name);
        acknowledged.push(b':');
    };
    for list in lists.iter() {
        let name = match list {
            List::Tools => "toolsListChanged",
            List::Prompts => "promptsListChanged",
            List::Resources | List::Templates => "resourcesListChanged",
        };
        member(&mut acknowledged, name);
        acknowledged.extend_from_slice(b"true");
    }
    for (name, texts) in [("resourceSubscriptions", uris), ("taskIds", tasks)] {
        if !texts.is_empty() {
            member(&mut acknowledged, name);
            acknowledged.extend_from_slice(serde_json::json!(texts).to_string().as_bytes());
        }
    }
    acknowledged.extend_from_slice(b"}}}");
    acknowledged
}

/// Checks the length of a URI or task id.
///
/// Errors if it exceeds `limits.subscription_uri_bytes_max`.
pub(crate) fn check_length(topic: &str, limits: &Limits) -> Result<(), RequestError> {
    if topic.len() <= limits.subscription_uri_bytes_max {
        return Ok(());
    }
    let message = "a URI or a task id has more bytes than limits.subscription_uri_bytes_max";
    Err(RequestError::new(ErrorKind::InvalidMethodParams, message))
}
