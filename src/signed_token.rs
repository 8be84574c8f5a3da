//! What clients carry for the server and cannot change: session ids, cursors, request states, ids of tasks and of the
//! server's own requests. Signed with HMAC-SHA-256 (RFC 2104), written as base64url without padding (RFC 4648, section 5).

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Bytes of a signature: half of the digest, as RFC 2104, section 5 allows.
pub const TAG_BYTES: usize = 16;

/// What a text was signed for. One cannot be passed off as another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A legacy session's id.
    Session = 1,
    /// A place in a list.
    Cursor,
    /// What a call that needs input has learnt so far.
    RequestState,
    /// A task's id.
    Task,
    /// The id of a request to a client.
    ServerRequest,
}

/// The key. Whoever has it can make what this server believes.
#[derive(Clone)]
pub struct Secret {
    mac: Hmac<Sha256>,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret")
    }
}

impl Secret {
    /// The key made of these bytes; 32 or more that nobody can guess.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        use sha2::Digest;
        // Of the size HMAC takes as it is, whatever the length.
        let key = Sha256::digest(key);
        Self { mac: <Hmac<Sha256> as hmac::digest::KeyInit>::new(&hmac_key(key.as_slice())) }
    }

    /// The signature of `payload` for one purpose, together with what it is bound to but does not carry.
    #[must_use]
    pub fn sign(&self, purpose: Purpose, payload: &[u8], bound: &[&[u8]]) -> [u8; TAG_BYTES] {
        let mut mac = self.mac.clone();
        mac.update(&[purpose as u8]);
        for part in std::iter::once(&payload).chain(bound) {
            // The length first, so that no two lists of parts read alike.
            mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            mac.update(part);
        }
        let digest = mac.finalize().into_bytes();
        let mut tag = [0; TAG_BYTES];
        tag.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        tag
    }

    /// `payload` and its signature as text.
    #[must_use]
    pub fn seal(&self, purpose: Purpose, payload: &[u8], bound: &[&[u8]]) -> String {
        let mut bytes = payload.to_vec();
        bytes.extend_from_slice(&self.sign(purpose, payload, bound));
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The payload of a text that [`Secret::seal`] wrote for the same purpose, bound to the same; `None` for any other text.
    #[must_use]
    pub fn open(&self, purpose: Purpose, text: &[u8], bound: &[&[u8]]) -> Option<Vec<u8>> {
        let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        let tag = bytes.split_off(bytes.len().checked_sub(TAG_BYTES)?);
        let expected = self.sign(purpose, &bytes, bound);
        // In a time that does not depend on where they differ.
        let difference =
            tag.iter().zip(expected).fold(0, |difference, (one, other)| difference | (one ^ other));
        (std::hint::black_box(difference) == 0).then_some(bytes)
    }
}

/// A key as HMAC's type wants it: a block, filled up with zeros (RFC 2104, section 2).
fn hmac_key(key: &[u8]) -> hmac::digest::Key<Hmac<Sha256>> {
    let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
    block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_for_its_purpose_and_its_binding_only() {
        let secret = Secret::new(b"key");
        let text = secret.seal(Purpose::Cursor, b"payload", &[b"a", b"b"]);
        assert_eq!(secret.open(Purpose::Cursor, text.as_bytes(), &[b"a", b"b"]).unwrap(), b"payload");
        assert_eq!(secret.open(Purpose::Session, text.as_bytes(), &[b"a", b"b"]), None);
        assert_eq!(secret.open(Purpose::Cursor, text.as_bytes(), &[b"ab", b""]), None);
        assert_eq!(secret.open(Purpose::Cursor, text.as_bytes(), &[b"a"]), None);
        assert_eq!(Secret::new(b"other").open(Purpose::Cursor, text.as_bytes(), &[b"a", b"b"]), None);
    }

    #[test]
    fn any_change_of_a_sealed_text_is_noticed() {
        let secret = Secret::new(b"key");
        let text = secret.seal(Purpose::Task, b"1234567", &[]);
        for place in 0..text.len() {
            let mut forged = text.clone().into_bytes();
            forged[place] = if forged[place] == b'A' { b'B' } else { b'A' };
            assert_eq!(secret.open(Purpose::Task, &forged, &[]), None, "{place}");
        }
        for length in 0..text.len() {
            assert_eq!(secret.open(Purpose::Task, &text.as_bytes()[..length], &[]), None, "{length}");
        }
        assert_eq!(secret.open(Purpose::Task, format!("{text}=").as_bytes(), &[]), None);
    }
}
