//! The ids of the server's own requests to legacy clients (checklist L-58). Signed, so that an answer to a request that was
//! never made is refused by any shard, and bound to the session that was asked.

use crate::mcp::sessions::{Instance, SessionKey};
use crate::signed_token::{Purpose, Secret};

/// Names a question: who asked it, and which of its questions it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuestionId {
    /// The shard the call runs on.
    pub shard: u16,
    /// The call's place there.
    pub index: u32,
    /// Which of the calls that had this place.
    pub generation: u32,
    /// Which question of the call.
    pub number: u32,
}

impl QuestionId {
    /// The id on the wire: good for this session of this instance.
    #[must_use]
    pub fn seal(self, secret: &Secret, session: Option<SessionKey>, instance: Instance) -> String {
        let mut payload = self.shard.to_le_bytes().to_vec();
        for part in [self.index, self.generation, self.number] {
            payload.extend_from_slice(&part.to_le_bytes());
        }
        let session = session.unwrap_or_default().to_le_bytes();
        secret.seal(Purpose::ServerRequest, &payload, &[&session, &instance.bytes()])
    }

    /// The question an id of this server's names.
    #[must_use]
    pub fn open(
        text: &str,
        secret: &Secret,
        session: Option<SessionKey>,
        instance: Instance,
    ) -> Option<Self> {
        let bound = session.unwrap_or_default().to_le_bytes();
        let payload = secret.open(Purpose::ServerRequest, text.as_bytes(), &[&bound, &instance.bytes()])?;
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
    fn l_58_an_answer_is_good_for_its_question_and_its_session_only() {
        let secret = Secret::new(b"key");
        let question = QuestionId { shard: 1, index: 2, generation: 3, number: 4 };
        let instance = Instance { epoch: 1, node: [2; 5] };
        let text = question.seal(&secret, Some(7), instance);
        assert_eq!(QuestionId::open(&text, &secret, Some(7), instance), Some(question));
        assert_eq!(QuestionId::open(&text, &secret, Some(8), instance), None);
        assert_eq!(QuestionId::open(&text, &secret, None, instance), None);
        assert_eq!(QuestionId::open("s-1", &secret, Some(7), instance), None);
        let later = Instance { epoch: 2, ..instance };
        assert_eq!(QuestionId::open(&text, &secret, Some(7), later), None, "another run's");
    }
}
