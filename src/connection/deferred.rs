//! What a connection keeps of a request whose reply comes later.

/// The parts of a request that the head of its reply depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exchange<'a> {
    pub(crate) keep_alive: bool,
    pub(crate) http_1_0: bool,
    /// The allowed origin of the web page that sent the request.
    pub(crate) origin: Option<&'a [u8]>,
}

/// An [`Exchange`] whose reply is pending, and the answers to its batch. Owns memory only for what is rare.
#[derive(Debug, Default)]
pub struct DeferredReply {
    keep_alive: bool,
    http_1_0: bool,
    rare: Option<Box<Rare>>,
}

#[derive(Debug, Default)]
struct Rare {
    origin: Option<Box<[u8]>>,
    /// The answers to a batch whose client accepts no stream: they are sent together.
    answers: Option<Vec<Vec<u8>>>,
}

impl DeferredReply {
    /// Keeps an exchange.
    pub(crate) fn new(exchange: Exchange<'_>, answers: Option<Vec<Vec<u8>>>) -> Self {
        let Exchange { keep_alive, http_1_0, origin } = exchange;
        let is_rare = origin.is_some() || answers.is_some();
        let rare = is_rare.then(|| Box::new(Rare { origin: origin.map(Box::from), answers }));
        Self { keep_alive, http_1_0, rare }
    }

    /// The exchange.
    pub(crate) fn exchange(&self) -> Exchange<'_> {
        let origin = self.rare.as_ref().and_then(|rare| rare.origin.as_deref());
        Exchange { keep_alive: self.keep_alive, http_1_0: self.http_1_0, origin }
    }

    /// The answers to a batch that are sent together.
    pub(crate) fn answers(&mut self) -> Option<&mut Vec<Vec<u8>>> {
        self.rare.as_mut()?.answers.as_mut()
    }

    /// Whether nothing is kept on the heap.
    pub(crate) fn is_empty(&self) -> bool {
        self.rare.is_none()
    }
}
