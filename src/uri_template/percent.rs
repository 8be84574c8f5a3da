//! Percent-encoding (<https://www.rfc-editor.org/rfc/rfc3986#section-2>).

use std::fmt::Write;

/// Maximum length of a URI in bytes; longer ones match no template. RFC 9110 recommends at least 8,000
/// (<https://www.rfc-editor.org/rfc/rfc9110#section-4.1>).
pub(super) const URI_BYTES_MAX: usize = 8192;

pub(super) fn is_unreserved(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-._~".contains(character)
}

pub(super) fn is_reserved(character: char) -> bool {
    ":/?#[]@!$&'()*+,;=".contains(character)
}

/// Characters besides the unreserved ones that a path segment may contain unencoded (`pchar` of
/// <https://www.rfc-editor.org/rfc/rfc3986#section-3.3>).
pub(super) fn is_raw_in_path(character: char) -> bool {
    "!$&'()*+,;=:@".contains(character)
}

/// Characters besides the unreserved ones that a query or a fragment may contain unencoded
/// (<https://www.rfc-editor.org/rfc/rfc3986#section-3.4>).
pub(super) fn is_raw_in_query(character: char) -> bool {
    is_raw_in_path(character) || "/?".contains(character)
}

/// Characters besides the unreserved ones that ECMAScript's `encodeURIComponent` does not encode. Official SDKs expand templates
/// with it.
pub(super) fn survives_encode_uri_component(character: char) -> bool {
    "!'()*".contains(character)
}

pub(super) fn begins_with_triplet(text: &str) -> bool {
    matches!(text.as_bytes(), [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
}

pub(super) fn encode(text: &str, keeps: impl Fn(char) -> bool, keeps_triplets: bool, uri: &mut String) {
    for (offset, character) in text.char_indices() {
        let is_triplet = || begins_with_triplet(text.get(offset..).unwrap_or_default());
        if keeps(character) || (keeps_triplets && is_triplet()) {
            uri.push(character);
            continue;
        }
        for byte in character.encode_utf8(&mut [0; 4]).bytes() {
            // Writing to a string does not fail.
            let _ = write!(uri, "%{byte:02X}");
        }
    }
}

pub(super) fn decode(value: &str) -> Option<String> {
    String::from_utf8(decoded(value).collect()).ok()
}

/// The decoded bytes up to the first invalid triplet.
fn decoded(text: &str) -> impl Iterator<Item = u8> {
    let mut bytes = text.bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    std::iter::from_fn(move || match bytes.next()? {
        b'%' => Some((digit(bytes.next()?)? << 4) | digit(bytes.next()?)?),
        byte => Some(byte),
    })
}

pub(super) fn decodes_to_text(text: &str) -> bool {
    let mut buffer = [0; URI_BYTES_MAX];
    let length = buffer.iter_mut().zip(decoded(text)).map(|(slot, byte)| *slot = byte).count();
    let text = buffer.get(..length).and_then(|bytes| std::str::from_utf8(bytes).ok());
    text.is_some_and(|text| !text.contains(char::is_control))
}
