//! The layer between a connection's protocol and its socket. Framers and outboxes see the protocol's bytes only, so a layer that
//! encrypts is one more variant of [`Wire`].

/// How the bytes of a protocol are represented on the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// Unchanged.
    Plain,
    /// The first bytes may be a PROXY protocol header, which the shard removes. Then unchanged.
    AfterProxyHeader,
    /// Unchanged. A PROXY protocol header has stated the client.
    WithProxyHeader,
}

impl Wire {
    /// Converts received bytes, in place: the first `length` bytes of `padded`. Returns the protocol's bytes with their length.
    #[inline]
    pub(crate) fn decode(self, padded: &mut [u8], length: usize) -> (&mut [u8], usize) {
        match self {
            Self::Plain | Self::AfterProxyHeader | Self::WithProxyHeader => (padded, length),
        }
    }

    /// Converts an outbox to the bytes that are sent.
    #[inline]
    pub(crate) fn encode(self, outbox: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Plain | Self::AfterProxyHeader | Self::WithProxyHeader => outbox,
        }
    }
}
