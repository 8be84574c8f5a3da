//! The request head: `httparse` reads it, this file keeps what the server needs and refuses what is ambiguous.

use std::mem::MaybeUninit;

use super::reject::RejectReason;
use crate::config::Limits;

/// The verbs that are told apart.
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

/// A part of the head, by position. Heads are limited to 32 KiB, so 16 bits do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    start: u16,
    end: u16,
}

impl Span {
    /// Where `part` lies within `whole`.
    fn of(part: &[u8], whole: &[u8]) -> Self {
        let start = part.as_ptr().addr().saturating_sub(whole.as_ptr().addr());
        let position = |offset: usize| u16::try_from(offset).unwrap_or(u16::MAX);
        Self { start: position(start), end: position(start + part.len()) }
    }

    fn within(self, head: &[u8]) -> &[u8] {
        head.get(usize::from(self.start)..usize::from(self.end)).unwrap_or_default()
    }
}

/// A header that may stand once, as it stands in the head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Located {
    #[default]
    Absent,
    Once(Span),
    Repeated,
}

impl Located {
    fn put(&mut self, span: Span) {
        *self = if *self == Self::Absent { Self::Once(span) } else { Self::Repeated };
    }
}

/// A header that may stand once, its value without surrounding whitespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// It is not there.
    Absent,
    /// Its value.
    Value(&'a [u8]),
    /// It is there more than once: no value can be trusted.
    Repeated,
}

/// How the body's end is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// That many bytes; none without a Content-Length.
    Length(usize),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// A parsed head. Values are positions; the accessors take the bytes it was parsed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// The verb.
    pub method: Method,
    /// The head's length in bytes, the blank line included.
    pub length: usize,
    /// The body's framing.
    pub framing: BodyFraming,
    /// Whether the client wants the connection to go on.
    pub keep_alive: bool,
    /// HTTP/1.0: a persistent connection must be announced.
    pub http_1_0: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
    /// The body is encoded (RFC 9110, section 8.4), which is not supported; then no media type is reported.
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

/// No head may be longer, whatever the limits say: positions in it have 16 bits.
const SPAN_BYTES_MAX: usize = u16::MAX as usize;

/// More headers than any limit allows; `httparse` needs the room up front.
const HEADERS_CAPACITY: usize = 128;

impl RequestHead {
    /// Parses the head at the start of `input`. `None`: more bytes are needed.
    ///
    /// # Errors
    /// The reason to refuse the request and close the connection.
    pub fn parse(input: &[u8], limits: &Limits) -> Result<Option<Self>, RejectReason> {
        let mut headers = [const { MaybeUninit::uninit() }; HEADERS_CAPACITY];
        let mut request = httparse::Request::new(&mut []);
        let head_bytes_max = limits.head_bytes_max.min(SPAN_BYTES_MAX);
        let window = input.get(..head_bytes_max + 1).unwrap_or(input);
        check_start(window, limits)?;
        let length = match request.parse_with_uninit_headers(window, &mut headers) {
            Ok(httparse::Status::Complete(length)) if length <= head_bytes_max => length,
            Ok(httparse::Status::Complete(_)) => return Err(RejectReason::HeadTooLarge),
            Ok(httparse::Status::Partial) => return check_partial(input, limits).map(|()| None),
            Err(_) if is_fault_of_last_line(window) => return check_partial(input, limits).map(|()| None),
            Err(httparse::Error::TooManyHeaders) => return Err(RejectReason::HeadTooLarge),
            Err(httparse::Error::Version) if names_http(window) => {
                return Err(RejectReason::VersionNotSupported);
            }
            Err(_) => return Err(RejectReason::MalformedHead),
        };
        let bytes = input.get(..length).unwrap_or_default();
        if has_plain_line_ends(bytes, &request) {
            debug_assert_eq!(check_line_ends(bytes), Ok(()), "{:?}", bytes.escape_ascii());
        } else {
            check_line_ends(bytes)?;
        }
        if request.headers.len() > limits.headers_max {
            return Err(RejectReason::HeadTooLarge);
        }
        let target = request.path.unwrap_or_default().as_bytes();
        if target.len() > limits.target_bytes_max {
            return Err(RejectReason::TargetTooLong);
        }
        let verb = request.method.unwrap_or_default();
        if !is_target(target, verb) {
            return Err(RejectReason::MalformedHead);
        }
        let http_1_0 = request.version == Some(0);
        let mut head = Self {
            method: method(verb),
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
            // `httparse` leaves no whitespace around a value.
            let (name, value) = (header.name, header.value);
            if name.len() + value.len() > limits.header_bytes_max {
                return Err(RejectReason::HeadTooLarge);
            }
            // The length tells most names apart before a byte is compared.
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
                    // A client of HTTP/1.0 would take the interim reply for the last one (RFC 9110, section 10.1.1).
                    self.expect_continue = !self.http_1_0;
                    continue;
                }
                10 if is_named(name, b"connection") => {
                    closes |= self.read_connection(value);
                    continue;
                }
                14 if is_named(name, b"content-length") => {
                    let repeated = length.replace(content_length(value)?).is_some();
                    ambiguous |= repeated;
                    continue;
                }
                16 if is_named(name, b"content-encoding") => {
                    let is_coding =
                        |coding: &[u8]| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity");
                    if value.split(|&byte| byte == b',').map(trim).any(is_coding) {
                        self.is_encoded = true;
                        // The check of the media type, which every body gets, then checks the encoding too.
                        self.content_type = Located::Repeated;
                    }
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
        // Whatever stands beside it (RFC 9112, section 9.3).
        self.keep_alive &= !closes;
        self.framing = match (length, chunked) {
            // RFC 9112, section 6.1: both, or chunks in HTTP/1.0, are how requests are smuggled.
            _ if ambiguous => return Err(RejectReason::LengthAmbiguous),
            (Some(_), true) => return Err(RejectReason::LengthAmbiguous),
            (None, true) if self.http_1_0 => return Err(RejectReason::LengthAmbiguous),
            (None, true) => BodyFraming::Chunked,
            (length, false) => BodyFraming::Length(length.unwrap_or(0)),
        };
        match self.host {
            Located::Once(_) => Ok(()),
            Located::Absent if self.http_1_0 => Ok(()),
            Located::Absent | Located::Repeated => Err(RejectReason::HostMissing),
        }
    }

    /// Whether `close` is among the options.
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

    /// Whether bytes of a body follow.
    #[must_use]
    pub fn has_body(&self) -> bool {
        self.framing != BodyFraming::Length(0)
    }

    /// Any header by its name, whatever its case. Slower than the accessors below: the head is read again.
    #[must_use]
    pub fn field<'a>(&self, head: &'a [u8], name: &str) -> Field<'a> {
        let mut headers = [const { MaybeUninit::uninit() }; HEADERS_CAPACITY];
        let mut request = httparse::Request::new(&mut []);
        // It has been parsed before.
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

    /// Whether the client accepts event streams: by the most specific range that has them, whose weight must not
    /// be zero (RFC 9110, sections 12.4.2 and 12.5.1). Without an Accept it reads anything; one that is given twice is a list
    /// in two parts.
    #[must_use]
    pub fn accepts_events(&self, head: &[u8]) -> bool {
        match field(self.accept, head) {
            Field::Absent => true,
            Field::Value(accept) => EventRanges::default().read(accept).accepts(),
            Field::Repeated => {
                let mut headers = [const { MaybeUninit::uninit() }; HEADERS_CAPACITY];
                let mut request = httparse::Request::new(&mut []);
                // It has been parsed before.
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

/// The ranges of an Accept header that include event streams, from the most specific to the least: whether one of them has a
/// weight above zero; `None` without such a range.
#[derive(Clone, Copy, Default)]
struct EventRanges([Option<bool>; 3]);

impl EventRanges {
    /// With the ranges of one more header.
    fn read(mut self, accept: &[u8]) -> Self {
        for range in accept.split(|&byte| byte == b',') {
            let mut parts = range.split(|&byte| byte == b';').map(trim);
            let essence = parts.next().unwrap_or_default();
            let known = [b"text/event-stream".as_slice(), b"text/*", b"*/*"];
            let known = known.iter().zip(&mut self.0).find(|(known, _)| essence.eq_ignore_ascii_case(known));
            if let Some((_, place)) = known {
                *place = Some(place.unwrap_or(false) || !parts.any(is_weight_of_zero));
            }
        }
        self
    }

    fn accepts(self) -> bool {
        self.0.into_iter().flatten().next().unwrap_or(false)
    }
}

/// Whether a parameter of a range is `q=0`, with any number of zeros behind the point.
fn is_weight_of_zero(parameter: &[u8]) -> bool {
    let mut parts = parameter.splitn(2, |&byte| byte == b'=').map(trim);
    let is_weight = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(b"q"));
    match parts.next() {
        Some([b'0']) => is_weight,
        Some([b'0', b'.', zeros @ ..]) => is_weight && zeros.iter().all(|&digit| digit == b'0'),
        _ => false,
    }
}

fn field(located: Located, head: &[u8]) -> Field<'_> {
    match located {
        Located::Absent => Field::Absent,
        Located::Once(span) => Field::Value(span.within(head)),
        Located::Repeated => Field::Repeated,
    }
}

/// What a head may not be, however little of it is there.
fn check_start(input: &[u8], limits: &Limits) -> Result<(), RejectReason> {
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
pub(super) fn check_partial(input: &[u8], limits: &Limits) -> Result<(), RejectReason> {
    check_start(input, limits)?;
    if input.len() > limits.head_bytes_max.min(SPAN_BYTES_MAX) {
        return Err(RejectReason::HeadTooLarge);
    }
    Ok(())
}

/// Whether a head that is refused would not be without its last line, which has not ended. Then it is too early to say:
/// bytes that come one by one are only looked at when a line ends, and the answer must not depend on how they come.
#[cold]
fn is_fault_of_last_line(input: &[u8]) -> bool {
    let lines = memchr::memrchr(b'\n', input).and_then(|end| input.get(..=end)).unwrap_or_default();
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_CAPACITY];
    httparse::Request::new(&mut []).parse_with_uninit_headers(lines, &mut headers).is_ok()
}

/// Whether the head begins with its request line, and CR LF follow right behind that line and behind each value. That leaves no room
/// for an LF of its own. A head with a space behind a value is none of these.
fn has_plain_line_ends(head: &[u8], request: &httparse::Request<'_, '_>) -> bool {
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
fn check_line_ends(head: &[u8]) -> Result<(), RejectReason> {
    let behind = head.get(1..).unwrap_or_default();
    // Without a branch for each byte, so that the compiler can look at many at once.
    let lone = head
        .iter()
        .zip(behind)
        .fold(false, |lone, (before, byte)| lone | ((*byte == b'\n') & (*before != b'\r')));
    if lone || head.first() == Some(&b'\n') { Err(RejectReason::MalformedHead) } else { Ok(()) }
}

/// Whether what stands for the version is one of HTTP, and not of another protocol or a stray word.
fn names_http(input: &[u8]) -> bool {
    input.split(|&byte| byte == b' ').nth(2).is_some_and(|version| version.starts_with(b"HTTP/"))
}

/// The forms of RFC 9112, section 3.2; `PRI *`, by which HTTP/2 begins, is none of them. `httparse` lets bytes pass that no
/// URI has.
fn is_target(target: &[u8], verb: &str) -> bool {
    let form = match target {
        [b'/', ..] => true,
        b"*" => verb == "OPTIONS",
        _ if verb == "CONNECT" => true,
        [first, ..] => first.is_ascii_alphabetic() && memchr::memmem::find(target, b"://").is_some(),
        [] => false,
    };
    form && target.is_ascii()
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
    // More digits than a length can have is more than any limit allows.
    let length = value
        .iter()
        .try_fold(0_usize, |sum, digit| sum.checked_mul(10)?.checked_add(usize::from(digit - b'0')));
    length.ok_or(RejectReason::BodyTooLarge)
}

/// Whether a token is `lower`, a name in small letters and hyphens, in any case. Without a branch for each byte, and of a length
/// the compiler knows: no byte of a token but the letter itself becomes the letter, or the hyphen the hyphen, when its sixth
/// bit is set.
fn is_named<const LENGTH: usize>(token: &str, lower: &[u8; LENGTH]) -> bool {
    let differs = |different: u8, (byte, lower): (&u8, &u8)| different | (byte | 0x20) ^ lower;
    let token: Result<&[u8; LENGTH], _> = token.as_bytes().try_into();
    token.is_ok_and(|token| token.iter().zip(lower).fold(0, differs) == 0)
}

/// Without optional whitespace (RFC 9110, section 5.6.3) around it.
fn trim(value: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_space(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
    value.get(start..end).unwrap_or_default()
}

/// A header's value as the log shows it: escaped, its first 100 bytes.
pub fn excerpt(field: Field<'_>) -> Option<String> {
    const EXCERPT_BYTES_MAX: usize = 100;
    match field {
        Field::Absent => None,
        Field::Repeated => Some("given more than once".to_owned()),
        Field::Value(value) => {
            Some(value.get(..EXCERPT_BYTES_MAX).unwrap_or(value).escape_ascii().to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<RequestHead>, RejectReason> {
        RequestHead::parse(text.as_bytes(), &Limits::default())
    }

    #[test]
    fn headers_are_found_whatever_their_case_and_trimmed() {
        let text = "POST /mcp HTTP/1.1\r\nhOST: a\r\nMCP-Name: \t echo \t\r\ncontent-length: 12\r\n\r\n";
        let head = parse(text).unwrap().unwrap();
        assert_eq!(head.length, text.len());
        assert_eq!(head.mcp_name(text.as_bytes()), Field::Value(b"echo"));
        assert_eq!(head.host(text.as_bytes()), Field::Value(b"a"));
        assert_eq!(head.mcp_method(text.as_bytes()), Field::Absent);
        assert_eq!(head.target(text.as_bytes()), b"/mcp");
        assert_eq!((head.method, head.framing), (Method::Post, BodyFraming::Length(12)));
        assert!(head.keep_alive && !head.expect_continue);
    }

    #[test]
    fn connection_options_decide_persistence() {
        let keeps = |version: &str, option: &str| {
            parse(&format!("GET / HTTP/{version}\r\nHost: a\r\nConnection: {option}\r\n\r\n"))
                .unwrap()
                .unwrap()
                .keep_alive
        };
        assert!(!keeps("1.1", "upgrade, Close"));
        assert!(keeps("1.1", "upgrade"));
        assert!(keeps("1.0", "keep-alive"));
        assert!(!keeps("1.0", "upgrade"));
    }

    #[test]
    fn close_wins_over_keep_alive_wherever_it_stands() {
        for lines in [
            "Connection: close, keep-alive",
            "Connection: keep-alive, close",
            "Connection: Keep-Alive , CLOSE",
            "Connection: close\r\nConnection: keep-alive",
            "Connection: keep-alive\r\nConnection: close",
            "Connection: close\r\nX: y\r\nConnection: TE, keep-alive",
        ] {
            for version in ["1.0", "1.1"] {
                let head =
                    parse(&format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n\r\n")).unwrap().unwrap();
                assert!(!head.keep_alive, "{version} {lines}");
            }
        }
    }

    #[test]
    fn accept_weight_of_zero_excludes_event_streams() {
        let accepts = |lines: &str| {
            let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n");
            parse(&text).unwrap().unwrap().accepts_events(text.as_bytes())
        };
        for lines in [
            "X: y",
            "Accept: text/event-stream",
            "Accept: application/json, text/event-stream;q=0.1",
            "Accept: Text/Event-Stream; charset=utf-8; Q=0.001",
            "Accept: text/*",
            "Accept: application/json;q=0, */*",
            "Accept: */*;q=0, text/event-stream",
            "Accept: text/*;q=0, text/event-stream;q=1",
            "Accept: */*;q=0, text/*",
            "Accept: application/json\r\nAccept: text/event-stream",
        ] {
            assert!(accepts(lines), "{lines}");
        }
        for lines in [
            "Accept: application/json",
            "Accept: text/event-stream;q=0",
            "Accept: text/event-stream ; q = 0.000 , */*",
            "Accept: */*, text/event-stream;q=0.0",
            "Accept: text/*;q=0, */*",
            "Accept: */*;q=0",
            "Accept: application/json, text/event-stream;charset=utf-8;q=0",
            "Accept: application/json\r\nAccept: text/plain",
            "Accept: */*\r\nAccept: text/event-stream;q=0",
        ] {
            assert!(!accepts(lines), "{lines}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        use RejectReason as R;
        let cases = [
            ("Content-Length: 1\r\nContent-Length: 2", R::LengthAmbiguous),
            ("Content-Length: 1\r\nContent-Length: 1", R::LengthAmbiguous),
            ("Content-Length: +1", R::LengthAmbiguous),
            ("Content-Length: 0x1", R::LengthAmbiguous),
            ("Content-Length: 1, 1", R::LengthAmbiguous),
            ("Content-Length:", R::LengthAmbiguous),
            ("Content-Length: 99999999999999999999999", R::BodyTooLarge),
            ("Content-Length: 1\r\nTransfer-Encoding: chunked", R::LengthAmbiguous),
            ("Transfer-Encoding: gzip, chunked", R::TransferEncodingUnknown),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", R::TransferEncodingUnknown),
            ("Transfer-Encoding: identity", R::TransferEncodingUnknown),
            ("Host: b", R::HostMissing),
            ("Expect: something", R::ExpectationUnknown),
            ("A : b", R::MalformedHead),
            (": b", R::MalformedHead),
            ("A: b\r\n c", R::MalformedHead),
            ("A: b\nC: d", R::MalformedHead),
            ("A: b\rC: d", R::MalformedHead),
            ("A: b\0", R::MalformedHead),
        ];
        for (lines, reason) in cases {
            let text = format!("POST /mcp HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n");
            assert_eq!(parse(&text), Err(reason), "{lines:?}");
        }
        assert_eq!(parse("GET / HTTP/1.1\r\n\r\n"), Err(R::HostMissing));
        assert_eq!(parse("GET / HTTP/2.0\r\n\r\n"), Err(R::VersionNotSupported));
        for line in ["GET / ICE/1.0", "GET / http/1.1", "GET /  HTTP/1.1", "GET / / HTTP/1.1"] {
            assert_eq!(parse(&format!("{line}\r\n\r\n")), Err(R::MalformedHead), "{line}");
        }
        assert_eq!(parse("GET /\r\n\r\n"), Err(R::MalformedHead));
        for line in [
            "PRI * HTTP/1.1",
            "GET * HTTP/1.1",
            "GET mcp HTTP/1.1",
            "GET :// HTTP/1.1",
            "GET /\u{e9} HTTP/1.1",
        ] {
            assert_eq!(parse(&format!("{line}\r\nHost: a\r\n\r\n")), Err(R::MalformedHead), "{line}");
        }
        for line in ["OPTIONS * HTTP/1.1", "CONNECT a:1 HTTP/1.1", "GET http://a/ HTTP/1.1"] {
            assert!(parse(&format!("{line}\r\nHost: a\r\n\r\n")).is_ok(), "{line}");
        }
        assert_eq!(parse("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), Err(R::LengthAmbiguous));
        // RFC 9112, section 2.2: an empty line in front is to be ignored.
        assert!(parse("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").is_ok());
        assert_eq!(parse("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), Err(R::MalformedHead));
    }

    #[test]
    fn each_limit_holds_at_it_and_breaks_one_past_it() {
        let limits = Limits::default();
        let target = |length: usize| {
            parse(&format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(length - 1))).map(|_| ())
        };
        assert_eq!(target(limits.target_bytes_max), Ok(()));
        assert_eq!(target(limits.target_bytes_max + 1), Err(RejectReason::TargetTooLong));
        let header = |length: usize| {
            parse(&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(length - 1))).map(|_| ())
        };
        assert_eq!(header(limits.header_bytes_max), Ok(()));
        assert_eq!(header(limits.header_bytes_max + 1), Err(RejectReason::HeadTooLarge));
        let headers = |count: usize| {
            parse(&format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count - 1))).map(|_| ())
        };
        assert_eq!(headers(limits.headers_max), Ok(()));
        assert_eq!(headers(limits.headers_max + 1), Err(RejectReason::HeadTooLarge));
        let head = |length: usize| {
            let start = "GET / HTTP/1.1\r\nHost: a\r\n";
            let mut text = start.to_owned();
            while length - text.len() > 9000 {
                text.push_str(&format!("X: {}\r\n", "x".repeat(7000)));
            }
            let last = length - text.len() - 7;
            text.push_str(&format!("X: {}\r\n\r\n", "x".repeat(last)));
            assert_eq!(text.len(), length);
            parse(&text).map(|_| ())
        };
        assert_eq!(head(limits.head_bytes_max - 2000), Ok(()));
        assert_eq!(head(limits.head_bytes_max), Ok(()));
        assert_eq!(head(limits.head_bytes_max + 1), Err(RejectReason::HeadTooLarge));
    }

    #[test]
    fn an_endless_head_is_refused_before_it_ends() {
        assert_eq!(parse(&format!("GET /{}", "x".repeat(9000))), Err(RejectReason::TargetTooLong));
        let endless = format!("GET / HTTP/1.1\r\nHost: a\r\n{}", "X: y\r\n".repeat(7000));
        assert_eq!(parse(&endless), Err(RejectReason::HeadTooLarge));
        assert_eq!(parse("GET / HTTP/1.1\r\nHost"), Ok(None));
    }

    #[test]
    fn a_head_is_judged_by_its_whole_lines() {
        for start in ["GET / FTP", "GET / HTTP/1.1\r\nA b", "GET / HTTP/1.1\r\nA: b\r\n c", "\0", "GET\0"] {
            let early = parse(start);
            let late = parse(&format!("{start}\r\n"));
            assert!(late.is_err(), "{start:?}");
            let is_other_protocol = start.starts_with('\0');
            assert_eq!(early.is_err(), is_other_protocol, "{start:?}");
        }
        assert_eq!(parse("\x16\x03\x01\x02"), Err(RejectReason::MalformedHead), "TLS");
        let long = "x".repeat(9000);
        assert_eq!(parse(&format!("GET /{long} HTTP/3.0\r\n")), Err(RejectReason::TargetTooLong));
        assert_eq!(parse(&format!("{long} / HTTP/1.1\r\n")), Err(RejectReason::TargetTooLong));
    }
}
