//! Newline-delimited JSON (stdio, `tcp://`, `unix:`): each line is a message, and many calls are in flight at once.

use corelane_ring::{PeerAddress, SocketId};

use super::{Connection, Pipeline, http1::Delivered};
use crate::{
    call::CallMessage,
    config::Limits,
    delivery::{AfterSend, Payload},
    dispatch::{BatchReplies, BatchRest, Disposition, JsonLinesClient, Source},
    http1::{chunk, write_event_with},
    jsonl::{Flow, Handler, Line, LineFramer, LineTooLong, is_http},
    jsonrpc::{ErrorCode, write_error},
    telemetry::metrics::Stage,
};

/// The state of a newline-delimited connection.
pub(crate) struct JsonLines {
    pub(crate) framer: LineFramer,
    pub(crate) client: JsonLinesClient,
    /// Answers that are yet to come.
    pub(crate) pending_replies: usize,
    /// No line has arrived: the first may begin with a byte order mark.
    pub(crate) is_new: bool,
    /// The batch whose last messages are not dispatched yet. The lines behind it wait.
    pub(crate) batch: Option<LineBatch>,
}

/// A batch whose last messages are not dispatched yet.
pub(crate) struct LineBatch {
    rest: Box<BatchRest>,
    /// The answers so far.
    answers: Vec<Vec<u8>>,
}

impl JsonLines {
    /// The state of a new connection.
    pub(crate) fn new(socket: SocketId, peer: Option<PeerAddress>) -> Self {
        let client = JsonLinesClient::new(socket, peer);
        Self { framer: LineFramer::default(), client, pending_replies: 0, is_new: true, batch: None }
    }

    /// Drops the input that was not handled.
    pub(crate) fn drop_input(&mut self) {
        (self.framer, self.batch) = (LineFramer::default(), None);
    }

    /// Bytes in the buffers of the input and of a batch.
    pub(crate) fn buffered_bytes(&self) -> usize {
        let of_batch = |LineBatch { rest, answers }: &LineBatch| {
            rest.buffered_bytes() + answers.iter().map(Vec::len).sum::<usize>()
        };
        self.framer.buffered_bytes() + self.batch.as_ref().map_or(0, of_batch)
    }
}

/// The lines of one connection, on their way from its framer through the pipeline.
pub(crate) struct JsonLinesHandler<'a> {
    pub(crate) pipeline: &'a mut Pipeline,
    pub(crate) limits: &'a Limits,
    pub(crate) client: &'a mut JsonLinesClient,
    pub(crate) pending_replies: &'a mut usize,
    pub(crate) is_new: &'a mut bool,
    pub(crate) batch: &'a mut Option<LineBatch>,
    pub(crate) out: &'a mut Vec<u8>,
    pub(crate) handled: u32,
}

impl Handler for JsonLinesHandler<'_> {
    fn line(&mut self, mut line: Result<Line<'_>, LineTooLong>) -> Flow {
        if std::mem::replace(self.is_new, false)
            && let Ok(first) = &mut line
        {
            skip_byte_order_mark(first);
            let rest = first.padded.get(..first.length).unwrap_or_default();
            if rest.trim_ascii().is_empty() {
                return Flow::Continue;
            }
        }
        match line {
            // A web page can send lines inside an HTTP request. They must not reach a tool.
            Ok(Line { padded, length })
                if self.client.handshake.is_none() && is_http(padded.get(..length).unwrap_or_default()) =>
            {
                let message = "Newline-delimited JSON is served here, not HTTP";
                self.pipeline.reject_line("lines_not_http", message, self.client.peer, self.out);
                return Flow::Stop;
            }
            Ok(Line { padded, length }) => {
                self.pipeline.dispatcher.stages.mark(Stage::Frame);
                let is_at_call_limit = *self.pending_replies >= self.limits.calls_per_line_max;
                let (pending, batch) =
                    self.pipeline.handle_line(padded, length, self.client, is_at_call_limit, self.out);
                *self.pending_replies += pending as usize;
                *self.batch = batch;
            }
            Err(LineTooLong) => {
                self.pipeline.reject_line("line_too_long", "Line too long", self.client.peer, self.out);
            }
        }
        self.pipeline.dispatcher.end_request();
        self.handled += 1;
        let has_used_its_share = self.batch.is_some()
            || self.pipeline.dispatcher.budget.charge()
            || self.handled as usize >= self.limits.requests_per_turn_max
            || self.out.len() > self.limits.outbox_bytes_max
            || self.pipeline.is_at_call_limit(self.client.socket, *self.pending_replies, self.limits);
        if has_used_its_share { Flow::Pause } else { Flow::Continue }
    }
}

impl JsonLinesHandler<'_> {
    /// Dispatches further messages of an open batch. Returns whether the batch has ended, so that the next line may be handled.
    pub(crate) fn continue_batch(&mut self) -> bool {
        let Some(LineBatch { rest, mut answers }) = self.batch.take() else { return true };
        let is_at_call_limit = *self.pending_replies >= self.limits.calls_per_line_max;
        let Pipeline { dispatcher, decoder, .. } = &mut *self.pipeline;
        let replies = dispatcher.continue_line_batch(decoder, self.client, is_at_call_limit, rest);
        *self.pending_replies += replies.pending as usize;
        answers.extend(replies.answers);
        match replies.rest {
            Some(rest) => *self.batch = Some(LineBatch { rest, answers }),
            None => write_batch(self.out, &answers),
        }
        self.batch.is_none()
    }
}

/// Appends the answers to a batch as a line.
fn write_batch(out: &mut Vec<u8>, answers: &[Vec<u8>]) {
    if !answers.is_empty() {
        out.push(b'[');
        out.extend_from_slice(&answers.join(b",".as_slice()));
        out.extend_from_slice(b"]\n");
    }
}

impl Pipeline {
    /// Whether a connection with this many pending replies is read no further until there is one. It is, where a call waits for
    /// an answer of its client.
    pub(crate) fn is_at_call_limit(&self, socket: SocketId, pending: usize, limits: &Limits) -> bool {
        pending >= limits.calls_per_line_max && !self.dispatcher.calls.has_open_question(socket)
    }

    /// Rejects input that is no line, or a line that cannot be handled: an error without an id.
    pub(crate) fn reject_line(
        &mut self,
        reason: &'static str,
        message: &str,
        peer: Option<PeerAddress>,
        out: &mut Vec<u8>,
    ) {
        self.rejected(reason, peer);
        write_error(out, None, ErrorCode::InvalidRequest, message, None);
        out.push(b'\n');
    }

    /// Answers a line into `out`; every answer ends with a line feed. Returns how many answers are deliveries later, and the batch if a
    /// part of it is not dispatched yet.
    fn handle_line(
        &mut self,
        padded: &mut [u8],
        length: usize,
        client: &mut JsonLinesClient,
        is_at_call_limit: bool,
        out: &mut Vec<u8>,
    ) -> (u32, Option<LineBatch>) {
        let start = out.len();
        let mut source = Source::JsonLines { client, is_at_call_limit };
        let disposition = self.dispatcher.dispatch(&mut self.decoder, &mut source, padded, length, out);
        let mut pending = 0;
        match disposition {
            Disposition::RepliedAfter(notes) => {
                let answer = out.split_off(start);
                for note in notes {
                    if let CallMessage::Message(message) = note {
                        out.extend_from_slice(&message);
                        out.push(b'\n');
                    }
                }
                out.extend_from_slice(&answer);
            }
            Disposition::Pending(_) => pending = 1,
            Disposition::Batch(BatchReplies { answers, pending, rest, .. }) => {
                let batch = match rest {
                    Some(rest) => Some(LineBatch { rest, answers }),
                    None => {
                        write_batch(out, &answers);
                        None
                    }
                };
                return (pending, batch);
            }
            Disposition::Replied(..)
            | Disposition::Listening(_)
            | Disposition::SessionOpened(_)
            | Disposition::Attached(..)
            | Disposition::NotAcceptable
            | Disposition::NoReply => {}
        }
        if out.len() > start {
            out.push(b'\n');
        }
        (pending, None)
    }
}

/// Appends a delivery to the outbox of a newline-delimited connection.
pub(crate) fn deliver_line(
    connection: &mut Connection,
    payload: &Payload,
    bytes: &[u8],
    then: AfterSend,
) -> Delivered {
    let Connection { out, json_lines: Some(lines), .. } = connection else { return Delivered::Dropped };
    if !bytes.is_empty() && matches!(payload, Payload::Message(_) | Payload::Reply(..)) {
        out.extend_from_slice(bytes);
        out.push(b'\n');
    }
    if then == AfterSend::KeepOpen {
        return Delivered::Partly;
    }
    debug_assert!(lines.pending_replies > 0, "a reply without a pending request");
    lines.pending_replies = lines.pending_replies.saturating_sub(1);
    Delivered::Complete { keep_alive: true }
}

/// Appends a message of the server to the outbox: as a line, or as an event of the stream that is open.
pub(crate) fn append_message(connection: &mut Connection, write: impl FnOnce(&mut Vec<u8>)) {
    if connection.json_lines.is_some() {
        write(&mut connection.out);
        connection.out.push(b'\n');
    } else {
        chunk(&mut connection.out, true, |out| write_event_with(out, None, write));
    }
}

/// Removes the byte order mark at the start of a line (RFC 8259, section 8.1, allows to ignore it).
fn skip_byte_order_mark(line: &mut Line<'_>) {
    const MARK: &[u8] = "\u{feff}".as_bytes();
    if line.length >= MARK.len() && line.padded.starts_with(MARK) {
        let padded = std::mem::take(&mut line.padded);
        line.padded = padded.get_mut(MARK.len()..).unwrap_or_default();
        line.length -= MARK.len();
    }
}
