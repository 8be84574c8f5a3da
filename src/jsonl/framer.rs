//! Splits a connection's bytes into lines: in place where a line arrived in one part, in an assembly buffer otherwise.
//! The lines and rejections do not depend on how the bytes are split.

use crate::{config::Limits, segments::Segments};

/// Padding that an in-place parser needs after a line, in bytes.
const PADDING_BYTES: usize = 64;

/// Length from which the rest of a line is kept in segments until it is complete, in bytes.
const LONG_MIN: usize = if cfg!(test) { 10 } else { 256 * 1024 };

/// One complete line, in the buffer it was received in.
#[derive(Debug)]
pub struct Line<'a> {
    /// The line and the 64 bytes after it, which may belong to the next line and must not be modified.
    pub padded: &'a mut [u8],
    /// Length of the line in bytes, without its ending; at least 1.
    pub length: usize,
}

/// A line is longer than [`Limits::line_bytes_max`]. The rest of the line is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Line too long")]
pub struct LineTooLong;

/// The action of the framer after a handler has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Handles the next line.
    Continue,
    /// Handles no further line before [`LineFramer::resume`].
    Pause,
    /// Handles no further line.
    Stop,
}

/// Receiver of a connection's lines.
pub trait Handler {
    /// Handles a complete line, or a rejection, after which the next line follows.
    fn line(&mut self, line: Result<Line<'_>, LineTooLong>) -> Flow;
}

/// State of a connection's input after all received bytes have been processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Between lines.
    Idle,
    /// Inside a line.
    Line,
    /// The handler paused; the buffer may hold complete lines.
    Paused,
    /// The handler stopped.
    Stopped,
}

/// Framer of one connection. Takes eight bytes unless a line is partially received.
#[derive(Default)]
pub struct LineFramer {
    assembly: Option<Box<Assembly>>,
}

#[derive(Default)]
struct Assembly {
    bytes: Vec<u8>,
    /// Bytes at the start that have been handled.
    handled: usize,
    /// Bytes after `handled` without a newline. Searching them for each part of a long line would take time quadratic in its
    /// length.
    searched: usize,
    /// The bytes after `bytes`, without a newline, while a long line is not complete.
    tail: Segments,
    /// The current line has been rejected.
    skipping: bool,
}

impl LineFramer {
    /// Processes the received bytes `padded[..length]`, which are followed by at least 64 bytes of padding. Passes every complete
    /// line to the handler, in order. Lines end with LF or CRLF; blank lines are skipped.
    pub fn receive(
        &mut self,
        padded: &mut [u8],
        length: usize,
        limits: &Limits,
        handler: &mut impl Handler,
    ) -> Progress {
        let mut offset = 0;
        while self.assembly.is_none() {
            let input = padded.get(offset..length).unwrap_or_default();
            if input.is_empty() {
                return Progress::Idle;
            }
            let Some(end) = memchr::memchr(b'\n', input) else { break };
            let content = content_length(input, end);
            let line = padded.get_mut(offset..).unwrap_or_default();
            offset += end + 1;
            match handle_line(line, content, limits, handler) {
                Flow::Continue => {}
                Flow::Stop => return Progress::Stopped,
                Flow::Pause => {
                    self.hold(padded.get(offset..length).unwrap_or_default());
                    return Progress::Paused;
                }
            }
        }
        self.hold(padded.get(offset..length).unwrap_or_default());
        self.resume(limits, handler)
    }

    /// Continues with the buffered bytes.
    pub fn resume(&mut self, limits: &Limits, handler: &mut impl Handler) -> Progress {
        let Some(assembly) = &mut self.assembly else {
            return Progress::Idle;
        };
        let progress = assembly.advance(limits, handler);
        if progress == Progress::Stopped || assembly.is_empty() {
            self.assembly = None;
        } else {
            assembly.compact();
        }
        progress
    }

    /// Processes the end of the input: handles the buffered lines, and the last one even without a newline. While it returns
    /// [`Progress::Paused`], call it again instead of [`LineFramer::resume`].
    pub fn finish(&mut self, limits: &Limits, handler: &mut impl Handler) -> Progress {
        match self.resume(limits, handler) {
            Progress::Line => {
                self.hold(b"\n");
                self.resume(limits, handler)
            }
            progress => progress,
        }
    }

    /// Number of buffered bytes that have not been handled.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.assembly
            .as_ref()
            .map_or(0, |assembly| assembly.bytes.len() - assembly.handled + assembly.tail.len())
    }

    /// Memory of the buffer, in bytes.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.assembly.as_ref().map_or(0, |assembly| assembly.bytes.capacity() + assembly.tail.kept_bytes())
    }

    /// Frees the memory that buffered bytes do not need.
    pub fn shrink(&mut self) {
        if let Some(assembly) = &mut self.assembly {
            assembly.bytes.drain(..assembly.handled);
            assembly.handled = 0;
            assembly.bytes.shrink_to_fit();
        }
    }

    /// Buffers bytes without processing them, as when they arrive while the handler is paused.
    pub fn hold(&mut self, input: &[u8]) {
        if !input.is_empty() {
            self.assembly.get_or_insert_default().append(input);
        }
    }
}

impl Assembly {
    fn is_empty(&self) -> bool {
        self.handled == self.bytes.len() && !self.skipping
    }

    /// Removes the handled bytes.
    fn compact(&mut self) {
        if self.handled == self.bytes.len() {
            // Frees the memory as well, which may be large after a rejected line.
            self.bytes = Vec::new();
            self.handled = 0;
        } else if self.handled * 2 >= self.bytes.len() {
            // At half of the buffer only: moving the rest after every line would take quadratic time.
            self.bytes.drain(..self.handled);
            self.handled = 0;
        }
    }

    fn append(&mut self, input: &[u8]) {
        let line = self.bytes.len() - self.handled;
        let is_long = line >= LONG_MIN && line == self.searched && !self.skipping;
        if is_long && memchr::memchr(b'\n', input).is_none() {
            self.tail.append(input);
            return;
        }
        self.join();
        self.bytes.extend_from_slice(input);
    }

    /// Moves the bytes of the tail behind the others.
    fn join(&mut self) {
        if !self.tail.is_empty() {
            self.tail.move_to(&mut self.bytes, PADDING_BYTES);
            self.searched = self.bytes.len() - self.handled;
        }
    }

    fn advance(&mut self, limits: &Limits, handler: &mut impl Handler) -> Progress {
        if !self.tail.is_empty() {
            if self.bytes.len() - self.handled + self.tail.len() <= limits.line_bytes_max {
                return Progress::Line;
            }
            self.join();
        }
        let length = self.bytes.len();
        self.bytes.resize(length + PADDING_BYTES, 0);
        let progress = loop {
            match self.next(length, limits, handler) {
                Step::Handled(Flow::Continue) => {}
                Step::Handled(Flow::Pause) => break Progress::Paused,
                Step::Handled(Flow::Stop) => break Progress::Stopped,
                Step::Waiting(progress) => break progress,
            }
        };
        self.bytes.truncate(length);
        progress
    }

    fn next(&mut self, length: usize, limits: &Limits, handler: &mut impl Handler) -> Step {
        let input = self.bytes.get(self.handled..length).unwrap_or_default();
        debug_assert!(self.searched <= input.len());
        let rest = input.get(self.searched..).unwrap_or_default();
        let Some(end) = memchr::memchr(b'\n', rest).map(|end| self.searched + end) else {
            return self.wait(length, limits, handler);
        };
        let content = content_length(input, end);
        let start = self.handled;
        self.handled += end + 1;
        self.searched = 0;
        if std::mem::take(&mut self.skipping) {
            return Step::Handled(Flow::Continue);
        }
        Step::Handled(handle_line(self.bytes.get_mut(start..).unwrap_or_default(), content, limits, handler))
    }

    /// Handles input without a complete line; rejects the line once it is too long.
    fn wait(&mut self, length: usize, limits: &Limits, handler: &mut impl Handler) -> Step {
        let input = self.bytes.get(self.handled..length).unwrap_or_default();
        // The last byte may be the carriage return of a line ending, which does not count.
        let is_too_long = content_length(input, input.len()) > limits.line_bytes_max;
        if !self.skipping && !is_too_long {
            self.searched = input.len();
            return Step::Waiting(if input.is_empty() { Progress::Idle } else { Progress::Line });
        }
        self.handled = length;
        self.searched = 0;
        if std::mem::replace(&mut self.skipping, true) {
            return Step::Waiting(Progress::Line);
        }
        Step::Handled(handler.line(Err(LineTooLong)))
    }
}

enum Step {
    Handled(Flow),
    Waiting(Progress),
}

/// The length of the line whose newline is at `end`, without its ending.
fn content_length(input: &[u8], end: usize) -> usize {
    match input.get(..end) {
        Some([.., b'\r']) => end - 1,
        _ => end,
    }
}

/// Passes the line at the start of `padded` to the handler.
fn handle_line(padded: &mut [u8], length: usize, limits: &Limits, handler: &mut impl Handler) -> Flow {
    if length == 0 {
        return Flow::Continue;
    }
    if length > limits.line_bytes_max {
        return handler.line(Err(LineTooLong));
    }
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r');
    // Fast path: nearly every line begins with a brace.
    if padded.first().is_some_and(is_blank)
        && padded.get(..length).is_some_and(|line| line.iter().all(is_blank))
    {
        return Flow::Continue;
    }
    match padded.get_mut(..length + PADDING_BYTES) {
        Some(padded) => handler.line(Ok(Line { padded, length })),
        None => Flow::Stop,
    }
}

/// Whether a line is the start of an HTTP request. On a TCP connection the caller must close the connection: a web page can send
/// a request to loopback whose body consists of lines that call tools, and it needs no reply.
#[must_use]
pub fn is_http(line: &[u8]) -> bool {
    let version = line.rsplit(|&byte| byte == b' ').next().unwrap_or_default();
    line.first().is_some_and(u8::is_ascii_alphabetic) && version.starts_with(b"HTTP/")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Limits that are small enough to be exceeded in a test.
    fn limits() -> Limits {
        Limits { line_bytes_max: 100, ..Limits::default() }
    }

    struct Each<F>(F);

    impl<F: FnMut(Result<Line<'_>, LineTooLong>) -> Flow> Handler for Each<F> {
        fn line(&mut self, line: Result<Line<'_>, LineTooLong>) -> Flow {
            (self.0)(line)
        }
    }

    /// The line as text, or `too long`. Overwrites the line, as a parser may, but not the padding.
    fn to_text(line: Result<Line<'_>, LineTooLong>) -> String {
        match line {
            Ok(Line { padded, length }) => {
                assert_eq!(padded.len(), length + PADDING_BYTES);
                let text = String::from_utf8_lossy(&padded[..length]).into_owned();
                padded[..length].fill(b'\n');
                text
            }
            Err(LineTooLong) => "too long".to_owned(),
        }
    }

    fn padded(bytes: &[u8]) -> Vec<u8> {
        let mut padded = bytes.to_vec();
        padded.resize(bytes.len() + PADDING_BYTES, b'\n');
        padded
    }

    /// Feeds `input` in pieces of the given lengths, pauses at each line for which `pauses` returns `true`, and returns the
    /// handler's calls as text.
    fn transcript(input: &[u8], pieces: &[usize], mut pauses: impl FnMut() -> bool) -> Vec<String> {
        let limits = limits();
        let mut framer = LineFramer::default();
        let mut seen = Vec::new();
        let mut each = Each(|line: Result<Line<'_>, LineTooLong>| {
            seen.push(to_text(line));
            if pauses() { Flow::Pause } else { Flow::Continue }
        });
        let mut rest = input;
        let mut pieces = pieces.iter().copied().cycle();
        let mut progress = Progress::Idle;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(pieces.next().unwrap_or(rest.len()).clamp(1, rest.len()));
            rest = after;
            if progress == Progress::Paused && piece.len() % 2 == 0 {
                framer.hold(piece);
                continue;
            }
            progress = framer.receive(&mut padded(piece), piece.len(), &limits, &mut each);
        }
        while framer.finish(&limits, &mut each) == Progress::Paused {}
        assert_eq!(framer.buffered_bytes(), 0);
        assert!(framer.assembly.is_none(), "nothing is kept");
        seen
    }

    fn stream() -> (Vec<u8>, Vec<String>) {
        let [fits, exceeds] = [100, 101].map(|length| "x".repeat(length));
        let long = "y".repeat(1000);
        let stream = format!(
            "a\n\n\r\nb c\r\n{fits}\n{fits}\r\n{exceeds}\n{exceeds}\r\nd\re\n{long}\r\nf\n\r\r\n \t\r\nlast"
        );
        let lines = ["a", "b c", &fits, &fits, "too long", "too long", "d\re", "too long", "f", "last"];
        (stream.into_bytes(), lines.map(str::to_owned).into())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn any_split_of_the_bytes_gives_the_same_lines(
            pieces in prop::collection::vec(1_usize..120, 1..40),
            pauses in prop::collection::vec(any::<bool>(), 1..8),
        ) {
            let (stream, lines) = stream();
            prop_assert_eq!(&transcript(&stream, &[stream.len()], || false), &lines);
            let mut pauses = pauses.into_iter().cycle();
            prop_assert_eq!(transcript(&stream, &pieces, || pauses.next().unwrap_or(false)), lines);
        }

        #[test]
        fn any_bytes_in_any_split_give_the_same_lines(
            noise in prop::collection::vec(prop::sample::select(&b"a \r\n\0\xff"[..]), 0..300),
            pieces in prop::collection::vec(1_usize..50, 1..20),
        ) {
            let mut naive: Vec<String> = Vec::new();
            for line in noise.split(|&byte| byte == b'\n') {
                match line.strip_suffix(b"\r").unwrap_or(line) {
                    [] => {}
                    line if line.len() > 100 => naive.push("too long".to_owned()),
                    line if line.iter().all(|byte| b" \t\r".contains(byte)) => {}
                    line => naive.push(String::from_utf8_lossy(line).into_owned()),
                }
            }
            prop_assert_eq!(transcript(&noise, &pieces, || false), naive);
        }
    }

    #[test]
    fn complete_lines_are_handled_in_place() {
        let mut received = padded(b"one\ntwo\r\n");
        let buffer = received.as_ptr_range();
        let mut framer = LineFramer::default();
        let mut each = Each(|line: Result<Line<'_>, LineTooLong>| {
            assert!(buffer.contains(&line.unwrap().padded.as_ptr()));
            Flow::Continue
        });
        assert_eq!(framer.receive(&mut received, 9, &limits(), &mut each), Progress::Idle);
    }

    #[test]
    fn line_too_long_is_rejected_before_its_end_and_not_buffered() {
        let mut framer = LineFramer::default();
        let mut refused = 0;
        let mut each = Each(|line: Result<Line<'_>, LineTooLong>| {
            refused += usize::from(line.is_err());
            Flow::Continue
        });
        for _ in 0..1000 {
            let progress = framer.receive(&mut padded(&[b'x'; 60]), 60, &limits(), &mut each);
            assert_eq!(progress, Progress::Line);
            assert!(framer.buffered_bytes() <= 100);
        }
        assert_eq!(framer.receive(&mut padded(b"\n"), 1, &limits(), &mut each), Progress::Idle);
        assert_eq!(refused, 1);
    }

    #[test]
    fn paused_framer_buffers_lines_until_resume() {
        let mut framer = LineFramer::default();
        let mut seen = Vec::new();
        let mut each = Each(|line: Result<Line<'_>, LineTooLong>| {
            seen.push(to_text(line));
            if seen.len() == 4 { Flow::Stop } else { Flow::Pause }
        });
        assert_eq!(framer.receive(&mut padded(b"1\n2\n3\n4\n5"), 9, &limits(), &mut each), Progress::Paused);
        framer.hold(b"\n");
        for remaining in [8, 6] {
            assert_eq!(framer.buffered_bytes(), remaining);
            assert_eq!(framer.resume(&limits(), &mut each), Progress::Paused);
        }
        assert_eq!(framer.resume(&limits(), &mut each), Progress::Stopped);
        assert_eq!(framer.resume(&limits(), &mut each), Progress::Idle);
        assert_eq!(seen, ["1", "2", "3", "4"]);
    }

    #[test]
    fn http_request_is_distinguished_from_a_message() {
        for line in ["POST / HTTP/1.1", "GET http://127.0.0.1:9000/ HTTP/1.0", "PRI * HTTP/2.0"] {
            assert!(is_http(line.as_bytes()), "{line}");
        }
        for line in ["", "{\"jsonrpc\": \"2.0 HTTP/1.1", "[1, \" HTTP/1.1", "POST", " HTTP/1.1"] {
            assert!(!is_http(line.as_bytes()), "{line}");
        }
    }
}
