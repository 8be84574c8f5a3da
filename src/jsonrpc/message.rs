//! One message: a request, a notification or a response.

use crate::json::{Node, Number};

/// A request's id: a string or an integer, never null (checklist B-02).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Id<'a> {
    /// Any integer that fits 64 bits signed.
    Signed(i64),
    /// Any non-negative integer that fits 64 bits.
    Unsigned(u64),
    /// A string.
    String(&'a str),
}

/// An id that outlives the request it came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnedId {
    /// As [`Id::Signed`].
    Signed(i64),
    /// As [`Id::Unsigned`].
    Unsigned(u64),
    /// As [`Id::String`].
    String(Box<str>),
}

impl Id<'_> {
    /// A copy that borrows nothing.
    #[must_use]
    pub fn to_owned(self) -> OwnedId {
        match self {
            Self::Signed(value) => OwnedId::Signed(value),
            Self::Unsigned(value) => OwnedId::Unsigned(value),
            Self::String(value) => OwnedId::String(value.into()),
        }
    }
}

impl OwnedId {
    /// The id, borrowed.
    #[must_use]
    pub fn as_id(&self) -> Id<'_> {
        match self {
            Self::Signed(value) => Id::Signed(*value),
            Self::Unsigned(value) => Id::Unsigned(*value),
            Self::String(value) => Id::String(value),
        }
    }
}

/// A message with the shape JSON-RPC demands.
#[derive(Clone, Copy, Debug)]
pub enum Message<'a> {
    /// Wants an answer.
    Request {
        /// Echoed in the answer.
        id: Id<'a>,
        /// What is wanted.
        method: &'a str,
        /// An object, if there.
        params: Option<Node<'a>>,
    },
    /// Wants none.
    Notification {
        /// What happened.
        method: &'a str,
        /// An object, if there.
        params: Option<Node<'a>>,
    },
    /// A result or an error.
    Response {
        /// What it answers; `None` where that could not be read.
        id: Option<Id<'a>>,
        /// The result; absent in an error.
        result: Option<Node<'a>>,
        /// The error; absent in a result.
        error: Option<Node<'a>>,
    },
}

/// Why JSON is not a message. Carries the id where one could be read, for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed<'a> {
    /// The id, if it is a valid one.
    pub id: Option<Id<'a>>,
    /// One short sentence.
    pub reason: &'static str,
}

impl<'a> Message<'a> {
    /// Reads a message off the tape.
    ///
    /// # Errors
    /// [`Malformed`]: answered with -32600.
    pub fn read(root: Node<'a>) -> Result<Self, Malformed<'a>> {
        let Some(members) = root.members() else {
            let reason = if root.is_array() { "Batches are not supported" } else { "Not a JSON-RPC message" };
            return Err(Malformed { id: None, reason });
        };
        let (mut version, mut id, mut method, mut params) = (None, None, None, None);
        let (mut result, mut error) = (None, None);
        for (key, value) in members {
            let slot = match key {
                "jsonrpc" => &mut version,
                "id" => &mut id,
                "method" => &mut method,
                "params" => &mut params,
                "result" => &mut result,
                "error" => &mut error,
                _ => continue,
            };
            *slot = Some(value);
        }
        let read_id = id.and_then(read_id);
        let malformed = |reason| Malformed { id: read_id, reason };
        if version.and_then(Node::as_str) != Some("2.0") {
            return Err(malformed("jsonrpc must be \"2.0\""));
        }
        if id.is_some() && read_id.is_none() {
            return Err(malformed("id must be a string or an integer"));
        }
        let Some(method) = method else {
            return match (result, error) {
                (None, None) => Err(malformed("method is missing")),
                (Some(_), Some(_)) => Err(malformed("a response cannot be a result and an error")),
                _ => Ok(Self::Response { id: read_id, result, error }),
            };
        };
        if result.is_some() || error.is_some() {
            // Two readers could take it for different things.
            return Err(malformed("a message cannot be a request and a response"));
        }
        let method = method.as_str().ok_or(malformed("method must be a string"))?;
        if params.is_some_and(|params| !params.is_object()) {
            return Err(malformed("params must be an object"));
        }
        Ok(match read_id {
            Some(id) => Self::Request { id, method, params },
            None => Self::Notification { method, params },
        })
    }
}

/// Whom to answer about a document that was refused: its id, if it has exactly one and a valid one.
#[must_use]
pub fn answerable_id(root: Node<'_>) -> Option<Id<'_>> {
    let mut ids = root.members()?.filter(|(key, _)| *key == "id");
    let (_, id) = ids.next()?;
    if ids.next().is_some() { None } else { read_id(id) }
}

/// The id a value is, if it is a valid one.
#[must_use]
pub fn read_id(node: Node<'_>) -> Option<Id<'_>> {
    match node.as_number() {
        Some(Number::Signed(value)) => Some(Id::Signed(value)),
        Some(Number::Unsigned(value)) => Some(Id::Unsigned(value)),
        Some(Number::Float(_)) => None,
        None => node.as_str().map(Id::String),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Limits, json::Decoder};

    fn read<T>(text: &str, check: impl FnOnce(Result<Message<'_>, Malformed<'_>>) -> T) -> T {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(text.len() + 64, 0);
        let mut decoder = Decoder::new(&Limits::default());
        let document = decoder.decode(&mut bytes, text.len()).unwrap();
        check(Message::read(document.root()))
    }

    #[test]
    fn b_02_ids_are_strings_or_integers() {
        for (text, id) in [
            ("1", Id::Unsigned(1)),
            ("-9223372036854775808", Id::Signed(i64::MIN)),
            ("18446744073709551615", Id::Unsigned(u64::MAX)),
            ("\"a\"", Id::String("a")),
            ("\"\"", Id::String("")),
        ] {
            read(&format!(r#"{{"jsonrpc":"2.0","id":{text},"method":"m"}}"#), |message| {
                assert!(
                    matches!(message, Ok(Message::Request { id: read, method: "m", params: None }) if read == id)
                );
            });
        }
        for text in ["null", "1.5", "1.0", "1e3", "true", "{}", "[]"] {
            read(&format!(r#"{{"jsonrpc":"2.0","id":{text},"method":"m"}}"#), |message| {
                assert_eq!(message.unwrap_err().reason, "id must be a string or an integer", "{text}");
            });
        }
    }

    #[test]
    fn shapes_that_are_not_messages_are_named() {
        for (text, reason, id) in [
            ("[]", "Batches are not supported", None),
            ("1", "Not a JSON-RPC message", None),
            (r#"{"id":1,"method":"m"}"#, "jsonrpc must be \"2.0\"", Some(Id::Unsigned(1))),
            (r#"{"jsonrpc":"1.0","id":1,"method":"m"}"#, "jsonrpc must be \"2.0\"", Some(Id::Unsigned(1))),
            (r#"{"jsonrpc":"2.0","id":1,"method":1}"#, "method must be a string", Some(Id::Unsigned(1))),
            (r#"{"jsonrpc":"2.0","id":1}"#, "method is missing", Some(Id::Unsigned(1))),
            (r#"{"jsonrpc":"2.0","id":1,"Method":"m"}"#, "method is missing", Some(Id::Unsigned(1))),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"m","params":[]}"#,
                "params must be an object",
                Some(Id::Unsigned(1)),
            ),
        ] {
            read(text, |message| assert_eq!(message.unwrap_err(), Malformed { id, reason }, "{text}"));
        }
        read(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, |message| {
            assert!(matches!(message, Ok(Message::Response { id: Some(Id::Unsigned(1)), .. })))
        });
        read(r#"{"jsonrpc":"2.0","method":"m","params":{}}"#, |message| {
            assert!(matches!(message, Ok(Message::Notification { method: "m", params: Some(_) })));
        });
    }

    #[test]
    fn a_refused_document_is_answered_to_its_only_id() {
        for (text, id) in [
            (r#"{"id":7,"a":1,"a":2}"#, Some(Id::Unsigned(7))),
            (r#"{"a":{"id":3},"a":2,"id":"x"}"#, Some(Id::String("x"))),
            (r#"{"id":7,"id":7}"#, None),
            (r#"{"id":7,"\u0069d":8}"#, None),
            (r#"{"id":null,"a":1,"a":2}"#, None),
            (r#"{"a":1,"a":2}"#, None),
            (r#"[{"id":1,"id":2}]"#, None),
        ] {
            let mut bytes = text.as_bytes().to_vec();
            bytes.resize(text.len() + 64, 0);
            let mut decoder = Decoder::new(&Limits::default());
            let refused = decoder.decode(&mut bytes, text.len()).err().unwrap();
            assert_eq!(refused.root().and_then(answerable_id), id, "{text}");
        }
    }
}
