//! The ids of the server's requests to legacy clients. An id is signed, so that every shard rejects responses to requests that
//! were never made, and bound to the session of the request
//! (<https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#sending-messages-to-the-server>).

use crate::mcp::sessions::{Instance, SessionKey};
use crate::signed_token::{SigningKey, TokenKind};

/// The id of a request to a client: its call, and its number among the requests of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuestionId {
    /// The shard of the call.
    pub shard: u16,
    /// The slot of the call.
    pub index: u32,
    /// The generation of the slot.
    pub generation: u32,
    /// The number of the request in its call.
    pub number: u32,
}

impl QuestionId {
    /// Encodes the id, valid in `session` of `instance` only.
    #[must_use]
    pub fn sign(self, signing_key: &SigningKey, session: Option<SessionKey>, instance: Instance) -> String {
        let mut payload = self.shard.to_le_bytes().to_vec();
        for part in [self.index, self.generation, self.number] {
            payload.extend_from_slice(&part.to_le_bytes());
        }
        let session = session.unwrap_or_default().to_le_bytes();
        signing_key.sign(TokenKind::ServerRequest, &payload, &[&session, &instance.bytes()])
    }

    /// Verifies and decodes an id; `None` if this server did not sign it for `session` and `instance`.
    #[must_use]
    pub fn verify(
        text: &str,
        signing_key: &SigningKey,
        session: Option<SessionKey>,
        instance: Instance,
    ) -> Option<Self> {
        let bound = session.unwrap_or_default().to_le_bytes();
        let payload =
            signing_key.verify(TokenKind::ServerRequest, text.as_bytes(), &[&bound, &instance.bytes()])?;
        let (shard, rest) = payload.split_first_chunk()?;
        let (index, rest) = rest.split_first_chunk()?;
        let (generation, rest) = rest.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        rest.is_empty().then_some(Self {
            shard: u16::from_le_bytes(*shard),
            index: u32::from_le_bytes(*index),
            generation: u32::from_le_bytes(*generation),
            number: u32::from_le_bytes(*number),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_id_is_valid_for_its_session_and_instance_only() {
        let signing_key = SigningKey::new(b"key");
        let question = QuestionId { shard: 1, index: 2, generation: 3, number: 4 };
        let instance = Instance { epoch: 1, node: [2; 5] };
        let text = question.sign(&signing_key, Some(7), instance);
        assert_eq!(QuestionId::verify(&text, &signing_key, Some(7), instance), Some(question));
        assert_eq!(QuestionId::verify(&text, &signing_key, Some(8), instance), None);
        assert_eq!(QuestionId::verify(&text, &signing_key, None, instance), None);
        assert_eq!(QuestionId::verify("s-1", &signing_key, Some(7), instance), None);
        let later = Instance { epoch: 2, ..instance };
        assert_eq!(QuestionId::verify(&text, &signing_key, Some(7), later), None, "id of another instance");
    }
}
