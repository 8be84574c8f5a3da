//! Signed tokens that clients return unchanged: session ids, cursors, request states, ids of tasks and of client requests.
//! Signed with HMAC-SHA-256 (<https://www.rfc-editor.org/rfc/rfc2104>), encoded as base64url without padding
//! (<https://www.rfc-editor.org/rfc/rfc4648#section-5>).

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Length of a signature in bytes: half of the digest (<https://www.rfc-editor.org/rfc/rfc2104#section-5>).
pub const TAG_BYTES: usize = 16;

/// Kind of a token. A token of one kind is invalid as any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A legacy session's id.
    Session = 1,
    /// A cursor of a list.
    Cursor,
    /// The state of a call that returned `input_required`.
    RequestState,
    /// A task's id.
    Task,
    /// The id of a request to a client.
    ServerRequest,
    /// The hash of a peer.
    Peer,
    /// A record of the file of ended sessions.
    EndRecord,
    /// The salt of a flag's cohort.
    Cohort,
}

/// Signing key. Keep it secret: it creates tokens that the server accepts.
#[derive(Clone)]
pub struct SigningKey {
    mac: Hmac<Sha256>,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SigningKey")
    }
}

impl SigningKey {
    /// Derives the key from at least 32 secret random bytes.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        use sha2::Digest;
        // Hashing maps a key of any length to a fixed size below HMAC's block size.
        let key = Sha256::digest(key);
        Self { mac: <Hmac<Sha256> as hmac::digest::KeyInit>::new(&hmac_key(key.as_slice())) }
    }

    /// Signs `payload` for one kind of token. `bound` holds values that the signature covers and the token does not contain.
    #[must_use]
    fn tag(&self, kind: TokenKind, payload: &[u8], bound: &[&[u8]]) -> [u8; TAG_BYTES] {
        let mut mac = self.mac.clone();
        mac.update(&[kind as u8]);
        for part in std::iter::once(&payload).chain(bound) {
            // Each part is preceded by its length, so that different lists of parts have different encodings.
            mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            mac.update(part);
        }
        let digest = mac.finalize().into_bytes();
        let mut tag = [0; TAG_BYTES];
        tag.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        tag
    }

    /// The first bytes of the signature of `payload`: a keyed hash.
    ///
    /// `N` is at most [`TAG_BYTES`]; further bytes are zero.
    #[must_use]
    pub fn hash<const N: usize>(&self, kind: TokenKind, payload: &[u8]) -> [u8; N] {
        let mut hash = [0; N];
        hash.iter_mut().zip(self.tag(kind, payload, &[])).for_each(|(to, from)| *to = from);
        hash
    }

    /// Encodes `payload` and its signature as a token.
    #[must_use]
    pub fn sign(&self, kind: TokenKind, payload: &[u8], bound: &[&[u8]]) -> String {
        let mut bytes = payload.to_vec();
        bytes.extend_from_slice(&self.tag(kind, payload, bound));
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Verifies a token that [`SigningKey::sign`] created for the same kind and the same `bound` values, and returns its
    /// payload. `None` for any other text.
    #[must_use]
    pub fn verify(&self, kind: TokenKind, text: &[u8], bound: &[&[u8]]) -> Option<Vec<u8>> {
        let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        let tag = bytes.split_off(bytes.len().checked_sub(TAG_BYTES)?);
        let expected = self.tag(kind, &bytes, bound);
        // Constant-time comparison.
        let difference =
            tag.iter().zip(expected).fold(0, |difference, (one, other)| difference | (one ^ other));
        (std::hint::black_box(difference) == 0).then_some(bytes)
    }
}

/// Pads a key with zeros to HMAC's block size (<https://www.rfc-editor.org/rfc/rfc2104#section-2>).
fn hmac_key(key: &[u8]) -> hmac::digest::Key<Hmac<Sha256>> {
    let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
    block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_valid_for_its_kind_and_bound_values_only() {
        let key = SigningKey::new(b"key");
        let text = key.sign(TokenKind::Cursor, b"payload", &[b"a", b"b"]);
        assert_eq!(key.verify(TokenKind::Cursor, text.as_bytes(), &[b"a", b"b"]).unwrap(), b"payload");
        assert_eq!(key.verify(TokenKind::Session, text.as_bytes(), &[b"a", b"b"]), None);
        assert_eq!(key.verify(TokenKind::Cursor, text.as_bytes(), &[b"ab", b""]), None);
        assert_eq!(key.verify(TokenKind::Cursor, text.as_bytes(), &[b"a"]), None);
        assert_eq!(SigningKey::new(b"other").verify(TokenKind::Cursor, text.as_bytes(), &[b"a", b"b"]), None);
    }

    #[test]
    fn modified_token_is_rejected() {
        let key = SigningKey::new(b"key");
        let text = key.sign(TokenKind::Task, b"1234567", &[]);
        for index in 0..text.len() {
            let mut forged = text.clone().into_bytes();
            forged[index] = if forged[index] == b'A' { b'B' } else { b'A' };
            assert_eq!(key.verify(TokenKind::Task, &forged, &[]), None, "{index}");
        }
        for length in 0..text.len() {
            assert_eq!(key.verify(TokenKind::Task, &text.as_bytes()[..length], &[]), None, "{length}");
        }
        assert_eq!(key.verify(TokenKind::Task, format!("{text}=").as_bytes(), &[]), None);
    }
}
