//! Splits a connection's bytes into requests: in place where a request arrived in one part, in an assembly buffer
//! otherwise. The requests and rejections do not depend on how the bytes are split.

use super::{
    chunked::ChunkedDecoder,
    head::{BodyFraming, RequestHead, check_partial},
    reject::RejectReason,
};
use crate::{config::Limits, segments::Segments};

/// Writable bytes that an in-place parser needs after a body.
const PADDING_BYTES: usize = 64;

/// Length from which the rest of a request is kept in segments until it is complete, in bytes; in tests every request with a body.
const LONG_MIN: usize = if cfg!(test) { 1 } else { 256 * 1024 };

/// One complete request, in the buffer it was received in.
pub struct Request<'a> {
    /// The parsed head.
    pub head: RequestHead,
    /// The bytes of the head.
    pub head_bytes: &'a [u8],
    /// The body, followed by 64 bytes of padding.
    pub body: &'a mut [u8],
    /// The body's length in bytes.
    pub body_length: usize,
}

/// The action of the framer after a handler has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Handles the next request.
    Continue,
    /// Handles no further request before [`Framer::resume`].
    Pause,
    /// Handles no further request.
    Stop,
}

/// Receiver of a connection's requests.
pub trait Handler {
    /// Returns whether to receive the body of a request whose head is complete. When it returns `false` it has written the
    /// rejection itself, and the framer stops. Called again as more of the body arrives.
    fn wants_body(&mut self, head: &RequestHead, head_bytes: &[u8]) -> bool;

    /// Handles a complete request, or a rejection; a rejection is the last call.
    fn handle(&mut self, request: Result<Request<'_>, RejectReason>) -> Flow;

    /// Returns an empty assembly buffer for a split request; implementations may reuse one from [`Self::keep_assembly`].
    fn take_assembly(&mut self) -> Box<Assembly> {
        Box::default()
    }

    /// Accepts an assembly buffer that is no longer needed, for reuse by another connection.
    fn keep_assembly(&mut self, _assembly: Box<Assembly>) {}
}

/// State of a connection's input after all received bytes have been processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Between requests.
    Idle,
    /// Inside a head.
    Head,
    /// Inside a body.
    Body {
        /// The client expects `100 Continue`, and it has not been sent for this request.
        send_continue: bool,
    },
    /// The handler paused; the buffer may hold complete requests.
    Paused,
    /// The handler stopped, or a request was rejected.
    Stopped,
}

/// Framer of one connection. Takes eight bytes unless a request is partially received.
#[derive(Default)]
pub struct Framer {
    assembly: Option<Box<Assembly>>,
}

/// Buffered input: a split request and the bytes after it.
#[derive(Default)]
pub struct Assembly {
    bytes: Vec<u8>,
    /// Bytes at the start that have been handled.
    handled: usize,
    /// Bytes after `handled` that the current request needs; fewer are not parsed again.
    needed: usize,
    /// The bytes after `bytes`, while a long request is not complete.
    tail: Segments,
    /// Inside a head without a new line ending since the last parse. Parsing on every byte of a slow client would take time
    /// quadratic in the head's length.
    awaiting_line: bool,
    /// `100 Continue` has been requested for the current request.
    continue_sent: bool,
    chunked: Option<ChunkedRequest>,
}

struct ChunkedRequest {
    head: RequestHead,
    head_bytes: Vec<u8>,
    decoder: ChunkedDecoder,
    body: Vec<u8>,
}

/// The start of the input.
enum Front {
    Head,
    Body {
        head: RequestHead,
        needed: usize,
    },
    Whole {
        head: RequestHead,
        body_length: usize,
    },
    Chunked(RequestHead),
    /// A request whose body the handler does not receive.
    Rejected,
}

fn parse_front(input: &[u8], limits: &Limits, handler: &mut impl Handler) -> Result<Front, RejectReason> {
    let Some(head) = RequestHead::parse(input, limits)? else {
        return Ok(Front::Head);
    };
    let head_bytes = input.get(..head.length).unwrap_or_default();
    let length = match head.framing {
        BodyFraming::Length(length)
            if length <= input.len() - head.length && length <= limits.body_bytes_max =>
        {
            return Ok(Front::Whole { head, body_length: length });
        }
        BodyFraming::Length(length) => Some(length),
        BodyFraming::Chunked => None,
    };
    // The handler checks host, origin and path first, so that no body is buffered for a forbidden request and a forbidden request
    // with a large body is answered 403 rather than 413.
    if !handler.wants_body(&head, head_bytes) {
        return Ok(Front::Rejected);
    }
    match length {
        None => Ok(Front::Chunked(head)),
        Some(length) if length > limits.body_bytes_max => Err(RejectReason::BodyTooLarge),
        Some(length) => Ok(Front::Body { head, needed: head.length + length }),
    }
}

impl Framer {
    /// Processes the received bytes `padded[..length]`, which are followed by at least 64 bytes of padding. Passes every complete
    /// request to the handler, in order, and at most one rejection, which is the last call.
    pub fn receive(
        &mut self,
        padded: &mut [u8],
        length: usize,
        limits: &Limits,
        handler: &mut impl Handler,
    ) -> Progress {
        let mut offset = 0;
        while self.assembly.is_none() {
            offset += empty_lines(padded.get(offset..length).unwrap_or_default());
            let input = padded.get(offset..length).unwrap_or_default();
            if input.is_empty() {
                return Progress::Idle;
            }
            match parse_front(input, limits, handler) {
                Err(reason) => {
                    handler.handle(Err(reason));
                    return Progress::Stopped;
                }
                Ok(Front::Rejected) => return Progress::Stopped,
                Ok(Front::Whole { head, body_length }) => {
                    let rest = padded.get_mut(offset..).unwrap_or_default();
                    offset += head.length + body_length;
                    match handle_request(rest, head, body_length, handler) {
                        Flow::Continue => {}
                        Flow::Stop => return Progress::Stopped,
                        Flow::Pause => {
                            self.hold(padded.get(offset..length).unwrap_or_default(), || {
                                handler.take_assembly()
                            });
                            return Progress::Paused;
                        }
                    }
                }
                Ok(Front::Head | Front::Body { .. } | Front::Chunked(_)) => {
                    self.hold(input, || handler.take_assembly())
                }
            }
            if self.assembly.is_some() {
                return self.resume(limits, handler);
            }
        }
        self.hold(padded.get(offset..length).unwrap_or_default(), || handler.take_assembly());
        self.resume(limits, handler)
    }

    /// Continues with the buffered bytes.
    pub fn resume(&mut self, limits: &Limits, handler: &mut impl Handler) -> Progress {
        let Some(assembly) = &mut self.assembly else {
            return Progress::Idle;
        };
        let progress = assembly.advance(limits, handler);
        if progress == Progress::Stopped || assembly.is_empty() {
            if let Some(assembly) = self.assembly.take() {
                handler.keep_assembly(assembly);
            }
        } else {
            assembly.compact();
        }
        progress
    }

    /// Number of buffered bytes that have not been handled.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.assembly.as_ref().map_or(0, |assembly| {
            assembly.unhandled() + assembly.chunked.as_ref().map_or(0, |chunked| chunked.body.len())
        })
    }

    /// Memory of the buffers, in bytes.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.assembly.as_ref().map_or(0, |assembly| {
            assembly.kept_bytes()
                + assembly
                    .chunked
                    .as_ref()
                    .map_or(0, |chunked| chunked.body.capacity() + chunked.head_bytes.capacity())
        })
    }

    /// Frees the memory that buffered bytes do not need.
    pub fn shrink(&mut self) {
        if let Some(assembly) = &mut self.assembly {
            assembly.bytes.drain(..assembly.handled);
            assembly.handled = 0;
            assembly.bytes.shrink_to_fit();
            if let Some(chunked) = &mut assembly.chunked {
                chunked.body.shrink_to_fit();
            }
        }
    }

    /// Buffers bytes without processing them, as when they arrive while the handler is paused. `buffer` returns the assembly
    /// buffer, if one is needed.
    pub fn hold(&mut self, input: &[u8], buffer: impl FnOnce() -> Box<Assembly>) {
        if !input.is_empty() {
            let assembly = self.assembly.get_or_insert_with(buffer);
            if assembly.needed >= LONG_MIN || !assembly.tail.is_empty() {
                assembly.tail.append(input);
            } else {
                assembly.bytes.extend_from_slice(input);
            }
            assembly.awaiting_line &= memchr::memchr(b'\n', input).is_none();
        }
    }
}

/// Length of the empty lines before a request, which are ignored (<https://www.rfc-editor.org/rfc/rfc9112#section-2.2>).
fn empty_lines(input: &[u8]) -> usize {
    input.chunks_exact(2).take_while(|line| *line == b"\r\n").count() * 2
}

/// Passes the request at the start of `padded` to the handler.
fn handle_request(
    padded: &mut [u8],
    head: RequestHead,
    body_length: usize,
    handler: &mut impl Handler,
) -> Flow {
    let Some((head_bytes, rest)) = padded.split_at_mut_checked(head.length) else {
        return Flow::Stop;
    };
    let Some(body) = rest.get_mut(..body_length + PADDING_BYTES) else {
        return Flow::Stop;
    };
    handler.handle(Ok(Request { head, head_bytes, body, body_length }))
}

impl Assembly {
    /// Memory of the buffer, in bytes.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.bytes.capacity() + self.tail.kept_bytes()
    }

    /// Clears the buffer. Its capacity is kept if it is at most `bytes_max`.
    pub fn clear(&mut self, bytes_max: usize) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        *self = Self::default();
        if bytes.capacity() <= bytes_max {
            self.bytes = bytes;
        }
    }

    fn is_empty(&self) -> bool {
        self.unhandled() == 0 && self.chunked.is_none()
    }

    /// Number of bytes that have not been handled.
    fn unhandled(&self) -> usize {
        self.bytes.len() - self.handled + self.tail.len()
    }

    /// Removes the handled bytes.
    fn compact(&mut self) {
        // At half of the buffer only: moving the rest after every request would take quadratic time.
        if self.handled * 2 >= self.bytes.len() {
            self.bytes.drain(..self.handled);
            self.handled = 0;
        }
    }

    fn advance(&mut self, limits: &Limits, handler: &mut impl Handler) -> Progress {
        if !self.tail.is_empty() {
            if self.unhandled() < self.needed {
                return Progress::Body { send_continue: false };
            }
            self.tail.move_to(&mut self.bytes, PADDING_BYTES);
        }
        let length = self.bytes.len();
        self.bytes.resize(length + PADDING_BYTES, 0);
        let progress = loop {
            match self.next(length, limits, handler) {
                Ok(Step::Waiting(progress)) => break progress,
                Ok(Step::Handled(Flow::Continue)) => {
                    self.needed = 0;
                    self.continue_sent = false;
                }
                Ok(Step::Handled(Flow::Pause)) => {
                    self.needed = 0;
                    self.continue_sent = false;
                    break Progress::Paused;
                }
                Ok(Step::Handled(Flow::Stop)) => break Progress::Stopped,
                Err(reason) => {
                    handler.handle(Err(reason));
                    break Progress::Stopped;
                }
            }
        };
        self.bytes.truncate(length);
        progress
    }

    fn next(
        &mut self,
        length: usize,
        limits: &Limits,
        handler: &mut impl Handler,
    ) -> Result<Step, RejectReason> {
        if self.chunked.is_some() {
            return self.next_chunked(length, limits, handler);
        }
        self.handled += empty_lines(self.bytes.get(self.handled..length).unwrap_or_default());
        let input = self.bytes.get(self.handled..length).unwrap_or_default();
        if input.is_empty() {
            return Ok(Step::Waiting(Progress::Idle));
        }
        if input.len() < self.needed {
            return Ok(Step::Waiting(Progress::Body { send_continue: false }));
        }
        if self.awaiting_line {
            check_partial(input, limits)?;
            return Ok(Step::Waiting(Progress::Head));
        }
        match parse_front(input, limits, handler)? {
            Front::Rejected => Ok(Step::Handled(Flow::Stop)),
            Front::Head => {
                self.awaiting_line = true;
                Ok(Step::Waiting(Progress::Head))
            }
            Front::Body { head, needed } => {
                self.needed = needed;
                Ok(Step::Waiting(self.body_progress(&head)))
            }
            Front::Whole { head, body_length } => {
                let padded = self.bytes.get_mut(self.handled..).unwrap_or_default();
                self.handled += head.length + body_length;
                Ok(Step::Handled(handle_request(padded, head, body_length, handler)))
            }
            Front::Chunked(head) => {
                let head_bytes = input.get(..head.length).unwrap_or_default().to_vec();
                self.handled += head.length;
                let decoder = ChunkedDecoder::new();
                self.chunked = Some(ChunkedRequest { head, head_bytes, decoder, body: Vec::new() });
                self.next_chunked(length, limits, handler)
            }
        }
    }

    fn next_chunked(
        &mut self,
        length: usize,
        limits: &Limits,
        handler: &mut impl Handler,
    ) -> Result<Step, RejectReason> {
        let Some(mut chunked) = self.chunked.take() else {
            return Ok(Step::Waiting(Progress::Idle));
        };
        let input = self.bytes.get(self.handled..length).unwrap_or_default();
        self.handled += chunked.decoder.decode(input, &mut chunked.body, limits)?;
        if !chunked.decoder.is_done() {
            let head = chunked.head;
            self.chunked = Some(chunked);
            return Ok(Step::Waiting(self.body_progress(&head)));
        }
        let body_length = chunked.body.len();
        chunked.body.resize(body_length + PADDING_BYTES, 0);
        let request = Request {
            head: chunked.head,
            head_bytes: &chunked.head_bytes,
            body: &mut chunked.body,
            body_length,
        };
        Ok(Step::Handled(handler.handle(Ok(request))))
    }

    fn body_progress(&mut self, head: &RequestHead) -> Progress {
        let send_continue = head.expect_continue && !std::mem::replace(&mut self.continue_sent, true);
        Progress::Body { send_continue }
    }
}

enum Step {
    Handled(Flow),
    Waiting(Progress),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Receives every body.
    struct Each<F>(F);

    impl<F: FnMut(Result<Request<'_>, RejectReason>) -> Flow> Handler for Each<F> {
        fn wants_body(&mut self, _head: &RequestHead, _head_bytes: &[u8]) -> bool {
            true
        }

        fn handle(&mut self, request: Result<Request<'_>, RejectReason>) -> Flow {
            (self.0)(request)
        }
    }

    /// Feeds `input` in pieces of the given lengths and returns the handler's calls as text.
    fn transcript(input: &[u8], pieces: &[usize]) -> Vec<String> {
        let limits = Limits { body_bytes_max: 1000, ..Limits::default() };
        let mut framer = Framer::default();
        let mut seen = Vec::new();
        let mut rest = input;
        let mut pieces = pieces.iter().copied().cycle();
        let mut stopped = false;
        while !rest.is_empty() && !stopped {
            let (piece, after) = rest.split_at(pieces.next().unwrap_or(rest.len()).clamp(1, rest.len()));
            rest = after;
            let mut padded = piece.to_vec();
            padded.resize(piece.len() + PADDING_BYTES, 0xee);
            let mut each = Each(|request: Result<Request<'_>, RejectReason>| match request {
                Ok(request) => {
                    let body = String::from_utf8_lossy(&request.body[..request.body_length]).into_owned();
                    let target =
                        String::from_utf8_lossy(request.head.target(request.head_bytes)).into_owned();
                    // As the parser does, which writes into the body only; the bytes after it may be the next request.
                    request.body[..request.body_length].fill(0);
                    seen.push(format!("{target} {body}"));
                    Flow::Continue
                }
                Err(reason) => {
                    seen.push(format!("{reason:?}"));
                    Flow::Stop
                }
            });
            let progress = framer.receive(&mut padded, piece.len(), &limits, &mut each);
            stopped = progress == Progress::Stopped;
        }
        seen
    }

    const STREAM: &str = "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world\
        GET /2 HTTP/1.1\r\nHost: a\r\n\r\n\
        POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nA: b\r\n\r\n\
        POST /4 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nend\
        POST /5 HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n";

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn any_split_of_the_bytes_gives_the_same_requests(pieces in prop::collection::vec(1_usize..120, 1..40)) {
            let whole = transcript(STREAM.as_bytes(), &[STREAM.len()]);
            prop_assert_eq!(&whole, &["/1 hello world", "/2 ", "/3 hello world", "/4 end", "LengthAmbiguous"]);
            prop_assert_eq!(transcript(STREAM.as_bytes(), &pieces), whole);
        }

        #[test]
        fn any_split_of_any_bytes_gives_the_same_requests(
            noise in prop::collection::vec(prop::sample::select(&b"GET POST/ HTTP/1.1\r\n:Content-Length: 01a\0\xff"[..]), 0..200),
            pieces in prop::collection::vec(1_usize..50, 1..20),
        ) {
            let mut input = b"POST /0 HTTP/1.1\r\nHost: a\r\n".to_vec();
            input.extend_from_slice(&noise);
            input.extend_from_slice(b"\r\n\r\n");
            let whole = transcript(&input, &[input.len()]);
            prop_assert_eq!(transcript(&input, &pieces), whole);
        }
    }

    #[test]
    fn bodies_longer_than_the_limit_are_rejected() {
        let length = |bytes: usize| {
            let text =
                format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {bytes}\r\n\r\n{}", "x".repeat(bytes));
            transcript(text.as_bytes(), &[700]).pop().unwrap().len()
        };
        assert_eq!(length(1000), "/ ".len() + 1000);
        assert_eq!(length(1001), "BodyTooLarge".len());
        let chunked = |bytes: usize| {
            let start = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
            let text = format!("{start}{}0\r\n\r\n", "1\r\nx\r\n".repeat(bytes));
            transcript(text.as_bytes(), &[700]).pop().unwrap().len()
        };
        assert_eq!(chunked(1000), "/ ".len() + 1000);
        assert_eq!(chunked(1001), "BodyTooLarge".len());
    }

    #[test]
    fn paused_framer_buffers_requests_until_resume() {
        let limits = Limits::default();
        let mut framer = Framer::default();
        let mut padded = STREAM.as_bytes().to_vec();
        padded.resize(STREAM.len() + PADDING_BYTES, 0);
        let mut targets = Vec::new();
        let mut pause = Each(|request: Result<Request<'_>, RejectReason>| match request {
            Ok(request) => {
                targets.push(String::from_utf8_lossy(request.head.target(request.head_bytes)).into_owned());
                Flow::Pause
            }
            Err(_) => Flow::Stop,
        });
        assert_eq!(framer.receive(&mut padded, STREAM.len(), &limits, &mut pause), Progress::Paused);
        for _ in 0..3 {
            assert!(framer.buffered_bytes() > 0);
            assert_eq!(framer.resume(&limits, &mut pause), Progress::Paused);
        }
        assert_eq!(framer.resume(&limits, &mut pause), Progress::Stopped);
        assert_eq!(framer.resume(&limits, &mut pause), Progress::Idle);
        assert_eq!(targets, ["/1", "/2", "/3", "/4"]);
    }

    #[test]
    fn continue_is_requested_once_per_body() {
        let limits = Limits::default();
        let mut framer = Framer::default();
        let mut feed = |text: &str| {
            let mut padded = text.as_bytes().to_vec();
            padded.resize(text.len() + PADDING_BYTES, 0);
            framer.receive(
                &mut padded,
                text.len(),
                &limits,
                &mut Each(|_: Result<Request<'_>, RejectReason>| Flow::Continue),
            )
        };
        let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
        for _ in 0..2 {
            assert_eq!(feed(&head[..40]), Progress::Head);
            assert_eq!(feed(&head[40..]), Progress::Body { send_continue: true });
            assert_eq!(feed("ab"), Progress::Body { send_continue: false });
            assert_eq!(feed("cd"), Progress::Idle);
        }
        assert_eq!(feed(&format!("{head}abcd")), Progress::Idle, "the body came with the head");
    }
}
