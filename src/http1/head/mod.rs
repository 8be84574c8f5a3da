//! Request heads: parsed by `httparse`, reduced to what the server needs; ambiguous heads are rejected.

mod accept;
mod checks;
mod field;

use std::mem::MaybeUninit;

pub(super) use self::checks::check_partial;
pub use self::field::{Field, excerpt};
use self::{
    accept::EventRanges,
    checks::{
        HEADERS_CAPACITY, SPAN_BYTES_MAX, check_line_ends, check_start, check_unparsed, has_plain_line_ends,
        is_target,
    },
    field::{Located, Span, field, is_named, trim},
};
use super::reject::RejectReason;
use crate::config::Limits;

/// Request methods the server distinguishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// DELETE
    Delete,
    /// OPTIONS
    Options,
    /// Any other token.
    Other,
}

/// Framing of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// This many bytes; 0 without a Content-Length.
    Length(usize),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// A parsed head. It holds positions; the accessors take the bytes it was parsed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// The request method.
    pub method: Method,
    /// Length of the head in bytes, including the empty line.
    pub length: usize,
    /// The body's framing.
    pub framing: BodyFraming,
    /// Whether the connection is persistent.
    pub keep_alive: bool,
    /// The version is HTTP/1.0, in which the reply announces a persistent connection.
    pub http_1_0: bool,
    /// The client expects `100 Continue` before it sends the body.
    pub expect_continue: bool,
    /// The body has a content coding (<https://www.rfc-editor.org/rfc/rfc9110#section-8.4>), which is not supported.
    /// [`RequestHead::content_type`] then returns [`Field::Repeated`].
    pub is_encoded: bool,
    target: Span,
    host: Located,
    origin: Located,
    content_type: Located,
    protocol_version: Located,
    mcp_method: Located,
    mcp_name: Located,
    mcp_session_id: Located,
    last_event_id: Located,
    accept: Located,
}

impl RequestHead {
    /// Parses the head at the start of `input`. Returns `None` while the head is incomplete.
    ///
    /// # Errors
    /// Why the request is rejected and the connection closed.
    pub fn parse(input: &[u8], limits: &Limits) -> Result<Option<Self>, RejectReason> {
        let mut headers = [const { MaybeUninit::uninit() }; HEADERS_CAPACITY];
        let mut request = httparse::Request::new(&mut []);
        let head_bytes_max = limits.head_bytes_max.min(SPAN_BYTES_MAX);
        let window = input.get(..head_bytes_max + 1).unwrap_or(input);
        let length = match request.parse_with_uninit_headers(window, &mut headers) {
            Ok(httparse::Status::Complete(length)) if length <= head_bytes_max => length,
            parsed => return check_unparsed(parsed, window, limits).map(|()| None),
        };
        let target = request.path.unwrap_or_default().as_bytes();
        let method_name = request.method.unwrap_or_default();
        // A shorter request line is within the limit.
        if method_name.len() + target.len() > limits.target_bytes_max {
            check_start(window, limits)?;
        }
        let bytes = input.get(..length).unwrap_or_default();
        if has_plain_line_ends(bytes, &request) {
            debug_assert_eq!(check_line_ends(bytes), Ok(()), "{:?}", bytes.escape_ascii());
        } else {
            check_line_ends(bytes)?;
        }
        if request.headers.len() > limits.headers_max {
            return Err(RejectReason::HeadTooLarge);
        }
        if target.len() > limits.target_bytes_max {
            return Err(RejectReason::TargetTooLong);
        }
        if !is_target(target, method_name) {
            return Err(RejectReason::MalformedHead);
        }
        let http_1_0 = request.version == Some(0);
        let mut head = Self {
            method: method(method_name),
            length,
            framing: BodyFraming::Length(0),
            keep_alive: !http_1_0,
            http_1_0,
            expect_continue: false,
            is_encoded: false,
            target: Span::of(target, bytes),
            host: Located::Absent,
            origin: Located::Absent,
            content_type: Located::Absent,
            protocol_version: Located::Absent,
            mcp_method: Located::Absent,
            mcp_name: Located::Absent,
            mcp_session_id: Located::Absent,
            last_event_id: Located::Absent,
            accept: Located::Absent,
        };
        head.read_headers(request.headers, bytes, limits)?;
        Ok(Some(head))
    }

    fn read_headers(
        &mut self,
        headers: &[httparse::Header<'_>],
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<(), RejectReason> {
        let mut length = None;
        let mut chunked = false;
        let mut ambiguous = false;
        let mut closes = false;
        for header in headers {
            // `httparse` removes the whitespace around a value.
            let (name, value) = (header.name, header.value);
            if name.len() + value.len() > limits.header_bytes_max {
                return Err(RejectReason::HeadTooLarge);
            }
            // The length distinguishes most names before any byte is compared.
            let located = match name.len() {
                4 if is_named(name, b"host") => &mut self.host,
                6 if is_named(name, b"origin") => &mut self.origin,
                6 if is_named(name, b"accept") => &mut self.accept,
                8 if is_named(name, b"mcp-name") => &mut self.mcp_name,
                10 if is_named(name, b"mcp-method") => &mut self.mcp_method,
                12 if is_named(name, b"content-type") => &mut self.content_type,
                13 if is_named(name, b"last-event-id") => &mut self.last_event_id,
                14 if is_named(name, b"mcp-session-id") => &mut self.mcp_session_id,
                20 if is_named(name, b"mcp-protocol-version") => &mut self.protocol_version,
                6 if is_named(name, b"expect") => {
                    if !value.eq_ignore_ascii_case(b"100-continue") {
                        return Err(RejectReason::ExpectationUnknown);
                    }
                    // HTTP/1.0 has no interim replies: <https://www.rfc-editor.org/rfc/rfc9110#section-10.1.1>
                    self.expect_continue = !self.http_1_0;
                    continue;
                }
                10 if is_named(name, b"connection") => {
                    closes |= self.read_connection(value);
                    continue;
                }
                14 if is_named(name, b"content-length") => {
                    ambiguous |= length.replace(content_length(value)?).is_some();
                    continue;
                }
                16 if is_named(name, b"content-encoding") => {
                    self.read_content_encoding(value);
                    continue;
                }
                17 if is_named(name, b"transfer-encoding") => {
                    if chunked || !value.eq_ignore_ascii_case(b"chunked") {
                        return Err(RejectReason::TransferEncodingUnknown);
                    }
                    chunked = true;
                    continue;
                }
                _ => continue,
            };
            located.put(Span::of(value, bytes));
        }
        // `close` takes precedence over `keep-alive`: <https://www.rfc-editor.org/rfc/rfc9112#section-9.3>
        self.keep_alive &= !closes;
        if ambiguous {
            return Err(RejectReason::LengthAmbiguous);
        }
        self.framing = self.body_framing(length, chunked)?;
        match self.host {
            Located::Once(_) => Ok(()),
            Located::Absent if self.http_1_0 => Ok(()),
            Located::Absent | Located::Repeated => Err(RejectReason::HostMissing),
        }
    }

    #[inline]
    fn body_framing(&self, length: Option<usize>, chunked: bool) -> Result<BodyFraming, RejectReason> {
        match (length, chunked) {
            // Both headers, or chunks in HTTP/1.0, permit request smuggling: <https://www.rfc-editor.org/rfc/rfc9112#section-6.1>
            (Some(_), true) => Err(RejectReason::LengthAmbiguous),
            (None, true) if self.http_1_0 => Err(RejectReason::LengthAmbiguous),
            (None, true) => Ok(BodyFraming::Chunked),
            (length, false) => Ok(BodyFraming::Length(length.unwrap_or(0))),
        }
    }

    fn read_content_encoding(&mut self, value: &[u8]) {
        let is_coding = |coding: &[u8]| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity");
        if value.split(|&byte| byte == b',').map(trim).any(is_coding) {
            self.is_encoded = true;
            // Makes the check of the media type fail, so that an unencoded body needs no check of its own.
            self.content_type = Located::Repeated;
        }
    }

    /// Applies the options of a Connection header and returns whether `close` is among them.
    fn read_connection(&mut self, value: &[u8]) -> bool {
        let mut closes = false;
        for option in value.split(|&byte| byte == b',').map(trim) {
            if option.eq_ignore_ascii_case(b"close") {
                closes = true;
            } else if self.http_1_0 && option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            }
        }
        closes
    }

    /// Whether a body follows.
    #[must_use]
    pub fn has_body(&self) -> bool {
        self.framing != BodyFraming::Length(0)
    }

    /// Any header, by its name in any case. Slower than the other accessors: it parses the head again.
    #[must_use]
    pub fn field<'a>(&self, head: &'a [u8], name: &str) -> Field<'a> {
        let mut headers = [const { MaybeUninit::uninit() }; HEADERS_CAPACITY];
        let mut request = httparse::Request::new(&mut []);
        // Not expected: the head has been parsed before.
        if request.parse_with_uninit_headers(head, &mut headers).is_err() {
            return Field::Absent;
        }
        let mut found = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        match (found.next(), found.next()) {
            (None, _) => Field::Absent,
            (Some(header), None) => Field::Value(header.value),
            (Some(_), Some(_)) => Field::Repeated,
        }
    }

    /// The request target, as sent.
    #[must_use]
    pub fn target<'a>(&self, head: &'a [u8]) -> &'a [u8] {
        self.target.within(head)
    }

    /// The Host header.
    #[must_use]
    pub fn host<'a>(&self, head: &'a [u8]) -> Field<'a> {
        field(self.host, head)
    }

    /// The Origin header.
    #[must_use]
    pub fn origin<'a>(&self, head: &'a [u8]) -> Field<'a> {
        field(self.origin, head)
    }

    /// The Content-Type header.
    #[must_use]
    pub fn content_type<'a>(&self, head: &'a [u8]) -> Field<'a> {
        field(self.content_type, head)
    }

    /// The MCP-Protocol-Version header.
    #[must_use]
    pub fn protocol_version<'a>(&self, head: &'a [u8]) -> Field<'a> {
        field(self.protocol_version, head)
    }

    /// The Mcp-Method header.
    #[must_use]
    pub fn mcp_method<'a>(&self, head: &'a [u8]) -> Field<'a> {
        field(self.mcp_method, head)
    }

    /// The Mcp-Session-Id header.
    #[must_use]
    pub fn mcp_session_id<'a>(&self, head: &'a [u8]) -> Field<'a> {
        field(self.mcp_session_id, head)
    }

    /// The Last-Event-ID header.
    #[must_use]
    pub fn last_event_id<'a>(&self, head: &'a [u8]) -> Field<'a> {
        field(self.last_event_id, head)
    }

    /// Whether the client accepts event streams: the most specific media range that includes them must have a weight above zero
    /// (<https://www.rfc-editor.org/rfc/rfc9110#section-12.5.1>). Without an Accept header every type is accepted; several
    /// headers form one list.
    #[must_use]
    pub fn accepts_events(&self, head: &[u8]) -> bool {
        match field(self.accept, head) {
            Field::Absent => true,
            Field::Value(accept) => EventRanges::default().read(accept).accepts(),
            Field::Repeated => {
                let mut headers = [const { MaybeUninit::uninit() }; HEADERS_CAPACITY];
                let mut request = httparse::Request::new(&mut []);
                // Not expected: the head has been parsed before.
                if request.parse_with_uninit_headers(head, &mut headers).is_err() {
                    return true;
                }
                let accepts = request.headers.iter().filter(|header| is_named(header.name, b"accept"));
                accepts.fold(EventRanges::default(), |ranges, accept| ranges.read(accept.value)).accepts()
            }
        }
    }

    /// The Mcp-Name header.
    #[must_use]
    pub fn mcp_name<'a>(&self, head: &'a [u8]) -> Field<'a> {
        field(self.mcp_name, head)
    }
}

fn method(token: &str) -> Method {
    match token {
        "POST" => Method::Post,
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        _ => Method::Other,
    }
}

fn content_length(value: &[u8]) -> Result<usize, RejectReason> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(RejectReason::LengthAmbiguous);
    }
    // A value beyond `usize` exceeds any limit.
    let length = value
        .iter()
        .try_fold(0_usize, |sum, digit| sum.checked_mul(10)?.checked_add(usize::from(digit - b'0')));
    length.ok_or(RejectReason::BodyTooLarge)
}

#[cfg(test)]
mod tests;
