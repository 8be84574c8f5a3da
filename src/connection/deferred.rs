//! What a connection keeps of a request whose reply comes later.

use crate::mcp::Headers;

/// The parts of a request that the head of its reply depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exchange<'a> {
    pub(crate) keep_alive: bool,
    pub(crate) http_1_0: bool,
    /// The allowed origin of the web page that sent the request.
    pub(crate) origin: Option<&'a [u8]>,
}

impl<'a> Exchange<'a> {
    /// The exchange that a request begins.
    pub(crate) fn of(headers: Headers<'a>) -> Self {
        let Headers { head, bytes } = headers;
        Self { keep_alive: head.keep_alive, http_1_0: head.http_1_0, origin: head.origin(bytes).value() }
    }
}

/// An exchange whose reply is pending, and the answers to its batch. The usual exchange, HTTP/1.1 that keeps the connection open
/// without an origin, takes no memory.
#[derive(Debug, Default)]
pub struct DeferredReply(Option<Box<Unusual>>);

#[derive(Debug)]
struct Unusual {
    keep_alive: bool,
    http_1_0: bool,
    origin: Option<Box<[u8]>>,
    /// The answers to a batch whose client accepts no stream: they are sent together.
    answers: Option<Vec<Vec<u8>>>,
}

impl DeferredReply {
    /// Keeps an exchange.
    pub(crate) fn new(exchange: Exchange<'_>, answers: Option<Vec<Vec<u8>>>) -> Self {
        let Exchange { keep_alive, http_1_0, origin } = exchange;
        let is_usual = keep_alive && !http_1_0 && origin.is_none() && answers.is_none();
        let origin = origin.map(Box::from);
        Self((!is_usual).then(|| Box::new(Unusual { keep_alive, http_1_0, origin, answers })))
    }

    /// The exchange.
    pub(crate) fn exchange(&self) -> Exchange<'_> {
        match &self.0 {
            None => Exchange { keep_alive: true, http_1_0: false, origin: None },
            Some(unusual) => Exchange {
                keep_alive: unusual.keep_alive,
                http_1_0: unusual.http_1_0,
                origin: unusual.origin.as_deref(),
            },
        }
    }

    /// The answers to a batch that are sent together.
    pub(crate) fn answers(&mut self) -> Option<&mut Vec<Vec<u8>>> {
        self.0.as_mut()?.answers.as_mut()
    }

    /// Bytes of the answers that are kept.
    pub(crate) fn buffered_bytes(&self) -> usize {
        let answers = self.0.as_ref().and_then(|unusual| unusual.answers.as_ref());
        answers.map_or(0, |answers| answers.iter().map(Vec::len).sum())
    }

    /// Whether nothing is kept.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}
