//! Replies: the head is written into the send buffer first, and the body's length is filled in afterwards.

use std::{
    io::Write,
    time::{Duration, SystemTime},
};

/// Statuses this server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// 200
    Ok,
    /// 202
    Accepted,
    /// 204
    NoContent,
    /// 302
    Found,
    /// 400
    BadRequest,
    /// 403
    Forbidden,
    /// 404
    NotFound,
    /// 405
    MethodNotAllowed,
    /// 406
    NotAcceptable,
    /// 408
    RequestTimeout,
    /// 413
    ContentTooLarge,
    /// 414
    UriTooLong,
    /// 415
    UnsupportedMediaType,
    /// 417
    ExpectationFailed,
    /// 431
    HeaderFieldsTooLarge,
    /// 501
    NotImplemented,
    /// 503
    ServiceUnavailable,
    /// 505
    VersionNotSupported,
}

impl Status {
    /// The status code.
    #[must_use]
    pub fn code(self) -> u16 {
        self.line().get(..3).and_then(|code| code.parse().ok()).unwrap_or_default()
    }

    /// Status code and reason phrase.
    #[must_use]
    pub fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::Accepted => "202 Accepted",
            Self::NoContent => "204 No Content",
            Self::Found => "302 Found",
            Self::BadRequest => "400 Bad Request",
            Self::Forbidden => "403 Forbidden",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::NotAcceptable => "406 Not Acceptable",
            Self::RequestTimeout => "408 Request Timeout",
            Self::ContentTooLarge => "413 Content Too Large",
            Self::UriTooLong => "414 URI Too Long",
            Self::UnsupportedMediaType => "415 Unsupported Media Type",
            Self::ExpectationFailed => "417 Expectation Failed",
            Self::HeaderFieldsTooLarge => "431 Request Header Fields Too Large",
            Self::NotImplemented => "501 Not Implemented",
            Self::ServiceUnavailable => "503 Service Unavailable",
            Self::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }
}

/// Interim reply for a client that sent `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Header lines of every event stream. They disable caching, and buffering in reverse proxies
/// (<https://modelcontextprotocol.io/specification/2026-07-28/basic/transports/streamable-http#receiving-messages>).
const EVENTS_LINES: &str =
    "Content-Type: text/event-stream\r\nCache-Control: no-cache, no-transform\r\nX-Accel-Buffering: no\r\n";

/// The end of a head, behind the length of the body.
const HEAD_END: &str = "\r\n\r\n";

/// Writes the heads of replies. The head of a 200 with JSON is kept encoded, with its date.
pub struct ResponseHeads {
    /// The head, with zeros in the place of the length, as many as the last one had digits: replies of one server are of similar
    /// sizes.
    ok: Vec<u8>,
    date: String,
    /// `date` in seconds since 1970.
    second: u64,
}

/// Room for the head of a reply whose body is being written behind it.
#[derive(Clone, Copy, Debug)]
#[must_use = "a reply must be finished"]
pub struct ReservedHead {
    /// Offset of the reply in the buffer.
    start: usize,
    /// Offset of its body.
    body: usize,
}

impl ReservedHead {
    /// Removes the room and what has been written of the body.
    pub fn cancel(self, out: &mut Vec<u8>) {
        out.truncate(self.start);
    }

    /// Removes the body that has been written and returns it.
    #[must_use]
    pub fn take_body(self, out: &mut Vec<u8>) -> Vec<u8> {
        out.split_off(self.body.min(out.len()))
    }
}

impl ResponseHeads {
    /// Creates heads with the date `now`.
    #[must_use]
    pub fn new(now: SystemTime) -> Self {
        let mut heads = Self { ok: Vec::new(), date: String::new(), second: u64::MAX };
        heads.set_date(now);
        heads
    }

    /// Sets the date of the heads that follow (<https://www.rfc-editor.org/rfc/rfc9110#section-6.6.1>). Encodes it at most once a
    /// second.
    pub fn set_date(&mut self, now: SystemTime) {
        let second = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if second == self.second {
            return;
        }
        self.second = second;
        self.date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(second));
        self.write_ok("000");
    }

    /// Encodes the head of a 200 with this length.
    fn write_ok(&mut self, length: &str) {
        self.ok.clear();
        let date = &self.date;
        // Writing to a vector does not fail.
        let _ = write!(
            self.ok,
            "HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Type: application/json\r\nContent-Length: {length}{HEAD_END}"
        );
    }

    /// Appends the head of a 200 with a body of the usual size. The caller appends the body to `out`, and finishes the head when the
    /// status and the length are known.
    pub fn reserve(&self, out: &mut Vec<u8>) -> ReservedHead {
        let start = out.len();
        out.extend_from_slice(&self.ok);
        ReservedHead { start, body: out.len() }
    }

    /// Finishes the head of a 200 on a connection that stays open.
    pub fn finish(&mut self, out: &mut Vec<u8>, reply: ReservedHead) {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(out.len() - reply.body).as_bytes();
        let end = reply.body - HEAD_END.len();
        let start = end - digits.len();
        // The byte before the length is a space, unless the length has another number of digits.
        if out.get(start - 1) == Some(&b' ')
            && let Some(length) = out.get_mut(start..end)
        {
            length.copy_from_slice(digits);
        } else {
            self.replace_head(out, reply);
        }
    }

    /// Writes the head of a 200 whose length has another number of digits than was reserved, and reserves as many from now on.
    #[cold]
    fn replace_head(&mut self, out: &mut Vec<u8>, reply: ReservedHead) {
        self.write_ok(&(out.len() - reply.body).to_string());
        out.splice(reply.start..reply.body, self.ok.iter().copied());
    }

    /// Writes the head of a reply with any status, and with further headers. `extra` holds complete header lines.
    pub fn finish_with(&mut self, out: &mut Vec<u8>, response: ReservedHead, status: Status, extra: &str) {
        if status == Status::Ok && extra.is_empty() {
            return self.finish(out, response);
        }
        let body = out.split_off(response.body);
        out.truncate(response.start);
        self.write(out, status, extra, &body);
    }

    /// Writes the head of an event stream. Without `chunked`, for HTTP/1.0, closing the connection ends the stream.
    /// `extra` holds complete header lines.
    pub fn write_events_head(&self, out: &mut Vec<u8>, chunked: bool, extra: &str) {
        let framing = if chunked { "Transfer-Encoding: chunked\r\n" } else { "" };
        // Writing to a vector does not fail.
        let _ = write!(out, "HTTP/1.1 200 OK\r\nDate: {}\r\n{EVENTS_LINES}{framing}{extra}\r\n", self.date);
    }

    /// Writes the head of an event stream that is complete.
    pub fn finish_events(&self, out: &mut Vec<u8>, response: ReservedHead, extra: &str) {
        let body = out.split_off(response.body);
        out.truncate(response.start);
        let _ = write!(
            out,
            "HTTP/1.1 200 OK\r\nDate: {}\r\n{EVENTS_LINES}Content-Length: {}\r\n{extra}\r\n",
            self.date,
            body.len()
        );
        out.extend_from_slice(&body);
    }

    /// Writes a complete reply. Without a body it has no Content-Type.
    pub fn write(&self, out: &mut Vec<u8>, status: Status, extra: &str, body: &[u8]) {
        // Writing to a vector does not fail.
        let _ = write!(out, "HTTP/1.1 {}\r\nDate: {}\r\n", status.line(), self.date);
        if !body.is_empty() {
            out.extend_from_slice(b"Content-Type: application/json\r\n");
        }
        // A 204 has no Content-Length: <https://www.rfc-editor.org/rfc/rfc9110#section-8.6>
        if status != Status::NoContent {
            let _ = write!(out, "Content-Length: {}\r\n", body.len());
        }
        let _ = write!(out, "{extra}\r\n");
        out.extend_from_slice(body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_length_is_correct_for_any_number_of_digits() {
        let mut heads = ResponseHeads::new(SystemTime::UNIX_EPOCH);
        for length in [0, 1, 99, 100, 999, 1000, 123_456] {
            let mut out = b"before".to_vec();
            let start = heads.reserve(&mut out);
            out.resize(out.len() + length, b'x');
            heads.finish(&mut out, start);
            let text = String::from_utf8(out).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert_eq!(
                head,
                format!(
                    "beforeHTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
                     Content-Type: application/json\r\nContent-Length: {length}"
                )
            );
            assert_eq!(body.len(), length);
        }
    }

    #[test]
    fn started_reply_can_change_its_status() {
        let mut heads = ResponseHeads::new(SystemTime::UNIX_EPOCH);
        let mut out = Vec::new();
        let start = heads.reserve(&mut out);
        out.extend_from_slice(b"{}");
        heads.finish_with(&mut out, start, Status::NotFound, "Connection: close\r\n");
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("HTTP/1.1 404 Not Found\r\n"), "{text}");
        assert!(text.ends_with("Content-Length: 2\r\nConnection: close\r\n\r\n{}"), "{text}");
    }
}
