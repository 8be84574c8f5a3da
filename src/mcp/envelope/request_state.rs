//! Calls that need input (checklist M-40 to M-49): the state a client carries from one round to the next. It holds the
//! answers so far; it is signed, expires, and is good for the same method with the same parameters only.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::mcp::outcome::RequestFingerprint;
use crate::{
    call::InputRequest,
    json::{Node, Number},
    jsonrpc::{Id, begin_result, finish_result},
    registry::Snapshot,
    signed_token::{Purpose, Secret},
};

#[derive(Serialize, Deserialize)]
struct State {
    /// When it is not good any more, in seconds since 1970.
    expires: u64,
    answers: BTreeMap<String, Value>,
}

/// The fingerprint of a request, which its state is bound to.
pub(crate) fn fingerprint(method: &str, name: &str, arguments: Option<Node<'_>>) -> RequestFingerprint {
    let mut digest = Sha256::new();
    put(&mut digest, b'm', method.as_bytes());
    put(&mut digest, b'n', name.as_bytes());
    if let Some(arguments) = arguments {
        put_value(&mut digest, arguments);
    }
    digest.finalize().into()
}

fn put(digest: &mut Sha256, kind: u8, bytes: &[u8]) {
    digest.update([kind]);
    digest.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes());
    digest.update(bytes);
}

/// The order of members tells nothing, so it is not part of it. As deep as the decoder lets a document be.
fn put_value(digest: &mut Sha256, value: Node<'_>) {
    if let Some(members) = value.members() {
        let mut members: Vec<_> = members.collect();
        members.sort_unstable_by_key(|(key, _)| *key);
        put(digest, b'{', &[]);
        for (key, value) in members {
            put(digest, b'k', key.as_bytes());
            put_value(digest, value);
        }
        put(digest, b'}', &[]);
    } else if let Some(elements) = value.elements() {
        put(digest, b'[', &[]);
        elements.for_each(|element| put_value(digest, element));
        put(digest, b']', &[]);
    } else if let Some(text) = value.as_str() {
        put(digest, b's', text.as_bytes());
    } else if let Some(boolean) = value.as_bool() {
        put(digest, b'b', &[u8::from(boolean)]);
    } else {
        match value.as_number() {
            Some(Number::Signed(number)) => put(digest, b'i', &i128::from(number).to_le_bytes()),
            Some(Number::Unsigned(number)) => put(digest, b'i', &i128::from(number).to_le_bytes()),
            Some(Number::Float(number)) => put(digest, b'f', &number.to_le_bytes()),
            None => put(digest, b'0', &[]),
        }
    }
}

/// The answers a request brings: those of its state, and over them its own. `None`: the state is not ours, not for this
/// request, or too old.
pub(crate) fn answers(
    secret: &Secret,
    now: u64,
    binding: &RequestFingerprint,
    state: Option<&str>,
    responses: Option<Node<'_>>,
) -> Option<BTreeMap<String, Value>> {
    let mut answers = match state {
        None => BTreeMap::new(),
        Some(text) => {
            let payload = secret.open(Purpose::RequestState, text.as_bytes(), &[binding])?;
            let state: State = serde_json::from_slice(&payload).ok()?;
            if state.expires <= now {
                return None;
            }
            state.answers
        }
    };
    for (key, value) in responses.and_then(Node::members).into_iter().flatten() {
        answers.insert(key.to_owned(), Value::deserialize(value).ok()?);
    }
    Some(answers)
}

/// Writes the answer to a call that needs input: what is asked, and the state that brings it back here.
pub fn write_input_required(
    out: &mut Vec<u8>,
    snapshot: &Snapshot,
    secret: &Secret,
    id: Id<'_>,
    expires: u64,
    binding: &RequestFingerprint,
    round: (&BTreeMap<String, InputRequest>, BTreeMap<String, Value>),
) {
    let (asked, answers) = round;
    let request = |request: &InputRequest| json!({"method": request.method, "params": request.params});
    let asked: Value = asked.iter().map(|(key, asked)| (key.clone(), request(asked))).collect();
    let state = State { expires, answers };
    // Values that came as JSON are always written.
    let state = serde_json::to_vec(&state).unwrap_or_default();
    let state = secret.seal(Purpose::RequestState, &state, &[binding]);
    begin_result(out, id);
    out.extend_from_slice(b"\"resultType\":\"input_required\",\"inputRequests\":");
    out.extend_from_slice(asked.to_string().as_bytes());
    out.extend_from_slice(b",\"requestState\":\"");
    // Of letters, digits, hyphens and underscores.
    out.extend_from_slice(state.as_bytes());
    out.extend_from_slice(b"\",\"_meta\":{");
    out.extend_from_slice(snapshot.server_info());
    out.push(b'}');
    finish_result(out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::with_node;

    fn bound(method: &str, name: &str, arguments: &str) -> RequestFingerprint {
        with_node(arguments, |arguments| fingerprint(method, name, Some(arguments)))
    }

    #[test]
    fn m_45_a_state_is_bound_to_its_method_and_its_parameters() {
        let one = bound("tools/call", "a", r#"{"x":1,"y":[true,"z"]}"#);
        assert_eq!(one, bound("tools/call", "a", r#"{"y":[true,"z"],"x":1}"#), "order tells nothing");
        for (method, name, arguments) in [
            ("prompts/get", "a", r#"{"x":1,"y":[true,"z"]}"#),
            ("tools/call", "b", r#"{"x":1,"y":[true,"z"]}"#),
            ("tools/call", "a", r#"{"x":2,"y":[true,"z"]}"#),
            ("tools/call", "a", r#"{"x":"1","y":[true,"z"]}"#),
            ("tools/call", "a", r#"{"x":1,"y":[true],"z":null}"#),
            ("tools/call", "a", r#"{"x":1,"y":[[true,"z"]]}"#),
        ] {
            assert_ne!(one, bound(method, name, arguments), "{method} {name} {arguments}");
        }
    }

    #[test]
    fn m_45_m_46_forged_expired_and_foreign_states_are_refused() {
        let secret = Secret::new(b"key");
        let binding = bound("tools/call", "a", "{}");
        let payload = br#"{"expires":100,"answers":{"k":{"action":"accept"}}}"#;
        let state = secret.seal(Purpose::RequestState, payload, &[&binding]);
        let opened = |secret: &Secret, now, binding: &RequestFingerprint, state: &str| {
            answers(secret, now, binding, Some(state), None).map(|answers| answers.len())
        };
        assert_eq!(opened(&secret, 99, &binding, &state), Some(1));
        assert_eq!(opened(&secret, 100, &binding, &state), None);
        assert_eq!(opened(&Secret::new(b"other"), 99, &binding, &state), None);
        assert_eq!(opened(&secret, 99, &bound("tools/call", "a", "[]"), &state), None);
        assert_eq!(opened(&secret, 99, &binding, &format!("{state}-TAMPERED")), None);
    }

    #[test]
    fn m_44_answers_of_earlier_rounds_are_kept_and_new_ones_win() {
        let secret = Secret::new(b"key");
        let binding = bound("tools/call", "a", "{}");
        let payload = br#"{"expires":100,"answers":{"a":1,"b":2}}"#;
        let state = secret.seal(Purpose::RequestState, payload, &[&binding]);
        let all = with_node(r#"{"b":3,"c":4}"#, |responses| {
            answers(&secret, 0, &binding, Some(&state), Some(responses)).unwrap()
        });
        assert_eq!(json!(all), json!({"a": 1, "b": 3, "c": 4}));
    }
}
