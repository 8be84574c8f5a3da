//! The PROXY protocol header, version 2, at the start of a connection from a trusted proxy
//! (<https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt>).

use corelane_ring::{PADDING_BYTES, PeerAddress, SocketId};
use proxy_header::{Error, ParseConfig, ProxyHeader};

use super::{Shard, accept::receive_group, connection_of};
use crate::connection::Wire;

/// The first bytes of a header. No HTTP request and no line of JSON begins with them.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Maximum length of a header, in bytes: those in use have less than 1 KiB, with certificates' names and all.
const HEADER_BYTES_MAX: usize = 4096;

/// The first bytes of a connection.
#[derive(Debug, PartialEq, Eq)]
enum Start {
    /// The first part of a header.
    Partial,
    /// No header.
    Absent,
    /// A header of so many bytes, which states a client unless the proxy connects for itself.
    Header(usize, Option<PeerAddress>),
    /// A header that is malformed, too long or of another version.
    Malformed,
}

impl Start {
    fn read(bytes: &[u8]) -> Self {
        if !bytes.iter().zip(SIGNATURE).all(|(byte, expected)| byte == expected) {
            return Self::Absent;
        }
        match ProxyHeader::parse(bytes, ParseConfig { include_tlvs: false, allow_v1: false, allow_v2: true })
        {
            Ok((header, length)) => {
                let client = header.proxied_address().map(|address| address.source);
                Self::Header(length, client.and_then(|client| PeerAddress::new(client.ip(), client.port())))
            }
            Err(Error::BufferTooShort) if bytes.len() < HEADER_BYTES_MAX => Self::Partial,
            Err(_) => Self::Malformed,
        }
    }
}

impl Shard {
    /// Handles the first bytes of a connection from a trusted proxy.
    #[cold]
    pub(super) fn on_proxy_header(&mut self, socket: SocketId, received: &[u8]) {
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        let mut bytes = self.proxy_headers.remove(&socket).unwrap_or_default();
        bytes.extend_from_slice(received);
        let (length, wire) = match Start::read(&bytes) {
            Start::Partial => {
                self.proxy_headers.insert(socket, bytes);
                return;
            }
            Start::Malformed => {
                self.pipeline.rejected("proxy_header", connection.peer);
                self.close(socket);
                return;
            }
            Start::Absent => (0, Wire::Plain),
            Start::Header(length, client) => {
                connection.peer = client.or(connection.peer);
                self.ring.set_group(socket, receive_group(socket, connection.peer));
                if let Some(lines) = &mut connection.json_lines {
                    lines.client.peer = connection.peer;
                }
                (length, if client.is_some() { Wire::WithProxyHeader } else { Wire::Plain })
            }
        };
        connection.wire = wire;
        bytes.drain(..length);
        let length = bytes.len();
        bytes.resize(length + PADDING_BYTES, 0);
        if length > 0 {
            self.on_received(socket, &mut bytes, length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header for a TCP connection of `192.0.2.1:258`, with `more` behind the addresses.
    fn header(command: u8, more: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        let length = u16::try_from(12 + more.len()).unwrap();
        header.extend_from_slice(&[0x20 | command, 0x11]);
        header.extend_from_slice(&length.to_be_bytes());
        header.extend_from_slice(&[192, 0, 2, 1, 10, 0, 0, 1, 1, 2, 0, 80]);
        header.extend_from_slice(more);
        header
    }

    #[test]
    fn header_in_parts_states_the_client() {
        let client = PeerAddress::new([192, 0, 2, 1].into(), 258);
        let header = header(1, &[4, 0, 1, 0]);
        for end in 0..header.len() {
            assert_eq!(Start::read(&header[..end]), Start::Partial, "{end}");
        }
        let with_request = [&header[..], b"GET / HTTP/1.1"].concat();
        assert_eq!(Start::read(&with_request), Start::Header(header.len(), client));
    }

    #[test]
    fn proxy_that_connects_for_itself_states_no_client() {
        assert_eq!(Start::read(&header(0, &[])), Start::Header(28, None));
    }

    #[test]
    fn request_is_no_header() {
        for request in ["POST /mcp HTTP/1.1\r\n", "\r\nGET / HTTP/1.1", "{\"jsonrpc\"", "PROXY TCP4 1.2.3.4"]
        {
            assert_eq!(Start::read(request.as_bytes()), Start::Absent, "{request}");
        }
    }

    #[test]
    fn malformed_or_oversized_header_is_rejected() {
        assert_eq!(Start::read(&header(2, &[])), Start::Malformed);
        let mut of_version_3 = header(1, &[]);
        of_version_3[12] = 0x31;
        assert_eq!(Start::read(&of_version_3), Start::Malformed);
        let oversized = header(1, &[0; 5000]);
        assert_eq!(Start::read(&oversized[..4095]), Start::Partial);
        assert_eq!(Start::read(&oversized[..4096]), Start::Malformed);
    }
}
