//! Messages: requests, notifications and responses.

use super::id::{Id, IdFault, read_id, read_uncommon_id};
use crate::json::Node;

/// A valid JSON-RPC message.
#[derive(Clone, Copy, Debug)]
pub enum Message<'a> {
    /// A request, which gets a response.
    Request {
        /// The id, echoed in the response.
        id: Id<'a>,
        /// The requested method.
        method: &'a str,
        /// An object, if there.
        params: Option<Node<'a>>,
    },
    /// A notification, which gets no response.
    Notification {
        /// The notification's name.
        method: &'a str,
        /// An object, if there.
        params: Option<Node<'a>>,
    },
    /// A result or an error.
    Response {
        /// The id of the request; `None` if the sender could not read it.
        id: Option<Id<'a>>,
        /// The result; absent in an error.
        result: Option<Node<'a>>,
        /// The error; absent in a result.
        error: Option<Node<'a>>,
    },
}

/// Why a JSON value is not a message, with the id for the error response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed<'a> {
    /// The id, if it is valid.
    pub id: Option<Id<'a>>,
    /// Message of the error response.
    pub reason: &'static str,
}

impl<'a> Message<'a> {
    /// Reads a message from the tape. An id of more than `id_bytes_max` bytes is invalid.
    ///
    /// # Errors
    /// [`Malformed`], for which the caller sends -32600.
    pub fn read(root: Node<'a>, id_bytes_max: usize) -> Result<Self, Malformed<'a>> {
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
        let mut id_fault = None;
        let read_id = id.and_then(|id| {
            read_id(id, id_bytes_max).or_else(|| {
                read_uncommon_id(root, "id", id, id_bytes_max).map_err(|fault| id_fault = Some(fault)).ok()
            })
        });
        let malformed = |reason| Malformed { id: read_id, reason };
        let name = method.and_then(Node::as_str);
        if version.and_then(Node::as_str) != Some("2.0") {
            return Err(malformed("jsonrpc must be \"2.0\""));
        }
        if let Some(fault) = id_fault {
            return Err(malformed(match fault {
                IdFault::Kind => "id must be a string or an integer",
                IdFault::Range => "id must be an integer of 64 bits",
                IdFault::Long => "id has more bytes than limits.id_bytes_max",
            }));
        }
        // Fast path: a request or a notification skips the checks of responses.
        if result.is_some() || error.is_some() || name.is_none() {
            // Optional members that are null count as absent; a result is required where there is no error.
            let is_present = |node: &Node<'_>| !node.is_null();
            method = method.filter(is_present);
            error = error.filter(is_present);
            result = result.filter(|result| is_present(result) || method.or(error).is_none());
            match (method, result, error) {
                (None, None, None) => return Err(malformed("method is missing")),
                (None, Some(_), Some(_)) => {
                    return Err(malformed("a response cannot be a result and an error"));
                }
                (None, ..) => return Ok(Self::Response { id: read_id, result, error }),
                (Some(_), None, None) => {}
                // Ambiguous: recipients could treat it as either.
                (Some(_), ..) => return Err(malformed("a message cannot be a request and a response")),
            }
        }
        let method = name.ok_or(malformed("method must be a string"))?;
        if params.is_some_and(|params| !params.is_object()) {
            params = params.filter(|params| !params.is_null());
            if params.is_some() {
                return Err(malformed("params must be an object"));
            }
        }
        Ok(match read_id {
            Some(id) => Self::Request { id, method, params },
            None => Self::Notification { method, params },
        })
    }
}

/// The id for the error response to a rejected document, if it has exactly one `id` and that is valid.
#[must_use]
pub fn answerable_id(root: Node<'_>, id_bytes_max: usize) -> Option<Id<'_>> {
    let mut ids = root.members()?.filter(|(key, _)| *key == "id");
    let (_, id) = ids.next()?;
    if ids.next().is_some() { None } else { read_id(id, id_bytes_max) }
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
        check(Message::read(document.root(), 1024))
    }

    #[test]
    fn ids_are_strings_or_integers() {
        for (text, id) in [
            ("1", Id::Unsigned(1)),
            ("-9223372036854775808", Id::Signed(i64::MIN)),
            ("18446744073709551615", Id::Unsigned(u64::MAX)),
            ("\"a\"", Id::String("a")),
            ("\"\"", Id::String("")),
            ("1.50e2,\"\\u0000id\":\"1.50e2\"", Id::Unsigned(150)),
        ] {
            read(&format!(r#"{{"jsonrpc":"2.0","id":{text},"method":"m"}}"#), |message| {
                assert!(
                    matches!(message, Ok(Message::Request { id: read, method: "m", params: None }) if read == id)
                );
            });
        }
        for text in ["null", "true", "{}", "[]", "1.5"] {
            read(&format!(r#"{{"jsonrpc":"2.0","id":{text},"method":"m"}}"#), |message| {
                assert_eq!(message.unwrap_err().reason, "id must be a string or an integer", "{text}");
            });
        }
        for text in ["1e30", "18446744073709551616", "1.0,\"\\u0000id\":\"x\"", "1.0,\"\\u0000id\":\"1.5\""] {
            read(&format!(r#"{{"jsonrpc":"2.0","id":{text},"method":"m"}}"#), |message| {
                let malformed = message.unwrap_err();
                assert_eq!(
                    (malformed.id, malformed.reason),
                    (None, "id must be an integer of 64 bits"),
                    "{text}"
                );
            });
        }
    }

    #[test]
    fn id_longer_than_the_limit_is_rejected_without_id() {
        let long = "é".repeat(512);
        read(&format!(r#"{{"jsonrpc":"2.0","id":"{long}","method":"m"}}"#), |message| {
            assert!(matches!(message, Ok(Message::Request { id: Id::String(text), .. }) if text == long));
        });
        for rest in [r#""method":"m""#, r#""result":{}"#, r#""error":{}"#] {
            read(&format!(r#"{{"jsonrpc":"2.0","id":"{long}x",{rest}}}"#), |message| {
                let malformed = message.unwrap_err();
                assert_eq!(
                    (malformed.id, malformed.reason),
                    (None, "id has more bytes than limits.id_bytes_max")
                );
            });
        }
    }

    #[test]
    fn null_for_an_optional_member_counts_as_absent() {
        read(
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":null,"result":null,"error":null}"#,
            |message| {
                assert!(matches!(message, Ok(Message::Request { params: None, .. })));
            },
        );
        read(r#"{"jsonrpc":"2.0","id":1,"result":{},"error":null,"method":null,"params":null}"#, |message| {
            assert!(matches!(message, Ok(Message::Response { result: Some(_), error: None, .. })));
        });
        read(r#"{"jsonrpc":"2.0","id":1,"result":null,"error":{}}"#, |message| {
            assert!(matches!(message, Ok(Message::Response { result: None, error: Some(_), .. })));
        });
        read(r#"{"jsonrpc":"2.0","id":1,"result":null}"#, |message| {
            assert!(matches!(message, Ok(Message::Response { result: Some(_), error: None, .. })));
        });
        for (text, reason) in [
            (r#"{"jsonrpc":"2.0","id":null,"method":"m"}"#, "id must be a string or an integer"),
            (r#"{"jsonrpc":"2.0","id":1,"method":null}"#, "method is missing"),
            (r#"{"jsonrpc":"2.0","id":1,"error":null}"#, "method is missing"),
            (
                r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#,
                "a response cannot be a result and an error",
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"m","error":{}}"#,
                "a message cannot be a request and a response",
            ),
        ] {
            read(text, |message| assert_eq!(message.unwrap_err().reason, reason, "{text}"));
        }
    }

    #[test]
    fn malformed_messages_are_rejected_with_a_reason() {
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
    fn rejected_document_has_the_id_of_its_only_id_member() {
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
            assert_eq!(refused.root().and_then(|root| answerable_id(root, 1024)), id, "{text}");
        }
    }
}
