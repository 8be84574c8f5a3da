//! Checks of a head beyond those of `httparse`.

use std::mem::MaybeUninit;

use crate::{config::Limits, http1::reject::RejectReason};

/// Upper bound of [`Limits::head_bytes_max`]: positions in a head have 16 bits.
pub(super) const SPAN_BYTES_MAX: usize = u16::MAX as usize;

/// Upper bound of [`Limits::headers_max`]; `httparse` needs the memory before it parses.
pub(super) const HEADERS_CAPACITY: usize = 128;

/// Checks the first bytes of a head, which may be incomplete.
pub(super) fn check_start(input: &[u8], limits: &Limits) -> Result<(), RejectReason> {
    // Rejects another protocol, such as TLS, before a line is complete.
    if input.first().is_some_and(|byte| !byte.is_ascii_graphic() && !matches!(byte, b'\r' | b'\n')) {
        return Err(RejectReason::MalformedHead);
    }
    // The method and the version around the target take less than 64 bytes.
    let line_bytes_max = limits.target_bytes_max + 64;
    match input.get(..=line_bytes_max) {
        Some(start) if memchr::memchr(b'\n', start).is_none() => Err(RejectReason::TargetTooLong),
        _ => Ok(()),
    }
}

/// Checks an incomplete head.
pub(in crate::http1) fn check_partial(input: &[u8], limits: &Limits) -> Result<(), RejectReason> {
    check_start(input, limits)?;
    if input.len() > limits.head_bytes_max.min(SPAN_BYTES_MAX) {
        return Err(RejectReason::HeadTooLarge);
    }
    Ok(())
}

/// Checks a head that is incomplete, malformed or too large, by the result of parsing it. Returns `Ok` while it is incomplete.
pub(super) fn check_unparsed(
    parsed: httparse::Result<usize>,
    input: &[u8],
    limits: &Limits,
) -> Result<(), RejectReason> {
    check_start(input, limits)?;
    match parsed {
        Ok(httparse::Status::Complete(_)) => Err(RejectReason::HeadTooLarge),
        Ok(httparse::Status::Partial) => check_partial(input, limits),
        Err(_) if is_fault_of_last_line(input) => check_partial(input, limits),
        Err(httparse::Error::TooManyHeaders) => Err(RejectReason::HeadTooLarge),
        Err(httparse::Error::Version) if is_http_version(input) => Err(RejectReason::VersionNotSupported),
        Err(_) => Err(RejectReason::MalformedHead),
    }
}

/// Whether a malformed head is valid without its last, incomplete line. Then the rejection waits until the line is complete:
/// a head that arrives byte by byte is only parsed when a line ends, and the result must not depend on how it is split.
#[cold]
fn is_fault_of_last_line(input: &[u8]) -> bool {
    let lines = memchr::memrchr(b'\n', input).and_then(|end| input.get(..=end)).unwrap_or_default();
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_CAPACITY];
    httparse::Request::new(&mut []).parse_with_uninit_headers(lines, &mut headers).is_ok()
}

/// Whether the head begins with its request line, and CR LF directly follow that line and each value. Such a head contains no lone
/// LF. Heads with whitespace after a value return `false`.
pub(super) fn has_plain_line_ends(head: &[u8], request: &httparse::Request<'_, '_>) -> bool {
    const VERSION: &str = " HTTP/1.1";
    let is_at = |end: usize| head.get(end..).is_some_and(|rest| rest.starts_with(b"\r\n"));
    let end_of =
        |part: &[u8]| part.as_ptr().addr().wrapping_sub(head.as_ptr().addr()).saturating_add(part.len());
    let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    method.as_ptr() == head.as_ptr()
        && is_at(end_of(target.as_bytes()).saturating_add(VERSION.len()))
        && request.headers.iter().all(|header| is_at(end_of(header.value)))
        && head.ends_with(b"\r\n\r\n")
}

/// Rejects a lone LF, which `httparse` accepts as a line ending. Another recipient may not, and the difference permits request
/// smuggling (<https://www.rfc-editor.org/rfc/rfc9112#section-2.2>).
pub(super) fn check_line_ends(head: &[u8]) -> Result<(), RejectReason> {
    let next_bytes = head.get(1..).unwrap_or_default();
    // Without a branch per byte, so that the compiler vectorises the loop.
    let lone = head
        .iter()
        .zip(next_bytes)
        .fold(false, |lone, (before, byte)| lone | ((*byte == b'\n') & (*before != b'\r')));
    if lone || head.first() == Some(&b'\n') { Err(RejectReason::MalformedHead) } else { Ok(()) }
}

/// Whether the third word of the request line names an HTTP version.
fn is_http_version(input: &[u8]) -> bool {
    input.split(|&byte| byte == b' ').nth(2).is_some_and(|version| version.starts_with(b"HTTP/"))
}

/// Whether the target has one of the forms of <https://www.rfc-editor.org/rfc/rfc9112#section-3.2> and consists of ASCII, which
/// `httparse` does not check. `PRI *`, the start of HTTP/2, has none of the forms.
pub(super) fn is_target(target: &[u8], method: &str) -> bool {
    let form = match target {
        [b'/', ..] => true,
        b"*" => method == "OPTIONS",
        _ if method == "CONNECT" => true,
        [first, ..] => first.is_ascii_alphabetic() && memchr::memmem::find(target, b"://").is_some(),
        [] => false,
    };
    form && target.is_ascii()
}
