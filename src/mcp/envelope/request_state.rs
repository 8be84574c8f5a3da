//! The `requestState` of calls that need input. It contains the answers so far; it is signed, expires, and is valid for the same
//! method with the same parameters only
//! (<https://modelcontextprotocol.io/specification/2026-07-28/basic/patterns/mrtr#server-requirements-basic-workflow>).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::mcp::outcome::RequestFingerprint;
use crate::{
    call::{AnswersDigest, InputRequest, OnceToken},
    json::{Node, Number},
    jsonrpc::{Id, write_result},
    registry::Snapshot,
    signed_token::{SigningKey, TokenKind},
};

#[derive(Serialize, Deserialize)]
struct State {
    /// Time of expiry, in seconds since 1970.
    expires: u64,
    answers: BTreeMap<String, Value>,
    /// Set by tools whose states are used once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    once: Option<OnceToken>,
}

/// The answers of a retried request, and the token of a state that is used once with its expiry.
pub(crate) type Resumed = (BTreeMap<String, Value>, Option<(OnceToken, u64)>);

/// Computes the digest of `inputResponses`, independent of the order of members.
pub(crate) fn responses_digest(responses: Option<Node<'_>>) -> AnswersDigest {
    let mut digest = Sha256::new();
    if let Some(responses) = responses {
        put_value(&mut digest, responses);
    }
    digest.finalize().into()
}

/// Computes the fingerprint of a request, which its state is bound to.
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

/// Hashes a value, independent of the order of members. The decoder bounds the recursion depth.
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

/// The answers of a request: those of its state, overridden by its `inputResponses`. `None` if the state is forged, belongs to
/// another request or has expired.
pub(crate) fn answers(
    signing_key: &SigningKey,
    now: u64,
    fingerprint: &RequestFingerprint,
    state: Option<&str>,
    responses: Option<Node<'_>>,
) -> Option<Resumed> {
    let (mut answers, once) = match state {
        None => (BTreeMap::new(), None),
        Some(text) => {
            let payload = signing_key.verify(TokenKind::RequestState, text.as_bytes(), &[fingerprint])?;
            let state: State = serde_json::from_slice(&payload).ok()?;
            if state.expires <= now {
                return None;
            }
            (state.answers, state.once.map(|token| (token, state.expires)))
        }
    };
    for (key, value) in responses.and_then(Node::members).into_iter().flatten() {
        answers.insert(key.to_owned(), Value::deserialize(value).ok()?);
    }
    Some((answers, once))
}

/// Encodes an `input_required` result. `round` holds the requests to the client, the answers so far, and the token of a state that is
/// used once.
pub fn write_input_required(
    out: &mut Vec<u8>,
    snapshot: &Snapshot,
    signing_key: &SigningKey,
    id: Id<'_>,
    expires: u64,
    fingerprint: &RequestFingerprint,
    round: (&BTreeMap<String, InputRequest>, BTreeMap<String, Value>, Option<OnceToken>),
) {
    let (requests, answers, once) = round;
    let request = |request: &InputRequest| json!({"method": request.method, "params": request.params});
    let requests: Value = requests.iter().map(|(key, input)| (key.clone(), request(input))).collect();
    let state = State { expires, answers, once };
    // Serialization of JSON values does not fail.
    let state = serde_json::to_vec(&state).unwrap_or_default();
    let state = signing_key.sign(TokenKind::RequestState, &state, &[fingerprint]);
    write_result(out, id, |out| {
        out.extend_from_slice(b"\"resultType\":\"input_required\",\"inputRequests\":");
        out.extend_from_slice(requests.to_string().as_bytes());
        out.extend_from_slice(b",\"requestState\":\"");
        // The state is base64url, so it needs no escaping.
        out.extend_from_slice(state.as_bytes());
        out.extend_from_slice(b"\",\"_meta\":{");
        out.extend_from_slice(snapshot.server_info());
        out.push(b'}');
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::with_node;

    fn fingerprint_of(method: &str, name: &str, arguments: &str) -> RequestFingerprint {
        with_node(arguments, |arguments| fingerprint(method, name, Some(arguments)))
    }

    #[test]
    fn state_is_bound_to_its_method_and_parameters() {
        let one = fingerprint_of("tools/call", "a", r#"{"x":1,"y":[true,"z"]}"#);
        assert_eq!(
            one,
            fingerprint_of("tools/call", "a", r#"{"y":[true,"z"],"x":1}"#),
            "member order is irrelevant"
        );
        for (method, name, arguments) in [
            ("prompts/get", "a", r#"{"x":1,"y":[true,"z"]}"#),
            ("tools/call", "b", r#"{"x":1,"y":[true,"z"]}"#),
            ("tools/call", "a", r#"{"x":2,"y":[true,"z"]}"#),
            ("tools/call", "a", r#"{"x":"1","y":[true,"z"]}"#),
            ("tools/call", "a", r#"{"x":1,"y":[true],"z":null}"#),
            ("tools/call", "a", r#"{"x":1,"y":[[true,"z"]]}"#),
        ] {
            assert_ne!(one, fingerprint_of(method, name, arguments), "{method} {name} {arguments}");
        }
    }

    #[test]
    fn forged_expired_and_foreign_states_are_rejected() {
        let signing_key = SigningKey::new(b"key");
        let fingerprint = fingerprint_of("tools/call", "a", "{}");
        let payload = br#"{"expires":100,"answers":{"k":{"action":"accept"}}}"#;
        let state = signing_key.sign(TokenKind::RequestState, payload, &[&fingerprint]);
        let opened = |signing_key: &SigningKey, now, fingerprint: &RequestFingerprint, state: &str| {
            answers(signing_key, now, fingerprint, Some(state), None).map(|(answers, _)| answers.len())
        };
        assert_eq!(opened(&signing_key, 99, &fingerprint, &state), Some(1));
        assert_eq!(opened(&signing_key, 100, &fingerprint, &state), None);
        assert_eq!(opened(&SigningKey::new(b"other"), 99, &fingerprint, &state), None);
        assert_eq!(opened(&signing_key, 99, &fingerprint_of("tools/call", "a", "[]"), &state), None);
        assert_eq!(opened(&signing_key, 99, &fingerprint, &format!("{state}-TAMPERED")), None);
    }

    #[test]
    fn answers_of_earlier_rounds_are_overridden_by_new_ones() {
        let signing_key = SigningKey::new(b"key");
        let fingerprint = fingerprint_of("tools/call", "a", "{}");
        let payload = br#"{"expires":100,"answers":{"a":1,"b":2}}"#;
        let state = signing_key.sign(TokenKind::RequestState, payload, &[&fingerprint]);
        let all = with_node(r#"{"b":3,"c":4}"#, |responses| {
            answers(&signing_key, 0, &fingerprint, Some(&state), Some(responses)).unwrap().0
        });
        assert_eq!(json!(all), json!({"a": 1, "b": 3, "c": 4}));
    }
}
