//! Chunked bodies (RFC 9112, section 7.1), decoded as they arrive.

use super::reject::RejectReason;
use crate::config::Limits;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the size, after this many digits.
    Size {
        digits: u8,
    },
    /// In the name of an extension, after its `;`.
    ExtensionName {
        is_empty: bool,
    },
    /// After the `=` of an extension.
    ExtensionValueStart,
    ExtensionValue,
    /// In a quoted extension value.
    Quoted,
    /// After a backslash in a quoted extension value.
    QuotedEscape,
    /// After the closing quote of an extension value.
    QuotedEnd,
    /// Expects the LF that ends the size line.
    SizeEnd,
    Data,
    /// Expects the CR after the data.
    DataEnd,
    /// Expects the LF after the data.
    DataEndLineFeed,
    /// At the start of a trailer line.
    TrailerStart,
    Trailer,
    /// Expects the LF that ends a trailer line.
    TrailerEnd,
    /// Expects the last LF.
    End,
    Done,
}

/// Maximum number of hex digits of a chunk size.
const SIZE_DIGITS_MAX: u8 = 16;

/// Incremental decoder of one chunked body.
#[derive(Debug)]
pub(super) struct ChunkedDecoder {
    state: State,
    /// In [`State::Size`] the size of the current chunk as far as it has been read, later its remaining bytes.
    left: usize,
    extension_bytes: usize,
    trailer_bytes: usize,
}

impl ChunkedDecoder {
    pub(super) fn new() -> Self {
        Self { state: State::Size { digits: 0 }, left: 0, extension_bytes: 0, trailer_bytes: 0 }
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Appends the data in `input` to `body` and returns the number of bytes consumed, which is less than all of them once
    /// the body is complete.
    pub(super) fn decode(
        &mut self,
        input: &[u8],
        body: &mut Vec<u8>,
        limits: &Limits,
    ) -> Result<usize, RejectReason> {
        let mut used = 0;
        while let Some((&byte, rest)) = input.get(used..).and_then(<[u8]>::split_first) {
            if self.state == State::Done {
                break;
            }
            if self.state == State::Data {
                let data = input.get(used..).unwrap_or_default();
                let part = data.get(..self.left).unwrap_or(data);
                body.extend_from_slice(part);
                used += part.len();
                self.left -= part.len();
                if self.left == 0 {
                    self.state = State::DataEnd;
                }
                continue;
            }
            debug_assert!(rest.len() < input.len());
            self.step(byte, body.len(), limits)?;
            used += 1;
        }
        Ok(used)
    }

    fn step(&mut self, byte: u8, body_bytes: usize, limits: &Limits) -> Result<(), RejectReason> {
        const MALFORMED: Result<State, RejectReason> = Err(RejectReason::MalformedChunk);
        if self.state.is_extension() {
            self.extension_bytes += 1;
            if self.extension_bytes > limits.chunk_extension_bytes_max {
                return Err(RejectReason::BodyTooLarge);
            }
        }
        self.state = match (self.state, byte) {
            (State::Size { digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < SIZE_DIGITS_MAX => {
                let digit = char::from(byte).to_digit(16).and_then(|digit| usize::try_from(digit).ok());
                let grown =
                    self.left.checked_mul(16).zip(digit).and_then(|(left, digit)| left.checked_add(digit));
                self.left = grown
                    .filter(|size| size.saturating_add(body_bytes) <= limits.body_bytes_max)
                    .ok_or(RejectReason::BodyTooLarge)?;
                Ok(State::Size { digits: digits + 1 })
            }
            (State::Size { digits: 1.. }, b'\r') => Ok(State::SizeEnd),
            (State::Size { digits: 1.. }, b';') => Ok(State::ExtensionName { is_empty: true }),
            // RFC 9112 allows "bad whitespace" around extensions, but no known client sends it, so it is rejected.
            (State::ExtensionName { .. }, byte) if is_token(byte) => {
                Ok(State::ExtensionName { is_empty: false })
            }
            (State::ExtensionName { is_empty: false }, b'=') => Ok(State::ExtensionValueStart),
            (State::ExtensionValueStart, b'"') => Ok(State::Quoted),
            (State::ExtensionValueStart | State::ExtensionValue, byte) if is_token(byte) => {
                Ok(State::ExtensionValue)
            }
            (State::Quoted, b'"') => Ok(State::QuotedEnd),
            (State::Quoted, b'\\') => Ok(State::QuotedEscape),
            (State::Quoted | State::QuotedEscape, b'\t' | b' '..=b'~' | 0x80..) => Ok(State::Quoted),
            (State::ExtensionName { is_empty: false } | State::ExtensionValue | State::QuotedEnd, b';') => {
                Ok(State::ExtensionName { is_empty: true })
            }
            (State::ExtensionName { is_empty: false } | State::ExtensionValue | State::QuotedEnd, b'\r') => {
                Ok(State::SizeEnd)
            }
            (State::SizeEnd, b'\n') if self.left == 0 => Ok(State::TrailerStart),
            (State::SizeEnd, b'\n') => Ok(State::Data),
            (State::DataEnd, b'\r') => Ok(State::DataEndLineFeed),
            (State::DataEndLineFeed, b'\n') => Ok(State::Size { digits: 0 }),
            (State::TrailerStart, b'\r') => Ok(State::End),
            (State::TrailerStart | State::Trailer, b'\t' | b' '..=b'~' | 0x80..) => {
                self.trailer_bytes += 1;
                if self.trailer_bytes > limits.trailer_bytes_max {
                    return Err(RejectReason::HeadTooLarge);
                }
                Ok(State::Trailer)
            }
            (State::Trailer, b'\r') => Ok(State::TrailerEnd),
            (State::TrailerEnd, b'\n') => Ok(State::TrailerStart),
            (State::End, b'\n') => Ok(State::Done),
            _ => MALFORMED,
        }?;
        Ok(())
    }
}

impl State {
    fn is_extension(self) -> bool {
        matches!(
            self,
            Self::ExtensionName { .. }
                | Self::ExtensionValueStart
                | Self::ExtensionValue
                | Self::Quoted
                | Self::QuotedEscape
                | Self::QuotedEnd
        )
    }
}

/// A character of a token (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &str) -> Result<(Vec<u8>, usize, bool), RejectReason> {
        let mut decoder = ChunkedDecoder::new();
        let mut body = Vec::new();
        let used = decoder.decode(text.as_bytes(), &mut body, &Limits::default())?;
        Ok((body, used, decoder.is_done()))
    }

    #[test]
    fn chunks_extensions_and_trailers_are_decoded() {
        let text = "3;a;b=c\r\nabc\r\n00a;x=\"y \\\" z\\\\\";w\r\n0123456789\r\n0\r\nTrailer: t\r\n\r\n";
        let next = "POST";
        let (body, used, done) = decode(&format!("{text}{next}")).unwrap();
        assert_eq!((body.as_slice(), used, done), (b"abc0123456789".as_slice(), text.len(), true));
    }

    #[test]
    fn malformed_chunks_are_rejected() {
        for text in [
            "\r\n",
            "g\r\n",
            "0x3\r\nabc\r\n",
            " 3\r\nabc\r\n",
            "+3\r\nabc",
            "-1\r\n",
            "3_0\r\n",
            "3 \r\nabc",
            "3\nabc\r\n",
            "3\r\nabcd\r\n",
            "3\r\nabc\n",
            "3\rabc",
            "3;a\nabc",
            "3;\r\nabc",
            "3;a;\r\nabc",
            "3;=b\r\nabc",
            "3;a=\r\nabc",
            "3;a b\r\nabc",
            "3; a\r\nabc",
            "3;a=\"b\r\nabc",
            "3;a=\"b\\\"\r\nabc",
            "3;a=\"b\"c\r\nabc",
            "3;a=b\"c\"\r\nabc",
            "3;a=\"\u{1}\"\r\nabc",
            "00000000000000003\r\nabc",
            "0\r\n\n",
            "0\r\nA: b\n\r\n",
        ] {
            assert_eq!(decode(text), Err(RejectReason::MalformedChunk), "{text:?}");
        }
        for text in ["ffffffffffffffff\r\n", "400001\r\n"] {
            assert_eq!(decode(text), Err(RejectReason::BodyTooLarge), "{text:?}");
        }
        assert!(decode("400000\r\n").is_ok());
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let limits = Limits::default();
        let extension = |bytes: usize| decode(&format!("1;{}\r\n", "x".repeat(bytes - 1))).map(drop);
        assert_eq!(extension(limits.chunk_extension_bytes_max), Ok(()));
        assert_eq!(extension(limits.chunk_extension_bytes_max + 1), Err(RejectReason::BodyTooLarge));
        let trailer = |bytes: usize| decode(&format!("0\r\n{}\r\n", "x".repeat(bytes))).map(drop);
        assert_eq!(trailer(limits.trailer_bytes_max), Ok(()));
        assert_eq!(trailer(limits.trailer_bytes_max + 1), Err(RejectReason::HeadTooLarge));
    }
}
