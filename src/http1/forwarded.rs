//! The client of a request that a proxy passes on.

use std::net::{IpAddr, SocketAddr};

use corelane_ring::PeerAddress;

use super::fields;
use crate::config::{ForwardedHeader, Proxy};

/// The client of a request from `peer`. Of the addresses that the header lists, the last one that is not a trusted proxy's; the
/// farthest trusted proxy, if an entry before it is not an address. A client whose port
/// the header does not state has the port of `peer`.
#[must_use]
pub(crate) fn client_of(proxy: &Proxy, peer: PeerAddress, head_bytes: &[u8]) -> PeerAddress {
    let mut client = peer;
    let name = match proxy.header {
        ForwardedHeader::XForwardedFor => "x-forwarded-for",
        ForwardedHeader::Forwarded => "forwarded",
        ForwardedHeader::None => return client,
    };
    let is_named = |(found, _): &(&[u8], &[u8])| found.eq_ignore_ascii_case(name.as_bytes());
    let lines: Vec<&[u8]> = fields(head_bytes).filter(is_named).map(|(_, value)| value).collect();
    let entries =
        lines.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    for entry in entries.filter(|entry| !entry.is_empty()) {
        if !proxy.trusts(client.ip()) {
            break;
        }
        let node = match proxy.header {
            ForwardedHeader::Forwarded => for_parameter(entry),
            _ => Some(entry),
        };
        let Some((ip, port)) = node.and_then(address) else { break };
        let port = port.filter(|port| *port != 0).unwrap_or(peer.port());
        client = PeerAddress::new(ip, port).unwrap_or(peer);
    }
    client
}

/// The value of the `for` parameter of a `Forwarded` element, without its quotes.
fn for_parameter(element: &[u8]) -> Option<&[u8]> {
    element.split(|byte| *byte == b';').find_map(|pair| {
        let (name, value) = pair.split_at_checked(pair.iter().position(|byte| *byte == b'=')?)?;
        let value = value.get(1..)?.trim_ascii();
        let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        name.trim_ascii().eq_ignore_ascii_case(b"for").then_some(unquoted.unwrap_or(value))
    })
}

/// Parses an address with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn address(node: &[u8]) -> Option<(IpAddr, Option<u16>)> {
    let text = std::str::from_utf8(node).ok()?;
    let without_brackets = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    if let Ok(ip) = without_brackets.unwrap_or(text).parse::<IpAddr>() {
        return (without_brackets.is_none() || ip.is_ipv6()).then_some((ip, None));
    }
    let address = text.parse::<SocketAddr>().ok()?;
    Some((address.ip(), Some(address.port())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The client of a request from 10.0.0.1:1000 with these headers, where 10.0.0.0/8 is trusted.
    fn client(header: ForwardedHeader, headers: &str) -> String {
        let proxy = Proxy { trusted: vec!["10.0.0.0/8".parse().unwrap()], header };
        let request = format!("POST /mcp HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n{headers}\r\n");
        let peer = PeerAddress::new([10, 0, 0, 1].into(), 1000).unwrap();
        client_of(&proxy, peer, request.as_bytes()).to_string()
    }

    #[test]
    fn last_address_of_x_forwarded_for_that_is_no_proxy_is_the_client() {
        for (headers, expected) in [
            ("", "10.0.0.1:1000"),
            ("X-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1:1000"),
            ("x-forwarded-for: 198.51.100.1, 192.0.2.1\r\n", "192.0.2.1:1000"),
            ("X-Forwarded-For: 192.0.2.1:99\r\n", "192.0.2.1:99"),
            ("X-Forwarded-For: 192.0.2.1:0\r\n", "192.0.2.1:1000"),
            ("X-Forwarded-For: 2001:db8::1\r\n", "[2001:db8::1]:1000"),
            ("X-Forwarded-For: [2001:db8::1]:5\r\n", "[2001:db8::1]:5"),
            ("X-Forwarded-For: 192.0.2.1, 10.0.0.3,10.0.0.2\r\n", "192.0.2.1:1000"),
            ("X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 10.0.0.2\r\n", "192.0.2.1:1000"),
            ("X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 192.0.2.2\r\n", "192.0.2.2:1000"),
            // A client cannot invalidate the part that the proxy appends to its own statement.
            ("X-Forwarded-For: \"; drop, 192.0.2.1\r\n", "192.0.2.1:1000"),
            ("X-Forwarded-For: 198.51.100.1, unknown, 10.0.0.2\r\n", "10.0.0.2:1000"),
            ("X-Forwarded-For: ,\r\n", "10.0.0.1:1000"),
            ("Forwarded: for=192.0.2.1\r\n", "10.0.0.1:1000"),
        ] {
            assert_eq!(client(ForwardedHeader::XForwardedFor, headers), expected, "{headers}");
        }
    }

    /// The examples of RFC 7239, section 4, among others.
    #[test]
    fn last_for_parameter_of_forwarded_that_is_no_proxy_is_the_client() {
        for (headers, expected) in [
            ("Forwarded: for=192.0.2.43, for=198.51.100.17\r\n", "198.51.100.17:1000"),
            ("Forwarded: For=\"[2001:db8:cafe::17]:4711\"\r\n", "[2001:db8:cafe::17]:4711"),
            ("Forwarded: for=192.0.2.60;proto=http;by=203.0.113.43\r\n", "192.0.2.60:1000"),
            ("Forwarded: by=203.0.113.43 ; FOR = \"192.0.2.60:7\"\r\n", "192.0.2.60:7"),
            ("Forwarded: for=192.0.2.43, for=10.0.0.9\r\nForwarded: for=10.0.0.2\r\n", "192.0.2.43:1000"),
            ("Forwarded: for=192.0.2.43, for=\"_gazonk\"\r\n", "10.0.0.1:1000"),
            ("Forwarded: proto=https\r\n", "10.0.0.1:1000"),
            ("X-Forwarded-For: 192.0.2.1\r\n", "10.0.0.1:1000"),
        ] {
            assert_eq!(client(ForwardedHeader::Forwarded, headers), expected, "{headers}");
        }
        assert_eq!(client(ForwardedHeader::None, "X-Forwarded-For: 192.0.2.1\r\n"), "10.0.0.1:1000");
    }

    #[test]
    fn headers_of_other_peers_are_ignored() {
        let proxy = Proxy { trusted: vec!["10.0.0.0/8".parse().unwrap()], ..Proxy::default() };
        let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n";
        let peer = PeerAddress::new([198, 51, 100, 1].into(), 1000).unwrap();
        assert_eq!(client_of(&proxy, peer, request.as_bytes()), peer);
    }
}
