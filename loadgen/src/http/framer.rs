//! Framing of replies. A reply that is complete in its receive buffer is passed on without a copy.

use super::{
    chunked::Chunked,
    events::Events,
    lines,
    part::{FrameError, Head, Part},
};

/// Maximum length of a reply's head, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Maximum length of a reply's body, in bytes; a body is buffered until it is complete.
const BODY_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Number of header lines that are parsed: the usual number, and the maximum that a head of [`HEAD_BYTES_MAX`] can
/// have.
const HEADERS_USUAL: usize = 64;
const HEADERS_MAX: usize = HEAD_BYTES_MAX / 4;

/// The framer of one connection.
#[derive(Debug, Default)]
pub struct Framer {
    /// Bytes of an incomplete head, body or line.
    buffered: Vec<u8>,
    body: Option<Body>,
    /// Whether each line is a message, instead of HTTP.
    lines: bool,
}

/// A reply whose head has been read.
#[derive(Debug)]
struct Body {
    head: Head,
    length: Length,
    events: Option<Box<Events>>,
}

#[derive(Debug)]
enum Length {
    /// Number of bytes that are missing.
    Known(usize),
    Chunked(Box<Chunked>),
    /// The body ends with the connection.
    UntilClose,
}

impl Framer {
    /// Creates a framer for newline-delimited JSON. Replies have the status 200; notifications and requests of the
    /// server are skipped.
    #[must_use]
    pub fn lines() -> Self {
        Self { lines: true, ..Self::default() }
    }

    /// Consumes received bytes. After an error the connection cannot be used.
    ///
    /// # Errors
    /// When the bytes are not replies.
    pub fn receive(&mut self, mut bytes: &[u8], sink: &mut impl FnMut(Part<'_>)) -> Result<(), FrameError> {
        if self.lines {
            return self.receive_lines(bytes, sink);
        }
        while !bytes.is_empty() {
            match self.body.take() {
                Some(body) => self.take_body(body, &mut bytes, sink)?,
                None if self.buffered.is_empty() => match parse(bytes)? {
                    Some((length, body)) => {
                        bytes = bytes.get(length..).unwrap_or_default();
                        self.begin(body, sink);
                    }
                    None => {
                        self.buffer(bytes, HEAD_BYTES_MAX)?;
                        return Ok(());
                    }
                },
                None => {
                    let before = self.buffered.len();
                    self.buffer(bytes, HEAD_BYTES_MAX)?;
                    let Some((length, body)) = parse(&self.buffered)? else { return Ok(()) };
                    self.buffered.clear();
                    bytes = bytes.get(length.saturating_sub(before)..).unwrap_or_default();
                    self.begin(body, sink);
                }
            }
        }
        Ok(())
    }

    fn receive_lines(&mut self, mut bytes: &[u8], sink: &mut impl FnMut(Part<'_>)) -> Result<(), FrameError> {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = bytes.split_at(end);
            bytes = rest.get(1..).unwrap_or_default();
            if self.buffered.is_empty() {
                lines::message(line, sink)?;
            } else {
                self.buffer(line, BODY_BYTES_MAX)?;
                let mut buffered = std::mem::take(&mut self.buffered);
                lines::message(&buffered, sink)?;
                buffered.clear();
                self.buffered = buffered;
            }
        }
        self.buffer(bytes, BODY_BYTES_MAX)
    }

    /// Whether no byte of an unfinished reply has been received.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.body.is_none() && self.buffered.is_empty()
    }

    /// Handles the end of the stream. Returns whether it is a valid end.
    pub fn end(&mut self, sink: &mut impl FnMut(Part<'_>)) -> bool {
        match self.body.take() {
            Some(Body { head, length: Length::UntilClose, events }) => {
                if events.is_none() {
                    sink(Part::Message(&head, &self.buffered));
                }
                self.buffered.clear();
                sink(Part::End(&head));
                true
            }
            Some(_) => false,
            None => self.buffered.is_empty(),
        }
    }

    /// Starts a reply after its head. Without a body the reply is complete.
    fn begin(&mut self, body: Body, sink: &mut impl FnMut(Part<'_>)) {
        match body {
            // An interim reply: the final one follows.
            Body { head: Head { status: 100..=199, .. }, .. } => {}
            Body { head, length: Length::Known(0), .. } => {
                sink(Part::Message(&head, b""));
                sink(Part::End(&head));
            }
            body => self.body = Some(body),
        }
    }

    fn take_body(
        &mut self,
        mut body: Body,
        bytes: &mut &[u8],
        sink: &mut impl FnMut(Part<'_>),
    ) -> Result<(), FrameError> {
        let Body { head, length, events } = &mut body;
        let complete = match (length, &mut *events) {
            (Length::Known(left), None) if self.buffered.is_empty() && bytes.len() >= *left => {
                let (whole, rest) = bytes.split_at(*left);
                *bytes = rest;
                sink(Part::Message(head, whole));
                sink(Part::End(head));
                return Ok(());
            }
            (Length::Known(left), events) => {
                let (part, rest) = bytes.split_at((*left).min(bytes.len()));
                *bytes = rest;
                *left -= part.len();
                let complete = *left == 0;
                self.take_part(part, head, events, sink)?;
                complete
            }
            (Length::Chunked(chunked), events) => {
                let mut taken = Ok(());
                let complete = chunked
                    .take(bytes, |part| {
                        if taken.is_ok() {
                            taken = self.take_part(part, head, events, sink);
                        }
                    })
                    .map_err(|_| FrameError::Body)?;
                taken?;
                complete
            }
            (Length::UntilClose, events) => {
                self.take_part(bytes, head, events, sink)?;
                *bytes = &[];
                false
            }
        };
        if !complete {
            self.body = Some(body);
            return Ok(());
        }
        if events.is_none() {
            sink(Part::Message(head, &self.buffered));
        }
        self.buffered.clear();
        sink(Part::End(head));
        Ok(())
    }

    fn take_part(
        &mut self,
        part: &[u8],
        head: &Head,
        events: &mut Option<Box<Events>>,
        sink: &mut impl FnMut(Part<'_>),
    ) -> Result<(), FrameError> {
        match events {
            Some(events) => {
                events.take(part, |data| sink(Part::Message(head, data)));
                Ok(())
            }
            None => self.buffer(part, BODY_BYTES_MAX),
        }
    }

    fn buffer(&mut self, bytes: &[u8], max: usize) -> Result<(), FrameError> {
        if self.buffered.len() + bytes.len() > max {
            return Err(FrameError::TooLarge);
        }
        self.buffered.extend_from_slice(bytes);
        Ok(())
    }
}

/// Parses a head. Returns its length in bytes once it is complete.
fn parse(bytes: &[u8]) -> Result<Option<(usize, Body)>, FrameError> {
    match parse_into(&mut [httparse::EMPTY_HEADER; HEADERS_USUAL], bytes) {
        Err(httparse::Error::TooManyHeaders) => {
            parse_into(&mut vec![httparse::EMPTY_HEADER; HEADERS_MAX], bytes).map_err(|_| FrameError::Head)?
        }
        parsed => parsed.map_err(|_| FrameError::Head)?,
    }
}

/// Like [`parse`], with `headers` as the buffer for header lines. The inner error concerns the body.
fn parse_into<'a>(
    headers: &mut [httparse::Header<'a>],
    bytes: &'a [u8],
) -> Result<Result<Option<(usize, Body)>, FrameError>, httparse::Error> {
    let mut response = httparse::Response::new(headers);
    let length = match response.parse(bytes)? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => return Ok(Ok(None)),
    };
    Ok(interpret(&response).map(|body| Some((length, body))))
}

/// Determines the delimiter of the body from a complete head.
fn interpret(response: &httparse::Response<'_, '_>) -> Result<Body, FrameError> {
    let mut head = Head { status: response.code.unwrap_or(0), ..Head::default() };
    let (mut close, mut keep_alive) = (false, false);
    let mut body = None;
    for header in response.headers.iter() {
        let value = header.value.trim_ascii();
        match header.name.len() {
            10 if header.name.eq_ignore_ascii_case("connection") => {
                for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    close |= option.eq_ignore_ascii_case(b"close");
                    keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            12 if header.name.eq_ignore_ascii_case("content-type") => {
                let media = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
                head.is_stream = media.eq_ignore_ascii_case(b"text/event-stream");
                head.is_json = media.eq_ignore_ascii_case(b"application/json");
            }
            14 if header.name.eq_ignore_ascii_case("content-length") => {
                let digits = std::str::from_utf8(value).ok().and_then(|text| text.parse::<usize>().ok());
                let length = digits.filter(|length| *length <= BODY_BYTES_MAX).ok_or(FrameError::Body)?;
                body = body.or(Some(Length::Known(length)));
            }
            14 if header.name.eq_ignore_ascii_case("mcp-session-id") => {
                head.session = std::str::from_utf8(value).ok().map(Box::from);
            }
            17 if header.name.eq_ignore_ascii_case("transfer-encoding") => {
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(FrameError::Body);
                }
                body = Some(Length::Chunked(Box::default()));
            }
            _ => {}
        }
    }
    let bodiless = matches!(head.status, 100..=199 | 204 | 304);
    let length_of_body = match body {
        _ if bodiless => Length::Known(0),
        Some(length) => length,
        None => Length::UntilClose,
    };
    let is_http_1_0 = response.version == Some(0);
    head.closes = close || (is_http_1_0 && !keep_alive) || matches!(length_of_body, Length::UntilClose);
    let events = head.is_stream.then(Box::default);
    Ok(Body { head, length: length_of_body, events })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(stream: &[u8], cuts: &[usize]) -> (Vec<String>, bool) {
        let mut framer = Framer::default();
        let mut seen = Vec::new();
        let mut sink = |part: Part<'_>| {
            seen.push(match part {
                Part::Message(head, body) => format!("{} {}", head.status, String::from_utf8_lossy(body)),
                Part::End(head) => format!("end{}", if head.closes { " close" } else { "" }),
            });
        };
        let mut from = 0;
        for &cut in cuts.iter().chain([&stream.len()]) {
            framer.receive(&stream[from..cut], &mut sink).unwrap();
            from = cut;
        }
        let is_complete = framer.end(&mut sink);
        (seen, is_complete)
    }

    #[test]
    fn lines_split_at_any_byte_are_the_same() {
        let stream = b"\r\n{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\r\n\n\
            {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{}}\n\
            {\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{\"method\":1}}\n";
        for cut in 0..stream.len() {
            let mut framer = Framer::lines();
            let mut seen = Vec::new();
            let mut sink = |part: Part<'_>| {
                if let Part::Message(_, body) = part {
                    seen.push(String::from_utf8_lossy(body).into_owned());
                }
            };
            framer.receive(&stream[..cut], &mut sink).unwrap();
            framer.receive(&stream[cut..], &mut sink).unwrap();
            assert!(framer.end(&mut sink));
            let expected = [
                r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
                r#"{"jsonrpc":"2.0","id":2,"result":{"method":1}}"#,
            ];
            assert_eq!(seen, expected, "cut at {cut}");
        }
        let mut framer = Framer::lines();
        let error = framer.receive(b"Listening\n", &mut |_| panic!("it is no message")).unwrap_err();
        assert!(error.to_string().ends_with(": Listening"), "{error}");
        framer.receive(b"{\"half\":", &mut |_| {}).unwrap();
        assert!(!framer.end(&mut |_| {}));
    }

    const REPLIES: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello\
        HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n\
        HTTP/1.1 100 Continue\r\n\r\n\
        HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: 1\r\n\r\n\
        HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n\
        8\r\ndata: 1\n\r\n1\r\n\n\r\nb\r\ndata: two\n\n\r\n0\r\n\r\n\
        HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\nrest";

    #[test]
    fn replies_split_at_any_byte_are_the_same() {
        let expected = [
            "200 hello",
            "end",
            "202 ",
            "end",
            "200 abcde",
            "end",
            "200 1",
            "200 two",
            "end",
            "404 rest",
            "end close",
        ];
        let whole = parts(REPLIES, &[]);
        assert_eq!(whole.0, expected);
        assert!(whole.1);
        for cut in 0..=REPLIES.len() {
            assert_eq!(parts(REPLIES, &[cut]).0, expected, "cut at {cut}");
        }
        let each: Vec<usize> = (0..REPLIES.len()).collect();
        assert_eq!(parts(REPLIES, &each).0, expected);
    }

    #[test]
    fn invalid_replies_are_rejected() {
        let receive = |bytes: &[u8]| Framer::default().receive(bytes, &mut |_| {});
        assert_eq!(receive(b"SSH-2.0-x\r\n\r\n"), Err(FrameError::Head));
        assert_eq!(receive(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), Err(FrameError::Body));
        assert_eq!(receive(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"), Err(FrameError::Body));
        let bad_chunk = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
        assert_eq!(receive(bad_chunk), Err(FrameError::Body));
        assert_eq!(
            receive(&[b"HTTP/1.1 200 OK\r\nA: ", &[b'a'; 70_000][..]].concat()),
            Err(FrameError::TooLarge)
        );
    }

    #[test]
    fn connection_options_in_any_case_and_line_are_recognized() {
        let closes = |version: &str, lines: &str| {
            let mut closes = None;
            let reply = format!("HTTP/{version} 200 OK\r\n{lines}Content-Length: 0\r\n\r\n");
            let mut sink = |part: Part<'_>| {
                if let Part::End(head) = part {
                    closes = Some(head.closes);
                }
            };
            Framer::default().receive(reply.as_bytes(), &mut sink).unwrap();
            closes.unwrap()
        };
        for lines in [
            "Connection: close\r\n",
            "connection: TE, Close\r\n",
            "Connection: CLOSE ,TE\r\n",
            "Connection: TE\r\nCONNECTION: close\r\n",
            "Connection: close\r\nConnection: TE\r\n",
            "Connection: close, keep-alive\r\n",
        ] {
            assert!(closes("1.1", lines), "{lines}");
            assert!(closes("1.0", lines), "{lines}");
        }
        for lines in [
            "Connection: keep-alive\r\n",
            "Connection: TE, Keep-Alive\r\n",
            "Connection: closed, keep-alive\r\n",
        ] {
            assert!(!closes("1.1", lines), "{lines}");
            assert!(!closes("1.0", lines), "{lines}");
        }
        assert!(!closes("1.1", ""));
        assert!(closes("1.0", ""));
    }

    #[test]
    fn reply_delimited_by_close_closes_the_connection() {
        let (seen, is_complete) = parts(b"HTTP/1.1 200 OK\r\n\r\nall of it", &[]);
        assert_eq!(seen, ["200 all of it", "end close"]);
        assert!(is_complete);
    }

    #[test]
    fn head_with_many_header_lines_is_parsed() {
        for count in [64, 65, 1_000, 10_000] {
            let lines: String = (0..count).map(|_| "a:b\r\n").collect();
            let reply = format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 2\r\n\r\nok");
            assert_eq!(parts(reply.as_bytes(), &[]).0, ["200 ok", "end"], "{count}");
        }
    }

    #[test]
    fn truncated_reply_is_not_a_valid_end() {
        assert!(!parts(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", &[]).1);
        assert!(!parts(b"HTTP/1.1 20", &[]).1);
    }
}
