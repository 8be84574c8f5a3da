//! The parts of a request that its connection keeps until a later reply.

use crate::{dispatch::BatchRest, mcp::Headers};

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
    /// The messages of a batch that are not dispatched yet.
    rest: Option<Box<BatchRest>>,
}

impl DeferredReply {
    /// Keeps an exchange.
    pub(crate) fn new(exchange: Exchange<'_>, answers: Option<Vec<Vec<u8>>>) -> Self {
        let Exchange { keep_alive, http_1_0, origin } = exchange;
        let is_usual = keep_alive && !http_1_0 && origin.is_none() && answers.is_none();
        let origin = origin.map(Box::from);
        Self((!is_usual).then(|| Box::new(Unusual { keep_alive, http_1_0, origin, answers, rest: None })))
    }

    /// Keeps the messages of the batch that are not dispatched yet.
    pub(crate) fn set_rest(&mut self, rest: Option<Box<BatchRest>>) {
        if rest.is_some() {
            let usual = || {
                Box::new(Unusual {
                    keep_alive: true,
                    http_1_0: false,
                    origin: None,
                    answers: None,
                    rest: None,
                })
            };
            self.0.get_or_insert_with(usual).rest = rest;
        }
    }

    /// Takes the messages of the batch that are not dispatched yet.
    pub(crate) fn take_rest(&mut self) -> Option<Box<BatchRest>> {
        self.0.as_mut()?.rest.take()
    }

    /// Whether messages of the batch are not dispatched yet.
    pub(crate) fn has_rest(&self) -> bool {
        self.0.as_ref().is_some_and(|unusual| unusual.rest.is_some())
    }

    /// Takes the answers that were to be sent together: they are sent as events instead.
    pub(crate) fn take_answers(&mut self) -> Option<Vec<Vec<u8>>> {
        self.0.as_mut()?.answers.take()
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

    /// Bytes of the answers and messages that are kept.
    pub(crate) fn buffered_bytes(&self) -> usize {
        let Some(unusual) = &self.0 else { return 0 };
        let rest = unusual.rest.as_ref().map_or(0, |rest| rest.buffered_bytes());
        unusual.answers.iter().flatten().map(Vec::len).sum::<usize>() + rest
    }

    /// Whether nothing is kept.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}
