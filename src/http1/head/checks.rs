//! What `httparse` accepts and this server refuses.

use std::mem::MaybeUninit;

use crate::{config::Limits, http1::reject::RejectReason};

/// No head may be longer, whatever the limits say: positions in it have 16 bits.
pub(super) const SPAN_BYTES_MAX: usize = u16::MAX as usize;

/// More headers than any limit allows; `httparse` needs the room up front.
pub(super) const HEADERS_CAPACITY: usize = 128;

/// What a head may not be, however little of it is there.
pub(super) fn check_start(input: &[u8], limits: &Limits) -> Result<(), RejectReason> {
    // A client of another protocol, TLS most likely, need not wait until it has sent something like a line.
    if input.first().is_some_and(|byte| !byte.is_ascii_graphic() && !matches!(byte, b'\r' | b'\n')) {
        return Err(RejectReason::MalformedHead);
    }
    // The verb and the version around the target take less than 64 bytes.
    let line_bytes_max = limits.target_bytes_max + 64;
    match input.get(..=line_bytes_max) {
        Some(start) if memchr::memchr(b'\n', start).is_none() => Err(RejectReason::TargetTooLong),
        _ => Ok(()),
    }
}

/// What an incomplete head may not be already.
pub(in crate::http1) fn check_partial(input: &[u8], limits: &Limits) -> Result<(), RejectReason> {
    check_start(input, limits)?;
    if input.len() > limits.head_bytes_max.min(SPAN_BYTES_MAX) {
        return Err(RejectReason::HeadTooLarge);
    }
    Ok(())
}

/// Whether a head that is refused would not be without its last line, which has not ended. Then it is too early to say:
/// bytes that come one by one are only looked at when a line ends, and the answer must not depend on how they come.
#[cold]
pub(super) fn is_fault_of_last_line(input: &[u8]) -> bool {
    let lines = memchr::memrchr(b'\n', input).and_then(|end| input.get(..=end)).unwrap_or_default();
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_CAPACITY];
    httparse::Request::new(&mut []).parse_with_uninit_headers(lines, &mut headers).is_ok()
}

/// Whether the head begins with its request line, and CR LF follow right behind that line and behind each value. That leaves no room
/// for an LF of its own. A head with a space behind a value is none of these.
pub(super) fn has_plain_line_ends(head: &[u8], request: &httparse::Request<'_, '_>) -> bool {
    const VERSION: &str = " HTTP/1.1";
    let is_at = |end: usize| head.get(end..).is_some_and(|behind| behind.starts_with(b"\r\n"));
    let end_of =
        |part: &[u8]| part.as_ptr().addr().wrapping_sub(head.as_ptr().addr()).saturating_add(part.len());
    let (verb, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    verb.as_ptr() == head.as_ptr()
        && is_at(end_of(target.as_bytes()).saturating_add(VERSION.len()))
        && request.headers.iter().all(|header| is_at(end_of(header.value)))
        && head.ends_with(b"\r\n\r\n")
}

/// `httparse` takes a lone LF for a line's end; RFC 9112, section 2.2, lets us refuse it, for another reader might not.
pub(super) fn check_line_ends(head: &[u8]) -> Result<(), RejectReason> {
    let behind = head.get(1..).unwrap_or_default();
    // Without a branch for each byte, so that the compiler can look at many at once.
    let lone = head
        .iter()
        .zip(behind)
        .fold(false, |lone, (before, byte)| lone | ((*byte == b'\n') & (*before != b'\r')));
    if lone || head.first() == Some(&b'\n') { Err(RejectReason::MalformedHead) } else { Ok(()) }
}

/// Whether what stands for the version is one of HTTP, and not of another protocol or a stray word.
pub(super) fn names_http(input: &[u8]) -> bool {
    input.split(|&byte| byte == b' ').nth(2).is_some_and(|version| version.starts_with(b"HTTP/"))
}

/// The forms of RFC 9112, section 3.2; `PRI *`, by which HTTP/2 begins, is none of them. `httparse` lets bytes pass that no
/// URI has.
pub(super) fn is_target(target: &[u8], verb: &str) -> bool {
    let form = match target {
        [b'/', ..] => true,
        b"*" => verb == "OPTIONS",
        _ if verb == "CONNECT" => true,
        [first, ..] => first.is_ascii_alphabetic() && memchr::memmem::find(target, b"://").is_some(),
        [] => false,
    };
    form && target.is_ascii()
}
